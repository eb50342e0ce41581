"""What a study's cells are held against: codecs at the bits of their latents, and pretrained autoencoders, on the same views."""

from collections.abc import Iterator

from vitok.config import Recipe
from vitok.errors import VitokError
from vitok.evaluation.baselines.autoencoders import AUTOENCODERS, Baseline
from vitok.evaluation.baselines.codecs import Codec
from vitok.orchestration.evaluation_run import EvaluationRequest
from vitok.orchestration.request import Request
from vitok.orchestration.session import Session
from vitok.tracking.tags import BASELINES, UNAVAILABLE

BITS = 16  # of a float of the latent
BATCH = 32  # views at once


def missing(request: Request, session: Session) -> bool:
    """Return whether a baseline is not measured yet. One that could not be had is tried again by every run."""
    parent = session.tracker(request.study.name).find_sweep(request.key)
    done = len(parent.data.tags.get(BASELINES, "").splitlines()) if parent else 0
    return done < len(list(_wanted(request)))


def measure(request: Request, session: Session) -> None:
    """Measure every baseline of the scale on each kind of views and at each size of latent that its cells have. What is measured already
    is not measured again. One that cannot be had here is told, with the way to get it, and the report says that it is missing."""
    from vitok.orchestration import evaluation_run

    wanted = list(_wanted(request))
    if not wanted:
        return
    done, lacking = list[str](), list[str]()
    for name, recipe in wanted:
        try:
            one = _evaluation(request, name, recipe)
            session.say(f"{one.target.name} beside {request.study.name}")
            evaluation_run.run(one, session)
            done.append(one.digest)
        except VitokError as error:
            lacking.append(f"{name} is not beside them: {' '.join(str(error).split())}")
            session.say(f"warning: {lacking[-1]}")
    session.tracker(request.study.name).tag_sweep(request.key, {BASELINES: "\n".join(done), UNAVAILABLE: "\n".join(lacking)})


def _wanted(request: Request) -> Iterator[tuple[str, Recipe]]:
    """Yield each baseline with a recipe whose views it is measured on, and whose latent's bits a codec gets."""
    seen: set[str] = set()
    for cell in request.cells:
        if not isinstance(cell.recipe, Recipe):
            continue
        cfg = cell.recipe.tokenizer
        for name in request.scale.baselines:
            key = f"{name} {cfg.size} {cfg.frames} {cell.recipe.data.model_dump_json()} {0 if name in AUTOENCODERS else cfg.floats}"
            if key not in seen:
                seen.add(key)
                yield name, cell.recipe


def _evaluation(request: Request, name: str, recipe: Recipe) -> EvaluationRequest:
    from vitok.evaluation.available import available
    from vitok.orchestration.evaluation_run import EvaluationRequest, Target, Views

    cfg = recipe.tokenizer
    found = available(request.scale.of(recipe).metrics, "resources.metrics" in request.changes, "r")
    if name in AUTOENCODERS:
        subject = Baseline(name)
        target = Target(subject.name, subject.digest(), subject)
    else:
        subject = Codec(name, BITS * cfg.floats // cfg.frames)  # pyright: ignore[reportArgumentType]
        target = Target(subject.name, subject.name, subject)
    data = recipe.data.model_copy(update={"pool": 0})
    return EvaluationRequest(target, Views(request.corpora, "validation", data, cfg.size, cfg.frames), found, BATCH)
