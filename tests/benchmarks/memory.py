"""Peak memory of tensors in a training step, predicted by `vitok.costs.memory` and measured, for each stage of ZeRO.

    python -m tests.benchmarks.memory [--variant S-B/16] [--size 128] [--batch 8] [--workers 2] [--precision bf16]

Each row is a step's peak on rank 0 of so many processes over gloo, from torch's own record of every allocation and release of
a tensor (torch.profiler), from before the model is made.
"""

import argparse
import socket
import subprocess
import sys
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from vitok.config import Generation, Loss, Recipe, Resources, Training
from vitok.config.overrides import override
from vitok.config.variants import tokenizer
from vitok.costs import memory

CASES = [{"zero": zero, "recompute": share} for zero in (0, 1, 2, 3) for share in (0.0, 1.0)]


def setting(options: Any) -> tuple[Recipe, Resources]:
    network = Loss(lpips=0.0 if options.lpips == "none" else 1.0, lpips_network="vgg16" if options.lpips == "none" else options.lpips)
    recipe = Recipe(
        tokenizer=tokenizer(options.variant, channels=16, size=options.size), loss=network, batch_size=options.batch,
        precision=options.precision, ema=0.999 if options.ema else 0.0,
    )  # fmt: skip
    return recipe, Resources(workers=options.workers, tflops=1, utilisation=1)


def measure(recipe: Training, resources: Resources, place: Any) -> int:
    """Most bytes of tensors on this rank at once, in two steps. Every rank must call it."""
    import gc

    from torch.profiler import ProfilerActivity, profile

    from vitok.models.blocks import configure_blocks
    from vitok.train.engine.deepspeed import Engine, init_deepspeed

    init_deepspeed(place)
    make, loss = _generator(recipe, resources) if isinstance(recipe, Generation) else _tokenizer(recipe, resources)
    gc.collect()  # what an engine before this one leaves would count as released
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        model = make()
        configure_blocks(model, resources.recompute, compiled=False)
        engine = Engine("measured", model, recipe.optimizer, recipe, resources, place, recipe.ema)
        for _ in range(2):
            engine.backward(loss(engine))
            engine.step(1e-4)
    results: Any = record.profiler
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


def _tokenizer(recipe: Any, resources: Resources) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """(makes the model, a step's loss)"""
    import torch

    from vitok import losses
    from vitok.models.tokenizer import Tokenizer
    from vitok.networks import weights

    perceptual = weights.load_lpips(recipe.loss.lpips_network) if recipe.loss.lpips else None
    cfg, local = recipe.tokenizer, recipe.batch_size // resources.workers

    def loss(engine: Any) -> Any:
        pixels, noise = torch.rand(local, 3, cfg.size, cfg.size) * 2 - 1, torch.randn(local, cfg.tokens, cfg.channels)
        return losses.stage1_loss(engine(pixels, noise), pixels, recipe.loss, perceptual)["loss"]

    return lambda: Tokenizer(cfg), loss


def _generator(recipe: Generation, resources: Resources) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    import torch

    from vitok import diffusion
    from vitok.models.dit import DiT

    cfg, local = recipe.tokenizer.tokenizer, recipe.batch_size // resources.workers
    learnt = diffusion.build_objective(recipe.diffusion)

    def loss(engine: Any) -> Any:
        latents, noise = torch.randn(local, cfg.tokens, cfg.channels), torch.randn(local, cfg.tokens, cfg.channels)
        pair = learnt.pair(latents, noise, torch.rand(local))
        return (engine(pair.noised, pair.times, torch.zeros(local, dtype=torch.long)).float() - pair.target).square().mean()

    return lambda: DiT(recipe.dit, cfg.channels, cfg.code, 1), loss


def rank(options: Any) -> int:
    import torch
    import torch.distributed as dist

    from vitok.train.ranks import Place

    recipe, resources = setting(options)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{options.port}", rank=options.rank, world_size=options.workers)
    torch.set_num_threads(1)
    return measure(recipe, override(resources, CASES[options.case]), Place(options.rank, options.workers))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", default="S-B/16")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--lpips", default="vgg16")
    parser.add_argument("--ema", action="store_true")
    parser.add_argument("--rank", type=int)
    parser.add_argument("--port", type=int)
    parser.add_argument("--case", type=int)
    options = parser.parse_args()
    if options.rank is not None:
        print(f"peak {rank(options)}")
        return
    recipe, resources = setting(options)
    print(f"{options.variant} at {options.size} pixels, {options.batch} samples on {options.workers} workers, {options.precision}, MB")
    print("zero  recompute  predicted  measured  ratio  of which predicted")
    for number, case in enumerate(CASES):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "tests.benchmarks.memory", *sys.argv[1:], "--port", str(port), "--case", str(number)]
        ranks = [
            subprocess.Popen([*command, "--rank", str(rank)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            for rank in range(options.workers)
        ]
        outputs = [rank.communicate()[0] for rank in ranks]
        peaks = [float(line.split()[1]) for output in outputs for line in output.splitlines() if line.startswith("peak ")]
        terms = memory.step_memory(recipe, override(resources, case))
        predicted = terms.pop("peak")
        shown = ", ".join(f"{name} {value / 1e6:.0f}" for name, value in terms.items())
        most = max(peaks)
        row = f"{case['zero']:4d}  {case['recompute']:9.1f}  {predicted / 1e6:9.0f}  {most / 1e6:8.0f}  {predicted / most:5.2f}  {shown}"
        print(row, flush=True)


if __name__ == "__main__":
    main()
