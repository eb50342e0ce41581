"""Files of Ray's cluster launcher: Ray's own validation, what that lets through, and the pools."""

import copy
import json
from pathlib import Path
from typing import Any

from vitok.cluster import named
from vitok.cluster.commands import starts
from vitok.cluster.node_config import AwsNode, GcpNode
from vitok.cluster.pools import Pool, size
from vitok.cluster.problem import Problem, checked, joined, nearest
from vitok.cluster.rules import rules

PROVIDER = {
    "aws": {"type", "region", "availability_zone", "use_internal_ips", "cache_stopped_nodes", "security_group", "key_pair"},
    "gcp": {"type", "region", "availability_zone", "project_id", "use_internal_ips", "cache_stopped_nodes"},
}
NODES = {"aws": AwsNode, "gcp": GcpNode}


def problems(document: dict[str, Any]) -> list[Problem]:
    """Return all that is wrong with a launcher file, as far as it can be understood."""
    found = _as_ray_does(document)
    provider = document.get("provider")
    kind = provider.get("type") if isinstance(provider, dict) else None
    if not isinstance(kind, str) or kind not in NODES:
        return found or [Problem("provider.type", f"{kind!r}: only {' and '.join(NODES)} are known here")]
    if found or not isinstance(document.get("available_node_types"), dict):
        return found or [Problem("available_node_types", "missing: name the pools")]
    assert isinstance(provider, dict)
    for key in set(provider) - PROVIDER[kind]:  # Ray lets any through
        found.append(Problem(joined("provider", key), f"unknown key{nearest(key, PROVIDER[kind]) or '; remove it'}"))
    for name, pool in document["available_node_types"].items():
        where = joined("available_node_types", name)
        found += checked(NODES[kind], pool["node_config"], joined(where, "node_config"))[1]
        if name != document["head_node_type"] and "max_workers" not in pool:
            found.append(Problem(joined(where, "max_workers"), "missing: the pool may take all of the cluster's; bound it"))
    return found + _cluster(document) + _commands(document) + _public(document, kind) + rules(pools(document))


def _as_ray_does(document: dict[str, Any]) -> list[Problem]:
    """Return what Ray's own schema and validation have against a launcher file. No cloud is asked. Ray stops at the first problem of its
    schema: here it is asked for all."""
    import jsonschema
    import ray.autoscaler
    from ray.autoscaler._private.util import prepare_config, validate_config

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    known = set(_names(schema))
    found: list[Problem] = []
    for error in jsonschema.Draft7Validator(schema).iter_errors(document):
        where = joined(*error.absolute_path)
        extra = set(error.instance) - set(error.schema["properties"]) if error.validator == "additionalProperties" else ()
        found += [Problem(joined(where, key), f"unknown key{nearest(str(key), known) or '; remove it'}") for key in sorted(map(str, extra))]
        if not extra:
            found.append(Problem(where, f"Ray's own schema: {error.message[:200]}"))
    if found:
        return found
    try:
        validate_config(prepare_config(copy.deepcopy(document)))
    except Exception as error:  # what Ray raises is anything, an AssertionError or a bare KeyError too
        said = str(error).strip().splitlines() or [type(error).__name__]
        return [Problem("", f"Ray's own validation: {said[0][:200]}")]
    return []


def _names(schema: Any) -> Any:
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for value in schema.values():
            yield from _names(value)


def _cluster(document: dict[str, Any]) -> list[Problem]:
    docker, found = document.get("docker", {}), list[Problem]()
    if not document.get("idle_timeout_minutes"):
        found.append(Problem("idle_timeout_minutes", "idle nodes must go, and cost until then: set it, in minutes"))
    if not document.get("max_workers"):
        found.append(Problem("max_workers", "the bill has no upper bound: set the number of nodes of all pools together"))
    images = [key for key in ("image", "head_image", "worker_image") if key in docker]
    if not images:
        found.append(Problem("docker.image", "missing: nodes must have the same Python, Ray and vitok; name the image"))
    for key in images:
        found += named.image(docker[key], f"docker.{key}")
    if "RAY_AUTH_MODE=token" not in _options(docker, "run_options"):
        found.append(Problem("docker.run_options", "token authentication is off: add `--env RAY_AUTH_MODE=token`"))
    if not any(str(path).endswith(".ray/auth_token") for path in document.get("file_mounts") or {}):
        found.append(Problem("file_mounts", "nodes have no token: add `~/.ray/auth_token: ~/.ray/auth_token`"))
    every = [
        ("docker", docker),
        *((joined("available_node_types", n), p.get("docker", {})) for n, p in document["available_node_types"].items()),
    ]
    for where, part in every:
        for key in ("run_options", "head_run_options", "worker_run_options"):
            for option in _items(part.get(key)):
                name, _, value = str(option).removeprefix("--env").removeprefix("-e").lstrip(" =").partition("=")
                if str(option).startswith(("--env", "-e ")):
                    found += named.secret(name, value, joined(where, key))
    return found


def _commands(document: dict[str, Any]) -> list[Problem]:
    found: list[Problem] = []
    for key, head in (("head_start_ray_commands", True), ("worker_start_ray_commands", False)):
        begun = [start for command in document.get(key) or [] for start in starts(command)]
        if not begun:
            found.append(Problem(key, "no `ray start`: without it Ray's default opens the dashboard to the world; write it out"))
        for start in begun:
            if head and start.get("dashboard-host") not in named.LOOPBACK:
                says = start.get("dashboard-host", "not said")
                found.append(Problem(key, f"the dashboard must listen on this node alone: --dashboard-host=127.0.0.1, it is {says}"))
            if head and "autoscaling-config" not in start:
                found.append(Problem(key, "no workers would come: add --autoscaling-config=~/ray_bootstrap_config.yaml"))
    return found


def _public(document: dict[str, Any], kind: str) -> list[Problem]:
    provider, found = document["provider"], list[Problem]()
    if provider.get("use_internal_ips") is not True:
        found.append(Problem("provider.use_internal_ips", "nodes are reached by public addresses: set it to true"))
    found += [
        Problem(where, f"{text} is the whole world: name the network that may come in")
        for where, text in named.strings(provider, "provider")
        if text in named.EVERYWHERE
    ]
    for name, pool in document["available_node_types"].items():
        config = pool["node_config"]
        where = joined("available_node_types", name, "node_config")
        for number, interface in enumerate(_items(config.get("NetworkInterfaces") or config.get("networkInterfaces"))):
            interface = _keys(interface)
            for key in ("AssociatePublicIpAddress", "accessConfigs"):
                if interface.get(key):
                    at = joined(where, "NetworkInterfaces" if kind == "aws" else "networkInterfaces", number, key)
                    found.append(Problem(at, "gives the node a public address: remove it"))
    if kind == "aws" and provider.get("cache_stopped_nodes") is not False:
        found.append(
            Problem("provider.cache_stopped_nodes", "stopped nodes keep their disks, which cost, and spot cannot be stopped: set false")
        )
    return found


def pools(document: dict[str, Any]) -> list[Pool]:
    """Return the pools of a launcher file that Ray accepts."""
    docker, found = document.get("docker", {}), list[Pool]()
    for name, pool in document["available_node_types"].items():
        config, head = pool["node_config"], name == document["head_node_type"]
        resources = dict(pool["resources"])
        options = _options(docker | pool.get("docker", {}), "run_options", "head_run_options" if head else "worker_run_options")
        spot = _keys(config.get("InstanceMarketOptions")).get("MarketType") == "spot"
        found.append(
            Pool(
                name=name, where=joined("available_node_types", name), head=head,
                instance=config.get("InstanceType") or config.get("machineType"),
                spot=spot or _keys(config.get("scheduling")).get("provisioningModel") == "SPOT",
                minimum=1 if head else pool.get("min_workers", 0),
                maximum=1 if head else pool.get("max_workers", document.get("max_workers")),
                cpus=resources.pop("CPU", None), gpus=resources.pop("GPU", 0),
                object_store=resources.pop("object_store_memory", None), shm=_shm(options),
                custom={key: value for key, value in resources.items() if key != "memory"},
            )
        )  # fmt: skip
    return found


def _keys(found: Any) -> dict[str, Any]:
    """Return a mapping, or an empty one: Ray's schema does not look at what the cloud takes, which may be anything."""
    return found if isinstance(found, dict) else {}


def _items(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def _options(docker: dict[str, Any], *keys: str) -> str:
    return " ".join(str(option) for key in keys for option in _items(docker.get(key)))


def _shm(options: str) -> float | None:
    """Return the bytes of shared memory that Docker's options ask for: the last one counts."""
    found = options.replace("--shm-size ", "--shm-size=").split("--shm-size=")
    return size(found[-1].split()[0], docker=True) if len(found) > 1 and found[-1].split() else None
