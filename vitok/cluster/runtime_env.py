"""The runtime environment of a job: what goes to the cluster with it."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from vitok.cluster import named
from vitok.cluster.problem import Problem, checked, joined

DATA = ("runs/", "*.parquet", "*.tar")  # what is large wherever studies are run


class RuntimeEnv(BaseModel):
    """Keys of Ray's in use here. `pip` and `conda` are not: what is installed at a job's start may differ from node to node."""

    model_config = ConfigDict(extra="forbid", strict=True)

    working_dir: str
    excludes: list[str] | None = None
    py_modules: list[str] | None = None
    env_vars: dict[str, str]


def problems(document: dict[str, Any]) -> list[Problem]:
    """Return all that is wrong with a job's runtime environment."""
    model, found = checked(RuntimeEnv, document)
    if model is None:
        return found
    for name in ("VITOK_STORAGE", "MLFLOW_TRACKING_URI"):
        if name not in model.env_vars:
            found.append(
                Problem(joined("env_vars", name), "missing: every node must know it; a folder of one node's is not seen by others")
            )
    for name, value in model.env_vars.items():
        found += named.secret(name, value, joined("env_vars", name))
    if model.env_vars.get("MLFLOW_TRACKING_URI", "http").startswith(("sqlite:", "file:", "/", ".")):
        found.append(Problem("env_vars.MLFLOW_TRACKING_URI", "is a file of one node's: nodes reach a server alone, http://HOST:5000"))
    if "://" not in model.working_dir:
        left = [name for name in DATA if name not in (model.excludes or [])]
        found += [Problem("excludes", f"{name} is not left out: data would be packaged with the code; add it") for name in left]
    return found
