"""Comparison of kinds of fits by cross-validation: a line, a power law or parabolas."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vitok.analysis.fits.cross_validation import LeaveOneOut
from vitok.analysis.fits.lines import log_linear
from vitok.analysis.fits.parabola import parabolas
from vitok.analysis.fits.power_laws import power_law
from vitok.analysis.rows import Row
from vitok.errors import VitokError
from vitok.metrics.registry import METRICS

LINE, POWER, PARABOLAS = "a line in log {}", "a power law", "a parabola in log E for each patch size"


@dataclass(frozen=True)
class FitComparison:
    """The leave-one-out errors of several kinds of fits of one metric."""

    metric: str
    along: str  # the column
    kinds: dict[str, LeaveOneOut]  # name of a kind of fit -> its errors, if it predicted the same cells as the others; the best first
    sentence: str

    @property
    def best(self) -> str | None:
        """The kind with the smallest error; None: fewer than two could be compared."""
        return next(iter(self.kinds)) if len(self.kinds) > 1 else None

    def json(self) -> dict[str, Any]:
        """Return the comparison as a JSON object."""
        kinds = {name: one.json() for name, one in self.kinds.items()}
        return {"along": self.along, "best": self.best, "kinds": kinds, "sentence": self.sentence}


def compare_fits(rows: list[Row], metric: str, along: str = "E") -> FitComparison:
    """Compare kinds of fits of a metric along a column by their leave-one-out error.

    A kind that cannot be fitted, or predicts fewer cells than another, is left out, and the sentence says why. Parabolas are fitted along E
    alone.
    """
    line = LINE.format(along)
    fits: dict[str, Callable[[], LeaveOneOut]] = {
        line: lambda: log_linear(rows, metric, along).leave_one_out, POWER: lambda: power_law(rows, metric, along).leave_one_out,
    }  # fmt: skip
    if along == "E":
        fits[PARABOLAS] = lambda: parabolas(rows, metric).leave_one_out
    found, reasons = dict[str, LeaveOneOut](), dict[str, str]()
    for name, fit in fits.items():
        try:
            found[name] = fit()
        except VitokError as error:
            reasons[name] = str(error)
    most = max((one.cells for one in found.values()), default=0)
    errors = dict[str, float]()
    for name, one in found.items():
        if one.loo is None:
            reasons[name] = one.note
        elif one.cells < most:
            reasons[name] = f"it predicts {one.cells} of {most} cells"
        else:
            errors[name] = one.loo
    ranked = sorted(errors, key=errors.__getitem__)
    told = [f"{name} {'' if i else 'predicts left-out cells '}to {_error(metric, errors[name])}" for i, name in enumerate(ranked)]
    sentence = ", ".join(told) or f"no kind of fit of {metric} can be tried on left-out cells"
    left = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    sentence = sentence[0].upper() + sentence[1:] + "." + f" Not compared: {left}." * bool(reasons)
    return FitComparison(metric, along, {name: found[name] for name in ranked}, sentence)


def _error(metric: str, value: float) -> str:
    """Format an error in the metric's unit."""
    unit = METRICS[metric].unit
    return f"{value:.2f} {unit}" if unit else f"{value:.2g}"
