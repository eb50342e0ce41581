"""Samples that depend on their seed, number and class alone; and generators as files."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.models.test_dit import perturbed
from vitok.config import Diffusion, Generation, Recipe, Sampling, variants
from vitok.errors import UsageError
from vitok.evaluation.generator import Draw, Generator, TrainedCorpus, drawing, noise_of
from vitok.models.checksum import weights_digest
from vitok.models.dit import DiT
from vitok.models.tokenizer import Tokenizer
from vitok.storage.layout import RunFolder

CPU = torch.device("cpu")
NUMBERS, LABELS = np.array([0, 1, 2, 77, 49_999]), np.array([3, 0, 3, 9, 1])


def recipe(variant: str = "N-N/8", frames: int = 1, **changes: object) -> Generation:
    base = Recipe(tokenizer=variants.tokenizer(variant, channels=4, size=32, frames=frames))
    return Generation(tokenizer=base, dit=variants.DITS["N"], precision="fp32").model_copy(update=changes)


def networks(made: Generation, classes: int = 10) -> tuple[DiT, Tokenizer]:
    cfg = made.tokenizer.tokenizer
    torch.manual_seed(0)
    dit, tokenizer = perturbed(DiT(made.dit, cfg.channels, cfg.code, classes)), perturbed(Tokenizer(cfg))
    with torch.no_grad():
        dit.mean.copy_(torch.tensor([0.5, -1.0, 0.0, 2.0]))
        dit.std.copy_(torch.tensor([1.0, 0.3, 2.0, 0.8]))
    return dit.eval(), tokenizer.eval()


def draws(made: Generation, cfg: float = 1.5, **sampling: object) -> Draw:
    return drawing(*networks(made), made, Sampling.model_validate({"steps": 8, "cfg": cfg} | sampling), CPU)


def test_every_prefix_and_every_run_has_the_corpuss_shares() -> None:
    """Multiples of the golden ratio keep any interval's count within three of its share, so that of a run within six; here it is four."""
    for counts in ((500, 300, 150, 49, 1), (7,) * 10, (1300,) * 500, (1, 2)):
        about = TrainedCorpus("photos", "0", tuple(map(str, range(len(counts)))), counts)
        hits = about.labels(np.arange(60_000))[:, None] == np.arange(len(counts))[: 500 : max(len(counts) // 20, 1)]
        shares = np.array(counts)[: 500 : max(len(counts) // 20, 1)] / sum(counts)
        ahead = np.cumsum(hits, axis=0) - shares * np.arange(1, 60_001)[:, None]
        assert np.abs(ahead).max() < 3
        for length in (10, 1000, 50_000):
            assert np.abs(ahead[length:] - ahead[:-length]).max() < 4.01


def test_labels_are_of_the_number_alone() -> None:
    about = TrainedCorpus("photos", "0", ("cat", "none", "dog"), (3, 0, 1))
    together = about.labels(np.arange(100))
    assert [about.labels(np.array([number]))[0] for number in range(100)] == together.tolist()
    cats, none, dogs = np.bincount(together)
    assert none == 0 and abs(cats - 75) <= 3 and abs(dogs - 25) <= 3
    assert TrainedCorpus("photos", "0", (), ()).labels(np.arange(5)).tolist() == [0] * 5


def test_noise_is_of_the_seed_and_the_number() -> None:
    made = recipe()
    noise = noise_of(made, 5)
    assert (noise.shape, noise.dtype) == ((16, 4), np.float32)
    assert np.array_equal(noise, noise_of(recipe(), 5))
    others = [noise_of(made, 6), noise_of(recipe(seed=1), 5), noise_of(recipe(seed=5), 0)]
    assert not any(np.isclose(noise, other).any() for other in others)
    many = np.stack([noise_of(made, number) for number in range(2000)])
    assert abs(many.mean()) < 5 / many.size**0.5 and abs(many.std() - 1) < 5 / (2 * many.size) ** 0.5  # five standard errors


@pytest.mark.parametrize("cfg", [1.0, 4.0])
@pytest.mark.parametrize("objective", ["noise", "flow"])
def test_a_sample_is_the_same_in_any_batch(objective: str, cfg: float) -> None:
    """But for 1e-5 of the pixels' deviation: matrix products of other sizes sum in another order, 6e-8 a rounding, eight steps deep.
    Guidance multiplies what two passes differ by, roundings too."""
    draw = draws(recipe(diffusion=Diffusion.model_validate({"objective": objective})), cfg)
    together = draw(NUMBERS, LABELS)
    assert (together.shape, together.dtype) == ((5, 3, 32, 32), torch.float32)
    tolerance = 1e-5 * cfg * together.std().item()
    alone = torch.cat([draw(NUMBERS[i : i + 1], LABELS[i : i + 1]) for i in range(5)])
    assert torch.allclose(alone, together, rtol=0, atol=tolerance)
    order = np.array([4, 2, 0, 3, 1])
    assert torch.allclose(draw(NUMBERS[order], LABELS[order]), together[order], rtol=0, atol=tolerance)
    neighbours = draw(np.array([9, 2, 8]), np.array([5, 3, 6]))
    assert torch.allclose(neighbours[1], together[2], rtol=0, atol=tolerance)


def far(one: Tensor, other: Tensor) -> bool:
    """Every sample differs, by far more than roundings."""
    return bool(((one - other).abs().amax(dim=(1, 2, 3)) > 0.01 * other.std()).all())


def test_number_class_seed_guidance_and_steps_each_change_a_sample() -> None:
    made = recipe()
    draw = draws(made)
    base = draw(NUMBERS, LABELS)
    assert torch.equal(draw(NUMBERS, LABELS), base)
    assert far(draw(NUMBERS + 1, LABELS), base) and far(draw(NUMBERS, (LABELS + 1) % 10), base)
    assert far(draws(made, cfg=4.0)(NUMBERS, LABELS), base) and far(draws(made, steps=20)(NUMBERS, LABELS), base)
    assert far(draws(made, spacing="trailing")(NUMBERS, LABELS), base)
    assert far(draws(recipe(seed=1))(NUMBERS, LABELS), base)


def test_what_is_decoded_has_the_corpuss_mean_and_deviation_again() -> None:
    """Where no noise is predicted, one step only scales: leading, it is at time 0, of the first variance."""
    made = recipe()
    dit, tokenizer = networks(made)
    noise = torch.from_numpy(np.stack([noise_of(made, int(number)) for number in NUMBERS]))
    dit.forward = lambda latents, times, labels: torch.zeros_like(latents)
    pixels = drawing(dit, tokenizer, made, Sampling(steps=1, cfg=1.0, spacing="leading"), CPU)(NUMBERS, LABELS)
    with torch.no_grad():
        expected = tokenizer.decode(noise / (1 - 1e-4) ** 0.5 * dit.std + dit.mean).squeeze(2)
    assert torch.allclose(pixels, expected, rtol=0, atol=1e-5 * expected.std().item())


def test_a_videos_samples_are_clips() -> None:
    made = recipe("N-N/2x8", frames=4)
    clips = draws(made)(NUMBERS[:2], LABELS[:2])
    assert clips.shape == (2, 3, 4, 32, 32)
    assert torch.allclose(draws(made)(NUMBERS[1:2], LABELS[1:2])[0], clips[1], rtol=0, atol=1e-5 * clips.std().item())


def test_who_has_drawn_can_train() -> None:
    """Rotations are kept from one call to the next: drawing must leave none behind that autograd refuses."""
    from vitok.models.rope import rotary_tables

    rotary_tables.cache_clear()
    made = recipe()
    dit, tokenizer = networks(made)
    drawing(dit, tokenizer, made, Sampling(steps=2), CPU)(NUMBERS, LABELS)
    dit(torch.randn(2, 16, 4), torch.zeros(2), torch.tensor([1, 2])).sum().backward()


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Generation, Path]:
    """A run's folder, of a tokenizer whose weights its recipe names."""
    dit, tokenizer = networks(recipe())
    made = recipe(start=weights_digest(tokenizer.state_dict()))
    save_file(dit.state_dict(), tmp_path / RunFolder.DIT)
    save_file(tokenizer.state_dict(), tmp_path / RunFolder.START)
    about = TrainedCorpus("photos", "0123456789abcdef", tuple("abcdefghij"), (3,) * 10)
    (tmp_path / RunFolder.GENERATOR).write_text(json.dumps(asdict(about)))
    return made, tmp_path


def test_a_generator_is_read_as_it_was_written(finished: tuple[Generation, Path]) -> None:
    made, folder = finished
    generator = Generator.read("the run", made, folder)
    assert generator.about == TrainedCorpus("photos", "0123456789abcdef", tuple("abcdefghij"), (3,) * 10)
    for sampling in (Sampling(steps=8), Sampling(steps=8, cfg=4.0)):
        pixels = generator.with_recipe(made.model_copy(update={"sampling": sampling})).open(CPU)(NUMBERS, LABELS)
        assert torch.equal(pixels, drawing(*networks(made), made, sampling, CPU)(NUMBERS, LABELS))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100] if path.stat().st_size > 1000 else path.read_bytes()[:-10])


@pytest.mark.parametrize("name", [RunFolder.DIT, RunFolder.START, RunFolder.GENERATOR])
@pytest.mark.parametrize(
    "damage",
    [Path.unlink, cut, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"\xff\xfe not what it was")],
    ids=["missing", "cut", "empty", "other bytes"],
)
def test_a_missing_or_damaged_file_is_told(finished: tuple[Generation, Path], name: str, damage: Callable[[Path], object]) -> None:
    made, folder = finished
    damage(folder / name)
    with pytest.raises(UsageError, match="is no finished generator") as error:
        Generator.read("the run", made, folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"corpus": "a", "fingerprint": "b", "classes": null, "counts": []}'])
def test_json_of_something_else_is_told(finished: tuple[Generation, Path], text: str) -> None:
    made, folder = finished
    (folder / RunFolder.GENERATOR).write_text(text)
    with pytest.raises(UsageError, match="is no finished generator"):
        Generator.read("the run", made, folder)


def test_a_foreign_tokenizer_is_told_by_both_hashes(finished: tuple[Generation, Path]) -> None:
    made, folder = finished
    _, tokenizer = networks(made)
    with torch.no_grad():
        next(tokenizer.parameters()).view(-1)[0] += 1e-3
    save_file(tokenizer.state_dict(), folder / RunFolder.START)
    with pytest.raises(UsageError, match="another tokenizer") as error:
        Generator.read("the run", made, folder)
    assert made.start in str(error.value) and weights_digest(tokenizer.state_dict()) in str(error.value)
