"""`vitok doctor`: what this machine can measure, and how it gets the rest."""

import json
from typing import Annotated

import tyro

from vitok.errors import UsageError, VitokError


def doctor(*, cluster: bool = False, storage: str | None = None, as_json: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """Show what this machine has: devices, the metrics that it can measure, the baselines that it can run, and how to get the others.

    vitok doctor --cluster --storage s3://bucket/runs     every node: versions, and whether it reaches the storage; exit code 1 if not

    Args:
        cluster: Look at the nodes of the cluster that RAY_ADDRESS names instead.
        storage: What they must reach. Default: VITOK_STORAGE, or ./runs.
        as_json: Print JSON for programs.
    """
    if cluster:
        _cluster(storage, as_json)
        return
    if storage:
        raise UsageError("--storage is looked at with --cluster: from every node")
    import importlib.util

    import torch
    from PIL import features

    from vitok.console import tables
    from vitok.evaluation.available import missing
    from vitok.evaluation.baselines.codecs import FORMATS
    from vitok.metrics.protocol import code_version
    from vitok.metrics.registry import METRICS

    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    metrics = [
        {"metric": m.name, "available": "no" if missing(m) else "yes", "network": m.network, "about": m.about, "how": missing(m)}
        for m in METRICS.values()
    ]
    codecs = {kind.label: features.check(kind.feature) for kind in FORMATS.values()}
    diffusers = importlib.util.find_spec("diffusers") is not None
    if as_json:
        found = {"vitok": code_version(), "torch": torch.__version__, "gpus": gpus, "metrics": metrics}
        print(json.dumps(found | {"codecs": codecs, "diffusers": diffusers}, indent=2))
        return
    print(f"vitok {code_version()}, torch {torch.__version__}, {', '.join(gpus) or 'no GPU'}")
    print(f"codecs: {', '.join(name if there else f'{name} (not in this Pillow)' for name, there in codecs.items())}")
    print("baseline autoencoders: " + ("ready, diffusers is installed" if diffusers else "pip install 'vitok[baselines]'"))
    rows = [
        {"network": network or "(pixels)", "here": "no" if how else "yes", "metrics": ", ".join(m["metric"] for m in group)}
        for network, how, group in _by_network(metrics)
    ]
    tables.show("Metrics", ("network", "here", "metrics"), rows)
    for network, how, _ in _by_network(metrics):
        if how:
            print(f"{network}: {how}")


def _by_network(metrics: list[dict[str, str]]) -> list[tuple[str, str, list[dict[str, str]]]]:
    """Return (network, how to get it, its metrics of reconstructions): metrics of generated samples are called g, not r."""
    found: dict[str, list[dict[str, str]]] = {}
    for metric in metrics:
        if not metric["metric"].startswith("g"):
            found.setdefault(metric["network"], []).append(metric)
    return [(network, group[0]["how"], group) for network, group in found.items()]


def _cluster(asked: str | None, as_json: bool) -> None:
    """Show the nodes of a cluster. Raises `VitokError` where something is wrong."""
    from vitok.config.resources import DECODE, TRIAL_SLOT
    from vitok.console import tables
    from vitok.orchestration import preflight
    from vitok.orchestration.capacity import in_cluster
    from vitok.orchestration.session import Session, connect, core_silent

    if not in_cluster():
        raise UsageError(
            "--cluster: RAY_ADDRESS names no cluster; set it to HOST:PORT of the head, or ask with `ray job submit -- vitok doctor`"
        )
    session = Session(asked)
    with core_silent():
        connect(None)
    found, wrong = preflight.survey(session.storage.path)
    wrong += [text] if not preflight.one_machine() and (text := preflight.tracking_problem()) else []
    if as_json:
        print(json.dumps({"nodes": [node.json() for node in found], "problems": wrong}, indent=2))
    else:
        rows = [
            {
                "node": node.name, **{name: node.resources.get(name, 0) for name in ("CPU", "GPU", TRIAL_SLOT, DECODE)},
                "store GB": round(node.resources.get("object_store_memory", 0) / 1e9, 2), "Python": node.python, "Ray": node.ray,
                "vitok": node.vitok, "storage": "no" if node.storage else "yes" if node.code else None,
            }
            for node in found
        ]  # fmt: skip
        tables.show("Nodes", tuple(rows[0]), rows)
    if wrong:
        raise VitokError("; ".join(wrong))
