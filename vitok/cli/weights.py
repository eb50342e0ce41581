"""`vitok weights`: where pretrained networks come from."""

import json
from typing import Annotated

import tyro


def show(*, as_json: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """The networks that vitok uses, and whether this machine has them.

    Args:
        as_json: Print JSON for programs.
    """
    from vitok.metrics import weights
    from vitok.study import tables

    rows = [
        {"name": n.name, "present": weights.present(n) or "no", "used for": n.used_for, "licence": n.licence, "sha256": n.sha256}
        for n in weights.NETWORKS.values()
    ]
    print(json.dumps(rows, indent=2)) if as_json else tables.show("Networks", ("name", "present", "used for"), rows)


def fetch(name: tyro.conf.Positional[str], /) -> None:
    """Find a network's weights, from the first source that has them, and keep them.

    Args:
        name: As `vitok weights list` shows it.
    """
    from vitok.metrics import weights

    state, source = weights.resolve(name)
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values()) / 1e6
    print(f"{name}: {len(state)} tensors, {size:.1f} MB, verified, from {source}")


def verify() -> None:
    """Check every file of weights that is present against its SHA-256. Exit code 1 if one is wrong."""
    from vitok.errors import VitokError
    from vitok.metrics import weights

    wrong = [line for line in map(weights.verify, weights.NETWORKS.values()) if line]
    if wrong:
        raise VitokError("; ".join(wrong))
