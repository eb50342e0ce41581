"""How well a kind of fit predicts what it has not seen: leave one out. All cells at one value of the column are left out together,
for seeds and patch sizes of one E are near copies of each other: with one of them in the fit, the other is no test.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

NEAR = 1.05  # values of a column within this ratio are one: with p fixed, c changes a cell's MACs by 1 %


@dataclass(frozen=True)
class Unseen:
    """Root mean squares over cells, in the metric's unit, of predicted minus measured."""

    cells: int  # that were predicted
    loo: float | None  # None: too few values are left to fit, or a prediction was no number any more
    loo_ends: float | None  # of those alone that lay outside the range of the rest: extrapolated
    note: str = ""  # why there is none

    def json(self) -> dict[str, Any]:
        return {"loo": self.loo, "loo_ends": self.loo_ends, "loo_note": self.note}


Errors = tuple[np.ndarray, np.ndarray]  # (cells,) predicted minus measured, NaN where not predicted; (cells,) whether extrapolated


def steps(column: np.ndarray) -> np.ndarray:
    """Which value of a positive column each cell has, (cells,) int, from 0 upwards; values up to `NEAR` above a step's least are it."""
    found, step, least = np.zeros(len(column), int), -1, 0.0
    for i in np.argsort(column):
        if step < 0 or column[i] > NEAR * least:
            step, least = step + 1, column[i]
        found[i] = step
    return found


def left_out(column: np.ndarray, values: np.ndarray, least: int, predict: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Errors:
    """Errors of predicting the cells of each value of a column from the others. `predict(kept, out)`, masks of cells, fits the kept
    ones and returns the metric of those left out; a fit needs `least` values of the column.
    """
    step = steps(column)
    errors = np.full(len(values), np.nan)
    if step.max() >= least:
        for one in range(step.max() + 1):
            out = step == one
            with np.errstate(over="ignore"):
                errors[out] = predict(~out, out) - values[out]
    return errors, (step == 0) | (step == step.max())


def unseen(parts: Iterable[Errors], least: int, column: str) -> Unseen:
    """The errors of all parts together: of the patch sizes, if each has its own fit."""
    errors, ends = (np.concatenate(part) for part in zip(*parts, strict=True))
    known = ~np.isnan(errors)
    if not known.any():
        return Unseen(0, None, None, f"to predict a left-out {column} takes {least + 1} values of it")
    with np.errstate(over="ignore"):
        loo, at_ends = (float(np.sqrt(np.mean(errors[which] ** 2))) for which in (known, known & ends))
    if not np.isfinite(loo):
        return Unseen(int(known.sum()), None, None, "a prediction of a left-out cell lies beyond all numbers")
    return Unseen(int(known.sum()), loo, at_ends)
