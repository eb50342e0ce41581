"""Preemption: notice that this machine will be taken away, by a signal, by the cloud, or by Ray."""

import os
import signal
import threading
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.error import URLError

EVERY = 2.0  # seconds; AWS gives notice two minutes ahead, Google 30 s


class PreemptionNotice:
    """The notices that this process has had. A signal asks it to stop; of a node that will go, a checkpoint is taken, and training goes
    on until it does: Ray Train then starts the group again elsewhere."""

    def __init__(self, spot: str, group: bool = False) -> None:
        """Listen for SIGTERM and ask for notices. `spot`, "aws" or "gcp": ask that cloud's metadata service. Ray is asked where this
        process is one of its own; `group`: as a worker of Ray Train's."""
        import ray

        self.stop = False
        self.reason = ""
        self._taken = False
        self._ended = threading.Event()
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._asked_to_stop) or signal.SIG_DFL  # None: set by C code
        sources = ([CLOUDS[spot]] if spot else []) + ([_group] if group else [_node] if ray.is_initialized() else [])
        if sources:
            threading.Thread(target=self._watch, args=(sources,), name="notice", daemon=True).start()

    @property
    def new(self) -> bool:
        """Whether there is a notice that has not been acted on."""
        return bool(self.reason) and not self._taken

    def take(self) -> None:
        """Mark the notice as acted on: one of the ranks had it, and what the others hear of it later is no news."""
        self._taken = True

    def close(self) -> None:
        """Stop listening."""
        self._ended.set()
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _asked_to_stop(self, *_: object) -> None:
        self.stop, self.reason = True, "SIGTERM"

    def _watch(self, sources: list[Callable[[], str]]) -> None:
        while not self._ended.wait(EVERY):
            for ask in sources:
                try:
                    said = ask()
                except (URLError, OSError):  # 404 is "no notice"; a service that is down says nothing either
                    continue
                if said:
                    self.reason = said
                    return


# Ray drains a node when its `ray start --block` gets SIGTERM, or `ray drain-node` says so.


def _group() -> str:
    """Read where Ray Train's own call reads it, which is a barrier over all workers and so too slow for every step."""
    from ray.train.v2._internal.execution.context import get_train_context

    info = get_train_context().preemption_context.preemption_info
    return f"Ray drains the node of rank {', '.join(map(str, info.preempted_ranks))}" if info else ""


def _node() -> str:
    import ray
    from ray._private.state import state

    return "Ray drains this node" if ray.get_runtime_context().get_node_id() in state.get_draining_nodes() else ""


def _aws() -> str:
    """Instance metadata, version 2: a token, then the notice, which is 404 until there is one."""
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")
    token = _read(f"{base}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    return "AWS: " + _read(f"{base}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})


def _gcp() -> str:
    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    said = _read(f"http://{host}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return "Google: preempted" if said.strip() == "TRUE" else ""


CLOUDS: dict[str, Callable[[], str]] = {"aws": _aws, "gcp": _gcp}


def _read(url: str, headers: dict[str, str], method: str = "GET") -> str:
    request = urllib.request.Request(url, headers=headers, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=2) as answer:  # never through a proxy
        return answer.read(10_000).decode()
