"""Preflight: the nodes of a cluster, looked at before anything starts. Do they run the same code, do they reach the storage?"""

import hashlib
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vitok.cluster import growth
from vitok.errors import VitokError
from vitok.orchestration.capacity import plain
from vitok.storage import filesystem, mirror

LEAVING = 20.0  # seconds for which a node that takes no task may still be listed
PATIENCE = 60.0  # seconds for a node to answer: its first worker process starts


@dataclass(frozen=True)
class NodeReport:
    """The answer of a node: its versions, its resources, and what is wrong with it."""

    name: str
    resources: dict[str, float]
    python: str = ""
    ray: str = ""
    vitok: str = ""
    code: str = ""  # a hash of vitok's source
    storage: str = ""  # what is wrong with it there
    problem: str = ""  # why it says nothing

    def json(self) -> dict[str, Any]:
        """Return the answer as JSON holds it."""
        return asdict(self)


def check(storage: Path, tracked: bool = True) -> None:
    """Raise `VitokError` where the nodes of the connected cluster differ in their code, or do not reach the storage; `tracked`: or where
    they cannot share MLflow's database."""
    if one_machine():
        return
    if tracked and (text := tracking_problem()):
        raise VitokError(text)
    if wrong := survey(storage)[1]:
        raise VitokError("; ".join(wrong))


def one_machine() -> bool:
    """Return whether the connected cluster is one machine, and stays one."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    grows = growth.pools() or not alive[0]["Resources"].get("CPU")  # a head alone that runs nothing: nodes will come
    return len(alive) == 1 and not grows


def tracking_problem() -> str:
    """Return what is wrong with the place where MLflow keeps the runs of a cluster; empty: nothing."""
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    if tracking and not tracking.startswith("sqlite:"):
        return ""
    return (
        f"MLflow's database ({tracking or 'the default, a file in the storage'}) is a file, which the nodes of a cluster cannot share: "
        "start `mlflow server` where all of them reach it, and set MLFLOW_TRACKING_URI to its http:// address"
    )


def survey(storage: Path) -> tuple[list[NodeReport], list[str]]:
    """Ask every node of the connected cluster. Return the nodes that are alive, and a line for each thing that is wrong with one."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    probe = f".probe-{uuid.uuid4().hex}"
    uri = mirror.address_of(storage)
    text = uuid.uuid4().hex
    filesystem.write(filesystem.join(uri, probe), text.encode())
    try:
        asked = {node["NodeID"]: _ask(_questions(uri, probe, text), node["NodeID"]) for node in alive}
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=PATIENCE, fetch_local=False)
        nodes = [heard for node in alive if (heard := _heard(node, asked[node["NodeID"]]))]
    finally:
        for name in (probe, *(f"{probe}-{node['NodeID']}" for node in alive)):
            mirror.drop(storage / name)
    return nodes, _wrong(nodes, uri)


def _wrong(nodes: list[NodeReport], storage: str) -> list[str]:
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
    """Return the function that a node runs. It travels as it is: the node may have another vitok, or none."""

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


def _heard(node: dict[str, Any], answer: Any) -> NodeReport | None:
    """Return what a node has answered; None where the node has gone meanwhile, as an autoscaler lets idle ones go."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    name, resources = f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})", plain(node["Resources"])
    try:
        said: Any = ray.get(answer, timeout=0.1)
        return NodeReport(name, resources, **said)
    except GetTimeoutError:
        return NodeReport(name, resources, problem=f"gives no answer within {PATIENCE:.0f} s: see Ray's logs there, or remove it")
    except RayError as error:
        if _is_gone(node["NodeID"]):
            return None
        lines = str(error).strip().splitlines()
        return NodeReport(name, resources, problem=f"cannot run a task: {lines[-1] if lines else type(error).__name__}")


def _is_gone(node: str) -> bool:
    """Return whether a node that takes no task leaves the cluster within the time that a drained one has to go."""
    import ray

    ends = time.monotonic() + LEAVING
    while any(one["NodeID"] == node and one["Alive"] for one in ray.nodes()):
        if time.monotonic() > ends:
            return False
        time.sleep(0.5)
    return True


def reached(uri: str, probe: str, text: str, node: str) -> str:
    """Return what keeps this node from reading and writing the storage; empty: nothing."""
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
    """Return a hash of vitok's source: nodes of one study must run the same."""
    root, total = Path(__file__).parent.parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return total.hexdigest()[:16]


def _here() -> tuple[str, str, str, str]:
    import platform

    import ray

    import vitok

    return platform.python_version(), ray.__version__, vitok.__version__, source()
