"""Rows of finished cells -> fits, claims, Pareto fronts. Plain numpy and scipy."""
