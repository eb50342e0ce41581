"""Real store protocols on this machine: S3 by moto's server, Google's by an emulator of it, the Hub's by what it says of itself in
its client; before each a front that fails a tenth of the requests."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

import numpy as np
import pytest

from tests.storage import stores
from tests.storage.stores import KEYS, Hub, Store, flaky, served
from vitok.config import Data
from vitok.data.corpora import sample_motion
from vitok.data.corpora.corpus import open_corpora, open_corpus
from vitok.data.decoding.image import center_clip
from vitok.data.ingest import ingest as ingestion
from vitok.data.ingest import inspect
from vitok.data.ingest.ingest import IngestOptions
from vitok.data.loading.loader import prepare_source
from vitok.data.sample import Sample
from vitok.errors import RejectedError, UsageError, VitokError
from vitok.storage import filesystem

MOTION = "skimage/data/chelsea/pan-left.mp4"
Reached = tuple[str, dict[str, str], Store]  # the address of the corpora, the environment that finds it, the store


@pytest.fixture(scope="module")
def shelf(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every store holds: photos/, videos/ with one that is none."""
    folder = tmp_path_factory.mktemp("shelf")
    shutil.copytree(photos, folder / "photos")
    (folder / "videos").mkdir()
    shutil.copy(sample_motion.locate(MOTION), folder / "videos" / "a.mp4")
    (folder / "videos" / "b.mp4").write_bytes(b"no video")
    return folder


def names(shelf: Path) -> list[str]:
    return sorted(str(path.relative_to(shelf)) for path in shelf.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def s3(shelf: Path) -> Iterator[Reached]:
    with stores.s3("corpora") as behind, flaky(behind) as store:
        for name in names(shelf):
            stores.client(behind).upload_file(str(shelf / name), "corpora", name)
        yield "s3://corpora", {**KEYS, "AWS_ENDPOINT_URL": store.address}, store


@pytest.fixture(scope="module")
def gs(shelf: Path) -> Iterator[Reached]:
    with stores.gs("corpora") as behind, flaky(behind) as store:
        for name in names(shelf):
            address = f"{behind}/upload/storage/v1/b/corpora/o?uploadType=media&name={quote(name, safe='')}"
            urlopen(Request(address, (shelf / name).read_bytes(), method="POST")).close()
        yield "gs://corpora", {"STORAGE_EMULATOR_HOST": store.address}, store


@pytest.fixture(scope="module")
def hf(shelf: Path) -> Iterator[Reached]:
    with served(type("Front", (Hub,), {"folder": shelf})) as behind, flaky(behind) as store:
        yield f"hf://datasets/{Hub.repository}", {"HF_ENDPOINT": store.address, "HF_HUB_DISABLE_TELEMETRY": "1"}, store


@pytest.fixture
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A store reached from this process."""
    uri, environment, _ = request.getfixturevalue(getattr(request, "param", "s3"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    filesystem._connected.cache_clear()
    yield uri
    filesystem._connected.cache_clear()


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["s3", "gs", "hf"])
def test_a_store_that_fails_a_tenth_of_its_requests_loses_nothing(
    scheme: str, request: pytest.FixtureRequest, photos: Path, cluster: str
) -> None:
    import ray

    uri, environment, store = request.getfixturevalue(scheme)
    before = store.failed()

    @ray.remote(runtime_env={"env_vars": environment})
    def streamed(uri: str) -> tuple[str, np.ndarray, int]:
        """In a process with the store's address, as the workers of a job with that runtime environment have it."""
        corpora = open_corpora(uri)
        found = list(prepare_source(corpora, Data(), 16).training.training(range(44), seed=0))
        pixels = np.stack([one.pixels for one in found if one.pixels is not None])
        return corpora.parts[0][1].fingerprint, pixels, sum(len(one.rejected) for one in found)

    fingerprint, there, lost = ray.get(streamed.remote(f"{uri}/photos"))
    here = prepare_source(open_corpora(str(photos)), Data(), 16).training.training(range(44), seed=0)
    assert fingerprint == open_corpus(str(photos)).fingerprint
    assert lost == 0 and np.array_equal(there, np.stack([one.pixels for one in here if one.pixels is not None]))
    assert store.failed() - before >= 4


@pytest.mark.parametrize("bucket", ["s3"], indirect=True)
def test_ingest_into_a_store_and_back(bucket: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str) -> None:
    def here(task: object, numbers: list[int]) -> Iterator[int]:
        return (task(n) for n in numbers)  # pyright: ignore[reportCallIssue]

    monkeypatch.setattr(ingestion, "run_tasks", here)  # the cluster's workers do not have the store's address
    options = IngestOptions(shard_mb=1, group_rows=4, part_samples=5)
    there = ingestion.ingest(open_corpus(f"{bucket}/photos"), f"{bucket}/ingested", options, lambda *_: None)
    local = ingestion.ingest(open_corpus(str(photos)), str(tmp_path / "out"), options, lambda *_: None)
    assert there["fingerprint"] == local["fingerprint"] and there["counts"] == local["counts"]
    assert inspect.verify(f"{bucket}/ingested") == []
    assert sorted(name for name, _ in filesystem.listing(f"{bucket}/ingested")) == sorted(p.name for p in (tmp_path / "out").iterdir())
    corpus = open_corpus(f"{bucket}/ingested")
    assert corpus.train.get(0, 0).data == open_corpus(str(tmp_path / "out")).train.get(0, 0).data


@pytest.mark.parametrize("scheme", ["s3", "gs", "hf"])
def test_a_video_is_read_where_it_lies(scheme: str, request: pytest.FixtureRequest, cluster: str) -> None:
    import ray

    uri, environment, _ = request.getfixturevalue(scheme)

    @ray.remote(runtime_env={"env_vars": environment})
    def read(uri: str) -> dict[str, np.ndarray | str]:
        corpus = open_corpus(uri)
        found: dict[str, np.ndarray | str] = {}
        for split in (corpus.train, corpus.validation):
            try:
                found[split.name(0, 0)] = center_clip(split.get(0, 0), 32, 4, 8.0)
            except RejectedError as error:
                found[split.name(0, 0)] = error.reason
        return found

    found = ray.get(read.remote(f"{uri}/videos"))
    assert found["b.mp4"] == "not a video"
    assert np.array_equal(found["a.mp4"], center_clip(Sample("", 0, uri=str(sample_motion.locate(MOTION))), 32, 4, 8.0))


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["s3", "gs", "hf"])
def test_a_file_written_again_has_another_stamp(scheme: str, request: pytest.FixtureRequest, shelf: Path, cluster: str) -> None:
    import ray

    uri, environment, _ = request.getfixturevalue(scheme)

    def stamp(data: bytes | None) -> str:
        """In a process of its own: what a client knows it may keep while it lives."""
        if data:
            (shelf / "again").write_bytes(data)  # the Hub of the test shows this folder

        @ray.remote(runtime_env={"env_vars": environment | {"AGAIN": str(data)}})
        def there() -> str:
            if data and scheme != "hf":
                filesystem.write(f"{uri}/again", data)
            return filesystem.stamp(f"{uri}/again")

        return ray.get(there.remote())

    first = stamp(b"one")
    assert stamp(None) == first != stamp(b"two")


@pytest.mark.parametrize("bucket", ["s3", "gs"], indirect=True)
def test_an_absent_bucket_is_one_line(bucket: str) -> None:
    nowhere = f"{bucket.partition('://')[0]}://nowhere/photos"
    with pytest.raises(UsageError, match=nowhere):
        open_corpus(nowhere)
    with pytest.raises(VitokError, match=f"{nowhere} cannot be written: .*(bucket|NOT_FOUND)"):
        filesystem.write(nowhere, b"")


def test_the_hub_is_not_written() -> None:
    with pytest.raises(UsageError, match="hf upload"):
        filesystem.write("hf://datasets/somebody/photos/a", b"")
