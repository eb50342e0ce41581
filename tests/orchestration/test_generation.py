"""Generators as a user has them: a study whose tokenizers come first; samples; evaluations; what is refused."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from tests.conftest import STUDY
from vitok.config import Generation
from vitok.orchestration import sampling_run
from vitok.orchestration.capacity import Capacity
from vitok.tracking.tags import CELL

pytestmark = pytest.mark.long

GENERATION = STUDY.with_name("generation_e_sweep.py")
SMALL = {
    "steps": "30", "batch_size": "8", "grid.tokenizer.tokenizer.channels": "4,8", "grid.tokenizer.tokenizer.patch": "8",
    "latents.crops": "4",
    "tokenizer.steps": "20", "tokenizer.batch_size": "4", "tokenizer.data.pool": "32", "tokenizer.data.validation_crops": "4",
    "tokenizer.loss.lpips": "0", "dit.blocks": "1", "sampling.count": "24", "sampling.steps": "4", "resources.checkpoint_every": "10",
    "resources.log_every": "5", "resources.data_cpus": "5",  # one trial after another: a process less for each kind
}  # fmt: skip


def command(name: str, storage: Path, labelled: Path, *more: str) -> list[str]:
    changes = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    return [sys.executable, str(GENERATION), name, "--storage", str(storage), "--corpus", str(labelled), *changes, *more]


def call(arguments: list[str], address: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, env=os.environ | {"RAY_ADDRESS": address}, timeout=280)


@pytest.fixture(scope="module")
def swept(cluster: str, labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A storage in which the study has run."""
    storage = tmp_path_factory.mktemp("storage")
    return storage, call(command("run", storage, labelled), cluster)


@pytest.fixture(scope="module")
def run(swept: tuple[Path, subprocess.CompletedProcess[str]]) -> Path:
    """The folder of a finished generator."""
    return next(path.parent for path in sorted(swept[0].glob("cells/*/dit.safetensors")))


@pytest.fixture
def vitok(monkeypatch: pytest.MonkeyPatch, call_vitok: Callable[..., tuple[int, str, str]], cluster: str, swept: tuple[Path, object]):
    """`vitok ...` on that storage, in this process, which is connected already. Gives (exit code, stdout, stderr)."""
    monkeypatch.setattr("vitok.orchestration.session.connect", lambda storage: Capacity({"CPU": 1.0}))
    return lambda *arguments: call_vitok(*arguments, "--storage", str(swept[0]))


def children(storage: Path) -> list:
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("generation_e_sweep")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], f"tags.`{CELL}` != ''")


def test_a_study_trains_its_tokenizers_first(swept: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    storage, result = swept
    assert result.returncode == 0, result.stderr
    runs = children(storage)
    assert [run.info.status for run in runs] == ["FINISHED"] * 4, "two tokenizers, two generators, each one run"
    generators = [run for run in runs if "dit" in run.data.params]
    assert {run.data.params["tokenizer.tokenizer.channels"] for run in generators} == {"4", "8"}
    assert all(len(run.data.params["start"]) == 64 for run in generators), "the tokenizer's weights are told"
    assert {run.data.metrics["final/images"] for run in generators} == {24.0}
    assert "2 tokenizer(s) that cells start from are not there yet: they are trained first" in result.stderr
    rows = (storage / "generation_e_sweep" / "report" / "results.csv").read_text().splitlines()
    assert len(rows) == 3 and "gFD-EffLite0" in rows[0] and "dit" in rows[0]
    assert "core_worker" not in result.stderr and "Traceback" not in result.stderr


def test_a_single_generator(vitok, swept: tuple[Path, object], run: Path, labelled: Path) -> None:
    """On the tokenizer and the latents of the study: nothing is encoded again."""
    recipe = Generation.model_validate_json((run / "recipe.json").read_text())
    tokenizer = next(
        path.parent for path in swept[0].glob("cells/*/tokenizer.safetensors")
        if json.loads((path.parent / "recipe.json").read_text()) == recipe.tokenizer.model_dump(mode="json")
    )  # fmt: skip
    small = [f"{key}={SMALL[key]}" for key in ("latents.crops", "sampling.count", "sampling.steps", "batch_size")]
    changes = [part for change in (*small, "diffusion.objective=flow") for part in ("--set", change)]
    arguments = ("train", "dit", "--tokenizer", str(tokenizer), "--dit", "DiT-N", "--corpus", str(labelled), *changes, "--json", "--steps")
    code, out, err = vitok(*arguments, "6")
    assert code == 0, err
    assert "encoded views" not in err and "views of the reference" not in err
    found = json.loads(out)
    assert Path(found["weights"]).is_file() and found["images"] == 24 and "gFD-EffLite0" in found
    code, out, err = vitok(*arguments, "6")
    assert (code, json.loads(out)) == (0, found) and "finished already" in err
    channels = recipe.tokenizer.tokenizer.channels
    sets = {path.parent: json.loads(path.read_text())["channels"] for path in swept[0].glob("latents/*/manifest.json")}
    other = next(folder for folder, count in sets.items() if count != channels)
    code, _, err = vitok(*arguments, "7", "--latents", str(other))
    assert code == 2 and "are of a tokenizer with weights" in err


def test_samples_are_shown_and_kept(vitok, run: Path, tmp_path: Path) -> None:
    shown = ("--classes", "class-1", "2", "--count", "8", "--steps", "2", "--out", str(tmp_path / "grid.png"))
    code, out, err = vitok("sample", str(run), *shown)
    assert code == 0, err
    assert "class-1, class-2" in out
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width > picture.height, "four samples of each class in a row"
    folder = tmp_path / "folder"
    arguments = ("sample", str(run), "--classes", "1", "--count", "6", "--cfg", "1.5", "--steps", "2", "--out", str(folder))
    code, _, err = vitok(*arguments)
    assert code == 0, err
    names = sorted(path.name for path in folder.glob("*.png"))
    assert names == [f"{number:08d}-class-0001.png" for number in range(6)]
    pixels = {name: (folder / name).read_bytes() for name in names}
    (folder / names[3]).unlink()
    code, _, err = vitok(*arguments, "--batch", "1")
    assert code == 0 and "5 of 6 samples are there" in err
    code, _, err = vitok(*arguments[:-6], "--cfg", "2", "--steps", "2", "--out", str(folder))
    assert code == 2 and "holds other samples (cfg differ)" in err
    again, before = (np.asarray(Image.open(file), int) for file in (folder / names[3], io_of(pixels[names[3]])))
    assert np.abs(again - before).max() <= 1, "the same sample, alone in its batch: up to the rounding of a product of another shape"


def io_of(content: bytes):
    import io

    return io.BytesIO(content)


def test_a_sweep_over_guidance_is_one_evaluation_each(vitok, swept: tuple[Path, object], run: Path) -> None:
    """At the recipe's own scale with the trial's digits: the same samples, up to the rounding of other batches."""
    code, out, err = vitok("eval", str(run), "--cfg", "1.5,3", "--metrics", "fd-efflite0", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [one["cfg"] for one in found] == [1.5, 3.0] and len({one["folder"] for one in found}) == 2
    values = [one["metrics"]["gFD-EffLite0"] for one in found]
    assert all(f"CFG {one['cfg']:g}," in value["protocol"]["settings"] for one, value in zip(found, values, strict=True))
    trial = next(one for one in children(swept[0]) if one.data.tags["vitok.folder"] == str(run))
    assert values[0]["value"] == pytest.approx(trial.data.metrics["final/gFD-EffLite0"], rel=2e-3)
    assert values[0]["value"] != values[1]["value"]
    code, out, err = vitok("eval", str(run), "--cfg", "3", "--metrics", "fd-efflite0", "--json")
    assert code == 0 and "measured already" in err and json.loads(out)["metrics"] == found[1]["metrics"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [(("sample", "RUN", "--classes", "3"), 2, "--classes 3: there are 3 classes, 0 to 2 (class-0, class-1, class-2)"),
     (("sample", "RUN", "--classes", "cat"), 2, "--classes cat"),
     (("sample", "RUN", "--cfg", "-1"), 2, "--cfg -1"),
     (("sample", "RUN", "--steps", "1001"), 2, "1001"),
     (("sample", "RUN", "--count", "0"), 2, "--count 0"),
     (("sample", "RUN", "--out", "grid.mp4"), 2, "images are shown as .png"),
     (("sample", "RUN", "--count", "99999999999", "--out", "folder"), 1, "draw fewer"),
     (("sample", "TOKENIZER"), 2, "this is a tokenizer, a generator is meant"),
     (("sample", "nowhere"), 2, "there is no nowhere/dit.safetensors"),
     (("eval", "RUN", "--cfg", "1,-2"), 2, "guidance of -2"),
     (("eval", "RUN", "--metrics", "psnr"), 2, "is not of generated samples"),
     (("eval", "RUN", "--crops", "2"), 2, "on its own views"),
     (("train", "dit", "--tokenizer", "RUN"), 2, "there is no"),
     (("train", "dit", "--tokenizer", "nowhere"), 2, "there is no nowhere/tokenizer.safetensors"),
     (("train", "dit", "--tokenizer", "TOKENIZER", "--corpus", "FLAT"), 2, "has no labels"),
     (("train", "dit", "--tokenizer", "TOKENIZER", "--dit", "DiT-Q"), 2, "unknown generator 'DiT-Q'"),
     (("train", "dit", "--tokenizer", "TOKENIZER", "--set", "sampling.cfg=-1"), 2, "sampling.cfg"),
     (("train", "dit", "--tokenizer", "TOKENIZER", "--set", "conditional=false"), 2, "set it to 1"),
     (("train", "dit", "--tokenizer", "TOKENIZER", "--set", "tokenizer.steps=3"), 2, "trained already"),
     (("latents", "build", "--tokenizer", "TOKENIZER", "--crops", "0"), 2, "crops = 0")],
)  # fmt: skip
def test_what_cannot_be_is_one_line(
    vitok, swept: tuple[Path, object], run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...],
    code: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    tokenizer = next(path.parent for path in swept[0].glob("cells/*/tokenizer.safetensors"))
    named = {"RUN": str(run), "TOKENIZER": str(tokenizer), "FLAT": str(photos)}
    found, _, err = vitok(*(named.get(part, part) for part in arguments))
    error = err.strip().splitlines()[-1]
    assert found == code and error.startswith("error: ") and words in error and "Traceback" not in err


def test_labels_are_shared_among_classes() -> None:
    from vitok.evaluation.generator import TrainedCorpus

    about = TrainedCorpus("", "", ("a", "b", "c"), (1, 1, 1))
    assert sampling_run.classes((), about, 6).tolist() == [0, 0, 1, 1, 2, 2]
    assert sampling_run.classes(("c", "0"), about, 4).tolist() == [2, 2, 0, 0]
    assert sampling_run.classes((), TrainedCorpus("", "", (), ()), 2).tolist() == [0, 0]
