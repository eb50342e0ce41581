"""What a command asks of a study, checked: a scale with its changes, a corpus, cells."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import tyro

from vitok.config import Generation, Recipe
from vitok.data.sample import MOTION
from vitok.errors import UsageError
from vitok.metrics.registry import METRICS
from vitok.study import grid
from vitok.study.scales import Scale
from vitok.study.study import Study


def key(study: str, scale: str, corpus: str, changes: dict[str, str]) -> str:
    text = json.dumps([study, scale, corpus, sorted(changes.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Choice:
    scale: str
    reason: str


def choose(scales: dict[str, Scale], asked: str | None, offered: dict[str, float] | None) -> Choice:
    """The scale asked for, or the largest that fits. `offered` are a connected cluster's resources; without one this
    machine is looked at, and `paper` is never chosen."""
    if asked:
        if asked not in scales:
            raise UsageError(f"unknown scale {asked!r}; this study has {', '.join(scales)}")
        return Choice(asked, "asked for")
    if offered is not None:
        gpus = int(offered.get("GPU", 0))
        needed = scales["paper"].resources.workers if "paper" in scales else 0
        if needed and gpus >= needed:
            return Choice("paper", f"the cluster offers {gpus} GPUs, of which a trial takes {needed}")
        if gpus and "single-gpu" in scales:
            return Choice("single-gpu", f"the cluster offers {gpus} GPU(s), fewer than the {needed} of a trial at paper scale")
        return Choice("laptop", "the cluster offers no GPU")
    count = local_gpus()
    if count and "single-gpu" in scales:
        return Choice("single-gpu", f"this machine has {count} GPU(s); the paper's setting only by --scale paper")
    return Choice("laptop", "this machine has no GPU")


def local_gpus() -> int:
    """GPUs that CUDA would see, without importing torch (which takes seconds)."""
    import pynvml

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        return 0
    return count if visible is None else min(count, len([part for part in visible.split(",") if part.strip() not in ("", "-1")]))


@dataclass(frozen=True)
class Options:
    scale: str | None = None
    """laptop, single-gpu or paper. Without it: what the connected cluster or this machine can carry."""
    corpus: str | None = None
    """sample-photos and sample-motion (embedded), a folder, a store's address. Default: the study's, an embedded one."""
    storage: str | None = None
    """Where everything is kept. Default: VITOK_STORAGE, or ./runs."""
    seeds: tuple[int, ...] = ()
    """One run of every cell for each of these seeds. Default: 0; of the findings 1 and 2."""
    changes: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(name="set", metavar="KEY=VALUE")] = ()
    """Change a number of the recipe (steps=100, loss.kl=1e-4), of the resources (resources.workers=2) or an axis of the
    grid (grid.tokenizer.channels=4,16). May be given several times."""
    any_version: bool = False
    """Take cells that another version of vitok finished as if this one had. Without it they are shown, and not mixed with others."""


@dataclass(frozen=True)
class Readable(Options):
    json: bool = field(default=False)
    """Print JSON for programs."""


@dataclass(frozen=True)
class Several(Options):
    videos: str | None = None
    """The corpus of studies of videos; --corpus is that of the others. Default: sample-motion."""

    def of(self, study: Study[Any]) -> Options:
        """What is asked of one of the studies."""
        corpus = self.videos if study.corpus == MOTION else self.corpus
        return Options(self.scale, corpus, self.storage, self.seeds, self.changes, self.any_version)

    def check(self, studies: Iterable[Study[Any]]) -> None:
        """Raises `UsageError` for a scale that none of these has."""
        there = dict.fromkeys(name for study in studies for name in study.scales)
        if self.scale and there and self.scale not in there:
            raise UsageError(f"unknown scale {self.scale!r}; there are {', '.join(there)}")


@dataclass(frozen=True)
class Told(Several):
    json: bool = field(default=False)
    """Print JSON for programs."""


@dataclass(frozen=True)
class Asked:
    study: Study[Any]
    scale: Scale
    choice: Choice
    corpora: Any
    cells: list[grid.Cell]
    key: str
    changes: dict[str, str]

    @property
    def planned(self) -> list[grid.Cell]:
        """With what its cells start from."""
        return [cell for level in grid.levels(self.cells, self.corpora.fingerprint) for cell in level]

    def taking(self, wanted: Callable[[grid.Cell], bool], mark: str) -> "Asked":
        """A part of its cells and of what they start from, as a sweep of its own, which `mark` tells from others. Raises `UsageError`."""
        kept = [cell for cell in self.planned if wanted(cell) and (cell in self.cells or isinstance(cell.recipe, Recipe))]
        if not kept:
            raise UsageError(f"{self.study.name}: no cell is left of {len(self.cells)} where {mark}")
        return replace(self, cells=grid.told_apart(kept), key=f"{self.key} {mark}")


def ask(study: Study[Any], options: Options, offered: dict[str, float] | None = None) -> Asked:
    """Raises `UsageError`."""
    changes = parsed(options.changes)
    seeds = options.seeds or (0,)
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {' '.join(map(str, seeds))}: give different ones")
    choice = choose(study.scales, options.scale, offered)
    scale = grid.apply(study.scales[choice.scale], changes)
    check(study, scale)
    from vitok.data.corpora.corpus import open_corpora

    pass

    corpora = open_corpora(options.corpus or study.corpus)
    cells = grid.cells(scale, seeds, corpora.fingerprint, grid.classes(corpora))
    return Asked(study, scale, choice, corpora, cells, key(study.name, choice.scale, corpora.uri, changes), changes)


def check(study: Study[Any], scale: Scale) -> None:
    """Raises `UsageError` for a study that could not be judged when all has been run."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", study.name):
        raise UsageError(f"a study's name is one of a file: small letters, digits and underscores, not {study.name!r}")
    if unknown := [name for name in study.measures if name not in METRICS]:
        raise UsageError(f"{study.name} measures {', '.join(unknown)}; there are {', '.join(METRICS)}")
    measured = set(scale.resources.metrics)
    if scale.tokenizers and (scale.parents or not isinstance(scale.base, Generation)):
        measured |= set(scale.tokenizers.metrics)
    if lacking := [text for claim in study.claims if (text := claim.lacking(measured))]:
        raise UsageError(f"{study.name}: " + "; ".join(lacking))


def parsed(texts: tuple[str, ...]) -> dict[str, str]:
    """KEY=VALUE, each of `--set`. Raises `UsageError`."""
    changes: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text!r}: it takes KEY=VALUE, as in --set steps=100")
        changes[name] = value
    return changes
