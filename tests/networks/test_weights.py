"""Sources are tried in order, checked, and never trusted."""

import hashlib
import io
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.standins import inception_file, inception_state
from vitok.errors import VitokError
from vitok.evaluation import available
from vitok.metrics import registry
from vitok.models.checksum import weights_digest
from vitok.networks import sources, weights
from vitok.networks.registry import NETWORKS, Network
from vitok.networks.sources import ArrayUnpickler, StateDict, UnavailableError


def tensors(name: str) -> StateDict:
    payload = weights.resolve_weights(name)[0]
    assert isinstance(payload, dict)
    return payload


@pytest.fixture
def real() -> StateDict:
    return tensors("lpips-alexnet")


def test_the_folder_comes_first(real: StateDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(real, tmp_path / "lpips-alexnet.safetensors")
    monkeypatch.setenv("VITOK_WEIGHTS_DIR", str(tmp_path))
    state, source = weights.resolve_weights("lpips-alexnet")
    assert source == "VITOK_WEIGHTS_DIR"
    assert isinstance(state, dict)
    assert weights_digest(state) == NETWORKS["lpips-alexnet"].sha256


def test_other_tensors_are_refused_and_every_source_is_named(real: StateDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real["heads.0"][3] += 1e-6
    save_file(real, tmp_path / "lpips-alexnet.safetensors")
    monkeypatch.setenv("VITOK_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))

    def offline(wanted: Network) -> StateDict:
        raise UnavailableError("no network")

    monkeypatch.setitem(weights.SOURCES, "torch hub", offline)
    monkeypatch.setitem(weights.SOURCES, "package index", offline)
    with pytest.raises(VitokError) as error:
        weights.resolve_weights("lpips-alexnet")
    text = str(error.value)
    assert all(source in text for source in (*weights.FOLDERS, *weights.SOURCES))
    assert "other tensors than expected" in text and "no network" in text and "vitok weights fetch" in text
    assert "\n" not in text


def test_a_file_that_is_no_safetensors_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "lpips-alexnet.safetensors").write_bytes(b"torch.load me")
    with pytest.raises(UnavailableError, match="safetensors"):
        weights.read_weights(tmp_path / "lpips-alexnet.safetensors", NETWORKS["lpips-alexnet"])


@pytest.mark.long
@pytest.mark.parametrize("name", ["lpips-alexnet", "efficientnet-lite0"])
def test_the_package_index_gives_the_same_tensors(name: str) -> None:
    """Downloads: the one test that needs a package index, as the installation did."""
    state = weights.verify_payload(sources.package_index(NETWORKS[name]), NETWORKS[name])
    assert isinstance(state, dict) and len(state) > 10


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file as torch-fidelity's, and the registry that knows it."""
    path = inception_file(tmp_path)
    known = replace(NETWORKS["fid-inception"], sha256=hashlib.sha256(path.read_bytes()).hexdigest(), sources=())
    monkeypatch.setitem(NETWORKS, "fid-inception", known)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VITOK_WEIGHTS_DIR", raising=False)
    return path


def test_a_file_that_a_user_brings_is_checked_and_kept(standin: Path) -> None:
    network = NETWORKS["fid-inception"]
    assert weights.local_file(network) is None
    kept = weights.import_file(network, standin)
    assert weights.local_file(network) == kept and kept.name == network.file
    state, source = weights.resolve_weights("fid-inception")
    assert source == "cache" and isinstance(state, dict)
    assert weights_digest(state) == weights_digest(inception_state())
    weights.build_network("fid-inception", state)


def test_a_wrong_file_is_refused_with_both_hashes(standin: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = inception_file(tmp_path / "other", seed=1)
    found, expected = hashlib.sha256(other.read_bytes()).hexdigest(), NETWORKS["fid-inception"].sha256
    with pytest.raises(VitokError, match=rf"SHA-256 {found}, expected {expected}"):
        weights.import_file(NETWORKS["fid-inception"], other)
    assert weights.local_file(NETWORKS["fid-inception"]) is None
    with pytest.raises(VitokError, match=r"no weights for fid-inception .* Download https://.*, then `vitok weights import"):
        weights.resolve_weights("fid-inception")


def test_only_an_absent_inception_is_replaced(standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is there and wrong is told, never measured around; what was asked for by name is never replaced."""
    with monkeypatch.context() as patched:
        patched.setattr(available, "payloads", lambda metrics: {name: {} for name in registry.required_networks(metrics)})
        found = available.available(["rPSNR", "rFID", "rIS"], asked=False)
    assert [metric.name for metric in found.metrics] == ["rPSNR", "rFD-EffLite0"] and "which is not FID" in found.notes[0]
    wrong = weights.weights_path("cache", NETWORKS["fid-inception"])
    assert wrong
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(b"another file")
    with pytest.raises(VitokError, match=r"no weights for fid-inception .* another file of 12 bytes"):
        available.available(["rPSNR", "rFID"], asked=False)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('called')",))


def test_a_pickle_that_would_call_something_is_refused_even_under_the_right_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"conv": Evil()}, path)
    known = replace(NETWORKS["fid-inception"], sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(VitokError, match=r"evil\.pth is not fid-inception"):
        weights.import_file(known, path)
    assert capsys.readouterr().out == ""


def test_torchscript_of_another_hash_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "i3d_torchscript.pt"
    path.write_bytes(b"a program")
    monkeypatch.setenv("VITOK_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(VitokError, match="no weights for i3d"):
        weights.resolve_weights("i3d")


def test_the_unpickler_reads_arrays_and_calls_nothing() -> None:
    tree = {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}
    read = ArrayUnpickler(io.BytesIO(pickle.dumps(tree))).load()
    assert np.array_equal(read["a"]["kernel"], tree["a"]["kernel"])

    with pytest.raises(VitokError, match=r"builtins\.exec"):
        ArrayUnpickler(io.BytesIO(pickle.dumps({"a": Evil()}))).load()


def test_the_digest_sees_names_types_shapes_and_values() -> None:
    base = {"a": torch.arange(4.0)}
    others = [{"b": torch.arange(4.0)}, {"a": torch.arange(4.0).double()}, {"a": torch.arange(4.0).view(2, 2)}, {"a": torch.ones(4)}]
    assert len({weights_digest(state) for state in [base, *others]}) == 5
