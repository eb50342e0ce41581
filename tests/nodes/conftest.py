"""One cluster of several nodes for the tests of this folder, with the services that it reports to. Each is a process, as on machines."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nodes.machines import Cluster, cluster
from tests.nodes.services import Services, services
from vitok.networks import weights


@pytest.fixture(scope="package")
def reached() -> Iterator[Services]:
    with services() as found:
        yield found


@pytest.fixture(scope="module")
def several(reached: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head that runs no tasks, two nodes that train and one that only decodes."""
    weights.resolve_weights("lpips-alexnet"), weights.resolve_weights("efficientnet-lite0")  # once, for all of them
    with cluster(tmp_path_factory.mktemp("cluster"), **reached.environment) as made:
        for name in ("one", "two"):
            made.add(name, 2, **reached.environment)
        made.add("decoder", 1, {"decode": 1}, **reached.environment)
        yield made


@pytest.fixture
def study() -> Path:
    return Path(__file__).parent.parent.parent / "studies" / "e_sweep.py"
