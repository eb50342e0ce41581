"""Errors that a user can act on: one line that names the bad value and the way out."""

import os
import sys
from collections.abc import Callable


class VitokError(Exception):
    """Something in the world is not as it must be (a file, a server, a weight). Exit code 1."""

    exit_code = 1


class UsageError(VitokError):
    """What the user asked for cannot be had (an unknown name, an impossible value). Exit code 2."""

    exit_code = 2


def exit_on_error(main: Callable[[], None]) -> None:
    """Run `main`; a `VitokError` becomes one line on stderr and its exit code, never a traceback."""
    try:
        main()
        sys.stdout.flush()
    except VitokError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted: run the same command again to continue", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `... | head` closed the pipe; Python would complain once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


class RejectedError(Exception):
    """A sample that cannot be used. `reason` is one of a few words, to be counted; `detail` says more."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail
