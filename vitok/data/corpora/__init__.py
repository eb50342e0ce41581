"""Corpora: which samples exist, where they lie, how they are labelled and split."""
