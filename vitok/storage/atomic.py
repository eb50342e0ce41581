"""Files that are whole when they are there."""

import shutil
from pathlib import Path

from vitok.storage import mirror


def copied(source: Path, target: Path) -> None:
    """A file that stays where another may be removed; whole when it is there."""
    if not mirror.exists(target):
        partial = target.with_name(target.name + ".partial")
        shutil.copyfile(source, partial)
        partial.replace(target)
        mirror.keep(target)
