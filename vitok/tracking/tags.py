"""The tags that runs in MLflow carry: by them a sweep, a cell and its weights are found again."""

MOST = 5000  # characters of a value, which every store of MLflow takes

# Of every run.
STUDY = "vitok.study"  # the study that it was run for; "train" and "eval": runs by themselves
SCALE = "vitok.scale"  # laptop, single-gpu or paper
CORPUS, CORPUS_URI = "vitok.corpus", "vitok.corpus_uri"  # its fingerprint; its address as it was given
CORPUS_LAYOUT = "vitok.corpus_layout"  # how it was understood, and what of it was passed over
CHANGES = "vitok.changes"  # of --set
VERSION, COMMIT = "vitok.version", "vitok.commit"

# Of a cell's run.
CELL = "vitok.cell"  # the digest of recipe and corpus
FOLDER = "vitok.folder"  # where its weights lie
ERROR = "vitok.error"  # why it failed
PROTOCOL = "vitok.protocol."  # before a metric's name: how it was measured

# Of a sweep's run.
SWEEP, CELLS = "vitok.sweep", "vitok.cells"  # its key; the digests of its cells
BASELINES, UNAVAILABLE = "vitok.beside", "vitok.lacking"  # evaluations of its baselines; a line for each that could not be had
