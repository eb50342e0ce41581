"""Commands and their bad input: one clear line, the right exit code, no traceback."""

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import STUDY
from vitok import __version__, cli

VITOK = [sys.executable, "-c", "from vitok.cli import main; main()"]
E_SWEEP = [sys.executable, str(STUDY)]


def call(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, env=os.environ | environment, timeout=120)


def in_process(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command, or a study's file, in this process. Gives its exit code."""
    with pytest.raises(SystemExit) as ended:
        if arguments[:3] == VITOK:
            monkeypatch.setattr(sys, "argv", ["vitok", *arguments[3:]])
            cli.main()
        else:
            monkeypatch.setattr(sys, "argv", arguments[1:])
            runpy.run_path(arguments[1], run_name="__main__")
    return ended.value.code


def info(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["vitok", "info", *arguments, "--json"])
    cli.main()
    return json.loads(capsys.readouterr().out)


def test_info_prints_the_papers_figures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    row = info(monkeypatch, capsys, "S-B/16", "--channels", "16", "--size", "256")
    assert (row["tokens"], row["E"], row["compression"], row["params_m"], row["gmacs"]) == (256, 4096, 48.0, 128.976, 34.776)
    video = info(monkeypatch, capsys, "S-B/4x8", "--channels", "16", "--size", "128", "--frames", "16")
    assert (video["tokens"], video["gmacs"]) == (1024, 160.846)
    latent = info(monkeypatch, capsys, "S-B/16+L64", "--channels", "16")
    assert (latent["variant"], latent["tokens"], latent["E"], latent["compression"]) == ("S-B/16+L64", 64, 1024, 192.0)
    assert latent["gmacs"] > row["gmacs"] and latent["params_m"] == pytest.approx(row["params_m"] + 65 * 768 / 1e6, abs=1e-3)


def test_it_says_which_vitok_it_is(call_vitok: Callable[..., tuple[int, str, str]]) -> None:
    assert call_vitok("--version") == (0, f"vitok {__version__}\n", "")
    assert "--version" in call_vitok("--help")[1]


def test_the_size_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in info(monkeypatch, capsys, "--sizes")}
    assert rows["L"] == {"name": "L", "width": 1152, "blocks": 24, "heads": 16, "params_m": 383.702, "gmacs": 101.767}
    assert rows["DiT-L"] == {"name": "DiT-L", "width": 1024, "blocks": 24, "heads": 16, "params_m": 458.177, "gmacs": 80.858}
    assert list(rows)[-7:] == ["DiT-N", "DiT-T", "DiT-M", "DiT-S", "DiT-B", "DiT-L", "DiT-XL"]


def test_info_of_a_generator(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """DiT-XL of 1000 classes on 256 tokens is printed as 675 M and 118.64 Gflops, which are multiply-adds without LayerNorm's."""
    row = info(monkeypatch, capsys, "DiT-XL/S-B/16", "--channels", "16", "--size", "256", "--classes", "1000")
    assert row == {
        "variant": "DiT-XL/S-B/16", "channels": 16, "size": 256, "frames": 1, "tokens": 256, "E": 4096, "classes": 1000,
        "params_m": 674.763, "gmacs": 118.701, "training_gflops": 712.205,
    }  # fmt: skip
    video = info(monkeypatch, capsys, "DiT-L/S-B/4x8", "--channels", "16", "--size", "128", "--frames", "16", "--classes", "0")
    assert (video["variant"], video["tokens"], video["E"], video["classes"]) == ("DiT-L/S-B/4x8", 1024, 16384, 0)


def test_plan_starts_nothing_and_needs_no_storage(tmp_path: Path) -> None:
    planned = json.loads(call([*E_SWEEP, "plan", "--json", "--scale", "paper"], VITOK_STORAGE=str(tmp_path / "none")).stdout)
    assert (len(planned["cells"]), planned["workers_per_trial"]) == (15, 8)
    assert not (tmp_path / "none").exists()


def test_help_and_plan_import_neither_torch_nor_ray() -> None:
    for arguments in (["--help"], ["plan"]):
        script = (
            f"import runpy, sys; sys.argv = [{str(STUDY)!r}, *{arguments!r}]\n"
            f"try: runpy.run_path({str(STUDY)!r}, run_name='__main__')\nexcept SystemExit: pass\n"
            "print('LOADED', sorted({'torch', 'ray', 'mlflow', 'matplotlib', 'scipy'} & set(sys.modules)))"
        )
        result = call([sys.executable, "-c", script])
        assert "LOADED []" in result.stdout, result.stdout[-300:] + result.stderr[-2000:]


def test_weights_are_listed_and_verified(call_vitok: Callable[..., tuple[int, str, str]]) -> None:
    rows = json.loads(call_vitok("weights", "list", "--json")[1])
    assert {"fid-inception", "i3d", "efficientnet-lite0", "dinov2-vitl14", "lpips-alexnet", "lpips-vgg16"} == {row["name"] for row in rows}
    code, shown, _ = call_vitok("weights", "fetch", "lpips-alexnet")
    assert code == 0 and "verified" in shown
    assert "is right" in call_vitok("weights", "verify")[1]


def test_verify_finds_a_wrong_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call_vitok: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "lpips-alexnet.safetensors").write_bytes(b"x" * 100)
    monkeypatch.setenv("VITOK_WEIGHTS_DIR", str(tmp_path))
    code, _, shown = call_vitok("weights", "verify")
    assert code == 1
    assert "lpips-alexnet.safetensors" in shown and "Traceback" not in shown


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([*VITOK, "info", "Q-B/16", "--channels", "16"], 2, ["'Q-B/16'", "ENCODER-DECODER/PATCH"]),
        ([*VITOK, "info", "S-B/16", "--channels", "0"], 2, ["channels = 0"]),
        ([*VITOK, "info", "S-B/16", "--channels", "16", "--size", "100"], 2, ["100", "16"]),
        ([*VITOK, "info", "S-B/4x8", "--channels", "16", "--size", "128", "--frames", "6"], 2, ["6 frame(s)", "4"]),
        ([*VITOK, "info", "S-B/16"], 2, ["--channels"]),
        ([*VITOK, "info"], 2, ["S-B/16", "DiT-L/S-B/16", "--sizes"]),
        ([*VITOK, "info", "DiT-Q/S-B/16", "--channels", "16"], 2, ["'DiT-Q'", "DiT-S, DiT-B, DiT-L, DiT-XL"]),
        ([*VITOK, "info", "DiT-L", "--channels", "16"], 2, ["DiT-L/S-B/16"]),
        ([*VITOK, "info", "DiT-L/S-B", "--channels", "16"], 2, ["'S-B'", "ENCODER-DECODER/PATCH"]),
        ([*VITOK, "info", "DiT-L/S-B/16"], 2, ["--channels"]),
        ([*VITOK, "info", "DiT-L/S-B/16", "--channels", "16", "--classes", "-1"], 2, ["--classes -1"]),
        ([*VITOK, "weights", "fetch", "inception"], 2, ["'inception'", "lpips-alexnet"]),
        ([*VITOK, "weights", "import", "i3d", "pyproject.toml"], 1, ["pyproject.toml is not i3d", "bec6519f66ea534e"]),
        ([*VITOK, "eval"], 2, ["none was given", "--codec"]),
        ([*VITOK, "eval", "somewhere", "--codec", "jpeg", "--bits", "9"], 2, ["CHECKPOINT and --codec was given"]),
        ([*VITOK, "eval", "--codec", "jpeg"], 2, ["--bits"]),
        ([*VITOK, "eval", "--codec", "jpeg", "--bits", "9", "--metrics", "psnr,ssim,fod"], 2, ["'fod'", "rFID"]),
        ([*VITOK, "eval", "--codec", "jpeg", "--bits", "9", "--metrics", "gfid"], 2, ["gFID is not of reconstructions"]),
        ([*VITOK, "eval", "--generated", "no/such/folder", "--metrics", "psnr"], 2, ["rPSNR is not of generated samples"]),
        ([*VITOK, "eval", "--codec", "jpeg", "--bits", "9", "--reference", "no.npz"], 2, ["--reference no.npz: there is no such file"]),
        ([*VITOK, "eval", "--codec", "jpeg", "--bits", "9", "--tokens", "32"], 2, ["--tokens 32", "nested", "run"]),
        ([*VITOK, "eval", "no/such/run"], 2, ["CHECKPOINT no/such/run", "tokenizer.safetensors"]),
        ([*VITOK, "eval", "--codec", "jpeg", "--bits", "9", "--size", "0"], 2, ["--size 0"]),
        ([*VITOK, "eval", "--codec", "jpeg", "--bits", "9", "--metrics", "rfvd"], 1, ["no weights for i3d", "vitok weights import i3d"]),
        ([*E_SWEEP, "plan", "--set", "resources.metrics=rPSNR,FIDD"], 2, ["'FIDD'", "rFID"]),
        ([*E_SWEEP, "run", "--set", "stepz=3"], 2, ["'stepz'", "steps"]),
        ([*E_SWEEP, "plan", "--set", "steps"], 2, ["'steps'", "KEY=VALUE"]),
        ([*E_SWEEP, "--set", "grid.tokenizer.channels=0"], 2, ["channels", "'0'"]),
        ([*E_SWEEP, "--scale", "huge"], 2, ["'huge'", "laptop"]),
        ([*E_SWEEP, "--corpus", "no/such/folder"], 2, ["'no/such/folder'", "sample-photos"]),
        ([*E_SWEEP, "--storage", "/dev/null/here"], 1, ["/dev/null/here", "VITOK_STORAGE"]),
        ([*E_SWEEP, "plan", "--seeds", "1", "1"], 2, ["1 1"]),
        ([*E_SWEEP, "plan", "--seeds", "9223372036854775808"], 2, ["--seeds 9223372036854775808: a seed is a whole number from 0 to"]),
        ([*E_SWEEP, "plan", "--set", "optimizer.lr=inf"], 2, ["optimizer.lr = 'inf'", "finite"]),
        ([*E_SWEEP, "plan", "--set", "tokenizer.size=8"], 2, ["tokenizer.size 8 is too small for LPIPS on alexnet, which needs 31"]),
        ([*E_SWEEP, "plan", "--set", "tokenizer.size=24", "--set", "loss.lpips=0"], 2, ["LPIPS needs pictures of 31 pixels"]),
    ],
    ids=lambda value: " ".join(value[-3:]) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line(
    arguments: list[str], code: int, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the command or the study's file is run, in this process."""
    monkeypatch.setenv("VITOK_STORAGE", str(tmp_path))
    ended = in_process(arguments, monkeypatch)
    shown = capsys.readouterr().err
    assert ended == code, shown
    assert [word for word in words if word not in shown] == []
    assert "Traceback" not in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [("resources.cpus_per_worker=999", " CPU, this machine offers"),
     ("batch_size=4000000", "a step of batch_size 4000000 needs about"),
     ("data.pool=900000000", "data.pool = 900000000 samples take 2,765 GB decoded, this machine has")],
)  # fmt: skip
@pytest.mark.parametrize("command", [E_SWEEP, [*VITOK, "train", "tokenizer", "--workers", "2"]], ids=["study", "run"])
def test_what_this_machine_cannot_hold_is_told_before_ray_is_started(
    change: str, words: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VITOK_STORAGE", str(tmp_path))
    monkeypatch.setattr("vitok.orchestration.session.connect", lambda storage: pytest.fail("Ray was started"))
    assert in_process([*command, "--set", change], monkeypatch) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and words in last


def test_an_error_of_a_process_is_one_line(tmp_path: Path) -> None:
    """From outside: exit codes and stderr, of the command and of a study's file."""
    for command, code in (([*VITOK, "eval", "--codec", "jpeg"], 2), ([*E_SWEEP, "--storage", "/dev/null/here"], 1)):
        result = call(command, VITOK_STORAGE=str(tmp_path))
        assert result.returncode == code and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr


def test_an_absent_mlflow_server_is_one_line(tmp_path: Path) -> None:
    result = call([*E_SWEEP], VITOK_STORAGE=str(tmp_path), MLFLOW_TRACKING_URI="http://user:secret@127.0.0.1:9")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: MLflow at http://***@127.0.0.1:9") and "MLFLOW_TRACKING_URI" in last
    assert "secret" not in result.stderr and "Traceback" not in result.stderr


def test_an_absent_cluster_is_one_line(tmp_path: Path) -> None:
    for command in ([*E_SWEEP], [*VITOK, "eval", "--codec", "jpeg", "--bits", "9000", "--size", "32", "--metrics", "psnr"]):
        result = call(command, VITOK_STORAGE=str(tmp_path), RAY_ADDRESS="127.0.0.1:9")
        assert result.returncode == 1 and "Traceback" not in result.stderr
        assert result.stderr.strip().splitlines()[-1].startswith("error: no Ray cluster answers at RAY_ADDRESS 127.0.0.1:9")


def test_an_empty_storage_has_nothing_to_report(tmp_path: Path) -> None:
    result = call([*E_SWEEP, "report", "--storage", str(tmp_path)])
    assert result.returncode == 1
    assert "no finished cell" in result.stderr
