"""Every field of every config takes a value that can be worked with, or refuses it in one line: nothing is left for a run to find out."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitok.config import Generation, Recipe, Resources, check_resources
from vitok.config.overrides import flatten, leaf_keys, override
from vitok.config.training import Gan
from vitok.costs import flops, memory
from vitok.errors import UsageError
from vitok.study import presets

STAGE1 = presets.laptop({}).base
assert isinstance(STAGE1, Recipe)
STAGE2 = STAGE1.model_copy(update={"gan": Gan(), "start": "0" * 64})
DIT = presets.laptop_generation({}).base
assert isinstance(DIT, Generation)
RESOURCES = presets.laptop({}).resources
CASES = [
    (name, key)
    for name, config in (("stage 1", STAGE1), ("stage 2", STAGE2), ("generator", DIT), ("resources", RESOURCES))
    for key in leaf_keys(config)
]
CONFIGS: dict[str, Any] = {"stage 1": STAGE1, "stage 2": STAGE2, "generator": DIT, "resources": RESOURCES}
WILD = st.one_of(
    st.floats().map(str), st.integers(-(10**20), 10**20).map(str), st.floats(min_value=0).map(str), st.integers(1, 10**9).map(str),
    st.sampled_from(["inf", "-inf", "nan", "1e400", "1e308", "5e-324", "-0", "9223372036854775808", "", " ", "none", "true", "0x10"]),
    st.text(max_size=8),
)  # fmt: skip


def test_the_fields_are_many() -> None:
    """How many there are is told by `pytest -s`."""
    print(f"\n{len(CASES)} fields")
    assert len(CASES) > 100 and len({key for _, key in CASES}) > 60


@pytest.mark.parametrize(("name", "key"), CASES, ids=[f"{name}-{key}" for name, key in CASES])
@settings(max_examples=15, deadline=None)
@given(value=WILD)
def test_it_is_finite_bounded_or_refused(name: str, key: str, value: str) -> None:
    try:
        changed = override(CONFIGS[name], {key: value})
        recipe, resources = (STAGE1, changed) if isinstance(changed, Resources) else (changed, RESOURCES)
        check_resources(recipe, resources)
    except UsageError as error:
        assert "\n" not in str(error) and str(error)
        return
    for found in flatten(changed.model_dump()).values():
        assert not isinstance(found, float) or math.isfinite(found)
        assert not isinstance(found, int) or -(2**63) <= found < 2**63
    assert type(changed).model_validate_json(changed.model_dump_json()) == changed, "it is kept as it was given"
    assert math.isfinite(flops.training_flops(recipe)) and math.isfinite(flops.run_hours(recipe, resources))
    assert (isinstance(recipe, Recipe) and recipe.stage == 2) or math.isfinite(memory.step_memory(recipe, resources)["peak"])
