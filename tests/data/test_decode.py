from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitok.data.decode import RejectedError, center_crop, load, random_crop


@pytest.mark.parametrize("name", ["cut.jpg", "empty.png", "text.webp"])
def test_bad_files_are_reasons(broken_photos: Path, name: str) -> None:
    with pytest.raises(RejectedError) as reason:
        load(broken_photos / name, 32)
    assert str(broken_photos) not in str(reason.value)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(RejectedError, match="bomb"):
        load(tmp_path / "bomb.png", 32)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tiff" if mode in ("CMYK", "I;16") else "image.png")
    Image.new(mode, (40, 30)).save(path)
    assert load(path, 16).mode == "RGB"


def test_random_crops_stay_inside_and_repeat() -> None:
    ramp = Image.fromarray(np.tile(np.arange(200, dtype=np.uint8)[:, None, None], (1, 120, 3)))
    crops = [random_crop(ramp, 32, 0.3, np.random.default_rng(i)) for i in range(50)]
    assert all(crop.shape == (32, 32, 3) and crop.dtype == np.uint8 for crop in crops)
    heights = [int(crop[-1, 0, 0]) - int(crop[0, 0, 0]) for crop in crops]
    assert min(heights) < 45 and max(heights) > 90  # from 36 rows (0.3 of 120) to 120
    assert np.array_equal(crops[7], random_crop(ramp, 32, 0.3, np.random.default_rng(7)))


@pytest.mark.parametrize("size", [(64, 64), (65, 200), (300, 129), (31, 500)])
def test_center_crop_is_the_center(size: tuple[int, int]) -> None:
    crop = center_crop(Image.new("RGB", size, (9, 8, 7)), 32)
    assert crop.shape == (32, 32, 3)
    assert np.array_equal(np.unique(crop.reshape(-1, 3), axis=0), [[9, 8, 7]])


def test_center_crop_of_an_exact_size_is_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    assert np.array_equal(center_crop(Image.fromarray(image), 32), image[:, 8:40])
