"""Notice that this machine will be taken away: a signal, or what the cloud says of a spot node."""

import os
import signal
import threading
import urllib.request
from collections.abc import Callable
from urllib.error import URLError

EVERY = 2.0  # seconds; AWS gives notice two minutes ahead, Google 30 s


class Notice:
    """`given` becomes true once, and stays. With `spot`, "aws" or "gcp", that cloud's metadata service is asked."""

    def __init__(self, spot: str) -> None:
        self.reason = ""
        self._ended = threading.Event()
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, lambda *_: self._give("SIGTERM"))
        if spot:
            threading.Thread(target=self._watch, args=(CLOUDS[spot],), name="notice", daemon=True).start()

    @property
    def given(self) -> bool:
        return bool(self.reason)

    def close(self) -> None:
        self._ended.set()
        if hasattr(self, "_before"):
            signal.signal(signal.SIGTERM, self._before)

    def _give(self, reason: str) -> None:
        self.reason = reason

    def _watch(self, asked: Callable[[], str]) -> None:
        while not self._ended.wait(EVERY):
            try:
                if said := asked():
                    self._give(said)
                    return
            except (URLError, OSError):  # 404 is "no notice"; a service that is down says nothing either
                continue


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
