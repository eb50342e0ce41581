"""Scaling studies of visual tokenizers: the public names, each imported when it is first used (for type checkers: `__init__.pyi`)."""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Collection": "vitok.study.collection:Collection",
    "DiT": "vitok.models.dit:DiT",
    "Finding": "vitok.study.collection:Finding",
    "Scale": "vitok.study.scales:Scale",
    "Study": "vitok.study.study:Study",
    "Tokenizer": "vitok.models.tokenizer:Tokenizer",
    "claims": "vitok.analysis.claims",
    "figures": "vitok.report.figures",
    "fits": "vitok.analysis.fits",
    "main": "vitok.cli.study_file:main",
    "presets": "vitok.study.presets",
}


def __getattr__(name: str) -> Any:
    """Import a public name (PEP 562): `import vitok` alone imports neither torch nor Ray."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'vitok' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
