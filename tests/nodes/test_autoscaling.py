"""A study as it is run every day: `ray job submit` to a cluster that has no worker yet, and has none again when it is done."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.nodes.machines import RAY, Cluster, cluster
from tests.nodes.services import Services, checkpoints, runs

pytestmark = [pytest.mark.nodes, pytest.mark.timeout(900)]
ROOT = Path(__file__).parent.parent.parent
POOLS = {"train": {"resources": {"CPU": 3, "object_store_memory": 150 << 20}, "node_config": {}, "min_workers": 0, "max_workers": 4}}
SMALL = {
    "steps": "60", "batch_size": "4", "grid.tokenizer.patch": "8", "grid.tokenizer.channels": "4,8,16,32", "loss.lpips": "0",
    "data.pool": "64", "data.validation_crops": "4", "resources.metrics": "rPSNR", "resources.cpus_per_worker": "2",
    "resources.checkpoint_every": "10", "resources.log_every": "10",
}  # fmt: skip
STUDY = ("python", "studies/e_sweep.py", *(part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")))


@pytest.fixture(scope="module")
def growing(reached: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("growing"), POOLS, **reached.environment) as made:
        yield made


@pytest.fixture(scope="module")
def checkout(growing: Cluster, reached: Services, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with clusters/runtime_env.yaml filled in, and with what a user's has lying about."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("vitok", "studies", "clusters"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "clusters" / "runtime_env.yaml"
    filled = path.read_text().replace("s3://<bucket>/vitok", "s3://runs/submitted").replace("http://<mlflow-host>:5000", reached.mlflow)
    asked = yaml.safe_load(filled)
    shutil.copy(growing.pools, folder / "clusters" / "pools.yaml")
    asked["env_vars"]["VITOK_CLUSTER"] = "clusters/pools.yaml"
    path.write_text(yaml.safe_dump(asked))
    (folder / "runs").mkdir()
    for name in ("runs/mlflow.db", "photos.tar", "latents.parquet", "weights.safetensors"):
        (folder / name).write_bytes(os.urandom(1 << 20))
    return folder


@pytest.fixture
def job(growing: Cluster, checkout: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`ray job ...`, as at a desk to which the dashboard's port is forwarded."""

    def call(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | growing.environment | {"RAY_API_SERVER_ADDRESS": growing.dashboard} | changes
        return subprocess.run([RAY, "job", *arguments], cwd=checkout, env=environment, capture_output=True, text=True, timeout=500)

    return call


def submit(*entrypoint: str, options: Sequence[str] = ()) -> tuple[str, ...]:
    return ("submit", "--runtime-env", "clusters/runtime_env.yaml", *options, "--", *entrypoint)


def test_what_is_submitted_is_the_code_alone_and_a_failure_is_one(job: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """A package without data; a study that cannot be run, on which the job ends with 1 and one line."""
    ended = job(*submit("sh", "-c", "find . -maxdepth 2 -type f && exec python studies/e_sweep.py --scale single-gpu"))
    assert ended.returncode == 1
    assert "./studies/e_sweep.py" in ended.stdout and "./vitok/__init__.py" in ended.stdout
    assert not any(name in ended.stdout for name in ("mlflow.db", "photos.tar", "latents.parquet", "weights.safetensors"))
    assert "error: one run needs 1 GPU, the cluster offers 0" in ended.stdout and "Traceback" not in ended.stdout


def test_without_the_token_nothing_is_taken(job: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("b" * 64)
    ended = job(*submit("true"), RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    assert ended.returncode == 1 and "submitted successfully" not in ended.stdout
    assert "InvalidAuthToken" in ended.stderr or "authentication" in ended.stderr.lower(), ended.stderr


def test_workers_come_and_go(growing: Cluster, reached: Services, job: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """From 0 to 4 and back, while a study is stopped and gone on with by the same command."""
    began, seen = time.monotonic(), [(0.0, len(growing.workers()))]

    def watch(until: Callable[[], object], patience: float = 300) -> None:
        ends = time.monotonic() + patience
        while not until():
            assert time.monotonic() < ends, seen
            if (there := len(growing.workers())) != seen[-1][1]:
                seen.append((round(time.monotonic() - began), there))
            time.sleep(0.5)

    first = job(*submit(*STUDY, options=("--submission-id", "first", "--no-wait")))
    assert first.returncode == 0, first.stderr
    with ThreadPoolExecutor(1) as aside:
        following = aside.submit(job, "logs", "first", "--follow")
        watch(lambda: checkpoints(reached, "submitted") or following.done())
        assert job("stop", "first").returncode == 0
        assert "laying out sample-photos" in following.result().stdout, "what the study says is to be seen while it runs"
        assert "was stopped" in job("status", "first").stdout
        stopped = round(time.monotonic() - began)
        running = aside.submit(job, *submit(*STUDY, options=("--submission-id", "second")))
        watch(running.done)
    ended = running.result()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    print(f"\nstopped after {stopped} s, ended after {time.monotonic() - began:.0f} s\n{ended.stdout}")
    watch(lambda: seen[-1][1] == 0)
    print("workers (seconds, nodes):", seen)
    assert seen[0][1] == 0 and max(count for _, count in seen) == 4
    found = runs(reached, "submitted").values()
    assert len(found) == 4 and min(run.data.metrics["final/steps_this_attempt"] for run in found) < 60
