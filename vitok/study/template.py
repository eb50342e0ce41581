"""A study of one's own, written down as a file that runs."""

import re
from importlib.resources import files
from pathlib import Path

from vitok.errors import UsageError

SUFFIX = "study.py.txt"


def written(name: str, folder: Path) -> str:
    """Write FOLDER/NAME.py; what to do next. Raises `UsageError` for a name that is none, or that there is."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"{name!r} is no name of a study: small letters, digits and underscores, as in my_question")
    path = folder / f"{name}.py"
    if path.exists():
        raise UsageError(f"{path} is there already: give another name, or edit it")
    text = files("vitok.study").joinpath("templates", SUFFIX).read_text()
    path.write_text(text.replace("NAME", name).replace("FOLDER", folder.name))
    return (
        f"{path}\nnext: write the question down, then\n    python {folder.name}/{name}.py plan     what it costs\n"
        f"    python {folder.name}/{name}.py          runs it"
    )
