"""A run by itself, outside of a study: the same recipes, the same tracking, the same resume."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitok.config import Generation, Recipe, Resources, Training
from vitok.config.overrides import flatten
from vitok.console.panel import Panel
from vitok.costs import flops, memory
from vitok.data.corpora.corpus import Corpora
from vitok.orchestration import generator_inputs
from vitok.orchestration.capacity import in_cluster, require_machine
from vitok.orchestration.finished_runs import FinishedTokenizer
from vitok.orchestration.plan import duration
from vitok.orchestration.request import origin_tags
from vitok.orchestration.session import Session
from vitok.orchestration.sweep import end_recorder, require_samples, start_recorder
from vitok.storage import locks
from vitok.storage.layout import RunFolder
from vitok.study.grid import class_count, describe, recipe_label
from vitok.tracking.tags import FOLDER, STUDY

if TYPE_CHECKING:
    from vitok.train.run_spec import RunInputs

EXPERIMENT = "train"  # in MLflow


@dataclass(frozen=True)
class SingleRun:
    """A run by itself, as `vitok train` asks for it."""

    recipe: Training
    resources: Resources
    scale: str
    corpora: Corpora
    changes: dict[str, str]
    name: str = ""  # of its folder; empty: the digest
    start: FinishedTokenizer | None = None  # the tokenizer that it begins from; of a generator: that it is trained on
    latents: str = ""  # of a generator: a folder of its tokenizer's, instead of those in the storage

    @property
    def digest(self) -> str:
        """The identity of the run: of recipe and corpus."""
        return self.recipe.digest(self.corpora.fingerprint)

    @property
    def label(self) -> str:
        """The name in tables."""
        return recipe_label(self.recipe) + (f" stage {self.recipe.stage}" if isinstance(self.recipe, Recipe) else "")

    @property
    def weights(self) -> str:
        """The file that a finished run leaves."""
        return RunFolder.DIT if isinstance(self.recipe, Generation) else RunFolder.TOKENIZER

    def about(self) -> str:
        """Return what the run will cost, in a sentence, and a warning where it will not fit its devices."""
        hours = flops.run_hours(self.recipe, self.resources)
        text = (
            f"{self.label}: {self.recipe.steps} steps of {self.recipe.batch_size} on {self.resources.workers} worker(s), "
            f"about {duration(hours)} ({self.resources.tflops:g} TFLOP/s a worker, {self.resources.utilisation:.0%} of it expected)"
        )
        if isinstance(self.recipe, Recipe) and self.recipe.stage == 2:  # its memory is not modelled
            return text
        peak = memory.step_memory(self.recipe, self.resources)["peak"]
        lack = memory.memory_warning(self.recipe, self.resources)
        return f"{text}, {peak / 1e9:.2g} GB of tensors on each" + (f"\nwarning: {lack}" if lack else "")


def run(single: SingleRun, session: Session) -> dict[str, Any]:
    """Train, or go on, or only return what a finished run came to. Raises `VitokError`."""
    folder = session.storage.run(single.name or single.digest)
    with locks.exclusive(folder.path, "run"):
        done = session.tracker(EXPERIMENT).finished([single.digest])
        if single.digest in done and folder.has(single.weights):
            session.say("finished already; nothing to run")
            return _summary(single, folder, done[single.digest].info.run_id, dict(done[single.digest].data.metrics))
        return _train(single, folder, session)


def _train(single: SingleRun, folder: RunFolder, session: Session) -> dict[str, Any]:
    from vitok.data.loading.blocks import decode_on
    from vitok.orchestration.trial import execute
    from vitok.train.run_spec import RunSpec

    recipe, tracker = single.recipe, session.tracker(EXPERIMENT)
    require_samples(single.corpora, single.resources)
    need = single.resources.need(recipe)
    elsewhere = in_cluster() and need["GPU"] > 0  # this process may well be on a node without one
    here = single.resources.workers == 1 and not elsewhere  # in this process, which takes no CPU from the cluster
    need = {"GPU": need["GPU"]} if here else need
    require_machine([(recipe, single.resources, need)])
    capacity = session.capacity
    capacity.require(need)
    decode_on(single.resources.decode)
    if not here:
        capacity.require_node(single.resources)
    if single.start:
        folder.copy_in(single.start.weights, folder.START)
    inputs, resources = _inputs(single, session)
    session.warn_rejected(frozenset(map(str, inputs.sources[""].rejected)))
    tags = origin_tags(single.scale, single.corpora, single.changes) | {STUDY: EXPERIMENT, FOLDER: folder.address}
    params = describe(recipe, class_count(single.corpora)) | flatten(recipe.model_dump(mode="json"))
    spec = RunSpec(
        recipe, resources, folder.address, session.storage.address, session.storage.identity, digest=single.digest, label=single.label,
        run_id=tracker.child(None, single.digest, single.label, tags, params),
    )  # fmt: skip
    recorder = start_recorder(session, EXPERIMENT)
    try:
        with Panel(session.console).following(recorder, spec.run_id, spec.label, recipe):
            values, rejected = execute(spec, inputs, recorder, elsewhere)
    finally:
        end_recorder(recorder, session)
    session.warn_rejected(rejected)
    return _summary(single, folder, spec.run_id, values)


def _inputs(single: SingleRun, session: Session) -> "tuple[RunInputs, Resources]":
    """Return what the run trains on with the networks that it looks through, and its resources with the metrics that can be measured."""
    from vitok.data.loading.loader import prepare_source
    from vitok.train.run_spec import RunInputs

    recipe = single.recipe
    if isinstance(recipe, Generation):
        assert single.start is not None
        found = generator_inputs.measurable(session, single.resources, single.changes)
        (one,) = generator_inputs.prepare(session, [(recipe, single.start.weights)], single.corpora, found, single.latents)
        return RunInputs({"": one.source}, found.payloads), found.narrow(single.resources)
    assert isinstance(recipe, Recipe)
    training, held_out = single.corpora.counts
    session.say(f"laying out {single.corpora.uri}: {training} samples to train on, {held_out} held out")
    session.say(str(single.corpora))
    source = prepare_source(single.corpora, recipe.data, recipe.tokenizer.size, recipe.tokenizer.frames)
    found = generator_inputs.measurable(session, single.resources, single.changes, "r")
    return RunInputs({"": source}, found.payloads | generator_inputs.loss_networks([recipe], found)), found.narrow(single.resources)


def _summary(single: SingleRun, folder: RunFolder, run_id: str, values: dict[str, float]) -> dict[str, Any]:
    from vitok.metrics.registry import in_catalogue_order

    values = {key.removeprefix("final/"): value for key, value in values.items()}
    return {
        "run": run_id, "name": single.label, "folder": folder.address, "weights": f"{folder.address}/{single.weights}",
        "steps": single.recipe.steps, **{name: values[name] for name in in_catalogue_order(values)}, "images": int(values["images"]),
    }  # fmt: skip
