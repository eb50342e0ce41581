"""What the commands of `vitok train` share: options that change a recipe, and the run itself."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vitok.errors import UsageError

if TYPE_CHECKING:
    from vitok.orchestration.request import Choice
    from vitok.orchestration.session import Session
    from vitok.orchestration.single_run import SingleRun

Changes = Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(name="set", metavar="KEY=VALUE")]


def check_name(name: str) -> None:
    """Raise `UsageError` for what cannot be the name of a run's folder."""
    if "/" in name or name.startswith("."):
        raise UsageError(f"--name {name!r}: the name of a folder, without a slash or a dot at the beginning")


def given_changes(changes: tuple[str, ...], steps: int | None, workers: int | None) -> dict[str, Any]:
    """Return every changed key of the recipe, and of the resources with `resources.` before it."""
    from vitok.orchestration.request import parse_changes

    return (
        dict(parse_changes(changes)) | ({"steps": str(steps)} if steps else {}) | ({"resources.workers": str(workers)} if workers else {})
    )


def apply_changes(base: Any, resources: Any, given: dict[str, Any]) -> tuple[Any, Any]:
    """Return the recipe and the resources with these changes. Raises `UsageError`."""
    from vitok.config.overrides import override

    own = {key.removeprefix("resources."): value for key, value in given.items() if key.startswith("resources.")}
    return override(base, {key: value for key, value in given.items() if not key.startswith("resources.")}), override(resources, own)


def run(single: "SingleRun", choice: "Choice", session: "Session", as_json: bool) -> None:
    """Tell what the run will cost, run it, and print its result."""
    from vitok.orchestration import single_run
    from vitok.orchestration.session import results_apart

    session.say(f"scale {choice.scale}: {choice.reason}")
    session.say(single.about())
    with results_apart():
        found = single_run.run(single, session)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    width = max(map(len, found))
    print("\n".join(f"{key:<{width}} {f'{value:.4f}' if isinstance(value, float) else value}" for key, value in found.items()))
