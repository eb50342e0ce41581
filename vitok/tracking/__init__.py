"""MLflow: an experiment a study, a parent run a sweep, a child run a cell."""
