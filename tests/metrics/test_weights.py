"""Sources are tried in order, checked, and never trusted."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vitok.errors import VitokError
from vitok.metrics import weights
from vitok.metrics.weights import ArrayUnpickler, UnavailableError


@pytest.fixture
def real() -> weights.State:
    return weights.resolve("lpips-alexnet")[0]


def test_the_folder_comes_first(real: weights.State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(real, tmp_path / "lpips-alexnet.safetensors")
    monkeypatch.setenv("VITOK_WEIGHTS_DIR", str(tmp_path))
    state, source = weights.resolve("lpips-alexnet")
    assert source == "VITOK_WEIGHTS_DIR"
    assert weights.digest(state) == weights.NETWORKS["lpips-alexnet"].sha256


def test_other_tensors_are_refused_and_every_source_is_named(real: weights.State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real["heads.0"][3] += 1e-6
    save_file(real, tmp_path / "lpips-alexnet.safetensors")
    monkeypatch.setenv("VITOK_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))

    def offline(wanted: weights.Network) -> weights.State:
        raise UnavailableError("no network")

    monkeypatch.setitem(weights.SOURCES, "torch hub", offline)
    monkeypatch.setitem(weights.SOURCES, "package index", offline)
    with pytest.raises(VitokError) as error:
        weights.resolve("lpips-alexnet")
    text = str(error.value)
    assert all(source in text for source in weights.SOURCES)
    assert "other tensors than expected" in text and "no network" in text and "vitok weights fetch" in text
    assert "\n" not in text


def test_a_file_that_is_no_safetensors_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lpips-alexnet.safetensors").write_bytes(b"torch.load me")
    monkeypatch.setenv("VITOK_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(UnavailableError, match="safetensors"):
        weights.SOURCES["VITOK_WEIGHTS_DIR"](weights.NETWORKS["lpips-alexnet"])


def test_the_package_index_gives_the_same_tensors() -> None:
    """Downloads: the one test that needs a package index, as the installation did."""
    network = weights.NETWORKS["lpips-alexnet"]
    state = weights.SOURCES["package index"](network)
    weights.check(network, state)
    assert state["trunk.0.weight"].shape == (64, 3, 11, 11)


def test_the_unpickler_reads_arrays_and_calls_nothing() -> None:
    tree = {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}
    read = ArrayUnpickler(io.BytesIO(pickle.dumps(tree))).load()
    assert np.array_equal(read["a"]["kernel"], tree["a"]["kernel"])

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("called",))

    with pytest.raises(VitokError, match=r"builtins\.print"):
        ArrayUnpickler(io.BytesIO(pickle.dumps({"a": Evil()}))).load()


def test_the_digest_sees_names_types_shapes_and_values() -> None:
    base = {"a": torch.arange(4.0)}
    others = [{"b": torch.arange(4.0)}, {"a": torch.arange(4.0).double()}, {"a": torch.arange(4.0).view(2, 2)}, {"a": torch.ones(4)}]
    assert len({weights.digest(state) for state in [base, *others]}) == 5
