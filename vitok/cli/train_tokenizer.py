"""`vitok train tokenizer`: one run, outside of a study."""

from typing import Annotated, Any, Literal

import tyro

from vitok.cli.train_options import Changes, apply_changes, check_name, given_changes, run
from vitok.errors import UsageError


def tokenizer(
    *, variant: str | None = None, channels: int | None = None, size: int | None = None, frames: int | None = None,
    corpus: str = "sample-photos", stage: Literal[1, 2] = 1, init: str = "", workers: int | None = None, scale: str | None = None,
    steps: int | None = None, seed: int = 0, name: str = "", storage: str | None = None, changes: Changes = (),
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:  # fmt: skip
    """Train one tokenizer. Stop it at any moment; the same command goes on from its last checkpoint.

    vitok train tokenizer --variant S-B/16 --channels 16 --size 256 --corpus path/to/photos --workers 8
    vitok train tokenizer --stage 2 --init RUN              the second stage of a run, by its MLflow id or its folder
    vitok train tokenizer --set optimizer.lr=2e-4 --set resources.zero=2 --set resources.recompute=0.5

    Args:
        variant: ENCODER-DECODER/PATCH or ENCODER-DECODER/STRIDExPATCH, as in S-B/16; behind it +L64 for 64 latent tokens, +M32 for a code
            that is masked down to 32 (A.4). Default: the scale's; of --init, that of its run.
        channels: c, latent channels a token.
        size: Side of the square input, pixels.
        frames: Frames of the input; an image is a video of one.
        corpus: A corpus, as studies take it.
        stage: 1: the whole auto-encoder. 2: the decoder behind the frozen encoder of --init, with a GAN.
        init: Weights to begin from: the id of a finished run in MLflow, its folder, or a .safetensors file with recipe.json beside it.
        workers: Processes that share the batch, each with a GPU where the scale has one.
        scale: laptop, single-gpu or paper: what the rest of the recipe starts from. Default: what this machine or cluster can carry.
        steps: Training steps. Default: the scale's.
        seed: Of weights, noise and the order of samples.
        name: Of the run's folder in the storage. Default: the hash of recipe and corpus.
        storage: Where everything is kept. Default: VITOK_STORAGE, or ./runs.
        changes: Change a number of the recipe (loss.kl=1e-4, gan.weight=0.1) or of the resources (resources.zero=1).
        as_json: Print the result as JSON for programs.
    """
    from vitok.config import Recipe, check_resources
    from vitok.data.corpora.corpus import open_corpora
    from vitok.metrics.registry import find_metrics_of_kind, require_size
    from vitok.orchestration import finished_runs, single_run
    from vitok.orchestration.request import choose
    from vitok.orchestration.session import Session
    from vitok.study import presets

    if stage == 2 and not init:
        raise UsageError("--stage 2 tunes the decoder of a stage 1 run: name it with --init (an MLflow run id, or its folder)")
    check_name(name)
    known = {"laptop": presets.laptop({}), "single-gpu": presets.single_gpu({}), "paper": presets.paper({})}
    session = Session(storage)
    choice = choose(known, scale, session.offered)
    tracker = session.tracker(single_run.EXPERIMENT)
    start = finished_runs.find_tokenizer(init, tracker) if init else None
    base, resources = known[choice.scale].base, known[choice.scale].resources
    assert isinstance(base, Recipe)
    base = base.model_copy(update={"tokenizer": _tokenizer(variant, channels, size, frames, start.recipe if start else base), "seed": seed})
    if start:
        from safetensors.torch import load_file

        from vitok.models.checksum import weights_digest

        sha256 = weights_digest(load_file(start.weights))
        base = presets.stage2_recipe(base, choice.scale, sha256) if stage == 2 else base.model_copy(update={"start": sha256})
    given = given_changes(changes, steps, workers)
    recipe, resources = apply_changes(base, resources, given)
    check_resources(recipe, resources)
    find_metrics_of_kind(resources.metrics, "r")
    require_size(resources.metrics, recipe.tokenizer.size)
    if start:
        finished_runs.require_same_shape(start, recipe)
    run(single_run.SingleRun(recipe, resources, choice.scale, open_corpora(corpus), given, name, start), choice, session, as_json)


def _tokenizer(variant: str | None, channels: int | None, size: int | None, frames: int | None, base: Any) -> Any:
    """Return the tokenizer that is asked for; what is not asked for is the base's."""
    from vitok.config import variants
    from vitok.config.overrides import override

    config = base.tokenizer
    given = {"channels": channels, "size": size, "frames": frames}
    shape = {key: getattr(config, key) if value is None else value for key, value in given.items()}
    return override(config, shape) if variant is None else variants.tokenizer(variant, **shape)
