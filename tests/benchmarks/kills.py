"""A run of two workers that is killed at random moments beside one that is not: do the curves and the weights differ in a bit?

    python -m tests.benchmarks.kills [--kills 10] [--steps 1000] [--kinds worker driver node drain hang] [--zero 1] [--seed 0]

A Ray cluster on this machine: a head, on which only the driver is, and two nodes. In turn, at a random moment after the last
start: a worker, the driver, the node that holds the workers (SIGKILL); a driver is started again with the same command, a node is
replaced. And, where asked for: that node is drained as an autoscaler does it, and killed ten seconds later; a worker is
stopped (SIGSTOP) and so holds up the other.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

KINDS = ("worker", "driver", "node")
NOTICE = 10  # seconds between a drain and the end of its node


def command(storage: Path, options: Any) -> list[str]:
    code = "from vitok.cli import main; main()"
    changes = {
        "resources.checkpoint_every": "20", "resources.log_every": "1", "resources.zero": str(options.zero), "batch_size": "16",
        "data.pool": "0", "loss.lpips": "0", "resources.hang_minutes": "0.25",
    }  # fmt: skip
    given = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    run = ["train", "tokenizer", "--workers", "2", "--steps", str(options.steps), "--name", "run", "--storage", str(storage), "--json"]
    return [sys.executable, "-c", code, *run, *given]


def curve(storage: Path) -> dict[int, float]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("train")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return {point.step: point.value for point in client.get_metric_history(run.info.run_id, "train/loss")}


def beats(storage: Path, without: set[int]) -> list[dict[str, Any]]:
    """Of ranks in other processes than these."""
    found = []
    for path in (storage / "train" / "run" / "ranks").glob("*.json"):
        try:
            beat = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if beat["pid"] not in without:
            found.append(beat)
    return found


def steps(storage: Path) -> int:
    return max((int(p.name[5:]) for p in (storage / "train" / "run" / "checkpoints").glob("step_*") if not p.suffix), default=0)


def start(storage: Path, options: Any, address: str) -> subprocess.Popen[str]:
    storage.mkdir(exist_ok=True)
    with (storage / "stderr.txt").open("a") as errors:
        return subprocess.Popen(
            command(storage, options), env=os.environ | {"RAY_ADDRESS": address}, stdout=subprocess.PIPE, stderr=errors, text=True
        )


def result(storage: Path, driver: subprocess.Popen[str]) -> dict[str, Any]:
    printed = driver.communicate()[0]
    try:
        return json.loads(printed)
    except ValueError:
        errors = (storage / "stderr.txt").read_text()[-4000:]
        raise SystemExit(f"the run ended with {driver.returncode}; it printed\n{printed}\nand said\n{errors}") from None


def disturbed(storage: Path, options: Any, cluster: Any, nodes: list[Any]) -> dict[str, Any]:
    chance, began = random.Random(options.seed), time.time()
    before: set[int] = set()
    driver = start(storage, options, cluster.address)
    for number in range(options.kills):
        while len(beats(storage, before)) < 2:
            if driver.poll() is not None:
                return result(storage, driver)
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 20))
        if steps(storage) == options.steps:
            print(f"trained before disturbance {number + 1}: take more steps")
            return result(storage, driver)
        kind = options.kinds[number % len(options.kinds)]
        ranks = {beat["rank"]: beat for beat in beats(storage, before)}
        before |= {beat["pid"] for beat in ranks.values()}
        where = f"in step {min(beat['step'] for beat in ranks.values()) + 1}, the last checkpoint is of step {steps(storage)}"
        print(f"{time.time() - began:6.1f} s: {kind}, {where}", flush=True)
        if kind in ("worker", "hang"):
            os.kill(chance.choice(list(ranks.values()))["pid"], signal.SIGKILL if kind == "worker" else signal.SIGSTOP)
        elif kind == "driver":
            driver.kill()
            driver.wait()
            driver = start(storage, options, cluster.address)
        else:
            replace(cluster, nodes, ranks[0]["pid"], drained=kind == "drain")
    return result(storage, driver)


def replace(cluster: Any, nodes: list[Any], pid: int, drained: bool) -> None:
    """End the node that holds a process, and give the cluster another."""
    raylet = psutil.Process(pid).ppid()
    (node,) = (node for node in nodes if node.all_processes["raylet"][0].process.pid == raylet)
    if drained:
        reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", str(NOTICE)]
        subprocess.run(["ray", "drain-node", "--address", cluster.address, "--node-id", node.node_id, *reason], check=True)
        time.sleep(NOTICE)
    cluster.remove_node(node, allow_graceful=False)
    nodes[nodes.index(node)] = cluster.add_node(num_cpus=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", choices=(*KINDS, "drain", "hang"), default=KINDS)
    parser.add_argument("--zero", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from ray.cluster_utils import Cluster
    from safetensors.torch import load_file

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            whole, cut = Path(folder, "whole"), Path(folder, "cut")
            began = time.time()
            first = result(whole, start(whole, options, cluster.address))
            print(f"undisturbed: {time.time() - began:.0f} s, rPSNR {first['rPSNR']:.4f}", flush=True)
            began = time.time()
            second = disturbed(cut, options, cluster, nodes)
            print(f"killed {options.kills} times: {time.time() - began:.0f} s, rPSNR {second['rPSNR']:.4f}")
            ours, theirs = curve(cut), curve(whole)
            different = [step for step in theirs if ours.get(step) != theirs[step]]
            told = re.findall(r"^\[\d+:\d+\] (?!step \d+/)(.*)", (cut / "stderr.txt").read_text(), re.MULTILINE)
            print("".join(f"  {news}\n" for news in told), end="")
            print(f"points of the curve: {len(theirs)}, of them different: {len(different)} {different[:3] or ''}")
            a, b = (load_file(result["weights"]) for result in (first, second))
            print(f"weights: {len(a)} tensors, of them different: {sum(not a[name].equal(b[name]) for name in a)}")
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
