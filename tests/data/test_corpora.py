from pathlib import Path

import pytest

from vitok.data.corpora import open_corpus
from vitok.errors import UsageError


def test_sample_photos_are_whole_photographs_held_out() -> None:
    corpus = open_corpus("sample-photos")
    assert (len(corpus.train), len(corpus.validation)) == (12, 4)
    assert not set(corpus.train) & set(corpus.validation)
    assert all(corpus.path(name).is_file() for name in (*corpus.train, *corpus.validation))


def test_a_folder_is_split_by_name_whatever_else_is_there(photos: Path) -> None:
    corpus = open_corpus(str(photos))
    assert (len(corpus.train), len(corpus.validation)) == (11, 1)
    assert open_corpus(str(photos)) == corpus


def test_the_fingerprint_follows_names_and_sizes(photos: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(photos, copy)
    before = open_corpus(str(photos)).fingerprint
    assert open_corpus(str(copy)).fingerprint == before
    with (copy / "photo-03.jpg").open("ab") as file:
        file.write(b"x")
    assert open_corpus(str(copy)).fingerprint != before


@pytest.mark.parametrize("what", ["missing", "empty", "one"])
def test_a_useless_folder_is_named(what: str, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / what
    if what != "missing":
        folder.mkdir()
    if what == "one":
        (folder / "a.jpg").write_bytes((photos / "photo-00.jpg").read_bytes())
    with pytest.raises(UsageError, match=what):
        open_corpus(str(folder))
