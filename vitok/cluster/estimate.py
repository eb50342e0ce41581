"""What a cluster costs an hour, pool by pool."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitok.cluster import launcher, manifests, prices
from vitok.cluster.kinds import LAUNCHER, MANIFESTS, kind
from vitok.cluster.pools import Pool
from vitok.cluster.read import UnreadableError, read
from vitok.cluster.validate import problems
from vitok.errors import UsageError, VitokError

COLUMNS = (
    "pool",
    "type",
    "how",
    "nodes",
    "USD/h a node",
    "USD/h at min",
    "USD/h at max",
    "USD per GPU-hour",
    "price of",
    "region",
    "source",
)


def estimate(path: Path, prices_file: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of pools, and totals. Raises `VitokError` for a file that describes no pools or is not right, and for an unknown price."""
    try:
        file = read(path)
    except UnreadableError as error:
        raise VitokError(f"{path} {error}") from None
    which = kind(file)
    if which not in (LAUNCHER, MANIFESTS):
        raise UsageError(
            f"{path} is {which.name if which else 'of no known kind'}: only launcher files and Ray's manifests say what nodes there are"
        )
    if wrong := problems(file):
        raise VitokError(f"{path}: {wrong[0]} ({len(wrong)} in all: vitok cluster validate {path})")
    pools = launcher.pools(file.documents[0]) if which is LAUNCHER else manifests.pools(file.documents)
    if not pools:
        raise UsageError(f"{path} describes no Ray cluster: there is nothing to price")
    known = prices.load(prices_file)
    rows = [_row(pool, known, prices_file) for pool in pools]
    return rows, _totals(rows, pools, largest=file.documents[0].get("max_workers") if which is LAUNCHER else None)


def _row(pool: Pool, known: dict[str, prices.PricedNode], path: Path) -> dict[str, Any]:
    if pool.instance is None:
        raise VitokError(f"{pool.where}: its type of node is not said: add the label node.kubernetes.io/instance-type to nodeSelector")
    price = prices.price(known, pool.instance, pool.spot, path)
    maximum = pool.maximum or 0
    return {
        "pool": pool.name, "type": pool.instance, "how": "spot" if pool.spot else "on demand", "nodes": f"{pool.minimum} to {maximum}",
        "USD/h a node": price.usd, "USD/h at min": round(price.usd * pool.minimum, 2), "USD/h at max": round(price.usd * maximum, 2),
        "USD per GPU-hour": round(price.usd / pool.gpus, 2) if pool.gpus else None,
        "price of": price.date, "region": known[pool.instance].region, "source": price.source,
    }  # fmt: skip


def _totals(rows: list[dict[str, Any]], pools: Sequence[Pool], largest: int | None) -> dict[str, Any]:
    """Return the totals at the least and at the most: there the dearest nodes first, up to the bound of all pools together where there
    is one."""
    dearest = sorted(
        ((row["USD/h a node"], pool.maximum or 0) for row, pool in zip(rows, pools, strict=True) if not pool.head), reverse=True
    )
    most, left = sum(row["USD/h at max"] for row, pool in zip(rows, pools, strict=True) if pool.head), largest
    for usd, count in dearest:
        taken = count if left is None else min(count, left)
        left = None if left is None else left - taken
        most += usd * taken
    gpus = [(pool.gpus * (pool.maximum or 0), row) for row, pool in zip(rows, pools, strict=True)]
    return {
        "usd_per_hour_at_min": round(sum(row["USD/h at min"] for row in rows), 2),
        "usd_per_hour_at_max": round(most, 2),
        "max_workers": largest,
        "gpus_at_max": int(sum(count for count, _ in gpus)),
    }
