"""Recipes and resources that studies start from, at the three scales. Only the recipe's numbers and the resources differ between scales.

Each function takes grids: a study's cells are all combinations of one grid, or of each of several.
"""

from dataclasses import replace
from typing import Any

from vitok.config import Data, Gan, Generation, Latents, Loss, Optimizer, Recipe, Resources, Sampling
from vitok.config.overrides import override
from vitok.config.resources import WORKER_CPUS
from vitok.config.variants import dit, tokenizer
from vitok.study.scales import Arm, AxisGrid, Scale

GENERATION_METRICS = ("gFID", "gIS", "gPrecision", "gRecall")  # section 2.3; precision and recall are additions
VIDEO_SAMPLING = Sampling(count=128, steps=25, cfg=2.0)
DIT_UTILISATION = 0.3  # utilisation of DiT's steps: 712 GFLOP an image, of 989 TFLOP/s (appendix)
METRICS = ("rPSNR", "rSSIM", "LPIPS", "rFID", "rIS")  # section 2.3; LPIPS is an addition


def laptop(*grids: AxisGrid) -> Scale:
    """A tokenizer at laptop scale: two cores, no GPU, minutes.

    Patches of 4 and 8 at 32 pixels give the token counts (64, 16) that a 96-wide tower can serve: a token must not be wider than the tower.
    LPIPS uses AlexNet, since VGG16 needs 50 times the work, and has a low weight, since a few hundred steps end where the pixel loss still
    dominates.
    """
    base = Recipe(
        tokenizer=tokenizer("T-M/8", channels=16, size=32),
        loss=Loss(lpips=0.1, lpips_network="alexnet"),
        optimizer=Optimizer(lr=0.032),
        data=Data(smallest_crop=0.1, pool=4096, validation_crops=32, validation_views=1024),
        batch_size=16, steps=600, precision="fp32",
    )  # fmt: skip
    # One thread a trial: two single-threaded trials at once outrun one trial on two threads. Peak: a float32 matrix product
    # on one AVX2 core; utilisation: as measured with two trials on the two threads of one core.
    # Metrics of a machine that reaches a package index alone: no package has the weights of the FID Inception.
    metrics = ("rPSNR", "rSSIM", "LPIPS", "rFD-EffLite0")
    resources = Resources(checkpoint_every=100, log_every=20, metrics=metrics, tflops=0.08, utilisation=0.3)
    return Scale(_arms(base, grids), resources)


def single_gpu(*grids: AxisGrid) -> Scale:
    """A tokenizer on one GPU, hours (estimated for an H100): the paper's S-B at half its resolution and a tenth of its steps."""
    base = Recipe(tokenizer=tokenizer("S-B/16", channels=16, size=128), batch_size=256, steps=10_000)
    resources = Resources(
        gpus_per_worker=1, cpus_per_worker=WORKER_CPUS, data_cpus=8, compile=True, metrics=METRICS, device_gb=80, tflops=989,
        utilisation=0.12,
    )  # fmt: skip
    return Scale(_arms(base, grids), resources)


def paper(*grids: AxisGrid) -> Scale:
    """A tokenizer at the paper's scale: section 2.3 on the appendix's eight H100s.

    Peak: NVIDIA's dense bf16 figure. Utilisation: what the appendix's 6 to 12 hours for stage 1 of S-B/16 amount to, 300 to 600 images/s a
    GPU. Batches are cut into two micro-batches, since 128 samples of S-B/8 need more than 80 GB.
    """
    base = Recipe(tokenizer=tokenizer("S-B/16", channels=16, size=256))
    resources = Resources(
        workers=8, gpus_per_worker=1, cpus_per_worker=WORKER_CPUS, data_cpus=64, zero=1, accumulation=2, compile=True, metrics=METRICS,
        device_gb=80, tflops=989, utilisation=0.12,
    )  # fmt: skip
    return Scale(_arms(base, grids), resources)


def laptop_video(*grids: AxisGrid) -> Scale:
    """A video tokenizer at laptop scale: clips of 8 frames by 32 pixels of sample-motion, in tubelets of 4 frames by 8 pixels.

    Views are not mirrored: a mirrored clip would pan the other way.
    """
    images = laptop()
    changes = {"tokenizer": tokenizer("T-M/4x8", channels=16, size=32, frames=8)}
    changes |= {"data": Data(smallest_crop=0.5, pool=1024, flip=False, validation_crops=2, validation_views=1024), "steps": 1200}
    return replace(images, arms=_arms(images.base.model_copy(update=changes), grids))


def single_gpu_video(*grids: AxisGrid) -> Scale:
    """A video tokenizer on one GPU: 8 frames of 128 pixels, batches of 64, a tenth of the paper's steps."""
    images = single_gpu()
    base = images.base.model_copy(update={"tokenizer": tokenizer("S-B/4x8", channels=16, size=128, frames=8), "batch_size": 64})
    return Scale(_arms(base, grids), images.resources.model_copy(update={"metrics": ("rPSNR", "rSSIM", "LPIPS", "rFID"), "recompute": 1.0}))


def paper_video(*grids: AxisGrid) -> Scale:
    """A video tokenizer at the paper's scale (sections 2.3 and 3.5): 16 frames at 8 a second, batches of 256, on sixteen H100s
    (appendix).
    """
    images = paper()
    base = images.base.model_copy(update={"tokenizer": tokenizer("S-B/4x8", channels=16, size=256, frames=16), "batch_size": 256})
    resources = images.resources.model_copy(
        update={"workers": 16, "accumulation": 4, "metrics": ("rPSNR", "rSSIM", "LPIPS", "rFID", "rFVD"), "recompute": 1.0}
    )
    return Scale(_arms(base, grids), resources)


def _arms(base: Any, grids: tuple[AxisGrid, ...]) -> tuple[Arm, ...]:
    """Return an arm of the recipe for each grid, or one arm without a grid."""
    return tuple(Arm(base, grid) for grid in grids or ({},))


def second_stage(scale: Scale, name: str, *grids: AxisGrid) -> Scale:
    """Stage 2 of a scale's tokenizer, which is trained first. `name` is the scale's name."""
    first = scale.base
    assert isinstance(first, Recipe)
    return replace(scale, arms=_arms(stage2_recipe(first, name), grids))


def stage2_recipe(base: Recipe, scale: str, start: str = "") -> Recipe:
    """Return the recipe of stage 2 that continues the stage 1 `base`, or the weights whose SHA-256 is `start`: section 2.3 with the GAN
    weight of A.3.

    At scale "laptop" a small discriminator must learn in hundreds of steps what takes thousands at paper scale: it is fast and the decoder
    slow (at the paper's ratio of learning rates it stays at chance), its weight is lower beside a smaller LPIPS, and the average is
    shorter.
    """
    changes: dict[str, Any] = {"gan": Gan().model_dump(), "ema": 0.9999} | ({"start": start} if start else {"stage1": base.model_dump()})
    if scale == "laptop":
        changes |= {"gan": Gan(base_channels=128, lr=0.01, weight=0.02).model_dump(), "ema": 0.98}
        changes |= {"optimizer": base.optimizer.model_dump() | {"lr": 0.002}, "loss": base.loss.model_dump() | {"lpips": 0.5}}
    return Recipe.model_validate(base.model_dump() | changes)


def laptop_generation(*grids: AxisGrid) -> Scale:
    """A DiT of 0.8 M parameters on the latents of the laptop's tokenizers, minutes: crops of the embedded photographs, each a class."""
    first = laptop()
    assert isinstance(first.base, Recipe)
    base = Generation(
        tokenizer=first.base, dit=dit("DiT-T"), latents=Latents(crops=64, views=2048, smallest_crop=0.8),
        optimizer=Optimizer(lr=0.032, beta2=0.99, weight_decay=0.0, warmup=0.05), batch_size=32, steps=1000, ema=0.99, precision="fp32",
        sampling=Sampling(count=512, steps=25),
    )  # fmt: skip
    # Precision and recall would all be 0: not even reconstructions come near enough to photographs.
    metrics = ("gFD-EffLite0", "gIS-EffLite0")
    resources = first.resources.model_copy(update={"metrics": metrics})
    return Scale(_arms(base, grids), resources, first.resources)


def laptop_image_generation(*grids: AxisGrid) -> Scale:
    """A wider DiT of 2.8 M parameters, small batches and three times the steps: for one generator whose samples are looked at."""
    sweep = laptop_generation()
    return replace(sweep, arms=_arms(sweep.base.model_copy(update={"dit": dit("DiT-M"), "batch_size": 16, "steps": 3000}), grids))


def single_gpu_generation(*grids: AxisGrid) -> Scale:
    """A DiT-B on one GPU (hours are estimated for an H100): a tenth of the paper's steps, 10,000 samples."""
    first = single_gpu()
    assert isinstance(first.base, Recipe)
    base = Generation(tokenizer=first.base, dit=dit("DiT-B"), steps=50_000, ema=0.999, sampling=Sampling(count=10_000))
    resources = first.resources.model_copy(update={"metrics": GENERATION_METRICS, "data_cpus": 0, "utilisation": DIT_UTILISATION})
    return Scale(_arms(base, grids), resources, first.resources.model_copy(update={"accumulation": 2}))


def paper_generation(*grids: AxisGrid, variant: str = "DiT-L", steps: int = 500_000) -> Scale:
    """A DiT at the paper's scale: section 2.3 on eight H100s, 500,000 steps of 256 (4M of DiT-XL in 4.1), 50,000 samples at CFG 1.5.

    Utilisation: what the appendix's 72 to 96 hours for 4M steps of DiT-XL amount to, 370 to 490 images/s a GPU. Tokenizers of 1024 tokens
    run in four micro-batches.
    """
    first = paper()
    assert isinstance(first.base, Recipe)
    base = Generation(tokenizer=first.base, dit=dit(variant), steps=steps)
    resources = first.resources.model_copy(
        update={"metrics": GENERATION_METRICS, "data_cpus": 0, "accumulation": 1, "utilisation": DIT_UTILISATION}
    )
    return Scale(_arms(base, grids), resources, first.resources.model_copy(update={"accumulation": 4}))


def laptop_video_generation(*grids: AxisGrid) -> Scale:
    """A DiT on the clips of `laptop_video`, a class a motion.

    Each clip has one view, and there are more steps: with fewer, minutes of training give textures whose motion is not visible. One run at
    a time uses both cores.
    """
    images, clips = laptop_image_generation(), laptop_video()
    changes = {"tokenizer": clips.base, "latents": Latents(views=2048, flip=False), "sampling": VIDEO_SAMPLING, "steps": 5000}
    both = {"cpus_per_worker": 2, "tflops": 2 * images.resources.tflops}
    resources, tokenizers = (one.model_copy(update=both) for one in (images.resources, clips.resources))
    return Scale(_arms(images.base.model_copy(update=changes), grids), resources, tokenizers)


def single_gpu_video_generation(*grids: AxisGrid) -> Scale:
    """A DiT-B on one GPU, on the latents of `single_gpu_video`: 50,000 steps of 64, CFG 2."""
    images, clips = single_gpu_generation(), single_gpu_video()
    assert isinstance(images.base, Generation)
    sampling = images.base.sampling.model_copy(update={"count": 2_048, "cfg": 2.0})
    base = images.base.model_copy(update={"tokenizer": clips.base, "sampling": sampling, "batch_size": 64})
    return Scale(_arms(base, grids), images.resources.model_copy(update={"metrics": ("gFID",)}), clips.resources)


def paper_video_generation(*grids: AxisGrid) -> Scale:
    """A video DiT at the paper's scale (Table 6): S-B/4x8 on 16 x 128 x 128, DiT-L, 500,000 steps on the 11k training clips of UCF-101, CFG
    2 (figure 21).
    """
    images = paper_generation()
    assert isinstance(images.base, Generation)
    first = override(images.base.tokenizer, {"tokenizer.size": 128, "tokenizer.frames": 16, "tokenizer.stride": 4, "tokenizer.patch": 8})
    sampling = images.base.sampling.model_copy(update={"count": 10_000, "cfg": 2.0})
    base = images.base.model_copy(update={"tokenizer": first, "sampling": sampling})
    resources = images.resources.model_copy(update={"metrics": ("gFID", "gFVD")})
    return Scale(_arms(base, grids), resources, images.tokenizers)
