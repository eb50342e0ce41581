"""Who may reach a pod."""

from typing import Annotated, Literal

from pydantic import Field

from vitok.cluster.kube.base import Kube, Metadata, Selector


class IpBlock(Kube):
    cidr: str
    except_: Annotated[list[str] | None, Field(alias="except")] = None


class Peer(Kube):
    pod_selector: Selector | None = None
    namespace_selector: Selector | None = None
    ip_block: IpBlock | None = None


class PolicyPort(Kube):
    protocol: Literal["TCP", "UDP"] | None = None
    port: int | str | None = None
    end_port: int | None = None


class Ingress(Kube):
    """Without `from` everybody may come: so it must be there."""

    from_: Annotated[list[Peer], Field(alias="from", min_length=1)]
    ports: list[PolicyPort] | None = None


class Egress(Kube):
    to: list[Peer] | None = None
    ports: list[PolicyPort] | None = None


class NetworkPolicySpec(Kube):
    pod_selector: Selector
    policy_types: list[Literal["Ingress", "Egress"]]
    ingress: list[Ingress] | None = None
    egress: list[Egress] | None = None


class NetworkPolicy(Kube):
    api_version: Literal["networking.k8s.io/v1"]
    kind: Literal["NetworkPolicy"]
    metadata: Metadata
    spec: NetworkPolicySpec
