"""Which sweep a command means: the same command continues it, whatever its seeds."""

import hashlib
import json


def key(study: str, scale: str, corpus: str, changes: dict[str, str]) -> str:
    text = json.dumps([study, scale, corpus, sorted(changes.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
