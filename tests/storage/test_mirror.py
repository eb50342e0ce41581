"""A folder of a store, worked on here."""

from pathlib import Path

import pytest

from tests.conftest import both
from vitok.errors import VitokError
from vitok.storage import filesystem, mirror


@both
def test_a_folder_of_a_store_is_a_path_that_says_so(stored: Path, tmp_path: Path) -> None:
    assert (
        mirror.address_of(stored).partition(":")[2] == f"//runs/{tmp_path.name}" and mirror.local_path(mirror.address_of(stored)) == stored
    )
    assert mirror.store_address(tmp_path) is None and mirror.address_of(tmp_path) == str(tmp_path)
    (stored / "within").mkdir(parents=True)
    for name in ("a.txt", "within/b.txt", ".hidden", "c.partial"):
        (stored / name).write_text(name)
    mirror.send(stored)
    assert mirror.list_files(stored) == ["a.txt"]  # neither what is within, nor what is nobody's business
    mirror.send(stored / "within" / "b.txt")
    for name in ("a.txt", "within/b.txt"):
        (stored / name).unlink()
    assert mirror.exists(stored / "a.txt") and mirror.fetch(stored / "a.txt").read_text() == "a.txt"
    mirror.fetch(stored)
    assert not (stored / "within" / "b.txt").exists()
    filesystem.write(f"{mirror.address_of(stored)}/a.txt", b"anew")  # by another machine
    assert mirror.fetch(stored / "a.txt").read_text() == "anew"
    mirror.drop(stored / "a.txt")
    assert not mirror.exists(stored / "a.txt") and mirror.list_files(stored) == ["within/b.txt"]
    (stored / "a.txt").write_text("of an earlier time")
    assert not mirror.fetch(stored / "a.txt").exists()  # it is no more
    mirror.drop(stored)
    assert mirror.list_files(stored) == []
    for wrong, said in (("hf://x/y", "it is a folder, s3"), ("s3://", "names no bucket"), ("s3://a/../b", "names no bucket")):
        with pytest.raises(VitokError, match=said):
            mirror.local_path(wrong)


def test_a_node_that_sees_another_storage_is_named(tmp_path: Path) -> None:
    """Under the same path on another disk lies nothing, or something else."""
    wanted = mirror.identity(tmp_path)
    assert mirror.identity(tmp_path) == wanted
    mirror.expect(tmp_path, wanted)
    with pytest.raises(VitokError, match=r"does not reach storage .* \(another storage lies there\)"):
        mirror.expect(tmp_path, "of the driver's")
    with pytest.raises(VitokError, match=r"does not reach storage .*elsewhere \(no storage lies there\): give --storage a folder that all"):
        mirror.expect(tmp_path / "elsewhere", wanted)
