"""What a cluster must be for studies to run on it, safely and not for longer than needed."""

from collections.abc import Sequence

from vitok.cluster.pools import Pool, shown
from vitok.cluster.problem import Problem, joined
from vitok.config.resources import DECODE, TRIAL_SLOT, WORKER_CPUS


def rules(pools: Sequence[Pool]) -> list[Problem]:
    """Check all pools of one cluster, the head's included, against what studies need."""
    found = [problem for pool in pools for problem in (_head(pool) if pool.head else _worker(pool)) + _memory(pool)]
    return found + _fallbacks(pools) + _offered(pools)


def _head(head: Pool) -> list[Problem]:
    found: list[Problem] = []
    if head.cpus != 0:
        says = "Ray counts its CPUs itself" if head.cpus is None else f"it offers {head.cpus:g}"
        found.append(Problem(joined(head.where, "CPU"), f"the head must offer 0 CPUs, so that no training runs beside Ray's own: {says}"))
    if head.gpus:
        found.append(
            Problem(joined(head.where, "GPU"), f"the head offers {head.gpus:g} GPUs: what runs on them can take the cluster along")
        )
    if head.custom.get(TRIAL_SLOT, 0) < 1:
        found.append(Problem(head.where, f"the head offers no {TRIAL_SLOT}: trials of several workers need one each; add {TRIAL_SLOT}: 16"))
    if head.spot:
        found.append(Problem(head.where, "the head is a spot node: if it goes, the cluster goes; take it on demand"))
    return found


def _worker(pool: Pool) -> list[Problem]:
    found: list[Problem] = []
    if not pool.maximum or pool.maximum < max(1, pool.minimum):
        found.append(Problem(pool.where, "its number of nodes has no upper bound of 1 or more: name one (max_workers, maxReplicas)"))
    per_gpu = WORKER_CPUS
    if pool.gpus and pool.cpus is not None and pool.cpus <= pool.gpus * per_gpu:
        found.append(
            Problem(
                joined(pool.where, "CPU"),
                f"{pool.cpus:g} CPUs for {pool.gpus:g} GPUs leave none to Ray Data: a worker takes {per_gpu} beside its GPU, "
                f"offer more than {pool.gpus * per_gpu:g}",
            )
        )
    if not pool.gpus and pool.custom.get(DECODE, 0) != (pool.cpus or 0):
        found.append(
            Problem(
                joined(pool.where, DECODE),
                f"a pool without GPUs is for decoding: offer {DECODE} as often as CPUs ({pool.cpus or 0:g}), "
                f"not {pool.custom.get(DECODE, 0):g}",
            )
        )
    return found


def _memory(pool: Pool) -> list[Problem]:
    """Ray moves an object store that does not fit into /dev/shm to disk, and says so in a log that nobody reads."""
    if pool.object_store is None:
        return [Problem(pool.where, "the size of its object store is not said: set object_store_memory, and shared memory to hold it")]
    if pool.shm is None or pool.shm < pool.object_store:
        need = shown(pool.object_store)
        return [
            Problem(pool.where, f"shared memory ({shown(pool.shm)}) is smaller than the object store ({need}), which lies in it: raise it")
        ]
    return []


def _fallbacks(pools: Sequence[Pool]) -> list[Problem]:
    return [
        Problem(
            pool.where,
            "a spot pool without a fallback: while there is no spot node, nothing runs; add a pool on demand with the same resources",
        )
        for pool in pools
        if pool.spot
        and not pool.head
        and not any(not other.spot and other.maximum and other.offered == pool.offered for other in pools if not other.head)
    ]


def _offered(pools: Sequence[Pool]) -> list[Problem]:
    if any(pool.gpus and pool.maximum for pool in pools if not pool.head):
        return []
    return [Problem("", "no pool offers a GPU, which every study above laptop scale asks for: add one")]
