"""Every image metric of one pass beside torch-fidelity, torchmetrics and lpips one after the other, over the same files.

    python -m tests.benchmarks.metrics pass [--images 128] [--size 256] [--rounds 3]
    python -m tests.benchmarks.metrics inception [--images 128] [--size 256] [--rounds 3]
    python -m tests.benchmarks.metrics overhead [--images 64]
    python -m tests.benchmarks.metrics ssim [--size 256]
    python -m tests.benchmarks.metrics frechet [--width 2048]

The Inception's weights are random: they take the same time. What is read, and how it is looked at, is the same on both sides.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import lpips
import numpy as np
import torch
import torch_fidelity
from PIL import Image
from scipy import linalg
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from tests.evaluation.test_measure import crops, noisy
from tests.standins import fidelity_inception, inception_state
from vitok.config import Data, Recipe
from vitok.config.variants import tokenizer
from vitok.data.corpora.corpus import open_corpora
from vitok.data.decoding.image import center_crop, load
from vitok.data.loading.loader import open_reader
from vitok.evaluation import accumulator as tallies
from vitok.evaluation import pool
from vitok.evaluation.accumulator import EvaluationSizes, MetricAccumulator
from vitok.evaluation.measure import Measurer
from vitok.evaluation.subject import Coder
from vitok.evaluation.trained import Trained
from vitok.losses import to_pixels
from vitok.metrics import kid
from vitok.metrics.frechet import frechet_distance
from vitok.metrics.moments import Gaussian, Moments
from vitok.metrics.psnr_ssim import ssim, to_uint8
from vitok.metrics.registry import find_metrics
from vitok.models.features.inception import Inception
from vitok.models.tokenizer import Tokenizer
from vitok.networks import weights
from vitok.orchestration.evaluation_run import by_name

BATCH, SUBSET = 32, 64
NAMES = ("rPSNR", "rSSIM", "LPIPS", "rFID", "rIS", "rKID", "rPrecision", "rRecall")
CPU = torch.device("cpu")


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


class Blur:
    """A subject whose outputs anybody can have: a mean over 3 x 3 pixels."""

    name = "blur"

    def open(self, device: torch.device) -> Coder:
        return lambda pixels: (blurred(pixels), {})


def blurred(pixels: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(pixels, 3, 1, 1)


def read(folder: Path, numbers: range) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(Image.open(folder / f"{n:04d}.png")) for n in numbers])).permute(0, 3, 1, 2)


def batches(count: int) -> list[range]:
    return [range(first, min(first + BATCH, count)) for first in range(0, count, BATCH)]


def one_pass(asked: pool.EvaluationPass, known: dict[str, Gaussian]) -> tuple[float, float, dict[str, float], MetricAccumulator]:
    """(seconds until the first block, and from then on for as many as all; the values)"""
    began, stamps = time.perf_counter(), list[tuple[float, int]]()
    counted = pool.run(asked, None, lambda done, total, here: stamps.append((time.perf_counter(), done)))
    values, spent = seconds_of(lambda: counted.tally.results(known))
    (first, done), (last, total) = stamps[0], stamps[-1]
    rate = (last - first) / (total - done)
    return first - began - done * rate, total * rate + spent, {name: one.value for name, one in values.items()}, counted.tally


def seconds_of(work: Callable[[], Any]) -> tuple[Any, float]:
    spent, found = seconds(work)
    return found, spent


def one_after_the_other(root: Path, count: int, perceptual: Any, sets: bool = True) -> dict[str, float]:
    """`sets`: KID, precision and recall too. Without them torch-fidelity keeps the reference's features, and has them the next time."""
    found = torch_fidelity.calculate_metrics(
        input1=str(root / "outputs"), input2=str(root / "originals"), cuda=False, batch_size=BATCH, isc=True, fid=True, kid=sets,
        prc=sets, kid_subset_size=SUBSET, verbose=False, cache=not sets, cache_root=str(root / "cache"),
        input2_cache_name=None if sets else "originals", feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(root / "inception.pth"),
    )  # fmt: skip
    values: dict[str, list[Tensor]] = {"rPSNR": [], "rSSIM": [], "LPIPS": []}
    for numbers in batches(count):
        x, y = (read(root / side, numbers).float() for side in ("outputs", "originals"))
        values["rPSNR"].append(peak_signal_noise_ratio(x, y, data_range=255.0, reduction="none", dim=(1, 2, 3)))
        values["rSSIM"].append(structural_similarity_index_measure(x, y, data_range=255.0, reduction="none"))  # pyright: ignore
    for numbers in batches(count):
        x, y = (read(root / side, numbers).float() / 127.5 - 1 for side in ("outputs", "originals"))
        with torch.no_grad():
            values["LPIPS"].append(perceptual(x, y).flatten())
    keys = {
        "rFID": "frechet_inception_distance", "rIS": "inception_score_mean", "rKID": "kernel_inception_distance_mean",
        "rPrecision": "precision", "rRecall": "recall",
    }  # fmt: skip
    means = {name: float(torch.cat(value).mean()) for name, value in values.items()}
    return means | {name: found[key] for name, key in keys.items() if key in found}


def their_lpips(ours: Any) -> Any:
    with redirect_stdout(StringIO()):
        theirs = lpips.LPIPS(net="alex", pretrained=False, pnet_rand=True, verbose=False).eval()
    with torch.no_grad():
        for mine, other in zip(ours.trunk, [m for m in theirs.net.modules() if isinstance(m, torch.nn.Conv2d)], strict=True):
            other.load_state_dict(mine.state_dict())
        for head, lin in zip(ours.heads, theirs.lins, strict=True):
            lin.load_state_dict({"model.1.weight": head.view(1, -1, 1, 1)})
    return theirs


def files(root: Path, count: int, size: int) -> None:
    originals = crops(count, size)
    for side, images in (("originals", originals), ("outputs", to_uint8(blurred(to_pixels(originals.permute(0, 2, 3, 1)))))):
        (root / side).mkdir()
        for n, image in enumerate(images):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / side / f"{n:04d}.png")
    torch.save(inception_state(), root / "inception.pth")


def passes(count: int, size: int, rounds: int) -> None:
    """On every core: they with all threads, ours with an actor on each. First with all metrics, then with those that statistics of
    the reference serve, which both have at hand from a pass before."""
    import ray

    ray.init(address="local", logging_level=logging.ERROR, log_to_driver=False)
    tallies.LEAST["kernel"] = kid.SUBSET_SIZE = SUBSET
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        files(root, count, size)
        metrics = find_metrics(NAMES)
        payloads = {"fid-inception": inception_state(), "lpips-alexnet": weights.resolve_weights("lpips-alexnet")[0]}
        held = open_reader(open_corpora(str(root / "originals")), "all", Data(), size, 1)
        cores = int(ray.cluster_resources()["CPU"])
        asked = pool.EvaluationPass(held, by_name(held), Blur(), metrics, payloads, True, False, 0, 0, BATCH // 4, cores, 0, 1)
        few = replace(asked, metrics=find_metrics(("rPSNR", "rSSIM", "LPIPS", "rFID", "rIS")), both=False)
        perceptual = their_lpips(weights.load_lpips("alexnet"))
        print(f"{count} pairs of {size} pixels, {cores} cores; seconds. Ours without the start of the actors, which is the last column")
        print("                                                 both with the reference at hand")
        print("round  one after the other  one pass  ratio  one after the other  one pass  ratio  start", flush=True)
        one_after_the_other(root, count, perceptual, sets=False)
        ratios, later = list[float](), list[float]()
        found, expected = dict[str, float](), dict[str, float]()
        for turn in range(rounds):
            theirs, expected = seconds(lambda: one_after_the_other(root, count, perceptual))
            start, ours, found, tally = one_pass(asked, {})
            again = one_pass(few, {"fid-inception": tally.gaussian("fid-inception/original")})[1]
            ratios.append(theirs / ours)
            cached, _ = seconds(lambda: one_after_the_other(root, count, perceptual, sets=False))
            later.append(cached / again)
            print(
                f"{turn:5d}  {theirs:19.1f}  {ours:8.1f}  {ratios[-1]:5.2f}  {cached:19.1f}  {again:8.1f}  {later[-1]:5.2f}  {start:5.1f}",
                flush=True,
            )
        print(f"median ratio {statistics.median(ratios):.2f}; with the reference at hand {statistics.median(later):.2f}")
        for metric in NAMES:
            apart = abs(found[metric] / expected[metric] - 1)
            print(f"{metric:<10} {found[metric]:.7g}  {expected[metric]:.7g}  {apart:.1e} apart")


def inception(count: int, size: int, rounds: int) -> None:
    """Time one batch of images through torch-fidelity's network as it is, the same in channels_last, and with the batch norms folded
    too, which is ours. The three take turns, in an order that alternates."""
    state, images = inception_state(), crops(count, size)
    as_it_is = fidelity_inception(state, ["2048", "logits_unbiased"])
    last = fidelity_inception(state, ["2048", "logits_unbiased"]).to(memory_format=torch.channels_last)
    networks: dict[str, torch.nn.Module] = {"torch-fidelity": as_it_is, "channels_last": last, "ours": Inception(state)}
    spent: dict[str, list[float]] = {name: [] for name in networks}
    print(f"{count} images of {size} pixels, {torch.get_num_threads()} threads; ms an image, and how many times as fast as torch-fidelity")
    print("round  torch-fidelity  channels_last  ratio   ours  ratio")
    with torch.inference_mode():
        (pooled, logits), (mine, my_logits) = as_it_is(images), networks["ours"](images)
        for turn in range(rounds):
            for name in list(networks)[:: -1 if turn % 2 else 1]:
                spent[name].append(seconds(lambda network=networks[name]: network(images))[0])
            whole, other, ours = (1e3 * times[-1] / count for times in spent.values())
            print(f"{turn:5d}  {whole:14.1f}  {other:13.1f}  {whole / other:5.2f}  {ours:5.1f}  {whole / ours:5.2f}", flush=True)
    for faster, slower in (("channels_last", "torch-fidelity"), ("ours", "torch-fidelity"), ("ours", "channels_last")):
        median = statistics.median(a / b for a, b in zip(spent[slower], spent[faster], strict=True))
        fastest = min(spent[slower]) / min(spent[faster])  # on a machine that others use too, what they disturb least
        print(f"{faster} beside {slower}: median ratio {median:.2f}, of the fastest rounds {fastest:.2f}")
    apart = [float((a - b).norm() / b.norm()) for a, b in ((mine, pooled), (my_logits, logits))]
    print(f"pooled {apart[0]:.1e} of its norm apart, logits {apart[1]:.1e}")


def overhead(count: int) -> None:
    """One thread, S-B/16 at 256 pixels: an evaluation from the files on, beside its forward passes alone."""
    torch.set_num_threads(1)
    recipe = Recipe(tokenizer=tokenizer("S-B/16", channels=16, size=256), precision="fp32")
    subject = Trained("S-B/16", recipe, Tokenizer(recipe.tokenizer).state_dict())
    metrics = find_metrics(("rPSNR", "rSSIM", "LPIPS", "rFID", "rIS"))
    payloads = {"fid-inception": inception_state(), "lpips-alexnet": weights.resolve_weights("lpips-alexnet")[0]}
    measurer, coder = Measurer(metrics, payloads, CPU, True, str), subject.open(CPU)
    whole: list[float] = []
    alone: list[float] = []
    print("round  evaluation s  forward passes s  overhead")
    with tempfile.TemporaryDirectory() as name:
        files(Path(name), count, 256)
        for turn in range(3):
            tally = MetricAccumulator(metrics, EvaluationSizes(count, 1, count, count))
            began = time.perf_counter()
            for first in range(0, count, 8):
                numbers = np.arange(first, first + 8)
                images = np.stack([center_crop(load((Path(name) / "originals" / f"{n:04d}.png").read_bytes(), 0), 256) for n in numbers])
                pixels = to_pixels(torch.from_numpy(images))
                with torch.inference_mode():
                    outputs, _ = coder(pixels)
                tally.add(numbers, measurer(numbers, torch.from_numpy(images).movedim(-1, 1), outputs))
            whole.append(time.perf_counter() - began)
            alone.append(0.0)
            for first in range(0, count, 8):
                images = read(Path(name) / "originals", range(first, first + 8))
                pixels = to_pixels(images.permute(0, 2, 3, 1))
                began = time.perf_counter()
                with torch.inference_mode():
                    coder(pixels)
                    for one in (images, images):
                        measurer.networks["fid-inception"](one)
                    measurer.networks["lpips-alexnet"](pixels, pixels)
                alone[-1] += time.perf_counter() - began
            print(f"{turn:5d}  {whole[-1]:12.1f}  {alone[-1]:16.1f}  {whole[-1] / alone[-1] - 1:8.1%}", flush=True)
    print(f"median overhead {statistics.median(a / b - 1 for a, b in zip(whole, alone, strict=True)):.1%}")


def similarity(size: int) -> None:
    x = crops(32, size)
    y = to_uint8(noisy(x))
    print("round  torchmetrics ms  ours ms  ratio  largest difference (of the mean over whole windows)")
    for turn in range(5):
        theirs, expected = seconds(
            lambda: structural_similarity_index_measure(  # pyright: ignore
                y.float(), x.float(), data_range=255.0, reduction="none", return_full_image=True
            )
        )
        ours, found = seconds(lambda: ssim(y, x))
        apart = (found - expected[1][..., 5:-5, 5:-5].mean((1, 2, 3))).abs().max()
        print(f"{turn:5d}  {1e3 * theirs / 32:15.2f}  {1e3 * ours / 32:7.2f}  {theirs / ours:5.2f}  {apart:.1e}")


def distance(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    sides: list[Any] = []
    for _ in range(2):
        moments = Moments()
        mix = torch.randn(width, width, generator=generator) * torch.logspace(0, -3, width)
        for _ in range(10):
            moments.add(torch.randn(500, width, generator=generator) @ mix)
        sides.append(moments.gaussian())
    ours, found = seconds(lambda: frechet_distance(*sides))
    a, b = (side.covariance.numpy() for side in sides)
    shift = float((sides[0].mean - sides[1].mean).square().sum())
    root, of_root = seconds(lambda: shift + np.trace(a + b) - 2 * np.trace(np.real(np.asarray(linalg.sqrtm(a @ b)))))
    eigen, of_eigen = seconds(lambda: shift + np.trace(a + b) - 2 * np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum())
    print(f"ours {ours:.2f} s; scipy's sqrtm {root:.1f} s, {abs(found / of_root - 1):.1e} apart; "
          f"eigvals, as torch-fidelity, {eigen:.1f} s, {abs(found / of_eigen - 1):.1e} apart")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pass", "inception", "overhead", "ssim", "frechet"))
    for name, default in (("images", 128), ("size", 256), ("rounds", 3), ("width", 2048)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    if asked.what == "pass":
        passes(asked.images, asked.size, asked.rounds)
    elif asked.what == "inception":
        inception(asked.images, asked.size, asked.rounds)
    elif asked.what == "overhead":
        overhead(asked.images)
    elif asked.what == "ssim":
        similarity(asked.size)
    else:
        distance(asked.width)


if __name__ == "__main__":
    main()
