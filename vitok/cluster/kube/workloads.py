"""Services, and what keeps pods running."""

from typing import Annotated, Literal

from pydantic import Field

from vitok.cluster.kube.base import Kube, Metadata, PodMetadata, Quantity, Selector
from vitok.cluster.kube.pods import PodTemplate


class ServiceAccount(Kube):
    api_version: Literal["v1"]
    kind: Literal["ServiceAccount"]
    metadata: Metadata
    automount_service_account_token: bool | None = None


class ServicePort(Kube):
    name: str | None = None
    port: Annotated[int, Field(gt=0, lt=65536)]
    target_port: int | str | None = None
    protocol: Literal["TCP", "UDP"] | None = None
    node_port: int | None = None


class ServiceSpec(Kube):
    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"  # the rules say which may be
    cluster_ip: Annotated[str | None, Field(alias="clusterIP")] = None
    external_ips: Annotated[list[str] | None, Field(alias="externalIPs")] = None
    selector: dict[str, str]
    ports: list[ServicePort]


class Service(Kube):
    api_version: Literal["v1"]
    kind: Literal["Service"]
    metadata: Metadata
    spec: ServiceSpec


class Strategy(Kube):
    type: Literal["Recreate", "RollingUpdate"]


class DeploymentSpec(Kube):
    replicas: Annotated[int, Field(ge=0)] = 1
    strategy: Strategy | None = None
    selector: Selector
    template: PodTemplate


class Deployment(Kube):
    api_version: Literal["apps/v1"]
    kind: Literal["Deployment"]
    metadata: Metadata
    spec: DeploymentSpec


class StorageRequest(Kube):
    requests: dict[str, Quantity]


class ClaimSpec(Kube):
    access_modes: list[Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]]
    storage_class_name: str | None = None
    resources: StorageRequest


class PersistentVolumeClaim(Kube):
    api_version: Literal["v1"]
    kind: Literal["PersistentVolumeClaim"]
    metadata: Metadata
    spec: ClaimSpec


class ClaimName(PodMetadata):
    name: str


class ClaimTemplate(Kube):
    metadata: ClaimName
    spec: ClaimSpec


class StatefulSetSpec(Kube):
    service_name: str
    replicas: Annotated[int, Field(ge=0)] = 1
    selector: Selector
    template: PodTemplate
    volume_claim_templates: list[ClaimTemplate] | None = None


class StatefulSet(Kube):
    api_version: Literal["apps/v1"]
    kind: Literal["StatefulSet"]
    metadata: Metadata
    spec: StatefulSetSpec
