"""Decode a sample to square uint8 pixels. Whatever a library raises on damaged data becomes a `RejectedError` with a reason in words."""

import importlib
import io
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from vitok.data.sample import Sample
from vitok.errors import RejectedError
from vitok.storage import filesystem

if TYPE_CHECKING:
    from vitok.data.decoding.video import Video

# What Pillow has to say of damaged files is said by the reason of their rejection, or is of no consequence.
warnings.filterwarnings("ignore", module="PIL")
# Above it a file counts as a decompression bomb. The default is Pillow's own, pinned.
Image.MAX_IMAGE_PIXELS = int(os.environ.get("VITOK_MAX_PIXELS") or 178_956_970)


PLUGINS = {"HEIC": ("pillow_heif", "pillow-heif"), "JPEG XL": ("pillow_jxl", "pillow-jxl-plugin")}  # (module, package) of Pillow's plugins
FILLERS = (b"\x35\xa9\x5c\x12" * 64, b"\xca\x56\x2b\x6d" * 64)  # bytes that are no end of a scan


def load(data: bytes, smallest: int, background: str = "") -> Image.Image:
    """Decode a whole image as RGB; of an animation, the first picture. A JPEG that lacks nothing but its end marker is whole.

    `smallest` is the short side in pixels that must be left (0: full size): a JPEG far larger is decoded at 1/2, 1/4 or 1/8 scale.
    `background` is the colour behind transparent pixels; without one transparency is ignored, as by torchvision's and ADM's loaders. Raise
    `RejectedError`: "empty", "bomb" (more than VITOK_MAX_PIXELS pixels), "not an image", "truncated", "corrupt", "unsupported", "too
    small".
    """
    if not data:
        raise RejectedError("empty", "zero bytes")
    try:
        return _load(data, smallest, background)
    except RejectedError as error:
        if error.reason != "truncated" or not data.startswith(b"\xff\xd8") or not (whole := _ended(data, smallest)):
            raise
        return whole


def lacks_end(data: bytes) -> bool:
    """Return whether an encoded image is a JPEG without its end marker, which `load` reads if all pixels are there."""
    return data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-1024:]


def _ended(data: bytes, smallest: int) -> Image.Image | None:
    """Return the picture of a JPEG whose end marker is missing; None where pixels are missing, too.

    libjpeg tells of missing bits only in a warning, which Pillow drops, and reads zeros for them. If no bits are missing, others between
    the data and the end marker change no pixel; if some are, these are read in their place.
    """
    data = data.rstrip(b"\xff")  # the first half of an end marker
    try:
        plain, *filled = (_load(data + filler + b"\xff\xd9", smallest) for filler in (b"", *FILLERS))
    except RejectedError:
        return None
    return plain if all(one.tobytes() == plain.tobytes() for one in filled) else None


def _load(data: bytes, smallest: int, background: str = "") -> Image.Image:
    try:
        with _opened(data) as image:
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise _bomb()
            if smallest:
                image.draft("RGB", (smallest, smallest))
            rgb = _rgb(image, background)
    except Image.DecompressionBombError:
        raise _bomb() from None
    except UnidentifiedImageError:
        raise RejectedError("not an image") from None
    except RejectedError:
        raise
    except Exception as error:  # Pillow's plugins raise many kinds (OSError, SyntaxError, struct.error, ...) on bad bytes
        reason = "truncated" if "truncated" in str(error) or isinstance(error, EOFError) else "corrupt"
        raise RejectedError(reason, f"{type(error).__name__}: {error}"[:200]) from None
    if min(rgb.size) < 2:
        raise RejectedError("too small", f"{rgb.width}x{rgb.height} pixels")
    return rgb


def random_crop(image: Image.Image, size: int, smallest_crop: float, rng: np.random.Generator) -> np.ndarray:
    """Cut a random square and resize it to (size, size, 3) uint8. Its side is log-uniform between `smallest_crop` of the short side
    (`size` at least) and the short side."""
    side, left, top = _square(image.width, image.height, size, smallest_crop, rng)
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0))


def center_crop(image: Image.Image, size: int) -> np.ndarray:
    """Return ADM's centre crop (Dhariwal & Nichol 2021), the protocol of the field, as (size, size, 3) uint8.

    The image is halved with a box filter while its short side is at least twice `size`, the short side is resized to `size` bicubically,
    and the centre is cut.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


@contextmanager
def open_video(sample: Sample) -> Iterator["Video"]:
    """Open a sample's video as a context manager, from its bytes, a local file or a store; from a store only the needed ranges are read.
    Raise `RejectedError` as `Video` does."""
    from vitok.data.decoding.video import Video

    with ExitStack() as opened:
        source: Any = sample.data
        if source is None:
            source = opened.enter_context(filesystem.opened(sample.uri)) if filesystem.is_remote(sample.uri) else sample.uri
        yield opened.enter_context(Video(source, sample.span))


def random_clip(sample: Sample, size: int, frames: int, fps: float, smallest_crop: float, rng: np.random.Generator) -> np.ndarray:
    """Decode `frames` pictures at `fps` from a random start, all cut to one random square: (frames, size, size, 3) uint8. Raise
    `RejectedError`."""
    with open_video(sample) as video:
        start = float(rng.uniform(0, max(0.0, video.seconds - frames / fps)))
        side, left, top = _square(video.width, video.height, size, smallest_crop, rng)
        wide, high = (max(size, round(length * size / side)) for length in (video.width, video.height))
        clip = video.clip(start, frames, fps, (wide, high))
    left, top = (min(round(place * size / side), length - size) for place, length in ((left, wide), (top, high)))
    return np.ascontiguousarray(clip[:, top : top + size, left : left + size])


def center_clip(sample: Sample, size: int, frames: int, fps: float) -> np.ndarray:
    """Decode `frames` pictures at `fps` from the middle of a video, each cut by `center_crop`: (frames, size, size, 3) uint8. Raise
    `RejectedError`."""
    with open_video(sample) as video:
        start = max(0.0, video.seconds - frames / fps) / 2
        clip = video.clip(start, frames, fps, (video.width, video.height))
    return np.stack([center_crop(Image.fromarray(picture), size) for picture in clip])


def _square(width: int, height: int, size: int, smallest_crop: float, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return (side, left, top) of a random square in pixels of the original. The side is log-uniform between `smallest_crop` of the
    short side (`size` at least) and the short side."""
    short = min(width, height)
    low = min(max(smallest_crop * short, size), short)
    side = min(float(np.exp(rng.uniform(np.log(low), np.log(short)))), float(short))  # exp(log(x)) can be above x
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    return side, left, top


def _opened(data: bytes) -> Image.Image:
    """Open an encoded image, with Pillow's plugin for its format where it needs one. Raise `RejectedError` ("unsupported") where the
    plugin is not installed, Pillow's errors otherwise."""
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        kind = _plugin(data)
        if kind is None:
            raise
        module, package = PLUGINS[kind]
        try:
            found = importlib.import_module(module)
        except ImportError:
            raise RejectedError("unsupported", f"{kind}: Pillow reads it with the package {package}, which is not installed") from None
        getattr(found, "register_heif_opener", lambda: None)()  # the other registers itself
        return Image.open(io.BytesIO(data))


def _plugin(data: bytes) -> str | None:
    """Return the format of an image that Pillow reads with a plugin, by its first bytes; None for another."""
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"):
        return "HEIC"
    return "JPEG XL" if data.startswith((b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")) else None


def _bomb() -> RejectedError:
    return RejectedError("bomb", f"more than {Image.MAX_IMAGE_PIXELS} pixels; the variable VITOK_MAX_PIXELS raises the limit")


def is_transparent(data: bytes) -> bool:
    """Return whether an encoded image that `load` reads has transparent pixels."""
    with _opened(data) as image:
        return image.has_transparency_data and bool((np.asarray(image.convert("RGBA"))[..., 3] < 255).any())


def _rgb(image: Image.Image, background: str) -> Image.Image:
    if background and image.has_transparency_data:
        whole = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", whole.size, background), whole).convert("RGB")
    if image.mode == "I" and image.format != "PPM":  # of which Pillow scales every range to 16 bits
        raise RejectedError("unsupported", "32-bit integer pixels, whose range is not known: convert them to 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits a channel: Pillow's own conversion would cut it off at 255
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise RejectedError("unsupported", "floating point pixels, whose range is not known")
    return image.convert("RGB")
