"""Template for a new study file."""

import re
from importlib.resources import files
from pathlib import Path

from vitok.errors import UsageError

TEMPLATE = "study.py.txt"


def write_study(name: str, folder: Path) -> str:
    """Write a study from the template to FOLDER/NAME.py; return the path and the next steps as text.

    Raises `UsageError` for a name that is not a lower-case identifier, or if the file exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"{name!r} is no name of a study: small letters, digits and underscores, as in my_question")
    path = folder / f"{name}.py"
    if path.exists():
        raise UsageError(f"{path} is there already: give another name, or edit it")
    text = files("vitok.study").joinpath("templates", TEMPLATE).read_text()
    path.write_text(text.replace("NAME", name).replace("FOLDER", folder.name))
    return (
        f"{path}\nnext: write the question down, then\n    python {folder.name}/{name}.py plan     what it costs\n"
        f"    python {folder.name}/{name}.py          runs it"
    )
