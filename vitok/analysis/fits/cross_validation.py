"""Leave-one-out cross-validation of fits along a column.

All cells at one value of the column are left out together: seeds and patch sizes of one E are near copies of each other, and with one of
them in the fit the other is no test.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

SAME_VALUE_RATIO = 1.05  # values of a column within this ratio count as equal: with p fixed, c changes a cell's MACs by 1 %


@dataclass(frozen=True)
class LeaveOneOut:
    """Root mean square errors of leave-one-out predictions (predicted minus measured, over cells), in the metric's unit."""

    cells: int  # number of predicted cells
    loo: float | None  # None: too few values are left to fit, or a prediction is not finite
    loo_ends: float | None  # over the cells at the ends of the column alone, which are extrapolated
    note: str = ""  # the reason if there is no error

    def json(self) -> dict[str, Any]:
        """Return the errors under the keys "loo", "loo_ends" and "loo_note"."""
        return {"loo": self.loo, "loo_ends": self.loo_ends, "loo_note": self.note}


PredictionErrors = tuple[
    np.ndarray, np.ndarray
]  # (cells,) predicted minus measured, NaN where not predicted; (cells,) whether extrapolated


def value_groups(column: np.ndarray) -> np.ndarray:
    """Return the index (cells,) int of each cell's value of a positive column, from 0 for the least upwards.

    Values up to `SAME_VALUE_RATIO` times the least of a group belong to that group.
    """
    found, step, least = np.zeros(len(column), int), -1, 0.0
    for i in np.argsort(column):
        if step < 0 or column[i] > SAME_VALUE_RATIO * least:
            step, least = step + 1, column[i]
        found[i] = step
    return found


def leave_one_out_errors(
    column: np.ndarray, values: np.ndarray, least: int, predict: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> PredictionErrors:
    """Return the errors of predicting the cells at each value of a column from all other cells.

    `predict(kept, out)` takes two masks of cells, fits the kept ones and returns the metric of those left out. A fit needs `least` values
    of the column.
    """
    step = value_groups(column)
    errors = np.full(len(values), np.nan)
    if step.max() >= least:
        for one in range(step.max() + 1):
            out = step == one
            with np.errstate(over="ignore"):
                errors[out] = predict(~out, out) - values[out]
    return errors, (step == 0) | (step == step.max())


def summarise_errors(parts: Iterable[PredictionErrors], least: int, column: str) -> LeaveOneOut:
    """Return the root mean square errors over several fits together, such as one a patch size."""
    errors, ends = (np.concatenate(part) for part in zip(*parts, strict=True))
    known = ~np.isnan(errors)
    if not known.any():
        return LeaveOneOut(0, None, None, f"to predict a left-out {column} takes {least + 1} values of it")
    with np.errstate(over="ignore"):
        loo, at_ends = (float(np.sqrt(np.mean(errors[which] ** 2))) for which in (known, known & ends))
    if not np.isfinite(loo):
        return LeaveOneOut(int(known.sum()), None, None, "a prediction of a left-out cell lies beyond all numbers")
    return LeaveOneOut(int(known.sum()), loo, at_ends)
