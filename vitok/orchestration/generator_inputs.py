"""What generators need before they train: their tokenizers' weights, latents, and the statistics that their samples are compared with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitok.config import Generation, Latents, Resources, Training
from vitok.console.progress import Progress
from vitok.data.corpora.corpus import Corpora
from vitok.data.latents import build as latent_build
from vitok.data.latents import dataset
from vitok.data.latents.encode import Encoder
from vitok.data.latents.loader import LatentSource
from vitok.data.loading.loader import reader
from vitok.errors import UsageError, VitokError
from vitok.evaluation import pool
from vitok.evaluation.available import Available, available
from vitok.evaluation.reference import looked_at
from vitok.evaluation.statistics import Statistics
from vitok.orchestration.finished_runs import read_tokenizer
from vitok.orchestration.sweep import STATISTICS
from vitok.storage import locks, mirror
from vitok.train.tasks.kinds import reference_of

LATENTS = "latents"  # the folder of cached ones, in the storage
BATCH = 64  # views that an actor looks at at once


@dataclass(frozen=True)
class Prepared:
    recipe: Generation  # with the hash of the tokenizer's weights
    source: LatentSource
    tokenizer: Path  # the file of its weights


def check_labels(corpora: Corpora, recipes: Iterable[Training]) -> None:
    """Raises `UsageError` for a conditional generator on a corpus without labels."""
    if any(isinstance(recipe, Generation) and recipe.conditional for recipe in recipes):
        dataset.require_labels(corpora)


def measurable(resources: Resources, changes: dict[str, str], say: Progress, letter: str = "g") -> Available:
    """The metrics that a run measures, and the weights that they look through; `letter` r: a tokenizer's run. Raises `VitokError` for
    what cannot be had."""
    found = available(resources.metrics, "resources.metrics" in changes, letter)
    for note in found.notes:
        say.line(f"warning: {note}")
    return found


def ready(
    asked: Sequence[tuple[Generation, Path]], corpora: Corpora, storage: Path, found: Available, offered: dict[str, float], say: Progress,
    given: str = "",
) -> list[Prepared]:  # fmt: skip
    """Latents of every recipe with its tokenizer's weights, and the statistics of the reference; what is there already is not made again.
    `given`: a folder of latents, which are taken if they are what is asked for. Needs a connected Ray. Raises `VitokError`."""
    check_labels(corpora, (recipe for recipe, _ in asked))
    encoders = {weights: read_tokenizer(weights, recipe.tokenizer) for recipe, weights in asked}
    sets: dict[tuple[str, Latents], dataset.LatentSet] = {}
    for views, size, frames in {_views(recipe) for recipe, _ in asked}:
        wanted = {encoders[weights].weights: encoders[weights] for recipe, weights in asked if _views(recipe) == (views, size, frames)}
        if given:
            made = [_given(given, corpora, views, encoder) for encoder in wanted.values()]
        else:
            made = build(corpora, views, size, frames, list(wanted.values()), storage / LATENTS, offered, say)
        sets |= {(one.weights, views): one for one in made}
        count = max(recipe.sampling.count for recipe, _ in asked if _views(recipe) == (views, size, frames))
        with locks.in_turn(storage / STATISTICS, lambda: say.line("another process looks at a reference here: waiting for it")):
            keep_reference(made[0], corpora, found, count, storage, offered, say)
    prepared: list[Prepared] = []
    for recipe, weights in asked:
        sha256 = encoders[weights].weights
        if recipe.conditional:
            dataset.require_labels(sets[sha256, recipe.latents])
        prepared.append(Prepared(recipe.model_copy(update={"start": sha256}), LatentSource(sets[sha256, recipe.latents]), weights))
    return prepared


def _given(folder: str, corpora: Corpora, views: Latents, encoder: Encoder) -> dataset.LatentSet:
    """Raises `UsageError` for latents of another tokenizer, corpus or views."""
    found = dataset.open_set(folder)
    dataset.expect(found, encoder.weights)
    if found.fingerprint != corpora.fingerprint:
        raise UsageError(f"{folder} holds latents of {found.uri} ({found.fingerprint}), not of {corpora.uri} ({corpora.fingerprint})")
    if found.latents != views:
        differing = [f"{key} {value} there, {getattr(views, key)} here" for key, value in found.latents if value != getattr(views, key)]
        raise UsageError(f"{folder} holds other views: {'; '.join(differing)} (--set latents.KEY=VALUE)")
    return found


def build(
    corpora: Corpora, views: Latents, size: int, frames: int, encoders: list[Encoder], folder: Path, offered: dict[str, float],
    say: Progress,
) -> list[dataset.LatentSet]:  # fmt: skip
    """All sets in one pass over the corpus. Their size is told before. What another process builds there is waited for."""
    with locks.in_turn(folder, lambda: say.line(f"another process builds latents in {folder}: waiting for it")):
        return _build(corpora, views, size, frames, encoders, mirror.told(folder), offered, say)


def _build(
    corpora: Corpora, views: Latents, size: int, frames: int, encoders: list[Encoder], root: str, offered: dict[str, float],
    say: Progress,
) -> list[dataset.LatentSet]:  # fmt: skip
    actors, gpus = workers(offered)
    plans = latent_build.announce(corpora, views, size, frames, encoders, root)
    open_ones = [plan for plan in plans if not plan.finished]
    if open_ones:
        total, missing = (sum(getattr(plan, name) for plan in open_ones) for name in ("bytes", "missing"))
        there = f", of which {(total - missing) / 1e6:.1f} MB are there" if missing < total else ""
        say.line(
            f"latents of {corpora.uri} by {len(open_ones)} tokenizer(s): {open_ones[0].views} views, {open_ones[0].rows} rows, "
            f"{total / 1e6:.1f} MB in all{there}"
        )
    with say.counting("encoded views") as progress:
        return latent_build.build(corpora, views, size, frames, encoders, root, actors, gpus, progress)


def keep_reference(
    latent_set: dataset.LatentSet, corpora: Corpora, found: Available, count: int, storage: Path, offered: dict[str, float], say: Progress
) -> None:
    """See to it that the statistics are there that `count` samples are compared with: of the views that the latents are of."""
    actors, gpus = workers(offered)
    held = reader(corpora, "train", latent_set.latents.data(), latent_set.size, latent_set.frames)
    wanted = pool.Pass(
        held, np.arange(held.total), None, found.metrics, found.payloads, both=True, generated=False, outputs=0, references=0, batch=BATCH,
        actors=actors, gpus=gpus, threads=1,
    )  # fmt: skip
    looked_at(wanted, count, reference_of(latent_set), Statistics(storage / STATISTICS), None, say)


def workers(offered: dict[str, float]) -> tuple[int, int]:
    """(actors, GPUs of each): one on each GPU, or on each CPU where there is none."""
    gpus = int(offered.get("GPU", 0))
    count = gpus or int(offered.get("CPU", 0))
    if not count:
        raise VitokError("the cluster offers neither a GPU nor a CPU to encode with")
    return count, int(gpus > 0)


def _views(recipe: Generation) -> tuple[Latents, int, int]:
    cfg = recipe.tokenizer.tokenizer
    return recipe.latents, cfg.size, cfg.frames
