"""Statements that measured cells support, do not support or leave open. Every verdict comes with an interval."""

from vitok.analysis.claims.claim import Claim, Verdict
from vitok.analysis.claims.comparisons import better, no_better, ranked_first, scaling_does_not_help, scaling_helps
from vitok.analysis.claims.optimum import has_optimum, no_slope
from vitok.analysis.claims.printed_values import as_printed
from vitok.analysis.claims.ratios import needs_floats
from vitok.analysis.claims.shape import shape_is_free
from vitok.analysis.claims.tradeoffs import trades_off
from vitok.analysis.claims.trends import correlates, grows_with_floats

__all__ = [
    "Claim",
    "Verdict",
    "as_printed",
    "better",
    "correlates",
    "grows_with_floats",
    "has_optimum",
    "needs_floats",
    "no_better",
    "no_slope",
    "ranked_first",
    "scaling_does_not_help",
    "scaling_helps",
    "shape_is_free",
    "trades_off",
]
