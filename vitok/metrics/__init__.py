"""Metrics: arithmetic on features and pixels, and nothing else."""
