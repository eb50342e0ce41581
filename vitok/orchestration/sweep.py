"""Cells -> finished runs: Ray Tune schedules, MLflow remembers. Running again is always a resume."""

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vitok
from vitok.config import Generation, Recipe, Resources, Training
from vitok.config.overrides import flat
from vitok.config.resources import TRIAL_SLOT
from vitok.console.progress import Progress
from vitok.costs import flops
from vitok.data.corpora.corpus import Corpora
from vitok.errors import UsageError, VitokError
from vitok.metrics.protocol import commit
from vitok.orchestration import preflight
from vitok.orchestration.plan import room
from vitok.storage import locks, mirror
from vitok.storage.atomic import copied
from vitok.study import grid
from vitok.study.grid import Cell
from vitok.study.scales import Scale
from vitok.study.study import Study
from vitok.tracking.client import Tracker
from vitok.tracking.recorder import Recorder
from vitok.tracking.tags import CORPUS, FOLDER, SCALE, STUDY

STATISTICS = "statistics"  # the folder of those of reference sets, in the storage


@dataclass(frozen=True)
class Ready:
    """A cell and what it needs to begin. Cells with the same `samples` share a source."""

    cell: Cell
    recipe: Any  # the cell's, with the hash of the weights that it starts from
    samples: str
    start: Path | None = None  # those weights


@dataclass(frozen=True)
class Round:
    """Where all rounds of a sweep run, and to whom they report."""

    tracker: Tracker
    storage: Path
    folder: Path  # of the study
    parent: str  # the sweep's run in MLflow
    tags: dict[str, str]
    recorder: Any
    say: Progress

    def run(
        self, ready: Sequence[Ready], sources: dict[str, Any], resources: Resources, networks: dict[str, Any], atonce: int
    ) -> dict[str, dict[str, Any]]:
        """What each trial reported, by cell."""
        children = {one.cell.digest: self._child(one) for one in ready}
        with self.say.following(self.recorder, {children[one.cell.digest]: one.cell for one in ready}):
            return self._schedule(ready, children, sources, resources, networks, atonce)

    def cell_folder(self, digest: str) -> Path:
        """One for all studies: whichever asks for the cell next finds it."""
        return self.storage / "cells" / digest

    def _child(self, one: Ready) -> str:
        folder = self.cell_folder(one.cell.digest)
        if one.start:
            folder.mkdir(parents=True, exist_ok=True)
            copied(one.start, folder / "start.safetensors")
        params = one.cell.described | flat(one.recipe.model_dump(mode="json"))
        return self.tracker.child(self.parent, one.cell.digest, one.cell.label, self.tags | {FOLDER: mirror.told(folder)}, params)

    def _schedule(
        self, ready: Sequence[Ready], children: dict[str, str], sources: dict[str, Any], resources: Resources, networks: dict[str, Any],
        atonce: int,
    ) -> dict[str, dict[str, Any]]:  # fmt: skip
        from ray import tune

        from vitok.orchestration.trial import trial  # imports torch and Ray, which a run with nothing to do should not wait for

        # Tune's own display off, also its banner; ours shows the steps inside a trial.
        os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C ends the run at once: it continues from the last checkpoints anyway
        scratch = self.folder / "tune"  # Tune's own records: nothing in them is needed again
        shutil.rmtree(scratch, ignore_errors=True)
        specs = [
            {
                "digest": one.cell.digest, "recipe": one.recipe.model_dump(mode="json"), "run_id": children[one.cell.digest],
                "folder": mirror.told(self.cell_folder(one.cell.digest)), "samples": one.samples,
            }
            for one in ready
        ]  # fmt: skip
        single: dict[str, float] = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
        group: dict[str, float] = {"CPU": 0, TRIAL_SLOT: 1}  # a trial that only drives a worker group must not hold what its workers need
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(
                    trial, sources=sources, weights=networks, recorder=self.recorder, resources=resources,
                    statistics=mirror.told(self.storage / STATISTICS), identity=mirror.identity(self.storage),
                ),
                single if resources.workers == 1 else group,
            ),
            param_space={"cell": tune.grid_search(specs)},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=atonce, reuse_actors=resources.workers == 1,
                trial_name_creator=lambda t: t.config["cell"]["digest"], trial_dirname_creator=lambda t: t.config["cell"]["digest"],
            ),
            run_config=tune.RunConfig(
                name="tune", storage_path=str(self.folder), verbose=0, failure_config=tune.FailureConfig(max_failures=2),
            ),
        )  # fmt: skip
        found: dict[str, dict[str, Any]] = {}
        for result in tuner.fit():
            digest = (result.config or {})["cell"]["digest"]
            last = str(result.error).strip().splitlines()[-1] if result.error else None
            found[digest] = {"error": last} if last else dict(result.metrics or {})
        return found


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
    any_version: bool = False  # whether cells count that another version of the code finished

    @property
    def folder(self) -> Path:
        return self.storage / self.study.name

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
    """Run every cell of the sweep that is not finished; what cells start from first. Needs a connected Ray.

    Raises `VitokError` for a cell that failed, after the others have run.
    """
    with ExitStack() as held:
        held.enter_context(locks.alone(sweep.folder, "study"))
        done = sweep.tracker.finished((cell.digest for cell in sweep.cells), sweep.any_version)
        pending = [cell for cell in sweep.cells if cell.digest not in done]
        _possible(sweep, pending, offered)
        from vitok.data.loading.blocks import decode_on

        decode_on(sweep.scale.resources.decode)
        parent = sweep.tracker.sweep(sweep.key, sweep.tags(), [cell.digest for cell in sweep.cells])
        recorder = start_recorder(sweep.tracker, sweep.storage, sweep.study.name)
        held.callback(_end, recorder, say)  # of several studies in one process each would stay to the end, with 280 MB
        where = Round(sweep.tracker, sweep.storage, sweep.folder, parent, sweep.tags(), recorder, say)
        errors: dict[str, dict[str, Any]] = {}
        for level in missing(pending, sweep.corpora.fingerprint, sweep.tracker):
            for cell in level:  # whichever study they belong to
                held.enter_context(locks.alone(where.cell_folder(cell.digest), "cell"))
            level.reverse()  # the longest first: none runs alone at the end
            if others := sum(cell.digest not in {one.digest for one in pending} for cell in level):
                say.line(f"{others} tokenizer(s) that cells start from are not there yet: they are trained first")
            errors |= _tokenizers(sweep, where, [cell for cell in level if isinstance(cell.recipe, Recipe)], errors, offered, say)
            errors |= _generators(sweep, where, [cell for cell in level if isinstance(cell.recipe, Generation)], errors, offered, say)
        finished = sweep.tracker.finished((cell.digest for cell in sweep.cells), sweep.any_version)
        sweep.tracker.close(parent, finished=len(finished) == len(sweep.cells))
        warn_rejected(frozenset(name for error in errors.values() for name in error.get("rejected", [])), say)
    failed = [
        f"{cell.label}: {errors.get(cell.digest, {}).get('error', 'its process died')}" for cell in pending if cell.digest not in finished
    ]
    if failed:
        raise VitokError(f"{len(failed)} of {len(pending)} cells failed (run again to retry): " + "; ".join(failed))


def _possible(sweep: Sweep, pending: Sequence[Cell], offered: dict[str, float]) -> None:
    """Raises `VitokError` for what would only fail after hours: a cluster too small, a corpus too small or without labels."""
    from vitok.orchestration import generator_inputs

    scale = sweep.scale
    enough(sweep.corpora, scale.resources)
    generator_inputs.check_labels(sweep.corpora, (cell.recipe for cell in pending))
    for level in grid.levels(pending, sweep.corpora.fingerprint):
        for recipe in {type(cell.recipe): cell.recipe for cell in level}.values():
            concurrency(scale.of(recipe), recipe, offered)


def missing(pending: Sequence[Cell], fingerprint: str, tracker: Tracker) -> list[list[Cell]]:
    """Cells and what they start from that is not there yet, level by level, cheapest first."""
    own, found = {cell.digest for cell in pending}, list[list[Cell]]()
    wanted = own
    for level in reversed(grid.levels(pending, fingerprint)):
        there = tracker.weights(cell.digest for cell in level if cell.digest not in own)
        level = [cell for cell in level if cell.digest in wanted and cell.digest not in there]
        wanted = wanted | {parent.digest for cell in level if (parent := grid.parent_of(cell, fingerprint))}
        found.append(sorted(level, key=lambda cell: flops.training_flops(cell.recipe)))
    return [level for level in reversed(found) if level]


def _tokenizers(
    sweep: Sweep, where: Round, cells: Sequence[Cell], errors: dict[str, dict[str, Any]], offered: dict[str, float], say: Progress
) -> dict[str, dict[str, Any]]:
    """What came of each."""
    from vitok.data.loading.loader import prepare
    from vitok.orchestration.finished_runs import read_tokenizer

    failed, begun = _with_parents(sweep, cells, errors)
    recipes = {cell.digest: cell.recipe for cell, _ in begun if isinstance(cell.recipe, Recipe)}
    if not recipes:
        return failed
    resources = sweep.scale.of(next(iter(recipes.values())))
    atonce = concurrency(resources, next(iter(recipes.values())), offered)
    measured, networks = looked_through(recipes.values(), resources, sweep.changes, say)
    training, held_out = sweep.corpora.counts
    say.line(f"laying out {sweep.corpora.uri}: {training} samples to train on, {held_out} held out")
    sources = {
        identity: prepare(sweep.corpora, data, size, frames)
        for identity, data, size, frames in {(_samples(r), r.data, r.tokenizer.size, r.tokenizer.frames) for r in recipes.values()}
    }
    warn_rejected(frozenset(str(rejection) for source in sources.values() for rejection in source.rejected), say)
    ready: list[Ready] = []
    for cell, weights in begun:
        recipe = recipes[cell.digest]
        if weights and recipe.stage1:
            recipe = recipe.model_copy(update={"start": read_tokenizer(weights, recipe.stage1).weights})
        ready.append(Ready(cell, recipe, _samples(recipe), weights))
    return failed | where.run(ready, sources, resources.model_copy(update={"metrics": measured}), networks, atonce)


def _generators(
    sweep: Sweep, where: Round, cells: Sequence[Cell], errors: dict[str, dict[str, Any]], offered: dict[str, float], say: Progress
) -> dict[str, dict[str, Any]]:
    """Likewise."""
    failed, begun = _with_parents(sweep, cells, errors)
    if not begun:
        return failed
    from vitok.orchestration import generator_inputs

    scale = sweep.scale
    atonce = concurrency(scale.resources, scale.base, offered)
    found = generator_inputs.measurable(scale.resources, sweep.changes, say)
    resources = scale.resources.model_copy(update={"metrics": tuple(metric.name for metric in found.metrics)})
    asked = [(cell.recipe, weights) for cell, weights in begun if isinstance(cell.recipe, Generation) and weights]
    ready = generator_inputs.ready(asked, sweep.corpora, sweep.storage, found, offered, say)
    each = [Ready(cell, one.recipe, one.source.set.folder, one.tokenizer) for (cell, _), one in zip(begun, ready, strict=True)]
    sources = {one.source.set.folder: one.source for one in ready}
    return failed | where.run(each, sources, resources, found.payloads, atonce)


def _with_parents(
    sweep: Sweep, cells: Sequence[Cell], errors: dict[str, dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], list[tuple[Cell, Path | None]]]:
    """Each cell with the weights that it starts from; and those that cannot begin, since what they start from has failed."""
    parents = {cell.digest: grid.parent_of(cell, sweep.corpora.fingerprint) for cell in cells}
    there = sweep.tracker.weights(parent.digest for parent in parents.values() if parent)
    failed: dict[str, dict[str, Any]] = {}
    begun: list[tuple[Cell, Path | None]] = []
    for cell in cells:
        parent = parents[cell.digest]
        if parent is None or parent.digest in there:
            begun.append((cell, mirror.fetch(there[parent.digest]) if parent else None))
        else:
            failed[cell.digest] = {"error": f"its tokenizer failed: {errors.get(parent.digest, {}).get('error', 'its process died')}"}
    return failed, begun


def start_recorder(tracker: Tracker, storage: Path, study: str) -> Any:
    """The actor that everything reports to, on this node: where a database file may lie."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(Recorder)
    return actor.remote(tracker.uri, str(storage), study)


def _end(recorder: Any, say: Progress) -> None:
    """Once all that it was told is stored."""
    import ray
    from ray.exceptions import RayError

    try:
        ray.get(recorder.flush.remote(), timeout=60)
    except RayError as error:  # that of a timeout, too
        say.line(f"warning: the last news of these runs are not in MLflow: {str(error).strip().splitlines()[-1]}")
    ray.kill(recorder)


def enough(corpora: Corpora, resources: Resources) -> None:
    """Raises `UsageError` where a worker would have no sample of its own."""
    if corpora.counts[0] < resources.workers:
        raise UsageError(f"{corpora.uri} has {corpora.counts[0]} samples to train on, fewer than the {resources.workers} workers of a run")


def concurrency(resources: Resources, recipe: Training, offered: dict[str, float]) -> int:
    """How many trials the cluster holds at once, each with the CPUs that it leaves to Ray Data. Raises if not even one."""
    preflight.require(resources.need(recipe) | resources.slots, offered)
    preflight.must_fit(resources)
    return room(resources, recipe, offered)


def looked_through(
    recipes: Iterable[Recipe], resources: Resources, changes: dict[str, str], say: Progress
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """What is measured, and the weights of the networks of losses and metrics. Raises `VitokError` for what cannot be had."""
    from vitok.networks.weights import resolve
    from vitok.orchestration import generator_inputs

    found = generator_inputs.measurable(resources, changes, say, "r")
    losses = {f"lpips-{recipe.loss.lpips_network}" for recipe in recipes if recipe.loss.lpips} - set(found.payloads)
    return tuple(metric.name for metric in found.metrics), found.payloads | {name: resolve(name)[0] for name in sorted(losses)}


def _samples(recipe: Recipe) -> str:
    """Cells with the same value see the same samples in the same way: one source serves them all."""
    return f"{recipe.data.model_dump_json()} {recipe.tokenizer.size} {recipe.tokenizer.frames}"


def warn_rejected(rejected: frozenset[str], say: Progress) -> None:
    if rejected:
        say.line(f"warning: {len(rejected)} sample(s) could not be used and were left out: " + "; ".join(sorted(rejected)[:5]))
