"""Pictures of samples: a grid of images, strips of clips, clips that play, originals beside their reconstructions."""

import io
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from vitok.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

GAP = 2  # pixels between samples
WIDTH = 900  # of a picture that small samples are enlarged for, pixels
ENDINGS = {"image": (".png",), "video": (".png", ".mp4", ".gif", ".webp")}
STRIP = 8  # frames of a clip that a strip shows, at most


def grid(images: Tensor, columns: int, enlarged: bool = True) -> np.ndarray:
    """Lay out images (N, 3, H, W) uint8 in rows of `columns` -> (H', W', 3); small ones are enlarged pixel by pixel."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    factor = max(1, WIDTH // (columns * (width + GAP))) if enlarged else 1
    sheet = np.full((rows * (height * factor + GAP) - GAP, columns * (width * factor + GAP) - GAP, 3), 255, np.uint8)
    for number, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        row, column = divmod(number, columns)
        top, left = row * (height * factor + GAP), column * (width * factor + GAP)
        sheet[top : top + height * factor, left : left + width * factor] = image.repeat(factor, 0).repeat(factor, 1)
    return sheet


def strips(clips: Tensor) -> np.ndarray:
    """Lay out clips (N, 3, T, H, W) uint8: a row a clip, its frames from left to right, evenly chosen."""
    shown = np.unique(np.linspace(0, clips.shape[2] - 1, min(STRIP, clips.shape[2])).round().astype(int))
    return grid(clips[:, :, shown].transpose(1, 2).flatten(0, 1), len(shown))


def still(samples: Tensor, columns: int) -> bytes:
    """Draw a PNG of images (N, 3, H, W) as a grid, or of clips (N, 3, T, H, W) as strips."""
    buffer = io.BytesIO()
    Image.fromarray(grid(samples, columns) if samples.ndim == 4 else strips(samples)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def moving(clips: Tensor, columns: int, fps: float, ending: str, enlarged: bool = True) -> bytes:
    """Draw a grid of clips (N, 3, T, H, W) that play side by side: MP4, GIF or WebP."""
    frames = [grid(clips[:, :, t], columns, enlarged) for t in range(clips.shape[2])]
    if ending == ".mp4":
        return _mp4(frames, fps)
    buffer = io.BytesIO()
    first, *rest = (Image.fromarray(frame) for frame in frames)
    options = {"lossless": True} if ending == ".webp" else {}
    first.save(buffer, ending[1:], save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, **options)
    return buffer.getvalue()


def _mp4(frames: list[np.ndarray], fps: float) -> bytes:
    import av

    buffer = io.BytesIO()
    height, width = (side + side % 2 for side in frames[0].shape[:2])  # H.264 wants even sides
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            whole = np.full((height, width, 3), 255, np.uint8)
            whole[: frame.shape[0], : frame.shape[1]] = frame
            container.mux(stream.encode(av.VideoFrame.from_ndarray(whole, "rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def picture(samples: Tensor, columns: int, fps: float, ending: str) -> bytes:
    """Draw samples as the file with this ending holds them."""
    return still(samples, columns) if ending == ".png" else moving(samples, columns, fps, ending)


def check_ending(path: Path, video: bool) -> None:
    """Raise `UsageError` for a kind of file that samples cannot be shown as."""
    fitting = ENDINGS["video" if video else "image"]
    if path.suffix.lower() not in fitting:
        raise UsageError(
            f"--out {path}: {'clips' if video else 'images'} are shown as {', '.join(fitting)}; no ending: a folder, a file each"
        )


def side_by_side(originals: "Tensor", reconstructions: "Tensor", side: int = 96) -> bytes:
    """Draw a PNG of two rows, originals above reconstructions, (N, 3, H, W) uint8 each. Small images are enlarged pixel by pixel to
    about `side`."""
    from PIL import Image

    rows = [np.concatenate(list(part.permute(0, 2, 3, 1).numpy()), axis=1) for part in (originals, reconstructions)]
    image = Image.fromarray(np.concatenate(rows, axis=0))
    factor = max(1, side // originals.shape[-1])
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
