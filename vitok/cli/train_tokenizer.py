"""`vitok train tokenizer`: one run, outside of a study."""

import json
from typing import Annotated, Any, Literal

import tyro

from vitok.errors import UsageError

Changes = Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(name="set", metavar="KEY=VALUE")]


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
    from vitok.config import Recipe, check
    from vitok.console.progress import Progress
    from vitok.metrics.registry import of_letter
    from vitok.orchestration import finished_runs as starts
    from vitok.orchestration import preflight, request, session, single_run
    from vitok.study import presets
    from vitok.tracking.client import Tracker, address

    if stage == 2 and not init:
        raise UsageError("--stage 2 tunes the decoder of a stage 1 run: name it with --init (an MLflow run id, or its folder)")
    check_name(name)
    known = {"laptop": presets.laptop({}), "single-gpu": presets.single_gpu({}), "paper": presets.paper({})}
    kept, say = session.storage(storage), Progress()
    offered = session.connect(0, kept) if preflight.in_cluster() else None
    choice = request.choose(known, scale, offered)
    tracker = Tracker(address(kept), kept, single_run.STUDY_NAME)
    start = starts.find(init, tracker) if init else None
    base, resources = known[choice.scale].base, known[choice.scale].resources
    assert isinstance(base, Recipe)
    base = base.model_copy(update={"tokenizer": _tokenizer(variant, channels, size, frames, start.recipe if start else base), "seed": seed})
    if start:
        from safetensors.torch import load_file

        from vitok.models.checksum import digest

        sha256 = digest(load_file(start.weights))
        base = presets.stage2(base, choice.scale, sha256) if stage == 2 else base.model_copy(update={"start": sha256})
    given = asked_for(changes, steps, workers)
    recipe, resources = changed(base, resources, given)
    check(recipe, resources)
    of_letter(resources.metrics, "r")
    if start:
        starts.same_shape(start, recipe)
    from vitok.data.corpora.corpus import open_corpora

    asked = single_run.Single(recipe, resources, choice.scale, open_corpora(corpus), given, kept, tracker, name, start)
    say.line(f"scale {choice.scale}: {choice.reason}")
    say.line(asked.about())
    with session.results_apart():
        found = single_run.run(asked, offered if offered is not None else session.connect(0, kept), say)
    tell(found, as_json)


def _tokenizer(variant: str | None, channels: int | None, size: int | None, frames: int | None, base: Any) -> Any:
    """The tokenizer asked for; what is not asked for is the base's."""
    from vitok.config import variants
    from vitok.config.overrides import override

    config = base.tokenizer
    given = {"channels": channels, "size": size, "frames": frames}
    shape = {key: getattr(config, key) if value is None else value for key, value in given.items()}
    return override(config, shape) if variant is None else variants.tokenizer(variant, **shape)


def check_name(name: str) -> None:
    """Raises `UsageError`."""
    if "/" in name or name.startswith("."):
        raise UsageError(f"--name {name!r}: the name of a folder, without a slash or a dot at the beginning")


def asked_for(changes: tuple[str, ...], steps: int | None, workers: int | None) -> dict[str, Any]:
    """Every changed key of the recipe, and with `resources.` before it of the resources."""
    from vitok.cli.study_file import parsed

    return dict(parsed(changes)) | ({"steps": str(steps)} if steps else {}) | ({"resources.workers": str(workers)} if workers else {})


def changed(base: Any, resources: Any, given: dict[str, Any]) -> tuple[Any, Any]:
    """The recipe and the resources with what was asked for."""
    from vitok.config.overrides import override

    own = {key.removeprefix("resources."): value for key, value in given.items() if key.startswith("resources.")}
    return override(base, {key: value for key, value in given.items() if not key.startswith("resources.")}), override(resources, own)


def tell(found: dict[str, Any], as_json: bool) -> None:
    """A run's result."""
    if as_json:
        print(json.dumps(found, indent=2))
        return
    width = max(map(len, found))
    print("\n".join(f"{key:<{width}} {f'{value:.4f}' if isinstance(value, float) else value}" for key, value in found.items()))
