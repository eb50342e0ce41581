"""Kueue's queues, which let a job go when there is room for all of it."""

from typing import Literal

from vitok.cluster.kube.base import Kube, Metadata, Quantity, Selector

VERSIONS = Literal["kueue.x-k8s.io/v1beta1", "kueue.x-k8s.io/v1beta2"]


class FlavorSpec(Kube):
    node_labels: dict[str, str] | None = None


class ResourceFlavor(Kube):
    api_version: VERSIONS
    kind: Literal["ResourceFlavor"]
    metadata: Metadata
    spec: FlavorSpec | None = None


class Quota(Kube):
    name: str
    nominal_quota: Quantity


class Flavor(Kube):
    name: str
    resources: list[Quota]


class ResourceGroup(Kube):
    covered_resources: list[str]
    flavors: list[Flavor]


class ClusterQueueSpec(Kube):
    namespace_selector: Selector | None = None
    resource_groups: list[ResourceGroup]


class ClusterQueue(Kube):
    api_version: VERSIONS
    kind: Literal["ClusterQueue"]
    metadata: Metadata
    spec: ClusterQueueSpec


class LocalQueueSpec(Kube):
    cluster_queue: str


class LocalQueue(Kube):
    api_version: VERSIONS
    kind: Literal["LocalQueue"]
    metadata: Metadata
    spec: LocalQueueSpec
