"""Recipe of a tokenizer (section 2.3), and the settings that every recipe has."""

import hashlib
import json
from typing import Literal, Self

from pydantic import Field, model_validator

from vitok.config.tokenizer import FrozenConfig, TokenizerConfig

SMALLEST = {"vgg16": 16, "alexnet": 31}  # pixels that LPIPS needs: each of its trunks halves them several times


class Loss(FrozenConfig):
    """Weights of equation 1 without its adversarial term."""

    reconstruction: Literal["l2", "l1"] = Field(default="l2", description="mean over pixels in [-1, 1] (2.3; l1 in 3.4)")
    kl: float = Field(default=1e-3, ge=0, le=1e6, description="beta, on the mean over latent elements (2.3)")
    lpips: float = Field(default=1.0, ge=0, le=1e6, description="eta (2.3; called lambda in 3.4)")
    lpips_network: Literal["vgg16", "alexnet"] = Field(default="vgg16", description="trunk of LPIPS; the paper names VGG (2.1)")


class Optimizer(FrozenConfig):
    """AdamW with linear warmup. A tokenizer's learning rate then decays to zero as a cosine (section 2.3); a DiT's stays."""

    lr: float = Field(default=1e-4, gt=0, le=10, description="peak learning rate for a batch of 256 samples; scaled with the batch (2.3)")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="(2.3)")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="(2.3)")
    weight_decay: float = Field(default=1e-4, ge=0, le=1e3, description="(2.3)")
    warmup: float = Field(default=0.03, ge=0, lt=1, description="share of the steps with a rising learning rate")
    clip: float = Field(default=1.0, gt=0, le=1e6, description="largest norm of the gradient")


class Data(FrozenConfig):
    """Sampling and augmentation of photographs and videos. A training sample is a square crop of random position and scale."""

    smallest_crop: float = Field(
        default=0.35, gt=0, le=1, description="smallest crop side as a share of the short side, never under `size` pixels"
    )
    pool: int = Field(
        default=0,
        ge=0,
        le=10**9,
        description="decode this many training crops once and draw batches from them (0: a fresh crop every time)",
    )
    flip: bool = Field(default=True, description="mirror a training sample with probability 1/2")
    validation_crops: int = Field(
        default=1, gt=0, le=10**6, description="views of each held-out sample: 1 is the centre crop (ADM), more are fixed random crops"
    )
    validation_views: int = Field(default=0, ge=0, description="so many of those views at most, evenly spread over the samples; 0: all")
    fps: float = Field(default=8.0, gt=0, le=1000, description="frames a second of a clip (3.3, figure 10: 16 frames at 8 fps)")
    max_rejected: float = Field(default=0.05, ge=0, le=1, description="share of samples that may be unusable before a run stops")


class Gan(FrozenConfig):
    """Stage 2 (sections 2.3 and A.3).

    The ablations of Figure 13: `weight` 0 is fine-tuning without a GAN; `lr` 1e-5, 2e-5, 4e-5; `weight` 0.1 with `lr` 1e-5; `tuned` "all".
    """

    weight: float = Field(
        default=0.05, ge=0, le=1e6, description="lambda of equation 1; A.3 found 0.05 best, 2.3 says 1.0; 0: no discriminator"
    )
    ramp: float = Field(default=0.25, ge=0, le=1, description="share of the steps over which the weight rises from 0 (2.3: 25k of 100k)")
    lr: float = Field(
        default=2e-5, gt=0, le=10, description="peak learning rate of the discriminator, not scaled with the batch (2.3, A.3)"
    )
    tuned: Literal["decoder", "all"] = Field(default="decoder", description="what is fine-tuned; all: the encoder too (A.3)")
    frames: Literal["each", "together"] = Field(default="each", description="a clip is judged frame by frame, or by 3D convolutions")
    base_channels: int = Field(
        default=8192, ge=16, le=1 << 20, description="channels at a side of r pixels: base / r * 2, at most 512 (Karras et al. 2019)"
    )
    r1: float = Field(
        default=0.0, ge=0, le=1e9, description="weight of R1, the gradient penalty on real samples (Mescheder et al. 2018); 0: off"
    )
    r1_every: int = Field(default=16, gt=0, description="steps between two R1 terms, each weighted by this number (Karras et al. 2020)")
    adaptive: bool = Field(
        default=False, description="scale the weight by the ratio of the gradients of the last layer (Esser et al. 2021, equation 7)"
    )


class Training(FrozenConfig):
    """Settings that decide the result of every run."""

    optimizer: Optimizer = Optimizer()
    batch_size: int = Field(default=1024, gt=0, le=10**7, description="samples a step, over all workers (2.3)")
    steps: int = Field(default=100_000, gt=0, le=10**9, description="(2.3)")
    precision: Literal["bf16", "fp32"] = Field(default="bf16", description="autocast (2.3)")
    seed: int = Field(default=0, ge=0, description="of weights, noise and the order of samples")
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="decay of averaged weights, which are then what is evaluated and kept (2.3); 0: off"
    )
    start: str = Field(default="", description="SHA-256 of the weights that training starts from; empty: drawn from the seed")

    @property
    def decodes(self) -> bool:
        """True if samples are decoded during training."""
        return False

    @property
    def parent(self) -> "Recipe | None":
        """The run whose weights this one starts from; None if the recipe does not name it."""
        return None

    def digest(self, fingerprint: str) -> str:
        """Return the identity of a cell: SHA-256 over this recipe and the corpus's fingerprint, 16 hex digits."""
        text = json.dumps([self.model_dump(mode="json"), fingerprint], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Recipe(Training):
    """The recipe of a tokenizer: of stage 2 with `gan`, else of stage 1."""

    tokenizer: TokenizerConfig
    loss: Loss = Loss()
    data: Data = Data()
    gan: Gan | None = Field(default=None, description="stage 2")
    stage1: "Recipe | None" = Field(default=None, description="the run that stage 2 continues; without it `start` names the weights")

    @model_validator(mode="after")
    def _check(self) -> Self:
        smallest = SMALLEST[self.loss.lpips_network]
        if self.loss.lpips and self.tokenizer.size < smallest:
            raise ValueError(
                f"tokenizer.size {self.tokenizer.size} is too small for LPIPS on {self.loss.lpips_network}, which needs {smallest} pixels: "
                "loss.lpips = 0 leaves it out"
            )
        if self.gan and self.gan.weight and (self.tokenizer.size < 8 or self.tokenizer.size & (self.tokenizer.size - 1)):
            raise ValueError(f"the discriminator halves its input: tokenizer.size {self.tokenizer.size} is not a power of two from 8 on")
        if self.gan and not self.start and not self.stage1:
            raise ValueError("stage 2 continues a stage 1: name its run with --init")
        if self.stage1 and (not self.gan or self.stage1.tokenizer != self.tokenizer):
            raise ValueError("stage1 is of another tokenizer" if self.gan else "stage1 is for stage 2 alone, which has a gan")
        return self

    @property
    def parent(self) -> "Recipe | None":
        """The stage 1 that this stage 2 continues."""
        return self.stage1

    @property
    def decodes(self) -> bool:
        """True if samples are decoded during training, which they are unless crops come from a pool."""
        return self.data.pool == 0

    @property
    def stage(self) -> int:
        """The stage of training, 1 or 2."""
        return 2 if self.gan else 1

    @property
    def goal(self) -> tuple[str, bool]:
        """The metric by which a run keeps its best checkpoint, and whether higher values are better."""
        return ("LPIPS", False) if self.gan else ("rPSNR", True)
