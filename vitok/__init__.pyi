"""The public names, for type checkers and editors."""

from vitok.analysis import claims as claims
from vitok.analysis import fits as fits
from vitok.cli.study_file import main as main
from vitok.models.dit import DiT as DiT
from vitok.models.tokenizer import Tokenizer as Tokenizer
from vitok.report import figures as figures
from vitok.study import Collection as Collection
from vitok.study import Finding as Finding
from vitok.study import Scale as Scale
from vitok.study import Study as Study
from vitok.study import presets as presets

__version__: str
