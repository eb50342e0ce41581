"""The claim that what is computed here is what the paper prints. Nothing scatters: its interval is a point."""

from vitok.analysis.claims.claim import Claim, Judgement
from vitok.analysis.rows import Row


def as_printed(column: str, *, digits: int, source: str) -> Claim:
    """The column of every row of that source, rounded to so many digits behind the point, equals its "paper COLUMN"."""

    def judge(rows: list[Row]) -> Judgement:
        off = {row["label"]: abs(round(row[column], digits) - row[f"paper {column}"]) for row in rows if row["source"] == source}
        wrong = [f"{label} by {by:.{digits}f}" for label, by in off.items() if by >= 10**-digits / 2]
        most = max(off.values())
        evidence = f"{len(off) - len(wrong)} of {len(off)} are equal in each printed digit" + (
            f"; off are {', '.join(wrong)}" if wrong else ""
        )
        return Judgement("not supported" if wrong else "supported", evidence, most, (most, most))

    return Claim(lambda: f"{column} of {source} comes out as printed", source, (), 0.0, judge)
