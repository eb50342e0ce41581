"""Analysis of the rows of finished cells: fits, claims and Pareto fronts. It needs numpy and scipy alone."""
