"""Every knob: frozen, validated, with its unit and the source of its default.

A `Recipe` (of a tokenizer) or a `Generation` (of a DiT on a tokenizer's latents) holds all that decides the result of a run, and
nothing else: its hash (with the corpus's fingerprint) is the identity of a cell. `Resources` holds what only decides how fast it is had.
"""

import hashlib
import json
import math
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vitok.errors import UsageError


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tower(Frozen):
    """One transformer: an encoder, a decoder or a DiT."""

    width: int = Field(gt=0, description="hidden dimension")
    blocks: int = Field(gt=0, description="transformer blocks")
    heads: int = Field(gt=0, description="attention heads")

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def hidden(self) -> int:
        """Hidden dimension of the SwiGLU: exactly 8/3 of the width, as in Llama; where that is no whole number (a DiT-L of 1024), up to
        the next multiple of 16."""
        return self.width * 8 // 3 if self.width % 3 == 0 else -(-self.width * 8 // 48) * 16

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must divide by its {self.heads} heads")
        if self.head_width % 8 or self.head_width < 24 or self.head_width == 32:
            raise ValueError(
                f"a head of {self.head_width} cannot be split over three RoPE axes: take a multiple of 8, from 24 on, other than 32"
            )
        return self


class Tokenizer(Frozen):
    """The auto-encoder (section 2.2): pixels (3, frames, size, size) -> L tokens of c channels -> pixels; and its variants of A.4."""

    encoder: Tower
    decoder: Tower
    patch: int = Field(gt=0, description="p: side of a tubelet, pixels")
    stride: int = Field(default=1, gt=0, description="q: length of a tubelet, frames")
    channels: int = Field(gt=0, description="c: latent channels per token")
    size: int = Field(default=256, gt=0, description="side of the square input, pixels")
    frames: int = Field(default=1, gt=0, description="T: frames of the input; an image is a video of one")
    latent_tokens: int = Field(default=0, ge=0, description="l: latent tokens kept in place of the patches' (A.4); 0: the simple variant")
    shortest: int = Field(
        default=0, ge=0, description="fewest tokens of a nested code that training keeps, masked from the end (A.4); 0: not nested"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.size % self.patch:
            raise ValueError(f"size {self.size} is not divisible by the patch {self.patch}")
        if self.frames % self.stride:
            raise ValueError(f"{self.frames} frame(s) are not divisible by the temporal stride {self.stride}")
        if self.shortest > self.tokens:
            raise ValueError(f"shortest {self.shortest} is more than the {self.tokens} tokens of the whole code")
        return self

    @property
    def grid(self) -> tuple[int, int, int]:
        """Patches along (t, y, x)."""
        side = self.size // self.patch
        return self.frames // self.stride, side, side

    @property
    def table_grid(self) -> tuple[int, int, int]:
        """Rows of the learned position table along (t, y, x). Above 256 pixels the table of 256 is
        interpolated: Table 3 prints the same 129.0 M for S-B/16 at 512p as Table 2 at 256p."""
        side = min(self.size, max(256 // self.patch, 1) * self.patch) // self.patch
        return self.frames // self.stride, side, side

    @property
    def patches(self) -> int:
        """Tokens that pixels come in and go out as."""
        return math.prod(self.grid)

    @property
    def tokens(self) -> int:
        """L: of the code."""
        return self.latent_tokens or self.patches

    @property
    def sequence(self) -> int:
        """Tokens that both towers see: the patches', and the latent ones behind them."""
        return self.patches + self.latent_tokens

    @property
    def code(self) -> tuple[int, int, int]:
        """The grid of the code, as a DiT sees it."""
        return self.code_of(self.grid)

    def code_of(self, grid: tuple[int, int, int]) -> tuple[int, int, int]:
        """Likewise, for patches of another grid: latent tokens are as many whatever the pixels."""
        return (self.latent_tokens, 1, 1) if self.latent_tokens else grid

    @property
    def lengths(self) -> tuple[int, ...]:
        """What training draws the kept tokens of a nested code from: the shortest, doubled below L (A.4: a power of two), and L."""
        doublings = (self.shortest << number for number in range(self.tokens.bit_length()))
        return (*(length for length in doublings if length < self.tokens), self.tokens) if self.shortest else ()

    @property
    def floats(self) -> int:
        """E = L * c (equation 2)."""
        return self.tokens * self.channels

    @property
    def compression(self) -> float:
        """T * H * W * 3 / E (section 3.1)."""
        return 3 * self.frames * self.size**2 / self.floats


class Loss(Frozen):
    """Equation 1 without its adversarial term."""

    reconstruction: Literal["l2", "l1"] = Field(default="l2", description="mean over pixels in [-1, 1] (2.3; l1 in 3.4)")
    kl: float = Field(default=1e-3, ge=0, description="beta, on the mean over latent elements (2.3)")
    lpips: float = Field(default=1.0, ge=0, description="eta (2.3; called lambda in 3.4)")
    lpips_network: Literal["vgg16", "alexnet"] = Field(default="vgg16", description="trunk of LPIPS; the paper names VGG (2.1)")


class Optimizer(Frozen):
    """AdamW with a linear warmup; a tokenizer's learning rate then falls to zero as a cosine (section 2.3), a DiT's stays."""

    lr: float = Field(default=1e-4, gt=0, description="peak learning rate for a batch of 256 samples; scaled with the batch (2.3)")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="(2.3)")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="(2.3)")
    weight_decay: float = Field(default=1e-4, ge=0, description="(2.3)")
    warmup: float = Field(default=0.03, ge=0, lt=1, description="share of the steps with a rising learning rate")
    clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")


class Data(Frozen):
    """How photographs become samples. A training sample is a square crop of random place and scale."""

    smallest_crop: float = Field(
        default=0.35, gt=0, le=1, description="smallest crop side as a share of the short side, never under `size` pixels"
    )
    pool: int = Field(
        default=0, ge=0, description="decode this many training crops once and draw batches from them (0: a fresh crop every time)"
    )
    flip: bool = Field(default=True, description="mirror a training sample with probability 1/2")
    validation_crops: int = Field(
        default=1, gt=0, description="views of each held-out sample: 1 is the centre crop (ADM), more are fixed random crops"
    )
    validation_views: int = Field(default=0, ge=0, description="so many of those views at most, evenly spread over the samples; 0: all")
    fps: float = Field(default=8.0, gt=0, description="frames a second of a clip (3.3, figure 10: 16 frames at 8 fps)")
    max_rejected: float = Field(default=0.05, ge=0, le=1, description="share of samples that may be unusable before a run stops")


class Gan(Frozen):
    """Stage 2 (sections 2.3 and A.3). The ablations of Figure 13: `weight` 0 is fine-tuning without a GAN; `lr` 1e-5, 2e-5,
    4e-5; `weight` 0.1 with `lr` 1e-5; `tuned` "all"."""

    weight: float = Field(default=0.05, ge=0, description="lambda of equation 1; A.3 found 0.05 best, 2.3 says 1.0; 0: no discriminator")
    ramp: float = Field(default=0.25, ge=0, le=1, description="share of the steps over which the weight rises from 0 (2.3: 25k of 100k)")
    lr: float = Field(default=2e-5, gt=0, description="peak learning rate of the discriminator, not scaled with the batch (2.3, A.3)")
    tuned: Literal["decoder", "all"] = Field(default="decoder", description="what is fine-tuned; all: the encoder too (A.3)")
    frames: Literal["each", "together"] = Field(default="each", description="a clip is judged frame by frame, or by 3D convolutions")
    base_channels: int = Field(
        default=8192, ge=16, description="channels at a side of r pixels: base / r * 2, at most 512 (Karras et al. 2019)"
    )
    r1: float = Field(default=0.0, ge=0, description="weight of R1, the gradient penalty on real samples (Mescheder et al. 2018); 0: off")
    r1_every: int = Field(default=16, gt=0, description="steps between two R1 terms, each weighted by this number (Karras et al. 2020)")
    adaptive: bool = Field(
        default=False, description="scale the weight by the ratio of the gradients of the last layer (Esser et al. 2021, equation 7)"
    )


class Training(Frozen):
    """What decides the result of any run."""

    optimizer: Optimizer = Optimizer()
    batch_size: int = Field(default=1024, gt=0, description="samples a step, over all workers (2.3)")
    steps: int = Field(default=100_000, gt=0, description="(2.3)")
    precision: Literal["bf16", "fp32"] = Field(default="bf16", description="autocast (2.3)")
    seed: int = Field(default=0, ge=0, description="of weights, noise and the order of samples")
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="decay of averaged weights, which are then what is evaluated and kept (2.3); 0: off"
    )
    start: str = Field(default="", description="SHA-256 of the weights that training starts from; empty: drawn from the seed")

    @property
    def decodes(self) -> bool:
        """Whether samples are decoded while it trains."""
        return False

    @property
    def parent(self) -> "Recipe | None":
        """The run whose weights it starts from, where that is known by its recipe."""
        return None

    def digest(self, fingerprint: str) -> str:
        """Identity of a cell: SHA-256 over this recipe and the corpus's fingerprint, 16 hex digits."""
        text = json.dumps([self.model_dump(mode="json"), fingerprint], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Recipe(Training):
    """A tokenizer's run. With `gan` it is of stage 2, without it of stage 1."""

    tokenizer: Tokenizer
    loss: Loss = Loss()
    data: Data = Data()
    gan: Gan | None = Field(default=None, description="stage 2")
    stage1: "Recipe | None" = Field(default=None, description="the run that stage 2 continues; without it `start` names the weights")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.gan and not self.start and not self.stage1:
            raise ValueError("stage 2 continues a stage 1: name its run with --init")
        if self.stage1 and (not self.gan or self.stage1.tokenizer != self.tokenizer):
            raise ValueError("stage1 is of another tokenizer" if self.gan else "stage1 is for stage 2 alone, which has a gan")
        return self

    @property
    def parent(self) -> "Recipe | None":
        return self.stage1

    @property
    def decodes(self) -> bool:
        return self.data.pool == 0

    @property
    def stage(self) -> int:
        return 2 if self.gan else 1

    @property
    def goal(self) -> tuple[str, bool]:
        """The metric by which a run keeps its best checkpoint, and whether more of it is better."""
        return ("LPIPS", False) if self.gan else ("rPSNR", True)


class Latents(Frozen):
    """What a generator is trained on: views of the training split, encoded once by its tokenizer."""

    crops: int = Field(default=1, gt=0, description="views of each sample: 1 is the centre crop (ADM), more are fixed random crops")
    views: int = Field(default=0, ge=0, description="so many of those views at most, evenly spread over the samples; 0: all")
    smallest_crop: float = Field(default=0.35, gt=0, le=1, description="of random crops: smallest side as a share of the short side")
    flip: bool = Field(default=True, description="every view is there mirrored too")
    fps: float = Field(default=8.0, gt=0, description="frames a second of a clip (3.3, figure 10)")
    max_rejected: float = Field(default=0.05, ge=0, le=1, description="share of samples that may be unusable before a build stops")

    def data(self) -> Data:
        """The same, as readers of a corpus take it."""
        return Data(
            smallest_crop=self.smallest_crop, validation_crops=self.crops, validation_views=self.views, fps=self.fps,
            max_rejected=self.max_rejected,
        )  # fmt: skip


class Diffusion(Frozen):
    """What the DiT learns to predict, and from what."""

    objective: Literal["noise", "flow"] = Field(
        default="noise", description="noise: of the schedule's (2.3); flow: the velocity of a straight path (Lipman et al. 2023)"
    )
    timesteps: int = Field(default=1000, gt=1, description="of the schedule (Ho et al. 2020)")
    beta_first: float = Field(default=1e-4, gt=0, lt=1, description="the schedule's first noise variance; linear to the last")
    beta_last: float = Field(default=2e-2, gt=0, lt=1, description="its last")
    label_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="share of the labels that are hidden, for guidance (Ho, Salimans 2022)"
    )


class Sampling(Frozen):
    """The samples that a generator is measured by."""

    count: int = Field(default=50_000, gt=0, description="(2.3)")
    steps: int = Field(default=250, gt=0, description="DDIM's, or Euler's of a flow (2.3)")
    cfg: float = Field(default=1.5, ge=0, description="guidance scale; 1: none (2.3)")
    spacing: Literal["leading", "trailing"] = Field(
        default="leading",
        description="of DDIM's steps: 996, ..., 4, 0 of 1000, as ADM's; trailing: 999, 995, ..., 3 (Lin et al. 2024)",
    )


class Generation(Training):
    """A generator's run (section 2.3): a class-conditional DiT on the latents of a tokenizer."""

    tokenizer: Recipe = Field(description="the run that the tokenizer comes of")
    dit: Tower
    optimizer: Optimizer = Optimizer(beta2=0.999, weight_decay=0.0, warmup=0.0)
    batch_size: int = Field(default=256, gt=0, description="samples a step, over all workers (2.3)")
    steps: int = Field(default=500_000, gt=0, description="(2.3; 4M in 4.1)")
    ema: float = Field(default=0.9999, ge=0, lt=1, description="decay of averaged weights, which are what is sampled from; 0: off")
    start: str = Field(default="", description="SHA-256 of the tokenizer's weights; empty: those that its recipe comes to")
    conditional: bool = Field(default=True, description="on the corpus's labels")
    latents: Latents = Latents()
    diffusion: Diffusion = Diffusion()
    sampling: Sampling = Sampling()

    @property
    def parent(self) -> Recipe:
        return self.tokenizer

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.conditional and self.sampling.cfg != 1:
            raise ValueError(f"sampling.cfg {self.sampling.cfg:g} guides by labels, which conditional = False has none of: set it to 1")
        if self.diffusion.objective == "noise" and self.sampling.steps > self.diffusion.timesteps:
            raise ValueError(f"sampling.steps {self.sampling.steps} is more than the schedule's {self.diffusion.timesteps}")
        return self


class Resources(Frozen):
    """What one run has, and how it is kept safe and watched. None of it changes a result beyond the rounding of sums."""

    workers: int = Field(default=1, gt=0, description="processes; the batch is shared among them")
    gpus_per_worker: int = Field(default=0, ge=0, le=1)
    cpus_per_worker: int = Field(default=1, gt=0, description="also the threads that torch may use without a GPU")
    data_cpus: int = Field(default=0, ge=0, description="CPUs left to Ray Data for decoding, for each of several runs at once")
    zero: int = Field(default=0, ge=0, le=3, description="DeepSpeed ZeRO stage")
    offload: bool = Field(default=False, description="optimizer state in the memory of the CPU (needs zero >= 1)")
    accumulation: int = Field(default=1, gt=0, description="micro-batches that a worker's share of the batch is cut into")
    recompute: float = Field(default=0.0, ge=0, le=1, description="share of the blocks whose activations are computed again, not kept")
    compile: bool = Field(default=False, description="torch.compile of each block; one compilation whatever the depth")
    checkpoint_every: int = Field(default=1000, gt=0, description="steps")
    checkpoint_minutes: float = Field(default=15.0, gt=0, description="and whenever the last one is this old")
    keep: int = Field(default=2, gt=0, description="newest checkpoints kept, beside the best by the evaluations")
    keep_every: int = Field(default=0, ge=0, description="checkpoints of multiples of this many steps are kept for good; 0: none")
    log_every: int = Field(default=50, gt=0, description="steps between two points of a curve")
    evaluate_every: int = Field(default=0, ge=0, description="steps between two evaluations on held-out samples; 0: at the end only")
    metrics: tuple[str, ...] = Field(
        default=("rPSNR", "rSSIM", "LPIPS"), min_length=1, description="what evaluations measure, see `vitok doctor`; a comma between names"
    )
    bad_steps: int = Field(default=3, gt=0, description="non-finite steps in a row that lead back to the last checkpoint, with other data")
    spot: Literal["", "aws", "gcp"] = Field(default="", description="ask this cloud whether the node will be taken away")
    hang_minutes: float = Field(default=15.0, gt=0, description="a step that takes longer is taken for hung, and its ranks are named")
    device_gb: float = Field(default=0.0, ge=0, description="memory of one worker's device; for a warning before the start; 0: unknown")
    tflops: float = Field(gt=0, description="peak of one worker, TFLOP/s at the recipe's precision; for the estimate of hours only")
    utilisation: float = Field(gt=0, le=1, description="expected share of that peak; for the estimate of hours only")

    @field_validator("metrics", mode="before")
    @classmethod
    def _from_command_line(cls, value: Any) -> Any:
        return tuple(value.split(",")) if isinstance(value, str) else value

    def need(self, recipe: Training) -> dict[str, int]:
        """What a cluster must offer to one run: the workers' share, and a CPU to decode with where that goes on beside training."""
        cpus = self.workers * self.cpus_per_worker + int(recipe.decodes)
        return {"CPU": cpus, "GPU": self.workers * self.gpus_per_worker}

    def want(self, recipe: Training) -> dict[str, int]:
        """What one of several at once should have, so that none waits for another's data."""
        need = self.need(recipe)
        return need | {"CPU": max(need["CPU"], self.workers * self.cpus_per_worker + self.data_cpus)}


def recipe_of(tree: dict[str, Any]) -> Recipe | Generation:
    """The recipe that a tree of settings is of. Raises pydantic's `ValidationError`."""
    return (Generation if "dit" in tree else Recipe).model_validate(tree)


def recomputed(number: int, share: float) -> bool:
    """Whether block `number` is one of the share that `Resources.recompute` names, evenly spread over the depth."""
    return int((number + 1) * share + 1e-6) > int(number * share + 1e-6)


def check(recipe: Training, resources: Resources) -> None:
    """Raises `UsageError` for a recipe that its resources cannot run."""
    shares = resources.workers * resources.accumulation
    if recipe.batch_size % shares:
        micro = f" x {resources.accumulation} micro-batches" if resources.accumulation > 1 else ""
        raise UsageError(f"batch_size {recipe.batch_size} is not divisible by {resources.workers} workers{micro}")
    if resources.offload and not resources.zero:
        raise UsageError("resources.offload needs resources.zero of 1 or more")
    if isinstance(recipe, Recipe) and resources.evaluate_every and recipe.goal[0] not in resources.metrics:
        held = ",".join(resources.metrics)
        raise UsageError(f"resources.metrics must hold {recipe.goal[0]}, by which the best checkpoint is kept: it is {held}")
    if isinstance(recipe, Recipe) and recipe.gan and recipe.gan.adaptive and resources.zero == 3:
        raise UsageError("gan.adaptive looks at the weights of the last layer, which zero = 3 scatters: use resources.zero of 2 or less")
