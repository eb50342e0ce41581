"""Where a run begins from: another run's weights, named by its MLflow run or by the path where they lie."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from vitok.config import Generation, Recipe, recipe_of
from vitok.config.overrides import describe, flat
from vitok.data.latents.encode import Encoder
from vitok.errors import UsageError
from vitok.evaluation.generator import WEIGHTS, Generator
from vitok.evaluation.trained import Trained
from vitok.models.checksum import digest
from vitok.storage import mirror
from vitok.study.grid import label
from vitok.tracking.client import TOKENIZER, Tracker
from vitok.tracking.tags import FOLDER


@dataclass(frozen=True)
class Start:
    weights: Path
    recipe: Recipe


def find(name: str, tracker: Tracker, option: str = "--init") -> Start:
    """The weights of a finished run: its id in MLflow, its folder, or the file. Raises `UsageError`, which names the `option`."""
    path = located(name, tracker, option)
    folder = path.parent if path.suffix == ".safetensors" else path
    weights = path if path.suffix == ".safetensors" else folder / TOKENIZER
    _must_be_there(weights, name, option)
    recipe = _recipe(folder, name, option)
    if not isinstance(recipe, Recipe):
        raise UsageError(f"{option} {name}: this is a generator, a tokenizer is meant")
    return Start(weights.absolute(), recipe)


def find_generator(name: str, tracker: Tracker, option: str) -> Generator:
    """A finished generator, likewise. Raises `UsageError`."""
    folder = located(name, tracker, option)
    mirror.fetch(folder)
    recipe = _recipe(folder, name, option) if (folder / TOKENIZER).is_file() else None
    if isinstance(recipe, Recipe):
        raise UsageError(f"{option} {name}: this is a tokenizer, a generator is meant (`vitok train dit --tokenizer {name}`)")
    _must_be_there(folder / WEIGHTS, name, option)
    found = _recipe(folder, name, option)
    assert isinstance(found, Generation)
    return Generator.read(label(found), found, folder.absolute())


def is_generator(name: str, tracker: Tracker, option: str) -> bool:
    """Whether a run's folder holds a generator."""
    return mirror.exists(located(name, tracker, option) / WEIGHTS)


def located(name: str, tracker: Tracker, option: str) -> Path:
    """The folder of a run that is named by its id in MLflow or by its place; a file of weights as it is."""
    path = mirror.here(name) if "://" in name else Path(name).expanduser()
    return mirror.here(_folder(name, tracker, option)) if re.fullmatch(r"[0-9a-f]{32}", name) and not path.exists() else path


def read_tokenizer(weights: Path, recipe: Recipe) -> Encoder:
    """What encodes with these weights. Raises `UsageError` for a file that is damaged, or of another tokenizer."""
    subject = Trained.read(label(recipe), recipe, weights)
    return Encoder(recipe, digest(subject.state), subject.state)


def _must_be_there(weights: Path, name: str, option: str) -> None:
    if not mirror.fetch(weights).is_file():
        there = weights.parent.exists()
        hint = "the run is not finished, or elsewhere" if there else "give the id of a run in MLflow, or the folder of a finished run"
        raise UsageError(f"{option} {name}: there is no {weights}; {hint}")


def _recipe(folder: Path, name: str, option: str) -> Recipe | Generation:
    try:
        return recipe_of(json.loads(mirror.fetch(folder / "recipe.json").read_text()))
    except (OSError, ValueError) as error:  # pydantic's errors are of the second kind
        reason = describe(error) if isinstance(error, ValidationError) else error
        raise UsageError(f"{option} {name}: the recipe beside the weights cannot be read: {reason}") from None


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
