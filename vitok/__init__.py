"""Scaling studies of visual tokenizers."""

__version__ = "0.1.0"
