"""Folders as people have them: whatever lies there is used, rejected with a reason, or passed over and counted."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.data.films import NINETY, write
from tests.data.layouts import decodes, lay, samples, tar
from vitok.data.corpora import folders, webdataset
from vitok.data.corpora.corpus import Corpus, open_corpus, open_source
from vitok.data.corpora.splits import Split
from vitok.data.decoding.image import lacks_end, load
from vitok.data.ingest import inspect
from vitok.errors import RejectedError, UsageError

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def split(jpegs: list[bytes], tmp_path: Path) -> Path:
    """train/ and val/ with two classes."""
    return lay(
        tmp_path / "corpus", {f"{part}/{c}/{i}.jpg": jpegs[i] for part in ("train", "val") for c in ("cat", "dog") for i in range(4)}
    )


def names(split: Split) -> set[str]:
    return {name for name, *_ in samples(split)}


def passed(corpus: Corpus) -> dict[str, int]:
    return {one.reason: one.count for one in corpus.passed_over}


def test_what_lies_beside_the_splits_is_passed_over(split: Path, jpegs: list[bytes]) -> None:
    """A zip from a Mac, a picture of an overview, a notebook's copies, a readme."""
    clean = open_corpus(str(split))
    assert (len(clean.train), len(clean.validation), clean.classes, clean.passed_over) == (8, 8, ("cat", "dog"), ())
    assert str(clean) == "layout images: train/, val/; 2 classes"
    lay(split, {"__MACOSX/train/cat/._0.jpg": b"x", "train/.ipynb_checkpoints/0.jpg": jpegs[0], ".DS_Store": b"x", "README.md": b"x",
                "overview.png": jpegs[0], "extra/1.jpg": jpegs[0]})  # fmt: skip
    corpus = open_corpus(str(split))
    assert corpus.fingerprint == clean.fingerprint, "the same samples, the same labels"
    assert passed(corpus) == {"hidden": 3, "file(s) beside train/ and val/": 2, ".md file(s)": 1}
    assert str(corpus).endswith(
        "2 classes; passed over: 1 .md file(s) (README.md), 2 file(s) beside train/ and val/ (as extra/1.jpg), 3 hidden (as .DS_Store)"
    )


def test_hidden_folders_are_no_classes(jpegs: list[bytes], tmp_path: Path) -> None:
    files = {f"{c}/{i}.jpg": jpegs[i] for c in (".ipynb_checkpoints", "cat", "dog") for i in range(3)}
    corpus = open_corpus(str(lay(tmp_path, files)))
    assert corpus.classes == ("cat", "dog") and passed(corpus) == {"hidden": 3}


def test_a_loose_picture_takes_no_labels_away_and_many_are_told(jpegs: list[bytes], tmp_path: Path) -> None:
    classes = {f"{c}/{i}.jpg": jpegs[i] for c in ("cat", "dog") for i in range(5)}
    corpus = open_corpus(str(lay(tmp_path / "few", {**classes, "overview.png": jpegs[0]})))
    assert corpus.classes == ("cat", "dog") and passed(corpus) == {"image(s) beside the folders of classes": 1}
    many = open_corpus(str(lay(tmp_path / "many", {**classes, **{f"{i}.jpg": jpegs[i] for i in range(10)}})))
    assert many.classes == () and len(many.train) + len(many.validation) == 20
    assert many.notes == ("no labels: 10 of 20 images lie in no folder of a class",)


def test_a_split_without_folders_of_classes_is_used_without_labels(jpegs: list[bytes], tmp_path: Path) -> None:
    files = {f"train/{c}/{i}.jpg": jpegs[i] for c in ("cat", "dog") for i in range(9)} | {f"val/{i}.jpg": jpegs[i] for i in range(2)}
    corpus = open_corpus(str(lay(tmp_path, files)))
    assert (len(corpus.train), len(corpus.validation), corpus.classes, corpus.passed_over) == (18, 2, ("cat", "dog"), ())
    assert corpus.notes == ("2 image(s) have no label: their split has no folders of classes",)


def test_train_among_other_folders_is_a_class(jpegs: list[bytes], tmp_path: Path) -> None:
    corpus = open_corpus(str(lay(tmp_path, {f"{c}/{i}.jpg": jpegs[i] for c in ("bus", "car", "train") for i in range(3)})))
    assert corpus.classes == ("bus", "car", "train")


def test_a_test_split_beside_a_validation_split_is_told(split: Path, jpegs: list[bytes]) -> None:
    corpus = open_corpus(str(lay(split, {"test/cat/9.jpg": jpegs[0]})))
    assert len(corpus.validation) == 8
    assert passed(corpus) == {"image(s) of the test split: the validation split is what is held out": 1}


def test_classes_of_the_held_out_alone_and_empty_folders_are_told(split: Path, jpegs: list[bytes]) -> None:
    (split / "train" / "owl").mkdir()
    corpus = open_corpus(str(lay(split, {"val/zebra/1.jpg": jpegs[0]})))
    assert corpus.classes == ("cat", "dog", "zebra")
    assert corpus.notes == ("held-out images are of 1 class(es) that none is trained on: zebra",)
    assert passed(corpus) == {"empty folder(s)": 1} and "train/owl" in str(corpus)


def test_names_that_are_not_utf_8_or_not_for_a_terminal(jpegs: list[bytes], tmp_path: Path) -> None:
    for number, name in enumerate((b"caf\xe9.jpg", b"a\x1b[31m\n.jpg", "schön.jpg".encode(), b"plain.jpg")):
        (tmp_path / os.fsdecode(name)).write_bytes(jpegs[number])
    (tmp_path / "cut\x07.jpg").write_bytes(jpegs[0][: len(jpegs[0]) // 2])
    corpus = open_corpus(str(tmp_path))
    found = names(corpus.train) | names(corpus.validation)
    assert found == {r"caf\xe9.jpg", r"a\x1b[31m\n.jpg", "schön.jpg", "plain.jpg", r"cut\x07.jpg"}
    assert inspect.stats(corpus, 10)["rejected"] == {"truncated": 1}
    json.dumps(inspect.stats(corpus, 10)), inspect.preview(corpus, 10, 32)


def test_links_are_followed_but_not_in_circles(jpegs: list[bytes], tmp_path: Path) -> None:
    corpus = lay(tmp_path / "corpus", {f"a/{i}.jpg": jpegs[i] for i in range(3)})
    (corpus / "a" / "up").symlink_to(corpus, target_is_directory=True)
    (corpus / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (corpus / "self.jpg").symlink_to(corpus / "self.jpg")
    lay(tmp_path / "elsewhere", {"9.jpg": jpegs[3]})
    (corpus / "b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    found = open_corpus(str(corpus))
    assert names(found.train) | names(found.validation) == {"a/0.jpg", "a/1.jpg", "a/2.jpg", "b/9.jpg"}
    assert passed(found) == {"dead link": 1, "link to a folder above it": 1, "link: Too many levels of symbolic links": 1}


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


WRITES = {
    ".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".avif": "AVIF", ".gif": "GIF", ".bmp": "BMP", ".tif": "TIFF", ".tga": "TGA",
    ".qoi": "QOI", ".jp2": "JPEG2000", ".ppm": "PPM", ".pcx": "PCX", ".sgi": "SGI", ".dds": "DDS",
}  # fmt: skip


@pytest.mark.parametrize("ending", WRITES)
def test_every_format_that_decodes_is_an_image(ending: str, photos: Path, tmp_path: Path) -> None:
    with Image.open(next(iter(sorted(photos.iterdir())))) as picture:
        data = encoded(picture.convert("RGB"), WRITES[ending])
    corpus = open_corpus(str(lay(tmp_path, {f"{i}{ending}": data for i in range(2)})))
    assert (len(corpus.train), len(corpus.validation)) == (1, 1) and decodes(corpus)


def test_no_format_of_pillows_is_forgotten() -> None:
    """But those that hold no photographs, run other programs, or are known by name alone."""
    Image.init()
    others = {
        "BLP", "BUFR", "CUR", "DCX", "EPS", "FITS", "FLI", "FPX", "FTEX", "GBR", "GRIB", "HDF5", "ICNS", "ICO", "IM", "IPTC", "MCIDAS",
        "MIC", "MPEG", "MSP", "PCD", "PDF", "PIXAR", "SPIDER", "SUN", "WMF", "XBM", "XPM", "XVTHUMB", "PALM", "MPO", "IMT", "CCITT",
    }  # fmt: skip
    readable = {ending: kind for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN and kind not in others}
    missing = {ending: kind for ending, kind in readable.items() if ending not in folders.IMAGES}
    assert set(missing.values()) <= {"JPEG2000", "PPM", "TGA", "SGI"}, missing


@pytest.mark.parametrize(
    ("data", "said"), [(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pillow-heif"), (b"\xff\x0a\0\0\0\0\0\0\0\0\0\0", "pillow-jxl-plugin")]
)
def test_what_a_plugin_reads_names_it(data: bytes, said: str) -> None:
    with pytest.raises(RejectedError, match=f"the package {said}, which is not installed") as found:
        load(data, 32)
    assert found.value.reason == "unsupported"


def test_integers_of_32_bits_are_refused() -> None:
    """16 bits in a PPM are scaled by what its header says."""
    ramp = np.linspace(0, 4095, 64 * 48).astype(np.int32).reshape(48, 64)
    with pytest.raises(RejectedError, match="range is not known"):
        load(encoded(Image.fromarray(ramp), "TIFF"), 16)
    wide = np.linspace(0, 65535, 64 * 48).astype(">u2").reshape(48, 64)
    assert np.array_equal(np.asarray(load(b"P5 64 48 65535\n" + wide.tobytes(), 16))[..., 0], wide >> 8)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=["baseline", "progressive", "4:4:4"])
def test_a_jpeg_without_its_end_marker_is_whole(options: dict[str, Any], photos: Path) -> None:
    """And one that lacks pixels is truncated, however few."""
    with Image.open(next(iter(sorted(photos.iterdir())))) as picture:
        data = encoded(picture.convert("RGB"), "JPEG", quality=90, **options)
    assert data.endswith(b"\xff\xd9")
    right = load(data, 0)
    for cut in (1, 2):
        assert load(data[:-cut], 0).tobytes() == right.tobytes() and lacks_end(data[:-2])
    for cut in (4, 5, 8, 20, 100, len(data) // 2):
        with pytest.raises(RejectedError) as found:
            load(data[:-cut], 0)
        assert found.value.reason == "truncated", cut


def test_such_jpegs_are_counted(jpegs: list[bytes], tmp_path: Path) -> None:
    found = inspect.stats(open_corpus(str(lay(tmp_path, {"a.jpg": jpegs[0][:-2], "b.jpg": jpegs[1]}))), 10)
    assert found["looked_at"] == 2 and found["read_with_a_warning"] == {"no end marker": 1}


@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_transparency_is_ignored_or_has_a_colour_behind_it(form: str, tmp_path: Path) -> None:
    """Over hidden magenta. Ignored: as torchvision's pil_loader does."""
    picture = Image.new("RGBA", (16, 16), (255, 0, 255, 0))
    picture.paste((0, 128, 0, 255), (0, 0, 8, 16))
    palette = Image.new("P", (16, 16))
    palette.putpalette([255, 0, 255, 0, 128, 0])
    lay(
        tmp_path,
        {
            "a.png": encoded(picture, "PNG"),
            "b.png": encoded(palette, "PNG", transparency=0),
            "c.png": encoded(picture.convert("RGB"), "PNG"),
        },
    )
    if form == "parquet":
        data = [(tmp_path / f"{name}.png").read_bytes() for name in "abc"] * 4
        for path in tmp_path.iterdir():
            path.unlink()
        pq.write_table(pa.table({"image": data}), tmp_path / "a.parquet")
    plain, white = open_corpus(str(tmp_path)), open_corpus(f"{tmp_path}?background=white")
    assert plain.fingerprint != white.fingerprint and white.uri.endswith("?background=white")
    seen = {}
    for corpus in (plain, white):
        for split in (corpus.train, corpus.validation):
            for unit in range(len(split) if split.units is None else len(split.units)):
                sample = split.get(unit, 0)
                seen[sample.background, sample.name] = load(sample.data or b"", 0, sample.background).getpixel((12, 4))
    assert {colour for (background, _), colour in seen.items() if not background} == {(255, 0, 255)}
    assert {colour for (background, _), colour in seen.items() if background} <= {(255, 255, 255), (255, 0, 255)}
    if form == "folder":
        assert [seen["white", name] for name in ("a.png", "b.png", "c.png")] == [(255, 255, 255), (255, 255, 255), (255, 0, 255)]
        told = inspect.stats(plain, 9)["read_with_a_warning"]
        assert told == {"transparent pixels: ignored, hidden colours are seen (?background=white)": 2}
    with pytest.raises(UsageError, match="'background=pink': behind transparent pixels may be white, black, grey"):
        open_corpus(f"{tmp_path}?background=pink")
    with pytest.raises(UsageError, match="files are ingested as they are"):
        open_source(f"{tmp_path}?background=white")


def labels(corpus: Corpus) -> dict[str, int]:
    return {name.partition("/")[2]: label for split in (corpus.train, corpus.validation) for name, label, _ in samples(split)}


def test_of_two_pictures_a_sample_one_is_meant(jpegs: list[bytes], tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", {f"{i:06d}.{side}.png": jpegs[i] for i in range(4) for side in ("left", "right")})
    with pytest.raises(UsageError, match=r"'000000' has 2 pictures \(left.png, right.png\): say which is meant, as in \?image=left.png"):
        open_corpus(str(tmp_path))
    corpus = open_corpus(f"{tmp_path}?image=right.png")
    assert set(labels(corpus)) == {f"{i:06d}.right.png" for i in range(4)} and decodes(corpus)
    assert passed(corpus) == {"member(s) .left.png, of which another is the picture": 4}
    assert len(labels(open_corpus(f"{tmp_path}?image=each"))) == 8
    with pytest.raises(UsageError, match=r"\?image=up.png: no sample has such a picture; there are left.png, right.png"):
        open_corpus(f"{tmp_path}?image=up.png")


def test_dots_in_names_lose_no_sample(jpegs: list[bytes], tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", {f"img_{i}.{j}.jpg": jpegs[2 * i + j] for i in range(3) for j in range(2)})
    with pytest.raises(UsageError, match=r"'img_0' has 2 pictures \(0.jpg, 1.jpg\).*\?image=each where each is a sample"):
        open_corpus(str(tmp_path))
    assert len(labels(open_corpus(f"{tmp_path}?image=each"))) == 6


def test_capitals_are_small_letters(jpegs: list[bytes], tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", {name: data for i in range(4) for name, data in ((f"./{i}.JPG", jpegs[i]), (f"./{i}.CLS", b"%d" % (i % 2)))})
    assert labels(open_corpus(str(tmp_path))) == {f"./{i}.JPG": i % 2 for i in range(4)}


def test_labels_of_json_are_named_or_missed_aloud(jpegs: list[bytes], tmp_path: Path) -> None:
    about = [json.dumps({"caption": "x", "species": ("owl", "cat")[i % 2], "label": {"deep": 1}}).encode() for i in range(4)]
    tar(
        tmp_path / "a.tar",
        {name: data for i in range(4) for name, data in ((f"{i}.jpg", jpegs[i]), (f"{i}.json", about[i]), (f"{i}.txt", b"x"))},
    )
    corpus = open_corpus(str(tmp_path))
    assert set(labels(corpus).values()) == {-1} and passed(corpus) == {"member(s) .txt": 4}
    assert corpus.notes == (
        "4 of 4 samples have no label: the entries label and cls of .json is looked for, there are caption, label, species (?label=KEY)",
    )
    named = open_corpus(f"{tmp_path}?label=species")
    assert named.classes == ("cat", "owl") and labels(named) == {f"{i}.jpg": (1, 0)[i % 2] for i in range(4)} and not named.notes


def test_hidden_tars_are_none_of_a_large_corpus_either(jpegs: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is not indexed: a Mac's ._a.tar holds no tar."""
    monkeypatch.setattr(webdataset, "MOST_MEMBERS", 1)
    for name in "ab":
        tar(tmp_path / f"{name}.tar", {f"{i}.jpg": jpegs[i] for i in range(2)})
    (tmp_path / "._a.tar").write_bytes(b"x")
    found = open_source(str(tmp_path))
    assert isinstance(found, webdataset.Unindexed) and {*found.train.names, *found.validation.names} == {"a.tar", "b.tar"}


def test_compressed_tars_say_what_to_do(jpegs: list[bytes], tmp_path: Path) -> None:
    tar(tmp_path / "a.tar.gz", {f"{i}.jpg": jpegs[i] for i in range(4)})
    with pytest.raises(UsageError, match=r"holds 1 compressed archive\(s\), as a.tar.gz: .*gunzip"):
        open_corpus(str(tmp_path))


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("film") / "a.mp4"
    write(path, NINETY)
    return path.read_bytes()


@pytest.mark.parametrize("form", ["header", "no header", "spaces"])
def test_lists_of_paths_and_labels(form: str, film: bytes, tmp_path: Path) -> None:
    rows = [(f"clips/{i}.mp4", ("run", "swim")[i % 2]) for i in range(4)]
    text = "".join(f"{path}{' ' if form == 'spaces' else ','}{label}\n" for path, label in [*rows, ("clips/gone.mp4", "run")])
    files = {path: film for path, _ in rows} | {"train.csv": (("path,label\n" if form == "header" else "") + text).encode()}
    corpus = open_corpus(str(lay(tmp_path, {**files, "clips/unlisted.mp4": film})))
    assert (corpus.layout, corpus.kind, corpus.classes) == ("lists", "video", ("run", "swim"))
    found = {
        name: corpus.classes[label]
        for split in (corpus.train, corpus.validation)
        for name, label in zip(split.index()["name"].to_pylist(), split.index()["label"].to_pylist(), strict=True)
    }
    assert found == dict(rows) and corpus.notes == ("1 of 5 listed files are not there",)
    assert passed(corpus) == {"video(s) that the layout has no place for": 1}


def test_a_list_of_something_else_says_what_is_expected(film: bytes, tmp_path: Path) -> None:
    lay(tmp_path, {"a.mp4": film, "b.mp4": film, "train.csv": b"id,caption\n1,a dog\n"})
    with pytest.raises(
        UsageError, match=r"train.csv has the columns id, caption; a list of files has path and label, Kinetics' has label, youtube_id"
    ):
        open_corpus(str(tmp_path))
    assert len(open_corpus(f"videos:{tmp_path}").train) == 1
