"""One Ray cluster for each process of the session; tiny corpora of real JPEGs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # before torch: threads that share a core wait for one another at every step
    os.environ["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // int(workers)))

import psutil
import pytest
import torch

os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.pop("VITOK_STORAGE", None)
os.environ.pop("RAY_ADDRESS", None)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes: each would compile the project anew
sys.dont_write_bytecode = False

HERE = Path(__file__).parent
LONGEST = ("orchestration", "evaluation", "train", "data")  # folders, in the order in which they are run
STUDY = Path(__file__).parent.parent / "studies" / "e_sweep.py"
LINEAR, THREADS = torch.nn.functional.linear, torch.get_num_threads()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(HERE).parts[0]
        return LONGEST.index(folder) if folder in LONGEST else len(LONGEST) + (folder == "nodes")  # which want the machine for themselves

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file at a time, but those together that share what takes long to make: all of tests/nodes, and the latents of tests/data."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            together = (start for start in ("tests/nodes/", "tests/data/test_latent") if nodeid.startswith(start))
            return next(together, None) or super()._split_scope(nodeid)

    return Files(config, log)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """MLflow exports the store that a test has used to every process that a later one starts; ZeRO 3 leaves its own `linear` in torch; a
    run in this process sets its threads, on which the last bits of initial weights depend. Of whatever scope the fixture that did it."""
    yield
    torch.nn.functional.linear = LINEAR
    torch.set_num_threads(THREADS)
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture
def call_vitok(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`vitok ...` in this process. Gives (exit code, stdout, stderr)."""
    from vitok import cli

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vitok", *arguments])
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """More logical CPUs than cores: the tests run many small workers. Gives the address."""
    import ray

    context = ray.init(
        address="local", num_cpus=6, resources={"trial_slot": 2}, include_dashboard=True, logging_level="ERROR", log_to_driver=False
    )
    yield context.address_info["gcs_address"]
    ray.shutdown()


def kill(driver: subprocess.Popen[Any]) -> None:
    """A driver and what trains for it, at once (SIGKILL): left alone, workers go on until Ray has noticed that their driver is gone."""
    here = psutil.process_iter(["cmdline", "ppid"])
    raylets = {one.pid for one in psutil.Process().children(recursive=True) if one.name() == "raylet"}
    training = [
        one for one in here if one.info["ppid"] in raylets and "".join(one.info["cmdline"] or ()).startswith(("ray::Impl", "ray::RayTrain"))
    ]
    for one in (*training, driver):
        with suppress(psutil.NoSuchProcess):
            one.kill()
    driver.wait()


@pytest.fixture(scope="session")
def s3_runs() -> Iterator[dict[str, str]]:
    """An S3 server with a bucket `runs`: the environment that finds it."""
    from tests.storage.stores import KEYS, s3

    with s3("runs") as address:
        yield {**KEYS, "AWS_ENDPOINT_URL": address}


@pytest.fixture(scope="session")
def gs_runs() -> Iterator[dict[str, str]]:
    from tests.storage.stores import gs

    with gs("runs") as address:
        yield {"STORAGE_EMULATOR_HOST": address}


@pytest.fixture
def stored(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """What stands for a folder of that bucket (of S3, or the scheme asked for) on this machine, in a cache of its own."""
    from vitok.storage import filesystem, mirror

    scheme = getattr(request, "param", "s3")
    for name, value in {**request.getfixturevalue(f"{scheme}_runs"), "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    filesystem._connected.cache_clear()
    yield mirror.local_path(f"{scheme}://runs/{tmp_path.name}")
    filesystem._connected.cache_clear()


both = pytest.mark.parametrize("stored", ["s3", "gs"], indirect=True)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve small JPEGs cut from real photographs."""
    from PIL import Image

    from vitok.data.corpora import sample_photos

    folder = tmp_path_factory.mktemp("photos")
    for i, name in enumerate(sample_photos.TRAIN):
        with Image.open(sample_photos.locate(name)) as image:
            image.convert("RGB").resize((96, 72 + i)).save(folder / f"photo-{i:02d}.jpg", quality=90)
    return folder


@pytest.fixture(scope="session")
def labelled(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same photographs in three classes."""
    folder = tmp_path_factory.mktemp("labelled")
    for number, path in enumerate(sorted(photos.iterdir())):
        (folder / f"class-{number % 3}").mkdir(exist_ok=True)
        (folder / f"class-{number % 3}" / path.name).hardlink_to(path)
    return folder


@pytest.fixture
def broken_photos(photos: Path, tmp_path: Path) -> Path:
    """The same folder with one JPEG cut short, one empty file and one text under a picture's name."""
    folder = tmp_path / "broken"
    shutil.copytree(photos, folder)
    good = (folder / "photo-00.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(good[: len(good) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.webp").write_text("not a picture")
    return folder
