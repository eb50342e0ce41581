"""FVD through a TorchScript file that is called as StyleGAN-V and LARP call theirs."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg

from tests.evaluation.test_measure import crops, noisy
from tests.standins import detector_file
from vitok.evaluation.accumulator import EvaluationSizes, MetricAccumulator
from vitok.evaluation.measure import Measurer
from vitok.metrics.psnr_ssim import to_uint8
from vitok.metrics.registry import find_metrics
from vitok.networks import weights
from vitok.networks.registry import NETWORKS


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A file that the registry knows, brought by a user."""
    path = detector_file(tmp_path)
    monkeypatch.setitem(NETWORKS, "i3d", replace(NETWORKS["i3d"], sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    monkeypatch.setenv("VITOK_WEIGHTS_DIR", str(tmp_path))
    payload, source = weights.resolve_weights("i3d")
    assert source == "VITOK_WEIGHTS_DIR" and isinstance(payload, bytes)
    return payload


def clips(images: torch.Tensor, frames: int) -> torch.Tensor:
    """(N * T, 3, H, W) -> (N, 3, T, H, W)"""
    return images.unflatten(0, (-1, frames)).transpose(1, 2)


def test_features_are_those_of_either_way_to_call_it(program: bytes, tmp_path: Path) -> None:
    """StyleGAN-V hands over 0..255 and lets the file rescale; LARP hands over [-1, 1]."""
    videos = clips(crops(20, 32), 10)
    ours = weights.build_network("i3d", program)(videos).pooled
    theirs = torch.jit.load(tmp_path / "i3d_torchscript.pt").eval()
    with torch.no_grad():
        stylegan = theirs(videos.float(), rescale=True, resize=True, return_features=True)
        larp = theirs((videos.float() / 255 - 0.5) * 2, resize=True, return_features=True)
    assert ours.shape == (2, 400)
    for other in (stylegan, larp):
        assert (ours - other).norm() < 1e-5 * other.norm()


def test_fvd_is_stylegans(program: bytes) -> None:
    """Its covariances are divided by the number of clips."""
    originals = clips(crops(240, 32), 10)
    outputs = clips(noisy(crops(240, 32), 0.3), 10)
    metrics = find_metrics(["rFVD"])
    tally = MetricAccumulator(metrics, EvaluationSizes(24, 10, 24, 24))
    measurer = Measurer(metrics, {"i3d": program}, torch.device("cpu"), True, str)
    for first in (8, 0, 16):
        rows = np.arange(first, first + 8)
        tally.add(rows, measurer(rows, originals[rows], outputs[rows]))
    found = tally.results()["rFVD"]
    network = weights.build_network("i3d", program)
    with torch.no_grad():
        real, fake = (network(part).pooled.double().numpy() for part in (originals, to_uint8(outputs)))
    shift = real.mean(0) - fake.mean(0)
    covariances = [x.T @ x / len(x) - np.outer(x.mean(0), x.mean(0)) for x in (real, fake)]
    expected = shift @ shift + np.trace(sum(covariances)) - 2 * np.trace(linalg.sqrtm(covariances[1] @ covariances[0]).real)
    assert found.count == 24 and "divided by n," in found.settings
    assert found.value == pytest.approx(expected, rel=1e-4)  # of rank 23 in 400 dimensions, where sqrtm is off by so much
