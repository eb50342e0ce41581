"""The watchdog: a rank that hangs is found and named, and the worker group ends, to be started again from its last checkpoint.

A thread of each rank writes where the rank stands to a file in the run's folder. When its own rank has stood in one place for too long,
it looks who is furthest behind: the others only wait for that one.
"""

import faulthandler
import json
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from vitok.errors import VitokError
from vitok.storage.layout import RunFolder, StoredFolder
from vitok.train.ranks import Place
from vitok.train.reliability.timer import StepTimer

EXIT = 75  # of a process that ends itself because of a hang
ORDER = ("start", "data", "compute", "evaluation", "logging", "checkpoint")  # of the phases within a step
BEATS = 20  # signs of life within the time that is allowed


class Watchdog:
    """The watchdog of one rank. A step may take `minutes`, then the process ends itself with exit code 75."""

    def __init__(self, folder: RunFolder, place: Place, clock: StepTimer, minutes: float) -> None:
        self.run, self.ranks = folder, StoredFolder(folder.file(folder.RANKS))
        self.place, self.clock, self.limit = place, clock, 60 * minutes
        self._ended = threading.Event()
        for old in self.ranks.fetch().glob("*.json") if place.rank == 0 else ():
            if int(old.stem) >= place.world:
                self.ranks.drop(old.name)
        self._beat()
        self.thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.thread.start()

    def earlier(self) -> str | None:
        """Return what ended the attempt before this one, once; None where nothing is known. By rank 0."""
        text = None if self.place.rank else self.run.read(self.run.HANG)
        if text is not None:
            self.run.drop(self.run.HANG)
        return text

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()
        self.thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self.limit / BEATS):
            self._beat()
            if self.clock.phase != "start" and time.time() - self.clock.since > self.limit:
                try:
                    beats = [json.loads(path.read_text()) for path in sorted(self.ranks.fetch().glob("*.json"))]
                    text = name_hung_ranks(beats, self.limit, time.time())
                    print(f"rank {self.place.rank}: {text}", file=sys.stderr, flush=True)
                    faulthandler.dump_traceback(all_threads=True)
                    _put(self.run, self.run.HANG, text)
                finally:  # whatever could not be told
                    os._exit(EXIT)

    def _beat(self) -> None:
        beat = {
            "rank": self.place.rank, "host": socket.gethostname(), "pid": os.getpid(), "step": self.clock.step,
            "phase": self.clock.phase, "since": self.clock.since, "at": time.time(),
        }  # fmt: skip
        _put(self.ranks, f"{self.place.rank}.json", json.dumps(beat))


def _put(folder: StoredFolder, name: str, text: str) -> None:
    """Write a file, unless the disk is full: that stops no run, and keeps no hung one alive."""
    with suppress(OSError, VitokError):
        folder.write(name, text)


def name_hung_ranks(beats: list[dict[str, Any]], limit: float, now: float) -> str:
    """Name the ranks that hold up the others: those that give no sign of life, else those furthest behind."""
    dead = [beat for beat in beats if now - beat["at"] > limit / 2]
    behind = min((beat["step"], ORDER.index(beat["phase"])) for beat in beats)
    guilty = dead or [beat for beat in beats if (beat["step"], ORDER.index(beat["phase"])) == behind]
    named = "; ".join(
        f"rank {beat['rank']} on {beat['host']} (process {beat['pid']}) "
        + (f"has given no sign of life for {now - beat['at']:.0f} s" if beat in dead else f"has stood for {now - beat['since']:.0f} s")
        + f" in step {beat['step'] + 1}, {beat['phase']}"
        for beat in guilty
    )
    return f"hung: {named}" + ("" if len(guilty) < len(beats) else " (all ranks alike)")
