"""Checkpoints that are complete or do not exist: written beside, renamed into place when every rank is done."""

import json
import shutil
from pathlib import Path

import torch.distributed as dist

from vitok.errors import VitokError
from vitok.train.engine import Engine, Place


class Checkpoints:
    """`folder`/step_00000400/ holds DeepSpeed's files and state.json: {"step", "world", "zero"}."""

    def __init__(self, folder: Path, place: Place, zero: int, keep: int) -> None:
        self.folder, self.place, self.keep = folder, place, keep
        self.setting = {"world": place.world, "zero": zero}
        if place.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            for partial in folder.glob("*.partial"):
                shutil.rmtree(partial)
        dist.barrier()

    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, oldest first."""
        return sorted(int(path.name[5:]) for path in self.folder.glob("step_*") if path.suffix != ".partial")

    def restore(self, engine: Engine) -> int:
        """Load the newest into `engine`; the number of steps done, 0 without one."""
        steps = self.steps()
        if not steps:
            return 0
        path = self._path(steps[-1])
        state = json.loads((path / "state.json").read_text())
        found = {key: state[key] for key in self.setting}
        if found != self.setting:
            raise VitokError(f"{path} was written with {found} and cannot be continued with {self.setting}: use the same")
        engine.load(path)
        return state["step"]

    def save(self, engine: Engine, step: int) -> None:
        """After `step` steps are done. Every rank must call it."""
        partial = self._path(step).with_suffix(".partial")
        engine.save(partial)
        dist.barrier()
        if self.place.rank == 0:
            (partial / "state.json").write_text(json.dumps({"step": step, **self.setting}))
            partial.replace(self._path(step))
            for old in self.steps()[: -self.keep]:
                shutil.rmtree(self._path(old))
        dist.barrier()

    def _path(self, step: int) -> Path:
        return self.folder / f"step_{step:08d}"
