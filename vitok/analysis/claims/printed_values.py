"""The claim that computed values are the ones that the paper prints. Nothing scatters, so its interval is a point."""

from vitok.analysis.claims.claim import Claim, Judgement
from vitok.analysis.rows import Row


def as_printed(column: str, *, digits: int, source: str) -> Claim:
    """Claim that a column, rounded to `digits` decimals, equals the column "paper COLUMN" in every row of the given source."""

    def judge(rows: list[Row]) -> Judgement:
        off = {row["label"]: abs(round(row[column], digits) - row[f"paper {column}"]) for row in rows if row["source"] == source}
        wrong = [f"{label} by {by:.{digits}f}" for label, by in off.items() if by >= 10**-digits / 2]
        most = max(off.values())
        evidence = f"{len(off) - len(wrong)} of {len(off)} are equal in each printed digit" + (
            f"; off are {', '.join(wrong)}" if wrong else ""
        )
        return Judgement("not supported" if wrong else "supported", evidence, most, (most, most))

    return Claim(lambda: f"{column} of {source} comes out as printed", source, (), 0.0, judge)
