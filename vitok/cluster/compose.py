"""Compose files, services of one machine: the specification's schema, and what must hold beside it."""

from collections.abc import Iterable
from typing import Any

from vitok.cluster import named
from vitok.cluster.problem import Problem, joined
from vitok.cluster.schemas import compose_schema, schema_problems


def problems(document: dict[str, Any]) -> list[Problem]:
    """Return all that is wrong with a Compose file: by the specification's schema, else by our rules for images, secrets and ports."""
    if found := schema_problems(compose_schema(), document):
        return found
    services: dict[str, Any] = document.get("services") or {}
    if not services:
        return [Problem("services", "missing; add it")]
    for name, service in services.items():
        found += _service(joined("services", name), service or {}, document)
    return found


def _service(where: str, service: dict[str, Any], document: dict[str, Any]) -> list[Problem]:
    found: list[Problem] = []
    if "image" not in service:
        found.append(Problem(joined(where, "image"), "missing; add it"))
    else:
        found += named.image(service["image"], joined(where, "image"))
    if service.get("network_mode") == "host":
        found.append(Problem(joined(where, "network_mode"), "what it listens on is open to the network: remove it, and publish ports"))
    for variable, value in _environment(service.get("environment")):
        found += named.secret(variable, value, joined(where, "environment", variable))
    for number, port in enumerate(service.get("ports") or []):
        if not _private(port):
            found.append(
                Problem(
                    joined(where, "ports", number),
                    f"{port!r} listens on every address: 127.0.0.1:PORT:PORT, or ${{NAME:-127.0.0.1}}:PORT:PORT for a private one",
                )
            )
    for secret in _sources(service.get("secrets")):
        if secret not in (document.get("secrets") or {}):
            found.append(Problem(joined(where, "secrets"), f"{secret} is not among the file's secrets: add it there"))
    for other in service.get("depends_on") or {}:
        if other not in document["services"]:
            found.append(Problem(joined(where, "depends_on", other), "there is no such service"))
    for source in _sources(service.get("volumes")):
        source = source.split(":")[0]
        if source and not source.startswith((".", "/", "~", "$")) and source not in (document.get("volumes") or {}):
            found.append(Problem(joined(where, "volumes"), f"{source} is not among the file's volumes: add it there"))
    return found


def _environment(given: Any) -> Iterable[tuple[str, str]]:
    """Return a service's variables, from a mapping or from a list of NAME=VALUE."""
    pairs = given.items() if isinstance(given, dict) else (str(one).partition("=")[::2] for one in given or ())
    return [(str(name), "" if value is None else str(value)) for name, value in pairs]


def _sources(given: Any) -> Iterable[str]:
    """Return the sources of secrets or volumes, from their short or their long form."""
    return [str(one.get("source", "")) if isinstance(one, dict) else str(one) for one in given or ()]


def _private(port: Any) -> bool:
    """Return whether a port is published on this machine alone, unless its user says otherwise."""
    if isinstance(port, dict):
        return str(port.get("host_ip", "")).strip("[]") in named.LOOPBACK
    port = str(port)
    address = port.rsplit(":", 2)[0] if port.count(":") >= 2 else ""
    default = address.partition(":-")[2].rstrip("}") if address.startswith("${") else address
    return default.strip("[]") in named.LOOPBACK
