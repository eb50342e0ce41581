"""Compose files: services of one machine."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vitok.cluster import named
from vitok.cluster.problem import Problem, checked, joined


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Condition(Part):
    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class Health(Part):
    test: list[str]
    interval: str | None = None
    timeout: str | None = None
    retries: int | None = None
    start_period: str | None = None


class ComposeService(Part):
    image: str
    build: str | None = None
    restart: Literal["no", "always", "on-failure", "unless-stopped"] | None = None
    depends_on: dict[str, Condition] | None = None
    environment: dict[str, str] | None = None
    env_file: list[str] | None = None
    secrets: list[str] | None = None
    volumes: list[str] | None = None
    healthcheck: Health | None = None
    command: list[str] | None = None
    entrypoint: list[str] | None = None
    ports: list[str] | None = None
    network_mode: str | None = None


class Secret(Part):
    file: str | None = None
    environment: str | None = None


class ComposeVolume(Part):
    driver: str | None = None


class Compose(Part):
    name: str | None = None
    services: Annotated[dict[str, ComposeService], Field(min_length=1)]
    secrets: dict[str, Secret] | None = None
    volumes: dict[str, ComposeVolume] | None = None


def problems(document: dict[str, Any]) -> list[Problem]:
    model, found = checked(Compose, document)
    if model is None:
        return found
    for name, service in model.services.items():
        where = joined("services", name)
        found += named.image(service.image, joined(where, "image"))
        if service.network_mode == "host":
            found.append(Problem(joined(where, "network_mode"), "what it listens on is open to the network: remove it, and publish ports"))
        for variable, value in (service.environment or {}).items():
            found += named.secret(variable, value, joined(where, "environment", variable))
        for number, port in enumerate(service.ports or []):
            if not _private(port):
                found.append(
                    Problem(
                        joined(where, "ports", number),
                        f"{port!r} listens on every address: 127.0.0.1:PORT:PORT, or ${{NAME:-127.0.0.1}}:PORT:PORT for a private one",
                    )
                )
        for secret in service.secrets or []:
            if secret not in (model.secrets or {}):
                found.append(Problem(joined(where, "secrets"), f"{secret} is not among the file's secrets: add it there"))
        for other in service.depends_on or {}:
            if other not in model.services:
                found.append(Problem(joined(where, "depends_on", other), "there is no such service"))
        for volume in service.volumes or []:
            source = volume.split(":")[0]
            if not source.startswith((".", "/", "~", "$")) and source not in (model.volumes or {}):
                found.append(Problem(joined(where, "volumes"), f"{source} is not among the file's volumes: add it there"))
    return found


def _private(port: str) -> bool:
    """Whether it is published on this machine alone, unless its user says otherwise."""
    address = port.rsplit(":", 2)[0] if port.count(":") >= 2 else ""
    default = address.partition(":-")[2].rstrip("}") if address.startswith("${") else address
    return default.strip("[]") in named.LOOPBACK
