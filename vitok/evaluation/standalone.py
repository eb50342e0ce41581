"""One evaluation outside of training: of a checkpoint, a baseline, a codec, or of samples that something generated."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitok.config import Data
from vitok.console.progress import Progress
from vitok.data.corpora.corpus import Corpora
from vitok.data.loading.loader import Part
from vitok.data.loading.loader import reader as open_reader
from vitok.data.loading.reader import Reader
from vitok.errors import UsageError, VitokError
from vitok.evaluation import pool, statistics
from vitok.evaluation.accumulator import RANK
from vitok.evaluation.available import Available
from vitok.evaluation.evaluation import Evaluation, Known, concluded, enough, keep_statistics, known_statistics, references
from vitok.evaluation.generated import described
from vitok.evaluation.generator import Generator
from vitok.evaluation.measure import SAID
from vitok.evaluation.reference import looked_at
from vitok.evaluation.statistics import Reference, Statistics
from vitok.evaluation.subject import Subject
from vitok.metrics.prefix import Prefix
from vitok.metrics.registry import networks
from vitok.orchestration.sweep import STATISTICS, warn_rejected
from vitok.storage import locks, mirror
from vitok.tracking.client import Tracker
from vitok.tracking.tags import CORPUS, FOLDER, PROTOCOL, STUDY

STUDY_NAME = "eval"  # the experiment in MLflow, and the folder in the storage
GENERATED = "generated"


@dataclass(frozen=True)
class Asked:
    subject: Subject | None  # None: samples that something generated
    label: str
    identity: str  # of what is measured: a hash of weights, a codec's name, a corpus's fingerprint
    about: dict[str, Any]  # what else the result says of it
    generated: Corpora | None
    corpora: Corpora  # whose samples are reconstructed, or are the reference
    part: Part
    data: Data
    size: int
    frames: int
    samples: int  # views that are measured, evenly spread; 0: all
    found: Available
    reference_file: Path | None
    export: Path | None
    batch: int
    actors: int
    origin: Path | None  # the folder of the run that the checkpoint is of
    storage: Path
    tracker: Tracker
    drawn: Generator | None = None  # draws the samples, `samples` of them
    prefix: Prefix | None = None  # of a nested code, what the subject reconstructs from

    @property
    def unpaired(self) -> bool:
        """Whether what is measured are samples of their own, not reconstructions."""
        return self.generated is not None or self.drawn is not None

    @property
    def digest(self) -> str:
        file = hashlib.sha256(self.reference_file.read_bytes()).hexdigest() if self.reference_file else ""
        samples = self.generated.fingerprint if self.generated else described(self.drawn.recipe) if self.drawn else ""
        data, metrics = self.data.model_dump(mode="json"), [metric.name for metric in self.found.metrics]
        identity = f"{self.identity}, {self.prefix}" if self.prefix else self.identity
        text = [
            identity, samples, self.corpora.fingerprint, self.part, self.size, self.frames, data, self.samples, metrics, file,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def folder(self) -> Path:
        return self.storage / STUDY_NAME / self.digest


def run(asked: Asked, offered: dict[str, float], say: Progress) -> dict[str, Any]:
    """Measure, or go on, or only tell what was measured before. Needs a connected Ray. Raises `VitokError`."""
    with locks.alone(asked.folder, "evaluation"):
        result = mirror.fetch(asked.folder / "result.json")
        if result.is_file() and not asked.export:
            say.line("measured already; nothing to do")
            return json.loads(result.read_text())
        evaluation, extras = _measure(asked, offered, say)
        for name, value in evaluation.results.items():
            if RANK in value.settings:
                rank = value.settings[value.settings.index(RANK) :]
                metric = evaluation.protocols[name].metric
                say.line(
                    f"warning: {name} of {value.count} samples, a {rank}: comparable at this count only; {metric}-infinity extrapolates"
                )
        summary = _summary(asked, evaluation, extras)
        summary["run"] = _record(asked, evaluation, summary, say)
        partial = result.with_suffix(".partial")
        partial.write_text(json.dumps(summary, indent=2))
        partial.replace(result)
        mirror.keep(asked.folder)
        for counted in asked.folder.glob("*.npz"):  # it was needed until here
            mirror.drop(counted)
        return summary


def _measure(asked: Asked, offered: dict[str, float], say: Progress) -> tuple[Evaluation, dict[str, float]]:
    held = _reader(asked.corpora, asked.part, asked, 0 if asked.unpaired else asked.samples, asked.data.validation_views)
    uri, fingerprint = asked.corpora.uri, asked.corpora.fingerprint
    reference = Reference.of_corpus(uri, fingerprint, asked.part, held.about(), asked.size, asked.frames)
    store, metrics = Statistics(asked.storage / STATISTICS), asked.found.metrics
    given = _from_file(asked, reference) if asked.reference_file else None
    known = given if given is not None else known_statistics(metrics, store, reference)
    wanted = pool.Pass(
        held, np.arange(held.total), asked.subject, metrics, asked.found.payloads, both=not enough(metrics, known), generated=False,
        outputs=0, references=0, batch=asked.batch, actors=_actors(asked, offered), gpus=_gpus(offered), threads=1,
    )  # fmt: skip
    if asked.unpaired:
        return _generated(asked, wanted, reference, given, say), {}
    counted = _pass(asked, wanted, "measured", say)
    if wanted.both:
        known = references(counted.tally, reference)
        keep_statistics(known, store)
    _export(asked, known)
    warn_rejected(frozenset(map(str, counted.rejected.found.values())), say)
    extras = {name.removeprefix(SAID): float(np.nanmean(v)) for name, v in counted.tally.values.items() if name.startswith(SAID)}
    rejected = frozenset(counted.rejected.found.values())
    found = concluded(counted.tally, counted.examples, rejected, reference, known, prefix=asked.prefix, shown=held.samples())
    return found, extras


def _generated(asked: Asked, wanted: pool.Pass, reference: Reference, known: Known | None, say: Progress) -> Evaluation:
    """Two passes: over the reference, where what is needed of it is not at hand; and over the samples, which are read or drawn."""
    if asked.drawn:
        samples = replace(wanted, numbers=np.arange(asked.samples), drawn=asked.drawn)
    else:
        assert asked.generated
        read = _reader(asked.generated, "all", asked, asked.samples, 0)
        samples = replace(wanted, reader=read, numbers=by_name(read), generated=True)
    outputs, references = len(samples.numbers), len(wanted.numbers)
    known, rows = looked_at(wanted, outputs, reference, Statistics(asked.storage / STATISTICS), known, say)
    _export(asked, known)
    counted = _pass(asked, replace(samples, subject=None, both=False, outputs=outputs, references=references), GENERATED, say)
    counted.tally.rows |= {f"{name}/original": each for name, each in rows.items()}
    warn_rejected(frozenset(map(str, counted.rejected.found.values())), say)
    rejected = frozenset(counted.rejected.found.values())
    drawn = described(asked.drawn.recipe) if asked.drawn else ""
    return concluded(counted.tally, counted.examples, rejected, reference, known, drawn)


def _pass(asked: Asked, wanted: pool.Pass, what: str, say: Progress) -> pool.Counted:
    with say.counting(f"{what} views") as progress:
        return pool.run(wanted, asked.folder / f"{what}.npz", progress)


def _from_file(asked: Asked, reference: Reference) -> Known:
    assert asked.reference_file
    names = networks(metric for metric in asked.found.metrics if not metric.paired)
    if len(names) != 1:
        raise UsageError(f"--reference {asked.reference_file} is of one network; the metrics look through {', '.join(names) or 'none'}")
    known: Known = {names[0]: statistics.load(asked.reference_file, names[0], reference)}
    if not enough(asked.found.metrics, known):
        need = [metric.name for metric in asked.found.metrics if metric.statistic in ("kernel", "precision", "recall")]
        raise UsageError(f"--reference has no samples, only their statistics: {', '.join(need)} cannot be had from it")
    return known


def _export(asked: Asked, known: Known) -> None:
    if asked.export is None:
        return
    if len(known) != 1:
        raise UsageError(f"--export {asked.export}: a file holds the statistics of one network; these are of {', '.join(known) or 'none'}")
    ((network, (gaussian, reference)),) = known.items()
    statistics.export(asked.export, reference, network, gaussian)


def _summary(asked: Asked, evaluation: Evaluation, extras: dict[str, float]) -> dict[str, Any]:
    values = {
        name: {"value": value.value, "deviation": value.deviation, "protocol": json.loads(evaluation.protocols[name].json())}
        for name, value in evaluation.results.items()
    }
    return {
        "name": asked.label, **asked.about, **extras, "images": evaluation.images, "outside": evaluation.outside,
        "rejected": len(evaluation.rejected), "metrics": values, "folder": mirror.told(asked.folder),
    }  # fmt: skip


def _record(asked: Asked, evaluation: Evaluation, summary: dict[str, Any], say: Progress) -> str:
    """To MLflow: a run of its own, and the run that the checkpoint is of gets what it did not have. The id of the first."""
    from vitok.evaluation.pictures import side_by_side

    tags = {f"{PROTOCOL}{name}": protocol.json() for name, protocol in evaluation.protocols.items()}
    tags |= {STUDY: STUDY_NAME, CORPUS: asked.corpora.fingerprint, FOLDER: mirror.told(asked.folder)}
    values = evaluation.metrics | {"images": float(evaluation.images), "outside": evaluation.outside}
    artifacts = {"per_image.json": evaluation.each()}
    if len(evaluation.originals) and not asked.drawn:
        artifacts["reconstructions.png"] = side_by_side(evaluation.originals, evaluation.reconstructions)
        (asked.folder / "reconstructions.png").write_bytes(artifacts["reconstructions.png"])
    params = {"subject": asked.label, "size": asked.size, "frames": asked.frames}
    run_id = asked.tracker.child(None, asked.digest, asked.label, tags, params)
    asked.tracker.finish(run_id, values, 0, artifacts, {})
    if asked.origin and (added := asked.tracker.add_metrics(asked.origin, asked.corpora.fingerprint, values, tags)):
        say.line(f"added to the run of {asked.origin}: {', '.join(added)}")
    return run_id


def _reader(corpora: Corpora, part: Part, asked: Asked, samples: int, usual: int) -> Reader:
    """Of so many views, or as many as is usual (0: all). Raises `UsageError` where there are fewer than were asked for."""
    data = asked.data.model_copy(update={"validation_views": samples or usual})
    found = open_reader(corpora, part, data, asked.size, asked.frames)
    if samples > found.whole:
        raise UsageError(f"--samples {samples}: there are {found.whole} views")
    return found


def by_name(held: Reader) -> np.ndarray:
    """All views in the order of the samples' names: the order of the files of a folder for other programs, on which the splits of
    the Inception Score and the subsets of KID depend."""
    return np.array(sorted(range(held.total), key=held.name))


def _gpus(offered: dict[str, float]) -> int:
    return int(offered.get("GPU", 0) >= 1)


def _actors(asked: Asked, offered: dict[str, float]) -> int:
    most = int(offered["GPU"] if _gpus(offered) else offered["CPU"])
    if asked.actors > most:
        raise VitokError(f"--actors {asked.actors}: there is room for {most}, one on each {'GPU' if _gpus(offered) else 'CPU'}")
    return asked.actors or most
