"""Dockerfiles: what is built is the same tomorrow, and runs as nobody in particular."""

import re

from vitok.cluster import named
from vitok.cluster.problem import Problem

INSTRUCTIONS = {
    "FROM", "RUN", "CMD", "LABEL", "EXPOSE", "ENV", "ADD", "COPY", "ENTRYPOINT", "VOLUME", "USER", "WORKDIR", "ARG", "STOPSIGNAL",
    "HEALTHCHECK", "SHELL",
}  # fmt: skip


def problems(text: str) -> list[Problem]:
    """Return all that is wrong with a Dockerfile."""
    found, user, stages = list[Problem](), "", set[str]()
    for number, word, rest in _instructions(text):
        where = f"line {number}"
        if word not in INSTRUCTIONS:
            found.append(Problem(where, f"{word} is no instruction of a Dockerfile"))
        if word == "FROM":
            name, _, stage = re.sub(r"^--platform=\S+\s+", "", rest).partition(" ")
            if name not in stages:
                found += named.image(name, where)
            stages.add(stage.split()[-1] if stage else "")
        if word == "USER":
            user = rest.split(":")[0]
        if word in ("ENV", "ARG"):
            for name, value in re.findall(r"([A-Za-z_]\w*)=(\S*)", rest):
                found += named.secret(name, value, where)
        if word == "RUN":
            found += _installs(rest, where)
    if user in ("", "root", "0"):
        found.append(Problem("USER", "runs as root: add a user and switch to it"))
    return found


def _instructions(text: str) -> list[tuple[int, str, str]]:
    """Return (line, instruction, rest), continued lines as one."""
    found: list[tuple[int, str, str]] = []
    open_ = False
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        part = line.rstrip().removesuffix("\\").strip()
        if open_:
            first, word, rest = found[-1]
            found[-1] = (first, word, f"{rest} {part}")
        else:
            word, _, rest = part.partition(" ")
            found.append((number, word, rest))
        open_ = line.rstrip().endswith("\\")
    return found


def _installs(command: str, where: str) -> list[Problem]:
    """Return what is wrong with an installation by pip: without constraints, every package needs its version."""
    found: list[Problem] = []
    for part in re.split(r"&&|;|\|\|", command):
        if not re.search(r"\bpip3? install\b", part) or re.search(r"(--constraint|-c|--requirement|-r)\s", part):
            continue
        packages = [word for word in part.split("install", 1)[1].split() if not word.startswith(("-", ".", "/"))]
        loose = [word for word in packages if "==" not in word]
        if loose:
            found.append(Problem(where, f"pip installs {', '.join(loose)} at any version: ==VERSION, or --constraint FILE"))
    return found
