"""Checkpoints in an object store: what holds on a disk holds there, for a machine that has never seen the run, too."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import both
from tests.recipes import RESOURCES, tiny
from tests.train.conftest import Curve, Run
from tests.train.test_resume import same
from vitok.config.overrides import override
from vitok.storage import filesystem, mirror
from vitok.train import launch

pytestmark = pytest.mark.usefixtures("cluster")
OFTEN = override(RESOURCES, {"checkpoint_every": 2, "keep": 9})


@pytest.fixture
def folder(stored: Path) -> Path:
    stored.mkdir(parents=True)
    return stored


def moved(folder: Path) -> None:
    """To another machine: nothing lies here."""
    shutil.rmtree(folder)
    folder.mkdir()


@both
def test_a_run_goes_on_elsewhere_bit_by_bit(run: Run, tmp_path: Path, folder: Path) -> None:
    whole, before, after = Curve(), Curve(crash_at=6), Curve()
    run(tmp_path / "whole", whole, tiny(ema=0.9))
    with pytest.raises(KeyboardInterrupt):
        run(folder, before, tiny(ema=0.9))
    moved(folder)
    assert run(folder, after, tiny(ema=0.9)).steps == 4  # from the checkpoint of step 4
    assert {**before.losses(), **after.losses()} == whole.losses()
    moved(folder)
    mirror.fetch(folder)
    assert same(tmp_path / "whole", folder) and (folder / "recipe.json").is_file()


def test_a_damaged_one_is_put_aside_and_what_is_old_is_gone(run: Run, folder: Path) -> None:
    run(folder, resources=override(OFTEN, {"keep": 3}))
    kept = folder / "checkpoints"
    assert sorted({name.partition("/")[0] for name in mirror.list_files(kept)}) == ["step_00000004", "step_00000006", "step_00000008"]
    (file,) = [name for name in mirror.list_files(kept) if name.startswith("step_00000008/") and name.endswith(".safetensors")]
    uri = filesystem.join(mirror.address_of(kept), file)
    content = bytearray(filesystem.read(uri))
    content[len(content) // 2] ^= 1
    filesystem.write(uri, bytes(content))
    filesystem.write(
        filesystem.join(mirror.address_of(kept), "step_00000007/rank_00000-dead.safetensors"), b"half"
    )  # of an attempt that died
    moved(folder)
    curve = Curve()
    assert run(folder, curve, resources=OFTEN).steps == 2
    assert "does not have its checksum): put aside as step_00000008-" in curve.told()
    assert any(".damaged/state.json" in name for name in mirror.list_files(kept))
    assert not any(name.startswith("step_00000007") for name in mirror.list_files(kept))


def test_a_store_that_takes_nothing_ends_no_run(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = filesystem.write

    def write(uri: str, data: object) -> None:
        if "/checkpoints/" in uri:
            raise launch.VitokError(f"{uri} cannot be written: the bucket is full")
        written(uri, data)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(filesystem, "write", write)
    curve = Curve()
    assert run(folder, curve).steps == 8
    assert "checkpoint of step 4 could not be written: " in curve.told() and "the bucket is full" in curve.told()
    assert mirror.list_files(folder / "checkpoints") == []
