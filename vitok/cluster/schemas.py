"""JSON schemas of formats that others define, as their packages carry them: no file is fetched."""

import json
import re
from functools import lru_cache
from importlib.resources import files
from typing import Any

from vitok.cluster.problem import Problem, joined, nearest

LONGEST = 120  # characters of what a schema says of a value


@lru_cache
def kubernetes_schema(kind: str, api_version: str = "v1") -> Any:
    """Return the validator of a Kubernetes type, of an object or of a part as `PodTemplateSpec`: Kubernetes' own schema of the latest
    version that kubernetes-validate carries; there no key is allowed that Kubernetes would drop in silence."""
    from jsonschema import Draft202012Validator
    from kubernetes_validate.utils import latest_version, schema_contents
    from referencing import Registry, Resource

    version = latest_version()
    folder = f"kubernetes-json-schema/v{version}-local-strict"
    group, _, number = api_version.rpartition("/")
    name = "-".join(part for part in (kind.lower(), group.partition(".")[0], number) if part)
    schema = schema_contents(f"{folder}/{name}.json", version)
    definitions = Resource.from_contents(schema_contents(f"{folder}/_definitions.json", version))
    return Draft202012Validator(schema, registry=definitions @ Registry())


@lru_cache
def compose_schema() -> Any:
    """Return the validator of Compose files: the Compose specification's own schema, from check-jsonschema."""
    from jsonschema import Draft202012Validator

    text = files("check_jsonschema").joinpath("builtin_schemas", "vendor", "compose-spec.json").read_text()
    return Draft202012Validator(json.loads(text))


def schema_problems(validator: Any, document: Any, where: str = "") -> list[Problem]:
    """Return all that a schema has against a document, in the order of its keys; `where` names the document."""
    from jsonschema.exceptions import best_match

    errors = sorted(validator.iter_errors(document), key=lambda error: [str(part) for part in error.absolute_path])
    return [problem for error in errors for problem in _problems(best_match([error]) or error, where, validator.schema)]


def _problems(error: Any, where: str, root: Any) -> list[Problem]:
    """Return the problems that one error of a schema tells of: each unknown or missing key is one."""
    at, schema = joined(where, *error.absolute_path), error.schema
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        unknown = [str(key) for key in error.instance if key not in known and not any(re.search(one, str(key)) for one in patterns)]
        return [Problem(joined(at, key), f"unknown key{nearest(key, known) or '; remove it'}") for key in unknown]
    if error.validator == "unevaluatedProperties" and isinstance(error.instance, dict):  # of a schema that is composed of others
        unknown = re.findall(r"'([^']+)'", error.message.partition("(")[2])
        return [Problem(joined(at, key), f"unknown key{nearest(key, _keys(root)) or '; remove it'}") for key in unknown]
    if error.validator == "required":
        return [Problem(joined(at, key), "missing; add it") for key in error.validator_value if key not in error.instance]
    if error.validator in ("oneOf", "anyOf"):  # whose message holds the whole value, secrets in it, too
        return [Problem(at, "has none of the forms that are allowed here")]
    return [Problem(at, error.message[:LONGEST])]


def _keys(schema: Any) -> set[str]:
    """Return the names of all properties of a schema and of those within it."""
    if isinstance(schema, list):
        return {key for one in schema for key in _keys(one)}
    if not isinstance(schema, dict):
        return set()
    own = schema.get("properties")
    return {*(own if isinstance(own, dict) else ())} | {key for one in schema.values() for key in _keys(one)}
