"""One run outside of a study: the same recipes, the same tracking, the same resume."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitok.config import Generation, Recipe, Resources, Training
from vitok.config.overrides import flat
from vitok.console.panel import Panel
from vitok.console.progress import Progress
from vitok.costs import flops, memory
from vitok.data.corpora.corpus import Corpora
from vitok.errors import VitokError
from vitok.evaluation.generator import WEIGHTS
from vitok.orchestration import preflight
from vitok.orchestration.finished_runs import Start
from vitok.orchestration.plan import duration
from vitok.orchestration.sweep import STATISTICS, enough, looked_through, start_recorder, tags, warn_rejected
from vitok.storage import atomic, locks, mirror
from vitok.study.grid import classes, describe, label
from vitok.tracking.client import TOKENIZER, Tracker
from vitok.tracking.recorder import RecorderSink
from vitok.tracking.tags import FOLDER, STUDY

STUDY_NAME = "train"  # the experiment in MLflow, and the folder in the storage


@dataclass(frozen=True)
class Single:
    recipe: Training
    resources: Resources
    scale: str
    corpora: Corpora
    changes: dict[str, str]
    storage: Path
    tracker: Tracker
    name: str  # of the folder; empty: the digest
    start: Start | None
    latents: str = ""  # of a generator: a folder of its tokenizer's, instead of those in the storage

    @property
    def digest(self) -> str:
        return self.recipe.digest(self.corpora.fingerprint)

    @property
    def folder(self) -> Path:
        return self.storage / STUDY_NAME / (self.name or self.digest)

    @property
    def label(self) -> str:
        return label(self.recipe) + (f" stage {self.recipe.stage}" if isinstance(self.recipe, Recipe) else "")

    @property
    def weights(self) -> Path:
        """What a finished run leaves."""
        return self.folder / (WEIGHTS if isinstance(self.recipe, Generation) else TOKENIZER)

    def about(self) -> str:
        hours = flops.run_hours(self.recipe, self.resources)
        text = (
            f"{self.label}: {self.recipe.steps} steps of {self.recipe.batch_size} on {self.resources.workers} worker(s), "
            f"about {duration(hours)} ({self.resources.tflops:g} TFLOP/s a worker, {self.resources.utilisation:.0%} of it expected)"
        )
        if isinstance(self.recipe, Recipe) and self.recipe.stage == 2:  # its memory is not modelled
            return text
        peak = memory.step_memory(self.recipe, self.resources)["peak"]
        lack = memory.shortage(self.recipe, self.resources)
        return f"{text}, {peak / 1e9:.2g} GB of tensors on each" + (f"\nwarning: {lack}" if lack else "")


def run(asked: Single, offered: dict[str, float], say: Progress) -> dict[str, Any]:
    """Train, or go on, or only tell what a finished run came to. Needs a connected Ray. Raises `VitokError`."""
    with locks.alone(asked.folder, "run"):
        done = asked.tracker.finished([asked.digest])
        if asked.digest in done and mirror.exists(asked.weights):
            say.line("finished already; nothing to run")
            return _summary(asked, done[asked.digest].info.run_id, dict(done[asked.digest].data.metrics))
        return _train(asked, offered, say)


def _train(asked: Single, offered: dict[str, float], say: Progress) -> dict[str, Any]:
    import ray

    from vitok.orchestration.trial import finish
    from vitok.train import launch

    began, recipe, tracker = time.perf_counter(), asked.recipe, asked.tracker
    enough(asked.corpora, asked.resources)
    need = asked.resources.need(recipe)
    elsewhere = preflight.in_cluster() and need["GPU"] > 0  # this process may well be on a node without one
    alone = asked.resources.workers == 1 and not elsewhere  # in this process, which takes no CPU from the cluster
    preflight.require({"GPU": need["GPU"]} if alone else need, offered)
    from vitok.data.loading.blocks import decode_on

    decode_on(asked.resources.decode)
    if not alone:
        preflight.must_fit(asked.resources)
    if asked.start:
        atomic.copied(asked.start.weights, asked.folder / "start.safetensors")
    source, measured, networks = _source(asked, offered, say)
    resources = asked.resources.model_copy(update={"metrics": measured})
    warn_rejected(frozenset(map(str, source.rejected)), say)
    described = tags(asked.scale, asked.corpora, asked.changes) | {STUDY: STUDY_NAME, FOLDER: mirror.told(asked.folder)}
    params = describe(recipe, classes(asked.corpora)) | flat(recipe.model_dump(mode="json"))
    run_id = tracker.child(None, asked.digest, asked.label, described, params)
    recorder = start_recorder(tracker, asked.storage, STUDY_NAME)
    sink = RecorderSink(recorder, run_id)
    job = launch.Job(
        recipe,
        resources,
        source,
        networks,
        mirror.told(asked.folder),
        mirror.told(asked.storage / STATISTICS),
        sink,
        mirror.identity(asked.storage),
    )
    with Panel(say).following(recorder, run_id, asked.label, recipe):
        try:
            outcome = launch.run(job, elsewhere)
        except VitokError as error:
            ray.get(recorder.fail.remote(run_id, str(error)))
            raise
    warn_rejected(frozenset(map(str, outcome.rejected)), say)
    values = finish(outcome, recipe, asked.folder, recorder, run_id, began)
    return _summary(asked, run_id, values)


def _source(asked: Single, offered: dict[str, float], say: Progress) -> tuple[Any, tuple[str, ...], dict[str, Any]]:
    """(what is trained on, the metrics, the weights of the networks)"""
    from vitok.data.loading.loader import prepare
    from vitok.orchestration import generator_inputs

    recipe = asked.recipe
    if isinstance(recipe, Generation):
        assert asked.start is not None
        found = generator_inputs.measurable(asked.resources, asked.changes, say)
        (one,) = generator_inputs.ready([(recipe, asked.start.weights)], asked.corpora, asked.storage, found, offered, say, asked.latents)
        return one.source, tuple(metric.name for metric in found.metrics), found.payloads
    assert isinstance(recipe, Recipe)
    training, held_out = asked.corpora.counts
    say.line(f"laying out {asked.corpora.uri}: {training} samples to train on, {held_out} held out")
    source = prepare(asked.corpora, recipe.data, recipe.tokenizer.size, recipe.tokenizer.frames)
    return source, *looked_through([recipe], asked.resources, asked.changes, say)


def _summary(asked: Single, run_id: str, values: dict[str, float]) -> dict[str, Any]:
    from vitok.metrics.registry import catalogued

    values = {key.removeprefix("final/"): value for key, value in values.items()}
    return {
        "run": run_id, "name": asked.label, "folder": mirror.told(asked.folder), "weights": mirror.told(asked.weights),
        "steps": asked.recipe.steps, **{name: values[name] for name in catalogued(values)}, "images": int(values["images"]),
    }  # fmt: skip
