"""`vitok doctor`: what this machine can measure, and how it gets the rest."""

import json
from typing import Annotated

import tyro


def doctor(*, as_json: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """What this machine has: devices, the metrics that it can measure, the baselines that it can run, and how to get the others.

    Args:
        as_json: Print JSON for programs.
    """
    import importlib.util

    import torch
    from PIL import features

    from vitok.baselines.codecs import FORMATS
    from vitok.metrics.available import missing
    from vitok.metrics.names import METRICS
    from vitok.metrics.protocol import code_version
    from vitok.study import tables

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
    """(network, how to get it, its metrics of reconstructions): those of generated samples are called g instead of r."""
    found: dict[str, list[dict[str, str]]] = {}
    for metric in metrics:
        if not metric["metric"].startswith("g"):
            found.setdefault(metric["network"], []).append(metric)
    return [(network, group[0]["how"], group) for network, group in found.items()]
