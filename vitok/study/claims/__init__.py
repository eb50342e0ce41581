"""The paper's statements as claims that measured cells support, do not support, or leave open. Never without an interval."""

from vitok.study.claims.claim import Claim, Verdict
from vitok.study.claims.differences import better, no_better
from vitok.study.claims.shape import shape_is_free
from vitok.study.claims.trends import correlates, grows_with_floats

__all__ = ["Claim", "Verdict", "better", "correlates", "grows_with_floats", "no_better", "shape_is_free"]
