"""Recipe of a generator (section 2.3)."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from vitok.config.tokenizer import FrozenConfig, Tower
from vitok.config.training import Data, Optimizer, Recipe, Training


class Latents(FrozenConfig):
    """The training data of a generator: views of the training split, encoded once by its tokenizer."""

    crops: int = Field(
        default=1, gt=0, le=10**6, description="views of each sample: 1 is the centre crop (ADM), more are fixed random crops"
    )
    views: int = Field(default=0, ge=0, description="so many of those views at most, evenly spread over the samples; 0: all")
    smallest_crop: float = Field(default=0.35, gt=0, le=1, description="of random crops: smallest side as a share of the short side")
    flip: bool = Field(default=True, description="every view is there mirrored too")
    fps: float = Field(default=8.0, gt=0, le=1000, description="frames a second of a clip (3.3, figure 10)")
    max_rejected: float = Field(default=0.05, ge=0, le=1, description="share of samples that may be unusable before a build stops")

    def data(self) -> Data:
        """Return the settings that readers of a corpus take."""
        return Data(
            smallest_crop=self.smallest_crop, validation_crops=self.crops, validation_views=self.views, fps=self.fps,
            max_rejected=self.max_rejected,
        )  # fmt: skip


class Diffusion(FrozenConfig):
    """The training objective of a DiT and its noise schedule."""

    objective: Literal["noise", "flow"] = Field(
        default="noise", description="noise: of the schedule's (2.3); flow: the velocity of a straight path (Lipman et al. 2023)"
    )
    timesteps: int = Field(default=1000, gt=1, le=10**6, description="of the schedule (Ho et al. 2020)")
    beta_first: float = Field(default=1e-4, gt=0, lt=1, description="the schedule's first noise variance; linear to the last")
    beta_last: float = Field(default=2e-2, gt=0, lt=1, description="its last")
    label_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="share of the labels that are hidden, for guidance (Ho, Salimans 2022)"
    )


class Sampling(FrozenConfig):
    """The samples that a generator is evaluated by."""

    count: int = Field(default=50_000, gt=0, le=10**9, description="(2.3)")
    steps: int = Field(default=250, gt=0, le=10**6, description="DDIM's, or Euler's of a flow (2.3)")
    cfg: float = Field(default=1.5, ge=0, le=1e3, description="guidance scale; 1: none (2.3)")
    spacing: Literal["leading", "trailing"] = Field(
        default="leading",
        description="of DDIM's steps: 996, ..., 4, 0 of 1000, as ADM's; trailing: 999, 995, ..., 3 (Lin et al. 2024)",
    )


class Generation(Training):
    """The recipe of a generator (section 2.3): a class-conditional DiT on the latents of a tokenizer."""

    tokenizer: Recipe = Field(description="the run that the tokenizer comes of")
    dit: Tower
    optimizer: Optimizer = Optimizer(beta2=0.999, weight_decay=0.0, warmup=0.0)
    batch_size: int = Field(default=256, gt=0, le=10**7, description="samples a step, over all workers (2.3)")
    steps: int = Field(default=500_000, gt=0, le=10**9, description="(2.3; 4M in 4.1)")
    ema: float = Field(default=0.9999, ge=0, lt=1, description="decay of averaged weights, which are what is sampled from; 0: off")
    start: str = Field(default="", description="SHA-256 of the tokenizer's weights; empty: those that its recipe comes to")
    conditional: bool = Field(default=True, description="on the corpus's labels")
    latents: Latents = Latents()
    diffusion: Diffusion = Diffusion()
    sampling: Sampling = Sampling()

    @property
    def parent(self) -> Recipe:
        """The run of the tokenizer."""
        return self.tokenizer

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.conditional and self.sampling.cfg != 1:
            raise ValueError(f"sampling.cfg {self.sampling.cfg:g} guides by labels, which conditional = False has none of: set it to 1")
        if self.diffusion.objective == "noise" and self.sampling.steps > self.diffusion.timesteps:
            raise ValueError(f"sampling.steps {self.sampling.steps} is more than the schedule's {self.diffusion.timesteps}")
        return self


def parse_recipe(tree: dict[str, Any]) -> Recipe | Generation:
    """Return the recipe in a tree of settings. Raises pydantic's `ValidationError`."""
    return (Generation if "dit" in tree else Recipe).model_validate(tree)
