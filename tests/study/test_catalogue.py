"""The catalogue as a user meets it: every study is there, asks for cells that can run, and claims what it measures."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import STUDY
from vitok.errors import UsageError
from vitok.orchestration.plan import plan_cells
from vitok.orchestration.request import Choice, CollectionOptions, check
from vitok.study import catalogue, grid
from vitok.study.collection import Collection
from vitok.study.study import Study

FOLDER = STUDY.parent
ENTRIES = catalogue.load_catalogue(FOLDER)
STUDIES = [entry.holds for entry in ENTRIES if isinstance(entry.holds, Study)]
ENTRY = {study.name: study for study in STUDIES}
OWN = {"decoder_shape"}  # questions that the paper did not ask
NAMES = OWN | {
    "adaptive_tokens", "decoder_scaling", "e_sweep", "e_sweep_512", "encoder_scaling", "gan_finetuning", "generation_e_sweep",
    "image_generation", "image_reconstruction", "latent_tokens", "loss_tradeoff", "model_sizes", "reconstruction_gallery", "video_e_sweep",
    "video_generation", "video_reconstruction",
}  # fmt: skip


@pytest.fixture
def vitok(monkeypatch: pytest.MonkeyPatch, call_vitok: Callable[..., tuple[int, str, str]], tmp_path: Path):
    monkeypatch.setenv("VITOK_STORAGE", str(tmp_path / "runs"))
    return call_vitok


def test_every_figure_and_table_is_a_study() -> None:
    assert {study.name for study in STUDIES} == NAMES
    told = " ".join(study.source for study in STUDIES)
    assert all(re.search(rf"\b{number}\b", told) for number in range(2, 22)), "Figure 1 is a drawing"
    for entry in ENTRIES:
        lines = entry.path.read_text().splitlines()
        assert len(lines) <= 70, f"{entry.name} is read in a minute"
        assert "python studies/" in entry.doc and (not isinstance(entry.holds, Study) or bool(entry.holds.paper) == (entry.name not in OWN))


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_every_scale_has_cells_that_can_run_and_claims_that_can_be_judged(study: Study) -> None:
    assert study.computed or set(study.scales) == {"laptop", "single-gpu", "paper"}
    for scale in study.scales.values():
        cells = grid.cells(scale, (0, 1), "corpus", classes=10)
        check(study, scale)
        everything = [cell for level in grid.dependency_levels(cells, "corpus") for cell in level]
        assert plan_cells(everything, scale, Choice("", ""), "").warnings == [], "every step fits its device"


def test_a_claim_on_what_is_not_measured_is_refused_before_anything_runs() -> None:
    (study,) = [study for study in STUDIES if study.name == "e_sweep"]
    scale = grid.apply_overrides(study.scales["laptop"], {"resources.metrics": "LPIPS"})
    with pytest.raises(UsageError, match=r"e_sweep: “rPSNR .* needs rPSNR; measured is LPIPS"):
        check(study, scale)


def test_the_list_counts_what_studies_share(vitok) -> None:
    code, out, err = vitok("studies", "list", "--scale", "laptop", "--json")
    assert code == 0, err
    found = json.loads(out)
    rows = {row["name"]: row for row in found["studies"]}
    assert set(rows) == NAMES and rows["model_sizes"]["cells"] == 0
    assert sum(row["cells"] for row in rows.values()) == found["uses"] > found["distinct"] == sum(row["new"] for row in rows.values())
    assert rows["encoder_scaling"]["new"] == 0, "its cells are decoder_scaling's"
    assert rows["e_sweep"]["finished"] == found["finished"] == 0
    code, out, _ = vitok("studies", "status", "--scale", "laptop")
    assert code == 0 and "e_sweep" in out


def test_a_study_of_ones_own(vitok, tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    folder = ("--folder", str(tmp_path / "studies"))
    code, out, err = vitok("studies", "new", "my_question", *folder)
    path = tmp_path / "studies" / "my_question.py"
    assert code == 0 and str(path) in out, err
    assert 30 <= len(path.read_text().splitlines()) <= 45
    (entry,) = catalogue.load_catalogue(tmp_path / "studies")
    assert isinstance(entry.holds, Study) and len(grid.cells(entry.holds.scales["laptop"], (0,), "x")) == 4
    for name, words in (("my_question", "is there already"), ("My question", "is no name of a study")):
        code, _, err = vitok("studies", "new", name, *folder)
        assert (code, err.count("\n")) == (2, 1) and words in err
    code, out, err = vitok("studies", "list", "--scale", "laptop", *folder)
    assert code == 0 and "my_question" in out and "4 uses of 4 distinct cells" in out, err


def test_bad_files_are_one_line(vitok, tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    folder.mkdir()
    good = (FOLDER / "e_sweep.py").read_text()
    for text, words in (
        ("import nothing_like_it", "ModuleNotFoundError"),
        ("study = 1", "holds no study"),
        (good, "holds the study 'e_sweep': call the file e_sweep.py"),
    ):
        (folder / "mine.py").write_text(text)
        code, _, err = vitok("studies", "list", "--folder", str(folder))
        assert code == 2 and words in err and "mine.py" in err and err.count("\n") == 1
    for arguments, words in (
        (("run",), "name studies, or give --all"),
        (("run", "e_swep"), "'e_swep'"),
        (("list", "--folder", "/no/such"), "/no/such"),
    ):
        code, _, err = vitok("studies", *arguments)
        assert code == 2 and words in err and err.count("\n") == 1


def test_table_1_is_reproduced(vitok, tmp_path: Path) -> None:
    code, out, err = vitok("studies", "run", "model_sizes")
    assert code == 0, err
    assert out.count("\nsupported: ") == 3 and "3 of 3 are equal in each printed digit" in out and "383.7" in out
    assert "not supported: params_m of Tables 2 to 4" in out and "off are ViTok S-B/4x8, 16 frames of 128 pixels by 0.6" in out, "129 there"
    assert (tmp_path / "runs" / "model_sizes" / "report" / "model_sizes.png").stat().st_size > 10_000


def test_the_findings_are_five_and_take_other_seeds() -> None:
    (entry,) = [entry for entry in ENTRIES if isinstance(entry.holds, Collection)]
    assert isinstance(entry.holds, Collection) and entry.name == "findings"
    assert len(entry.holds.findings) == 5 and 0 not in entry.holds.seeds, "settings were chosen on seed 0"
    assert CollectionOptions(seeds=(0,)).of(ENTRY["e_sweep"]).seeds == (0,), "unless they are asked for"


def test_what_findings_cost_is_known_before(tmp_path: Path) -> None:
    def told(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(FOLDER / "findings.py"), *arguments, "--storage", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    found = json.loads(told("plan", "--scale", "laptop", "--json").stdout)
    assert [len(part["studies"]) for part in found["parts"]] == [1, 1, 2, 1, 1]
    assert sum(part["new"] for part in found["parts"]) == found["distinct"] < sum(part["cells"] for part in found["parts"])
    assert found["trial_hours"] == pytest.approx(sum(part["hours"] for part in found["parts"]))
    assert found["trial_hours"] > found["hours_by_the_clock"] > 0
    shown = told("plan", "--scale", "laptop", "--seeds", "0")
    assert f"{found['distinct'] // 2} distinct cells: about" in shown.stdout, shown.stderr
    refused = told("plan", "--scale", "desk")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "'desk'" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_images_and_videos_have_corpora_of_their_own() -> None:
    several = CollectionOptions(scale="paper", corpus="images", videos="clips")
    assert [several.of(ENTRY[name]).corpus for name in ("e_sweep", "video_e_sweep")] == ["images", "clips"]


def test_a_scale_that_there_is_not_is_refused_and_one_that_a_study_lacks_is_said(vitok, tmp_path: Path) -> None:
    for command in (("list",), ("status",), ("run", "e_sweep")):
        code, _, err = vitok("studies", *command, "--scale", "desk")
        assert code == 2 and err.count("\n") == 1 and "unknown scale 'desk'; there are laptop, single-gpu, paper" in err
    folder = tmp_path / "studies"
    folder.mkdir()
    own = (FOLDER / "e_sweep.py").read_text()
    for name in ("mine", "other"):
        (folder / f"{name}.py").write_text(
            own.replace('name="e_sweep"', f'name="{name}"').replace('"paper": presets', f'"{name}": presets')
        )
    code, out, err = vitok("studies", "list", "--scale", "mine", "--json", "--folder", str(folder))
    assert code == 0 and [row["cells"] for row in json.loads(out)["studies"]] == [15, 0], err
    code, _, err = vitok("studies", "run", "other", "--scale", "mine", "--folder", str(folder))
    assert code == 2 and "unknown scale 'mine'; this study has laptop, single-gpu, other" in err


def test_python_m_studies_takes_names() -> None:
    result = subprocess.run([sys.executable, "-m", "studies", "no_such"], cwd=FOLDER.parent, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and "unknown study 'no_such'" in result.stderr
