"""A small corpus to train on, a sink that keeps what it is given, and two ranks that stay for all tests of a session."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.recipes import RESOURCES, Job, make_job, tiny
from vitok.config import Recipe, Resources
from vitok.data.corpora.corpus import open_corpora
from vitok.data.loading.loader import Source, prepare_source
from vitok.networks import weights
from vitok.networks.sources import Payload
from vitok.train import launch


class Curve:
    """A sink that can stop the run as a crash would."""

    def __init__(self, crash_at: int | None = None) -> None:
        self.points: dict[int, dict[str, float]] = {}
        self.news: list[tuple[int, str]] = []
        self.crash_at = crash_at

    def log(self, step: int, values: dict[str, float]) -> None:
        self.points[step] = values
        if step == self.crash_at:
            raise KeyboardInterrupt

    def say(self, step: int, text: str) -> None:
        self.news.append((step, text))

    def back(self, step: int) -> None:
        self.points = {at: values for at, values in self.points.items() if at <= step}

    def flush(self) -> None:
        pass

    def losses(self) -> dict[int, float]:
        return {step: values["train/loss"] for step, values in self.points.items()}

    def told(self) -> str:
        return "\n".join(text for _, text in self.news)


Run = Callable[..., launch.RunOutcome]


@pytest.fixture(scope="session")
def source(photos: Path, cluster: str) -> Source:
    recipe = tiny()
    return prepare_source(open_corpora(str(photos)), recipe.data, recipe.tokenizer.size)


@pytest.fixture(scope="session")
def states() -> dict[str, Payload]:
    return {"lpips-alexnet": weights.resolve_weights("lpips-alexnet")[0]}


@pytest.fixture
def run(source: Source, states: dict[str, Payload]) -> Run:
    """Run a recipe in a folder, in this process."""

    def call(folder: Path, sink: Curve | None = None, recipe: Recipe | None = None, resources: Resources = RESOURCES) -> launch.RunOutcome:
        folder.mkdir(exist_ok=True)
        return launch.run(*make_job(recipe or tiny(), resources, source, states, folder, sink or Curve()))

    return call


class Rank:
    def __init__(self, rank: int, port: int) -> None:
        import torch.distributed as dist

        self.rank = rank
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)

    def work(self, job: Any) -> tuple[launch.RunOutcome, Any]:
        from vitok.train.ranks import Place

        return launch.run(*job, Place(self.rank, 2)), job.sink


@pytest.fixture(scope="session")
def two_ranks(source: Source, states: dict[str, Payload]) -> Iterator[Callable[..., tuple[launch.RunOutcome, Curve]]]:
    """Run a recipe on two ranks: a process group over gloo, without the half minute that a Ray Train group takes to start."""
    import ray

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [ray.remote(num_cpus=1)(Rank).remote(rank, port) for rank in range(2)]

    def call(
        folder: Path, recipe: Recipe, resources: Resources, sink: Curve | None = None, job: Job | None = None
    ) -> tuple[launch.RunOutcome, Curve]:
        folder.mkdir(exist_ok=True)
        two = resources.model_copy(update={"workers": 2})
        if job is None:
            job = make_job(recipe, two, source, states, folder, sink or Curve())
        job = job._replace(spec=replace(job.spec, resources=two))
        return ray.get([rank.work.remote(job) for rank in ranks], timeout=120)[0]

    yield call
    for rank in ranks:
        ray.kill(rank)
