"""Cells that are made up, for claims to be judged on."""

from typing import Any

import numpy as np

from vitok.analysis.rows import Row

Settings = list[dict[str, Any]]


def study(
    settings: Settings, metric: str, seeds: int = 3, deviation: float = 0.1, images: int = 0, interaction: float = 0.0, start: int = 0
) -> list[Row]:
    """Cells of settings whose true "value" is given: seeds scatter by `deviation`, of a Fréchet distance in proportion. With images,
    each has its own level in all cells, and in each setting an `interaction` of its own."""
    rng = np.random.default_rng(start)
    level, found = 3 * rng.standard_normal(images), list[Row]()
    for number, setting in enumerate(settings):
        own, columns = level + interaction * rng.standard_normal(images), {k: v for k, v in setting.items() if k != "value"}
        for seed in range(seeds):
            moved = deviation * rng.standard_normal()
            value = setting["value"] * np.exp(moved) if metric.startswith("rF") else setting["value"] + moved
            cell = columns | {"cell": f"{number}-{seed}", "setting": str(number), "label": f"setting {number}", "seed": seed}
            seen = value + own
            found.append(cell | {metric: float(seen.mean() if images else value), "per_image": {metric: seen.tolist()} if images else {}})
    return found


def merged(first: list[Row], second: list[Row]) -> list[Row]:
    """Of the same cells, with the metrics of both."""
    return [one | other | {"per_image": one["per_image"] | other["per_image"]} for one, other in zip(first, second, strict=True)]
