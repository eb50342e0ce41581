"""A file with any one value of another type, or one part missing: said, never a traceback."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from vitok.cluster.read import File
from vitok.cluster.validate import problems

ROOT = Path(__file__).parents[2]
FILES = [
    "aws.yaml", "gcp.yaml", "kuberay/raycluster.yaml", "kuberay/rayjob.yaml", "mlflow/kubernetes.yaml", "mlflow/compose.yaml",
    "runtime_env.yaml", "policies/aws-head.json", "policies/gcp-head.yaml",
]  # fmt: skip
SLOW = ("aws.yaml", "gcp.yaml")  # Ray's own validation, each time
ODD: tuple[Any, ...] = (None, 3, "text", [], {}, [None], {"a": None})


def places(part: Any, path: tuple[Any, ...] = ()) -> Any:
    for key, value in part.items() if isinstance(part, dict) else enumerate(part[:2]) if isinstance(part, list) else ():
        yield (*path, key)
        yield from places(value, (*path, key))


@pytest.mark.parametrize("name", FILES)
def test_no_odd_value_is_a_traceback(name: str) -> None:
    text = (ROOT / "clusters" / name).read_text()
    whole = [json.loads(text)] if name.endswith(".json") else list(yaml.safe_load_all(text))
    said, tried = 0, 0
    for number, path in enumerate(places(whole)):
        if len(path) == 1:
            continue
        odds = (ODD[number % len(ODD)], ODD[(number + 3) % len(ODD)], ...)
        for odd in odds[number % 3 :][:1] if name in SLOW else odds:
            documents = copy.deepcopy(whole)
            part: Any = documents
            for step in path[:-1]:
                part = part[step]
            if odd is ...:
                part.pop(path[-1])
            else:
                part[path[-1]] = copy.deepcopy(odd)
            found = problems(File(Path(name), text, tuple(documents)))
            assert all(one.what and "\n" not in str(one) for one in found), (path, odd)
            said, tried = said + bool(found), tried + 1
    assert said > tried / 2
