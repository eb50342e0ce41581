"""The inputs of generators: their tokenizers' weights, latents, and the statistics that their samples are compared with."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitok.config import Generation, Latents, Recipe, Resources, Training
from vitok.data.corpora.corpus import Corpora
from vitok.data.latents import build, dataset
from vitok.data.latents.encode import LatentEncoder
from vitok.data.latents.loader import LatentSource
from vitok.data.loading.loader import open_reader
from vitok.errors import UsageError
from vitok.evaluation import pool
from vitok.evaluation.available import Available, available
from vitok.evaluation.reference import measure_reference
from vitok.evaluation.statistics import Statistics
from vitok.networks.sources import Payload
from vitok.networks.weights import resolve_weights
from vitok.orchestration.finished_runs import read_tokenizer
from vitok.orchestration.session import Session
from vitok.storage import locks, mirror
from vitok.train.tasks.build import reference_of

BATCH = 64  # views that an actor looks at at once


@dataclass(frozen=True)
class Prepared:
    """A generator that can begin."""

    recipe: Generation  # with the hash of the tokenizer's weights
    source: LatentSource
    tokenizer: Path  # the file of its weights


def check_labels(corpora: Corpora, recipes: Iterable[Training]) -> None:
    """Raise `UsageError` for a conditional generator on a corpus without labels."""
    if any(isinstance(recipe, Generation) and recipe.conditional for recipe in recipes):
        dataset.require_labels(corpora)


def measurable(session: Session, resources: Resources, changes: Mapping[str, str], letter: str = "g") -> Available:
    """Return the metrics that a run measures, with the weights that they look through; `letter` is "r" for a tokenizer's run. Raises
    `VitokError` for what cannot be had."""
    found = available(resources.metrics, "resources.metrics" in changes, letter)
    for note in found.notes:
        session.say(f"warning: {note}")
    return found


def loss_networks(recipes: Iterable[Recipe], found: Available) -> dict[str, Payload]:
    """Return the weights of the networks of losses that no metric looks through. Raises `VitokError` for what cannot be had."""
    names = {f"lpips-{recipe.loss.lpips_network}" for recipe in recipes if recipe.loss.lpips} - set(found.payloads)
    return {name: resolve_weights(name)[0] for name in sorted(names)}


def prepare(
    session: Session, wanted: Sequence[tuple[Generation, Path]], corpora: Corpora, found: Available, given: str = ""
) -> list[Prepared]:
    """Prepare generators, each with the file of its tokenizer's weights: their latents, and the statistics of the reference that samples
    are compared with. What is there already is not made again. `given`: a folder of latents, which are taken if they are those that are
    wanted. Raises `VitokError`."""
    check_labels(corpora, (recipe for recipe, _ in wanted))
    encoders = {weights: read_tokenizer(weights, recipe.tokenizer) for recipe, weights in wanted}
    sets: dict[tuple[str, Latents], dataset.LatentSet] = {}
    for views, size, frames in {_views(recipe) for recipe, _ in wanted}:
        own = {encoders[weights].weights: encoders[weights] for recipe, weights in wanted if _views(recipe) == (views, size, frames)}
        if given:
            made = [_given(given, corpora, views, encoder) for encoder in own.values()]
        else:
            made = build_latents(session, corpora, views, size, frames, list(own.values()))
        sets |= {(one.weights, views): one for one in made}
        count = max(recipe.sampling.count for recipe, _ in wanted if _views(recipe) == (views, size, frames))
        statistics = session.storage.statistics
        with locks.queued(statistics, lambda: session.say("another process looks at a reference here: waiting for it")):
            keep_reference(session, made[0], corpora, found, count)
    prepared: list[Prepared] = []
    for recipe, file in wanted:
        sha256 = encoders[file].weights
        if recipe.conditional:
            dataset.require_labels(sets[sha256, recipe.latents])
        prepared.append(Prepared(recipe.model_copy(update={"start": sha256}), LatentSource(sets[sha256, recipe.latents]), file))
    return prepared


def _given(folder: str, corpora: Corpora, views: Latents, encoder: LatentEncoder) -> dataset.LatentSet:
    """Open a folder of latents. Raises `UsageError` for those of another tokenizer, corpus or views."""
    found = dataset.open_set(folder)
    dataset.require_tokenizer(found, encoder.weights)
    if found.fingerprint != corpora.fingerprint:
        raise UsageError(f"{folder} holds latents of {found.uri} ({found.fingerprint}), not of {corpora.uri} ({corpora.fingerprint})")
    if found.latents != views:
        differing = [f"{key} {value} there, {getattr(views, key)} here" for key, value in found.latents if value != getattr(views, key)]
        raise UsageError(f"{folder} holds other views: {'; '.join(differing)} (--set latents.KEY=VALUE)")
    return found


def build_latents(
    session: Session, corpora: Corpora, views: Latents, size: int, frames: int, encoders: list[LatentEncoder]
) -> list[dataset.LatentSet]:
    """Encode views of a corpus by several tokenizers in one pass, into the storage. The size is told before; sets that another process
    builds there are waited for. Raises `VitokError`."""
    folder = session.storage.latents
    with locks.queued(folder, lambda: session.say(f"another process builds latents in {folder}: waiting for it")):
        root, capacity = mirror.address_of(folder), session.capacity
        plans = build.plan_sets(corpora, views, size, frames, encoders, root)
        open_ones = [plan for plan in plans if not plan.finished]
        if open_ones:
            total, missing = (sum(getattr(plan, name) for plan in open_ones) for name in ("bytes", "missing"))
            there = f", of which {(total - missing) / 1e6:.1f} MB are there" if missing < total else ""
            session.say(
                f"latents of {corpora.uri} by {len(open_ones)} tokenizer(s): {open_ones[0].views} views, {open_ones[0].rows} rows, "
                f"{total / 1e6:.1f} MB in all{there}"
            )
            session.say(str(corpora))
        with session.console.counting("encoded views") as progress:
            return build.build(
                corpora, views, size, frames, encoders, root, capacity.processes, capacity.gpus_each, progress
            )  # fmt: skip


def keep_reference(session: Session, latents: dataset.LatentSet, corpora: Corpora, found: Available, count: int) -> None:
    """Compute the statistics that `count` samples are compared with, unless they are kept already: of the views that the latents are of."""
    reader_of_views = open_reader(corpora, "train", latents.latents.data(), latents.size, latents.frames)
    wanted = pool.EvaluationPass(
        reader_of_views, np.arange(reader_of_views.total), None, found.metrics, found.payloads, both=True, generated=False, outputs=0,
        references=0, batch=BATCH, actors=session.capacity.processes, gpus=session.capacity.gpus_each, threads=1,
    )  # fmt: skip
    measure_reference(wanted, count, reference_of(latents), Statistics(session.storage.statistics), None, session.console)


def _views(recipe: Generation) -> tuple[Latents, int, int]:
    cfg = recipe.tokenizer.tokenizer
    return recipe.latents, cfg.size, cfg.frames
