"""Cells of one kind through Ray Tune, all at once as far as there is room: a study of tokenizers is one round, one of generators two."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitok.config import Resources
from vitok.config.resources import TRIAL_SLOT
from vitok.data import mirror
from vitok.overrides import flat
from vitok.study.grid import Cell
from vitok.study.place import copied
from vitok.study.progress import Progress
from vitok.study.tracking import FOLDER, Tracker

STATISTICS = "statistics"  # the folder of those of reference sets, in the storage


@dataclass(frozen=True)
class Ready:
    """A cell and what it needs to begin. Cells with the same `samples` share a source."""

    cell: Cell
    recipe: Any  # the cell's, with the hash of the weights that it starts from
    samples: str
    start: Path | None = None  # those weights


@dataclass(frozen=True)
class Round:
    """Where all rounds of a sweep run, and to whom they report."""

    tracker: Tracker
    storage: Path
    folder: Path  # of the study
    parent: str  # the sweep's run in MLflow
    tags: dict[str, str]
    recorder: Any
    say: Progress

    def run(
        self, ready: Sequence[Ready], sources: dict[str, Any], resources: Resources, networks: dict[str, Any], atonce: int
    ) -> dict[str, dict[str, Any]]:
        """What each trial reported, by cell."""
        children = {one.cell.digest: self._child(one) for one in ready}
        with self.say.following(self.recorder, {children[one.cell.digest]: one.cell for one in ready}):
            return self._schedule(ready, children, sources, resources, networks, atonce)

    def cell_folder(self, digest: str) -> Path:
        """One for all studies: whichever asks for the cell next finds it."""
        return self.storage / "cells" / digest

    def _child(self, one: Ready) -> str:
        folder = self.cell_folder(one.cell.digest)
        if one.start:
            folder.mkdir(parents=True, exist_ok=True)
            copied(one.start, folder / "start.safetensors")
        params = one.cell.described | flat(one.recipe.model_dump(mode="json"))
        return self.tracker.child(self.parent, one.cell.digest, one.cell.label, self.tags | {FOLDER: mirror.told(folder)}, params)

    def _schedule(
        self, ready: Sequence[Ready], children: dict[str, str], sources: dict[str, Any], resources: Resources, networks: dict[str, Any],
        atonce: int,
    ) -> dict[str, dict[str, Any]]:  # fmt: skip
        from ray import tune

        from vitok.study.trial import trial  # imports torch and Ray, which a run with nothing to do should not wait for

        # Tune's own display off, also its banner; ours shows the steps inside a trial.
        os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C ends the run at once: it continues from the last checkpoints anyway
        scratch = self.folder / "tune"  # Tune's own records: nothing in them is needed again
        shutil.rmtree(scratch, ignore_errors=True)
        specs = [
            {
                "digest": one.cell.digest, "recipe": one.recipe.model_dump(mode="json"), "run_id": children[one.cell.digest],
                "folder": mirror.told(self.cell_folder(one.cell.digest)), "samples": one.samples,
            }
            for one in ready
        ]  # fmt: skip
        single: dict[str, float] = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
        group: dict[str, float] = {"CPU": 0, TRIAL_SLOT: 1}  # a trial that only drives a worker group must not hold what its workers need
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(
                    trial, sources=sources, weights=networks, recorder=self.recorder, resources=resources,
                    statistics=mirror.told(self.storage / STATISTICS), identity=mirror.identity(self.storage),
                ),
                single if resources.workers == 1 else group,
            ),
            param_space={"cell": tune.grid_search(specs)},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=atonce, reuse_actors=resources.workers == 1,
                trial_name_creator=lambda t: t.config["cell"]["digest"], trial_dirname_creator=lambda t: t.config["cell"]["digest"],
            ),
            run_config=tune.RunConfig(
                name="tune", storage_path=str(self.folder), verbose=0, failure_config=tune.FailureConfig(max_failures=2),
            ),
        )  # fmt: skip
        found: dict[str, dict[str, Any]] = {}
        for result in tuner.fit():
            digest = (result.config or {})["cell"]["digest"]
            last = str(result.error).strip().splitlines()[-1] if result.error else None
            found[digest] = {"error": last} if last else dict(result.metrics or {})
        return found
