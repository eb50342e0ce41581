"""Videos whose pictures carry their numbers, so that a test sees which ones it got."""

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

FAST = {"preset": "ultrafast", "crf": "10", "bf": "3"}


def numbered(i: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A picture that carries its number: units in the grey of the left half, tens in that of the right."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:, : width // 2], picture[:, width // 2 :] = 8 + 24 * (i % 10), 8 + 24 * (i // 10)
    return picture


def numbers(pictures: np.ndarray) -> list[int]:
    half, margin = pictures.shape[2] // 2, max(pictures.shape[2] // 8, 1)
    units, tens = pictures[:, :, margin : half - margin], pictures[:, :, half + margin : -margin]
    return [round((float(u.mean()) - 8) / 24) + 10 * round((float(t.mean()) - 8) / 24) for u, t in zip(units, tens, strict=True)]


def write(
    file: Path | io.BytesIO,
    pictures: Sequence[np.ndarray],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    stamps: Sequence[int] | None = None,
    matrix: Sequence[int] | None = None,
    format: str | None = None,  # noqa: A002
    muxing: dict[str, str] | None = None,
) -> None:
    """A video at 30 pictures a second, or with `stamps` in thirtieths; a key frame each second."""
    with av.open(file, "w", format=format, container_options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=30, options=(FAST if codec == "libx264" else {}) | (options or {}))
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.gop_size, stream.thread_count = pix_fmt, 30, 1
        if matrix:
            stream.set_display_matrix(matrix)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = stamps[i] if stamps else i, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


NINETY = [numbered(i) for i in range(90)]
KINDS = {
    "h264.mp4": {},
    "open.mp4": {"options": {"x264-params": "open-gop=1"}},
    "h264.mkv": {},
    "h264.ts": {},
    "mpeg4.ts": {"codec": "mpeg4", "options": {"bf": "2", "qmin": "1", "qmax": "1"}},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"bf": "2", "qmin": "1", "qmax": "1"}},
    "mpeg4.mov": {"codec": "mpeg4", "options": {"bf": "2", "qmin": "1", "qmax": "1"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
}
