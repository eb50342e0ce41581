"""The reference of generated samples: looked at once, its statistics kept for all that are compared with it."""

from dataclasses import replace

from vitok.console.progress import Progress
from vitok.evaluation import pool
from vitok.evaluation.accumulator import Sizes, Tally
from vitok.evaluation.evaluation import Known, enough, keep_statistics, known_rows, known_statistics, references
from vitok.evaluation.statistics import Reference, Statistics
from vitok.metrics.feature_table import FeatureTable
from vitok.storage import mirror


def looked_at(
    wanted: pool.Pass, outputs: int, reference: Reference, store: Statistics, known: Known | None, say: Progress
) -> tuple[Known, dict[str, FeatureTable]]:
    """Return the statistics, and the features of single samples, that `outputs` samples are compared with: as they are kept, or by a
    pass over the reference, which `wanted` describes. `known`: statistics to be taken instead. Raises `VitokError` for too few
    samples."""
    views = len(wanted.numbers)
    tally = Tally(wanted.metrics, Sizes(outputs, reference.frames, outputs, views))
    found = known_statistics(wanted.metrics, store, reference) if known is None else known
    rows = known_rows(tally, store, reference)
    if known is not None or enough(wanted.metrics, found, rows):
        return found, rows
    kept = store.folder / f"counting-{reference.key('fid-inception')}-{outputs}.npz"
    asked = replace(wanted, subject=None, both=True, generated=False, outputs=outputs, references=views)
    with say.counting("views of the reference") as progress:
        counted = pool.run(asked, kept, progress)
    found = references(counted.tally, reference)
    rows = {name.removesuffix("/original"): rows for name, rows in counted.tally.rows.items() if name.endswith("/original")}
    keep_statistics(found, store)
    for name, each in rows.items():
        store.keep_rows(reference, name, each)
    mirror.drop(kept)
    return found, rows
