"""The predicted peak of a step against torch's own record of every tensor's allocation and release."""

from typing import Any

import pytest

from tests.benchmarks.memory import measure
from tests.recipes import RESOURCES
from vitok.config import Loss, Recipe, TokenizerConfig, Tower
from vitok.config.overrides import override
from vitok.config.variants import tokenizer
from vitok.costs.memory import memory_warning, step_memory
from vitok.study import presets
from vitok.train.ranks import Place

pytestmark = pytest.mark.usefixtures("cluster")

# Weights that count (7 M at 16 tokens), and activations that do (0.6 M at 64 tokens, many samples).
TOWER = Tower(width=384, blocks=2, heads=6)
LARGE = Recipe(
    tokenizer=TokenizerConfig(encoder=TOWER, decoder=TOWER, patch=16, channels=16, size=64),
    batch_size=2, loss=Loss(lpips=0), precision="fp32",
)  # fmt: skip
LONG = Recipe(tokenizer=tokenizer("T-M/8", channels=16, size=64), batch_size=16, loss=Loss(lpips_network="alexnet"))


@pytest.mark.parametrize(("zero", "changes", "recompute"), [(1, {}, 1.0), (2, {"precision": "fp32", "loss.lpips": 0}, 0.0)], ids=str)
def test_activations_are_predicted(zero: int, changes: dict[str, Any], recompute: float) -> None:
    resources, recipe = override(RESOURCES, {"zero": zero, "recompute": recompute}), override(LONG, changes)
    assert step_memory(recipe, resources)["peak"] == pytest.approx(measure(recipe, resources, Place()), rel=0.15)


def test_latent_tokens_and_masks_are_predicted() -> None:
    changes = {"tokenizer.latent_tokens": 128, "tokenizer.shortest": 8, "batch_size": 8, "loss.lpips": 0}
    resources, recipe = override(RESOURCES, {"zero": 1}), override(LONG, changes)
    assert step_memory(recipe, resources)["peak"] == pytest.approx(measure(recipe, resources, Place()), rel=0.15)


@pytest.mark.parametrize("zero", [0, 2])
def test_weights_are_predicted(zero: int) -> None:
    resources = override(RESOURCES, {"zero": zero})
    assert step_memory(LARGE, resources)["peak"] == pytest.approx(measure(LARGE, resources, Place()), rel=0.15)


@pytest.mark.parametrize(("precision", "recompute"), [("bf16", 0.0)])
def test_a_generators_activations_are_predicted(precision: str, recompute: float) -> None:
    base = presets.laptop_generation({}).base
    recipe = override(base, {"tokenizer.tokenizer.patch": 4, "batch_size": 16, "precision": precision})
    resources = override(RESOURCES, {"zero": 1, "recompute": recompute})
    assert step_memory(recipe, resources)["peak"] == pytest.approx(measure(recipe, resources, Place()), rel=0.15)


def test_what_each_setting_saves() -> None:
    """At paper scale: the cut over workers, what is computed again, the CPU's memory."""
    paper = Recipe(tokenizer=tokenizer("S-L/16", channels=16, size=256))
    peaks = {
        name: step_memory(paper, override(RESOURCES, {"workers": 8} | changes))["peak"]
        for name, changes in {
            "zero 0": {}, "zero 1": {"zero": 1}, "offload": {"zero": 1, "offload": True}, "half": {"zero": 1, "recompute": 0.5},
            "all": {"zero": 1, "recompute": 1.0}, "micro": {"zero": 1, "accumulation": 4},
        }.items()
    }  # fmt: skip
    assert peaks["zero 0"] > peaks["zero 1"] > peaks["offload"]
    assert peaks["zero 1"] > peaks["half"] > peaks["all"] > peaks["micro"]


def test_a_step_that_will_not_fit_is_told_before_it_starts() -> None:
    fine = Recipe(tokenizer=tokenizer("S-B/8", channels=16, size=256))
    whole = override(presets.paper({}).resources, {"accumulation": 1})
    assert "needs about 113 GB of the 80 GB of a device: raise resources.accumulation" in (memory_warning(fine, whole) or "")
    assert memory_warning(fine, presets.paper({}).resources) is None
    assert memory_warning(fine, override(whole, {"device_gb": 0})) is None
