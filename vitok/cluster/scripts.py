"""Shell scripts that start Ray: on a Slurm allocation, on one machine."""

import json
import re
import subprocess

from vitok.cluster import named
from vitok.cluster.commands import starts
from vitok.cluster.problem import Problem
from vitok.config.resources import TRIAL_SLOT


def problems(text: str) -> list[Problem]:
    """Return all that is wrong with a script in bash; nothing of it is run."""
    syntax = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, timeout=30)
    found = [Problem("", f"bash: {syntax.stderr.strip().splitlines()[0]}")] if syntax.returncode else []
    begun = starts(text)
    heads = [start for start in begun if "head" in start]
    workers = [start for start in begun if "head" not in start]
    if len(heads) != 1:
        return [*found, Problem("", f"{len(heads)} times `ray start --head`: a cluster has one head")]
    found += _head(heads[0], alone=not workers)
    for start in begun:
        if "object-store-memory" not in start:
            found.append(
                Problem("ray start", "--object-store-memory is not said: Ray takes 30 % of the memory, and /dev/shm may hold less")
            )
    if not re.search(r"^\s*(export\s+)?[^#\n]*\bRAY_AUTH_MODE=token\b", text, re.MULTILINE):
        found.append(Problem("RAY_AUTH_MODE", "token authentication is off: export RAY_AUTH_MODE=token"))
    if not re.search(r"^\s*umask 0?77\b", text, re.MULTILINE):
        found.append(Problem("umask", "other users of the machine could read the token: umask 077 before it is made"))
    for number, line in enumerate(text.splitlines(), 1):
        for name, value in re.findall(
            r"(?:^|\s)(?:export\s+)?([A-Za-z_]\w*)=(['\"]?[^\s'\"]*)", "" if line.lstrip().startswith("#") else line
        ):
            found += named.secret(name, value.strip("'\""), f"line {number}")
    if re.search(r"^#SBATCH", text, re.MULTILINE):
        found += _slurm(text)
    return found


def _head(start: dict[str, str], alone: bool) -> list[Problem]:
    found: list[Problem] = []
    where = "ray start --head"
    if start.get("dashboard-host") not in named.LOOPBACK:
        says = start.get("dashboard-host", "not said")
        found.append(Problem(where, f"the dashboard must listen on this machine alone: --dashboard-host=127.0.0.1, it is {says}"))
    if not alone and start.get("num-cpus") != "0":
        says = start.get("num-cpus", "Ray counts them itself")
        found.append(Problem(where, f"the head must offer 0 CPUs, so that no training runs beside Ray's own: --num-cpus=0, it is: {says}"))
    try:
        slots = json.loads(start.get("resources", "{}")).get(TRIAL_SLOT, 0)
    except (ValueError, AttributeError):
        return [*found, Problem(where, f"--resources is not JSON: {start['resources'][:60]!r}")]
    if not slots:
        found.append(Problem(where, f"""the head offers no {TRIAL_SLOT}: --resources='{{"{TRIAL_SLOT}": 16}}'"""))
    return found


def _slurm(text: str) -> list[Problem]:
    options = dict(re.findall(r"^#SBATCH\s+--([a-z-]+)(?:=(\S+))?", text, re.MULTILINE))
    found: list[Problem] = []
    if not re.fullmatch(r"B:(SIG)?TERM@\d+", options.get("signal", "")):
        found.append(Problem("#SBATCH --signal", "no notice before the end of the time: --signal=B:TERM@120, for a last checkpoint"))
    if "requeue" not in options:
        found.append(Problem("#SBATCH --requeue", "missing: a job whose node fails, or whose time is over, would not come back"))
    if "time" not in options:
        found.append(Problem("#SBATCH --time", "missing: an allocation without an end is paid without an end"))
    if not re.search(r"^\s*trap\s+\S+.*\bEXIT\b", text, re.MULTILINE):
        found.append(Problem("trap", "nothing stops Ray when the script ends: trap ... EXIT"))
    return found
