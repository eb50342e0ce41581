"""Corpora: what exists, how it is decoded, how it streams into training."""
