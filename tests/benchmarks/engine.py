"""What a training step costs over the same step in plain torch, with the compute floor by term.

    python -m tests.benchmarks.engine laptop [--pairs 60]
    python -m tests.benchmarks.engine paper [--pairs 8] [--batch 4] [--device cuda]

`laptop` is the laptop's recipe on one thread; `paper` S-B/16 at 256 pixels in bf16, beside torch's DDP, on all threads or a GPU.
Both train the same modules on the same batches in one process, in turn (A B A B ...), so that a drift of the machine's speed
meets both. The floor is the step's FLOPs (accounting) over the rate of a matrix product measured in the same run.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from vitok import losses
from vitok.config import Loss, Recipe, Resources
from vitok.config.overrides import override
from vitok.config.variants import tokenizer
from vitok.costs import flops
from vitok.data.loading.loader import Batch
from vitok.models.blocks import configure_blocks
from vitok.models.lpips import LPIPS
from vitok.models.tokenizer import Tokenizer
from vitok.networks import weights
from vitok.study import presets
from vitok.train.engine.deepspeed import autocast, init_deepspeed
from vitok.train.ranks import Place
from vitok.train.reliability.timer import peak_flops
from vitok.train.tasks.tokenizer import Stage1


def ours(recipe: Recipe, resources: Resources, batch: Batch, perceptual: LPIPS, place: Place) -> Callable[[int], None]:
    """The step of the training loop: forward, backward, clipping, AdamW, under DeepSpeed."""
    source: Any = None  # nothing is evaluated
    judge: Any = None
    task = Stage1(recipe, resources, place, source, perceptual, judge, None, None)
    inputs = task.prepare(batch, 0)

    def step(number: int) -> None:
        float(task.backward(inputs, number)["loss"])
        task.engine.step(1e-4)

    return step


def plain(recipe: Recipe, resources: Resources, batch: Batch, perceptual: LPIPS, place: Place, distributed: bool) -> Callable[[int], None]:
    """What a user would write instead."""
    model: torch.nn.Module = Tokenizer(recipe.tokenizer).to(place.device)
    configure_blocks(model, recompute=0.0, compiled=resources.compile)
    model = DistributedDataParallel(model) if distributed else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=1e-4, fused=True)
    images = torch.from_numpy(batch.images)

    def step(_: int) -> None:
        pixels = losses.to_pixels(images.to(place.device, non_blocking=True))
        with autocast(place.device, recipe.precision):
            output = model(pixels)
        loss = losses.stage1_loss(output, pixels, recipe.loss, perceptual)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.clip).item()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return step


def compare(recipe: Recipe, resources: Resources, pairs: int, place: Place, distributed: bool) -> tuple[float, float, float]:
    """Median seconds of a step of ours and of plain torch, and the median of their ratio pair by pair."""
    perceptual = weights.load_lpips(recipe.loss.lpips_network).to(place.device)
    side = recipe.tokenizer.size
    batch = Batch(np.random.default_rng(0).integers(0, 256, (recipe.batch_size, side, side, 3), dtype=np.uint8), frozenset())
    steps = (ours(recipe, resources, batch, perceptual, place), plain(recipe, resources, batch, perceptual, place, distributed))
    found: list[tuple[float, float]] = []
    warm = 1 if pairs < 10 else 5
    for number in range(pairs + warm):
        times = [0.0, 0.0]
        for which in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            steps[which](number)
            times[which] = time.perf_counter() - began
        if number >= warm:
            found.append((times[0], times[1]))
    mine, theirs = zip(*found, strict=True)
    return statistics.median(mine), statistics.median(theirs), statistics.median(a / b for a, b in found)


def terms(recipe: Recipe, rate: float) -> str:
    """Seconds of the floor by term."""
    macs = flops.step_macs(recipe)
    return ", ".join(
        f"{name} {2 * value * recipe.batch_size / 1e9:.0f} GFLOP {2 * value * recipe.batch_size / rate:.3g} s"
        for name, value in macs.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("which", nargs="?", choices=("laptop", "paper"), default="laptop")
    parser.add_argument("--pairs", type=int, help="of steps, in turn; 60 on a laptop, 8 of the paper's")
    parser.add_argument("--batch", type=int, default=4, help="samples a step of the paper's; the laptop has 16")
    parser.add_argument("--device", default="cpu", help="cuda: blocks compiled, also in plain torch; the floor is then NVIDIA's peak")
    options = parser.parse_args()
    which, pairs = options.which, options.pairs or {"laptop": 60, "paper": 8}[options.which]
    if which == "laptop":
        torch.set_num_threads(1)
        cases = {f"T-M/{p} c=16": override(presets.laptop({}).base, {"tokenizer.patch": p}) for p in (8, 4)}
        settings = {"zero 0": presets.laptop({}).resources}
    else:
        cases = {"S-B/16 c=16": Recipe(tokenizer=tokenizer("S-B/16", channels=16, size=256), batch_size=options.batch, loss=Loss())}
        settings = {f"zero {stage}": Resources(zero=stage, tflops=1, utilisation=1) for stage in (0, 1)}
    place = Place(device=torch.device(options.device))
    init_deepspeed(place)
    rate = peak_flops(place.device, next(iter(cases.values())).precision)
    print(f"{place.device}, {torch.get_num_threads()} thread(s), peak {rate / 1e9:.0f} GFLOP/s; {pairs} pairs of steps")
    print("cell         setting  ours s  plain s  ratio  floor s  of the floor  images/s")
    for name, recipe in cases.items():
        assert isinstance(recipe, Recipe)
        for setting, resources in settings.items():
            resources = override(resources, {"compile": options.device != "cpu"})
            a, b, ratio = compare(recipe, resources, pairs, place, which == "paper")
            floor = flops.step_flops(recipe) / rate
            print(
                f"{name:12} {setting}  {a:7.4f}  {b:7.4f}  {ratio:5.3f}  {floor:7.4f}  {floor / a:12.0%}  {recipe.batch_size / a:8.1f}",
                flush=True,
            )
        print(f"  {terms(recipe, rate)}")


if __name__ == "__main__":
    main()
