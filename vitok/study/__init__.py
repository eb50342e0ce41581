"""One file, one question: `Study` states it, `main` runs it. `Collection`: several that answer together."""

from vitok.study.collection import Collection, Finding
from vitok.study.scales import Scale
from vitok.study.study import Study

__all__ = ["Collection", "Finding", "Scale", "Study"]
