"""The reference of generated samples: looked at once, its statistics kept for all that are compared with it."""

from dataclasses import replace

from vitok.console.progress import Progress
from vitok.evaluation import pool
from vitok.evaluation.accumulator import EvaluationSizes, MetricAccumulator
from vitok.evaluation.evaluation import (
    KnownStatistics,
    keep_statistics,
    known_rows,
    known_statistics,
    reference_statistics,
    statistics_suffice,
)
from vitok.evaluation.statistics import Reference, Statistics
from vitok.metrics.feature_table import FeatureTable
from vitok.storage import mirror


def measure_reference(
    wanted: pool.EvaluationPass, outputs: int, reference: Reference, store: Statistics, known: KnownStatistics | None, say: Progress
) -> tuple[KnownStatistics, dict[str, FeatureTable]]:
    """Return the statistics, and the features of single samples, that `outputs` samples are compared with: as they are kept, or by a
    pass over the reference, which `wanted` describes. `known`: statistics to be taken instead. Raises `VitokError` for too few
    samples."""
    views = len(wanted.numbers)
    tally = MetricAccumulator(wanted.metrics, EvaluationSizes(outputs, reference.frames, outputs, views))
    found = known_statistics(wanted.metrics, store, reference) if known is None else known
    rows = known_rows(tally, store, reference)
    if known is not None or statistics_suffice(wanted.metrics, found, rows):
        return found, rows
    kept = store.folder / f"counting-{reference.key('fid-inception')}-{outputs}.npz"
    asked = replace(wanted, subject=None, both=True, generated=False, outputs=outputs, references=views)
    with say.counting("views of the reference") as progress:
        counted = pool.run(asked, kept, progress)
    found = reference_statistics(counted.tally, reference)
    rows = {name.removesuffix("/original"): rows for name, rows in counted.tally.rows.items() if name.endswith("/original")}
    keep_statistics(found, store)
    for name, each in rows.items():
        store.keep_rows(reference, name, each)
    mirror.drop(kept)
    return found, rows
