"""Check a sample for an ingest: decode it once to its end, filter it by size and length, and shrink a large image."""

import io
from dataclasses import dataclass

from PIL import Image

from vitok.data.decoding.image import load, open_video
from vitok.data.sample import Sample
from vitok.errors import RejectedError
from vitok.storage import filesystem

QUALITY = 95  # of a JPEG that was shrunk; chroma is kept at full size


@dataclass(frozen=True)
class CheckedSample:
    """A sample that passed the check, as it will be stored."""

    data: bytes  # as it will be stored
    original: bytes  # as it came: two samples are duplicates if these are equal
    width: int
    height: int
    frames: int | None = None
    seconds: float | None = None


def check(sample: Sample, video: bool, min_side: int, max_side: int, min_seconds: float, max_seconds: float) -> CheckedSample:
    """Decode, filter and shrink one sample. Sides are in pixels, 0 for no limit; seconds apply to videos. Raise `RejectedError`; reasons
    that begin with "filtered" are the user's own limits."""
    return _video(sample, min_side, min_seconds, max_seconds) if video else _image(sample, min_side, max_side)


def _image(sample: Sample, min_side: int, max_side: int) -> CheckedSample:
    original = sample.data or b""
    image = load(original, 0)
    _large_enough(image.size, min_side)
    if max_side and max(image.size) > max_side:
        scale = max_side / max(image.size)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
        return CheckedSample(buffer.getvalue(), original, *image.size)
    return CheckedSample(original, original, *image.size)


def _video(sample: Sample, min_side: int, min_seconds: float, max_seconds: float) -> CheckedSample:
    from vitok.data.decoding.remux import cut, walk

    original = filesystem.read(sample.uri) if sample.data is None else sample.data
    if sample.span is not None:
        original = cut(original, sample.span)
    with open_video(Sample(sample.name, sample.label, original)) as opened:
        _large_enough((opened.width, opened.height), min_side)
        frames, seconds = walk(original)  # what can be decoded, whatever the header says
        if seconds < min_seconds:
            raise RejectedError("filtered: short", f"{seconds:.2f} s")
        if max_seconds and seconds > max_seconds:
            raise RejectedError("filtered: long", f"{seconds:.2f} s")
        return CheckedSample(original, original, opened.width, opened.height, frames, seconds)


def _large_enough(size: tuple[int, int], min_side: int) -> None:
    if min(size) < min_side:
        raise RejectedError("filtered: small", f"{size[0]}x{size[1]} pixels")
