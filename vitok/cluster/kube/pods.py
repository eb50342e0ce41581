"""Pods: containers, their rights, what they take and mount."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vitok.cluster.kube.base import Kube, PodMetadata, Quantity
from vitok.cluster.problem import nearest

TAKEN = ("cpu", "memory", "ephemeral-storage", "nvidia.com/gpu", "vpc.amazonaws.com/efa")


class KeyRef(Kube):
    name: str
    key: str
    optional: bool | None = None


class FieldRef(Kube):
    field_path: str


class EnvSource(Kube):
    secret_key_ref: KeyRef | None = None
    config_map_key_ref: KeyRef | None = None
    field_ref: FieldRef | None = None


class Env(Kube):
    name: str
    value: str | None = None
    value_from: EnvSource | None = None


class NamedRef(Kube):
    name: str
    optional: bool | None = None


class EnvFrom(Kube):
    secret_ref: NamedRef | None = None
    config_map_ref: NamedRef | None = None


class Needs(Kube):
    requests: dict[str, Quantity]
    limits: dict[str, Quantity]

    @model_validator(mode="after")
    def _equal(self) -> "Needs":
        for name in self.requests:
            if name not in TAKEN:
                raise ValueError(f"no node offers {name!r}{nearest(name, TAKEN)}; a pod takes {', '.join(TAKEN)}")
        if self.requests != self.limits:
            raise ValueError(
                "requests differ from limits: Ray counts with the limits, and a pod above its requests is the first to be killed"
            )
        return self


class Port(Kube):
    name: str | None = None
    container_port: Annotated[int, Field(gt=0, lt=65536)]
    protocol: Literal["TCP", "UDP"] | None = None


class Capabilities(Kube):
    drop: list[str] | None = None
    add: list[str] | None = None


class Seccomp(Kube):
    type: Literal["RuntimeDefault"]


class ContainerSecurity(Kube):
    allow_privilege_escalation: Literal[False]
    capabilities: Capabilities | None = None
    read_only_root_filesystem: bool | None = None
    run_as_non_root: bool | None = None


class PodSecurity(Kube):
    run_as_non_root: Literal[True]
    run_as_user: Annotated[int, Field(gt=0)]
    run_as_group: int | None = None
    fs_group: int | None = None
    seccomp_profile: Seccomp | None = None


class Mount(Kube):
    name: str
    mount_path: str
    read_only: bool | None = None
    sub_path: str | None = None


class Exec(Kube):
    command: list[str]


class TcpSocket(Kube):
    port: int | str


class Probe(Kube):
    exec: Exec | None = None
    tcp_socket: TcpSocket | None = None
    initial_delay_seconds: int | None = None
    period_seconds: int | None = None
    timeout_seconds: int | None = None
    failure_threshold: int | None = None


class Container(Kube):
    name: str
    image: str
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    command: list[str] | None = None
    args: list[str] | None = None
    env: list[Env] | None = None
    env_from: list[EnvFrom] | None = None
    resources: Needs
    ports: list[Port] | None = None
    security_context: ContainerSecurity
    volume_mounts: list[Mount] | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None


class EmptyDir(Kube):
    medium: Literal["Memory"] | None = None
    size_limit: Quantity


class SecretVolume(Kube):
    secret_name: str
    default_mode: int | None = None


class VolumeClaim(Kube):
    claim_name: str
    read_only: bool | None = None


class Volume(Kube):
    name: str
    empty_dir: EmptyDir | None = None
    secret: SecretVolume | None = None
    persistent_volume_claim: VolumeClaim | None = None


class Toleration(Kube):
    key: str
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "NoExecute", "PreferNoSchedule"] | None = None


class PullSecret(Kube):
    name: str


class PodSpec(Kube):
    service_account_name: str | None = None
    automount_service_account_token: bool | None = None
    node_selector: dict[str, str] | None = None
    tolerations: list[Toleration] | None = None
    priority_class_name: str | None = None
    restart_policy: Literal["Always", "OnFailure", "Never"] | None = None
    termination_grace_period_seconds: int | None = None
    host_network: bool | None = None
    security_context: PodSecurity
    image_pull_secrets: list[PullSecret] | None = None
    init_containers: list[Container] | None = None
    containers: Annotated[list[Container], Field(min_length=1)]
    volumes: list[Volume] | None = None

    @model_validator(mode="after")
    def _mounted(self) -> "PodSpec":
        there = {volume.name for volume in self.volumes or []}
        for container in self.containers:
            for mount in container.volume_mounts or []:
                if mount.name not in there and not mount.mount_path.startswith("/var/lib/postgresql"):  # a StatefulSet's claim
                    raise ValueError(f"container {container.name} mounts {mount.name}, which is no volume of the pod: add it to volumes")
        return self


class PodTemplate(Kube):
    metadata: PodMetadata | None = None
    spec: PodSpec
