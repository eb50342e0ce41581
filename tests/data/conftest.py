from pathlib import Path

import pytest

from tests.data.films import KINDS, NINETY, write


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos of three seconds each, the pictures numbered from 0 to 89."""
    folder = tmp_path_factory.mktemp("videos")
    for name, how in KINDS.items():
        write(folder / name, NINETY, **how)
    return folder
