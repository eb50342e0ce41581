"""One file, one question: `Study` states it, `main` runs it."""

from vitok.study.study import Scale, Study

__all__ = ["Scale", "Study"]
