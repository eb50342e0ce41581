"""A request: what a command line asks of a study, checked and resolved to a scale, a corpus and cells."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import tyro

import vitok
from vitok.config import Generation, Recipe
from vitok.config.tokenizer import LONGEST
from vitok.data.sample import MOTION
from vitok.errors import UsageError
from vitok.metrics.protocol import commit
from vitok.metrics.registry import METRICS
from vitok.orchestration.capacity import Capacity, local_gpus
from vitok.study import grid
from vitok.study.scales import Scale
from vitok.study.study import Study
from vitok.tracking.tags import CHANGES, COMMIT, CORPUS, CORPUS_LAYOUT, CORPUS_URI, MOST, SCALE, STUDY, VERSION

if TYPE_CHECKING:
    from vitok.data.corpora.corpus import Corpora


def sweep_key(study: str, scale: str, corpus: str, changes: dict[str, str]) -> str:
    """Return the identity of a sweep, by which MLflow finds its run again: seeds are not part of it, a sweep grows with them."""
    text = json.dumps([study, scale, corpus, sorted(changes.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Choice:
    """The scale that a command runs at, and why."""

    scale: str  # its name
    reason: str


def choose(scales: Mapping[str, Scale], wanted: str | None, offered: Capacity | None) -> Choice:
    """Choose the scale that is wanted, or else the largest that fits. `offered` is the capacity of a connected cluster; without one this
    machine is looked at, and "paper" is never chosen. Raises `UsageError` for a scale that there is not."""
    if wanted:
        if wanted not in scales:
            raise UsageError(f"unknown scale {wanted!r}; this study has {', '.join(scales)}")
        return Choice(wanted, "asked for")
    if offered is not None:
        gpus = int(offered.total.get("GPU", 0))
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


@dataclass(frozen=True)
class StudyOptions:
    """Options of a study's command line."""

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
class StudyJsonOptions(StudyOptions):
    """Options of a command that may print JSON."""

    json: bool = field(default=False)
    """Print JSON for programs."""


@dataclass(frozen=True)
class CollectionOptions(StudyOptions):
    """Options of a command that takes several studies."""

    videos: str | None = None
    """The corpus of studies of videos; --corpus is that of the others. Default: sample-motion."""

    def of(self, study: Study[Any]) -> StudyOptions:
        """Return the options of one of the studies."""
        corpus = self.videos if study.corpus == MOTION else self.corpus
        return StudyOptions(self.scale, corpus, self.storage, self.seeds, self.changes, self.any_version)

    def check(self, studies: Iterable[Study[Any]]) -> None:
        """Raise `UsageError` for a scale that none of these studies has."""
        there = dict.fromkeys(name for study in studies for name in study.scales)
        if self.scale and there and self.scale not in there:
            raise UsageError(f"unknown scale {self.scale!r}; there are {', '.join(there)}")


@dataclass(frozen=True)
class CollectionJsonOptions(CollectionOptions):
    """Options of a command that takes several studies and may print JSON."""

    json: bool = field(default=False)
    """Print JSON for programs."""


@dataclass(frozen=True)
class Request:
    """A study with all that a command line decides: checked, so that what is wrong is told before anything is started."""

    study: Study[Any]
    scale: Scale  # with the changes of --set
    choice: Choice
    corpora: "Corpora"
    cells: list[grid.Cell]  # every combination of the grid, for every seed
    key: str  # of the sweep: see `sweep_key`
    changes: dict[str, str]  # of --set
    any_version: bool = False  # whether cells count that another version of vitok finished

    @property
    def with_parents(self) -> list[grid.Cell]:
        """The cells and all that they start from."""
        return [cell for level in grid.dependency_levels(self.cells, self.corpora.fingerprint) for cell in level]

    def only(self, columns: Mapping[str, tuple[Any, ...]]) -> "Request":
        """Return the request for the cells with these values in these columns, and for the tokenizers that they start from: a sweep of
        its own. Raises `UsageError` where no cell is left."""
        mark = ", ".join(f"{column} is {' or '.join(map(str, values))}" for column, values in columns.items())

        def wanted(cell: grid.Cell) -> bool:
            return all(cell.described.get(column) in values for column, values in columns.items())

        kept = [cell for cell in self.with_parents if wanted(cell) and (cell in self.cells or isinstance(cell.recipe, Recipe))]
        if not kept:
            raise UsageError(f"{self.study.name}: no cell is left of {len(self.cells)} where {mark}")
        return replace(self, cells=grid.with_distinct_labels(kept), key=f"{self.key} {mark}")

    def tags(self) -> dict[str, str]:
        """Return the tags of the sweep and of its cells in MLflow."""
        return {STUDY: self.study.name} | origin_tags(self.choice.scale, self.corpora, self.changes)


def resolve(study: Study[Any], options: StudyOptions, offered: Capacity | None = None) -> Request:
    """Resolve the options of a command line to a request: choose the scale, apply the changes, open the corpus. Raises `UsageError`."""
    changes = parse_changes(options.changes)
    seeds = options.seeds or (0,)
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {' '.join(map(str, seeds))}: give different ones")
    if wrong := [seed for seed in seeds if not 0 <= seed < LONGEST]:
        raise UsageError(f"--seeds {wrong[0]}: a seed is a whole number from 0 to {LONGEST - 1}")
    choice = choose(study.scales, options.scale, offered)
    scale = grid.apply_overrides(study.scales[choice.scale], changes)
    check(study, scale)
    from vitok.data.corpora.corpus import open_corpora

    corpora = open_corpora(options.corpus or study.corpus)
    cells = grid.cells(scale, seeds, corpora.fingerprint, grid.class_count(corpora))
    key = sweep_key(study.name, choice.scale, corpora.uri, changes)
    return Request(study, scale, choice, corpora, cells, key, changes, options.any_version)


def check(study: Study[Any], scale: Scale) -> None:
    """Raise `UsageError` for a study that could not be judged when all has been run."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", study.name):
        raise UsageError(f"a study's name is one of a file: small letters, digits and underscores, not {study.name!r}")
    if unknown := [name for name in study.measures if name not in METRICS]:
        raise UsageError(f"{study.name} measures {', '.join(unknown)}; there are {', '.join(METRICS)}")
    measured = set(scale.resources.metrics)
    if scale.tokenizers and (scale.parents or not isinstance(scale.base, Generation)):
        measured |= set(scale.tokenizers.metrics)
    if lacking := [text for claim in study.claims if (text := claim.lacking(measured))]:
        raise UsageError(f"{study.name}: " + "; ".join(lacking))


def parse_changes(texts: tuple[str, ...]) -> dict[str, str]:
    """Split each KEY=VALUE of `--set`. Raises `UsageError`."""
    changes: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text!r}: it takes KEY=VALUE, as in --set steps=100")
        changes[name] = value
    return changes


def origin_tags(scale: str, corpora: "Corpora", changes: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that say where a run in MLflow comes from: scale, corpus, changes, commit and version of vitok."""
    return {
        SCALE: scale, CORPUS: corpora.fingerprint, CORPUS_URI: corpora.uri, CORPUS_LAYOUT: str(corpora)[:MOST],
        CHANGES: " ".join(f"{key}={value}" for key, value in changes.items()), COMMIT: commit(), VERSION: vitok.__version__,
    }  # fmt: skip
