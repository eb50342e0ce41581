"""The nodes of a cluster, looked at before anything starts: do they run the same code, do they reach the storage?"""

import hashlib
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vitok.cluster import growth
from vitok.config import Resources
from vitok.config.resources import TRIAL_SLOT
from vitok.errors import VitokError
from vitok.storage import filesystem, mirror

PATIENCE = 60.0  # seconds for a node to answer: its first worker process starts


@dataclass(frozen=True)
class Node:
    """What one says of itself."""

    name: str
    resources: dict[str, float]
    python: str = ""
    ray: str = ""
    vitok: str = ""
    code: str = ""  # a hash of vitok's source
    storage: str = ""  # what is wrong with it there
    problem: str = ""  # why it says nothing

    def json(self) -> dict[str, Any]:
        return asdict(self)


def check(storage: Path, tracked: bool = True) -> None:
    """Raises `VitokError` where the nodes of a cluster could not do together what is asked of them; `tracked`: with runs in MLflow. Needs
    a connected Ray."""
    if single():
        return
    if tracked and (text := untracked()):
        raise VitokError(text)
    if wrong := survey(storage)[1]:
        raise VitokError("; ".join(wrong))


def single() -> bool:
    """Whether the connected cluster is one machine, and stays it."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    grows = growth.pools() or not alive[0]["Resources"].get("CPU")  # a head alone that runs nothing: nodes will come
    return len(alive) == 1 and not grows


@dataclass(frozen=True)
class Offer:
    """What a cluster has, or may grow to."""

    total: dict[str, float]
    shapes: tuple[dict[str, float], ...]  # resources of single nodes, there or to come

    def holds(self, bundle: Mapping[str, float]) -> bool:
        """Whether there is a node, or may be one, that has all of this at once."""
        return any(all(shape.get(name, 0) >= amount for name, amount in bundle.items()) for shape in self.shapes)


def must_fit(resources: Resources) -> None:
    """Raises `VitokError` where no node that is there, or may come, could ever hold one worker: it would be waited for without end."""
    if not in_cluster():
        return
    bundle = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    found = offer()
    if not found.holds(bundle):
        largest = max(found.shapes, key=lambda shape: (shape.get("GPU", 0), shape.get("CPU", 0)), default={})
        raise VitokError(
            f"no node can ever hold one worker, which needs {bundle['CPU']} CPU and {bundle['GPU']} GPU at once; the largest has "
            f"{largest.get('CPU', 0):g} CPU and {largest.get('GPU', 0):g} GPU: lower resources.cpus_per_worker, or add such nodes"
        )


def offer() -> Offer:
    """Of the connected cluster. Raises `VitokError`."""
    import ray

    total = {name: float(amount) for name, amount in ray.cluster_resources().items()}
    shapes = [_plain(node["Resources"]) for node in ray.nodes() if node["Alive"]]
    grown: dict[str, float] = {}
    for pool in growth.pools() if in_cluster() else ():
        shapes.append(pool.offered)
        for name, amount in pool.offered.items():
            grown[name] = grown.get(name, 0) + amount * (1 if pool.head else pool.maximum or 0)
    return Offer({name: max(total.get(name, 0), grown.get(name, 0)) for name in total | grown}, tuple(shapes))


def untracked() -> str:
    """What is wrong with where MLflow keeps the runs of a cluster."""
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    if tracking and not tracking.startswith("sqlite:"):
        return ""
    return (
        f"MLflow's database ({tracking or 'the default, a file in the storage'}) is a file, which the nodes of a cluster cannot share: "
        "start `mlflow server` where all of them reach it, and set MLFLOW_TRACKING_URI to its http:// address"
    )


def survey(storage: Path) -> tuple[list[Node], list[str]]:
    """(every node that is alive, what is wrong with them: a line each). Needs a connected Ray."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    probe = f".probe-{uuid.uuid4().hex}"
    uri = mirror.told(storage)
    text = uuid.uuid4().hex
    filesystem.write(filesystem.join(uri, probe), text.encode())
    try:
        asked = {node["NodeID"]: _ask(_questions(uri, probe, text), node["NodeID"]) for node in alive}
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=PATIENCE, fetch_local=False)
        nodes = [_heard(node, asked[node["NodeID"]]) for node in alive]
    finally:
        for name in (probe, *(f"{probe}-{node['NodeID']}" for node in alive)):
            mirror.drop(storage / name)
    return nodes, _wrong(nodes, uri)


def _wrong(nodes: list[Node], storage: str) -> list[str]:
    ours = _here()
    found: list[str] = []
    for node in nodes:
        who = f"node {node.name}"
        if node.problem:
            found.append(f"{who} {node.problem}")
        elif (node.python, node.ray, node.vitok) != ours[:3]:
            theirs, mine = (
                f"Python {python}, Ray {ray}, vitok {vitok}" for python, ray, vitok in ((node.python, node.ray, node.vitok), ours[:3])
            )
            found.append(f"{who} has {theirs}; this process has {mine}: use one image, or --working-dir, for all")
        elif node.code != ours[3]:
            found.append(
                f"{who} has another vitok {node.vitok} than this process (its source differs): use one image, or --working-dir, for all"
            )
        elif node.storage:
            found.append(f"{who} does not reach {storage}: {node.storage}; give a folder that all nodes mount, or s3://bucket/folder")
    return found


def _questions(uri: str, probe: str, text: str) -> Callable[[str], dict[str, str]]:
    """A function that travels as it is: the node may have another vitok, or none."""

    def answers(node: str) -> dict[str, str]:
        import platform

        import ray

        said = {"python": platform.python_version(), "ray": ray.__version__}
        try:
            import vitok
            from vitok.orchestration import preflight
        except ImportError as error:
            return said | {"vitok": f"missing ({error})"}
        said["vitok"] = vitok.__version__
        if hasattr(preflight, "source") and hasattr(preflight, "reached"):
            said |= {"code": preflight.source(), "storage": preflight.reached(uri, probe, text, node)}
        return said

    return answers


def _ask(answers: Callable[[str], dict[str, str]], node: str) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there: Any = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(answers).remote(node)


def _heard(node: dict[str, Any], answer: Any) -> Node:
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    name, resources = f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})", _plain(node["Resources"])
    try:
        said: Any = ray.get(answer, timeout=0.1)
        return Node(name, resources, **said)
    except GetTimeoutError:
        return Node(name, resources, problem=f"gives no answer within {PATIENCE:.0f} s: see Ray's logs there, or remove it")
    except RayError as error:
        lines = str(error).strip().splitlines()
        return Node(name, resources, problem=f"cannot run a task: {lines[-1] if lines else type(error).__name__}")


def _plain(resources: dict[str, float]) -> dict[str, float]:
    return {name: amount for name, amount in resources.items() if not name.startswith(("node:", "accelerator_type:")) and amount}


def reached(uri: str, probe: str, text: str, node: str) -> str:
    """What keeps this node from reading and writing the storage; nothing if it can."""
    try:
        path = filesystem.join(uri, probe)
        if filesystem.exists(path) != "file":
            return "what was written there is not to be seen here"
        if filesystem.read(path).decode() != text:
            return "another file is seen here"
        filesystem.write(f"{path}-{node}", b"")
    except Exception as error:  # of every client its own
        return str(error).strip().splitlines()[0]
    return ""


@lru_cache
def source() -> str:
    """A hash of vitok's source: nodes of one study must run the same."""
    root, total = Path(__file__).parent.parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return total.hexdigest()[:16]


def _here() -> tuple[str, str, str, str]:
    import platform

    import ray

    import vitok

    return platform.python_version(), ray.__version__, vitok.__version__, source()


def in_cluster() -> bool:
    """Whether a running cluster is meant: `RAY_ADDRESS`, which `ray job submit` sets for its entrypoint too."""
    return bool(os.environ.get("RAY_ADDRESS"))


def require(need: dict[str, int], offered: dict[str, float]) -> None:
    """Raises `VitokError` for what a cluster does not have."""
    for name, amount in need.items():
        if amount > offered.get(name, 0):
            hint = {TRIAL_SLOT: """; start a node with --resources='{"trial_slot": 4}'""", "CPU": _CPUS}.get(name, "")
            raise VitokError(f"one run needs {amount} {name}, the cluster offers {offered.get(name, 0):g}{hint}")


_CPUS = " (resources.workers x resources.cpus_per_worker, and one to decode with unless data.pool is set)"
