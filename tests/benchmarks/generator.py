"""What a generator costs: a training step beside plain torch, sampling by batch, and what an H100 should reach.

    python -m tests.benchmarks.generator step [--pairs 40] [--device cuda]
    python -m tests.benchmarks.generator sampling [--device cuda]
    python -m tests.benchmarks.generator h100

`step` trains the same DiT on the same latents in one process, in turn (A B A B ...): our task under DeepSpeed; and what a user would
write, after DiT's own training script: AdamW, a clipped gradient, averaged weights parameter by parameter. `sampling` draws with
guidance at growing batches, in one doubled pass as we do and in two passes. The floor is the FLOPs (accounting) over the rate of a
matrix product measured in the same run. `h100` is arithmetic.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vitok import diffusion
from vitok.config import Generation, Latents, Resources, variants
from vitok.config.overrides import override
from vitok.costs import flops as accounting
from vitok.data.latents.dataset import LatentSet
from vitok.data.latents.loader import LatentBatch, LatentSource
from vitok.models.blocks import configure_blocks
from vitok.models.bottleneck import Posterior
from vitok.models.dit import DiT
from vitok.runtime import compute_here
from vitok.study import presets
from vitok.train.engine.deepspeed import autocast, init_deepspeed
from vitok.train.ranks import Place
from vitok.train.reliability.timer import peak_flops
from vitok.train.tasks.dit import DiTTask

CLASSES = 12


def latents(recipe: Generation) -> LatentSet:
    """As far as a step looks at it."""
    cfg = recipe.tokenizer.tokenizer
    return LatentSet(
        "", "", "", "", "", Latents(), cfg.size, cfg.frames, cfg.code, cfg.channels, 64, 1, 1, 1, tuple(map(str, range(CLASSES))),
        (1,) * CLASSES, (0.1,) * cfg.channels, (0.9,) * cfg.channels, (), (),
    )  # fmt: skip


def ours(recipe: Generation, resources: Resources, batch: LatentBatch, place: Place) -> Callable[[int], None]:
    judge: Any = None  # nothing is measured
    task = DiTTask(recipe, resources, place, LatentSource(latents(recipe)), judge, {}, None)
    inputs = task.prepare(batch, 0)

    def step(number: int) -> None:
        float(task.backward(inputs, number)["loss"])
        task.engine.step(1e-4)

    return step


def plain(recipe: Generation, resources: Resources, batch: LatentBatch, place: Place) -> Callable[[int], None]:
    cfg, learnt = recipe.tokenizer.tokenizer, diffusion.build_objective(recipe.diffusion)
    model = DiT(recipe.dit, cfg.channels, cfg.code, CLASSES).to(place.device)
    configure_blocks(model, 0.0, resources.compile)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0, fused=True)
    parts = [torch.from_numpy(part) for part in (batch.mean, batch.log_variance)]
    labels = torch.from_numpy(batch.labels).long()

    def step(_: int) -> None:
        mean, log_variance = (part.to(place.device, non_blocking=True).float() for part in parts)
        sample = (Posterior(mean, log_variance).sample() - 0.1) / 0.9
        pair = learnt.pair(sample, torch.randn_like(sample), torch.rand(len(sample), device=place.device))
        hidden = torch.rand(len(sample), device=place.device) < recipe.diffusion.label_dropout
        with autocast(place.device, recipe.precision):
            predicted = model(pair.noised, pair.times, labels.to(place.device).masked_fill(hidden, CLASSES))
        loss = (predicted.float() - pair.target).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.clip).item()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for mine, theirs in zip(average.parameters(), model.parameters(), strict=True):
                mine.mul_(recipe.ema).add_(theirs, alpha=1 - recipe.ema)
        loss.item()

    return step


def steps(recipe: Generation, resources: Resources, pairs: int, place: Place) -> tuple[float, float, float]:
    """Median seconds of a step of ours and of plain torch, and the median of their ratio pair by pair."""
    cfg, rng = recipe.tokenizer.tokenizer, np.random.default_rng(0)
    shape = (recipe.batch_size, cfg.tokens, cfg.channels)
    mean, noise = (rng.standard_normal(shape).astype(np.float16) for _ in range(2))
    batch = LatentBatch(mean, noise - 3, rng.integers(0, CLASSES, recipe.batch_size).astype(np.int32))
    both = (ours(recipe, resources, batch, place), plain(recipe, resources, batch, place))
    found: list[tuple[float, float]] = []
    for number in range(pairs + 5):
        times = [0.0, 0.0]
        for which in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            both[which](number)
            times[which] = time.perf_counter() - began
        if number >= 5:
            found.append((times[0], times[1]))
    mine, theirs = zip(*found, strict=True)
    return statistics.median(mine), statistics.median(theirs), statistics.median(a / b for a, b in found)


def step_table(place: Place, pairs: int) -> None:
    gpu = place.device.type == "cuda"
    base = presets.laptop_generation({}).base
    assert isinstance(base, Generation)
    sizes = {"DiT-T, 16 tokens": base, "DiT-T, 64 tokens": override(base, {"tokenizer.tokenizer.patch": 4})}
    if gpu:
        paper = presets.paper_generation({}).base
        sizes = {
            f"{name}, 256 tokens": override(paper.model_copy(update={"dit": variants.dit(name)}), {"batch_size": 32})
            for name in ("DiT-L", "DiT-XL")
        }
    rate = peak_flops(place.device, next(iter(sizes.values())).precision)
    print(f"{place.device}, {torch.get_num_threads()} thread(s), peak {rate / 1e9:.0f} GFLOP/s; {pairs} pairs of steps")
    print("generator          batch  zero  ours s  plain s  ratio  floor s  of the floor  samples/s")
    for name, recipe in sizes.items():
        assert isinstance(recipe, Generation)
        for zero in (0, 1):
            resources = Resources(zero=zero, compile=gpu, gpus_per_worker=int(gpu), tflops=1, utilisation=1)
            a, b, ratio = steps(recipe, resources, pairs, place)
            floor = accounting.step_flops(recipe) / rate
            print(
                f"{name:17} {recipe.batch_size:6} {zero:5} {a:7.4f} {b:8.4f} {ratio:6.3f} {floor:8.4f} {floor / a:13.0%} "
                f"{recipe.batch_size / a:10.1f}",
                flush=True,
            )


def sampling_table(place: Place, repeats: int = 5) -> None:
    """Seconds a step of DDIM with guidance."""
    base = presets.laptop_generation({}).base if place.device.type == "cpu" else presets.paper_generation({}).base
    assert isinstance(base, Generation)
    cfg = base.tokenizer.tokenizer
    model = DiT(base.dit, cfg.channels, cfg.code, CLASSES).to(place.device).eval()
    rate, count = peak_flops(place.device, base.precision), 10
    each = 2 * 2 * accounting.generator_cost(base.dit, cfg.tokens, cfg.channels, CLASSES).macs
    path = diffusion.build_objective(base.diffusion).path(count, place.device)
    one = diffusion.with_guidance(model, CLASSES, 4.0)

    def two(latents: torch.Tensor, times: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        conditional, unconditional = model(latents, times, labels), model(latents, times, torch.full_like(labels, CLASSES))
        return unconditional + 4.0 * (conditional - unconditional)

    print(f"{place.device}, {torch.get_num_threads()} thread(s), peak {rate / 1e9:.0f} GFLOP/s; {variants.dit_name(base.dit)}, guided")
    print("batch  one pass s  samples/s  of the last's rate  of the floor  two passes s  ratio")
    last = 0.0
    for batch in (1, 2, 4, 8, 16, 32, 64, 128):
        noise = torch.randn(batch, cfg.tokens, cfg.channels, device=place.device)
        labels = torch.zeros(batch, dtype=torch.long, device=place.device)

        def walked(predict: diffusion.Model, noise: torch.Tensor = noise, labels: torch.Tensor = labels) -> float:
            began = time.perf_counter()
            with torch.inference_mode(), autocast(place.device, base.precision):
                for latents in diffusion.sample_steps(predict, path, noise, labels):
                    noise = latents
            float(noise.sum())  # waits for the device
            return (time.perf_counter() - began) / count

        for predict in (one, two):
            walked(predict)
        pairs = [(walked(one), walked(two)) for _ in range(repeats)]
        a, b = (min(times) for times in zip(*pairs, strict=True))
        speed = batch / a
        print(
            f"{batch:5} {a:11.4f} {speed / count:10.2f} {speed / last if last else float('nan'):19.2f} "
            f"{batch * each / rate / a:13.0%} {b:13.4f} {b / a:6.2f}",
            flush=True,
        )
        last = speed


def h100() -> None:
    """Images a second of one H100 (989 TFLOP/s dense bf16, 3.35 TB/s), by arithmetic, beside the paper's hours."""
    low, high = (4e6 * 256 / (hours * 3600 * 8) for hours in (96, 72))
    print(f"the paper: 4M steps of 256 in 72 to 96 hours on 8 GPUs: {low:.0f} to {high:.0f} images/s each")
    print("generator  GFLOP an image  at the peak  at 50 %  the paper's are  AdamW, EMA: bytes a step over 3.35 TB/s, of 32 images at 50 %")
    for name in ("DiT-L", "DiT-XL"):
        price = accounting.generator_cost(variants.dit(name), 256, 16, 1000)
        flops, moved = 6 * price.macs, price.params * (4 * 7 + 8) / 1e9
        peak_rate = 989e12 / flops
        share = f"{low / peak_rate:.0%} to {high / peak_rate:.0%}" if name == "DiT-XL" else ""
        compute = 32 / (peak_rate / 2)
        print(
            f"{name:9} {flops / 1e9:15.1f} {peak_rate:12.0f} {peak_rate / 2:8.0f} {share:>16}  {moved:.1f} GB, {moved / 3.35:.1f} ms "
            f"beside {compute * 1e3:.0f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("which", choices=("step", "sampling", "h100"))
    parser.add_argument("--pairs", type=int, default=40, help="of steps, in turn")
    parser.add_argument("--threads", type=int, default=1, help="of torch, without a GPU")
    parser.add_argument("--device", default="cpu", help="cuda: the paper's sizes, blocks compiled; the floor is then NVIDIA's peak")
    options = parser.parse_args()
    if options.which == "h100":
        h100()
        return
    compute_here(options.threads)  # ours and theirs share a process, and an allocator
    place = Place(device=torch.device(options.device))
    init_deepspeed(place)
    if options.which == "step":
        step_table(place, options.pairs)
    else:
        sampling_table(place)


if __name__ == "__main__":
    main()
