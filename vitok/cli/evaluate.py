"""`vitok eval`: metrics of a tokenizer, a generator, a baseline or a codec."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from vitok.errors import UsageError

if TYPE_CHECKING:
    from vitok.config import Recipe
    from vitok.orchestration.evaluation_run import Target
    from vitok.orchestration.session import Session


def evaluate(
    checkpoint: tyro.conf.Positional[str | None] = None, /, *, corpus: str | None = None,
    part: Literal["train", "validation", "all"] | None = None, metrics: str = "", samples: int = 0, size: int | None = None,
    frames: int | None = None, crops: int | None = None, tokens: int | None = None, baseline: str = "", path: str = "",
    codec: Literal["", "jpeg", "webp", "avif"] = "", bits: int = 0, like: str = "", generated: str = "", reference: Path | None = None,
    export: Path | None = None, cfg: str = "", steps: int | None = None, batch: int = 32, actors: int = 0, storage: str | None = None,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:  # fmt: skip
    """Measure a tokenizer, a generator, a baseline, a codec, or samples of another program. The same command goes on where it was stopped.

    vitok eval RUN --corpus imagenet:path --metrics rfid,ris,psnr,ssim,lpips --crops 1
    vitok eval RUN --tokens 32                              of a nested tokenizer, from the first 32 tokens of its code alone
    vitok eval --baseline sd-vae --path folder --corpus imagenet:path --size 256
    vitok eval --codec jpeg --bits 65536 --corpus path/to/photos
    vitok eval --codec avif --like RUN                      at the bits of its latent, on its views
    vitok eval GENERATOR --cfg 1,1.5,2,4 --samples 50000    every scale on the same noise; samples are drawn, measured and not kept
    vitok eval --generated path/to/samples --corpus imagenet:path --part train --metrics gfid,gis --size 256
    vitok eval --generated path/to/samples --reference VIRTUAL_imagenet256.npz --metrics gfid --size 256

    Args:
        checkpoint: A finished run: its id in MLflow, its folder, or a tokenizer's .safetensors file with recipe.json beside it.
        corpus: Whose samples are reconstructed, or are the reference of generated ones. Default: sample-photos; a generator's own.
        part: The split of it. Default: validation; for a generator train.
        metrics: Names, a comma between them, with or without their r or g; `vitok doctor` lists them. Default: those of the paper,
            or, where the FID Inception is not at hand, the Fréchet distance on EfficientNet-Lite0 in place of FID.
        samples: Measure so many views, evenly spread. Default: all. Of a generator: draw so many. Default: its recipe's.
        size: Side, pixels. Default: the checkpoint's, else 256.
        frames: Frames of a clip. Default: the checkpoint's, else 1.
        crops: Views of each sample: 1 is ADM's centre crop, more are fixed random crops. Default: the checkpoint's, else 1.
        tokens: Of a nested tokenizer's code, how many tokens are decoded: 1 to all. Default: all.
        baseline: An autoencoder of Tables 2 and 3: sd-vae, sdxl-vae, flux-vae, cosmos-cv8x8x8, consistency-decoder.
        path: Where the baseline lies: a folder, or a repository of the Hugging Face hub. Default: its authors' repository.
        codec: An image codec, at the best quality whose file is within --bits.
        bits: Of an image (or a frame), with --codec.
        like: Another run, whose views (size, frames, crops) are taken, and of whose latent a codec gets the bits: 16 a float.
        generated: A corpus of generated samples, all of which are measured against the corpus.
        reference: An npz with mu and sigma (ADM's, clean-fid's, or of --export) instead of the corpus's own statistics.
        export: Write the statistics of the reference to this npz.
        cfg: Of a generator: guidance scales, a comma between them. Default: its recipe's.
        steps: Of a generator's sampler. Default: its recipe's.
        batch: Views that an actor takes at once.
        actors: Processes that measure. Default: one on each GPU, or on each CPU where there is none.
        storage: Where everything is kept. Default: VITOK_STORAGE, or ./runs.
        as_json: Print the result as JSON for programs.
    """
    chosen = [
        name
        for name, value in (("CHECKPOINT", checkpoint), ("--baseline", baseline), ("--codec", codec), ("--generated", generated))
        if value
    ]
    if len(chosen) != 1:
        raise UsageError(f"name one of a checkpoint, --baseline, --codec and --generated; {' and '.join(chosen) or 'none'} was given")
    if (bits and not codec) or (codec and not bits and not like):
        raise UsageError("--codec takes a number of bits, --bits 65536 or those of --like RUN")
    if path and not baseline:
        raise UsageError(f"--path {path}: it says where a --baseline lies")
    for name, value in (
        ("--batch", batch),
        ("--size", size),
        ("--frames", frames),
        ("--crops", crops),
        ("--tokens", tokens),
        ("--steps", steps),
    ):
        if value is not None and value < 1:
            raise UsageError(f"{name} {value}: it must be at least 1")
    if reference and not reference.is_file():
        raise UsageError(f"--reference {reference}: there is no such file")
    if samples < 0 or actors < 0 or bits < 0:
        raise UsageError(f"--samples {samples} --actors {actors} --bits {bits}: none may be below 0")
    from vitok.metrics.registry import find_metrics, find_metrics_of_kind

    find_metrics(metrics.split(",") if metrics else ())  # a wrong name is told before anything is opened
    from vitok.config import Data
    from vitok.data.corpora.corpus import open_corpora
    from vitok.evaluation.available import available
    from vitok.orchestration import evaluation_run, finished_runs
    from vitok.orchestration.evaluation_run import EvaluationRequest, Views
    from vitok.orchestration.session import Session, results_apart

    session = Session(storage)
    tracker = session.tracker("eval")
    drawn = checkpoint is not None and finished_runs.is_generator(checkpoint, tracker, "CHECKPOINT")
    if (cfg or steps) and not drawn:
        raise UsageError(f"--{'cfg' if cfg else 'steps'}: it says how a generator's samples are drawn; give a generator's run")
    if tokens and (drawn or not checkpoint):
        raise UsageError(f"--tokens {tokens}: it says how much of its code a nested tokenizer decodes; give a tokenizer's run")
    letter = "g" if generated or drawn else "r"
    wanted = find_metrics_of_kind(metrics.split(","), letter) if metrics else ()
    names = tuple(metric.name for metric in wanted)
    given = {"reference_file": reference and reference.absolute(), "export": export and export.absolute(), "actors": actors}
    if drawn:
        if size or frames or crops or like:
            raise UsageError("a generator is measured at its own size, on its own views: no --size, --frames, --crops or --like")
        options = GeneratorOptions(corpus, part or "train", names, samples, cfg, steps, batch)
        _evaluate_generator(checkpoint or "", options, given, session, as_json)
        return
    corpus, part = corpus or "sample-photos", part or "validation"
    recipe = finished_runs.find_tokenizer(like, tracker, "--like").recipe if like else None
    if codec and not bits and recipe:
        bits = 16 * recipe.tokenizer.floats // recipe.tokenizer.frames
    target, own = _target(checkpoint, baseline, path, codec, bits, generated, tracker)
    recipe = recipe or own
    data = recipe.data if recipe else Data()
    data = data.model_copy(update={"pool": 0} | ({"validation_crops": crops} if crops else {}))
    side: int = size or (recipe.tokenizer.size if recipe else 256)
    length: int = frames or (recipe.tokenizer.frames if recipe else 1)
    if tokens:
        target = _first_tokens(target, tokens, side, length)
    if baseline:
        target = _priced(target, baseline, side, session)
    views = Views(open_corpora(corpus), part, data, side, length, samples)
    found = available(names or usual(letter, length), bool(metrics), letter)
    for note in found.notes:
        session.say(f"warning: {note}")
    request = EvaluationRequest(target, views, found, batch, **given)
    session.say(f"{target.name}: {', '.join(found.names)} on {views.corpora.uri} {part}, {side} pixels")
    session.say(str(views.corpora))
    with results_apart():
        result = evaluation_run.run(request, session)
    print(json.dumps(plain(result), indent=2)) if as_json else _show(result)


def _target(
    checkpoint: str | None, baseline: str, path: str, codec: Any, bits: int, generated: str, tracker: Any
) -> "tuple[Target, Recipe | None]":
    """Return what is evaluated, and the recipe of a tokenizer."""
    from vitok.orchestration.evaluation_run import Target

    if baseline:
        from vitok.evaluation.baselines.autoencoders import Baseline

        one = Baseline(baseline, path)
        sha256 = one.digest()
        return Target(one.name, sha256, one, about={"weights": sha256, "params": one.params()}), None
    if codec:
        from vitok.evaluation.baselines.codecs import Codec

        subject = Codec(codec, bits)
        return Target(subject.name, subject.name, subject), None
    if generated:
        from vitok.data.corpora.corpus import open_corpora

        return Target(f"generated: {generated}", generated=open_corpora(generated)), None
    from vitok.evaluation.trained import Trained
    from vitok.models.checksum import weights_digest
    from vitok.orchestration.finished_runs import find_tokenizer
    from vitok.study.grid import describe, recipe_label

    start = find_tokenizer(checkpoint or "", tracker, "CHECKPOINT")
    trained = Trained.read(f"{recipe_label(start.recipe)} stage {start.recipe.stage}", start.recipe, start.weights)
    identity = weights_digest(trained.state)
    about = {
        key: value for key, value in describe(start.recipe).items() if key in ("variant", "c", "E", "compression", "params_m", "gmacs")
    }
    return Target(trained.name, identity, trained, origin=start.weights.parent, about=about | {"weights": identity}), start.recipe


def _first_tokens(target: "Target", tokens: int, side: int, frames: int) -> "Target":
    """Return a nested tokenizer that reconstructs from its first tokens alone. Raises `UsageError` for another tokenizer."""
    from vitok.evaluation.trained import Trained

    assert isinstance(target.subject, Trained)
    subject = target.subject.first(tokens, side, frames)
    floats = tokens * subject.recipe.tokenizer.channels
    about = {**target.about, "tokens": tokens, "E": floats, "compression": round(3 * frames * side**2 / floats, 3)}
    return replace(target, name=subject.name, subject=subject, prefix=subject.prefix, about=about)


def _priced(target: "Target", baseline: str, side: int, session: "Session") -> "Target":
    """Return a baseline with its costs, if it is the published one."""
    from vitok.evaluation.baselines.cost import cost

    price, about = cost(baseline, side), dict(target.about)
    about["params_m"] = round(about.pop("params") / 1e6, 3)
    if about["params_m"] == round(price.params / 1e6, 3):
        about["gmacs"] = round(price.macs / 1e9, 3)
    else:
        session.say(
            f"warning: {target.name} is not the published {baseline}, of {price.params / 1e6:.3f} M parameters: its costs are not known"
        )
    return replace(target, about=about)


@dataclass(frozen=True)
class GeneratorOptions:
    """Options of `vitok eval` that concern a generator."""

    corpus: str | None
    part: Literal["train", "validation", "all"]
    metrics: tuple[str, ...]
    samples: int
    cfg: str  # guidance scales, a comma between them
    steps: int | None
    batch: int


def _evaluate_generator(run: str, options: GeneratorOptions, given: dict[str, Any], session: "Session", as_json: bool) -> None:
    """Measure samples of a generator as they are drawn: one evaluation for each guidance scale, each kept, resumed and recorded by
    itself."""
    from vitok.config import Generation
    from vitok.config.overrides import override
    from vitok.data.corpora.corpus import open_corpora
    from vitok.evaluation.available import available
    from vitok.evaluation.measure import require_frames
    from vitok.models.checksum import weights_digest
    from vitok.orchestration import evaluation_run, finished_runs
    from vitok.orchestration.evaluation_run import EvaluationRequest, Target, Views
    from vitok.orchestration.session import results_apart
    from vitok.study.grid import describe

    tracker = session.tracker("eval")
    generator = finished_runs.find_generator(run, tracker, "CHECKPOINT")
    cfg = generator.recipe.tokenizer.tokenizer
    corpora = open_corpora(options.corpus or generator.about.corpus)
    found = available(options.metrics or usual("g", cfg.frames), bool(options.metrics), "g")
    require_frames(found.metrics, cfg.frames)
    for note in found.notes:
        session.say(f"warning: {note}")
    identity = weights_digest(generator.state)
    described = describe(generator.recipe, len(generator.about.classes))
    about = {key: described[key] for key in ("variant", "dit", "c", "E", "params_m", "gmacs")} | {"weights": identity}
    requests: list[EvaluationRequest] = []
    changed = options.cfg or options.steps or options.samples or options.corpus or given["reference_file"]
    as_measured = not changed and options.part == "train"
    origin = finished_runs.locate(run, tracker, "CHECKPOINT").absolute() if as_measured else None  # the run itself gets what it lacks
    for scale in guidance_scales(options.cfg, generator.recipe.sampling.cfg):
        sampling = {"cfg": scale, "steps": options.steps, "count": options.samples or None}
        recipe = override(generator.recipe, {f"sampling.{key}": value for key, value in sampling.items() if value is not None})
        assert isinstance(recipe, Generation)
        target = Target(
            f"{generator.name}, CFG {scale:g}",
            identity,
            generator=generator.with_recipe(recipe),
            origin=origin,
            about=about | {"cfg": scale},
        )
        views = Views(corpora, options.part, recipe.latents.data(), cfg.size, cfg.frames, recipe.sampling.count)
        requests.append(EvaluationRequest(target, views, found, options.batch, **given))
    samples = requests[0].views.samples
    session.say(f"{generator.name}: {', '.join(found.names)} of {samples} samples against {corpora.uri} {options.part}, {cfg.size} pixels")
    session.say(str(corpora))
    results: list[dict[str, Any]] = []
    with results_apart():
        for request in requests:
            session.say(f"CFG {request.target.about['cfg']:g}")
            results.append(evaluation_run.run(request, session))
    if as_json:
        print(json.dumps(plain(results[0] if len(results) == 1 else results), indent=2))
        return
    from vitok.console.tables import show

    rows = [
        {"cfg": one["cfg"], **{name: value["value"] for name, value in one["metrics"].items()}, "folder": one["folder"]} for one in results
    ]
    show(f"{generator.name}, {samples} samples", ("cfg", *results[0]["metrics"], "folder"), rows)


def guidance_scales(text: str, usual: float) -> list[float]:
    """Parse guidance scales with a comma between them; empty: the usual one. Raises `UsageError`."""
    try:
        found = [float(part) for part in text.split(",")] if text else [usual]
    except ValueError:
        raise UsageError(f"--cfg {text}: numbers with a comma between them, as in 1,1.5,4") from None
    if bad := [scale for scale in found if not 0 <= scale < float("inf")]:
        raise UsageError(f"--cfg {text}: guidance of {bad[0]:g}; it must be 0 or more (1: none)")
    return list(dict.fromkeys(found))


def usual(letter: str, frames: int) -> list[str]:
    """Return the metrics that are measured without --metrics, for reconstructions ("r") or samples ("g") of so many frames."""
    names = ["rPSNR", "rSSIM", "LPIPS", "rFID", "rIS"] if letter == "r" else ["gFID", "gIS"]
    from vitok.evaluation.available import missing
    from vitok.metrics.registry import METRICS

    if frames >= 10 and not missing(METRICS[f"{letter}FVD"]):
        names.append(f"{letter}FVD")
    return names


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it, which has no infinity: equal images have a PSNR of "inf"."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _show(result: dict[str, Any]) -> None:
    from vitok.console.tables import show

    rows = [
        {
            "metric": name, "value": one["value"], "deviation": one["deviation"], "samples": one["protocol"]["count"],
            "network": one["protocol"]["network"], "protocol": one["protocol"]["digest"],
        }
        for name, one in result["metrics"].items()
    ]  # fmt: skip
    told = {key: value for key, value in result.items() if key not in ("metrics", "name", "folder")}
    show(result["name"], ("metric", "value", "deviation", "samples", "network", "protocol"), rows)
    print("\n".join(f"{key:<12} {value:.4g}" if isinstance(value, float) else f"{key:<12} {value}" for key, value in told.items()))
    print(f"{'folder':<12} {result['folder']}")
