"""From a file to a square uint8 sample. What cannot be decoded is a reason in words, not an exception."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

Image.MAX_IMAGE_PIXELS = 178_956_970  # Pillow's own default, pinned: above it a file counts as a decompression bomb


class RejectedError(Exception):
    """The file is no usable image; the message says why."""


def load(path: Path, smallest: int) -> Image.Image:
    """The whole image as RGB, decoded to its last byte. Raises `RejectedError` with the reason.

    `smallest` is the side (pixels) that must be left: JPEGs far larger are decoded at a half, a quarter or an eighth.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.draft("RGB", (smallest, smallest))
                rgb = image.convert("RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise RejectedError(f"more than {Image.MAX_IMAGE_PIXELS} pixels (a decompression bomb?)") from None
    except Exception as error:  # Pillow's plugins raise many kinds (OSError, SyntaxError, struct.error, ...) on bad bytes
        raise RejectedError(f"{type(error).__name__}: {error}".replace(str(path), path.name)) from None
    if min(rgb.size) < 2:
        raise RejectedError(f"{rgb.width}x{rgb.height} pixels")
    return rgb


def random_crop(image: Image.Image, size: int, smallest_crop: float, rng: np.random.Generator) -> np.ndarray:
    """A square of random side and place, resized to (size, size, 3) uint8.

    The side is log-uniform between `smallest_crop` of the short side (or `size`, if more) and the short side.
    """
    short = min(image.size)
    low = min(max(smallest_crop * short, size), short)
    side = float(np.exp(rng.uniform(np.log(low), np.log(short))))
    left, top = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0))


def center_crop(image: Image.Image, size: int) -> np.ndarray:
    """ADM's centre crop (Dhariwal & Nichol 2021), the field's protocol: halve with a box filter while the short side is
    at least twice `size`, resize the short side to `size` bicubically, cut the centre. (size, size, 3) uint8."""
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))
