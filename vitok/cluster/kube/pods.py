"""Pods: what they take, their rights, and what they mount."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vitok.cluster.kube.base import Excerpt, PortNumber, Quantity
from vitok.cluster.problem import nearest

TAKEN = ("cpu", "memory", "ephemeral-storage", "nvidia.com/gpu", "vpc.amazonaws.com/efa")


class PodMetadata(Excerpt):
    """The labels by which selectors find a pod."""

    labels: dict[str, str] | None = None


class EnvVar(Excerpt):
    """An environment variable; `value` is None where it comes from a secret."""

    name: str
    value: str | None = None


class ContainerResources(Excerpt):
    """The resources that a container takes of its node: requests equal limits, and nodes offer each of them."""

    requests: dict[str, Quantity]
    limits: dict[str, Quantity]

    @model_validator(mode="after")
    def _equal(self) -> "ContainerResources":
        for name in self.requests:
            if name not in TAKEN:
                raise ValueError(f"no node offers {name!r}{nearest(name, TAKEN)}; a pod takes {', '.join(TAKEN)}")
        if self.requests != self.limits:
            raise ValueError(
                "requests differ from limits: Ray counts with the limits, and a pod above its requests is the first to be killed"
            )
        return self


class ContainerPort(Excerpt):
    """A port that a container listens on."""

    container_port: PortNumber
    protocol: Literal["TCP", "UDP"] | None = None


class ContainerSecurity(Excerpt):
    """The rights of a container: it may not gain any."""

    allow_privilege_escalation: Literal[False]


class Seccomp(Excerpt):
    """The system calls of a pod: those that its runtime allows."""

    type: Literal["RuntimeDefault"]


class PodSecurity(Excerpt):
    """The user of a pod: not root."""

    run_as_non_root: Literal[True]
    run_as_user: Annotated[int, Field(gt=0)]
    seccomp_profile: Seccomp | None = None


class VolumeMount(Excerpt):
    """Where a container finds a volume of its pod."""

    name: str
    mount_path: str


class Container(Excerpt):
    """A container: it says what it takes and which rights it has."""

    name: str
    image: str
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    env: list[EnvVar] | None = None
    resources: ContainerResources
    ports: list[ContainerPort] | None = None
    security_context: ContainerSecurity
    volume_mounts: list[VolumeMount] | None = None


class EmptyDir(Excerpt):
    """A volume that goes with its pod: on the node's disk or in its memory, and bounded."""

    medium: Literal["Memory"] | None = None
    size_limit: Quantity


class Volume(Excerpt):
    """A volume of a pod."""

    name: str
    empty_dir: EmptyDir | None = None


class Toleration(Excerpt):
    """A taint of nodes that a pod puts up with."""

    operator: Literal["Exists", "Equal"] = "Equal"
    effect: Literal["NoSchedule", "NoExecute", "PreferNoSchedule"] | None = None


class PodSpec(Excerpt):
    """The containers of a pod, the user that runs them, the nodes that may hold them."""

    node_selector: dict[str, str] | None = None
    tolerations: list[Toleration] | None = None
    restart_policy: Literal["Always", "OnFailure", "Never"] | None = None
    host_network: bool | None = None
    security_context: PodSecurity
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


class PodTemplate(Excerpt):
    """The pods that an object keeps running."""

    metadata: PodMetadata | None = None
    spec: PodSpec
