"""Policies: what nodes may do. No more than they need."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel, to_pascal

from vitok.cluster.problem import Problem, checked, joined

HARMLESS = ("Describe", "List", "Get")  # of which some know no resource
READS_DATA = ("s3:Get", "ssm:Get", "secretsmanager:Get", "kms:")
POWERFUL = ("setIamPolicy", "resourcemanager.", "iam.serviceAccountKeys.", "iam.roles.", "secretmanager.")


class Statement(BaseModel):
    """A statement of an AWS policy: the actions that it allows or denies on which resources, and why (`sid`)."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_pascal)

    sid: str  # why
    effect: Literal["Allow", "Deny"]
    action: str | Annotated[list[str], Field(min_length=1)]
    resource: str | Annotated[list[str], Field(min_length=1)]
    condition: dict[str, dict[str, str | list[str]]] | None = None

    @property
    def actions(self) -> list[str]:
        """The actions, one or several."""
        return [self.action] if isinstance(self.action, str) else self.action

    @property
    def resources(self) -> list[str]:
        """The resources, one or several."""
        return [self.resource] if isinstance(self.resource, str) else self.resource


class Policy(BaseModel):
    """A policy of AWS."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_pascal)

    version: Literal["2012-10-17"]
    statement: Annotated[list[Statement], Field(min_length=1)]


def aws(document: dict[str, Any]) -> list[Problem]:
    """Return all that is wrong with a policy of AWS."""
    model, found = checked(Policy, document)
    if model is None:
        return found
    for number, statement in enumerate(model.statement):
        if statement.effect == "Allow":
            found += _allowed(statement, joined("Statement", number, statement.sid))
    return found


def _allowed(statement: Statement, where: str) -> list[Problem]:
    found: list[Problem] = []
    everything = "*" in statement.resources or any(one.rstrip("*").endswith(":::") for one in statement.resources)
    for action in statement.actions:
        service, _, name = action.partition(":")
        if "*" in action:
            found.append(Problem(joined(where, "Action"), f"{action} allows more than is named: name each action"))
        elif everything and (not name.startswith(HARMLESS) or action.startswith(READS_DATA)):
            found.append(Problem(joined(where, "Resource"), f"{action} on everything: name the resources"))
        elif action == "iam:PassRole" and any("*" in one for one in statement.resources):
            found.append(Problem(joined(where, "Resource"), "iam:PassRole on many roles lets a node give itself any of them: name one"))
        elif action == "ec2:TerminateInstances" and "ResourceTag/ray-cluster-name" not in str(statement.condition):
            found.append(Problem(where, "ends any instance of the account: add a Condition on aws:ResourceTag/ray-cluster-name"))
        elif not service or not name:
            found.append(Problem(joined(where, "Action"), f"{action!r} is not SERVICE:ACTION"))
    return found


class Role(BaseModel):
    """A role of Google Cloud."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)

    title: str
    description: str
    stage: Literal["ALPHA", "BETA", "GA"]
    included_permissions: Annotated[list[str], Field(min_length=1)]


def gcp(document: dict[str, Any]) -> list[Problem]:
    """Return all that is wrong with a role of Google Cloud."""
    model, found = checked(Role, document)
    for permission in model.included_permissions if model else []:
        where = joined("includedPermissions", permission)
        if "*" in permission or permission.count(".") < 2:
            found.append(Problem(where, "is not one permission, SERVICE.RESOURCE.VERB: name each"))
        elif any(part in permission for part in POWERFUL):
            found.append(Problem(where, "lets a node widen its own rights, or read secrets: remove it"))
    return found
