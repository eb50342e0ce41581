"""`python -m studies all`, or names of studies: `vitok studies run` of this folder."""

import sys
from pathlib import Path

from vitok.cli import main

if __name__ == "__main__":
    names = sys.argv[1:] or ["--help"]
    sys.argv = ["vitok", "studies", "run", *("--all" if name == "all" else name for name in names), "--folder", str(Path(__file__).parent)]
    main()
