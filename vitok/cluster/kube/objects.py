"""Services, who may reach pods, and what keeps pods running."""

from typing import Annotated, Literal

from pydantic import Field

from vitok.cluster.kube.base import Excerpt, Metadata, PortNumber, Quantity, Selector
from vitok.cluster.kube.pods import PodTemplate

Protocol = Literal["TCP", "UDP"]


class ServiceAccount(Excerpt):
    """An account of pods."""

    api_version: Literal["v1"]
    kind: Literal["ServiceAccount"]
    metadata: Metadata


class ServicePort(Excerpt):
    """A port of a Service."""

    port: PortNumber
    protocol: Protocol | None = None


class ServiceSpec(Excerpt):
    """Whom a Service leads to, and who may reach it: the rules allow `ClusterIP`."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    external_ips: Annotated[list[str] | None, Field(alias="externalIPs")] = None
    selector: dict[str, str]
    ports: list[ServicePort]


class Service(Excerpt):
    """A Service."""

    api_version: Literal["v1"]
    kind: Literal["Service"]
    metadata: Metadata
    spec: ServiceSpec


class IpBlock(Excerpt):
    """A network, in CIDR notation."""

    cidr: str


class Peer(Excerpt):
    """Who a rule of a NetworkPolicy lets in, or out to."""

    ip_block: IpBlock | None = None


class PolicyPort(Excerpt):
    """A port that a rule of a NetworkPolicy opens."""

    protocol: Protocol | None = None


class Ingress(Excerpt):
    """Who may come in: without `from` everybody may, so it must be there."""

    from_: Annotated[list[Peer], Field(alias="from", min_length=1)]
    ports: list[PolicyPort] | None = None


class NetworkPolicySpec(Excerpt):
    """Which pods a policy is for, and whom it lets in."""

    pod_selector: Selector
    policy_types: list[Literal["Ingress", "Egress"]]
    ingress: list[Ingress] | None = None


class NetworkPolicy(Excerpt):
    """A NetworkPolicy."""

    api_version: Literal["networking.k8s.io/v1"]
    kind: Literal["NetworkPolicy"]
    metadata: Metadata
    spec: NetworkPolicySpec


class Strategy(Excerpt):
    """How a Deployment replaces pods."""

    type: Literal["Recreate", "RollingUpdate"]


class DeploymentSpec(Excerpt):
    """The pods of a Deployment."""

    replicas: Annotated[int, Field(ge=0)] = 1
    strategy: Strategy | None = None
    template: PodTemplate


class Deployment(Excerpt):
    """A Deployment."""

    api_version: Literal["apps/v1"]
    kind: Literal["Deployment"]
    metadata: Metadata
    spec: DeploymentSpec


class StorageRequest(Excerpt):
    """The size that a claim asks for, as `storage`."""

    requests: dict[str, Quantity]


class ClaimSpec(Excerpt):
    """The volume that a claim asks for."""

    access_modes: list[Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]]
    resources: StorageRequest


class PersistentVolumeClaim(Excerpt):
    """A PersistentVolumeClaim."""

    api_version: Literal["v1"]
    kind: Literal["PersistentVolumeClaim"]
    metadata: Metadata
    spec: ClaimSpec


class ClaimTemplate(Excerpt):
    """A claim that each pod of a StatefulSet has one of."""

    metadata: Metadata
    spec: ClaimSpec


class StatefulSetSpec(Excerpt):
    """The pods of a StatefulSet, and their volumes."""

    replicas: Annotated[int, Field(ge=0)] = 1
    template: PodTemplate
    volume_claim_templates: list[ClaimTemplate] | None = None


class StatefulSet(Excerpt):
    """A StatefulSet."""

    api_version: Literal["apps/v1"]
    kind: Literal["StatefulSet"]
    metadata: Metadata
    spec: StatefulSetSpec
