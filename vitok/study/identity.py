"""Which sweep a command means: the same command continues it, whatever its seeds."""

import hashlib
import json
from pathlib import Path

from vitok.data.corpora import SAMPLE


def key(study: str, scale: str, corpus: str, changes: dict[str, str]) -> str:
    text = json.dumps([study, scale, corpus, sorted(changes.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def corpus_name(uri: str) -> str:
    """The `uri` of the corpus that `open_corpus` would give, without looking for it: a report needs no corpus."""
    return uri if uri == SAMPLE else str(Path(uri).expanduser().resolve())
