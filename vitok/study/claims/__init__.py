"""The paper's statements as claims that measured cells support, do not support, or leave open. Never without an interval."""

from vitok.study.claims.claim import Claim, Verdict
from vitok.study.claims.differences import better, no_better
from vitok.study.claims.printed import as_printed
from vitok.study.claims.ranks import ranked_first
from vitok.study.claims.ratios import needs_floats
from vitok.study.claims.scaling import scaling_does_not_help, scaling_helps
from vitok.study.claims.shape import shape_is_free
from vitok.study.claims.tradeoffs import trades_off
from vitok.study.claims.trends import correlates, grows_with_floats

__all__ = [
    "Claim",
    "Verdict",
    "as_printed",
    "better",
    "correlates",
    "grows_with_floats",
    "needs_floats",
    "no_better",
    "ranked_first",
    "scaling_does_not_help",
    "scaling_helps",
    "shape_is_free",
    "trades_off",
]
