"""`sample-motion`: two-second videos with a known motion, rendered from the photographs of sample-photos on first use.

The class names the camera's motion: while the view pans left, its content moves right; while it turns left (anticlockwise), its content
turns clockwise. All motions have constant speed, and no border of the photograph comes into view.
"""

import io
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from vitok.data.corpora import sample_photos
from vitok.errors import UsageError
from vitok.storage import filesystem

CLASSES = ("pan-left", "pan-right", "pan-up", "pan-down", "zoom-in", "zoom-out", "turn-left", "turn-right")
FRAMES, FPS, SIDE = 32, 16, 128  # two seconds of square pictures, pixels
VERSION = "v1"  # of the rendering: files of another version are left alone

GROUND = 320  # side of the square out of the photograph's middle that the view moves over, pixels
PAN, TRAVEL = 0.6, 0.36  # the view's side and how far it pans, of the ground's side
WIDE, NEAR = 0.96, 0.48  # the view's side at either end of a zoom, of the ground's
TURN, ANGLE = 0.7, 60.0  # the view's side in the same measure, and how far it turns, degrees


def names(photographs: Sequence[str]) -> list[str]:
    """Return the names of all videos of some photographs, one per motion: "skimage/data/chelsea/pan-left.mp4", ..."""
    return [f"{PurePosixPath(photograph).with_suffix('')}/{motion}.mp4" for photograph in photographs for motion in CLASSES]


def label(name: str) -> int:
    """Return the class of a video, an index into `CLASSES`, from its name."""
    return CLASSES.index(PurePosixPath(name).stem)


def locate(name: str) -> Path:
    """Return the path of a video in the user's cache, rendered if it is not there. Raise `UsageError` for an unknown name."""
    path = filesystem.cache() / "motion" / VERSION / name
    if not path.is_file():
        photograph = next((photo for photo in (*sample_photos.TRAIN, *sample_photos.VALIDATION) if name in names([photo])), None)
        if photograph is None:
            raise UsageError(f"sample-motion has no video {name!r}")
        motion = CLASSES[label(name)]
        views = _turned if motion.startswith("turn") else _moved
        filesystem.write(str(path), _encoded(views(sample_photos.locate(photograph), motion)))
    return path


def _moved(path: Path, motion: str) -> Iterator[Image.Image]:
    """Yield FRAMES images of (SIDE, SIDE) for a pan or a zoom: resizes out of a moving box."""
    ground = _ground(path, GROUND)
    for progress in np.linspace(0, 1, FRAMES).tolist():
        x, y, side = _box(motion, progress)
        left, top = (x - side / 2) * GROUND, (y - side / 2) * GROUND
        yield ground.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, left + side * GROUND, top + side * GROUND))


def _box(motion: str, progress: float) -> tuple[float, float, float]:
    """Return the centre (x, y) and the side of the view, as shares of the ground's side, at `progress` from 0 to 1."""
    if motion.startswith("zoom"):
        return 0.5, 0.5, WIDE * (NEAR / WIDE) ** (progress if motion == "zoom-in" else 1 - progress)
    moved = (progress - 0.5) * TRAVEL * (1 if motion in ("pan-right", "pan-down") else -1)
    return (0.5 + moved, 0.5, PAN) if motion in ("pan-left", "pan-right") else (0.5, 0.5 + moved, PAN)


def _turned(path: Path, motion: str) -> Iterator[Image.Image]:
    """Yield FRAMES images of (SIDE, SIDE) for a turn of the view about its centre, over a ground shrunk to the view's scale."""
    ground = _ground(path, round(SIDE / TURN))
    for way in np.linspace(-0.5, 0.5, FRAMES).tolist():
        angle = math.radians(way * ANGLE) * (1 if motion == "turn-right" else -1)
        cos, sin = math.cos(angle), math.sin(angle)
        shift_x, shift_y = (ground.width - SIDE * (cos - sin)) / 2, (ground.height - SIDE * (sin + cos)) / 2
        matrix = (cos, -sin, shift_x, sin, cos, shift_y)  # from a place in the picture to one on the ground
        yield ground.transform((SIDE, SIDE), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def _ground(path: Path, side: int) -> Image.Image:
    """Return the central square of a photograph, resized to (side, side) RGB."""
    with Image.open(path) as image:
        photograph = image.convert("RGB")
    short = min(photograph.size)
    left, top = (photograph.width - short) / 2, (photograph.height - short) / 2
    box = (left, top, left + short, top + short)
    return photograph.resize((side, side), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)


def _encoded(pictures: Iterator[Image.Image]) -> bytes:
    """Encode images as an H.264 MP4. One thread, so that the same images give the same bytes."""
    import av  # 0.1 s, which who only asks for names need not wait

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "18", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = SIDE, SIDE, "yuv420p", FPS
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture), "rgb24")
            frame.pts, frame.time_base = k, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()
