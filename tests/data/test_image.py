import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitok.data.decoding.image import center_crop, load, random_crop
from vitok.errors import RejectedError


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "reason"), [("cut.jpg", "truncated"), ("empty.png", "empty"), ("text.webp", "not an image")])
def test_bad_files_are_reasons(broken_photos: Path, name: str, reason: str) -> None:
    with pytest.raises(RejectedError) as found:
        load((broken_photos / name).read_bytes(), 32)
    assert found.value.reason == reason


def test_a_decompression_bomb_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(RejectedError, match="more than 1000 pixels; the variable VITOK_MAX_PIXELS"):
        load(encoded(Image.new("L", (64, 64)), "PNG"), 32)


@pytest.mark.parametrize(("mode", "kind"), [("L", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("1", "PNG"), ("LA", "PNG"), ("CMYK", "JPEG")])
def test_every_mode_becomes_rgb(mode: str, kind: str) -> None:
    assert load(encoded(Image.new(mode, (40, 30)), kind), 16).mode == "RGB"


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_range(kind: str) -> None:
    ramp = np.linspace(0, 65535, 64 * 48).astype(np.uint16).reshape(48, 64)
    assert np.array_equal(np.asarray(load(encoded(Image.fromarray(ramp), kind), 16))[..., 1], ramp >> 8)


def test_of_an_animation_the_first_picture_is_taken() -> None:
    pictures = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    for kind in ("GIF", "WEBP"):
        data = encoded(pictures[0], kind, save_all=True, append_images=pictures[1:])
        red, _, blue = np.asarray(load(data, 16)).reshape(-1, 3).mean(0)
        assert red > 200 and blue < 60


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(RejectedError, match="range is not known"):
        load(encoded(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"), 4)


def test_a_crop_of_the_whole_short_side_fits() -> None:
    for side in range(2, 300):
        assert random_crop(Image.new("RGB", (side, side)), 16, 1.0, np.random.default_rng(side)).shape == (16, 16, 3)


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
