"""Ray clusters of several nodes on one machine: `ray start` for each, as on machines of their own, with their own environment."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from vitok.data import files

RAY = str(Path(sys.executable).with_name("ray"))
ATTEMPTS, STARTED = 3, "Ray runtime started"
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
NODE = """
import sys, ray
ray.init(log_to_driver=False, logging_level="ERROR")
print(next(node["NodeID"] for node in ray.nodes() if node["Alive"] and sys.argv[1] in node["Resources"]))
"""


@dataclass
class Machine:
    """A node: `ray start --block` and all that it starts."""

    name: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """As a machine that loses its power: all at once."""
        with suppress(psutil.NoSuchProcess):
            whole = psutil.Process(self.process.pid)
            for one in [*whole.children(recursive=True), whole]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        self.process.wait(timeout=30)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=20)
        self.kill()


@dataclass
class Cluster:
    address: str  # of its control, for RAY_ADDRESS
    dashboard: str
    token: str  # a file
    folder: Path
    machines: list[Machine] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        weights = {"VITOK_WEIGHTS_DIR": str(files.cache() / "weights")}  # caches of its own would begin by fetching them
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": self.token, **weights, **QUIET}

    def add(self, name: str, cpus: int, resources: dict[str, float] | None = None, **environment: str) -> Machine:
        """A node with a cache of its own."""
        offers = json.dumps({f"at_{name}": 1, **(resources or {})})
        command = ["--address", self.address, "--num-cpus", str(cpus), "--resources", offers, "--block"]
        own = self.environment | self._cache(name) | environment
        machine = _started(name, self.folder, [*command, "--object-store-memory", str(200 << 20)], own)
        self.machines.append(machine)
        return machine

    def machine(self, name: str) -> Machine:
        """The one that was added last under this name."""
        return next(machine for machine in reversed(self.machines) if machine.name == name)

    def identity(self, name: str) -> str:
        """Of a node, in Ray."""
        return self(sys.executable, "-c", NODE, f"at_{name}").stdout.split()[-1]

    def started(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """A driver, on the head."""
        own = os.environ | self.environment | self._cache("head") | {"RAY_ADDRESS": self.address} | environment
        # Elsewhere: Ray puts the folder where a driver was started before all others of its workers.
        return subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder)

    def __call__(self, *command: str, timeout: float = 240, **environment: str) -> subprocess.CompletedProcess[str]:
        """Likewise, to its end."""
        driver = self.started(*command, **environment)
        try:
            out, errors = driver.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            driver.kill()
            out, errors = driver.communicate()
            raise AssertionError(f"{command} takes longer than {timeout} s:\n{out}\n{errors}") from None
        return subprocess.CompletedProcess(command, driver.returncode, out, errors)

    def _cache(self, name: str) -> dict[str, str]:
        return {"XDG_CACHE_HOME": str(self.folder / name / "cache")}


@contextmanager
def cluster(folder: Path, *arguments: str, **environment: str) -> Iterator[Cluster]:
    """A head that runs no tasks but drivers of trials."""
    folder.mkdir(exist_ok=True)
    port, dashboard, client = (_free() for _ in range(3))
    token = folder / "token"
    token.touch(0o600)
    token.write_text("a" * 64)
    made = Cluster(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", str(token), folder)
    short = tempfile.mkdtemp(prefix="vitok", dir="/tmp")  # names of sockets have at most 107 letters
    command = [
        "--head", "--port", str(port), "--num-cpus", "0", "--resources", '{"trial_slot": 4}', "--block", "--dashboard-host", "127.0.0.1",
        "--dashboard-port", str(dashboard), "--ray-client-server-port", str(client), "--object-store-memory", str(200 << 20),
        "--temp-dir", short,
    ]  # fmt: skip
    try:
        made.machines.append(_started("head", folder, [*command, *arguments], made.environment | made._cache("head") | environment))
        yield made
    finally:
        for machine in reversed(made.machines):
            machine.stop()
        shutil.rmtree(short, ignore_errors=True)


def _started(name: str, folder: Path, arguments: list[str], environment: dict[str, str]) -> Machine:
    """Once Ray runs there. It gives up on a head that does not answer at once, as one may on a busy machine."""
    (folder / name / "cache").mkdir(parents=True, exist_ok=True)
    log = folder / name / "ray.log"
    for _ in range(ATTEMPTS):
        with log.open("w") as out:
            process = subprocess.Popen(
                [RAY, "start", *arguments], env=os.environ | environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        ends = time.monotonic() + 90
        while process.poll() is None and time.monotonic() < ends:
            if STARTED in log.read_text():
                return Machine(name, process)
            time.sleep(0.2)
        Machine(name, process).stop()
    raise AssertionError(log.read_text()[-3000:])


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
