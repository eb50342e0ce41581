"""A real S3 protocol on this machine: moto's server, and before it one that fails a tenth of the requests."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import numpy as np
import pytest

from vitok.config import Data
from vitok.data import files, inspect, motion
from vitok.data import ingest as ingestion
from vitok.data.corpora import open_corpora, open_corpus
from vitok.data.decode import center_clip
from vitok.data.ingest import Options
from vitok.data.sample import RejectedError, Sample
from vitok.data.stream import prepare
from vitok.errors import UsageError

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


class Flaky(BaseHTTPRequestHandler):
    """Hands requests on, and answers every tenth with 503."""

    behind, count, failed = "", 0, 0
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        body = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(self._length())
        type(self).count += 1
        if self.count % 10 == 0:
            type(self).failed += 1
            self._answer(503, {}, b"")
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("transfer-encoding", "expect")}
        request = urllib.request.Request(self.behind + self.path, body or None, headers, method=self.command)
        try:
            with urllib.request.urlopen(request) as answer:
                self._answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, dict(error.headers), error.read())

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815

    def _length(self) -> int:
        return int(self.headers.get("Content-Length") or 0)

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002


@pytest.fixture(scope="module")
def store(cluster: str) -> Iterator[str]:
    """The address of the flaky front. Ray's workers get it from the test's own processes' environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | KEYS,
    )  # fmt: skip
    Flaky.behind = f"http://127.0.0.1:{port}"
    ends = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(Flaky.behind, timeout=2).close()
            break
        except OSError:
            assert server.poll() is None and time.monotonic() < ends, "moto's server did not come up"
            time.sleep(0.2)
    front = ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    threading.Thread(target=front.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{front.server_port}"
    front.shutdown()
    server.terminate()
    server.wait(timeout=30)


@pytest.fixture
def bucket(store: str, monkeypatch: pytest.MonkeyPatch, photos: Path) -> Iterator[str]:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": store}.items():
        monkeypatch.setenv(name, value)
    files._connected.cache_clear()
    client = boto3.client("s3", endpoint_url=Flaky.behind, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
    client.create_bucket(Bucket="corpora")
    for path in sorted(photos.iterdir()):
        client.upload_file(str(path), "corpora", f"photos/{path.name}")
    yield "s3://corpora"
    files._connected.cache_clear()


def test_a_store_that_fails_a_tenth_of_its_requests_loses_nothing(bucket: str, photos: Path, cluster: str) -> None:
    import ray

    Flaky.failed = 0
    corpora = open_corpora(f"{bucket}/photos")
    assert corpora.parts[0][1].fingerprint == open_corpus(str(photos)).fingerprint
    environment = {name: os.environ[name] for name in (*KEYS, "AWS_ENDPOINT_URL")}

    @ray.remote(runtime_env={"env_vars": environment})
    def streamed(uri: str) -> tuple[np.ndarray, int]:
        """In a process with the store's address, as the workers of a job with that runtime environment have it."""
        reader = prepare(open_corpora(uri), Data(), 16).training
        found = reader.training(range(44), seed=0)
        return np.stack([one.pixels for one in found if one.pixels is not None]), sum(len(one.rejected) for one in found)

    there, lost = ray.get(streamed.remote(f"{bucket}/photos"))
    here = prepare(open_corpora(str(photos)), Data(), 16).training.training(range(44), seed=0)
    assert lost == 0 and np.array_equal(there, np.stack([one.pixels for one in here if one.pixels is not None]))
    assert Flaky.failed >= 4


def test_ingest_into_a_store_and_back(bucket: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(task: object, numbers: list[int]) -> Iterator[int]:
        return (task(n) for n in numbers)  # pyright: ignore[reportCallIssue]

    monkeypatch.setattr(ingestion, "run_tasks", here)  # the cluster's workers do not have the store's address
    options = Options(shard_mb=1, group_rows=4, part_samples=5)
    there = ingestion.ingest(open_corpus(f"{bucket}/photos"), f"{bucket}/ingested", options, lambda *_: None)
    local = ingestion.ingest(open_corpus(str(photos)), str(tmp_path / "out"), options, lambda *_: None)
    assert there["fingerprint"] == local["fingerprint"] and there["counts"] == local["counts"]
    assert inspect.verify(f"{bucket}/ingested") == []
    assert sorted(name for name, _ in files.listing(f"{bucket}/ingested")) == sorted(p.name for p in (tmp_path / "out").iterdir())
    corpus = open_corpus(f"{bucket}/ingested")
    assert corpus.train.get(0, 0).data == open_corpus(str(tmp_path / "out")).train.get(0, 0).data


def test_a_video_is_read_where_it_lies(bucket: str) -> None:
    name = "skimage/data/chelsea/pan-left.mp4"
    local = motion.locate(name)
    files.write(f"{bucket}/videos/a.mp4", local.read_bytes())
    files.write(f"{bucket}/videos/b.mp4", b"no video")
    corpus = open_corpus(f"{bucket}/videos")
    found: dict[str, np.ndarray | str] = {}
    for split in (corpus.train, corpus.validation):
        try:
            found[split.name(0, 0)] = center_clip(split.get(0, 0), 32, 4, 8.0)
        except RejectedError as error:
            found[split.name(0, 0)] = error.reason
    assert found["b.mp4"] == "not a video"
    assert np.array_equal(found["a.mp4"], center_clip(Sample("", 0, uri=str(local)), 32, 4, 8.0))


def test_an_absent_bucket_is_one_line(bucket: str) -> None:
    with pytest.raises(UsageError, match="s3://nowhere"):
        open_corpus("s3://nowhere/photos")
