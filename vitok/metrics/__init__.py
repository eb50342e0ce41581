"""Metrics: arithmetic on features and pixels."""
