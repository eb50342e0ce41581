"""What a cluster has, or may grow to: whether a run can start, and how many at once."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vitok.cluster import growth
from vitok.config import Recipe, Resources, Training
from vitok.config.resources import TRIAL_SLOT
from vitok.costs import memory
from vitok.errors import VitokError

DECODER = " (resources.workers x resources.cpus_per_worker, and one to decode with unless data.pool is set)"
HINTS = {TRIAL_SLOT: """; start a node with --resources='{"trial_slot": 4}'""", "CPU": DECODER}


def in_cluster() -> bool:
    """Return whether a running cluster is meant: RAY_ADDRESS is set, as `ray job submit` does for its entrypoint, too."""
    return bool(os.environ.get("RAY_ADDRESS"))


@dataclass(frozen=True)
class Capacity:
    """Resources of a cluster, those of nodes that its autoscaler may start included."""

    total: Mapping[str, float]
    shapes: tuple[Mapping[str, float], ...] = ()  # resources of single nodes, there or to come
    where: str = "the cluster"

    @property
    def processes(self) -> int:
        """How many processes compute at once: one on each GPU, or on each CPU where there is no GPU. Raises `VitokError` for none."""
        count = int(self.total.get("GPU", 0)) or int(self.total.get("CPU", 0))
        if not count:
            raise VitokError("the cluster offers neither a GPU nor a CPU to encode with")
        return count

    @property
    def gpus_each(self) -> int:
        """GPUs of each of these processes: 1, or 0 where the cluster has none."""
        return int(self.total.get("GPU", 0) >= 1)

    def holds(self, bundle: Mapping[str, float]) -> bool:
        """Return whether there is a node, or may be one, that has all of this at once."""
        return any(all(shape.get(name, 0) >= amount for name, amount in bundle.items()) for shape in self.shapes)

    def require(self, need: Mapping[str, float]) -> None:
        """Raise `VitokError` for a resource of which the cluster has less than `need`."""
        for name, amount in need.items():
            if amount > self.total.get(name, 0):
                raise VitokError(f"one run needs {amount} {name}, {self.where} offers {self.total.get(name, 0):g}{HINTS.get(name, '')}")

    def require_node(self, resources: Resources) -> None:
        """Raise `VitokError` where no node that is there, or may come, could ever hold one worker: Ray would wait for it without end."""
        bundle = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
        if in_cluster() and not self.holds(bundle):
            largest = max(self.shapes, key=lambda shape: (shape.get("GPU", 0), shape.get("CPU", 0)), default={})
            raise VitokError(
                f"no node can ever hold one worker, which needs {bundle['CPU']} CPU and {bundle['GPU']} GPU at once; the largest has "
                f"{largest.get('CPU', 0):g} CPU and {largest.get('GPU', 0):g} GPU: lower resources.cpus_per_worker, or add such nodes"
            )


def local_gpus() -> int:
    """Count the GPUs that CUDA would see, without importing torch (which takes seconds)."""
    import pynvml

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        return 0
    return count if visible is None else min(count, len([part for part in visible.split(",") if part.strip() not in ("", "-1")]))


def require_machine(runs: Iterable[tuple[Training, Resources, Mapping[str, float]]]) -> None:
    """Raise `VitokError` where this machine, on which Ray would be started, cannot hold one of these runs (recipe, resources, need); do
    nothing where a cluster is meant."""
    if in_cluster():
        return
    here = Capacity({"CPU": float(os.cpu_count() or 1), "GPU": float(local_gpus())}, where="this machine")
    for recipe, resources, need in runs:
        here.require({name: amount for name, amount in need.items() if name in here.total})
        if not resources.gpus_per_worker:
            _require_memory(recipe, resources)


def _require_memory(recipe: Training, resources: Resources) -> None:
    """Raise `VitokError` for a run without GPUs whose step or whose pool is larger than this machine's memory."""
    held = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    taken = memory.step_memory(recipe, resources)["peak"] * resources.workers
    if taken > held:
        raise VitokError(
            f"a step of batch_size {recipe.batch_size} needs about {taken / 1e9:,.0f} GB, this machine has {held / 1e9:,.0f} GB: lower "
            f"batch_size, or raise resources.accumulation ({resources.accumulation})"
        )
    if not isinstance(recipe, Recipe):
        return
    pool = recipe.data.pool * 3 * recipe.tokenizer.size**2 * recipe.tokenizer.frames
    if pool > held:
        raise VitokError(
            f"data.pool = {recipe.data.pool} samples take {pool / 1e9:,.0f} GB decoded, this machine has {held / 1e9:,.0f} GB: lower "
            "data.pool, or set it to 0, to decode as training goes"
        )


def measure() -> Capacity:
    """Return the capacity of the connected cluster. Raises `VitokError` for a launcher file that cannot be read."""
    import ray

    total = {name: float(amount) for name, amount in ray.cluster_resources().items()}
    shapes: list[Mapping[str, float]] = [plain(node["Resources"]) for node in ray.nodes() if node["Alive"]]
    grown: dict[str, float] = {}
    for pool in growth.pools() if in_cluster() else ():
        shapes.append(pool.offered)
        for name, amount in pool.offered.items():
            grown[name] = grown.get(name, 0) + amount * (1 if pool.head else pool.maximum or 0)
    return Capacity({name: max(total.get(name, 0), grown.get(name, 0)) for name in total | grown}, tuple(shapes))


def plain(resources: Mapping[str, Any]) -> dict[str, float]:
    """Return a node's resources without those that Ray adds by itself."""
    return {name: amount for name, amount in resources.items() if not name.startswith(("node:", "accelerator_type:")) and amount}
