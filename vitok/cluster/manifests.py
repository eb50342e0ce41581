"""Kubernetes manifests: Kubernetes' own schemas, who may reach what, and Ray's pools."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from vitok.cluster import named
from vitok.cluster.kube import kueue, objects, ray
from vitok.cluster.kube.base import CustomResource
from vitok.cluster.kube.pods import PodSpec, PodTemplate
from vitok.cluster.pools import Pool, size
from vitok.cluster.problem import Problem, checked, joined, nearest
from vitok.cluster.rules import rules
from vitok.cluster.schemas import kubernetes_schema, schema_problems

KINDS: dict[str, type[BaseModel]] = {
    model.__name__: model
    for model in (
        objects.ServiceAccount, objects.Service, objects.Deployment, objects.StatefulSet, objects.PersistentVolumeClaim,
        objects.NetworkPolicy, ray.RayCluster, ray.RayJob, kueue.ResourceFlavor, kueue.ClusterQueue, kueue.LocalQueue,
    )
}  # fmt: skip
KUBERNETES_TYPES = {  # (type, version) by the ends of places in custom resources
    "metadata": ("ObjectMeta", "meta/v1"), "template": ("PodTemplateSpec", "v1"), "submitterPodTemplate": ("PodTemplateSpec", "v1"),
    "autoscalerOptions.resources": ("ResourceRequirements", "v1"), "autoscalerOptions.env": ("EnvVar", "v1"),
}  # fmt: skip
INSTANCE = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
SPOT = {"karpenter.sh/capacity-type": "spot", "eks.amazonaws.com/capacityType": "SPOT", "cloud.google.com/gke-spot": "true"}


def problems(documents: tuple[Any, ...]) -> list[Problem]:
    """Return all that is wrong with the objects of a file, which may refer to one another."""
    found, understood = list[Problem](), list[tuple[str, BaseModel]]()
    for number, document in enumerate(documents):
        kind = str(document.get("kind"))
        metadata = document.get("metadata")
        where = joined(kind, metadata.get("name", number) if isinstance(metadata, dict) else number)
        if kind not in KINDS:
            found.append(Problem(where, f"kind {kind!r} is not known here{nearest(kind, KINDS)}; known are {', '.join(KINDS)}"))
            continue
        wrong = _against_schema(kind, document, where)
        model, more = checked(KINDS[kind], document, where)
        found += wrong + [problem for problem in more if problem.where not in {one.where for one in wrong}]
        if model and not wrong:
            understood.append((where, model))
    for where, model in understood:
        found += _object(where, model) + _reached(where, model, understood)
    return found


def _against_schema(kind: str, document: Any, where: str) -> list[Problem]:
    """Return what Kubernetes' own schemas have against an object: against all of it, or against those parts of a custom resource that
    are of Kubernetes' types."""
    model = KINDS[kind]
    if not issubclass(model, CustomResource):
        (version,) = get_args(model.model_fields["api_version"].annotation)
        return schema_problems(kubernetes_schema(kind, version), document, where)
    return [problem for at, schema, part in _kubernetes_parts(document, "") for problem in schema_problems(schema, part, joined(where, at))]


def _kubernetes_parts(part: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield (place, schema, value) of what is of a Kubernetes type in a custom resource."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        at = joined(where, key)
        kinds = [kind for end, kind in KUBERNETES_TYPES.items() if f".{at}".endswith(f".{end}")]
        if not kinds:
            yield from _kubernetes_parts(value, at)
        elif isinstance(value, list):
            yield from ((joined(at, number), kubernetes_schema(*kinds[0]), one) for number, one in enumerate(value))
        else:
            yield at, kubernetes_schema(*kinds[0]), value


def _object(where: str, model: BaseModel) -> list[Problem]:
    found = [problem for at, template in _templates(where, model) for problem in _pod(at, template.spec)]
    if isinstance(model, objects.Service) and (model.spec.type != "ClusterIP" or model.spec.external_ips):
        how = model.spec.type if model.spec.type != "ClusterIP" else "externalIPs"
        found.append(Problem(joined(where, "spec.type"), f"{how} opens it to the world: ClusterIP, and `kubectl port-forward` to reach it"))
    if isinstance(model, objects.NetworkPolicy):
        for number, rule in enumerate(model.spec.ingress or []):
            for peer in rule.from_:
                if peer.ip_block and peer.ip_block.cidr in named.EVERYWHERE:
                    at = joined(where, "spec.ingress", number)
                    found.append(Problem(at, f"{peer.ip_block.cidr} is the whole world: name the network that may come in"))
    if isinstance(model, ray.RayJob):
        found += _ray(joined(where, "spec.rayClusterSpec"), model.spec.ray_cluster_spec, ends=True)
        found += _environment(joined(where, "spec.runtimeEnvYAML"), model.spec.runtime_env_yaml or "")
    if isinstance(model, ray.RayCluster):
        found += _ray(joined(where, "spec"), model.spec, ends=False)
    return found


def _environment(where: str, text: str) -> list[Problem]:
    import yaml

    from vitok.cluster.runtime_env import problems as in_environment

    try:
        document = yaml.safe_load(text or "{}")
    except yaml.YAMLError:
        document = None
    if not isinstance(document, dict):
        return [Problem(where, "is not a mapping in YAML")]
    return [Problem(joined(where, one.where), one.what) for one in in_environment(document)] if document else []


def _pod(where: str, pod: PodSpec) -> list[Problem]:
    found: list[Problem] = []
    if pod.host_network:
        found.append(Problem(joined(where, "hostNetwork"), "what the pod listens on is open to whoever reaches the node: remove it"))
    for number, container in enumerate((pod.containers or []) + (pod.init_containers or [])):
        at = joined(where, "containers", number)
        found += named.image(container.image, joined(at, "image"))
        for variable in container.env or []:
            found += named.secret(variable.name, variable.value, joined(at, "env", variable.name))
    return found


def _reached(where: str, model: BaseModel, others: list[tuple[str, BaseModel]]) -> list[Problem]:
    """Return the pods of an object that no NetworkPolicy of the file selects: every pod of the cluster may reach those."""
    policies = [one for _, one in others if isinstance(one, objects.NetworkPolicy) and "Ingress" in one.spec.policy_types]
    found: list[Problem] = []
    for at, template in _templates(where, model):
        labels = (template.metadata.labels if template.metadata else None) or {}
        if not any(policy.spec.pod_selector.selects(labels) for policy in policies):
            found.append(Problem(at, "no NetworkPolicy of this file selects its pods: every pod may reach them; add one"))
    return found


def _templates(where: str, model: BaseModel) -> Iterator[tuple[str, PodTemplate]]:
    if isinstance(model, objects.Deployment | objects.StatefulSet):
        yield joined(where, "spec.template.spec"), model.spec.template
    if isinstance(model, ray.RayJob) and model.spec.submitter_pod_template:
        yield joined(where, "spec.submitterPodTemplate.spec"), model.spec.submitter_pod_template
    for at, spec in _specs(where, model):
        yield joined(at, "headGroupSpec.template.spec"), spec.head_group_spec.template
        for number, group in enumerate(spec.worker_group_specs):
            yield joined(at, "workerGroupSpecs", number, "template.spec"), group.template


def _specs(where: str, model: BaseModel) -> Iterator[tuple[str, ray.ClusterSpec]]:
    if isinstance(model, ray.RayCluster):
        yield joined(where, "spec"), model.spec
    if isinstance(model, ray.RayJob):
        yield joined(where, "spec.rayClusterSpec"), model.spec.ray_cluster_spec


def _ray(where: str, spec: ray.ClusterSpec, ends: bool) -> list[Problem]:
    found: list[Problem] = []
    if not spec.auth_options or spec.auth_options.mode != "token":
        found.append(Problem(joined(where, "authOptions"), "token authentication is off: authOptions: {mode: token}"))
    if not spec.enable_in_tree_autoscaling and not ends:
        found.append(Problem(joined(where, "enableInTreeAutoscaling"), "idle nodes stay and cost: true, with autoscalerOptions"))
    if spec.head_group_spec.service_type != "ClusterIP":
        at = joined(where, "headGroupSpec.serviceType")
        found.append(
            Problem(at, f"{spec.head_group_spec.service_type} opens the dashboard to the world: ClusterIP, and `kubectl port-forward`")
        )
    if spec.head_group_spec.enable_ingress:
        found.append(Problem(joined(where, "headGroupSpec.enableIngress"), "opens the dashboard to the world: remove it"))
    for number, group in enumerate(spec.worker_group_specs):
        taken = str(group.template.spec.containers[0].resources.limits.get("nvidia.com/gpu", 0))
        if (said := group.ray_start_params.get("num-gpus", taken)) != taken:
            at = joined(where, "workerGroupSpecs", number, "rayStartParams.num-gpus")
            found.append(Problem(at, f"Ray would offer {said} GPUs, the pod takes {taken} (nvidia.com/gpu): make them one number"))
        if not spec.enable_in_tree_autoscaling and group.min_replicas != group.max_replicas:
            at = joined(where, "workerGroupSpecs", number)
            found.append(Problem(at, "without an autoscaler its size stays: minReplicas and maxReplicas must be one number"))
    return found + rules(_pools(where, spec))


def pools(documents: tuple[Any, ...]) -> list[Pool]:
    """Return the pools of all Ray clusters of a file that is right."""
    found: list[Pool] = []
    for document in documents:
        model = KINDS[document["kind"]].model_validate(document) if document.get("kind") in KINDS else None
        found += [pool for at, spec in _specs("", model) for pool in _pools(at, spec)] if model else []
    return found


def _pools(where: str, spec: ray.ClusterSpec) -> list[Pool]:
    groups: list[tuple[str, str, ray.Group, int, int]] = [("head", "headGroupSpec", spec.head_group_spec, 1, 1)]
    for number, group in enumerate(spec.worker_group_specs):
        hosts = group.num_of_hosts or 1
        groups.append((group.group_name, f"workerGroupSpecs.{number}", group, group.min_replicas * hosts, group.max_replicas * hosts))
    return [_pool(name, joined(where, at), group, low, high) for name, at, group, low, high in groups]


def _pool(name: str, where: str, group: ray.Group, minimum: int, maximum: int) -> Pool:
    pod, start = group.template.spec, group.ray_start_params
    limits, chosen = pod.containers[0].resources.limits, pod.node_selector or {}
    cpus = start.get("num-cpus", limits.get("cpu"))
    store = start.get("object-store-memory")
    return Pool(
        name=name, where=where, head=isinstance(group, ray.HeadGroup), minimum=minimum, maximum=maximum,
        instance=next((chosen[label] for label in INSTANCE if label in chosen), None),
        spot=any(chosen.get(label) == value for label, value in SPOT.items()),
        cpus=None if cpus is None else size(cpus), gpus=float(start.get("num-gpus", limits.get("nvidia.com/gpu", "0"))),
        custom=ray.custom(start), object_store=float(store) if store else None, shm=_shm(pod),
    )  # fmt: skip


def _shm(pod: PodSpec) -> float | None:
    """Return the bytes of shared memory of the first container, which is Ray's."""
    mounted = {mount.name for mount in pod.containers[0].volume_mounts or [] if mount.mount_path == "/dev/shm"}
    for volume in pod.volumes or []:
        if volume.name in mounted and volume.empty_dir and volume.empty_dir.medium == "Memory":
            return size(volume.empty_dir.size_limit)
    return None
