"""Stage 2: the encoder stays, the decoder learns, the discriminator too; all of it resumes and scales as stage 1 does."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from tests.recipes import RESOURCES, make_job, tiny
from tests.train.conftest import Curve, Run
from tests.train.test_resume import same
from tests.train.test_training import far
from vitok.config import Gan, Recipe, Resources
from vitok.config.overrides import override
from vitok.data.corpora.corpus import open_corpora
from vitok.data.loading.loader import prepare_source
from vitok.errors import UsageError, VitokError
from vitok.models.checksum import weights_digest
from vitok.models.tokenizer import Tokenizer
from vitok.storage.layout import RunFolder
from vitok.train import launch
from vitok.train.tasks import build
from vitok.train.tasks.stage2 import encoder_digest

pytestmark = pytest.mark.usefixtures("cluster")

GAN = Gan(base_channels=64, lr=1e-3, ramp=0.5)


@pytest.fixture(scope="module")
def stage1(source: Any, states: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stage1")
    launch.run(*make_job(tiny(), RESOURCES, source, states, folder, Curve()))
    return folder / "tokenizer.safetensors"


@pytest.fixture
def tune(run: Run, stage1: Path, tmp_path: Path) -> Callable[..., tuple[launch.RunOutcome, Curve]]:
    """Run stage 2 in a folder."""

    def call(name: str, gan: Gan = GAN, resources: Resources = RESOURCES, sink: Curve | None = None, **changes: Any) -> Any:
        sink = sink or Curve()
        return run(begin(tmp_path / name, stage1), sink, stage2(stage1, gan, **changes), resources), sink

    return call


def begin(folder: Path, stage1: Path) -> Path:
    folder.mkdir(exist_ok=True)
    shutil.copy(stage1, folder / "start.safetensors")
    return folder


def stage2(stage1: Path, gan: Gan = GAN, **changes: Any) -> Recipe:
    recipe = tiny(**{"ema": 0.5, "loss__lpips": 0.1} | changes)
    return Recipe.model_validate(recipe.model_dump() | {"gan": gan.model_dump(), "start": weights_digest(load_file(stage1))})


@pytest.mark.parametrize("zero", [1, 3])
def test_the_encoder_stays_and_the_decoder_learns(tune: Any, stage1: Path, tmp_path: Path, zero: int) -> None:
    _, curve = tune("run", resources=override(RESOURCES, {"zero": zero, "log_every": 1}))
    before, after = load_file(stage1), load_file(tmp_path / "run" / "tokenizer.safetensors")
    assert encoder_digest(before) == encoder_digest(after)
    assert f"the encoder is as it was: SHA-256 {encoder_digest(before)} before, {encoder_digest(after)} after" in curve.told()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.startswith("decoder.")}
    weights = [values["train/gan/weight"] for values in curve.points.values()]
    assert weights == pytest.approx([0.05 * min(1, step / 4) for step in range(1, 9)])
    last = curve.points[8]
    rates = [(values["train/lr/discriminator"], values["train/lr/tokenizer"]) for values in curve.points.values()]
    assert [judge / tuned for judge, tuned in rates] == pytest.approx([1e-3 / (0.032 * 8 / 256)] * 8)  # one schedule, two peaks
    assert {"train/gan/logit_real", "train/gan/logit_fake", "train/gan/accuracy_real", "train/grad_norm/discriminator"} <= set(last)


def test_the_discriminator_learns_to_tell_apart(tune: Any) -> None:
    _, curve = tune("run", GAN.model_copy(update={"lr": 1e-2}), steps=60, optimizer__lr=1e-4)
    assert curve.points[60]["train/gan/discriminator"] < 0.7 < 0.9 < curve.points[2]["train/gan/discriminator"]
    assert curve.points[60]["train/gan/accuracy_real"] > 0.7 and curve.points[60]["train/gan/accuracy_fake"] > 0.7


@pytest.mark.parametrize("changes", [{}, {"tokenizer__latent_tokens": 12, "tokenizer__shortest": 2}], ids=["simple", "latent and nested"])
def test_the_adaptive_weight_is_the_ratio_at_the_last_layer(
    run: Run, stage1: Path, source: Any, tmp_path: Path, changes: dict[str, int]
) -> None:
    """Against autograd on a model outside of any engine."""
    from vitok import losses
    from vitok.models.discriminator import Discriminator
    from vitok.networks.weights import load_lpips
    from vitok.train.ranks import Place
    from vitok.train.tasks.inputs import draw_inputs

    start, curve = stage1, Curve()
    if changes:
        start = tmp_path / "latent.safetensors"
        save_file(Tokenizer(tiny(**changes).tokenizer).state_dict(), start)
    recipe = stage2(start, GAN.model_copy(update={"adaptive": True}), **changes)
    run(begin(tmp_path / "run", start), curve, recipe, override(RESOURCES, {"log_every": 1}))
    torch.manual_seed(recipe.seed)
    model = Tokenizer(recipe.tokenizer)
    model.load_state_dict(load_file(start))
    judge = Discriminator(32, 64)
    batch = next(iter(source.batches(seed=recipe.seed, batch_size=8, start=0, steps=1)))
    pixels, noise, kept = draw_inputs(batch, 0, recipe, Place()).micro(0, 1, torch.device("cpu"))
    output = model(pixels, noise, kept=kept)
    loss = losses.stage1_loss(output, pixels, recipe.loss, load_lpips("alexnet"))["loss"]
    adversarial = losses.hinge_generator(judge.logits(output.pixels))
    weight = model.decoder.unembed.weight
    ours, theirs = (torch.autograd.grad(value, weight, retain_graph=True)[0].norm() for value in (loss, adversarial))
    assert curve.points[1]["train/gan/adaptive"] == pytest.approx(float(ours / (theirs + 1e-4)), rel=1e-4)


def test_every_stage_of_zero_gives_one_curve(tune: Any, tmp_path: Path) -> None:
    curves = [tune(f"zero-{zero}", resources=override(RESOURCES, {"zero": zero}))[1] for zero in range(4)]
    for name in ("train/loss", "train/gan/discriminator", "train/gan/logit_real"):
        values = [[point[name] for point in curve.points.values()] for curve in curves]
        for other in values[1:]:
            assert other == pytest.approx(values[0], rel=1e-4, abs=1e-5)
    assert all(far(tmp_path / "zero-0", tmp_path / f"zero-{zero}") < 2e-3 for zero in (1, 2, 3))


@pytest.mark.parametrize("zero", [2, 3])
def test_it_resumes_bit_by_bit(tune: Any, tmp_path: Path, zero: int) -> None:
    resources, gan = override(RESOURCES, {"zero": zero}), GAN.model_copy(update={"r1": 1.0, "r1_every": 3})
    whole = tune("whole", gan, resources)[1]
    before = Curve(crash_at=6)
    with pytest.raises(KeyboardInterrupt):
        tune("cut", gan, resources, before)
    outcome, after = tune("cut", gan, resources)
    assert outcome.steps == 4

    def judged(curve: Curve) -> dict[int, tuple[float, float]]:
        return {step: (values["train/loss"], values["train/gan/discriminator"]) for step, values in curve.points.items()}

    assert {**judged(before), **judged(after)} == judged(whole)
    assert same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.long
@pytest.mark.parametrize("gan", [GAN, GAN.model_copy(update={"adaptive": True, "r1": 0.1, "r1_every": 2})], ids=["plain", "adaptive, R1"])
def test_two_ranks_tune_as_one(tune: Any, two_ranks: Any, stage1: Path, tmp_path: Path, gan: Gan) -> None:
    """Groups of the minibatch deviation differ with the cut of the batch, and with it the discriminator, a little."""
    _, alone = tune("one", gan)
    resources = override(RESOURCES, {"zero": 2})
    _, together = two_ranks(begin(tmp_path / "two", stage1), stage2(stage1, gan), resources)
    assert together.losses() == pytest.approx(alone.losses(), rel=1e-2)
    for step in alone.points:
        for name in ("train/l2", "train/lpips", "train/gan/discriminator"):
            assert together.points[step][name] == pytest.approx(alone.points[step][name], rel=3e-2)


def test_the_ablations_of_figure_13(tune: Any, stage1: Path, tmp_path: Path) -> None:
    before = load_file(stage1)
    _, plain = tune("no GAN", GAN.model_copy(update={"weight": 0.0}))
    assert not [name for name in plain.points[8] if "gan" in name or "discriminator" in name]
    assert encoder_digest(load_file(tmp_path / "no GAN" / "tokenizer.safetensors")) == encoder_digest(before)
    _, slow = tune("lr", GAN.model_copy(update={"lr": 1e-5, "weight": 0.1}))
    assert slow.points[8]["train/gan/weight"] == pytest.approx(0.1)
    _, tuned = tune("all", GAN.model_copy(update={"tuned": "all"}), override(RESOURCES, {"zero": 1}))
    after = load_file(tmp_path / "all" / "tokenizer.safetensors")
    assert encoder_digest(after) != encoder_digest(before)
    assert f"SHA-256 {encoder_digest(before)} before, {encoder_digest(after)} after" in tuned.told()


@pytest.mark.long
@pytest.mark.parametrize("frames", ["each", "together"])
def test_clips(two_ranks: Any, states: Any, tmp_path: Path, frames: str) -> None:
    recipe = tiny(steps=2, tokenizer__frames=4, data__pool=8, data__validation_crops=1, batch_size=4)
    source = prepare_source(open_corpora("sample-motion"), recipe.data, 32, 4)
    weights = Tokenizer(recipe.tokenizer).state_dict()
    tmp_path.joinpath("run").mkdir()
    save_file(weights, tmp_path / "run" / "start.safetensors")
    gan = GAN.model_copy(update={"frames": frames})
    recipe = Recipe.model_validate(recipe.model_dump() | {"gan": gan.model_dump(), "start": weights_digest(weights)})
    curve = Curve()
    launch.run(*make_job(recipe, override(RESOURCES, {"zero": 1, "accumulation": 2}), source, states, tmp_path / "run", curve, tmp_path))
    assert 0 < curve.points[2]["train/gan/discriminator"] < 3


def test_what_cannot_be(tune: Any, stage1: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="stage 2 continues a stage 1"):
        Recipe(tokenizer=tiny().tokenizer, gan=Gan())
    with pytest.raises(UsageError, match=r"gan\.adaptive .* use resources\.zero of 2 or less"):
        tune("run", GAN.model_copy(update={"adaptive": True}), override(RESOURCES, {"zero": 3}))
    weights = load_file(stage1)
    save_file({name: value + 1 for name, value in weights.items()}, tmp_path / "run" / "start.safetensors")
    launch_it = build.start_weights
    with pytest.raises(VitokError, match="holds other weights"):
        launch_it(RunFolder(tmp_path / "run"), weights_digest(weights))
    (tmp_path / "run" / "start.safetensors").unlink()
    with pytest.raises(VitokError, match=r"start\.safetensors is missing"):
        launch_it(RunFolder(tmp_path / "run"), weights_digest(weights))
