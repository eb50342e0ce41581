"""What the engine costs over the same step in plain torch, at laptop scale.

    python -m tests.benchmarks.engine [--steps 60]

Both train the same model on the same batches in one process, in turn (A B A B ...), so that a drift of the machine's speed
meets both. The floor is the step's FLOPs (accounting) over the rate of a matrix product measured in the same run.
"""

import statistics
import sys
import time

import numpy as np
import torch

from vitok import accounting, losses
from vitok.config import Recipe, override
from vitok.data.stream import Batch
from vitok.metrics import weights
from vitok.models.tokenizer import Tokenizer
from vitok.study import scales
from vitok.train.engine import Engine, Place
from vitok.train.tokenizer import Stage1


def matmul_rate() -> float:
    """FLOP/s of float32 products of 1024 x 1024 on the threads in use."""
    a = torch.randn(1024, 1024)
    times = []
    for _ in range(12):
        began = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - began)
    return 2 * 1024**3 / min(times)


def compare(recipe: Recipe, steps: int) -> tuple[float, float, float]:
    """Median seconds of a step with the engine and in plain torch, and the median of their ratio pair by pair."""
    scale = scales.laptop({})
    perceptual = weights.lpips(recipe.loss.lpips_network)
    task = Stage1(recipe, Place(), perceptual)
    engine = Engine(task.model, recipe, scale.resources, Place())
    plain = Tokenizer(recipe.tokenizer)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=1e-4, fused=True)
    side = recipe.tokenizer.size
    images = np.random.default_rng(0).integers(0, 256, (recipe.batch_size, side, side, 3), dtype=np.uint8)
    batch = Batch(images, frozenset())

    def with_engine(step: int) -> None:
        engine.update(task.terms(engine, batch, step)["loss"], 1e-3)

    def in_plain_torch(step: int) -> None:
        pixels = losses.to_pixels(torch.from_numpy(images))
        losses.stage1(plain(pixels), pixels, recipe.loss, perceptual)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), recipe.optimizer.clip).item()
        optimizer.step()
        optimizer.zero_grad()

    pairs: list[tuple[float, float]] = []
    for step in range(steps + 5):
        times: list[float] = []
        for run in (with_engine, in_plain_torch) if step % 2 else (in_plain_torch, with_engine):
            began = time.perf_counter()
            run(step)
            times.append(time.perf_counter() - began)
        if step >= 5:
            pairs.append((times[0], times[1]) if step % 2 else (times[1], times[0]))
    ours, theirs = zip(*pairs, strict=True)
    return statistics.median(ours), statistics.median(theirs), statistics.median(a / b for a, b in pairs)


def main() -> None:
    steps = int(sys.argv[sys.argv.index("--steps") + 1]) if "--steps" in sys.argv else 60
    torch.set_num_threads(1)
    rate = matmul_rate()
    print(f"one thread, {rate / 1e9:.0f} GFLOP/s in a matrix product; {steps} pairs of steps")
    print("cell        engine ms  plain ms  ratio  floor ms  of the floor")
    for patch in (8, 4):
        recipe = override(scales.laptop({}).base, {"tokenizer.patch": patch})
        ours, theirs, ratio = compare(recipe, steps)
        floor = accounting.training_flops(recipe) / recipe.steps / rate
        print(f"T-M/{patch} c=16  {ours * 1e3:9.1f}  {theirs * 1e3:8.1f}  {ratio:5.3f}  {floor * 1e3:8.1f}  {floor / ours:11.0%}")


if __name__ == "__main__":
    main()
