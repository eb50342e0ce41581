from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vitok.config import Tower, variants
from vitok.config.overrides import flatten, unflatten
from vitok.errors import UsageError

sizes = st.sampled_from(sorted(variants.SIZES))


@given(sizes, sizes, st.sampled_from([1, 2, 4]), st.sampled_from([4, 8, 16, 32]), st.integers(0, 300), st.integers(0, 4))
def test_names_are_parsed_both_ways(encoder: str, decoder: str, stride: int, patch: int, latent: int, shortest: int) -> None:
    name = f"{encoder}-{decoder}/" + (f"{stride}x{patch}" if stride > 1 else str(patch))
    name += f"+L{latent}" * bool(latent) + f"+M{min(shortest, latent or 4)}" * bool(shortest)
    config = variants.tokenizer(name, channels=16, size=64, frames=4)
    assert variants.variant_name(config) == name
    assert config.encoder == variants.SIZES[encoder]
    assert variants.variant_settings(name).items() <= flatten(config.model_dump()).items()
    assert set(flatten(config.model_dump())) - set(variants.variant_settings(name)) == {"channels", "size", "frames"}
    assert unflatten(flatten(config.model_dump())) == config.model_dump()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3))
def test_towers_of_no_size_are_written_out(eighths: int, blocks: int, heads: int) -> None:
    assume(eighths > 2 and eighths != 4)
    tower = Tower(width=8 * eighths * heads, blocks=blocks, heads=heads)
    assume(tower not in [*variants.SIZES.values(), *variants.DITS.values()])
    written = f"({tower.width}x{blocks}x{heads})"
    config = variants.tokenizer(f"S-{written}/16+L64", channels=16)
    assert (config.decoder, variants.variant_name(config)) == (tower, f"S-{written}/16+L64")
    assert (variants.dit(f"DiT-{written}"), variants.dit_name(tower)) == (tower, f"DiT-{written}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("S-(100x2x3)/16", r"\(100x2x3\): .*width 100 must divide by its 3 heads"),
        ("S-(0x1x1)/16", "width = 0"),
        ("S-(64x1)/16", "ENCODER-"),
    ],
)
def test_towers_that_cannot_be(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        variants.tokenizer(name, channels=16)


@given(st.integers(1, 600), st.integers(1, 600))
def test_lengths_are_doublings_up_to_the_whole_code(latent: int, shortest: int) -> None:
    assume(shortest <= latent)
    lengths = variants.tokenizer(f"N-N/8+L{latent}+M{shortest}", channels=4, size=32).lengths
    assert (lengths[0], lengths[-1]) == (shortest, latent)
    assert all(longer == min(2 * shorter, latent) for shorter, longer in pairwise(lengths))


def test_the_codes_of_appendix_a_4() -> None:
    """The lengths of figure 15, and the codes of figure 14 at c = 16."""
    nested = variants.tokenizer("S-B/16+M32", channels=16)
    assert (nested.lengths, nested.code, nested.floats) == ((32, 64, 128, 256), (1, 16, 16), 4096)
    both = variants.tokenizer("S-B/16+L1024+M32", channels=16)
    assert (both.patches, both.tokens, both.sequence, both.code, both.floats) == (256, 1024, 1280, (1024, 1, 1), 16384)
    assert both.lengths == (32, 64, 128, 256, 512, 1024)
    assert variants.tokenizer("S-B/16+L64", channels=16).lengths == ()


def test_a_code_cannot_be_masked_to_more_than_it_has() -> None:
    with pytest.raises(UsageError, match=r"S-B/16\+L64\+M65: shortest 65 is more than the 64 tokens of the whole code"):
        variants.tokenizer("S-B/16+L64+M65", channels=16)


@pytest.mark.parametrize(
    "name",
    ["S-B", "X-B/16", "S-B/16x", "S-B/x16", "S/16", "S-B/4x8x2", "", "S-B/16 ", "-/16", "S-B/16+L0", "S-B/16+M0", "S-B/16+M32+L64",
     "S-B/16+L", "S-B/16+64", "S-B/16+L64+L64", "S-B+L64/16"],
)  # fmt: skip
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
    tower, latents = variants.parse_generator(f"DiT-{size}/{encoder}-B/{tubelet}")
    assert (tower, latents) == (variants.DITS[size], f"{encoder}-B/{tubelet}")
    assert variants.dit(variants.dit_name(tower)) == tower


@pytest.mark.parametrize("name", ["DiT-Q/S-B/16", "DiT/S-B/16", "dit-L/S-B/16", "DiT-/S-B/16", "S-B/16", "DiT-LL", ""])
def test_a_bad_dit_shows_what_there_is(name: str) -> None:
    with pytest.raises(UsageError, match=r"there are DiT-N, DiT-T, DiT-M, DiT-S, DiT-B, DiT-L, DiT-XL"):
        variants.parse_generator(name)


@pytest.mark.parametrize("name", ["DiT-L", "DiT-L/"])
def test_a_generator_without_a_tokenizer_is_told_how(name: str) -> None:
    with pytest.raises(UsageError, match="as in DiT-L/S-B/16"):
        variants.parse_generator(name)
