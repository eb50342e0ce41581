"""`sample-photos`: the photographs that scikit-image and scikit-learn ship in their wheels, present wherever vitok is installed.

Photographs only: no drawings, text or synthetic patterns. motorcycle_right is left out, because it shows motorcycle_left from a few
centimetres aside. The four held-out photographs are an animal, a still life, architecture and a machine.
"""

import importlib.util
from pathlib import Path, PurePosixPath

from vitok.errors import UsageError

TRAIN = (
    "skimage/data/astronaut.png", "skimage/data/brick.png", "skimage/data/camera.png", "skimage/data/coins.png",
    "skimage/data/grass.png", "skimage/data/gravel.png", "skimage/data/hubble_deep_field.jpg", "skimage/data/ihc.png",
    "skimage/data/moon.png", "skimage/data/motorcycle_left.png", "skimage/data/retina.jpg",
    "sklearn/datasets/images/flower.jpg",
)  # fmt: skip
VALIDATION = (
    "skimage/data/chelsea.png", "skimage/data/coffee.png", "skimage/data/rocket.jpg", "sklearn/datasets/images/china.jpg",
)  # fmt: skip


CLASSES = tuple(PurePosixPath(name).stem for name in TRAIN)


def locate(name: str) -> Path:
    """Return the path of a photograph in the installed package. Raise `UsageError` where the package is missing."""
    package, _, rest = name.partition("/")
    spec = importlib.util.find_spec(package)  # finds the folder without importing the package
    if spec is None or spec.origin is None:
        raise UsageError(f"the embedded corpora need the package that provides {package!r}: pip install scikit-image scikit-learn")
    return Path(spec.origin).parent / rest
