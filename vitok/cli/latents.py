"""`vitok latents`: what generators are trained on, encoded once."""

import json
from typing import Annotated

import tyro


def build(
    *, tokenizer: str, corpus: str = "sample-photos", crops: int = 1, views: int = 0, smallest_crop: float = 0.35, flip: bool = True,
    fps: float = 8.0, storage: str | None = None, as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:  # fmt: skip
    """Encode the training split of a corpus, once: sharded Parquet of the latents' means and log-variances (fp16), and labels.

    vitok latents build --tokenizer RUN --corpus imagenet:path          the centre crop of every image, and its mirror image
    vitok latents build --tokenizer RUN --corpus sample-photos --crops 128

    Kept by the hashes of the tokenizer and the corpus: runs and studies find them there, or build them when they need them. Stop it
    at any moment; the same command goes on, and the result is the same.

    Args:
        tokenizer: A finished tokenizer: its id in MLflow, its folder, or a .safetensors file with recipe.json beside it.
        corpus: A corpus, as studies take it.
        crops: Views of each sample: 1 is the centre crop (ADM), more are fixed random crops.
        views: So many of those views at most, evenly spread over the samples. Default: all.
        smallest_crop: Of random crops: smallest side as a share of the short side.
        flip: Every view also mirrored.
        fps: Frames a second of a clip.
        storage: Where everything is kept. Default: VITOK_STORAGE, or ./runs.
        as_json: Print the manifest for programs.
    """
    from dataclasses import asdict

    from pydantic import ValidationError

    from vitok.config import Latents
    from vitok.config.overrides import describe_error
    from vitok.data.corpora.corpus import open_corpora
    from vitok.errors import UsageError
    from vitok.orchestration import finished_runs, generator_inputs, single_run
    from vitok.orchestration.session import Session, results_apart

    try:
        wanted = Latents(crops=crops, views=views, smallest_crop=smallest_crop, flip=flip, fps=fps)
    except ValidationError as error:
        raise UsageError(describe_error(error)) from None
    session = Session(storage)
    start = finished_runs.find_tokenizer(tokenizer, session.tracker(single_run.EXPERIMENT), "--tokenizer")
    corpora, cfg = open_corpora(corpus), start.recipe.tokenizer
    encoder = finished_runs.read_tokenizer(start.weights, start.recipe)
    with results_apart():
        (made,) = generator_inputs.build_latents(session, corpora, wanted, cfg.size, cfg.frames, [encoder])
    if as_json:
        shown = asdict(made) | {"latents": made.latents.model_dump(), "bytes": made.bytes, "rejected": [str(one) for one in made.rejected]}
        print(json.dumps(shown, indent=1))
        return
    print(f"{made.folder}: {made.rows} latents of {made.views} views, {made.bytes / 1e6:.1f} MB, {len(made.counts)} classes")
    print("mean " + " ".join(f"{value:.3g}" for value in made.mean))
    print("std  " + " ".join(f"{value:.3g}" for value in made.std))
