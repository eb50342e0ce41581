"""The tags that runs in MLflow carry."""

CELL, SWEEP, SCALE, STUDY = "vitok.cell", "vitok.sweep", "vitok.scale", "vitok.study"
CORPUS, CELLS = "vitok.corpus", "vitok.cells"
BESIDE, LACKING = "vitok.beside", "vitok.lacking"  # of a sweep: evaluations of its baselines; a line for each that could not be had
FOLDER = "vitok.folder"  # where a run's weights lie


PROTOCOL = "vitok.protocol."  # before a metric's name: the tag that says how it was measured
