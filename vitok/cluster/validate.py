"""All that is wrong with a file of a cluster, whichever kind it is."""

import re
from dataclasses import dataclass
from pathlib import Path

from vitok.cluster import compose, dockerfile, kinds, launcher, manifests, named, policies, prices, runtime_env, scripts
from vitok.cluster.problem import Problem
from vitok.cluster.read import File, UnreadableError, read


@dataclass(frozen=True)
class FileVerdict:
    """What is found of a file: its kind, its problems, what is to be filled in."""

    path: Path
    kind: str
    problems: tuple[Problem, ...]
    placeholders: tuple[str, ...] = ()  # what its user must still fill in: no problem


def validate(path: Path) -> FileVerdict:
    """Validate a file of a cluster. Raises `UsageError` where there is no file."""
    try:
        file = read(path)
    except UnreadableError as error:
        return FileVerdict(path, "unreadable", (Problem("", str(error)),))
    found = kinds.kind(file)
    return FileVerdict(
        path, found.name if found else "unknown", tuple(problems(file)), tuple(file.placeholders if found != kinds.README else ())
    )


def problems(file: File) -> list[Problem]:
    """Return all that is wrong with a file of a known kind."""
    which = kinds.kind(file)
    if which is None:
        known = ", ".join(one.name for one in vars(kinds).values() if isinstance(one, kinds.Kind))
        return [Problem("", f"of no known kind; known are {known}")]
    whole = file.documents[0] if file.documents else {}
    checks = {
        kinds.LAUNCHER: lambda: launcher.problems(whole), kinds.MANIFESTS: lambda: manifests.problems(file.documents),
        kinds.COMPOSE: lambda: compose.problems(whole), kinds.RUNTIME_ENV: lambda: runtime_env.problems(whole),
        kinds.SCRIPT: lambda: scripts.problems(file.text), kinds.DOCKERFILE: lambda: dockerfile.problems(file.text),
        kinds.CONSTRAINTS: lambda: _constraints(file.text), kinds.AWS_POLICY: lambda: policies.aws(whole),
        kinds.GCP_ROLE: lambda: policies.gcp(whole), kinds.PRICES: lambda: prices.problems(whole), kinds.README: list[Problem],
    }  # fmt: skip
    found = checks[which]() + named.passwords(file.text)
    return list(dict.fromkeys(found))


def _constraints(text: str) -> list[Problem]:
    return [
        Problem(f"line {number}", f"{line.strip()!r} is not NAME==VERSION")
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.startswith("#") and not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!_-]+", line.strip())
    ]
