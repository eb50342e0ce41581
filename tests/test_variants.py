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


@given(st.sampled_from(sorted(variants.DITS)), sizes, st.sampled_from(["16", "4x8"]))
def test_a_generators_name_is_its_dits_and_its_tokenizers(size: str, encoder: str, tubelet: str) -> None:
    tower, latents = variants.generator(f"DiT-{size}/{encoder}-B/{tubelet}")
    assert (tower, latents) == (variants.DITS[size], f"{encoder}-B/{tubelet}")
    assert variants.dit(variants.dit_name(tower)) == tower


@pytest.mark.parametrize("name", ["DiT-Q/S-B/16", "DiT/S-B/16", "dit-L/S-B/16", "DiT-/S-B/16", "S-B/16", "DiT-LL", ""])
def test_a_bad_dit_shows_what_there_is(name: str) -> None:
    with pytest.raises(UsageError, match=r"there are DiT-N, DiT-T, DiT-M, DiT-S, DiT-B, DiT-L, DiT-XL"):
        variants.generator(name)


@pytest.mark.parametrize("name", ["DiT-L", "DiT-L/"])
def test_a_generator_without_a_tokenizer_is_told_how(name: str) -> None:
    with pytest.raises(UsageError, match="as in DiT-L/S-B/16"):
        variants.generator(name)
