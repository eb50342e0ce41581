"""Files of statistics: ours, other programs', and those that are of something else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.metrics.test_frechet import moments, samples
from vitok.errors import UsageError
from vitok.evaluation.statistics import Reference, Statistics, export, load
from vitok.metrics.frechet import frechet_distance
from vitok.metrics.moments import Gaussian

REFERENCE = Reference.of_corpus("photos", "0123456789abcdef", "validation", "ADM's centre crop", 256, 1)
NETWORK = "efficientnet-lite0"


@pytest.fixture
def gaussian() -> Gaussian:
    return moments(samples(100, 12, seed=0)).gaussian()


def equal(one: Gaussian, other: Gaussian) -> bool:
    return one.count == other.count and torch.equal(one.mean, other.mean) and torch.equal(one.covariance, other.covariance)


def test_what_is_kept_is_found_for_what_it_is_of(gaussian: Gaussian, tmp_path: Path) -> None:
    store = Statistics(tmp_path)
    assert store.find(REFERENCE, NETWORK) is None
    store.keep(REFERENCE, NETWORK, gaussian)
    found = store.find(REFERENCE, NETWORK)
    assert found and equal(found, gaussian)
    moved = replace(REFERENCE, name="elsewhere/photos validation")  # the fingerprint says what it is
    assert store.find(moved, NETWORK)
    others = [
        replace(REFERENCE, **change)
        for change in ({"fingerprint": "0123456789abcdef/train"}, {"views": "2 crops"}, {"size": 128}, {"frames": 16})
    ]
    assert not any(store.find(other, NETWORK) for other in others)
    assert store.find(REFERENCE, "fid-inception") is None
    assert not list(tmp_path.glob("*.partial"))


def test_other_programs_read_it(gaussian: Gaussian, tmp_path: Path) -> None:
    export(tmp_path / "ours.npz", REFERENCE, NETWORK, gaussian)
    with np.load(tmp_path / "ours.npz") as file:  # as pytorch-fid, clean-fid and ADM do
        assert np.array_equal(file["mu"], gaussian.mean.numpy()) and np.array_equal(file["sigma"], gaussian.covariance.numpy())


def test_other_programs_files_are_read(gaussian: Gaussian, tmp_path: Path) -> None:
    """ADM's have images and other statistics beside; all are known by their hash."""
    path = tmp_path / "VIRTUAL_imagenet256.npz"
    np.savez(path, mu=gaussian.mean.numpy(), sigma=gaussian.covariance.numpy(), mu_s=np.zeros(3), arr_0=np.zeros((2, 4, 4, 3), np.uint8))
    found, reference = load(path, NETWORK, REFERENCE)
    assert found.count == 0 and reference.name == path.name and len(reference.fingerprint) == 16
    other = moments(samples(50, 12, seed=1)).gaussian()
    assert frechet_distance(other, found) == frechet_distance(other, gaussian)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"size": 128}, r"size 256 there, 128 here"), ({"views": "4 crops"}, r"views ADM's centre crop there, 4 crops here"),
     ({"frames": 16}, r"frames 1 there, 16 here")],
)  # fmt: skip
def test_of_another_size_or_crop(gaussian: Gaussian, tmp_path: Path, change: dict[str, object], words: str) -> None:
    export(tmp_path / "a.npz", REFERENCE, NETWORK, gaussian)
    with pytest.raises(UsageError, match=words):
        load(tmp_path / "a.npz", NETWORK, replace(REFERENCE, **change))  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="network efficientnet-lite0 there, i3d here"):
        load(tmp_path / "a.npz", "i3d", REFERENCE)


def test_what_is_no_file_of_statistics(gaussian: Gaussian, tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("mu sigma")
    np.savez(tmp_path / "bare.npz", mu=np.zeros(3))
    np.savez(tmp_path / "square.npz", mu=np.zeros(3), sigma=np.zeros((4, 4)))
    np.savez(tmp_path / "pickled.npz", mu=np.array([print], dtype=object), sigma=np.zeros((1, 1)))
    for name in ("text", "bare", "square", "pickled", "absent"):
        with pytest.raises(UsageError, match=rf"{name}\.npz"):
            load(tmp_path / f"{name}.npz", NETWORK, REFERENCE)


def test_several_may_keep_the_same_at_once(tmp_path: Path) -> None:
    """Trials that begin together look at one reference: none may take the other's unfinished file away."""
    from concurrent.futures import ThreadPoolExecutor

    store, reference = Statistics(tmp_path), Reference("a", "b", "c", 32, 1)
    gaussian = Gaussian(5, torch.zeros(200).double(), torch.eye(200).double())

    def keep(_: int) -> None:
        for _ in range(20):
            store.keep(reference, "efficientnet-lite0", gaussian)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(keep, range(8)))
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]
    found = store.find(reference, "efficientnet-lite0")
    assert found and torch.equal(found.covariance, gaussian.covariance)
