"""Cells -> finished runs: Ray Tune schedules, MLflow remembers. Running again is always a resume."""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vitok.config import Generation, Recipe, Resources, Training
from vitok.config.overrides import flatten
from vitok.config.resources import TRIAL_SLOT
from vitok.console.progress import Followed
from vitok.costs import flops
from vitok.errors import UsageError, VitokError
from vitok.orchestration import generator_inputs
from vitok.orchestration.capacity import Capacity
from vitok.orchestration.plan import room
from vitok.orchestration.request import Request
from vitok.orchestration.session import Session
from vitok.storage import locks
from vitok.storage.layout import RunFolder
from vitok.study import grid
from vitok.study.grid import Cell
from vitok.tracking.recorder import Recorder
from vitok.tracking.tags import FOLDER

Result = Mapping[str, Any]  # of a cell: final values, or "error"
Begun = tuple[Cell, Path | None]  # a cell, and the weights that it starts from


def run(request: Request, session: Session) -> None:
    """Run every cell of a request that is not finished; the tokenizers that cells start from first.

    Raises `VitokError` for cells that failed, after the others have run.
    """
    Sweep(request, session).run()


class Sweep:
    """A sweep while it runs: its request, its session, the results so far."""

    def __init__(self, request: Request, session: Session) -> None:
        self.request, self.session = request, session
        self.storage, self.tracker = session.storage, session.tracker(request.study.name)
        self.folder = session.storage.study(request.study.name)
        self.results: dict[str, Result] = {}  # by cell

    def run(self) -> None:
        """Run what is not finished, level by level. Raises `VitokError` for cells that failed, after the others have run."""
        request, fingerprint = self.request, self.request.corpora.fingerprint
        with ExitStack() as held:
            held.enter_context(locks.exclusive(self.folder, "study"))
            pending = self._pending()
            self._require_possible(pending)
            from vitok.data.loading.blocks import decode_on

            decode_on(request.scale.resources.decode)
            self.parent = self.tracker.sweep(request.key, request.tags(), [cell.digest for cell in request.cells])
            self.recorder = start_recorder(self.session, request.study.name)
            held.callback(end_recorder, self.recorder, self.session)  # of several studies in one process each would stay, with 280 MB
            for level in missing(pending, fingerprint, self.tracker):
                for cell in level:  # whichever study they belong to
                    held.enter_context(locks.exclusive(self.storage.cell(cell.digest).path, "cell"))
                level.reverse()  # the longest first: none runs alone at the end
                if others := sum(cell.digest not in {one.digest for one in pending} for cell in level):
                    self.session.say(f"{others} tokenizer(s) that cells start from are not there yet: they are trained first")
                self._train_tokenizers([cell for cell in level if isinstance(cell.recipe, Recipe)])
                self._train_generators([cell for cell in level if isinstance(cell.recipe, Generation)])
            for digest, result in self.results.items():
                if "error" not in result:  # an attempt that was taken for dead may have written one since
                    self.storage.cell(digest).drop(RunFolder.CHECKPOINTS)
            open_ones = {cell.digest for cell in self._pending()}
            self.tracker.close(self.parent, finished=not open_ones)
            self.session.warn_rejected(frozenset(name for result in self.results.values() for name in result.get("rejected", [])))
        failed = [f"{cell.label}: {self._error(cell)}" for cell in pending if cell.digest in open_ones]
        if failed:
            raise VitokError(f"{len(failed)} of {len(pending)} cells failed (run again to retry): " + "; ".join(failed))

    def _pending(self) -> list[Cell]:
        """Return the cells of the request that are not finished."""
        cells = self.request.cells
        done = self.tracker.finished((cell.digest for cell in cells), self.request.any_version)
        return [cell for cell in cells if cell.digest not in done]

    def _error(self, cell: Cell) -> str:
        return self.results.get(cell.digest, {}).get("error", "its process died")

    def _require_possible(self, pending: Sequence[Cell]) -> None:
        """Raise `VitokError` for what would only fail after hours: a cluster too small, a corpus too small or without labels."""
        scale, corpora, capacity = self.request.scale, self.request.corpora, self.session.capacity
        require_samples(corpora, scale.resources)
        generator_inputs.check_labels(corpora, (cell.recipe for cell in pending))
        for level in grid.dependency_levels(pending, corpora.fingerprint):
            for recipe in {type(cell.recipe): cell.recipe for cell in level}.values():
                concurrency(scale.of(recipe), recipe, capacity)

    def _train_tokenizers(self, cells: Sequence[Cell]) -> None:
        from vitok.data.loading.loader import prepare_source
        from vitok.orchestration.finished_runs import read_tokenizer
        from vitok.train.run_spec import RunInputs, RunSpec

        begun = self._with_parents(cells)
        recipes = {cell.digest: cell.recipe for cell, _ in begun if isinstance(cell.recipe, Recipe)}
        if not recipes:
            return
        session, corpora = self.session, self.request.corpora
        resources = self.request.scale.of(next(iter(recipes.values())))
        at_once = concurrency(resources, next(iter(recipes.values())), session.capacity)
        found = generator_inputs.measurable(session, resources, self.request.changes, "r")
        resources = found.narrow(resources)
        training, held_out = corpora.counts
        session.say(f"laying out {corpora.uri}: {training} samples to train on, {held_out} held out")
        session.say(str(corpora))
        views = {(sample_key(recipe), recipe.data, recipe.tokenizer.size, recipe.tokenizer.frames) for recipe in recipes.values()}
        sources = {key: prepare_source(corpora, data, size, frames) for key, data, size, frames in views}
        session.warn_rejected(frozenset(str(rejection) for source in sources.values() for rejection in source.rejected))
        specs: list[RunSpec] = []
        for cell, weights in begun:
            recipe = recipes[cell.digest]
            if weights and recipe.stage1:
                recipe = recipe.model_copy(update={"start": read_tokenizer(weights, recipe.stage1).weights})
            specs.append(self._spec(cell, recipe, resources, sample_key(recipe), weights))
        self._schedule(specs, RunInputs(sources, found.payloads | generator_inputs.loss_networks(recipes.values(), found)), at_once)

    def _train_generators(self, cells: Sequence[Cell]) -> None:
        begun = self._with_parents(cells)
        if not begun:
            return
        from vitok.train.run_spec import RunInputs

        scale, session = self.request.scale, self.session
        at_once = concurrency(scale.resources, scale.base, session.capacity)
        found = generator_inputs.measurable(session, scale.resources, self.request.changes)
        resources = found.narrow(scale.resources)
        wanted = [(cell.recipe, weights) for cell, weights in begun if isinstance(cell.recipe, Generation) and weights]
        ready = generator_inputs.prepare(session, wanted, self.request.corpora, found)
        specs = [
            self._spec(cell, one.recipe, resources, one.source.set.folder, one.tokenizer)
            for (cell, _), one in zip(begun, ready, strict=True)
        ]
        sources = {one.source.set.folder: one.source for one in ready}
        self._schedule(specs, RunInputs(sources, found.payloads), at_once)

    def _with_parents(self, cells: Sequence[Cell]) -> list[Begun]:
        """Return each cell with the weights that it starts from. Cells whose tokenizer has failed get that as their result."""
        parents = {cell.digest: grid.parent_cell(cell, self.request.corpora.fingerprint) for cell in cells}
        there = self.tracker.weights(parent.digest for parent in parents.values() if parent)
        begun: list[Begun] = []
        for cell in cells:
            parent = parents[cell.digest]
            if parent is None or parent.digest in there:
                begun.append((cell, _intact(there[parent.digest]) if parent else None))
            else:
                self.results[cell.digest] = {"error": f"its tokenizer failed: {self._error(parent)}"}
        return begun

    def _spec(self, cell: Cell, recipe: Training, resources: Resources, samples: str, start: Path | None) -> Any:
        """Describe the run of a cell, with its run in MLflow and the weights that it starts from in its folder."""
        from vitok.train.run_spec import RunSpec

        folder = self.storage.cell(cell.digest)
        if start:
            folder.copy_in(start, folder.START)
        params = cell.described | flatten(recipe.model_dump(mode="json"))
        run_id = self.tracker.child(self.parent, cell.digest, cell.label, self.request.tags() | {FOLDER: folder.address}, params)
        return RunSpec(
            recipe, resources, folder.address, self.storage.address, self.storage.identity, samples, cell.digest, cell.label, run_id
        )  # fmt: skip

    def _schedule(self, specs: Sequence[Any], inputs: Any, at_once: int) -> None:
        """Run these through Ray Tune, `at_once` at a time, and keep the result of each."""
        from ray import tune

        from vitok.orchestration.trial import run_trial  # imports Ray, which a sweep with nothing to do should not wait for

        # Tune's own display off, also its banner; ours shows the steps inside a trial.
        os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C ends the run at once: it continues from the last checkpoints anyway
        shutil.rmtree(self.folder / "tune", ignore_errors=True)  # Tune's own records: nothing in them is needed again
        resources: Resources = specs[0].resources
        single: dict[str, float] = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
        group: dict[str, float] = {"CPU": 0, TRIAL_SLOT: 1}  # a trial that only drives a worker group must not hold what its workers need
        runs = {spec.digest: spec for spec in specs}
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(run_trial, runs=runs, inputs=inputs, recorder=self.recorder),
                single if resources.workers == 1 else group,
            ),
            param_space={"cell": tune.grid_search(list(runs))},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=at_once, reuse_actors=resources.workers == 1,
                trial_name_creator=lambda t: t.config["cell"], trial_dirname_creator=lambda t: t.config["cell"],
            ),
            run_config=tune.RunConfig(
                name="tune", storage_path=str(self.folder), verbose=0, failure_config=tune.FailureConfig(max_failures=2),
            ),
        )  # fmt: skip
        with self.session.console.following(self.recorder, {spec.run_id: Followed(spec.label, spec.recipe.steps) for spec in specs}):
            for result in tuner.fit():
                last = str(result.error).strip().splitlines()[-1] if result.error else None
                self.results[(result.config or {})["cell"]] = {"error": last} if last else dict(result.metrics or {})


def missing(pending: Sequence[Cell], fingerprint: str, tracker: Any) -> list[list[Cell]]:
    """Return cells and what they start from that is not there yet, level by level, cheapest first."""
    own, found = {cell.digest for cell in pending}, list[list[Cell]]()
    wanted = own
    for level in reversed(grid.dependency_levels(pending, fingerprint)):
        there = tracker.weights(cell.digest for cell in level if cell.digest not in own)
        level = [cell for cell in level if cell.digest in wanted and cell.digest not in there]
        wanted = wanted | {parent.digest for cell in level if (parent := grid.parent_cell(cell, fingerprint))}
        found.append(sorted(level, key=lambda cell: flops.training_flops(cell.recipe)))
    return [level for level in reversed(found) if level]


def _intact(weights: Path) -> Path:
    """Return the weights that a cell starts from, fetched. Raises `UsageError` where they have changed since their run left them."""
    return RunFolder(weights.parent).intact(weights.name)


def start_recorder(session: Session, experiment: str) -> Any:
    """Start the actor that all runs report to, on this node: where a database file may lie. Return its handle."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(Recorder)
    return actor.remote(session.tracker(experiment).uri, str(session.storage.path), experiment)


def end_recorder(recorder: Any, session: Session) -> None:
    """End the actor once all that it was told is stored."""
    import ray
    from ray.exceptions import RayError

    try:
        ray.get(recorder.flush.remote(), timeout=60)
    except RayError as error:  # that of a timeout, too
        session.say(f"warning: the last news of these runs are not in MLflow: {str(error).strip().splitlines()[-1]}")
    ray.kill(recorder)


def require_samples(corpora: Any, resources: Resources) -> None:
    """Raise `UsageError` where a worker would have no sample of its own."""
    if corpora.counts[0] < resources.workers:
        raise UsageError(f"{corpora.uri} has {corpora.counts[0]} samples to train on, fewer than the {resources.workers} workers of a run")


def concurrency(resources: Resources, recipe: Training, capacity: Capacity) -> int:
    """Return how many runs the cluster holds at once, each with the CPUs that it leaves to Ray Data. Raises `VitokError` for none."""
    capacity.require(resources.need(recipe) | resources.slots)
    capacity.require_node(resources)
    return room(resources, recipe, capacity.total)


def sample_key(recipe: Recipe) -> str:
    """Return what is equal for recipes that see the same samples in the same way: one source serves them all."""
    return f"{recipe.data.model_dump_json()} {recipe.tokenizer.size} {recipe.tokenizer.frames}"
