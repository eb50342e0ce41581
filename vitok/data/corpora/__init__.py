"""Corpora (image and video datasets): which samples exist, where they are stored, their labels and splits."""
