"""Every layout, with real files in it, found without being told which it is."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.layouts import lay, samples, tar
from vitok.data.corpora.corpus import Corpora, canonical, open_corpora, open_corpus
from vitok.data.decoding.image import load
from vitok.errors import RejectedError, UsageError
from vitok.storage import filesystem

pytestmark = pytest.mark.usefixtures("own_cache")


def test_sample_photos_are_whole_photographs_held_out() -> None:
    corpus = open_corpus("sample-photos")
    assert (len(corpus.train), len(corpus.validation)) == (12, 4)
    names = [{name for name, *_ in samples(split)} for split in (corpus.train, corpus.validation)]
    assert not names[0] & names[1]


def test_a_flat_folder_is_split_by_name_whatever_else_is_there(photos: Path, tmp_path: Path) -> None:
    corpus = open_corpus(str(photos))
    assert (corpus.layout, len(corpus.train), len(corpus.validation), corpus.classes) == ("images", 11, 1, ())
    shutil.copytree(photos, tmp_path / "more")
    (tmp_path / "more" / "notes.txt").write_text("no picture")
    assert open_corpus(str(tmp_path / "more")).fingerprint == corpus.fingerprint


def test_a_folder_a_class_gives_labels(jpegs: list[bytes], tmp_path: Path) -> None:
    corpus = open_corpus(str(lay(tmp_path, {f"{c}/{i}.jpg": jpegs[i] for c in ("cat", "dog") for i in range(5)})))
    assert corpus.classes == ("cat", "dog")
    assert all(name.startswith(corpus.classes[label]) for name, label, _ in samples(corpus.train) + samples(corpus.validation))


def test_folders_of_splits_are_the_splits(jpegs: list[bytes], tmp_path: Path) -> None:
    files = {f"{part}/{c}/{i}.jpg": jpegs[i] for part in ("train", "val", "test") for c in ("a", "b") for i in range(2)}
    corpus = open_corpus(str(lay(tmp_path, files)))
    assert {name.split("/")[0] for name, *_ in samples(corpus.validation)} == {"val"}
    assert (len(corpus.train), corpus.classes) == (4, ("a", "b"))


@pytest.mark.parametrize("mapping", ["kaggle", "lines", "folders"])
def test_imagenet(jpegs: list[bytes], tmp_path: Path, mapping: str) -> None:
    files = {f"ILSVRC/train/n0000000{w}/n0000000{w}_{i}.JPEG": jpegs[i] for w in (1, 2) for i in range(3)}
    flat = {f"ILSVRC2012_val_0000000{i}": i % 2 for i in range(4)}
    for name, label in flat.items():
        files[f"ILSVRC/val/{f'n0000000{label + 1}/' if mapping == 'folders' else ''}{name}.JPEG"] = jpegs[0]
    if mapping == "kaggle":
        lines = ["ImageId,PredictionString", *(f"{name},n0000000{label + 1} 1 2 3 4" for name, label in flat.items())]
        files["LOC_val_solution.csv"] = "\n".join(lines).encode()
    if mapping == "lines":
        files["val.txt"] = "\n".join(f"{name}.JPEG {label}" for name, label in flat.items()).encode()
    files["LOC_synset_mapping.txt"] = b"n00000001 tench, Tinca tinca\nn00000002 goldfish, Carassius auratus\n"
    corpus = open_corpus(str(lay(tmp_path, files)))
    assert (corpus.layout, len(corpus.train), corpus.classes) == ("imagenet", 6, ("tench", "goldfish"))
    assert {Path(name).stem: label for name, label, _ in samples(corpus.validation)} == flat


def test_imagenet_without_a_mapping_says_so(jpegs: list[bytes], tmp_path: Path) -> None:
    lay(tmp_path, {"train/n00000001/a.JPEG": jpegs[0], "val/b.JPEG": jpegs[1]})
    assert open_corpus(str(tmp_path)).notes == ("1 of 1 validation images have no label",)


def test_coco(jpegs: list[bytes], tmp_path: Path) -> None:
    corpus = open_corpus(str(lay(tmp_path, {"train2017/1.jpg": jpegs[0], "train2017/2.jpg": jpegs[1], "val2017/3.jpg": jpegs[2]})))
    assert (corpus.layout, len(corpus.train), len(corpus.validation)) == ("coco", 2, 1)


def test_ucf101_follows_its_official_lists(tmp_path: Path) -> None:
    names = [f"{c}/v_{c}_g0{g}_c01.avi" for c in ("Archery", "Bowling") for g in (1, 2)]
    files = {f"UCF-101/{name}": b"video" for name in names}
    files["ucfTrainTestlist/classInd.txt"] = b"1 Archery\r\n2 Bowling\r\n"
    for split, (train, test) in {1: ("2", "1"), 2: ("1", "2")}.items():
        chosen = [[n for n in names if f"g0{g}" in n] for g in (train, test)]
        files[f"ucfTrainTestlist/trainlist0{split}.txt"] = "".join(f"{n} 1\r\n" for n in [*chosen[0], "Archery/v_gone.avi"]).encode()
        files[f"ucfTrainTestlist/testlist0{split}.txt"] = "".join(f"{n}\r\n" for n in chosen[1]).encode()
    lay(tmp_path, files)
    corpus = open_corpus(str(tmp_path))
    assert (corpus.kind, corpus.layout, corpus.classes) == ("video", "ucf101", ("Archery", "Bowling"))
    assert corpus.notes == ("1 videos of the lists are not there",)
    assert [name[-10:-4] for name in corpus.train.index()["name"].to_pylist()] == ["02_c01"] * 2
    second = open_corpus(f"ucf101:{tmp_path}?split=2")
    assert [name[-10:-4] for name in second.train.index()["name"].to_pylist()] == ["01_c01"] * 2
    with pytest.raises(UsageError, match=r"'split=2' is no option of the layout videos; there are: of ucf101 \?split="):
        open_corpus(f"videos:{tmp_path}?split=2")
    with pytest.raises(UsageError, match=r"trainlist03\.txt"):
        open_corpus(f"ucf101:{tmp_path}?split=3")


def test_kinetics_finds_cut_and_whole_videos(tmp_path: Path) -> None:
    head = "label,youtube_id,time_start,time_end,split\n"
    files = {"videos/abc_000010_000020.mp4": b"cut", "videos/def.mp4": b"whole", "videos/ghi.mp4": b"whole"}
    files["annotations/train.csv"] = (head + "abseiling,abc,10,20,train\njuggling,def,30,40,train\njuggling,gone,0,10,train\n").encode()
    files["annotations/val.csv"] = (head + "juggling,ghi,5,15,val\n").encode()
    corpus = open_corpus(str(lay(tmp_path, files)))
    spans = [corpus.train.get(i, 0) for i in range(len(corpus.train))]
    assert [(Path(s.name).stem, s.label, s.span) for s in spans] == [("abc_000010_000020", 0, None), ("def", 1, (30.0, 40.0))]
    assert corpus.notes == ("1 of 4 annotated videos are not there",)


def test_webdataset_reads_members_where_they_lie(jpegs: list[bytes], tmp_path: Path) -> None:
    for shard in range(3):
        members = [(f"{shard}{i}.jpg", jpegs[i]) for i in range(4)] + [(f"{shard}{i}.cls", b"%d" % (i % 2)) for i in range(3)]
        tar(tmp_path / f"shard-{shard:03d}.tar", [*members, (f"{shard}3.json", json.dumps({"label": 1}).encode())])
    corpus = open_corpus(str(tmp_path / "shard-{000..001}.tar"))
    found = samples(corpus.train) + samples(corpus.validation)
    assert len(found) == 8 and sorted(data for *_, data in found) == sorted(jpegs[:4] * 2)
    assert {(name[-5], label) for name, label, _ in found} == {("0", 0), ("1", 1), ("2", 0), ("3", 1)}
    assert len(open_corpus(str(tmp_path)).train) + len(open_corpus(str(tmp_path)).validation) == 12
    assert len(list((filesystem.cache() / "tars").iterdir())) == 3  # one pass over each


def test_a_tar_that_was_written_again_is_read_again(jpegs: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    tar(path, [(f"{n}.jpg", jpegs[0]) for n in range(2)])
    open_corpus(str(tmp_path))
    size = path.stat().st_size
    tar(path, [("x.txt", b"y"), ("0.jpg", jpegs[0][:-1024]), ("1.jpg", jpegs[0])])
    assert path.stat().st_size == size  # which tells nothing: tars are padded
    corpus = open_corpus(str(tmp_path))
    found = {name: data for split in (corpus.train, corpus.validation) for name, _, data in samples(split)}
    assert found == {"a.tar/0.jpg": jpegs[0][:-1024], "a.tar/1.jpg": jpegs[0]}


def test_bad_tars_are_counted_not_followed(jpegs: list[bytes], tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", [("/etc/x.jpg", jpegs[0]), ("../up.jpg", jpegs[0]), *((f"{i}.jpg", jpegs[i]) for i in range(4))])
    whole = tmp_path / "a.tar"
    (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[: -len(jpegs[3]) // 2 - 10_240])
    (tmp_path / "text.tar").write_text("no tar at all")
    corpus = open_corpus(str(tmp_path))
    reasons = sorted(rejection.reason for rejection in corpus.rejected)
    assert reasons.count("unsafe name") == 4 and "corrupt" in reasons
    good = 0
    for split in (corpus.train, corpus.validation):
        for i in range(len(split)):
            try:
                good += bool(split.get(i, 0).data)
            except RejectedError as error:
                assert error.reason == "truncated"
    assert 4 < good < 8


@pytest.mark.parametrize("layout", ["bytes", "huggingface"])
def test_parquet(jpegs: list[bytes], tmp_path: Path, layout: str) -> None:
    column = jpegs if layout == "bytes" else [{"bytes": data, "path": f"{i}.jpg"} for i, data in enumerate(jpegs)]
    table = pa.table({"image": column, "label": [i % 2 for i in range(12)]})
    if layout == "huggingface":
        names = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(names)})
    pq.write_table(table, tmp_path / "data-00000-of-00001.parquet", row_group_size=6)
    corpus = open_corpus(str(tmp_path))
    assert (corpus.layout, len(corpus.train), len(corpus.validation)) == ("parquet", 10, 2)
    assert corpus.classes == (("cat", "dog") if layout == "huggingface" else ())
    found = samples(corpus.train) + samples(corpus.validation)
    assert sorted(data for *_, data in found) == sorted(jpegs)
    assert all(label == jpegs.index(data) % 2 for _, label, data in found)


def test_parquet_with_splits_in_its_names(jpegs: list[bytes], tmp_path: Path) -> None:
    for part, images in (("train", jpegs[:8]), ("test", jpegs[8:])):
        pq.write_table(pa.table({"image": images}), tmp_path / f"{part}-00000-of-00001.parquet")
    corpus = open_corpus(str(tmp_path))
    assert (len(corpus.train), len(corpus.validation)) == (8, 4)


@pytest.mark.parametrize("zipped", [False, True])
def test_idx(tmp_path: Path, zipped: bool) -> None:
    rng = np.random.default_rng(0)
    pictures = {"train": rng.integers(0, 256, (5, 28, 28), np.uint8), "t10k": rng.integers(0, 256, (3, 28, 28), np.uint8)}
    for part, images in pictures.items():
        head = np.array([2051, *images.shape], ">i4").tobytes()
        labels = np.array([2049, len(images)], ">i4").tobytes() + bytes(range(len(images)))
        for name, data in ((f"{part}-images-idx3-ubyte", head + images.tobytes()), (f"{part}-labels-idx1-ubyte", labels)):
            (tmp_path / (name + ".gz" * zipped)).write_bytes(gzip.compress(data) if zipped else data)
    corpus = open_corpus(str(tmp_path))
    assert (corpus.layout, len(corpus.train), len(corpus.validation)) == ("idx", 5, 3)
    for i, (_, label, data) in enumerate(samples(corpus.train)):
        assert label == i and np.array_equal(np.asarray(load(data, 0))[..., 0], pictures["train"][i])


def test_a_video_folder(tmp_path: Path) -> None:
    corpus = open_corpus(str(lay(tmp_path, {f"{c}/{i}.mp4": b"x" for c in ("run", "jump") for i in range(3)})))
    assert (corpus.kind, corpus.layout, corpus.classes) == ("video", "videos", ("jump", "run"))


def test_images_and_videos_together_need_a_word(jpegs: list[bytes], tmp_path: Path) -> None:
    lay(tmp_path, {"a.jpg": jpegs[0], "b.jpg": jpegs[1], "c.mp4": b"x"})
    with pytest.raises(UsageError, match="2 images and 1 videos: say images:"):
        open_corpus(str(tmp_path))
    assert len(open_corpus(f"images:{tmp_path}").train) == 1


def test_a_mixture_states_its_parts(photos: Path) -> None:
    mixed = open_corpora(f"0.7*sample-photos + 0.3*{photos}")
    assert isinstance(mixed, Corpora) and [weight for weight, _ in mixed.parts] == [0.7, 0.3]
    assert mixed.counts == (23, 5) and mixed.uri == f"0.7*sample-photos + 0.3*{photos}"
    assert mixed.fingerprint not in {corpus.fingerprint for _, corpus in mixed.parts}
    with pytest.raises(UsageError, match=r"WEIGHT\*URI"):
        open_corpora(f"sample-photos + {photos}")


def test_the_fingerprint_follows_names_and_sizes(photos: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(photos, copy)
    before = open_corpus(str(photos)).fingerprint
    assert open_corpus(str(copy)).fingerprint == before
    with (copy / "photo-03.jpg").open("ab") as file:
        file.write(b"x")
    assert open_corpus(str(copy)).fingerprint != before


def test_one_place_has_one_name(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    assert canonical(photos.name) == canonical(f"{photos}/") == open_corpus(photos.name).uri
    assert canonical(f"images:{photos.name}") == f"images:{photos}"
    assert canonical("s3://bucket/photos/") == "s3://bucket/photos"


@pytest.mark.parametrize("what", ["missing", "empty", "one"])
def test_a_useless_folder_is_named(what: str, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / what
    if what != "missing":
        folder.mkdir()
    if what == "one":
        (folder / "a.jpg").write_bytes((photos / "photo-00.jpg").read_bytes())
    with pytest.raises(UsageError, match=what):
        open_corpus(str(folder))
