"""Hash of weights, independent of their file format."""

import hashlib

from torch import Tensor


def weights_digest(state: dict[str, Tensor]) -> str:
    """Return the SHA-256 over name, type, shape and bytes of every tensor, in the order of names."""
    total = hashlib.sha256()
    for name in sorted(state):
        array = state[name].detach().cpu().contiguous().numpy()
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()
