"""`vitok train dit`: one generator, outside of a study."""

from typing import Annotated

import tyro

from vitok.cli.train import Changes, asked_for, changed, check_name, tell
from vitok.errors import UsageError


def dit(
    *, tokenizer: str, dit: str | None = None, corpus: str = "sample-photos", latents: str = "", workers: int | None = None,
    scale: str | None = None, steps: int | None = None, seed: int = 0, name: str = "", storage: str | None = None, changes: Changes = (),
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:  # fmt: skip
    """Train a class-conditional DiT on the latents of a tokenizer. Stop it at any moment; the same command goes on.

    vitok train dit --tokenizer RUN --dit DiT-L --corpus imagenet:path --workers 8
    vitok train dit --tokenizer RUN --set diffusion.objective=flow --set sampling.cfg=2
    vitok sample RUN --cfg 4 --out grid.png                 what has been learnt

    The latents are encoded once, into the storage, and kept for the next run on the same tokenizer and corpus.

    Args:
        tokenizer: A finished tokenizer: its id in MLflow, its folder, or a .safetensors file with recipe.json beside it.
        dit: DiT-S, DiT-B, DiT-L or DiT-XL (DiT-N, DiT-T and DiT-M for CPUs). Default: the scale's.
        corpus: A corpus with classes, as studies take it; with --set conditional=false any.
        latents: A folder of latents (`vitok latents build`) instead of those in the storage.
        workers: Processes that share the batch, each with a GPU where the scale has one.
        scale: laptop, single-gpu or paper: what the rest of the recipe starts from. Default: what this machine or cluster can carry.
        steps: Training steps. Default: the scale's.
        seed: Of weights, noise and the order of samples.
        name: Of the run's folder in the storage. Default: the hash of recipe and corpus.
        storage: Where everything is kept. Default: VITOK_STORAGE, or ./runs.
        changes: Change a number of the recipe (latents.crops=16, sampling.count=1000) or of the resources (resources.zero=1).
        as_json: Print the result as JSON for programs.
    """
    from vitok import variants
    from vitok.config import Generation, check
    from vitok.data.corpora import open_corpora
    from vitok.metrics.names import of_letter
    from vitok.study import generation, place, scales, single
    from vitok.study import start as starts
    from vitok.study.progress import Progress
    from vitok.study.tracking import Tracker, address

    check_name(name)
    tower = variants.dit(dit) if dit else None
    known = {"laptop": scales.laptop_generation({}), "single-gpu": scales.single_gpu_generation({}), "paper": scales.paper_generation({})}
    kept, say = place.storage(storage), Progress()
    offered = place.connect(0, kept) if place.in_cluster() else None
    choice = place.choose(known, scale, offered)
    tracker = Tracker(address(kept), kept, single.STUDY_NAME)
    start = starts.find(tokenizer, tracker, "--tokenizer")
    base, resources = known[choice.scale].base, known[choice.scale].resources
    own = {"tokenizer": start.recipe, "seed": seed, "start": starts.read_tokenizer(start.weights, start.recipe).weights}
    base = base.model_copy(update=own | ({"dit": tower} if tower else {}))
    given = asked_for(changes, steps, workers)
    if fixed := [key for key in given if key.startswith("tokenizer.")]:
        raise UsageError(f"--set {fixed[0]}: the tokenizer is trained already")
    recipe, resources = changed(base, resources, given)
    check(recipe, resources)
    of_letter(resources.metrics, "g")
    assert isinstance(recipe, Generation)
    corpora = open_corpora(corpus)
    generation.check_labels(corpora, [recipe])
    asked = single.Single(recipe, resources, choice.scale, corpora, given, kept, tracker, name, start, latents)
    say.line(f"scale {choice.scale}: {choice.reason}")
    say.line(asked.about())
    with place.core_silent():
        offered = offered if offered is not None else place.connect(0, kept)
    with place.results_apart():
        found = single.run(asked, offered, say)
    tell(found, as_json)
