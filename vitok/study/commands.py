"""The command line of a file that holds a study or a collection: subcommands, of which the first is meant where none is given."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tyro

from vitok.errors import exit_on_error


@dataclass(frozen=True)
class Command:
    name: str
    help: str
    options: type
    call: Callable[[Any], None]


def serve(commands: tuple[Command, ...], doc: str) -> None:
    """Carry out what `sys.argv` asks for; errors are one line."""
    arguments = sys.argv[1:]
    if not arguments or (arguments[0] not in {one.name for one in commands} and arguments[0] not in ("-h", "--help")):
        arguments = [commands[0].name, *arguments]
    tyro.extras.subcommand_cli_from_dict(
        {one.name: _function(one) for one in commands},
        description=f"{doc}\n\nWithout a subcommand: {commands[0].name}. `SUBCOMMAND --help` shows its options.",
        args=arguments, config=(tyro.conf.OmitArgPrefixes,), sort_subcommands=False,
    )  # fmt: skip


def _function(command: Command) -> Callable[..., None]:
    kind = command.options

    def call(options: kind) -> None:  # pyright: ignore[reportInvalidTypeForm]
        exit_on_error(lambda: command.call(options))

    call.__doc__ = command.help
    return call
