"""An evaluation outside of training: the same numbers as within, known by their protocol, had once."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_fidelity
from safetensors.torch import load_file

from tests.evaluation.test_measure import crops, save
from tests.recipes import RESOURCES, make_job, session, tiny
from tests.standins import inception_state
from vitok.config import Data
from vitok.config.overrides import override
from vitok.data.corpora.corpus import Corpora, open_corpora
from vitok.data.decoding.image import center_crop, load
from vitok.data.loading.loader import prepare_source
from vitok.errors import UsageError, VitokError
from vitok.evaluation import pool
from vitok.evaluation.available import Available, available
from vitok.evaluation.baselines.autoencoders import Baseline
from vitok.evaluation.baselines.codecs import Codec
from vitok.evaluation.trained import Trained
from vitok.losses import to_pixels
from vitok.metrics.psnr_ssim import psnr, to_uint8
from vitok.metrics.registry import find_metrics
from vitok.models.checksum import weights_digest
from vitok.orchestration.evaluation_run import EvaluationRequest, Target, Views, run
from vitok.orchestration.session import Session
from vitok.report.results import drop_incomparable, row_protocols
from vitok.tracking.tags import CORPUS, FOLDER
from vitok.train import launch

pytestmark = pytest.mark.usefixtures("cluster")

NAMES = ("rPSNR", "LPIPS", "rFD-EffLite0")


class Silent:
    def log(self, step: int, values: dict[str, float]) -> None: ...
    def say(self, step: int, text: str) -> None: ...
    def back(self, step: int) -> None: ...
    def flush(self) -> None: ...


@pytest.fixture(scope="module")
def corpora(photos: Path) -> Corpora:
    return open_corpora(str(photos))


@pytest.fixture(scope="module")
def trained(corpora: Corpora, cluster: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, launch.RunOutcome]:
    recipe, folder = tiny(data__validation_crops=12), tmp_path_factory.mktemp("trained")
    found = available(NAMES, asked=True)
    resources = override(RESOURCES, {"metrics": ",".join(NAMES)})
    source = prepare_source(corpora, recipe.data, recipe.tokenizer.size)
    job = make_job(recipe, resources, source, found.payloads, folder, Silent())
    return folder, launch.run(*job)


@pytest.fixture
def here(tmp_path: Path) -> Session:
    return session(tmp_path)


@pytest.fixture
def ask(corpora: Corpora) -> Callable[..., EvaluationRequest]:
    """An evaluation of a codec with other fields, whichever part of the request they are of."""

    def make(**changes: Any) -> EvaluationRequest:
        codec = Codec("jpeg", 8192)
        target = {"name": codec.name, "identity": codec.name, "subject": codec}
        views = {"corpora": corpora, "part": "validation", "data": Data(validation_crops=12), "size": 32, "frames": 1}
        own = {"metrics": available(NAMES, asked=True), "batch": 8, "actors": 1}
        parts = [
            {name: changes.get(name, given.get(name)) for name in given.keys() | (changes.keys() & names(kind))}
            for kind, given in ((Target, target), (Views, views), (EvaluationRequest, own))
        ]
        return EvaluationRequest(Target(**parts[0]), Views(**parts[1]), **parts[2])

    return make


def names(kind: type) -> set[str]:
    return {field.name for field in fields(kind)}


def values(result: dict[str, Any]) -> dict[str, float]:
    return {name: one["value"] for name, one in result["metrics"].items()}


def test_a_checkpoint_is_worth_what_its_run_said(
    ask: Any, here: Session, trained: tuple[Path, launch.RunOutcome], corpora: Corpora
) -> None:
    """To float32's rounding in batches of another size, by the same protocol; and its run gets the metric that it lacked."""
    folder, outcome = trained
    recipe, state = tiny(data__validation_crops=12), load_file(folder / "tokenizer.safetensors")
    data = recipe.data.model_copy(update={"pool": 0})
    asked = ask(
        subject=Trained("tiny", recipe, state), name="tiny", identity=weights_digest(state), data=data, origin=folder,
        metrics=available((*NAMES, "rSSIM"), asked=True),
    )  # fmt: skip
    run_id = here.tracker("eval").child(None, "cell", "cell", {FOLDER: str(folder), CORPUS: corpora.fingerprint}, {})
    protocols = {f"vitok.protocol.{name}": one.json() for name, one in outcome.evaluation.protocols.items()}
    here.tracker("eval").finish(run_id, outcome.evaluation.metrics, 8, {}, protocols)
    result = run(asked, here)
    assert {name: values(result)[name] for name in NAMES} == pytest.approx(outcome.evaluation.metrics, rel=1e-4)
    for name, protocol in outcome.evaluation.protocols.items():
        assert result["metrics"][name]["protocol"]["digest"] == protocol.digest
        assert protocol.count == 12 * len(corpora.parts[0][1].validation)
    after = here.tracker("eval").find_run(run_id)
    assert after.data.metrics["final/rSSIM"] == values(result)["rSSIM"]
    assert after.data.metrics["final/rPSNR"] == outcome.evaluation.metrics["rPSNR"]
    assert here.storage.evaluation(asked.digest).file("reconstructions.png").is_file()


def test_weights_that_are_not_the_recipes(trained: tuple[Path, launch.RunOutcome], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="of another tokenizer than the recipe beside it"):
        Trained.read("tiny", tiny(tokenizer__channels=8), trained[0] / "tokenizer.safetensors")
    (tmp_path / "tokenizer.safetensors").write_bytes(b"not weights")
    with pytest.raises(UsageError, match="cannot be read"):
        Trained.read("tiny", tiny(), tmp_path / "tokenizer.safetensors")


def test_what_was_measured_is_not_measured_again(ask: Any, here: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(ask(), here)
    assert 0 < first["bits"] <= 8192 and first["over_budget"] == 0
    monkeypatch.setattr(pool, "run", lambda *_: pytest.fail("ran again"))
    assert run(ask(), here) == first


@pytest.mark.long
def test_statistics_of_the_reference_serve_later_evaluations(
    ask: Any, here: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept by their fingerprint, or handed on as a file: the same value, and the originals are not looked at again."""
    first = run(ask(export=tmp_path / "reference.npz"), here)
    looked: list[bool] = []
    real = pool.run
    monkeypatch.setattr(pool, "run", lambda asked, *rest: (looked.append(asked.both), real(asked, *rest))[1])
    again = run(ask(samples=0, batch=8, identity="again"), here)
    filed = run(ask(identity="filed", reference_file=tmp_path / "reference.npz"), here)
    assert looked == [False, False]
    assert values(again) == values(first) and values(filed) == values(first)
    few = {"metrics": available(("rFD-EffLite0",), asked=True), "reference_file": tmp_path / "reference.npz"}
    with pytest.raises(UsageError, match=r"of another kind: views .*; size 32 there, 16 here"):
        run(ask(size=16, data=Data(), **few), here)
    with pytest.raises(UsageError, match=r"no samples, only their statistics: rRecall-EffLite0"):
        run(ask(**few | {"metrics": available(("rRecall-EffLite0",), asked=True)}), here)


@pytest.mark.long
def test_an_autoencoder_of_others(ask: Any, here: Session, corpora: Corpora, tmp_path: Path) -> None:
    """By the very same code: what diffusers' own call gives, measured by hand."""
    from diffusers import AutoencoderKL

    network = AutoencoderKL(
        block_out_channels=(16, 16), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4, norm_num_groups=8,
    ).eval()  # fmt: skip
    network.save_pretrained(tmp_path / "vae", safe_serialization=True)
    subject = Baseline("sd-vae", str(tmp_path / "vae"))
    result = run(ask(subject=subject, identity=subject.digest(), data=Data(), metrics=available(["rPSNR"], asked=True)), here)
    held = corpora.parts[0][1].validation
    images = [center_crop(load(held.get(n, 0).data or b"", 0), 32) for n in range(len(held))]
    pixels = to_pixels(torch.from_numpy(np.stack(images)))
    with torch.no_grad():
        by_hand = psnr(to_uint8(network(pixels).sample), torch.from_numpy(np.stack(images)).movedim(-1, 1)).mean()
    assert values(result)["rPSNR"] == pytest.approx(float(by_hand), abs=1e-4)


@pytest.mark.long
def test_generated_samples_are_worth_what_torch_fidelity_says(ask: Any, here: Session, tmp_path: Path) -> None:
    """The same folder, the same network, the same splits: to 1e-4."""
    real, fake = crops(12, 64), crops(16, 64, seed=1)
    torch.save(inception_state(), tmp_path / "inception.pth")
    theirs = torch_fidelity.calculate_metrics(
        input1=save(fake, tmp_path / "fake"), input2=save(real, tmp_path / "real"), cuda=False, isc=True, fid=True, prc=True,
        verbose=False, cache=False, feature_extractor="inception-v3-compat", feature_extractor_weights_path=str(tmp_path / "inception.pth"),
    )  # fmt: skip
    found = Available(find_metrics(("gFID", "gIS", "gPrecision", "gRecall")), {"fid-inception": inception_state()})
    asked = ask(
        subject=None, generated=open_corpora(str(tmp_path / "fake")), corpora=open_corpora(str(tmp_path / "real")), part="all",
        data=Data(), size=64, metrics=found, samples=16,  # all of them, and more than the reference has
    )  # fmt: skip
    ours = values(run(asked, here))
    assert ours["gFID"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert ours["gIS"] == pytest.approx(theirs["inception_score_mean"], rel=1e-4)
    assert (ours["gPrecision"], ours["gRecall"]) == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-6)


def test_what_cannot_be_had_is_said_before_anything_runs(ask: Any, here: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_blocks", lambda *_: pytest.fail("began"))
    for change, words in (
        ({"samples": 1000}, "--samples 1000: there are"), ({"actors": 9}, "--actors 9: there is room for 1"),
        ({"data": Data(), "samples": 1, "metrics": available(["rFD-EffLite0"], asked=True)}, r"1 sample\(s\); it takes 3 at least"),
        ({"metrics": available(["rKD-EffLite0"], asked=True)}, "it takes 1000 at least, a subset"),
    ):  # fmt: skip
        with pytest.raises(VitokError, match=words):
            run(ask(**change), here)


def test_two_protocols_never_share_an_axis(trained: tuple[Path, launch.RunOutcome]) -> None:
    protocols = {name: one.json() for name, one in trained[1].evaluation.protocols.items()}
    one = {"cell": "a", "protocols": protocols, **trained[1].evaluation.metrics}
    fewer = replace(trained[1].evaluation.protocols["rFD-EffLite0"], count=5, code="a later version")
    later = replace(trained[1].evaluation.protocols["rPSNR"], code="a later version")
    other = one | {"cell": "b", "protocols": protocols | {"rFD-EffLite0": fewer.json(), "rPSNR": later.json()}}
    rows, problems = drop_incomparable([one, other])
    assert all("rFD-EffLite0" not in row and "rPSNR" in row for row in rows)
    assert len(problems) == 1 and "rFD-EffLite0 is left out: 1 and 1 of the cells" in problems[0]
    assert f"count {trained[1].evaluation.images} and 5" in problems[0]
    assert {one.metric for one in row_protocols(rows)} == {"rPSNR", "LPIPS"}
    sizes = {size: {name: replace(each, size=size).json() for name, each in trained[1].evaluation.protocols.items()} for size in (32, 64)}
    each = [one | {"protocols": sizes[size], "size": size} for size in sizes]
    assert drop_incomparable(each) == (each, []), "cells of two sizes, each measured at its own"
    assert len(drop_incomparable([each[0], each[1] | {"size": 32}])[1]) == len(NAMES)
    guided = [replace(trained[1].evaluation.protocols["rPSNR"], settings=f"25 steps, CFG {cfg:g}, classes").json() for cfg in (1, 1.5)]
    swept = [one | {"protocols": protocols | {"rPSNR": text}, "cfg": cfg} for text, cfg in zip(guided, (1.0, 1.5), strict=True)]
    assert drop_incomparable(swept)[1] == [] and len(drop_incomparable([swept[0], swept[1] | {"cfg": 1.0}])[1]) == 1
    lacking = {name: value for name, value in one.items() if name != "LPIPS"}
    assert drop_incomparable([one, lacking])[1] == ["LPIPS was measured in 1 of 2 cells; the others get it with `vitok eval RUN`"]
