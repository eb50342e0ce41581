"""Samples as people look at them."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vitok.errors import UsageError
from vitok.evaluation import pictures


@pytest.fixture
def clips() -> torch.Tensor:
    """Six clips of five frames of 15 x 16 pixels: clip n is of grey 40 n, its frames 8 brighter each."""
    grey = torch.arange(6).view(6, 1, 1, 1, 1) * 40 + torch.arange(5).view(1, 1, 5, 1, 1) * 8
    return grey.expand(6, 3, 5, 15, 16).to(torch.uint8).contiguous()


def test_a_grid_goes_row_by_row_and_is_enlarged_by_whole_pixels(clips: torch.Tensor) -> None:
    sheet = pictures.grid(clips[:, :, 0], 3)
    factor = pictures.WIDTH // (3 * (16 + pictures.GAP))
    assert sheet.shape == (2 * (15 * factor + 2) - 2, 3 * (16 * factor + 2) - 2, 3)
    assert [int(sheet[1, column * (16 * factor + 2), 0]) for column in range(3)] == [0, 40, 80]
    assert [int(sheet[15 * factor + 2, column * (16 * factor + 2), 0]) for column in range(3)] == [120, 160, 200]
    assert (sheet[15 * factor] == 255).all(), "white between the rows"
    assert pictures.grid(clips[:4, :, 0], 3, enlarged=False).shape == (2 * 17 - 2, 3 * 18 - 2, 3)


def test_clips_stand_still_as_strips_and_play_side_by_side(clips: torch.Tensor) -> None:
    with Image.open(io.BytesIO(pictures.picture(clips, 3, 8.0, ".png"))) as strip:
        rows = np.asarray(strip)
    step = rows.shape[1] // 5
    assert [int(rows[2, column * step + 4, 0]) for column in range(5)] == [0, 8, 16, 24, 32]
    for ending in (".gif", ".webp"):
        with Image.open(io.BytesIO(pictures.picture(clips, 3, 8.0, ending))) as film:
            assert getattr(film, "n_frames", 1) == 5
    with av.open(io.BytesIO(pictures.picture(clips, 3, 8.0, ".mp4"))) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        rate = film.streams.video[0].average_rate
    assert rate == 8 and len(frames) == 5
    assert [int(frame[20, 20, 0]) for frame in frames] == pytest.approx([0, 8, 16, 24, 32], abs=4)  # H.264 is lossy


def test_a_picture_of_another_kind_is_refused() -> None:
    pictures.check_ending(Path("a.PNG"), video=False)
    with pytest.raises(UsageError, match=r"images are shown as .png; no ending: a folder"):
        pictures.check_ending(Path("a.mp4"), video=False)
    with pytest.raises(UsageError, match=r"clips are shown as .png, .mp4, .gif, .webp"):
        pictures.check_ending(Path("a.jpg"), video=True)
