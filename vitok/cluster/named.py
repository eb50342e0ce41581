"""Names and texts that any file may hold: images, secrets, addresses."""

import re
from collections.abc import Iterator
from typing import Any

from vitok.cluster.problem import Problem, joined

SECRET = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|PGPASS|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIALS?)", re.IGNORECASE)
A_PATH = re.compile(r"(_PATH|_FILE|_DIR|_URL|_URI|_NAME|_MODE)$", re.IGNORECASE)
IN_ADDRESS = re.compile(r"\w://[^/\s:@$]+:[^@\s/$]+@")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0/0", "::/0")


def image(name: Any, where: str) -> list[Problem]:
    """Return what is wrong with a container image: it must be the same one tomorrow."""
    text = str(name or "")
    last = text.rsplit("/", 1)[-1]
    if re.search(r"@sha256:[0-9a-f]{64}$", text):
        return []
    tag = last.partition(":")[2]
    if not tag:
        return [Problem(where, f"image {text!r} has no tag: name an exact one, or a digest (@sha256:...)")]
    if tag in ("latest", "nightly", "main", "master", "stable", "dev", "edge") or not re.search(r"\d+\.\d+|^[0-9a-f]{7,}$", tag):
        return [Problem(where, f"image {text!r} is not pinned, {tag!r} will be another tomorrow: name an exact version, or a digest")]
    return []


def secret(name: str, value: Any, where: str) -> list[Problem]:
    """Return what is wrong with an environment variable: it must not hold a secret, only a reference to one."""
    literal = value is not None and str(value) and not str(value).startswith(("$", "/"))
    if SECRET.search(name) and not A_PATH.search(name) and literal:
        return [Problem(where, f"{name} is a secret in plain text: refer to a secret of the platform, or to a file, instead")]
    if IN_ADDRESS.search(str(value or "")):
        return [Problem(where, f"{name} has a password in an address: refer to a secret of the platform instead")]
    return []


def passwords(text: str) -> list[Problem]:
    """Return passwords in addresses and well-known forms of keys, anywhere in a file."""
    found: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        if IN_ADDRESS.search(line):
            found.append(Problem(f"line {number}", "a password stands in an address: refer to a secret instead"))
        if re.search(r"\bAKIA[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY|\bhf_[A-Za-z0-9]{30,}\b", line):
            found.append(Problem(f"line {number}", "a key stands in the file: take it out, revoke it, and refer to a secret instead"))
    return found


def strings(found: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield (place, text) of every text of a document."""
    if isinstance(found, str):
        yield where, found
    elif isinstance(found, dict):
        for key, value in found.items():
            yield from strings(value, joined(where, key))
    elif isinstance(found, list):
        for number, value in enumerate(found):
            yield from strings(value, joined(where, number))
