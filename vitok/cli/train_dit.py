"""`vitok train dit`: one generator, outside of a study."""

from typing import Annotated

import tyro

from vitok.cli.train_options import Changes, apply_changes, check_name, given_changes, run
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
    from vitok.config import Generation, check_resources, variants
    from vitok.data.corpora.corpus import open_corpora
    from vitok.metrics.registry import find_metrics_of_kind
    from vitok.orchestration import finished_runs, generator_inputs, single_run
    from vitok.orchestration.request import choose
    from vitok.orchestration.session import Session
    from vitok.study import presets

    check_name(name)
    tower = variants.dit(dit) if dit else None
    known = {
        "laptop": presets.laptop_generation({}), "single-gpu": presets.single_gpu_generation({}), "paper": presets.paper_generation({})
    }  # fmt: skip
    session = Session(storage)
    choice = choose(known, scale, session.offered)
    start = finished_runs.find_tokenizer(tokenizer, session.tracker(single_run.EXPERIMENT), "--tokenizer")
    base, resources = known[choice.scale].base, known[choice.scale].resources
    own = {"tokenizer": start.recipe, "seed": seed, "start": finished_runs.read_tokenizer(start.weights, start.recipe).weights}
    base = base.model_copy(update=own | ({"dit": tower} if tower else {}))
    given = given_changes(changes, steps, workers)
    if fixed := [key for key in given if key.startswith("tokenizer.")]:
        raise UsageError(f"--set {fixed[0]}: the tokenizer is trained already")
    recipe, resources = apply_changes(base, resources, given)
    check_resources(recipe, resources)
    find_metrics_of_kind(resources.metrics, "g")
    assert isinstance(recipe, Generation)
    corpora = open_corpora(corpus)
    generator_inputs.check_labels(corpora, [recipe])
    run(single_run.SingleRun(recipe, resources, choice.scale, corpora, given, name, start, latents), choice, session, as_json)
