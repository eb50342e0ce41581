"""What a study's cells are held against: codecs at the bits of their latents, and pretrained autoencoders, on the same views."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vitok.config import Recipe
from vitok.console.progress import Progress
from vitok.errors import VitokError
from vitok.evaluation.baselines.autoencoders import AUTOENCODERS, Baseline
from vitok.evaluation.baselines.codecs import Codec
from vitok.tracking.tags import BESIDE, LACKING

if TYPE_CHECKING:
    from vitok.orchestration.sweep import Sweep

BITS = 16  # of a float of the latent
BATCH = 32  # views at once


def open_ones(sweep: "Sweep") -> bool:
    """Whether a baseline is not measured yet. One that could not be had is tried again by every run."""
    parent = sweep.tracker.find_sweep(sweep.key)
    done = len(parent.data.tags.get(BESIDE, "").splitlines()) if parent else 0
    return done < len(list(_wanted(sweep)))


def measure(sweep: "Sweep", offered: dict[str, float], say: Progress) -> None:
    """Every baseline of the scale, beside each kind of views and each size of latent that its cells have. What is measured already is
    not measured again. One that cannot be had here is told, with the way to get it, and is missing in the report, which says so."""
    from vitok.evaluation import standalone

    wanted = list(_wanted(sweep))
    if not wanted:
        return
    done: list[str] = []
    lacking: list[str] = []
    for name, recipe in wanted:
        try:
            asked = _asked(sweep, name, recipe)
            say.line(f"{asked.label} beside {sweep.study.name}")
            standalone.run(asked, offered, say)
            done.append(asked.digest)
        except VitokError as error:
            lacking.append(f"{name} is not beside them: {' '.join(str(error).split())}")
            say.line(f"warning: {lacking[-1]}")
    sweep.tracker.tag_sweep(sweep.key, {BESIDE: "\n".join(done), LACKING: "\n".join(lacking)})


def _wanted(sweep: "Sweep") -> Iterator[tuple[str, Recipe]]:
    """(a baseline, a recipe whose views it is measured on and whose bits a codec gets)"""
    seen: set[str] = set()
    for cell in sweep.cells:
        if not isinstance(cell.recipe, Recipe):
            continue
        cfg = cell.recipe.tokenizer
        for name in sweep.scale.baselines:
            key = f"{name} {cfg.size} {cfg.frames} {cell.recipe.data.model_dump_json()} {0 if name in AUTOENCODERS else cfg.floats}"
            if key not in seen:
                seen.add(key)
                yield name, cell.recipe


def _asked(sweep: "Sweep", name: str, recipe: Recipe) -> Any:
    from vitok.evaluation.available import available
    from vitok.evaluation.standalone import STUDY_NAME, Asked
    from vitok.tracking.client import Tracker

    cfg = recipe.tokenizer
    resources = sweep.scale.of(recipe)
    found = available(resources.metrics, "resources.metrics" in sweep.changes, "r")
    data = recipe.data.model_copy(update={"pool": 0})
    if name in AUTOENCODERS:
        subject = Baseline(name)
        identity = subject.digest()
    else:
        subject = Codec(name, BITS * cfg.floats // cfg.frames)  # pyright: ignore[reportArgumentType]
        identity = subject.name
    tracker = Tracker(sweep.tracker.uri, sweep.storage, STUDY_NAME)
    return Asked(
        subject, subject.name, identity, {}, None, sweep.corpora, "validation", data, cfg.size, cfg.frames, 0, found, None, None, BATCH, 0,
        None, sweep.storage, tracker,
    )  # fmt: skip
