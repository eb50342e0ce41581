"""One pass of everything against torch-fidelity, on the same PNGs and the same (random) Inception; what is refused."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image

from tests.standins import inception_state
from vitok.data.corpora import sample_photos
from vitok.data.decoding.image import load, random_crop
from vitok.errors import VitokError
from vitok.evaluation import accumulator as tallies
from vitok.evaluation.accumulator import EvaluationSizes, MetricAccumulator
from vitok.evaluation.measure import Measurer, require_frames
from vitok.losses import to_pixels
from vitok.metrics import kid
from vitok.metrics.registry import find_metrics, required_networks
from vitok.networks import weights

CPU = torch.device("cpu")


def crops(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """(count, 3, size, size) uint8 out of real photographs."""
    rng = np.random.default_rng(seed)
    images = [load(sample_photos.locate(name).read_bytes(), 0) for name in sample_photos.TRAIN]
    cut = [random_crop(images[i % len(images)], size, 0.2, rng) for i in range(count)]
    return torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).contiguous()


def noisy(images: torch.Tensor, amount: float = 0.1) -> torch.Tensor:
    """As a reconstruction: floats in about [-1, 1]."""
    pixels = to_pixels(images.permute(0, 2, 3, 1))
    return pixels + amount * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(1))


def measured(
    names: Sequence[str], originals: torch.Tensor, outputs: torch.Tensor | None, batches: Sequence[Sequence[int]]
) -> MetricAccumulator:
    metrics = find_metrics(names)
    payloads = {
        name: inception_state() if name == "fid-inception" else weights.resolve_weights(name)[0] for name in required_networks(metrics)
    }
    measurer, tally = (
        Measurer(metrics, payloads, CPU, True, str),
        MetricAccumulator(metrics, EvaluationSizes(len(originals), 1, len(originals), len(originals))),
    )
    for batch in batches:
        rows = torch.tensor(batch)
        columns = measurer(np.array(batch), originals[rows], None if outputs is None else outputs[rows])
        tally.add(np.array(batch), columns)
    return tally


def save(images: torch.Tensor, folder: Path) -> str:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{number:03d}.png")
    return str(folder)


@pytest.mark.long
def test_equals_torch_fidelity_on_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kid, "SUBSET_SIZE", 30)
    monkeypatch.setitem(tallies.LEAST, "kernel", 30)
    originals = crops(36, 64)
    outputs = noisy(originals, 0.4)
    names = ("rFID", "rIS", "rKID", "rPrecision", "rRecall")
    ours = measured(names, originals, outputs, [range(first, first + 12) for first in (24, 0, 12)]).results()
    shown = outputs.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    torch.save(inception_state(), tmp_path / "inception.pth")
    theirs = torch_fidelity.calculate_metrics(
        input1=save(shown, tmp_path / "outputs"), input2=save(originals, tmp_path / "originals"), cuda=False, batch_size=16,
        feature_extractor="inception-v3-compat", isc=True, fid=True, kid=True, prc=True, kid_subset_size=30, verbose=False, cache=False,
        feature_extractor_weights_path=str(tmp_path / "inception.pth"),
    )  # fmt: skip
    for name, key in {
        "rFID": "frechet_inception_distance", "rIS": "inception_score_mean", "rKID": "kernel_inception_distance_mean",
        "rPrecision": "precision", "rRecall": "recall",
    }.items():  # fmt: skip
        print(f"{name}: {ours[name].value:.7g}, torch-fidelity {theirs[key]:.7g}, {abs(ours[name].value / theirs[key] - 1):.1e} apart")
        assert ours[name].value == pytest.approx(theirs[key], rel=1e-4)
        assert ours[name].count == 36
    assert ours["rFID"].value > 0.1 and ours["rIS"].value > 1.05 and 0 < ours["rRecall"].value < 1


def test_the_batches_do_not_matter() -> None:
    originals = crops(30, 32)
    outputs, names = noisy(originals), ("rPSNR", "rSSIM", "LPIPS", "rFD-EffLite0", "rFD-EffLite0-infinity", "rPrecision-EffLite0")
    one = measured(names, originals, outputs, [range(30)])
    halves = [measured(names, originals, outputs, [part]) for part in (range(11), range(11, 30))]
    halves[1].merge(halves[0])
    found, merged = one.results(), halves[1].results()
    for name, value in found.items():
        assert merged[name].value == pytest.approx(value.value, rel=1e-6), name
        assert value.count == 30
    assert found["rFD-EffLite0-infinity"].value < found["rFD-EffLite0"].value


def test_a_sample_is_counted_once() -> None:
    originals = crops(4, 32)
    with pytest.raises(VitokError, match="view 2 came twice"):
        measured(("rPSNR",), originals, noisy(originals), [range(3), range(2, 4)])
    whole = measured(("rPSNR",), originals, noisy(originals), [range(4)])
    with pytest.raises(VitokError, match="view 0 was counted twice"):
        whole.merge(measured(("rPSNR",), originals, noisy(originals), [range(1)]))


def test_what_is_not_finite_is_named() -> None:
    originals = crops(4, 32)
    outputs = noisy(originals)
    outputs[2, 1, 5, 5] = float("nan")
    with pytest.raises(VitokError, match=r"not finite: 2$"):
        measured(("rPSNR",), originals, outputs, [range(4)])


def test_another_size_is_refused() -> None:
    with pytest.raises(VitokError, match=r"0: a reconstruction of \(3, 16, 16\) for an original of \(3, 32, 32\)"):
        measured(("rPSNR",), crops(2, 32), noisy(crops(2, 16)), [range(2)])


def test_values_outside_the_range_are_counted() -> None:
    originals = crops(2, 32)
    outputs = torch.zeros(2, 3, 32, 32)
    outputs[1, :, :16] = 1.5
    tally = measured(("rPSNR",), originals, outputs, [range(2)])
    assert tally.values["outside"].tolist() == [0.0, 0.5]


@pytest.mark.parametrize(
    ("name", "count", "least"),
    [
        ("rFD-EffLite0", 2, "3 at least, or there is no covariance"),
        ("rIS", 2, "10"),
        ("rKID", 100, "1000"),
        ("rRecall", 3, "4"),
        ("rFD-DINOv2-infinity", 19, "20"),
    ],
)
def test_too_few_samples(name: str, count: int, least: str) -> None:
    with pytest.raises(VitokError, match=rf"{count} sample\(s\).*{least}"):
        MetricAccumulator(find_metrics([name]), EvaluationSizes(count, 1, count, count))


def test_few_images_say_how_little_they_are() -> None:
    originals = crops(5, 32)
    value = measured(("rFD-EffLite0",), originals, noisy(originals), [range(5)]).results()["rFD-EffLite0"]
    assert np.isfinite(value.value) and value.count == 5
    assert "covariance of rank 4 in 1280 dimensions" in value.settings


def test_grey_images_are_images() -> None:
    grey = crops(12, 32).float().mean(1, keepdim=True).round().to(torch.uint8).expand(-1, 3, -1, -1)
    results = measured(("rPSNR", "rSSIM", "LPIPS", "rFD-EffLite0"), grey, noisy(grey), [range(12)]).results()
    assert all(np.isfinite(value.value) for value in results.values())


def test_clips_are_measured_frame_by_frame() -> None:
    """A clip's PSNR is the mean of its frames'; FID sees every frame as an image."""
    images = crops(24, 32)
    clips, outputs = images.view(6, 4, 3, 32, 32).transpose(1, 2), noisy(images)
    metrics = find_metrics(("rPSNR", "rFD-EffLite0"))
    payloads = {"efficientnet-lite0": weights.resolve_weights("efficientnet-lite0")[0]}
    tally = MetricAccumulator(metrics, EvaluationSizes(6, 4, 6, 6))
    columns = Measurer(metrics, payloads, CPU, True, str)(np.arange(6), clips, outputs.view(6, 4, 3, 32, 32).transpose(1, 2))
    tally.add(np.arange(6), columns)
    single = measured(("rPSNR", "rFD-EffLite0"), images, outputs, [range(24)])
    assert np.allclose(tally.values["rPSNR"], single.values["rPSNR"].reshape(6, 4).mean(1))
    found, same = tally.results()["rFD-EffLite0"], single.results()["rFD-EffLite0"]
    assert found.count == 24 and found.value == pytest.approx(same.value, rel=1e-6)


def test_one_frame_is_no_clip() -> None:
    require_frames(find_metrics(["rFID", "rPSNR"]), 1)
    with pytest.raises(VitokError, match="rFVD: I3D takes clips of 10 frames at least, not 1"):
        require_frames(find_metrics(["rFID", "rFVD"]), 1)
