"""Our schema of RayCluster and RayJob, and the manifests, against KubeRay's own schemas."""

import copy
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCHEMAS = Path(os.environ.get("VITOK_KUBERAY_CRDS", ROOT.parent / "shared" / "kuberay-crds"))
NAMES = {"RayCluster": "rayclusters.json", "RayJob": "rayjobs.json"}
pytestmark = pytest.mark.skipif(not SCHEMAS.is_dir(), reason=f"no KubeRay schemas at {SCHEMAS} (VITOK_KUBERAY_CRDS)")


@cache
def schema(kind: str) -> Any:
    return json.loads((SCHEMAS / NAMES[kind]).read_text())["v1"]


def strict(part: Any) -> Any:
    """What Kubernetes would drop in silence is refused; `metadata` is free, as in the cluster."""
    if not isinstance(part, dict):
        return [strict(one) for one in part] if isinstance(part, list) else part
    part = {key: strict(value) for key, value in part.items()}
    if part.get("x-kubernetes-int-or-string"):
        part = {key: value for key, value in part.items() if key != "anyOf"} | {"type": ["integer", "string"]}
    if isinstance(part.get("properties"), dict):
        if not part.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in part:
            part["additionalProperties"] = False
        if part["properties"].get("metadata", {}).get("type") == "object":
            part["properties"]["metadata"] = {"type": "object"}
    return part


def manifests(kind: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (path.name, document)
        for path in sorted((ROOT / "clusters").rglob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document.get("kind") == kind
    ]


def errors(kind: str, document: Any) -> list[str]:
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:100]}" for error in validator(kind).iter_errors(document)]


@cache
def validator(kind: str) -> Any:
    import jsonschema

    return jsonschema.Draft7Validator(strict(schema(kind)))


@pytest.mark.parametrize("kind", list(NAMES))
def test_manifests_are_as_kuberay_wants_them(kind: str) -> None:
    there = manifests(kind)
    assert there
    for name, document in there:
        assert errors(kind, document) == [], name


@pytest.mark.parametrize("kind", list(NAMES))
def test_the_strict_schema_catches_a_typo_anywhere(kind: str) -> None:
    """One renamed key at a time, of every mapping whose keys KubeRay knows: else the test above would say nothing."""
    _, document = manifests(kind)[0]
    caught = 0
    for path in list(mappings(document["spec"])):
        if {"metadata", "nodeSelector", "rayStartParams", "requests", "limits", "labels", "matchLabels"} & set(path):
            continue
        broken = copy.deepcopy(document)
        part = broken["spec"]
        for step in path:
            part = part[step]
        key = next(iter(part), None)
        if key is None:
            continue
        part[f"{key}x"] = part.pop(key)
        assert errors(kind, broken), path
        caught += 1
    assert caught > 15


def mappings(part: Any, path: tuple[Any, ...] = ()) -> Any:
    if isinstance(part, dict):
        yield path
    for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        yield from mappings(value, (*path, key))


@pytest.mark.parametrize("kind", list(NAMES))
def test_every_field_of_ours_is_one_of_kuberays(kind: str) -> None:
    from vitok.cluster.manifests import KINDS
    from vitok.cluster.problem import places

    checked = 0
    for path, name in sorted(places(KINDS[kind])):
        if "metadata" in path:
            continue
        part = schema(kind)
        for step in path:
            part = part["properties"][step]
            part = part.get("items", part)
        assert name in part["properties"], f"{kind}: {'.'.join(path)} has no {name}"
        checked += 1
    assert checked > 80
