"""Cells -> finished runs: Ray Tune schedules, MLflow remembers. Running again is always a resume."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vitok
from vitok.config import Recipe, Resources, Training
from vitok.data.corpora import Corpora
from vitok.errors import UsageError, VitokError
from vitok.metrics.protocol import commit
from vitok.overrides import flat
from vitok.study import place
from vitok.study.grid import Cell, describe
from vitok.study.progress import Progress
from vitok.study.recorder import Recorder
from vitok.study.study import Scale, Study
from vitok.study.tracking import CORPUS, FOLDER, SCALE, STUDY, Tracker

STATISTICS = "statistics"  # the folder of those of reference sets, in the storage


@dataclass(frozen=True)
class Sweep:
    """One call of `run`."""

    study: Study
    scale: Scale
    scale_name: str
    corpora: Corpora
    cells: list[Cell]
    key: str
    changes: dict[str, str]
    storage: Path
    tracker: Tracker

    @property
    def folder(self) -> Path:
        return self.storage / self.study.name

    def cell_folder(self, digest: str) -> Path:
        return self.folder / "cells" / digest

    def tags(self) -> dict[str, str]:
        return {STUDY: self.study.name} | tags(self.scale_name, self.corpora, self.changes)


def tags(scale: str, corpora: Corpora, changes: dict[str, str]) -> dict[str, str]:
    """What a run in MLflow says of where it comes from."""
    return {
        SCALE: scale, CORPUS: corpora.fingerprint, "vitok.corpus_uri": corpora.uri,
        "vitok.changes": " ".join(f"{key}={value}" for key, value in changes.items()), "vitok.commit": commit(),
        "vitok.version": vitok.__version__,
    }  # fmt: skip


def run(sweep: Sweep, offered: dict[str, float], say: Progress) -> None:
    """Run every cell of the sweep that is not finished. Needs a connected Ray.

    Raises `VitokError` for a cell that failed, after the others have run.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from vitok.data.stream import prepare

    with place.alone(sweep.folder, "study"):
        done = sweep.tracker.finished(cell.digest for cell in sweep.cells)
        pending = [cell for cell in reversed(sweep.cells) if cell.digest not in done]  # the longest first: none runs alone at the end
        enough(sweep.corpora, sweep.scale.resources)
        atonce = concurrency(sweep.scale.resources, sweep.scale.base, offered)
        here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        recorder = ray.remote(num_cpus=0, scheduling_strategy=here)(Recorder).remote(
            sweep.tracker.uri, str(sweep.storage), sweep.study.name
        )
        measured, networks = looked_through((cell.recipe for cell in pending), sweep.scale.resources, sweep.changes, say)
        resources = sweep.scale.resources.model_copy(update={"metrics": measured})
        training, held_out = sweep.corpora.counts
        say.line(f"laying out {sweep.corpora.uri}: {training} samples to train on, {held_out} held out")
        sources = {
            identity: prepare(sweep.corpora, data, size, frames)
            for identity, data, size, frames in {
                (_samples(c.recipe), c.recipe.data, c.recipe.tokenizer.size, c.recipe.tokenizer.frames) for c in pending
            }
        }
        warn_rejected(frozenset(str(rejection) for source in sources.values() for rejection in source.rejected), say)
        parent = sweep.tracker.sweep(sweep.key, sweep.tags(), [cell.digest for cell in sweep.cells])
        children = {
            cell.digest: sweep.tracker.child(
                parent,
                cell.digest,
                cell.label,
                sweep.tags() | {FOLDER: str(sweep.cell_folder(cell.digest))},
                describe(cell.recipe) | flat(cell.recipe.model_dump(mode="json")),
            )
            for cell in pending
        }
        with say.following(recorder, {children[cell.digest]: cell for cell in pending}):
            errors = _schedule(sweep, resources, pending, children, sources, networks, recorder, atonce)
        finished = sweep.tracker.finished(cell.digest for cell in sweep.cells)
        sweep.tracker.close(parent, finished=len(finished) == len(sweep.cells))
        warn_rejected(frozenset(name for error in errors.values() for name in error.get("rejected", [])), say)
    failed = [
        f"{cell.label}: {errors.get(cell.digest, {}).get('error', 'its process died')}" for cell in pending if cell.digest not in finished
    ]
    if failed:
        raise VitokError(f"{len(failed)} of {len(pending)} cells failed (run again to retry): " + "; ".join(failed))


def enough(corpora: Corpora, resources: Resources) -> None:
    """Raises `UsageError` where a worker would have no sample of its own."""
    if corpora.counts[0] < resources.workers:
        raise UsageError(f"{corpora.uri} has {corpora.counts[0]} samples to train on, fewer than the {resources.workers} workers of a run")


def concurrency(resources: Resources, recipe: Training, offered: dict[str, float]) -> int:
    """How many trials the cluster holds at once, each with the CPUs that it leaves to Ray Data. Raises if not even one."""
    slots = {"trial_slot": 1} if resources.workers > 1 else {}
    place.require(resources.need(recipe) | slots, offered)
    return max(1, min(int(offered[name] // amount) for name, amount in (resources.want(recipe) | slots).items() if amount))


def looked_through(
    recipes: Iterable[Recipe], resources: Resources, changes: dict[str, str], say: Progress
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """What is measured, and the weights of the networks of losses and metrics. Raises `VitokError` for what cannot be had."""
    from vitok.metrics.available import available
    from vitok.metrics.weights import resolve

    found = available(resources.metrics, asked="resources.metrics" in changes)
    for note in found.notes:
        say.line(f"warning: {note}")
    losses = {f"lpips-{recipe.loss.lpips_network}" for recipe in recipes if recipe.loss.lpips} - set(found.payloads)
    return tuple(metric.name for metric in found.metrics), found.payloads | {name: resolve(name)[0] for name in sorted(losses)}


def _schedule(
    sweep: Sweep, resources: Resources, pending: list[Cell], children: dict[str, str], sources: dict[str, Any],
    networks: dict[str, Any], recorder: Any, atonce: int,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """All pending cells through Tune. What each trial reported, by cell."""
    from ray import tune

    from vitok.study.trial import trial  # imports torch and Ray, which a run with nothing to do should not wait for

    # Tune's own display off, also its banner; ours shows the steps inside a trial.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C ends the run at once: it continues from the last checkpoints anyway
    scratch = sweep.folder / "tune"  # Tune's own records: nothing in them is needed again
    shutil.rmtree(scratch, ignore_errors=True)
    specs = [
        {
            "digest": cell.digest, "recipe": cell.recipe.model_dump(mode="json"), "run_id": children[cell.digest],
            "folder": str(sweep.cell_folder(cell.digest)), "samples": _samples(cell.recipe),
        }
        for cell in pending
    ]  # fmt: skip
    single: dict[str, float] = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    group: dict[str, float] = {"CPU": 0, "trial_slot": 1}  # a trial that only drives a worker group must not hold what its workers need
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(
                trial, sources=sources, weights=networks, recorder=recorder, resources=resources,
                statistics=str(sweep.storage / STATISTICS),
            ),
            single if resources.workers == 1 else group,
        ),
        param_space={"cell": tune.grid_search(specs)},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=atonce, reuse_actors=resources.workers == 1,
            trial_name_creator=lambda t: t.config["cell"]["digest"], trial_dirname_creator=lambda t: t.config["cell"]["digest"],
        ),
        run_config=tune.RunConfig(
            name="tune", storage_path=str(sweep.folder), verbose=0, failure_config=tune.FailureConfig(max_failures=2),
        ),
    )  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    for result in tuner.fit():
        digest = (result.config or {})["cell"]["digest"]
        last = str(result.error).strip().splitlines()[-1] if result.error else None
        found[digest] = {"error": last} if last else dict(result.metrics or {})
    return found


def _samples(recipe: Recipe) -> str:
    """Cells with the same value see the same samples in the same way: one source serves them all."""
    return f"{recipe.data.model_dump_json()} {recipe.tokenizer.size} {recipe.tokenizer.frames}"


def warn_rejected(rejected: frozenset[str], say: Progress) -> None:
    if rejected:
        say.line(f"warning: {len(rejected)} sample(s) could not be used and were left out: " + "; ".join(sorted(rejected)[:5]))
