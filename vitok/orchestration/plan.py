"""The plan of a study: what it will cost, before anything starts. Arithmetic only: neither Ray nor torch is imported."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitok.config import Resources, Training
from vitok.config.resources import TRIAL_SLOT
from vitok.costs import flops, memory
from vitok.orchestration.capacity import Capacity
from vitok.orchestration.request import Choice, Request
from vitok.study.grid import Cell
from vitok.study.scales import Scale


@dataclass(frozen=True)
class Plan:
    """Cells with their costs, and how long they take."""

    scale: str
    reason: str
    corpus: str
    rows: list[dict[str, Any]]
    device: str
    workers: int
    at_once: int | None  # trials that the cluster, or this machine, runs side by side; None where that is not known
    warnings: list[str]  # cells that will not fit their devices

    @property
    def hours(self) -> float:
        """Hours of all trials together, each on all its workers."""
        return sum(row["hours"] for row in self.rows)

    def summary(self) -> str:
        """Return the plan in a sentence."""
        clock = f", {duration(self.hours / self.at_once)} by the clock with {self.at_once} at once" if self.at_once else ""
        return f"{len(self.rows)} cells: about {duration(self.hours)} of trials{clock} ({self.device})"

    def json(self) -> dict[str, Any]:
        """Return the plan as JSON holds it."""
        return {
            "scale": self.scale, "reason": self.reason, "corpus": self.corpus, "device": self.device, "workers_per_trial": self.workers,
            "at_once": self.at_once, "warnings": self.warnings,
            "cells": self.rows, "trial_hours": self.hours, "worker_hours": self.hours * self.workers,
            "training_flops": sum(row["training_flops"] for row in self.rows),
        }  # fmt: skip


def room(resources: Resources, recipe: Training, offered: Mapping[str, float]) -> int:
    """Return how many trials there is room for at once, each with the CPUs that it leaves to Ray Data; one at least."""
    wanted = resources.want(recipe) | resources.slots
    return max(1, min(int(offered.get(name, 0) // amount) for name, amount in wanted.items() if amount))


def plan(request: Request, cells: list[Cell] | None = None, offered: Capacity | None = None) -> Plan:
    """Plan the cells of a request (default: all of them, with what they start from). `offered` is the capacity of the cluster that is
    meant; None: this machine's."""
    return plan_cells(request.with_parents if cells is None else cells, request.scale, request.choice, request.corpora.uri, offered)


def plan_cells(cells: list[Cell], scale: Scale, choice: Choice, corpus: str, offered: Capacity | None = None) -> Plan:
    """Plan cells of a scale."""
    resources = scale.resources
    kinds = [scale.of(cell.recipe) for cell in cells]
    unit = "GPU" if resources.gpus_per_worker else "core"
    device = f"{resources.tflops:g} TFLOP/s a {unit}, {resources.utilisation:.0%} of it expected"
    rows = [
        cell.described
        | {
            "steps": cell.recipe.steps,
            "batch_size": cell.recipe.batch_size,
            "training_flops": flops.training_flops(cell.recipe),
            "hours": flops.run_hours(cell.recipe, own),
            "worker_gb": memory.step_memory(cell.recipe, own)["peak"] / 1e9,
            "cell": cell.digest,
        }
        for cell, own in zip(cells, kinds, strict=True)
    ]
    own = {"CPU": float(os.cpu_count() or 1), TRIAL_SLOT: float(len(rows))}
    at_once = (
        None
        if resources.gpus_per_worker and not offered
        else min(len(rows), room(resources, scale.base, offered.total if offered else own))
    )
    short = [f"{c.label}: {lack}" for c, own in zip(cells, kinds, strict=True) if (lack := memory.memory_warning(c.recipe, own))]
    return Plan(choice.scale, choice.reason, corpus, rows, device, resources.workers, at_once, short)


def duration(hours: float) -> str:
    """Return hours as people say them: "40 s", "12 min", "3.0 h"."""
    if hours < 3 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 1.5 else f"{hours:.1f} h"
