"""A run, from its description to its record in MLflow: what a trial of a sweep and a run by itself do alike.

A trial's process imports neither MLflow nor Tune: they are seconds of every first trial's start.
"""

import gc
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ray

from vitok.config import Generation, Training
from vitok.errors import VitokError
from vitok.storage.layout import RunFolder
from vitok.tracking.recorder import RecorderSink
from vitok.tracking.tags import PROTOCOL

if TYPE_CHECKING:
    from vitok.train.launch import RunOutcome
    from vitok.train.run_spec import RunInputs, RunSpec


def run_trial(config: dict[str, str], *, runs: "Mapping[str, RunSpec]", inputs: "RunInputs", recorder: Any) -> dict[str, Any]:
    """Run one cell in a process of Tune's. Return the trial's result: final values, or "error"."""
    spec = runs[config["cell"]]
    try:
        values, rejected = execute(spec, inputs, recorder)
    except VitokError as error:  # it would fail again: no retry
        return {"error": str(error)}
    spec.folder.drop(RunFolder.CHECKPOINTS)  # the cell is finished: its weights are there
    return {**values, "rejected": sorted(rejected)}


def execute(spec: "RunSpec", inputs: "RunInputs", recorder: Any, elsewhere: bool = False) -> tuple[dict[str, float], frozenset[str]]:
    """Train, evaluate and record one run: in this process for one worker, in a group of Ray Train's for more, or where a lone worker must
    run `elsewhere`. Return the final values and the samples that were rejected. Raises `VitokError`, which the record has then, too."""
    began = time.perf_counter()
    gc.disable()  # importing makes many objects and no garbage: the collector is a fifth of torch's import
    from vitok.train import launch, worker_group

    gc.enable()
    sink = RecorderSink(recorder, spec.run_id)
    try:
        run = worker_group.run if spec.resources.workers > 1 or elsewhere else launch.run
        outcome = run(spec, inputs, sink)
    except VitokError as error:
        ray.get(recorder.fail.remote(spec.run_id, str(error)))
        raise
    return _record(spec, outcome, recorder, began), frozenset(map(str, outcome.rejected))


def _record(spec: "RunSpec", outcome: "RunOutcome", recorder: Any, began: float) -> dict[str, float]:
    """Hand all that a finished run leaves to the recorder. Return its final values."""
    evaluation, folder = outcome.evaluation, spec.folder
    values = {
        **evaluation.metrics, "images": float(evaluation.images), "outside": evaluation.outside, "rejected": float(len(outcome.rejected)),
        **{f"{name}_seconds": value for name, value in outcome.seconds.items()}, "steps_this_attempt": float(outcome.steps),
        "trial_seconds": time.perf_counter() - began,
    } | ({} if outcome.device_hours is None else {"device_hours": outcome.device_hours})  # fmt: skip
    artifacts = _pictures(outcome, spec.recipe)
    for name, content in artifacts.items():
        folder.write(name, content)  # for who looks there
    if evaluation.per_image:
        artifacts["per_image.json"] = evaluation.each()
    artifacts |= {name: folder.fetch(name).read_bytes() for name in (folder.RECIPE, folder.DEEPSPEED)}
    if outcome.rejected:
        artifacts["rejected.txt"] = "\n".join(sorted(map(str, outcome.rejected))).encode()
    tags = {f"{PROTOCOL}{name}": protocol.json() for name, protocol in evaluation.protocols.items()}
    ray.get(recorder.finish.remote(spec.run_id, values, spec.recipe.steps, artifacts, tags))
    return values


def _pictures(outcome: "RunOutcome", recipe: Training) -> dict[str, bytes]:
    """Draw what people look at: reconstructions beside their originals, or samples."""
    from vitok.evaluation.pictures import moving, side_by_side, still

    evaluation = outcome.evaluation
    if not isinstance(recipe, Generation):
        return {RunFolder.RECONSTRUCTIONS: side_by_side(evaluation.originals, evaluation.reconstructions)}
    from vitok.evaluation.generated import EACH

    samples = evaluation.reconstructions
    if samples.ndim == 4:
        return {RunFolder.SAMPLES: still(samples, EACH)}
    return {RunFolder.SAMPLES: still(samples[::EACH], 1), RunFolder.CLIPS: moving(samples, EACH, recipe.latents.fps, ".mp4")}
