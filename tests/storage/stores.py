"""Object stores on this machine: a server's process, and before it a front that fails a tenth of the requests."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

FAILED = "/failed-so-far"


class Flaky(BaseHTTPRequestHandler):
    """Hands requests on, and answers every tenth with 503."""

    behind, count, failed = "", 0, 0
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        body = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(self._length())
        front = type(self)
        if self.path == FAILED:
            self._answer(200, {}, str(front.failed).encode())
            return
        front.count += 1
        if front.count % 10 == 0:
            front.failed += 1
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


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server in this process."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class Store:
    behind: str  # the server's address
    address: str  # its front's

    def failed(self) -> int:
        with urllib.request.urlopen(self.address + FAILED) as answer:
            return int(answer.read())


@contextmanager
def flaky(behind: str) -> Iterator[Store]:
    """A front before a server, in a process of its own: Google's client holds Python's lock while it waits for an answer."""
    with process([sys.executable, "-m", "tests.storage.stores", behind, "PORT"], {}) as address:
        yield Store(behind, address)


@contextmanager
def process(command: list[str], environment: dict[str, str], patience: float = 60) -> Iterator[str]:
    """The address of a server program, once it answers. PORT in its command becomes a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(
        [port if word == "PORT" else word for word in command],
        stdout=quiet,
        stderr=quiet,
        env=os.environ | environment,
        start_new_session=True,
    )
    address, ends = f"http://127.0.0.1:{port}", time.monotonic() + patience
    try:
        while True:
            try:
                urllib.request.urlopen(address, timeout=2).close()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < ends, f"{command} did not come up"
                time.sleep(0.2)
        yield address
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)  # with the workers of one that has several
        server.wait(timeout=30)


KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3(*buckets: str) -> Iterator[str]:
    """The address of a store with these buckets."""
    with process([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "PORT"], KEYS) as address:
        for bucket in buckets:
            client(address).create_bucket(Bucket=bucket)
        yield address


@contextmanager
def gs(bucket: str) -> Iterator[str]:
    """Likewise, one of Google's."""
    command = ["-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", "PORT", "--in-memory", "--default-bucket", bucket]
    with process([sys.executable, *command], {}) as address:
        yield address


def client(address: str) -> Any:
    """Of such a store."""
    import boto3

    return boto3.client("s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")


class Hub(BaseHTTPRequestHandler):
    """The part of the Hugging Face Hub that reading a dataset repository needs: who it is, its tree in pages, its files in ranges."""

    repository, folder = "somebody/photos", Path()
    page = 5

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        api = f"/api/datasets/{self.repository}"
        if url.path.startswith(f"{api}/tree/main"):
            self._tree(url.path.removeprefix(f"{api}/tree/main").strip("/"), dict(parse_qsl(url.query)))
        elif url.path in (api, f"{api}/revision/main"):
            self._json({"id": self.repository, "sha": "0" * 40})
        elif url.path.startswith(f"/datasets/{self.repository}/resolve/main/"):
            self._file(self.folder / unquote(url.path.partition("/resolve/main/")[2]))
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _tree(self, within: str, query: dict[str, str]) -> None:
        found = sorted(
            (self.folder / within).rglob("*") if query.get("recursive", "").lower() == "true" else (self.folder / within).glob("*")
        )
        start = int(query.get("cursor", 0))
        entries = list(map(self._entry, found[start : start + self.page]))
        more = urlencode(query | {"cursor": str(start + self.page)})
        address = f"http://{self.headers['Host']}{urlsplit(self.path).path}"
        self._json(entries, {"Link": f'<{address}?{more}>; rel="next"'} if start + self.page < len(found) else {})

    def _entry(self, path: Path) -> dict[str, object]:
        name = {"path": str(path.relative_to(self.folder))}
        if path.is_dir():
            return name | {"type": "directory", "oid": "1" * 40, "size": 0}
        return name | {"type": "file", "oid": sha1(path.read_bytes()).hexdigest(), "size": path.stat().st_size}

    def _file(self, path: Path) -> None:
        if not path.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data = path.read_bytes()
        first, _, last = self.headers.get("Range", f"bytes=0-{len(data) - 1}").removeprefix("bytes=").partition("-")
        self._send(206 if "Range" in self.headers else 200, data[int(first) : int(last) + 1], {})

    def _json(self, value: object, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002


if __name__ == "__main__":
    Flaky.behind = sys.argv[1]
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Flaky).serve_forever()
