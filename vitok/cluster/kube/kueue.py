"""Kueue's queues, which let a job start when there is room for all of it: the fields in use."""

from typing import Literal

from vitok.cluster.kube.base import CustomResource, Metadata, Quantity, Selector

VERSIONS = Literal["kueue.x-k8s.io/v1beta1", "kueue.x-k8s.io/v1beta2"]


class FlavorSpec(CustomResource):
    """The labels of a flavor's nodes."""

    node_labels: dict[str, str] | None = None


class ResourceFlavor(CustomResource):
    """A kind of nodes."""

    api_version: VERSIONS
    kind: Literal["ResourceFlavor"]
    metadata: Metadata
    spec: FlavorSpec | None = None


class Quota(CustomResource):
    """How much of a resource a queue may take."""

    name: str
    nominal_quota: Quantity


class Flavor(CustomResource):
    """The resources of one kind of nodes that a queue may take."""

    name: str
    resources: list[Quota]


class ResourceGroup(CustomResource):
    """The resources that a queue gives out together."""

    covered_resources: list[str]
    flavors: list[Flavor]


class ClusterQueueSpec(CustomResource):
    """Whose jobs a queue takes, and how much they may use at once."""

    namespace_selector: Selector | None = None
    resource_groups: list[ResourceGroup]


class ClusterQueue(CustomResource):
    """A queue of the whole cluster."""

    api_version: VERSIONS
    kind: Literal["ClusterQueue"]
    metadata: Metadata
    spec: ClusterQueueSpec


class LocalQueueSpec(CustomResource):
    """The cluster's queue behind a namespace's."""

    cluster_queue: str


class LocalQueue(CustomResource):
    """The queue that jobs of a namespace name."""

    api_version: VERSIONS
    kind: Literal["LocalQueue"]
    metadata: Metadata
    spec: LocalQueueSpec
