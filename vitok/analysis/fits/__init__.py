"""Fits of a metric along a column: log-linear, parabola, power law; their leave-one-out errors."""
