"""Studies: a question, a grid of cells, a fit, a figure, claims. Neither Ray nor MLflow is known here."""

from vitok.study.collection import Collection, Finding
from vitok.study.scales import Scale
from vitok.study.study import Study

__all__ = ["Collection", "Finding", "Scale", "Study"]
