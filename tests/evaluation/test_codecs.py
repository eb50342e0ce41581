"""Codecs on real photographs, against a plain round trip through Pillow."""

import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image, features
from torch import Tensor

from tests.models.test_lpips import photographs
from vitok.errors import UsageError
from vitok.evaluation.baselines.codecs import FORMATS, Codec, Format

CPU = torch.device("cpu")
OPTIONS = {"jpeg": {"optimize": True}, "webp": {"method": 6}, "avif": {"speed": 6, "max_threads": 1}}


def code(codec: Codec, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    return codec.open(CPU)(pixels)


def psnr(x: Tensor, y: Tensor) -> Tensor:
    return 10 * torch.log10(4 / (x - y).square().flatten(1).mean(1))


def picture(pixels: Tensor) -> Image.Image:
    return Image.fromarray(((pixels + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


def plain(image: Image.Image, kind: str, quality: int) -> tuple[int, Tensor]:
    """Bits and pixels of a file as Pillow writes it."""
    file = io.BytesIO()
    image.save(file, kind, quality=quality, **OPTIONS[kind])
    pixels = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1) / 127.5 - 1
    return 8 * len(file.getvalue()), pixels


@pytest.mark.parametrize("kind", FORMATS)
def test_more_bits_are_a_better_picture_and_never_more_than_the_budget(kind: Format) -> None:
    x, before = photographs(96), torch.zeros(4)
    for bits in (10_000, 16_000, 24_000):
        y, values = code(Codec(kind, bits), x)
        assert y.shape == x.shape and y.dtype == torch.float32 and y.abs().max() <= 1
        assert (values["bits"] <= bits).all() and not values["over_budget"].any()
        assert (psnr(x, y) > before).all()
        before = psnr(x, y)


@pytest.mark.parametrize("kind", FORMATS)
def test_equals_a_plain_round_trip_at_the_best_quality_that_fits(kind: Format) -> None:
    x, budget = photographs(64)[:2], 10_000
    y, values = code(Codec(kind, budget), x)
    for pixels, ours, bits in zip(x, y, values["bits"], strict=True):
        trips = [plain(picture(pixels), kind, quality) for quality in range(101)]
        size, theirs = [trip for trip in trips if trip[0] <= budget][-1]
        assert bits == size and torch.equal(ours, theirs)


def test_jpeg_takes_the_smaller_of_the_sequential_and_the_progressive_file() -> None:
    image = picture(photographs(256)[0])
    sizes = {quality: len(FORMATS["jpeg"].encode(image, quality)) for quality in (10, 95)}
    assert all(8 * size <= plain(image, "jpeg", quality)[0] for quality, size in sizes.items())
    assert 8 * sizes[95] < plain(image, "jpeg", 95)[0]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_budget_too_small_gives_the_lowest_quality_and_says_so(kind: Format) -> None:
    x = photographs(64)
    y, values = code(Codec(kind, 100), x)
    lowest = [8 * len(FORMATS[kind].encode(picture(pixels), FORMATS[kind].lowest)) for pixels in x]
    assert values["bits"].tolist() == lowest and values["over_budget"].tolist() == [1, 1, 1, 1]
    assert y.shape == x.shape


def test_a_clip_is_coded_frame_by_frame() -> None:
    x, codec = photographs(64), Codec("webp", 1_200)
    images, of_images = code(codec, x)
    clip, of_clip = code(codec, x.transpose(0, 1)[None])
    assert torch.equal(clip[0].transpose(0, 1), images)
    assert of_clip["bits"].tolist() == [of_images["bits"].mean()]
    assert of_clip["over_budget"].tolist() == [of_images["over_budget"].mean()] and 0 < of_clip["over_budget"] < 1


def test_its_name_states_the_budget_and_it_can_be_pickled() -> None:
    codec = pickle.loads(pickle.dumps(Codec("avif", 8192)))
    assert codec == Codec("avif", 8192) and codec.name == "AVIF at 8192 bits"


def test_what_cannot_be_had_is_said() -> None:
    with pytest.raises(UsageError, match="unknown codec 'png'; known: jpeg, webp, avif"):
        Codec("png", 8192)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="0 bits for WebP"):
        Codec("webp", 0)


def test_a_pillow_without_the_codec_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda feature: feature != "avif")
    with pytest.raises(UsageError, match=r"without AVIF: pip install"):
        Codec("avif", 8192).open(CPU)
