"""What runs in a trial's process. It imports neither MLflow nor Tune: they are seconds of every first trial's start."""

import gc
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from vitok.config import Generation, Resources, Training, recipe_of
from vitok.errors import VitokError
from vitok.storage import mirror
from vitok.tracking.recorder import RecorderSink
from vitok.tracking.tags import PROTOCOL

if TYPE_CHECKING:
    from vitok.train.worker import Outcome


def trial(
    config: dict[str, Any],
    *,
    sources: dict[str, Any],
    weights: dict[str, Any],
    recorder: Any,
    resources: Resources,
    statistics: str,
    identity: str = "",
) -> dict[str, Any]:
    """One cell, in a process of Tune's. What it returns is the trial's result."""
    began, spec = time.perf_counter(), config["cell"]
    gc.disable()  # importing makes many objects and no garbage: the collector is a fifth of torch's import
    from vitok.train import launch

    gc.enable()
    recipe, folder = recipe_of(spec["recipe"]), mirror.here(spec["folder"])
    sink = RecorderSink(recorder, spec["run_id"])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        outcome = launch.run(launch.Job(recipe, resources, sources[spec["samples"]], weights, spec["folder"], statistics, sink, identity))
    except VitokError as error:  # it would fail again: no retry
        ray.get(recorder.fail.remote(spec["run_id"], str(error)))
        return {"error": str(error)}
    values = finish(outcome, recipe, folder, recorder, spec["run_id"], began)
    mirror.drop(folder / "checkpoints")  # the cell is finished: its weights are there
    return {**values, "rejected": sorted(map(str, outcome.rejected))}


def finish(outcome: "Outcome", recipe: Training, folder: Path, recorder: Any, run_id: str, began: float) -> dict[str, float]:
    """Hand all that a finished run leaves to the recorder. Its final values."""
    evaluation = outcome.evaluation
    values = {
        **evaluation.metrics, "images": float(evaluation.images), "outside": evaluation.outside, "rejected": float(len(outcome.rejected)),
        **{f"{name}_seconds": value for name, value in outcome.seconds.items()}, "steps_this_attempt": float(outcome.steps),
        "trial_seconds": time.perf_counter() - began,
    } | ({} if outcome.device_hours is None else {"device_hours": outcome.device_hours})  # fmt: skip
    artifacts = _pictures(outcome, recipe)
    for name, content in artifacts.items():
        (folder / name).write_bytes(content)  # for who looks there
        mirror.keep(folder / name)
    if evaluation.per_image:
        artifacts["per_image.json"] = evaluation.each()
    artifacts |= {name: mirror.fetch(folder / name).read_bytes() for name in ("recipe.json", "deepspeed.json")}
    if outcome.rejected:
        artifacts["rejected.txt"] = "\n".join(sorted(map(str, outcome.rejected))).encode()
    tags = {f"{PROTOCOL}{name}": protocol.json() for name, protocol in evaluation.protocols.items()}
    ray.get(recorder.finish.remote(run_id, values, recipe.steps, artifacts, tags))
    return values


def _pictures(outcome: "Outcome", recipe: Training) -> dict[str, bytes]:
    evaluation = outcome.evaluation
    if not isinstance(recipe, Generation):
        from vitok.evaluation.pictures import side_by_side

        return {"reconstructions.png": side_by_side(evaluation.originals, evaluation.reconstructions)}
    from vitok.evaluation.generated import EACH
    from vitok.evaluation.pictures import moving, still

    samples = evaluation.reconstructions
    if samples.ndim == 4:
        return {"samples.png": still(samples, EACH)}
    return {"samples.png": still(samples[::EACH], 1), "samples.mp4": moving(samples, EACH, recipe.latents.fps, ".mp4")}
