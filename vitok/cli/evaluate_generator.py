"""`vitok eval` of a generator: its samples are drawn as they are measured, at one guidance scale or at several."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vitok.errors import UsageError


@dataclass(frozen=True)
class Options:
    corpus: str | None
    part: Literal["train", "validation", "all"]
    metrics: tuple[str, ...]
    samples: int
    cfg: str
    steps: int | None
    reference: Path | None
    export: Path | None


def evaluate_generator(run: str, options: Options, batch: int, actors: int, kept: Path, tracker: Any, as_json: bool) -> None:
    """One evaluation for each guidance scale, every one of them kept, resumed and recorded by itself."""
    from vitok.cli.evaluate import plain, usual
    from vitok.config import Generation
    from vitok.data.corpora import open_corpora
    from vitok.metrics.available import available
    from vitok.metrics.measure import need_frames
    from vitok.models.digest import digest
    from vitok.overrides import override
    from vitok.study import evaluation, place
    from vitok.study.grid import describe
    from vitok.study.progress import Progress
    from vitok.study.start import find_generator, located

    say = Progress()
    generator = find_generator(run, tracker, "CHECKPOINT")
    cfg = generator.recipe.tokenizer.tokenizer
    corpora = open_corpora(options.corpus or generator.about.corpus)
    found = available(options.metrics or usual("g", cfg.frames), bool(options.metrics), "g")
    need_frames(found.metrics, cfg.frames)
    for note in found.notes:
        say.line(f"warning: {note}")
    identity = digest(generator.state)
    described = describe(generator.recipe, len(generator.about.classes))
    about = {key: described[key] for key in ("variant", "dit", "c", "E", "params_m", "gmacs")} | {"weights": identity}
    asked: list[evaluation.Asked] = []
    as_measured = not (options.cfg or options.steps or options.samples or options.corpus or options.reference) and options.part == "train"
    own = located(run, tracker, "CHECKPOINT").absolute() if as_measured else None  # the run itself gets what it lacks
    for scale in scales(options.cfg, generator.recipe.sampling.cfg):
        given = {"cfg": scale, "steps": options.steps, "count": options.samples or None}
        recipe = override(generator.recipe, {f"sampling.{key}": value for key, value in given.items() if value is not None})
        assert isinstance(recipe, Generation)
        asked.append(
            evaluation.Asked(
                None, f"{generator.name}, CFG {scale:g}", identity, about | {"cfg": scale}, None, corpora, options.part,
                recipe.latents.data(), cfg.size, cfg.frames, recipe.sampling.count, found,
                options.reference.absolute() if options.reference else None, options.export.absolute() if options.export else None,
                batch, actors, own, kept, tracker, generator.with_recipe(recipe),
            )
        )  # fmt: skip
    names = ", ".join(metric.name for metric in found.metrics)
    say.line(f"{generator.name}: {names} of {asked[0].samples} samples against {corpora.uri} {options.part}, {cfg.size} pixels")
    with place.core_silent():
        offered = place.connect(0, kept)
    results: list[dict[str, Any]] = []
    with place.results_apart():
        for one in asked:
            say.line(f"CFG {one.about['cfg']:g}")
            results.append(evaluation.run(one, offered, say))
    if as_json:
        print(json.dumps(plain(results[0] if len(results) == 1 else results), indent=2))
        return
    from vitok.study.tables import show

    rows = [
        {"cfg": one["cfg"], **{name: value["value"] for name, value in one["metrics"].items()}, "folder": one["folder"]} for one in results
    ]
    show(f"{generator.name}, {asked[0].samples} samples", ("cfg", *results[0]["metrics"], "folder"), rows)


def scales(text: str, usual: float) -> list[float]:
    """Guidance scales with a comma between them. Raises `UsageError`."""
    try:
        found = [float(part) for part in text.split(",")] if text else [usual]
    except ValueError:
        raise UsageError(f"--cfg {text}: numbers with a comma between them, as in 1,1.5,4") from None
    if bad := [scale for scale in found if not 0 <= scale < float("inf")]:
        raise UsageError(f"--cfg {text}: guidance of {bad[0]:g}; it must be 0 or more (1: none)")
    return list(dict.fromkeys(found))
