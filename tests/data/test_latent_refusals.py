"""Latents that cannot be built, or used: one line that says why."""

import json
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.latent_sets import SIZE, VIEWS, encoder, whole
from vitok.config import Latents
from vitok.data.corpora.corpus import Corpora, open_corpora
from vitok.data.latents import loader
from vitok.data.latents.build import build, plan_sets
from vitok.data.latents.dataset import LatentSet, open_set, require_labels, require_tokenizer
from vitok.data.latents.encode import LatentEncoder
from vitok.data.latents.loader import LatentSource
from vitok.errors import UsageError, VitokError

pytestmark = pytest.mark.usefixtures("cluster", "small_shards")


@pytest.mark.long
def test_too_much_that_is_broken_stops_it(library: Path, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    shutil.copytree(library, folder)
    for number in range(20):
        (folder / "owl" / f"bad-{number}.jpg").write_bytes(b"no picture")
    with pytest.raises(VitokError, match=r"samples cannot be used \(\d+ not an image; the first: .*; latents\.max_rejected = 0\.05"):
        build(open_corpora(str(folder)), VIEWS, SIZE, 1, [encoder()], str(tmp_path / "latents"))
    shutil.rmtree(folder)
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(b"no picture")
    with pytest.raises(VitokError, match=r"none of 3 views could be decoded; the first: \d\.jpg: not an image$"):
        build(open_corpora(str(folder)), Latents(), SIZE, 1, [encoder()], str(tmp_path / "latents"))


@pytest.mark.long
def test_latents_that_are_not_finite_are_named(corpora: Corpora, tmp_path: Path) -> None:
    wild = encoder()
    state = {name: value * 1e6 if "to_moments" in name else value for name, value in wild.state.items()}
    with pytest.raises(VitokError, match=r"^latents of .*photo-\d+\.jpg \(crop 0\) by the tokenizer [0-9a-f]{16} are not finite in fp16$"):
        build(corpora, VIEWS, SIZE, 1, [LatentEncoder.of(wild.recipe, state)], str(tmp_path))


def test_latents_of_another_tokenizer_are_refused(pair: list[LatentSet]) -> None:
    first, second = encoder(), encoder(1)
    require_tokenizer(pair[0], first.weights)
    with pytest.raises(UsageError, match=rf"weights {first.weights[:16]}, not of {second.weights[:16]}: encode the corpus"):
        require_tokenizer(pair[0], second.weights)


def test_labels_are_required_of_those_that_have_none(corpora: Corpora, pair: list[LatentSet], photos: Path, flat: LatentSet) -> None:
    require_labels(corpora)
    require_labels(pair[0])
    require_labels(open_corpora("sample-motion"))
    assert flat.unlabelled == flat.rows == 11 and flat.classes == flat.counts == ()
    for one in (open_corpora(str(photos)), flat):
        with pytest.raises(UsageError, match=r"has no labels, which a class-conditional generator needs: .* conditional=false$"):
            require_labels(one)
    with pytest.raises(UsageError, match=r"^12 of 132 latents of .* have no label"):
        require_labels(replace(pair[0], counts=(*pair[0].counts[:2], pair[0].counts[2] - 12)))


def test_what_cannot_be_is_one_line(corpora: Corpora, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UsageError, match=r"^1 frame\(s\) of 30 pixels are not divisible by the tubelets of N-N/8: 1 frame\(s\) of 8 pixels$"
    ):
        plan_sets(corpora, VIEWS, 30, 1, [encoder()], str(tmp_path))
    with pytest.raises(UsageError, match="is a mixture, whose weights"):
        plan_sets(open_corpora(f"0.5*{library} + 0.5*sample-photos"), VIEWS, SIZE, 1, [encoder()], str(tmp_path))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6, 40_000))
    plan_sets(corpora, VIEWS, SIZE, 1, [encoder()], str(tmp_path / "deep" / "er"))
    with pytest.raises(VitokError, match=r"the latents need 6\.76e-05 GB, 4e-05 GB are free"):
        build(corpora, VIEWS, SIZE, 1, [encoder(), encoder(1)], str(tmp_path / "deep" / "er"))
    assert not list(tmp_path.iterdir())


def damage(folder: Path, what: str) -> None:
    manifest = folder / "manifest.json"
    if what == "shard":
        (folder / "shard-00001.parquet").unlink()
    elif what == "gone":
        manifest.unlink()
    elif what == "cut":
        manifest.write_text(manifest.read_text()[:500])
    else:
        found = json.loads(manifest.read_text())
        name, value = {"rows": ("rows", 7), "std": ("std", [1.0, float("nan"), 1.0, 1.0]), "grid": ("grid", 3), "version": ("version", 99)}[
            what
        ]
        manifest.write_text(json.dumps(found | {name: value}))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("shard", r"1 shard\(s\) are not there, the first: shard-00001"), ("gone", "there are no finished latents"),
        ("cut", "is damaged .*remove .* and encode"), ("rows", "do not add up"), ("std", "4 finite numbers"), ("grid", "TypeError"),
        ("version", "of version 99, this is vitok's 2"),
    ],
)  # fmt: skip
def test_a_damaged_set_is_one_line(pair: list[LatentSet], tmp_path: Path, what: str, said: str) -> None:
    shutil.copytree(pair[0].folder, tmp_path / "set")
    damage(tmp_path / "set", what)
    with pytest.raises(UsageError, match=said) as error:
        open_set(str(tmp_path / "set"))
    assert "\n" not in str(error.value)


def test_a_shard_that_is_damaged_or_gone_stops_the_reading_in_one_line(pair: list[LatentSet], tmp_path: Path) -> None:
    shutil.copytree(pair[0].folder, tmp_path / "set")
    source = LatentSource(open_set(str(tmp_path / "set")))
    shard = tmp_path / "set" / "shard-00001.parquet"
    data = shard.read_bytes()
    for spoil in (lambda: shard.write_bytes(data[:-100]), shard.unlink):
        loader._footer.cache_clear()
        spoil()
        with pytest.raises(VitokError, match=r"shard-00001\.parquet cannot be read \(.*\): remove .* and encode the corpus again$"):
            whole(source, 0, 2)
