"""`vitok sample`: what a generator has learnt, to look at."""

import json
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vitok.errors import UsageError


def sample(
    run: tyro.conf.Positional[str], /, *, classes: tuple[str, ...] = (), count: int = 64, cfg: float | None = None,
    steps: int | None = None, spacing: Literal["leading", "trailing"] | None = None, seed: int = 0, out: Path = Path("samples.png"),
    batch: int | None = None, actors: int = 0, storage: str | None = None,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:  # fmt: skip
    """Draw samples of a generator. Stop it at any moment; the same command goes on.

    vitok sample RUN --classes 207 360 387 --cfg 4 --steps 250 --count 64 --out grid.png
    vitok sample RUN --count 50000 --cfg 1.5 --out folder       a PNG each, for other programs
    vitok sample VIDEO_RUN --out clips.mp4                      clips that play side by side; .gif, .webp; .png: strips

    Sample i is the same whatever the batch, the number of actors and the other samples; with another --cfg it begins with the same noise.

    Args:
        run: A finished generator: its id in MLflow, or its folder.
        classes: Numbers or names. Default: up to eight, evenly spread.
        count: Samples in all, shared among the classes.
        cfg: Guidance scale; 1: none. Default: 4, of clips 2 (figures 16, 17, 21).
        steps: Of the sampler. Default: those that the generator was measured with.
        spacing: Of DDIM's steps. Default: that with which the generator was measured.
        seed: Of the noise.
        out: A picture; a name without an ending is a folder, which gets a file each.
        batch: Samples that an actor draws at once. Default: 64 on a GPU, else 16.
        actors: Processes that draw. Default: one on each GPU, or on each CPU where there is none.
        storage: Where runs are kept, and samples until their picture is there. Default: VITOK_STORAGE, or ./runs.
        as_json: Print the result as JSON for programs.
    """
    for name, value in (("--count", count), ("--batch", batch), ("--steps", steps)):
        if value is not None and value < 1:
            raise UsageError(f"{name} {value}: it must be at least 1")
    if actors < 0 or seed < 0:
        raise UsageError(f"--actors {actors} --seed {seed}: none may be below 0")
    if cfg is not None and cfg < 0:
        raise UsageError(f"--cfg {cfg:g}: guidance must be 0 or more (1: none)")
    from vitok.config import Generation
    from vitok.config.overrides import override
    from vitok.evaluation.generated import picture_sampling
    from vitok.evaluation.pictures import check_ending
    from vitok.orchestration import finished_runs, sampling_run, single_run
    from vitok.orchestration.session import Session, results_apart

    session = Session(storage)
    generator = finished_runs.find_generator(run, session.tracker(single_run.EXPERIMENT), "RUN")
    if out.suffix:
        check_ending(out, generator.recipe.tokenizer.tokenizer.frames > 1)
    sampling_run.need_room(generator, count, out, session.storage.path)
    labels = sampling_run.classes(classes, generator.about, count)
    given = {"cfg": cfg, "steps": steps, "spacing": spacing}
    changed = picture_sampling(generator.recipe).model_dump() | {key: value for key, value in given.items() if value is not None}
    recipe = override(generator.recipe, {"seed": seed, **{f"sampling.{key}": value for key, value in changed.items()}})
    assert isinstance(recipe, Generation)
    session.say(f"{generator.name}: {count} samples, {recipe.sampling.steps} steps, CFG {recipe.sampling.cfg:g}")
    request = sampling_run.SamplingRequest(generator.with_recipe(recipe), labels, out.absolute(), batch, actors)
    with results_apart():
        found = sampling_run.run(request, session)
    print(json.dumps(found, indent=2) if as_json else "\n".join(f"{key:<8} {_shown(value)}" for key, value in found.items()))


def _shown(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value
