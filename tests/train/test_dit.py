"""A generator's training: exact after a crash, the same in any cut, that of a plain loop; its samples are drawn once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.recipes import RESOURCES, Job, make_job, session, tiny_generation
from tests.train.conftest import Curve
from vitok import diffusion
from vitok.config import Generation, Resources
from vitok.config.overrides import override
from vitok.data.corpora.corpus import open_corpora
from vitok.data.latents.encode import LatentEncoder
from vitok.data.latents.loader import LatentSource
from vitok.errors import VitokError
from vitok.evaluation import generated
from vitok.evaluation.available import Available, available
from vitok.evaluation.generator import Generator
from vitok.models.bottleneck import Posterior
from vitok.models.dit import DiT
from vitok.models.tokenizer import Tokenizer
from vitok.orchestration import generator_inputs
from vitok.train import launch
from vitok.train.ranks import Place

pytestmark = pytest.mark.usefixtures("cluster")

METRICS = ("gFD-EffLite0", "gIS-EffLite0", "gPrecision-EffLite0", "gRecall-EffLite0")


@pytest.fixture(scope="module")
def prepared(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Generation, LatentSource, Available]:
    """Latents by an untrained tokenizer, and the statistics of their views."""
    storage, found = tmp_path_factory.mktemp("prepared"), available(METRICS, True, "g")
    recipe = tiny_generation()
    torch.manual_seed(0)
    weights = storage / "tokenizer.safetensors"
    save_file(Tokenizer(recipe.tokenizer.tokenizer).state_dict(), weights)
    (one,) = generator_inputs.prepare(session(storage), [(recipe, weights)], open_corpora(str(labelled)), found)
    return storage, one.recipe, one.source, found


Run = Callable[..., launch.RunOutcome]


@pytest.fixture
def job(prepared: tuple[Path, Generation, LatentSource, Available]) -> Callable[..., Job]:
    storage, base, source, found = prepared

    def make(folder: Path, sink: Curve | None = None, resources: Resources = RESOURCES, **changes: Any) -> Job:
        folder.mkdir(exist_ok=True)
        (folder / "start.safetensors").write_bytes((storage / "tokenizer.safetensors").read_bytes())
        recipe = override(base, {key.replace("__", "."): value for key, value in changes.items()})
        own = resources.model_copy(update={"metrics": tuple(metric.name for metric in found.metrics)})
        return make_job(recipe, own, source, found.payloads, folder, sink or Curve(), storage)

    return make


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "dit.safetensors")


def far(one: Path, other: Path) -> float:
    """Relative distance of two runs' weights."""
    ours, theirs = weights(one), weights(other)
    whole = torch.cat([ours[key].flatten() for key in ours])
    return float(torch.cat([(ours[key] - theirs[key]).flatten() for key in ours]).norm() / whole.norm())


@pytest.mark.parametrize(("zero", "objective"), [(0, "noise"), (3, "flow")])
def test_an_interrupted_run_continues_bit_by_bit(job: Callable[..., Job], tmp_path: Path, zero: int, objective: str) -> None:
    resources, changes = override(RESOURCES, {"zero": zero}), {"diffusion__objective": objective}
    whole, before, after = Curve(), Curve(crash_at=6), Curve()
    first = launch.run(*job(tmp_path / "whole", whole, resources, **changes))
    with pytest.raises(KeyboardInterrupt):
        launch.run(*job(tmp_path / "cut", before, resources, **changes))
    second = launch.run(*job(tmp_path / "cut", after, resources, **changes))
    assert second.steps == 4  # from the checkpoint of step 4
    assert {**before.losses(), **after.losses()} == whole.losses()
    assert far(tmp_path / "whole", tmp_path / "cut") == 0
    assert first.evaluation.metrics == second.evaluation.metrics
    assert first.evaluation.reconstructions.shape == (3 * generated.EACH, 3, 32, 32)


@pytest.fixture(scope="module")
def plain(prepared: tuple[Path, Generation, LatentSource, Available]) -> dict[str, torch.Tensor]:
    """The weights of eight steps, as one would write them: no engine, no loop, no ranks; averaged in float64."""
    _, recipe, source, _ = prepared
    torch.manual_seed(recipe.seed)
    cfg = recipe.tokenizer.tokenizer
    model = DiT(recipe.dit, cfg.channels, cfg.code, 3)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, recipe.optimizer.beta2), weight_decay=0.0)
    average = {name: value.detach().double().clone() for name, value in model.named_parameters()}
    mean, std = torch.tensor(source.set.mean), torch.tensor(source.set.std)
    batches = source.batches(seed=recipe.seed, batch_size=8, start=0, steps=8, rank=0, world=1)
    for step, batch in enumerate(batches):
        generator = torch.Generator().manual_seed((recipe.seed << 32) + step)
        code, noise = (torch.randn(8, cfg.tokens, cfg.channels, generator=generator) for _ in range(2))
        uniform, hidden = (torch.rand(8, generator=generator) for _ in range(2))
        posterior = Posterior(*(torch.from_numpy(part).float() for part in (batch.mean, batch.log_variance)))
        labels = torch.from_numpy(batch.labels).long().masked_fill(hidden < 0.1, 3)
        latents = (posterior.sample(code) - mean) / std
        pair = diffusion.build_objective(recipe.diffusion).pair(latents, noise, uniform)
        loss = (model(pair.noised, pair.times, labels) - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.clip)
        optimizer.param_groups[0]["lr"] = recipe.optimizer.lr * 8 / 256
        optimizer.step()
        for name, value in model.named_parameters():
            average[name].lerp_(value.detach().double(), 1 - recipe.ema)
    return average


@pytest.mark.parametrize("changes", [{"zero": 0}, {"zero": 2, "accumulation": 2}], ids=str)
def test_training_is_that_of_a_plain_loop(
    job: Callable[..., Job], plain: dict[str, torch.Tensor], tmp_path: Path, changes: dict[str, Any]
) -> None:
    """AdamW's first steps are signs: where a gradient is nearly zero its rounding decides, which is what the tolerance is for."""
    launch.run(*job(tmp_path / "run", resources=override(RESOURCES, changes)))
    ours = weights(tmp_path / "run")
    assert set(ours) == {*plain, "mean", "std"}
    difference = torch.cat([(ours[name].double() - plain[name]).flatten() for name in plain]).norm()
    assert float(difference / torch.cat([value.flatten() for value in plain.values()]).norm()) < 1e-5


@pytest.mark.long
@pytest.mark.parametrize("zero", [3])
def test_two_ranks_train_and_draw_as_one(
    job: Callable[..., Job], two_ranks: Callable[..., Any], plain: dict[str, torch.Tensor], tmp_path: Path, zero: int
) -> None:
    asked = job(tmp_path / "run", resources=override(RESOURCES, {"zero": zero}))
    outcome, _ = two_ranks(tmp_path / "run", asked.spec.recipe, asked.spec.resources, job=asked)
    ours = weights(tmp_path / "run")
    difference = torch.cat([(ours[name].double() - plain[name]).flatten() for name in plain]).norm()
    assert float(difference / torch.cat([value.flatten() for value in plain.values()]).norm()) < 1e-5
    alone = launch.run(*job(tmp_path / "alone")).evaluation
    assert outcome.evaluation.metrics == pytest.approx(alone.metrics, rel=1e-3)
    assert outcome.evaluation.images == alone.images == 24


def test_what_was_drawn_before_a_crash_is_not_drawn_again(job: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The samples of a run are three blocks of eight; the second time one is interrupted after two."""
    whole = launch.run(*job(tmp_path / "whole")).evaluation
    monkeypatch.setattr(generated, "KEPT_EVERY", 0.0)
    drawing, blocks = launch_drawing(), list[list[int]]()

    def counted(*networks: Any) -> Any:
        draw = drawing(*networks)

        def one(numbers: np.ndarray, labels: np.ndarray) -> torch.Tensor:
            blocks.append(numbers.tolist())
            if len(blocks) == 3:
                raise KeyboardInterrupt
            return draw(numbers, labels)

        return one

    monkeypatch.setattr("vitok.train.tasks.dit.drawing", counted)
    with pytest.raises(KeyboardInterrupt):
        launch.run(*job(tmp_path / "cut"))
    again = launch.run(*job(tmp_path / "cut"))
    assert again.steps == 0 and blocks[2] == blocks[3] == list(range(16, 24)), "the first two blocks are not drawn again"
    assert again.evaluation.metrics == pytest.approx(whole.metrics, rel=1e-12)  # of eigenvalues, in another order of threads


def launch_drawing() -> Any:
    from vitok.train.tasks import dit

    return dit.drawing


def test_a_finished_generator_samples_as_it_was_measured(
    job: Callable[..., Job], prepared: tuple[Path, Generation, LatentSource, Available], tmp_path: Path
) -> None:
    asked = job(tmp_path / "run")
    launch.run(*asked)
    recipe = asked.spec.recipe
    assert isinstance(recipe, Generation)
    generator = Generator.read("tiny", recipe, tmp_path / "run")
    assert generator.about.classes == ("class-0", "class-1", "class-2") and sum(generator.about.counts) == prepared[2].set.rows
    pixels = generator.open(torch.device("cpu"))(np.arange(4), np.array([0, 1, 2, 0]))
    assert pixels.shape == (4, 3, 32, 32) and pixels.isfinite().all()


def test_another_tokenizer_is_refused(job: Callable[..., Job], tmp_path: Path) -> None:
    asked = job(tmp_path / "run")
    torch.manual_seed(1)
    save_file(Tokenizer(asked.spec.recipe.tokenizer.tokenizer).state_dict(), tmp_path / "run" / "start.safetensors")  # pyright: ignore
    with pytest.raises(VitokError, match=r"holds other weights \(SHA-256 .*\) than the recipe starts from"):
        launch.run(*asked, Place())


def test_statistics_that_are_not_there_are_told(job: Callable[..., Job], tmp_path: Path) -> None:
    from dataclasses import replace

    with pytest.raises(VitokError, match=r"the statistics of .* train are not at hand in"):
        asked = job(tmp_path / "run")
        launch.run(*asked._replace(spec=replace(asked.spec, storage_address=str(tmp_path / "none"))), Place())


def test_encoders_are_known_by_their_weights(prepared: tuple[Path, Generation, LatentSource, Available]) -> None:
    storage, recipe, source, _ = prepared
    encoder = LatentEncoder.of(recipe.tokenizer, load_file(storage / "tokenizer.safetensors"))
    assert encoder.weights == recipe.start == source.set.weights
