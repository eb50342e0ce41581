"""What a one-worker trial costs beyond its training, beside a bare Tune trial that only imports torch.

    python -m tests.benchmarks.trial_start [--rounds 3]

Bare and own in turn, three trials each, one at a time in one reused process: seconds from the birth of the process to the
end of the first trial, and from start to end of the later ones; own ones less their training and evaluation.
"""

import logging
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any


class Quiet:
    """A recorder that keeps nothing: MLflow is not what is measured."""

    def log(self, *_: Any) -> None: ...
    def flush(self) -> None: ...
    def finish(self, *_: Any) -> None: ...


def bare(config: dict[str, Any]) -> dict[str, float]:
    import time

    arrived = time.time()
    import psutil
    import torch  # noqa: F401  # pyright: ignore[reportUnusedImport]

    return {"spent": time.time() - (psutil.Process().create_time() if config["n"] == 0 else arrived)}


def own(config: dict[str, Any], **shared: Any) -> dict[str, float]:
    import time

    arrived = time.time()
    import psutil

    from vitok.orchestration.trial import run_trial

    values = run_trial(config, **shared)
    began = psutil.Process().create_time() if config["n"] == 0 else arrived
    return {"spent": time.time() - began - values["train_seconds"] - values["evaluate_seconds"]}


def costs(trainable: Any, grid: list[dict[str, Any]], folder: Path) -> list[float]:
    from ray import tune

    tuner = tune.Tuner(
        tune.with_resources(trainable, {"CPU": 1}), param_space={"case": tune.grid_search(grid)},
        tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(name="bench", storage_path=str(folder), verbose=0),
    )  # fmt: skip
    return [(result.metrics or {})["spent"] for result in tuner.fit()]


def main() -> None:
    rounds = int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else 3
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    import ray
    from ray import tune

    from vitok.config import Recipe
    from vitok.config.overrides import override
    from vitok.data.corpora.corpus import open_corpora
    from vitok.data.loading.loader import prepare_source
    from vitok.evaluation.available import payloads
    from vitok.metrics.registry import find_metrics
    from vitok.study import presets

    ray.init(address="local", logging_level=logging.ERROR, log_to_driver=False)
    base = presets.laptop({}).base
    assert isinstance(base, Recipe)
    recipe = override(base, {"steps": 10, "data.pool": 64, "data.validation_crops": 2})
    shared = {
        "sources": {"all": prepare_source(open_corpora("sample-photos"), recipe.data, recipe.tokenizer.size)},
        "weights": payloads(find_metrics(presets.laptop({}).resources.metrics)), "statistics": str(Path(tempfile.mkdtemp())),
        "recorder": ray.remote(num_cpus=0)(Quiet).remote(), "resources": presets.laptop({}).resources,
    }  # fmt: skip
    print("round  bare first  bare later  own first  own later  ratio of firsts", flush=True)
    ratios: list[float] = []
    for turn in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            cells = [
                {"recipe": recipe.model_dump(mode="json"), "run_id": "", "folder": str(folder / f"cell{n}"), "samples": "all"}
                for n in range(3)
            ]
            plain = costs(lambda config: bare(config["case"]), [{"n": n} for n in range(3)], folder)
            ours = costs(
                tune.with_parameters(lambda config, **rest: own(config["case"], **rest), **shared),
                [{"n": n, "cell": cell} for n, cell in enumerate(cells)], folder,
            )  # fmt: skip
        ratios.append(ours[0] / plain[0])
        print(f"{turn:5d}  {plain[0]:10.2f}  {statistics.median(plain[1:]):10.3f}  {ours[0]:9.2f}  "
              f"{statistics.median(ours[1:]):9.3f}  {ratios[-1]:15.2f}", flush=True)  # fmt: skip
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
