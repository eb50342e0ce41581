"""A report as one page that needs nothing beside it."""

import base64
from collections import Counter
from typing import Any

from vitok.study.gathered import Gathered, columns, generated
from vitok.study.optimum import whole
from vitok.study.protocols import described
from vitok.study.study import Study


def written(study: Study[Any], found: Gathered, metrics: tuple[str, ...], summary: dict[str, Any], pictures: dict[str, bytes]) -> str:
    shown = [(row, base64.b64encode(row["picture"]).decode()) for row in found.rows if row.get("picture")]
    commits = Counter(row["commit"] for row in found.rows if row.get("commit"))
    svgs = [base64.b64encode(content).decode() for name, content in pictures.items() if name.endswith(".svg")]
    return environment().get_template("report.html").render(
        study=study, tags=found.tags, rows=found.rows, others=found.others, beside=found.beside, metrics=metrics,
        protocols=described(found.rows) if metrics else [], columns=columns(found.rows), summary=summary, svgs=svgs, pictures=shown,
        rejected=max(row.get("rejected", 0) for row in found.rows), commits=commits.most_common(), generated=generated, whole=whole,
    )  # fmt: skip


def environment() -> Any:
    from jinja2 import Environment, PackageLoader

    return Environment(loader=PackageLoader("vitok.study"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
