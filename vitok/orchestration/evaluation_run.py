"""An evaluation by itself, outside of training: of a checkpoint, a baseline, a codec, or of samples that something generated."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitok.config import Data
from vitok.data.corpora.corpus import Corpora
from vitok.data.loading.loader import Part, open_reader
from vitok.data.loading.reader import Reader
from vitok.errors import UsageError, VitokError
from vitok.evaluation import pool, statistics
from vitok.evaluation.accumulator import RANK
from vitok.evaluation.available import Available
from vitok.evaluation.evaluation import (
    Evaluation,
    KnownStatistics,
    build_evaluation,
    keep_statistics,
    known_statistics,
    reference_statistics,
    statistics_suffice,
)
from vitok.evaluation.generated import describe_sampling
from vitok.evaluation.generator import Generator
from vitok.evaluation.measure import CODER_VALUE
from vitok.evaluation.pictures import side_by_side
from vitok.evaluation.reference import measure_reference
from vitok.evaluation.statistics import Reference, Statistics
from vitok.evaluation.subject import Subject
from vitok.metrics.nested_prefix import Prefix
from vitok.metrics.registry import required_networks
from vitok.orchestration.capacity import Capacity
from vitok.orchestration.session import Session
from vitok.storage import locks
from vitok.storage.layout import RunFolder
from vitok.tracking.tags import CORPUS, FOLDER, PROTOCOL, STUDY

EXPERIMENT = "eval"  # in MLflow
MEASURED, GENERATED = "measured", "generated"  # what has been counted of views; of samples


@dataclass(frozen=True)
class Target:
    """The target of an evaluation: a subject that reconstructs, a corpus of generated samples, or a generator that draws them."""

    name: str
    identity: str = ""  # a hash of weights, a codec's name
    subject: Subject | None = None
    generated: Corpora | None = None
    generator: Generator | None = None
    prefix: Prefix | None = None  # of a nested code, what the subject reconstructs from
    origin: Path | None = None  # the folder of the run that trained it
    about: Mapping[str, Any] = field(default_factory=dict)  # what else the result says of it

    @property
    def unpaired(self) -> bool:
        """Whether it gives samples of its own, not reconstructions."""
        return self.generated is not None or self.generator is not None


@dataclass(frozen=True)
class Views:
    """The views that a target is measured on: of a corpus, reconstructed, or the reference of generated samples."""

    corpora: Corpora
    part: Part
    data: Data  # how a view is cut
    size: int  # side, pixels
    frames: int
    samples: int = 0  # views that are measured, or samples that are drawn; 0: all


@dataclass(frozen=True)
class EvaluationRequest:
    """An evaluation to run, checked."""

    target: Target
    views: Views
    metrics: Available
    batch: int  # views that an actor takes at once
    actors: int = 0  # 0: as many as there is room for
    reference_file: Path | None = None  # statistics to be taken instead of the corpus's own
    export: Path | None = None  # where the reference's statistics are written to

    @property
    def digest(self) -> str:
        """The identity of the evaluation: with the same one it is not measured again."""
        target, views = self.target, self.views
        file = hashlib.sha256(self.reference_file.read_bytes()).hexdigest() if self.reference_file else ""
        samples = (
            target.generated.fingerprint if target.generated else describe_sampling(target.generator.recipe) if target.generator else ""
        )
        identity = f"{target.identity}, {target.prefix}" if target.prefix else target.identity
        text = [
            identity, samples, views.corpora.fingerprint, views.part, views.size, views.frames, views.data.model_dump(mode="json"),
            views.samples, list(self.metrics.names), file,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()[:16]


def run(request: EvaluationRequest, session: Session) -> dict[str, Any]:
    """Measure, or go on, or only return what was measured before. Raises `VitokError`."""
    folder = session.storage.evaluation(request.digest)
    with locks.exclusive(folder.path, "evaluation"):
        if not request.export and (result := folder.read(folder.RESULT)) is not None:
            session.say("measured already; nothing to do")
            return json.loads(result)
        evaluation, extras = _measure(request, folder, session)
        for name, value in evaluation.results.items():
            if RANK in value.settings:
                rank = value.settings[value.settings.index(RANK) :]
                metric = evaluation.protocols[name].metric
                session.say(
                    f"warning: {name} of {value.count} samples, a {rank}: comparable at this count only; {metric}-infinity extrapolates"
                )
        summary = _summary(request, folder, evaluation, extras)
        summary["run"] = _record(request, folder, evaluation, session)
        folder.write(folder.RESULT, json.dumps(summary, indent=2))
        for what in (MEASURED, GENERATED):  # needed until here
            folder.drop(folder.partial_counts(what).name)
        return summary


def _measure(request: EvaluationRequest, folder: RunFolder, session: Session) -> tuple[Evaluation, dict[str, float]]:
    target, views, capacity = request.target, request.views, session.capacity
    reader = _reader(views.corpora, views.part, views, 0 if target.unpaired else views.samples, views.data.validation_views)
    reference = Reference.of_corpus(
        views.corpora.uri, views.corpora.fingerprint, views.part, reader.about(), views.size, views.frames
    )  # fmt: skip
    store, metrics = Statistics(session.storage.statistics), request.metrics.metrics
    given = _statistics_from_file(request, reference) if request.reference_file else None
    known = given if given is not None else known_statistics(metrics, store, reference)
    wanted = pool.EvaluationPass(
        reader, np.arange(reader.total), target.subject, metrics, request.metrics.payloads, both=not statistics_suffice(metrics, known),
        generated=False, outputs=0, references=0, batch=request.batch, actors=_actors(request, capacity),
        gpus=capacity.gpus_each, threads=1,
    )  # fmt: skip
    if target.unpaired:
        return _measure_samples(request, folder, session, wanted, reference, given), {}
    counted = _pass(folder, session, wanted, MEASURED)
    if wanted.both:
        known = reference_statistics(counted.tally, reference)
        keep_statistics(known, store)
    _export(request, known)
    session.warn_rejected(frozenset(map(str, counted.rejected.found.values())))
    extras = {
        name.removeprefix(CODER_VALUE): float(np.nanmean(v)) for name, v in counted.tally.values.items() if name.startswith(CODER_VALUE)
    }
    rejected = frozenset(counted.rejected.found.values())
    found = build_evaluation(counted.tally, counted.examples, rejected, reference, known, prefix=target.prefix, shown=reader.samples())
    return found, extras


def _measure_samples(
    request: EvaluationRequest,
    folder: RunFolder,
    session: Session,
    wanted: pool.EvaluationPass,
    reference: Reference,
    known: KnownStatistics | None,
) -> Evaluation:
    """Measure in two passes: over the reference, where what is needed of it is not at hand; and over the samples, read or drawn."""
    target = request.target
    if target.generator:
        samples = replace(wanted, numbers=np.arange(request.views.samples), drawn=target.generator)
    else:
        assert target.generated
        read = _reader(target.generated, "all", request.views, request.views.samples, 0)
        samples = replace(wanted, reader=read, numbers=by_name(read), generated=True)
    outputs, references = len(samples.numbers), len(wanted.numbers)
    store = Statistics(session.storage.statistics)
    known, rows = measure_reference(wanted, outputs, reference, store, known, session.console)
    _export(request, known)
    counted = _pass(folder, session, replace(samples, subject=None, both=False, outputs=outputs, references=references), GENERATED)
    counted.tally.rows |= {f"{name}/original": each for name, each in rows.items()}
    session.warn_rejected(frozenset(map(str, counted.rejected.found.values())))
    rejected = frozenset(counted.rejected.found.values())
    return build_evaluation(
        counted.tally, counted.examples, rejected, reference, known, describe_sampling(target.generator.recipe) if target.generator else ""
    )


def _pass(folder: RunFolder, session: Session, wanted: pool.EvaluationPass, what: str) -> pool.PassResult:
    with session.console.counting(f"{what} views") as progress:
        return pool.run(wanted, folder.partial_counts(what), progress)


def _statistics_from_file(request: EvaluationRequest, reference: Reference) -> KnownStatistics:
    assert request.reference_file
    names = required_networks(metric for metric in request.metrics.metrics if not metric.paired)
    if len(names) != 1:
        raise UsageError(f"--reference {request.reference_file} is of one network; the metrics look through {', '.join(names) or 'none'}")
    known: KnownStatistics = {names[0]: statistics.load(request.reference_file, names[0], reference)}
    if not statistics_suffice(request.metrics.metrics, known):
        need = [metric.name for metric in request.metrics.metrics if metric.statistic in ("kernel", "precision", "recall")]
        raise UsageError(f"--reference has no samples, only their statistics: {', '.join(need)} cannot be had from it")
    return known


def _export(request: EvaluationRequest, known: KnownStatistics) -> None:
    if request.export is None:
        return
    if len(known) != 1:
        raise UsageError(
            f"--export {request.export}: a file holds the statistics of one network; these are of {', '.join(known) or 'none'}"
        )
    ((network, (gaussian, reference)),) = known.items()
    statistics.export(request.export, reference, network, gaussian)


def _summary(request: EvaluationRequest, folder: RunFolder, evaluation: Evaluation, extras: dict[str, float]) -> dict[str, Any]:
    values = {
        name: {"value": value.value, "deviation": value.deviation, "protocol": json.loads(evaluation.protocols[name].json())}
        for name, value in evaluation.results.items()
    }
    return {
        "name": request.target.name, **request.target.about, **extras, "images": evaluation.images, "outside": evaluation.outside,
        "rejected": len(evaluation.rejected), "metrics": values, "folder": folder.address,
    }  # fmt: skip


def _record(request: EvaluationRequest, folder: RunFolder, evaluation: Evaluation, session: Session) -> str:
    """Log to MLflow: a run of its own, and what it lacked to the run that the checkpoint is of. Return the id of the first."""
    target, views, tracker = request.target, request.views, session.tracker(EXPERIMENT)
    tags = {f"{PROTOCOL}{name}": protocol.json() for name, protocol in evaluation.protocols.items()}
    tags |= {STUDY: EXPERIMENT, CORPUS: views.corpora.fingerprint, FOLDER: folder.address}
    values = evaluation.metrics | {"images": float(evaluation.images), "outside": evaluation.outside}
    artifacts = {"per_image.json": evaluation.each()}
    if len(evaluation.originals) and not target.generator:
        artifacts[folder.RECONSTRUCTIONS] = side_by_side(evaluation.originals, evaluation.reconstructions)
        folder.write(folder.RECONSTRUCTIONS, artifacts[folder.RECONSTRUCTIONS])
    params = {"subject": target.name, "size": views.size, "frames": views.frames}
    run_id = tracker.child(None, request.digest, target.name, tags, params)
    tracker.finish(run_id, values, 0, artifacts, {})
    if target.origin and (added := tracker.add_metrics(target.origin, views.corpora.fingerprint, values, tags)):
        session.say(f"added to the run of {target.origin}: {', '.join(added)}")
    return run_id


def _reader(corpora: Corpora, part: Part, views: Views, samples: int, usual: int) -> Reader:
    """Open so many views of a corpus, or as many as is usual (0: all). Raises `UsageError` where there are fewer than were asked for."""
    data = views.data.model_copy(update={"validation_views": samples or usual})
    found = open_reader(corpora, part, data, views.size, views.frames)
    if samples > found.whole:
        raise UsageError(f"--samples {samples}: there are {found.whole} views")
    return found


def by_name(reader: Reader) -> np.ndarray:
    """Return the numbers of all views in the order of their samples' names: the order of the files of a folder for other programs, on
    which the splits of the Inception Score and the subsets of KID depend."""
    return np.array(sorted(range(reader.total), key=reader.name))


def _actors(request: EvaluationRequest, capacity: Capacity) -> int:
    most = capacity.processes
    if request.actors > most:
        raise VitokError(f"--actors {request.actors}: there is room for {most}, one on each {'GPU' if capacity.gpus_each else 'CPU'}")
    return request.actors or most
