"""KubeRay's RayCluster and RayJob: the fields in use. The pods within are held against Kubernetes' own schema."""

import json
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from vitok.cluster.kube.base import CustomResource, Metadata
from vitok.cluster.kube.pods import ContainerResources, EnvVar, PodTemplate
from vitok.cluster.problem import nearest


class AuthOptions(CustomResource):
    """Who may use the cluster: by the rules, who has its token."""

    mode: Literal["token", "disabled"]
    secret_name: str | None = None


class AutoscalerOptions(CustomResource):
    """When nodes come and go."""

    version: Literal["v2"]  # of v1 `priority` is ignored
    idle_timeout_seconds: Annotated[int, Field(gt=0)]
    upscaling_mode: Literal["Default", "Aggressive", "Conservative"] | None = None
    env: list[EnvVar] | None = None
    resources: ContainerResources | None = None


START = {  # options of `ray start` in use; KubeRay passes on any, and Ray then refuses an unknown one in a pod that never starts
    "num-cpus", "num-gpus", "resources", "object-store-memory", "dashboard-host", "memory", "block", "labels",
}  # fmt: skip


class Group(CustomResource):
    """Pods of one kind, and the options of `ray start` in them."""

    ray_start_params: dict[str, str]
    template: PodTemplate

    @field_validator("ray_start_params")
    @classmethod
    def _known(cls, params: dict[str, str]) -> dict[str, str]:
        for name, value in params.items():
            if name not in START:
                raise ValueError(f"{name} is no option of `ray start` in use here{nearest(name, START)}")
            if name in ("num-cpus", "num-gpus", "object-store-memory") and not value.isdecimal():
                raise ValueError(f"{name} must be a whole number in quotes, not {value!r}")
        custom(params)
        return params


def custom(params: dict[str, str]) -> dict[str, float]:
    """Return the custom resources of a group, which KubeRay wants as JSON in quotes that a shell takes off. Raises `ValueError`."""
    text = params.get("resources", "").strip().strip("'")
    if not text:
        return {}
    try:
        found = json.loads(text)
        return {str(key): float(value) for key, value in (json.loads(found) if isinstance(found, str) else found).items()}
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"""resources must be JSON in quotes, as '"{{\\"decode\\": 90}}"', not {text[:60]!r}""") from None


class HeadGroup(Group):
    """The pod of the head, and who may reach its dashboard."""

    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer"]  # said, and by the rules ClusterIP
    enable_ingress: bool | None = None


class WorkerGroup(Group):
    """A pool of workers, and its bounds."""

    group_name: str
    replicas: int | None = None
    min_replicas: Annotated[int, Field(ge=0)]
    max_replicas: Annotated[int, Field(gt=0)]
    num_of_hosts: int | None = None
    priority: int | None = None
    idle_timeout_seconds: int | None = None
    suspend: bool | None = None


class ClusterSpec(CustomResource):
    """A Ray cluster: its head, its pools, its autoscaler."""

    ray_version: str
    auth_options: AuthOptions | None = None
    enable_in_tree_autoscaling: bool | None = None
    autoscaler_options: AutoscalerOptions | None = None
    head_group_spec: HeadGroup
    worker_group_specs: Annotated[list[WorkerGroup], Field(min_length=1)]

    @model_validator(mode="after")
    def _together(self) -> "ClusterSpec":
        if bool(self.enable_in_tree_autoscaling) != (self.autoscaler_options is not None):
            raise ValueError(
                "enableInTreeAutoscaling and autoscalerOptions go together: without options Ray's defaults hold, set both or none"
            )
        return self


class RayCluster(CustomResource):
    """A cluster that stays until it is deleted."""

    api_version: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: ClusterSpec


class JobSpec(CustomResource):
    """A job, and the cluster that is made for it and goes with it."""

    suspend: bool | None = None
    entrypoint: str
    runtime_env_yaml: Annotated[str | None, Field(alias="runtimeEnvYAML")] = None
    submission_mode: Literal["K8sJobMode", "HTTPMode"] | None = None
    submitter_pod_template: PodTemplate | None = None
    shutdown_after_job_finishes: Literal[True]  # a cluster that stays is paid
    ttl_seconds_after_finished: int | None = None
    active_deadline_seconds: int | None = None
    backoff_limit: int | None = None
    ray_cluster_spec: ClusterSpec


class RayJob(CustomResource):
    """One job on a cluster of its own."""

    api_version: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: JobSpec
