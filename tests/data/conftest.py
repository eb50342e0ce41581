import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.films import KINDS, NINETY, write
from tests.data.latent_sets import SIZE, VIEWS, cut, encoder
from vitok.config import Latents
from vitok.data.corpora.corpus import Corpora, open_corpora
from vitok.data.latents.build import build
from vitok.data.latents.dataset import LatentSet


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def jpegs(photos: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(photos.iterdir())]


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos of three seconds each, the pictures numbered from 0 to 89."""
    folder = tmp_path_factory.mktemp("videos")
    for name, how in KINDS.items():
        write(folder / name, NINETY, **how)
    return folder


@pytest.fixture
def small_shards() -> Iterator[None]:
    """Latents are built with several shards, groups and batches of few photographs."""
    with cut():
        yield


@pytest.fixture(scope="session")
def library(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photographs in three classes."""
    folder = tmp_path_factory.mktemp("latents") / "library"
    for number, path in enumerate(sorted(photos.iterdir())):
        target = folder / ("cat", "dog", "owl")[number % 3] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return folder


@pytest.fixture(scope="session")
def corpora(library: Path) -> Corpora:
    return open_corpora(str(library))


@pytest.fixture(scope="session")
def pair(corpora: Corpora, library: Path, cluster: str) -> list[LatentSet]:
    """Of two tokenizers, in one pass."""
    with cut():
        return build(corpora, VIEWS, SIZE, 1, [encoder(), encoder(1)], str(library.parent / "pair"), actors=2)


@pytest.fixture(scope="session")
def flat(photos: Path, library: Path, cluster: str) -> LatentSet:
    """Of a corpus without labels: its centre crops, not mirrored, by a tokenizer that was trained in bf16."""
    with cut():
        (found,) = build(open_corpora(str(photos)), Latents(flip=False), SIZE, 1, [encoder(precision="bf16")], str(library.parent / "flat"))
    return found
