"""One file, one question: `Study` states it, `main` runs it. `Collection`: several that answer together."""

from vitok.study.collection import Collection, Part
from vitok.study.study import Scale, Study

__all__ = ["Collection", "Part", "Scale", "Study"]
