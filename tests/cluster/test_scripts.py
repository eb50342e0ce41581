"""The scripts run, with stand-ins for Slurm's commands and Ray's: order, token, signals, exit codes, tear-down."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STANDINS = {
    "scontrol": '[ "$1" = show ] && echo localhost; exit 0',
    "srun": "exec sleep 300",
    "ray": '[ "$1" = status ] && exit "${STATUS:-0}"; exit 0',
    "sleep": '[ "$1" = 2 ] || exec /bin/sleep "$@"',  # no wait between two looks at a head that does not come
}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of an allocation of two nodes; what was called is in tmp_path/log."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, script in STANDINS.items():
        (commands / name).write_text(f'#!/bin/bash\necho "{name} $*" >> {tmp_path}/log\n{script}\n')
        (commands / name).chmod(0o755)
    (tmp_path / "submitted").mkdir()
    return os.environ | {
        "PATH": f"{commands}:{os.environ['PATH']}", "SLURM_JOB_ID": "12077", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NNODES": "2",
        "SLURM_SUBMIT_DIR": str(tmp_path / "submitted"), "SLURM_CPUS_ON_NODE": "192", "SLURM_GPUS_ON_NODE": "8",
    }  # fmt: skip


def submit(environment: dict[str, str], *command: str) -> subprocess.Popen[str]:
    script = ["bash", str(ROOT / "clusters/slurm.sbatch"), *command]
    return subprocess.Popen(script, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def calls(tmp_path: Path) -> str:
    return (tmp_path / "log").read_text()


def test_a_study_on_an_allocation(slurm: dict[str, str], tmp_path: Path) -> None:
    begun = f"until [ $(grep -c ^srun {tmp_path}/log) = 2 ]; do /bin/sleep 0.1; done"  # they start in the background
    looks = 'stat -c %a "$RAY_AUTH_TOKEN_PATH"; wc -c < "$RAY_AUTH_TOKEN_PATH"; echo $RAY_ADDRESS; exit 3'
    study = submit(slurm, "bash", "-c", f"{begun}; {looks}")
    shown, errors = study.communicate(timeout=60)
    assert study.returncode == 3, errors
    mode, size, address = shown.split()
    assert (mode, size, address.rpartition(":")[2]) == ("600", "64", "22077")
    called = calls(tmp_path)
    assert '--port=22077 --num-cpus=0 --num-gpus=0 --object-store-memory=2000000000 --resources={"trial_slot": 16}' in called
    assert f"--ntasks-per-node=1 ray start --block --address={address} --num-cpus=190 --num-gpus=8" in called
    assert "requeue" not in called and not list((tmp_path / "submitted").iterdir())  # nor is the token there any more


def test_before_its_end_the_study_is_asked_to_stop_and_comes_back(slurm: dict[str, str], tmp_path: Path) -> None:
    loop = 'trap "echo asked; sleep 1; echo checkpoint; exit 0" TERM; echo > {}/begun; while :; do /bin/sleep 0.1; done'
    study = submit(slurm, "bash", "-c", loop.format(tmp_path))
    until = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < until:
        time.sleep(0.1)
    os.kill(study.pid, signal.SIGTERM)  # B: to the script alone
    shown, errors = study.communicate(timeout=60)
    assert (study.returncode, shown) == (0, "asked\ncheckpoint\n"), errors
    assert calls(tmp_path).splitlines()[-1] == "scontrol requeue 12077"
    assert not list((tmp_path / "submitted").iterdir())


def test_a_head_that_does_not_start_is_said(slurm: dict[str, str], tmp_path: Path) -> None:
    study = submit(slurm | {"STATUS": "1"}, "touch", str(tmp_path / "begun"))
    _, errors = study.communicate(timeout=120)
    assert study.returncode == 1 and errors == "Ray's head did not start on localhost\n"
    assert not (tmp_path / "begun").exists() and not list((tmp_path / "submitted").iterdir())


def test_one_machine(slurm: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(["bash", str(ROOT / "clusters/one-machine.sh")], env=slurm, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, second = calls(tmp_path).splitlines()
    assert first == "ray get-auth-token --generate"
    assert "--dashboard-host=127.0.0.1" in second
    store = int(second.partition("--object-store-memory=")[2].split()[0])
    shm = os.statvfs("/dev/shm")
    assert 0 < store <= shm.f_bavail * shm.f_frsize * 1.05
