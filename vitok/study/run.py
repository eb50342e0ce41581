"""Cells -> finished runs: Ray Tune schedules, MLflow remembers. Running again is always a resume."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vitok
from vitok.config import Generation, Recipe, Resources, Training
from vitok.data.corpora import Corpora
from vitok.errors import UsageError, VitokError
from vitok.metrics.protocol import commit
from vitok.study import grid, place
from vitok.study.grid import Cell
from vitok.study.progress import Progress
from vitok.study.recorder import Recorder
from vitok.study.round import Ready, Round
from vitok.study.study import Scale, Study
from vitok.study.tracking import CORPUS, SCALE, STUDY, Tracker


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
    """Run every cell of the sweep that is not finished; of generators, the tokenizers that they need first. Needs a connected Ray.

    Raises `VitokError` for a cell that failed, after the others have run.
    """
    with place.alone(sweep.folder, "study"):
        done = sweep.tracker.finished(cell.digest for cell in sweep.cells)
        pending = [cell for cell in reversed(sweep.cells) if cell.digest not in done]  # the longest first: none runs alone at the end
        enough(sweep.corpora, sweep.scale.resources)
        parent = sweep.tracker.sweep(sweep.key, sweep.tags(), [cell.digest for cell in sweep.cells])
        where = Round(
            sweep.tracker,
            sweep.storage,
            sweep.folder,
            parent,
            sweep.tags(),
            start_recorder(sweep.tracker, sweep.storage, sweep.study.name),
            say,
        )
        if isinstance(sweep.scale.base, Generation):
            errors = _generators(sweep, where, pending, offered, say)
        else:
            errors = _tokenizers(sweep, where, pending, sweep.scale.resources, offered, say)
        finished = sweep.tracker.finished(cell.digest for cell in sweep.cells)
        sweep.tracker.close(parent, finished=len(finished) == len(sweep.cells))
        warn_rejected(frozenset(name for error in errors.values() for name in error.get("rejected", [])), say)
    failed = [
        f"{cell.label}: {errors.get(cell.digest, {}).get('error', 'its process died')}" for cell in pending if cell.digest not in finished
    ]
    if failed:
        raise VitokError(f"{len(failed)} of {len(pending)} cells failed (run again to retry): " + "; ".join(failed))


def _tokenizers(
    sweep: Sweep, where: Round, pending: Sequence[Cell], resources: Resources, offered: dict[str, float], say: Progress
) -> dict[str, dict[str, Any]]:
    """What came of each."""
    from vitok.data.stream import prepare

    recipes = {cell.digest: cell.recipe for cell in pending if isinstance(cell.recipe, Recipe)}
    atonce = concurrency(resources, next(iter(recipes.values())), offered)
    measured, networks = looked_through(recipes.values(), resources, sweep.changes, say)
    training, held_out = sweep.corpora.counts
    say.line(f"laying out {sweep.corpora.uri}: {training} samples to train on, {held_out} held out")
    sources = {
        identity: prepare(sweep.corpora, data, size, frames)
        for identity, data, size, frames in {(_samples(r), r.data, r.tokenizer.size, r.tokenizer.frames) for r in recipes.values()}
    }
    warn_rejected(frozenset(str(rejection) for source in sources.values() for rejection in source.rejected), say)
    ready = [Ready(cell, recipes[cell.digest], _samples(recipes[cell.digest])) for cell in pending]
    return where.run(ready, sources, resources.model_copy(update={"metrics": measured}), networks, atonce)


def _generators(sweep: Sweep, where: Round, pending: Sequence[Cell], offered: dict[str, float], say: Progress) -> dict[str, dict[str, Any]]:
    """Likewise. A generator whose tokenizer failed is not begun."""
    from vitok.study import generation

    scale, fingerprint = sweep.scale, sweep.corpora.fingerprint
    generation.check_labels(sweep.corpora, (cell.recipe for cell in pending))
    atonce = concurrency(scale.resources, scale.base, offered)
    needed = grid.tokenizers(pending, fingerprint)
    there = sweep.tracker.weights(cell.digest for cell in needed)
    missing = [cell for cell in reversed(needed) if cell.digest not in there]
    errors: dict[str, dict[str, Any]] = {}
    if missing:
        assert scale.tokenizers is not None
        say.line(f"{len(missing)} of {len(needed)} tokenizers are not there yet: they are trained first")
        errors = _tokenizers(sweep, where, missing, scale.tokenizers, offered, say)
        there |= sweep.tracker.weights(cell.digest for cell in missing)
    found = generation.measurable(scale.resources, sweep.changes, say)
    resources = scale.resources.model_copy(update={"metrics": tuple(metric.name for metric in found.metrics)})
    begun: list[tuple[Cell, Generation, Path]] = []
    for cell in pending:
        assert isinstance(cell.recipe, Generation)
        tokenizer = cell.recipe.tokenizer.digest(fingerprint)
        if tokenizer in there:
            begun.append((cell, cell.recipe, there[tokenizer]))
        else:
            errors[cell.digest] = {"error": f"its tokenizer failed: {errors.get(tokenizer, {}).get('error', 'its process died')}"}
    ready = generation.ready([(recipe, weights) for _, recipe, weights in begun], sweep.corpora, sweep.storage, found, offered, say)
    cells = [Ready(cell, one.recipe, one.source.set.folder, one.tokenizer) for (cell, _, _), one in zip(begun, ready, strict=True)]
    sources = {one.source.set.folder: one.source for one in ready}
    return errors | (where.run(cells, sources, resources, found.payloads, atonce) if cells else {})


def start_recorder(tracker: Tracker, storage: Path, study: str) -> Any:
    """The actor that everything reports to, on this node: where a database file may lie."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(Recorder)
    return actor.remote(tracker.uri, str(storage), study)


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
    from vitok.metrics.weights import resolve
    from vitok.study import generation

    found = generation.measurable(resources, changes, say, "r")
    losses = {f"lpips-{recipe.loss.lpips_network}" for recipe in recipes if recipe.loss.lpips} - set(found.payloads)
    return tuple(metric.name for metric in found.metrics), found.payloads | {name: resolve(name)[0] for name in sorted(losses)}


def _samples(recipe: Recipe) -> str:
    """Cells with the same value see the same samples in the same way: one source serves them all."""
    return f"{recipe.data.model_dump_json()} {recipe.tokenizer.size} {recipe.tokenizer.frames}"


def warn_rejected(rejected: frozenset[str], say: Progress) -> None:
    if rejected:
        say.line(f"warning: {len(rejected)} sample(s) could not be used and were left out: " + "; ".join(sorted(rejected)[:5]))
