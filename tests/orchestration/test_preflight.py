"""What a cluster may grow to, by the file that it was made of."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import vitok
from vitok.cluster import growth
from vitok.config import Resources
from vitok.errors import VitokError
from vitok.orchestration import capacity, preflight, request, session
from vitok.orchestration.capacity import Capacity

ROOT = Path(__file__).parent.parent.parent
GPU = Resources(gpus_per_worker=1, cpus_per_worker=4, workers=8, tflops=1, utilisation=1)


@pytest.fixture(autouse=True)
def _in_cluster(cluster: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("file", "cpus"), [("aws.yaml", 192), ("kuberay/raycluster.yaml", 180)])
def test_nodes_that_may_come_count(file: str, cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six GPU nodes and four that decode, beside the six CPUs and two slots of the tests' own node."""
    assert "GPU" not in capacity.measure().total
    with pytest.raises(VitokError, match=r"no node can ever hold one worker, which needs 4 CPU and 1 GPU at once; the largest has 6 CPU"):
        capacity.measure().require_node(GPU)
    monkeypatch.setenv("VITOK_CLUSTER", str(ROOT / "clusters" / file))
    found = capacity.measure()
    assert found.total["GPU"] == 48 and found.total["trial_slot"] == 16
    assert found.total["CPU"] == 6 * cpus + 4 * found.total["decode"] / 4
    capacity.measure().require_node(GPU)
    found.require(GPU.need(_recipe()) | {"trial_slot": 1})
    with pytest.raises(VitokError, match="no node can ever hold one worker, which needs 500 CPU"):
        capacity.measure().require_node(GPU.model_copy(update={"cpus_per_worker": 500}))


def test_what_ray_up_has_left_is_believed_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ray_bootstrap_config.yaml").write_text((ROOT / "clusters" / "aws.yaml").read_text())
    monkeypatch.setenv("VITOK_CLUSTER", "no-such.yaml")
    assert {pool.name for pool in growth.pools()} == {"head", "gpu-spot", "gpu-on-demand", "cpu"}
    assert request.choose({"laptop": _scale(), "paper": _scale(8)}, None, capacity.measure()).scale == "paper"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        ("", "is empty"),
        ("a: [", "is not YAML"),
        ("services: {}", "is a compose file, not the file of a cluster"),
    ],
)
def test_a_file_that_does_not_tell(content: str | None, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "pools.yaml").write_text(content)
    monkeypatch.setenv("VITOK_CLUSTER", "pools.yaml")
    with pytest.raises(VitokError, match=said):
        capacity.measure()


def test_the_doctor_looks_at_every_node(
    call_vitok: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    code, out, err = call_vitok("doctor", "--cluster", "--json", "--storage", str(tmp_path / "runs"))
    found = json.loads(out)
    assert code == 0 and found["problems"] == [] and err == ""
    (node,) = found["nodes"]
    assert (
        node["resources"]["CPU"] == 6
        and node["storage"] == ""
        and node["vitok"] == vitok.__version__
        and node["code"] == preflight.source()
    )
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["storage-id"]  # nothing else is left
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///x.db")
    assert call_vitok("doctor", "--cluster", "--storage", str(tmp_path / "runs"))[0] == 0  # one machine that stays one
    monkeypatch.setenv("VITOK_CLUSTER", str(ROOT / "clusters" / "aws.yaml"))
    code, _, err = call_vitok("doctor", "--cluster", "--storage", str(tmp_path / "runs"))
    assert code == 1 and "sqlite:///x.db) is a file, which the nodes of a cluster cannot share" in err
    monkeypatch.delenv("RAY_ADDRESS")
    code, _, err = call_vitok("doctor", "--cluster")
    assert code == 2 and "RAY_ADDRESS names no cluster" in err
    code, _, err = call_vitok("doctor", "--storage", "x")
    assert code == 2 and "looked at with --cluster" in err


def test_decoding_on_nodes_of_its_own_is_another_need() -> None:
    apart = GPU.model_copy(update={"decode": "cpu-nodes", "data_cpus": 64})
    decodes = _recipe().model_copy(update={"data": _recipe().data.model_copy(update={"pool": 0})})
    assert apart.need(decodes) == {"CPU": 32, "GPU": 8, "decode": 1} and apart.want(decodes) == {"CPU": 32, "GPU": 8, "decode": 64}
    assert apart.need(_recipe())["decode"] == 1 and apart.want(_recipe())["decode"] == 0  # what is decoded before all trials holds up none
    with pytest.raises(VitokError, match="one run needs 1 decode, the cluster offers 0"):
        Capacity({"CPU": 100, "GPU": 8}).require(apart.need(_recipe()))


def _recipe():
    from tests.recipes import tiny

    return tiny()


def _scale(workers: int = 1):
    from vitok.study import presets

    laptop = presets.laptop()
    return type(laptop)(laptop.arms, laptop.resources.model_copy(update={"workers": workers}))


def test_samples_that_would_fill_the_stores_are_refused_at_once(photos: Path) -> None:
    from tests.recipes import tiny
    from vitok.data.corpora.corpus import open_corpora
    from vitok.data.loading.loader import prepare_source

    recipe = tiny()
    data = recipe.data.model_copy(update={"pool": 10_000_000})
    with pytest.raises(
        VitokError, match=r"data.pool = 10000000 samples and the held-out views take [\d,.]+ GB decoded, of .* lower data.pool"
    ):
        prepare_source(open_corpora(str(photos)), data, 256)


@pytest.mark.parametrize(("name", "said"), [("OutOfDiskError", "disk is full"), ("ObjectStoreFullError", "object store is full")])
def test_what_ran_out_is_one_line(name: str, said: str) -> None:
    import ray.exceptions

    error = getattr(ray.exceptions, name)("...")
    with pytest.raises(VitokError, match=said), session.results_apart():
        raise error
    task = ray.exceptions.RayTaskError("f", "a traceback", error)
    with pytest.raises(VitokError, match=said), session.results_apart():
        raise task.as_instanceof_cause()
    with pytest.raises(KeyError), session.results_apart():  # a defect stays one
        raise KeyError("x")


def test_a_node_that_goes_while_it_is_asked_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when an autoscaler lets an idle node go: it is listed, takes no task, and is gone a moment later."""
    import ray
    from ray.exceptions import TaskUnschedulableError

    node = {"NodeID": "f" * 8, "NodeManagerAddress": "192.0.2.2", "Resources": {"CPU": 1.0}, "Alive": True}
    listed = [[node], [node], [{**node, "Alive": False}]]
    monkeypatch.setattr(ray, "nodes", lambda: listed.pop(0) if len(listed) > 1 else listed[0])

    def refuse(*_: object, **__: object) -> None:
        raise TaskUnschedulableError("the node doesn't exist any more")

    monkeypatch.setattr(ray, "get", refuse)
    assert preflight._heard(node, None) is None
    listed[:] = [[node]]
    monkeypatch.setattr(preflight, "LEAVING", 0.6)
    stays = preflight._heard(node, None)
    assert stays is not None and stays.problem.startswith("cannot run a task: ")
