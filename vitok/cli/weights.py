"""`vitok weights`: where pretrained networks come from."""

import json
from pathlib import Path
from typing import Annotated

import tyro


def show(*, as_json: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """List the networks that vitok uses, and whether this machine has them.

    Args:
        as_json: Print JSON for programs.
    """
    from vitok.console import tables
    from vitok.networks import weights
    from vitok.networks.registry import NETWORKS

    rows = [
        {
            "name": n.name, "present": str(weights.local_file(n) or "no"), "used for": n.used_for, "licence": n.licence, "sha256": n.sha256,
            "sources": [*weights.FOLDERS, *n.sources], "how": n.how,
        }
        for n in NETWORKS.values()
    ]  # fmt: skip
    print(json.dumps(rows, indent=2)) if as_json else tables.show("Networks", ("name", "present", "used for"), rows)


def fetch(name: tyro.conf.Positional[str], /) -> None:
    """Find a network's weights, from the first source that has them, and keep them.

    Args:
        name: As `vitok weights list` shows it.
    """
    from vitok.networks import weights

    payload, source = weights.resolve_weights(name)
    what, size = "a program", len(payload)
    if isinstance(payload, dict):
        what, size = f"{len(payload)} tensors", sum(tensor.numel() * tensor.element_size() for tensor in payload.values())
    print(f"{name}: {what}, {size / 1e6:.1f} MB, verified, from {source}")


def bring(name: tyro.conf.Positional[str], path: tyro.conf.Positional[Path], /) -> None:
    """Keep a file of weights that you have brought, if it is the right one. Nothing in it is run.

    Args:
        name: As `vitok weights list` shows it.
        path: The file, as its authors published it.
    """
    from vitok.networks import weights
    from vitok.networks.registry import find_network

    print(f"{name}: verified, kept as {weights.import_file(find_network(name), path)}")


def verify() -> None:
    """Check every file of weights that is present against its SHA-256. Exit code 1 if one is wrong."""
    from vitok.errors import VitokError
    from vitok.networks import weights
    from vitok.networks.registry import NETWORKS

    wrong: list[str] = []
    for network in NETWORKS.values():
        said, bad = weights.verify(network)
        print("\n".join(said))
        wrong += bad
    if wrong:
        raise VitokError("; ".join(wrong))
