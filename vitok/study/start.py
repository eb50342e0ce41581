"""Where a run begins from: another run's weights, named by its MLflow run or by the path where they lie."""

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from vitok.config import Recipe
from vitok.errors import UsageError
from vitok.overrides import describe, flat
from vitok.study.tracking import FOLDER, Tracker

WEIGHTS = "tokenizer.safetensors"


@dataclass(frozen=True)
class Start:
    weights: Path
    recipe: Recipe


def find(name: str, tracker: Tracker, option: str = "--init") -> Start:
    """The weights of a finished run: its id in MLflow, its folder, or the file. Raises `UsageError`, which names the `option`."""
    path = Path(name).expanduser()
    if re.fullmatch(r"[0-9a-f]{32}", name) and not path.exists():
        path = Path(_folder(name, tracker, option))
    folder = path.parent if path.suffix == ".safetensors" else path
    weights = path if path.suffix == ".safetensors" else folder / WEIGHTS
    if not weights.is_file():
        hint = (
            "give the id of a run in MLflow, or the folder of a finished run"
            if not folder.exists()
            else "the run is not finished, or elsewhere"
        )
        raise UsageError(f"{option} {name}: there is no {weights}; {hint}")
    try:
        recipe = Recipe.model_validate_json((folder / "recipe.json").read_text())
    except (OSError, ValidationError) as error:
        reason = describe(error) if isinstance(error, ValidationError) else error
        raise UsageError(f"{option} {name}: the recipe beside the weights cannot be read: {reason}") from None
    return Start(weights.absolute(), recipe)


def same_shape(start: Start, recipe: Recipe) -> None:
    """Raises `UsageError` that names every setting in which two tokenizers differ."""
    theirs, ours = (flat(r.tokenizer.model_dump()) for r in (start.recipe, recipe))
    differing = [f"{key} {theirs[key]} there, {ours[key]} here" for key in ours if ours[key] != theirs[key]]
    if differing:
        raise UsageError(f"{start.weights} are of another tokenizer: {'; '.join(differing)}")


def _folder(run_id: str, tracker: Tracker, option: str) -> str:
    run = tracker.find_run(run_id)
    if run is None:
        raise UsageError(f"{option} {run_id}: MLflow at {tracker.address} has no such run")
    if run.info.status != "FINISHED":
        raise UsageError(f"{option} {run_id}: this run is {run.info.status}, not finished; run it to its end first")
    if FOLDER not in run.data.tags:
        raise UsageError(f"{option} {run_id}: this run keeps no weights (it is a sweep, or of another program); name one of its cells")
    return run.data.tags[FOLDER]
