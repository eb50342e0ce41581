"""Finished runs: the weights and recipes that they left, found by the run's id in MLflow, its folder, or a file of weights."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from vitok.config import Generation, Recipe, parse_recipe
from vitok.config.overrides import describe_error, flatten
from vitok.data.latents.encode import LatentEncoder
from vitok.errors import UsageError
from vitok.evaluation.generator import Generator
from vitok.evaluation.trained import Trained
from vitok.models.checksum import weights_digest
from vitok.storage import mirror
from vitok.storage.layout import RunFolder
from vitok.study.grid import recipe_label
from vitok.tracking.client import Tracker
from vitok.tracking.tags import FOLDER


@dataclass(frozen=True)
class FinishedTokenizer:
    """A trained tokenizer, as its run has left it."""

    weights: Path
    recipe: Recipe


def find_tokenizer(name: str, tracker: Tracker, option: str = "--init") -> FinishedTokenizer:
    """Find a trained tokenizer by its run's id in MLflow, its folder, or the file of its weights. Raises `UsageError`, which names the
    `option`."""
    path = locate(name, tracker, option)
    is_file = path.suffix == ".safetensors"
    folder = RunFolder(path.parent if is_file else path)
    weights = path if is_file else folder.file(folder.TOKENIZER)
    _require(weights, name, option)
    folder.intact(weights.name)
    recipe = _recipe(folder, name, option)
    if not isinstance(recipe, Recipe):
        raise UsageError(f"{option} {name}: this is a generator, a tokenizer is meant")
    return FinishedTokenizer(weights.absolute(), recipe)


def find_generator(name: str, tracker: Tracker, option: str) -> Generator:
    """Find a trained generator by its run's id in MLflow or its folder. Raises `UsageError`, which names the `option`."""
    folder = RunFolder(locate(name, tracker, option))
    folder.fetch()
    recipe = _recipe(folder, name, option) if folder.file(folder.TOKENIZER).is_file() else None
    if isinstance(recipe, Recipe):
        raise UsageError(f"{option} {name}: this is a tokenizer, a generator is meant (`vitok train dit --tokenizer {name}`)")
    _require(folder.file(folder.DIT), name, option)
    for file in (folder.DIT, folder.GENERATOR):
        folder.intact(file)
    found = _recipe(folder, name, option)
    assert isinstance(found, Generation)
    return Generator.read(recipe_label(found), found, folder.path.absolute())


def is_generator(name: str, tracker: Tracker, option: str) -> bool:
    """Return whether a run's folder holds a generator."""
    return RunFolder(locate(name, tracker, option)).has(RunFolder.DIT)


def locate(name: str, tracker: Tracker, option: str) -> Path:
    """Return the folder of a run that is named by its id in MLflow or by its place; a file of weights as it is."""
    path = mirror.local_path(name) if "://" in name else Path(name).expanduser()
    return mirror.local_path(_folder(name, tracker, option)) if re.fullmatch(r"[0-9a-f]{32}", name) and not path.exists() else path


def read_tokenizer(weights: Path, recipe: Recipe) -> LatentEncoder:
    """Read the weights of a tokenizer, to encode with. Raises `UsageError` for a file that is damaged, or of another tokenizer."""
    subject = Trained.read(recipe_label(recipe), recipe, weights)
    return LatentEncoder(recipe, weights_digest(subject.state), subject.state)


def _require(weights: Path, name: str, option: str) -> None:
    """Raise `UsageError` for weights that are not there, with what to give instead."""
    if not mirror.fetch(weights).is_file():
        there = weights.parent.exists()
        hint = "the run is not finished, or elsewhere" if there else "give the id of a run in MLflow, or the folder of a finished run"
        raise UsageError(f"{option} {name}: there is no {weights}; {hint}")


def _recipe(folder: RunFolder, name: str, option: str) -> Recipe | Generation:
    try:
        return parse_recipe(json.loads(folder.intact(folder.RECIPE).read_text()))
    except (OSError, ValueError) as error:  # pydantic's errors are of the second kind
        reason = describe_error(error) if isinstance(error, ValidationError) else error
        raise UsageError(f"{option} {name}: the recipe beside the weights cannot be read: {reason}") from None


def require_same_shape(start: FinishedTokenizer, recipe: Recipe) -> None:
    """Raise `UsageError` that names every setting in which a trained tokenizer and a recipe's differ."""
    theirs, ours = (flatten(r.tokenizer.model_dump()) for r in (start.recipe, recipe))
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
