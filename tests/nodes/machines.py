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
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from vitok.storage import filesystem

RAY = str(Path(sys.executable).with_name("ray"))
ATTEMPTS, STARTED = 3, "Ray runtime started"
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "12"}
HEAD = "f" * 51 + "00000"  # by this the autoscaler knows it
AUTOSCALED = {
    "PYTHONPATH": str(Path(__file__).parent.parent.parent), "RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD, "RAY_CLOUD_INSTANCE_ID": HEAD,
}  # fmt: skip


@dataclass
class Machine:
    """A node: `ray start --block` and all that it starts."""

    name: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """As a machine that loses its power: all at once."""
        kill(self.process.pid)
        self.process.wait(timeout=30)

    def stop(self, grace: float = 20) -> None:
        """As one that is told to go, and has some seconds left."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=grace)
        self.kill()


def kill(pid: int) -> None:
    """A process and all that it has started."""
    with suppress(psutil.NoSuchProcess):
        whole = psutil.Process(pid)
        for one in [*whole.children(recursive=True), whole]:
            with suppress(psutil.NoSuchProcess):
                one.kill()


@dataclass
class Cluster:
    address: str  # of its control, for RAY_ADDRESS
    dashboard: str
    token: str  # a file
    folder: Path
    temporary: str  # where each node has a folder of Ray's
    machines: list[Machine] = field(default_factory=list)

    @property
    def pools(self) -> Path:
        """What an autoscaler may start."""
        return self.folder / "pools.yaml"

    @property
    def environment(self) -> dict[str, str]:
        weights = {"VITOK_WEIGHTS_DIR": str(filesystem.cache() / "weights")}  # caches of its own would begin by fetching them
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": self.token, **weights, **QUIET}

    def add(self, name: str, cpus: int, resources: dict[str, float] | None = None, **environment: str) -> Machine:
        """A node with a cache of its own."""
        offers = json.dumps({f"at_{name}": 1, **(resources or {})})
        own = self.environment | self._cache(name) | environment
        machine = _started(name, self.folder, worker(self.address, cpus, offers, self._short(name)), own)
        self.machines.append(machine)
        return machine

    def _short(self, name: str) -> str:
        """A folder of Ray's own for a node: names of sockets have at most 107 letters, and a node that ends takes it along."""
        return tempfile.mkdtemp(prefix=f"{name}-", dir=self.temporary)

    def machine(self, name: str) -> Machine:
        """The one that was added last under this name."""
        return next(machine for machine in reversed(self.machines) if machine.name == name)

    def state(self, kind: str) -> list[dict[str, Any]]:
        """What the dashboard says of its nodes, actors, tasks, also of past ones."""
        said = urllib.request.Request(
            f"{self.dashboard}/api/v0/{kind}?limit=5000&detail=1", headers={"Authorization": f"Bearer {Path(self.token).read_text()}"}
        )
        with urllib.request.urlopen(said, timeout=60) as answer:
            return json.load(answer)["data"]["result"]["result"]

    def workers(self) -> list[dict[str, Any]]:
        """The nodes that are alive, beside the head."""
        return [node for node in self.state("nodes") if node["state"] == "ALIVE" and not node["is_head_node"]]

    def identity(self, name: str) -> str:
        """Of a node, in Ray."""
        return next(node["node_id"] for node in self.workers() if f"at_{name}" in node["resources_total"])

    def started(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """A driver, on the head."""
        own = os.environ | self.environment | self._cache("head") | {"RAY_ADDRESS": self.address} | environment
        # Elsewhere: Ray puts the folder where a driver was started before all others of its workers.
        return subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder)

    def __call__(self, *command: str, timeout: float = 400, **environment: str) -> subprocess.CompletedProcess[str]:
        """Likewise, to its end."""
        driver = self.started(*command, **environment)
        try:
            out, errors = driver.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            driver.kill()
            out, errors = driver.communicate()
            raise AssertionError(f"{command} takes longer than {timeout} s:\n{out}\n{errors}") from None
        return subprocess.CompletedProcess(command, driver.returncode, out, errors)

    def cache(self, name: str) -> Path:
        return self.folder / name / "cache"

    def _cache(self, name: str) -> dict[str, str]:
        return {"XDG_CACHE_HOME": str(self.cache(name))}


@contextmanager
def cluster(folder: Path, grows: dict[str, Any] | None = None, **environment: str) -> Iterator[Cluster]:
    """A head that runs no tasks but drivers of trials. `grows`: pools of an autoscaler, as in a file of Ray's launcher."""
    folder.mkdir(exist_ok=True)
    port, dashboard, agent, client = (_free() for _ in range(4))
    token = folder / "token"
    token.touch(0o600)
    token.write_text("a" * 64)
    made = Cluster(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", str(token), folder, tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    command = [
        "--head", "--port", str(port), "--num-cpus", "0", "--resources", '{"trial_slot": 4}', "--block", "--dashboard-host", "127.0.0.1",
        "--dashboard-port", str(dashboard), "--ray-client-server-port", str(client), "--object-store-memory", str(200 << 20),
        "--temp-dir", made._short("head"),
        "--dashboard-agent-listen-port", str(agent),  # jobs go there; Ray's default may be another cluster's
    ]  # fmt: skip
    own = made.environment | made._cache("head") | environment
    if grows:
        made.pools.write_text(yaml.safe_dump(_autoscaled(made, grows)))
        command, own = [*command, "--autoscaling-config", str(made.pools)], own | AUTOSCALED
    try:
        made.machines.append(_started("head", folder, command, own))
        yield made
    finally:
        for machine in reversed(made.machines):
            machine.kill()
        for started in folder.glob("*/pid"):
            kill(int(started.read_text()))
        shutil.rmtree(made.temporary, ignore_errors=True)


def worker(address: str, cpus: float, offers: str, temporary: str) -> list[str]:
    """Arguments of `ray start`."""
    return [
        "--address", address, "--num-cpus", str(int(cpus)), "--resources", offers, "--block", "--temp-dir", temporary,
        "--object-store-memory", str(200 << 20), "--dashboard-agent-listen-port", "0",
    ]  # fmt: skip


def _autoscaled(made: Cluster, pools: dict[str, Any]) -> dict[str, Any]:
    """A file of Ray's launcher for nodes that are processes of this machine."""
    head = {"resources": {"CPU": 0, "trial_slot": 4}, "node_config": {}, "max_workers": 0}
    commands = ("setup_commands", "head_setup_commands", "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    return {
        "cluster_name": "several", "max_workers": sum(pool["max_workers"] for pool in pools.values()), "idle_timeout_minutes": 0.3,
        "provider": {
            "type": "external", "module": "tests.nodes.provider.Machines", "head_node_id": HEAD, "launch_multiple": True,
            "gcs_address": made.address, "folder": str(made.folder), "temporary": made.temporary,
        },
        "head_node_type": "ray.head.default", "available_node_types": {"ray.head.default": head} | pools,
        "initialization_commands": [], "file_mounts": {}, "cluster_synced_files": [], "auth": {}, **{name: [] for name in commands},
    }  # fmt: skip


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
