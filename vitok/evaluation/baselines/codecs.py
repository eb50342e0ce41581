"""Image codecs at a budget of bits: a floor that needs no weights, and the only baseline whose bits are those of a file."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import PIL
import torch
from PIL import Image, features
from torch import Tensor

from vitok.errors import UsageError
from vitok.evaluation.subject import Coder, by_frames

Format = Literal["jpeg", "webp", "avif"]
HIGHEST = 100  # quality, of every codec


@dataclass(frozen=True)
class Codec:
    """Every image at the best quality whose file is at most `bits`: a subject of an evaluation.

    The file is counted whole, headers and all, which are about 280 bytes of a JPEG, 300 of an AVIF, 40 of a WebP. If even the
    lowest quality is over the budget, the image gets that. Values: "bits" of the file, and "over_budget", 0 or 1; of a clip,
    the means over its frames. Raises `UsageError` for an unknown format, no bits, a Pillow built without the codec.
    """

    format: Format
    bits: int  # of an image, or of each frame of a clip

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UsageError(f"unknown codec {self.format!r}; known: {', '.join(FORMATS)}")
        if self.bits < 1:
            raise UsageError(f"a budget of {self.bits} bits for {FORMATS[self.format].label}: at least 1 is needed")

    @property
    def name(self) -> str:
        """The codec and its budget."""
        return f"{FORMATS[self.format].label} at {self.bits} bits"

    def open(self, device: torch.device) -> Coder:
        """Open the codec. Raises `UsageError` where Pillow was built without it."""
        label, feature = FORMATS[self.format][:2]
        if not features.check(feature):
            raise UsageError(f"this Pillow ({PIL.__version__}) was built without {label}: pip install --upgrade 'pillow>=11.3'")

        def code(images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            rgb = ((images.detach().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
            # WebP and AVIF work outside Python's lock. As many at once as torch may use of the cores.
            with ThreadPoolExecutor(torch.get_num_threads()) as pool:
                files = list(pool.map(self._encode, map(Image.fromarray, rgb)))
                decoded = torch.from_numpy(np.stack(list(pool.map(_decode, files))))
            bits = torch.tensor([8.0 * len(file) for file in files], device=device)
            pixels = decoded.to(device).permute(0, 3, 1, 2).contiguous() / 127.5 - 1
            return pixels, {"bits": bits, "over_budget": (bits > self.bits).float()}

        return by_frames(code)

    def _encode(self, image: Image.Image) -> bytes:
        """Encode at the best quality within the budget, by bisection, as if files always grew with the quality. Where one does not, the
        quality found can be a little below the best; over the budget it is only if the lowest is."""
        _, _, encode, low = FORMATS[self.format]
        best, high = encode(image, low), HIGHEST
        while 8 * len(best) <= self.bits and low < high:
            middle = (low + high + 1) // 2
            file = encode(image, middle)
            if 8 * len(file) <= self.bits:
                low, best = middle, file
            else:
                high = middle - 1
        return best


def jpeg(image: Image.Image, quality: int) -> bytes:
    """Encode as JPEG: the smaller of a sequential and a progressive file, which hold the same coefficients, so the same picture."""
    files = [_save(image, "JPEG", quality=quality, subsampling="4:2:0", optimize=True, progressive=p) for p in (False, True)]
    return min(files, key=len)


def webp(image: Image.Image, quality: int) -> bytes:
    """Encode as WebP."""
    return _save(image, "WEBP", quality=quality, method=6)


def avif(image: Image.Image, quality: int) -> bytes:
    """Encode as AVIF at speed 6, libavif's default: 4 takes six times as long for 1 % less. On one thread, so that no machine's file
    differs."""
    return _save(image, "AVIF", quality=quality, subsampling="4:2:0", speed=6, max_threads=1)


class ImageFormat(NamedTuple):
    """An image format: its label, its name in Pillow, its encoder and its lowest quality."""

    label: str
    feature: str  # as Pillow calls it
    encode: Callable[[Image.Image, int], bytes]
    lowest: int  # quality


FORMATS: dict[Format, ImageFormat] = {
    "jpeg": ImageFormat("JPEG", "jpg", jpeg, 1),
    "webp": ImageFormat("WebP", "webp", webp, 0),
    "avif": ImageFormat("AVIF", "avif", avif, 0),
}


def _save(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _decode(file: bytes) -> np.ndarray:
    """(H, W, 3) uint8."""
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB"))
