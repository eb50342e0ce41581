import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitok import variants
from vitok.errors import UsageError

sizes = st.sampled_from(sorted(variants.SIZES))


@given(sizes, sizes, st.sampled_from([1, 2, 4]), st.sampled_from([4, 8, 16, 32]))
def test_names_are_parsed_both_ways(encoder: str, decoder: str, stride: int, patch: int) -> None:
    name = f"{encoder}-{decoder}/" + (f"{stride}x{patch}" if stride > 1 else str(patch))
    config = variants.tokenizer(name, channels=16, size=64, frames=4)
    assert variants.name(config) == name
    assert config.encoder == variants.SIZES[encoder]


@pytest.mark.parametrize("name", ["S-B", "X-B/16", "S-B/16x", "S-B/x16", "S/16", "S-B/4x8x2", "", "S-B/16 ", "-/16"])
def test_a_bad_name_shows_the_grammar(name: str) -> None:
    with pytest.raises(UsageError, match="ENCODER-DECODER/PATCH"):
        variants.tokenizer(name, channels=16)


@pytest.mark.parametrize(
    ("options", "word"), [({"channels": 0}, "channels = 0"), ({"channels": 4, "size": 100}, "100"), ({"channels": 4, "frames": 3}, "3")]
)
def test_a_bad_number_is_named(options: dict[str, int], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        variants.tokenizer("S-B/2x16", **({"frames": 2} | options))  # pyright: ignore[reportArgumentType]
