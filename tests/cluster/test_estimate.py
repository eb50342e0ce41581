"""What a cluster costs: by hand from the price file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Call = Callable[..., tuple[int, str, str]]
PRICES = """
[aws."p5.48xlarge"]
gpus = 8
region = "r"
on_demand = { usd = 80.0, source = "me", date = "2026-01-02" }
spot = { usd = 24.0, source = "me", date = "2026-01-02" }
[aws."m7i.2xlarge"]
region = "r"
on_demand = { usd = 0.5, source = "me", date = "2026-01-02" }
[aws."c7i.24xlarge"]
region = "r"
on_demand = { usd = 4.0, source = "me", date = "2026-01-02" }
"""


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(PRICES)
    return path


@pytest.mark.parametrize(
    ("file", "most"), [("aws.yaml", 0.5 + 2 * 80 + 4 * 24 + 2 * 4), ("kuberay/raycluster.yaml", 0.5 + 4 * 24 + 2 * 80 + 4 * 4)]
)
def test_pools_and_totals(call_vitok: Call, prices: Path, file: str, most: float) -> None:
    """The launcher's bound of all pools together (8) leaves 2 of the 4 CPU nodes: the dearest are counted first."""
    code, shown, errors = call_vitok("cluster", "estimate", str(ROOT / "clusters" / file), "--prices", str(prices), "--json")
    assert code == 0, errors
    found = json.loads(shown)
    rows = {row["pool"]: row for row in found["pools"]}
    assert (rows["gpu-spot"]["how"], rows["gpu-spot"]["USD/h at max"], rows["gpu-spot"]["USD per GPU-hour"]) == ("spot", 96.0, 3.0)
    assert (rows["gpu-on-demand"]["how"], rows["gpu-on-demand"]["USD/h at max"]) == ("on demand", 160.0)
    assert rows["gpu-on-demand"]["USD per GPU-hour"] == 10.0 and rows["cpu"]["USD per GPU-hour"] is None
    assert (found["usd_per_hour_at_min"], found["usd_per_hour_at_max"], found["gpus_at_max"]) == (0.5, most, 48)


@pytest.mark.parametrize("file", ["aws.yaml", "gcp.yaml", "kuberay/raycluster.yaml", "kuberay/rayjob.yaml"])
def test_our_own_prices_cover_our_own_files(call_vitok: Call, file: str) -> None:
    code, shown, errors = call_vitok("cluster", "estimate", str(ROOT / "clusters" / file))
    assert code == 0, errors
    assert "USD per GPU-hour" in shown and "clusters/prices.toml" in shown and "2026-" in shown
    assert "an hour costs" in shown.splitlines()[-1]


def test_a_fixed_cluster_costs_the_same_at_least_and_at_most(call_vitok: Call, prices: Path) -> None:
    _, shown, _ = call_vitok("cluster", "estimate", str(ROOT / "clusters/kuberay/rayjob.yaml"), "--prices", str(prices))
    assert "an hour costs 160.50 USD at least, 160.50 USD at most" in shown


def test_what_has_no_price_is_named(call_vitok: Call, prices: Path, tmp_path: Path) -> None:
    aws = str(ROOT / "clusters/aws.yaml")
    prices.write_text(PRICES.replace("p5.48xlarge", "p4d.24xlarge"))
    assert call_vitok("cluster", "estimate", aws, "--prices", str(prices))[::2] == (
        1,
        f"error: {prices} has no price of p5.48xlarge: add one\n",
    )
    prices.write_text("\n".join(line for line in PRICES.splitlines() if not line.startswith("spot")))
    code, _, errors = call_vitok("cluster", "estimate", aws, "--prices", str(prices))
    assert (code, errors) == (1, f"error: {prices} has no spot price of p5.48xlarge: add one\n")
    prices.write_text(PRICES.replace("80.0", '"80"'))
    code, _, errors = call_vitok("cluster", "estimate", aws, "--prices", str(prices))
    assert code == 2 and "aws.p5.48xlarge.on_demand.usd" in errors and errors.count("\n") == 1
    code, _, errors = call_vitok("cluster", "estimate", aws, "--prices", str(tmp_path / "none.toml"))
    assert code == 2 and "none.toml: No such file" in errors


def test_what_has_no_pools_is_one_line(call_vitok: Call, tmp_path: Path) -> None:
    code, _, errors = call_vitok("cluster", "estimate", str(ROOT / "clusters/mlflow/compose.yaml"))
    assert code == 2 and "is a compose file: only launcher files" in errors
    code, _, errors = call_vitok("cluster", "estimate", str(ROOT / "clusters/mlflow/kubernetes.yaml"))
    assert code == 2 and "describes no Ray cluster" in errors
    (tmp_path / "x.yaml").write_text("")
    code, _, errors = call_vitok("cluster", "estimate", str(tmp_path / "x.yaml"))
    assert code == 1 and errors.endswith("x.yaml is empty\n")
    (tmp_path / "y.yaml").write_text((ROOT / "clusters/aws.yaml").read_text().replace("max_workers: 4", "max_wrokers: 4", 1))
    code, _, errors = call_vitok("cluster", "estimate", str(tmp_path / "y.yaml"))
    assert code == 1 and "did you mean max_workers?" in errors and errors.count("\n") == 1
