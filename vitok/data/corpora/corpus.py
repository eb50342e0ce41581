"""Open a corpus (a dataset of images or videos) given as a URI. Nothing is decoded here.

- `sample-photos`, `sample-motion`: embedded photographs (one class each), and clips of motions made from them (one class a motion);
- `path/to/anything`: a folder or file, whose layout is recognised;
- `s3://`, `gs://`, `hf://datasets/...`: a folder or file in a store;
- `imagenet:`, `coco:`, `ucf101:`, `kinetics:`, `images:`, `videos:`, `webdataset:`, `parquet:`, `idx:` before a path: the layout, not
  recognised but named, with its options: `ucf101:path?split=2`;
- `shards-{000..120}.tar`: several files;
- `path/to/anything?background=white` (or black, grey): what is behind transparent pixels; without it transparency is ignored, and the
  colours that it hides are seen, as with torchvision's and ADM's loaders;
- `0.7*path/one + 0.3*path/two`: a mixture, with sampling weights.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from vitok.data.corpora import folders, ingested, parquet, sample_photos, webdataset
from vitok.data.corpora.folders import IMAGES, VIDEOS, Listing, RecognisedCorpus, file_ending
from vitok.data.corpora.splits import Files, Kind, OnBackground, Split
from vitok.data.sample import MOTION, NO_LABEL, PHOTOS, PassedOver, Rejection
from vitok.errors import RejectedError, UsageError
from vitok.storage import filesystem
from vitok.storage.filesystem import Survey
from vitok.text import printable

LAYOUTS: dict[str, Callable[..., RecognisedCorpus]] = {
    "images": lambda root, listing: folders.folder(root, listing, "image"),
    "videos": lambda root, listing: folders.folder(root, listing, "video"),
    "imagenet": folders.imagenet, "coco": folders.coco, "ucf101": folders.ucf101, "kinetics": folders.kinetics, "lists": folders.lists,
    "webdataset": webdataset.webdataset, "parquet": parquet.parquet, "idx": parquet.idx, "ingested": ingested.found,
}  # fmt: skip
OPTIONS = {"ucf101": ("split",), "webdataset": ("image", "label")}  # of a layout, behind a question mark
BACKGROUND = "background"  # an option of every layout
BACKGROUNDS = ("white", "black", "grey")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar")


@dataclass(frozen=True, eq=False)
class Corpus:
    """One dataset: its samples in two splits, its classes and its fingerprint. Sample names are relative to the corpus, the same on
    every node."""

    uri: str
    kind: Kind
    train: Split
    validation: Split
    classes: tuple[str, ...]
    fingerprint: str  # SHA-256 over splits, names, sizes and labels (an ingested corpus: over its content), 16 hex digits
    layout: str
    notes: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()  # found unusable without being read
    parts: tuple[str, ...] = ()  # what tells training samples from held-out ones; empty: names drawn by their hash
    passed_over: tuple[PassedOver, ...] = ()  # all else that lies there

    def __str__(self) -> str:
        """Return how the corpus was understood, in one line: its layout, its classes, and all that was passed over."""
        count = len(self.classes)
        said = [
            f"layout {self.layout}: " + (", ".join(map(printable, self.parts)) or "no splits of its own, names decide what is held out"),
            f"{count} class{'es' * (count > 1)}" if count else "no classes", *self.notes,
        ]  # fmt: skip
        if self.passed_over:
            said.append("passed over: " + ", ".join(map(str, self.passed_over)))
        return "; ".join(said)


@dataclass(frozen=True, eq=False)
class Corpora:
    """The data of a run: one corpus, or a mixture of several with their sampling weights."""

    uri: str
    parts: tuple[tuple[float, Corpus], ...]

    @property
    def fingerprint(self) -> str:
        """The corpus's fingerprint, 16 hex digits; for a mixture, a hash over the weights and the fingerprints of its parts."""
        if len(self.parts) == 1:
            return self.parts[0][1].fingerprint
        text = " + ".join(f"{weight}*{corpus.fingerprint}" for weight, corpus in self.parts)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def counts(self) -> tuple[int, int]:
        """The number of samples in (training split, validation split), summed over the parts."""
        return sum(len(corpus.train) for _, corpus in self.parts), sum(len(corpus.validation) for _, corpus in self.parts)

    def __str__(self) -> str:
        """Return how each corpus was understood, in one line."""
        return " + ".join(map(str, (corpus for _, corpus in self.parts)))

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """The samples of all parts that were found unusable without being read."""
        return tuple(rejection for _, corpus in self.parts for rejection in corpus.rejected)


def open_corpora(uri: str) -> Corpora:
    """Open the corpus at `uri`, or each part of a mixture. Raise `UsageError` for a corpus that is missing, unreadable or too small."""
    parts = _parts(uri)
    return Corpora(canonical(uri), tuple((weight, open_corpus(name)) for weight, name in parts))


def canonical(uri: str) -> str:
    """Return the URI with absolute paths, so that a place has one text whatever the working directory. Nothing is read. Raise
    `UsageError` for a malformed mixture."""
    parts = _parts(uri)
    names = [_canonical(name) for _, name in parts]
    return names[0] if len(parts) == 1 else " + ".join(f"{weight:g}*{name}" for (weight, _), name in zip(parts, names, strict=True))


def _parts(uri: str) -> list[tuple[float, str]]:
    """Return (weight, URI) of each part of a mixture; (1, `uri`) for one corpus. Raise `UsageError` for a malformed mixture."""
    texts = re.split(r"\s+\+\s+", uri.strip())
    if len(texts) == 1 and not re.match(r"[\d.]+\*", texts[0]):
        return [(1.0, uri)]
    found: list[tuple[float, str]] = []
    for text in texts:
        weight, star, name = text.partition("*")
        if not star or not re.fullmatch(r"\d*\.?\d+", weight) or float(weight) <= 0:
            raise UsageError(f"corpus {uri!r}: a part of a mixture is WEIGHT*URI, as in '0.7*photos + 0.3*clips'; {text!r} is none")
        found.append((float(weight), name))
    return found


def _canonical(uri: str) -> str:
    if uri in (PHOTOS, MOTION):
        return uri
    layout, place, query = _taken_apart(uri)
    return (f"{layout}:" if layout else "") + filesystem.absolute(place) + (f"?{query}" if query else "")


def _taken_apart(uri: str) -> tuple[str, str, str]:
    """Return (layout or "", path, query) of a corpus URI such as ucf101:path?split=2."""
    layout, _, place = uri.partition(":") if uri.partition(":")[0] in LAYOUTS else ("", "", uri)
    place, _, query = place.partition("?")
    return layout, place, query


def open_corpus(uri: str) -> Corpus:
    """Open one corpus. Raise `UsageError` for a corpus that is missing, unreadable or has fewer than two samples."""
    return _corpus(uri, uri, _embedded(uri), ()) if uri in (PHOTOS, MOTION) else _opened(uri, *_located(uri))


def open_source(uri: str) -> "Corpus | webdataset.Unindexed":
    """Open the source of an ingest: a `Corpus`, or for tars with more samples than an index may hold an `Unindexed`, which is read tar
    by tar. Raise `UsageError` as `open_corpus` does."""
    if uri in (PHOTOS, MOTION):
        return open_corpus(uri)
    layout, root, content, found = _located(uri)
    options = _options(uri, layout)
    if BACKGROUND in options:
        raise UsageError(f"corpus {uri!r}: files are ingested as they are; say ?{BACKGROUND}= behind what is read then")
    large = webdataset.unindexed(_canonical(uri), root, content, **options) if layout == "webdataset" else None
    return large or _opened(uri, layout, root, content, found)


def _located(uri: str) -> tuple[str, str, Listing, Survey]:
    """Return (layout, root, files below the root that are not hidden, all below the root) of a corpus URI."""
    layout, place, _ = _taken_apart(uri)
    root, found = _surveyed(uri, filesystem.absolute(place))
    content = [item for item in found.files if not folders.is_hidden(item[0])]
    return layout or _recognise(uri, root, content), root, content, found


def _opened(uri: str, layout: str, root: str, content: Listing, found: Survey) -> Corpus:
    options = _options(uri, layout)
    background = options.pop(BACKGROUND, "")
    try:
        corpus = LAYOUTS[layout](root, content, **options)
    except RejectedError as error:
        raise UsageError(f"corpus {uri!r}: {error}") from None
    passed_over = _passed_over(found, content, corpus)
    if not len(corpus.train) or not len(corpus.validation):
        bad = f"; {len(corpus.rejected)} more cannot be used, the first: {corpus.rejected[0]}" if corpus.rejected else ""
        other = f"; passed over: {', '.join(map(str, passed_over))}" if passed_over else ""
        raise UsageError(
            f"corpus {uri!r} holds {len(corpus.train) + len(corpus.validation)} {corpus.kind}(s), as {layout}; "
            f"it takes two at least, one to train on and one to hold out{bad}{other}"
        )
    if background:
        train, validation = (OnBackground(split, background) for split in (corpus.train, corpus.validation))
        fingerprint = corpus.fingerprint and hashlib.sha256(f"{corpus.fingerprint} on {background}".encode()).hexdigest()[:16]
        corpus = replace(corpus, train=train, validation=validation, fingerprint=fingerprint)
    return _corpus(_canonical(uri), layout, corpus, passed_over)


def _surveyed(uri: str, place: str) -> tuple[str, Survey]:
    names = _expand(place)
    if len(names) > 1 or filesystem.exists(place) == "file":
        root = place.partition("{")[0].rpartition("/")[0]
        inside = [name[len(root) + 1 :] for name in names]
        return root, Survey([(name, filesystem.size(filesystem.join(root, name))) for name in inside])
    if filesystem.exists(place) != "folder":
        raise UsageError(f"corpus {uri!r} is no folder or file; give one, a store's address, {PHOTOS!r} or {MOTION!r}")
    return place, filesystem.survey(place)


def _passed_over(found: Survey, content: Listing, corpus: RecognisedCorpus) -> tuple[PassedOver, ...]:
    """Return all that lies in a corpus and is neither a sample of it, nor rejected, nor a list that was read, by reason."""
    used = {*corpus.read, *(rejection.name for rejection in corpus.rejected)}
    for split in (corpus.train, corpus.validation):
        used |= set(split.names()) if isinstance(split, Files) else set()
    names: dict[str, list[str]] = {}
    for name, _ in content:
        if name not in used:
            names.setdefault(corpus.ignored.get(name) or _other(name), []).append(name)
    if len(content) < len(found.files):
        names["hidden"] = [name for name, _ in found.files if folders.is_hidden(name)]
    for name, reason in found.broken:
        names.setdefault(reason, []).append(name)
    names |= {"empty folder(s)": found.empty} if found.empty else {}
    return (*(PassedOver(reason, len(those), those[0]) for reason, those in sorted(names.items())), *corpus.passed_over)


def _other(name: str) -> str:
    ending = file_ending(name)
    kind = "image(s)" if ending in IMAGES else "video(s)" if ending in VIDEOS else ""
    return f"{kind} that the layout has no place for" if kind else f"{ending} file(s)" if ending else "file(s) without an ending"


def _recognise(uri: str, root: str, listing: Listing) -> str:
    names = [name for name, _ in listing]
    endings = [file_ending(name) for name in names]
    if ingested.MANIFEST in names:
        return "ingested"
    counts = {"images": sum(e in IMAGES for e in endings), "videos": sum(e in VIDEOS for e in endings),
              "parquet": endings.count(".parquet"), "webdataset": endings.count(".tar"),
              "idx": sum("idx3-ubyte" in PurePosixPath(name).name for name in names)}  # fmt: skip
    if not any(counts.values()):
        packed = [name for name in names if name.lower().endswith(COMPRESSED)]
        if packed:
            raise UsageError(
                f"corpus {uri!r} holds {len(packed)} compressed archive(s), as {printable(packed[0])}: samples are read by their places in "
                "a tar, which compression hides; gunzip a .tar.gz, whose tar then serves as it is, or unpack the archive into a folder"
            )
        raise UsageError(f"corpus {uri!r} holds no image, video, tar, Parquet or IDX file (empty, or another folder is meant?)")
    if counts["images"] and counts["videos"]:
        raise UsageError(f"corpus {uri!r} holds {counts['images']} images and {counts['videos']} videos: say images:{uri} or videos:{uri}")
    if any(re.search(r"(?:^|/)train/n\d{8}/", name) for name in names) and any(re.search(r"(?:^|/)val/", name) for name in names):
        return "imagenet"
    if any(name.startswith("train2017/") for name in names) and any(name.startswith("val2017/") for name in names):
        return "coco"
    if counts["videos"] and any(PurePosixPath(name).name == "classInd.txt" for name in names):
        return "ucf101"
    if (counts["videos"] or counts["images"]) and folders.list_files(listing):
        layout = folders.list_layout(root, listing)
        if layout or counts["videos"]:
            return layout or "lists"  # which says what it expects
    return max(counts, key=lambda layout: counts[layout])


def _embedded(uri: str) -> RecognisedCorpus:
    if uri == PHOTOS:
        # A photograph is a class of its own; the held-out ones are of none.
        labels = (range(len(sample_photos.TRAIN)), [NO_LABEL] * len(sample_photos.VALIDATION))
        parts = [
            folders.table([(name, sample_photos.locate(name).stat().st_size, label) for name, label in zip(part, of, strict=True)])
            for part, of in zip((sample_photos.TRAIN, sample_photos.VALIDATION), labels, strict=True)
        ]
        return RecognisedCorpus("image", Files(uri, parts[0], "image"), Files(uri, parts[1], "image"), sample_photos.CLASSES)
    from vitok.data.corpora import sample_motion

    clips = [
        folders.table([(name, 0, sample_motion.label(name)) for name in sample_motion.names(part)])
        for part in (sample_photos.TRAIN, sample_photos.VALIDATION)
    ]
    return RecognisedCorpus("video", Files(uri, clips[0], "video"), Files(uri, clips[1], "video"), sample_motion.CLASSES)


def _options(uri: str, layout: str) -> dict[str, Any]:
    """Return the options behind a corpus's question mark. Raise `UsageError` for one that its layout does not have."""
    found: dict[str, Any] = {}
    for part in filter(None, _taken_apart(uri)[2].split("&")):
        name, _, value = part.partition("=")
        if name == BACKGROUND and value not in BACKGROUNDS:
            raise UsageError(f"corpus {uri!r}: {part!r}: behind transparent pixels may be {', '.join(BACKGROUNDS)}")
        if name not in (*OPTIONS.get(layout, ()), BACKGROUND) or not value or (name == "split" and not value.isdigit()):
            known = "; ".join(f"of {layout} {' and '.join(f'?{one}=' for one in names)}" for layout, names in OPTIONS.items())
            known += f"; of all ?{BACKGROUND}="
            raise UsageError(f"corpus {uri!r}: {part!r} is no option of the layout {layout}; there are: {known}")
        found[name] = int(value) if name == "split" else value
    return found


def _expand(place: str) -> list[str]:
    """Return the paths that a brace pattern stands for: shards-{000..120}.tar or {train,extra}.tar, as in webdataset."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]+,[^{}]+)\}", place)
    if not match:
        return [place]
    first, last, choices = match.groups()
    middles = choices.split(",") if choices else [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
    return [name for middle in middles for name in _expand(place[: match.start()] + middle + place[match.end() :])]


def _corpus(uri: str, layout: str, found: RecognisedCorpus, passed_over: tuple[PassedOver, ...]) -> Corpus:
    digest = hashlib.sha256()
    for part, split in (("train", found.train), ("validation", found.validation)):
        index = split.index()
        for column in index.column_names:
            digest.update(f"{part}\0{column}\0".encode())
            digest.update("\n".join(map(str, index[column].to_pylist())).encode())
    fingerprint = found.fingerprint or digest.hexdigest()[:16]
    classes = tuple(map(printable, found.classes))
    return Corpus(
        uri, found.kind, found.train, found.validation, classes, fingerprint, layout, found.notes, found.rejected, found.parts, passed_over
    )
