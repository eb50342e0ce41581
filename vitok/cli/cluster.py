"""`vitok cluster`: whether the files of a cluster are right, and what they cost. No cloud is asked anything."""

import json
import sys
from pathlib import Path
from typing import Annotated

import tyro

from vitok.errors import UsageError, VitokError

Json = Annotated[bool, tyro.conf.arg(name="json")]


def validate(files: tyro.conf.Positional[tuple[Path, ...]], /, *, as_json: Json = False) -> None:
    """Check launcher files, Kubernetes manifests, scripts, images, policies and prices. Exit code 1 if anything is wrong.

    vitok cluster validate clusters/aws.yaml clusters/kuberay/*.yaml

    Args:
        files: Of which kind each is, its content says.
        as_json: Print JSON for programs.
    """
    from vitok.cluster.validate import validate as verdict_of

    if not files:
        raise UsageError("name files, as in: vitok cluster validate clusters/aws.yaml")
    verdicts = [verdict_of(path) for path in files]
    wrong = [verdict for verdict in verdicts if verdict.problems]
    if as_json:
        rows = [
            {
                "file": str(one.path), "kind": one.kind, "problems": [{"where": p.where, "what": p.what} for p in one.problems],
                "to_fill_in": list(one.placeholders),
            }
            for one in verdicts
        ]  # fmt: skip
        print(json.dumps(rows, indent=2))
    else:
        for one in verdicts:
            if not one.problems:
                left = f"; to fill in: {' '.join(one.placeholders)}" if one.placeholders else ""
                print(f"{one.path}: right ({one.kind}){left}")
            for problem in one.problems:
                print(f"{one.path}: {problem}", file=sys.stderr)
    if wrong:
        count = sum(len(one.problems) for one in wrong)
        raise VitokError(f"{count} problem(s) in {len(wrong)} of {len(verdicts)} file(s)")


def estimate(file: tyro.conf.Positional[Path], /, *, prices: Path | None = None, as_json: Json = False) -> None:
    """Estimate what a cluster costs an hour: each pool, at its fewest and its most nodes.

    Args:
        file: A launcher file, or manifests with a RayCluster or RayJob.
        prices: Of nodes. Default: clusters/prices.toml.
        as_json: Print JSON for programs.
    """
    from vitok.cluster import prices as known
    from vitok.cluster.estimate import COLUMNS
    from vitok.cluster.estimate import estimate as estimated
    from vitok.console import tables

    source = prices or known.FILE
    rows, totals = estimated(file, source)
    if as_json:
        print(json.dumps({"file": str(file), "prices": str(source), "pools": rows, **totals}, indent=2))
        return
    tables.show(f"{file}, by the prices of {source}", COLUMNS, rows)
    bound = f" (all pools together: {totals['max_workers']} workers at most)" if totals["max_workers"] else ""
    print(f"an hour costs {totals['usd_per_hour_at_min']:,.2f} USD at least, {totals['usd_per_hour_at_max']:,.2f} USD at most{bound}")
