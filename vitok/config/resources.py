"""Resources of a run, and the settings of its reliability and logging."""

from typing import Any, Literal

from pydantic import Field, field_validator

from vitok.config.tokenizer import FrozenConfig
from vitok.config.training import Recipe, Training
from vitok.errors import UsageError

TRIAL_SLOT = "trial_slot"  # custom resource, held by a trial that only drives a group of workers
WORKER_CPUS = 4  # beside each GPU, at the larger scales
DECODE = "decode"  # custom resource of nodes that decode, as many as their CPUs


class Resources(FrozenConfig):
    """Resources, reliability and logging of one run. They change a result no more than the order of sums changes its rounding."""

    workers: int = Field(default=1, gt=0, le=10**5, description="processes; the batch is shared among them")
    gpus_per_worker: int = Field(default=0, ge=0, le=1)
    cpus_per_worker: int = Field(default=1, gt=0, le=10**5, description="also the threads that torch may use without a GPU")
    data_cpus: int = Field(default=0, ge=0, le=10**5, description="CPUs left to Ray Data for decoding, for each of several runs at once")
    decode: Literal["anywhere", "cpu-nodes"] = Field(
        default="anywhere", description="cpu-nodes: decoding goes to the nodes that offer the custom resource `decode`, and nowhere else"
    )
    zero: int = Field(default=0, ge=0, le=3, description="DeepSpeed ZeRO stage")
    offload: bool = Field(default=False, description="optimizer state in the memory of the CPU (needs zero >= 1)")
    accumulation: int = Field(default=1, gt=0, le=10**7, description="micro-batches that a worker's share of the batch is cut into")
    recompute: float = Field(default=0.0, ge=0, le=1, description="share of the blocks whose activations are computed again, not kept")
    compile: bool = Field(default=False, description="torch.compile of each block; one compilation whatever the depth")
    checkpoint_every: int = Field(default=1000, gt=0, description="steps")
    checkpoint_minutes: float = Field(default=15.0, gt=0, le=1e6, description="and whenever the last one is this old")
    keep: int = Field(default=2, gt=0, description="newest checkpoints kept, beside the best by the evaluations")
    keep_every: int = Field(default=0, ge=0, description="checkpoints of multiples of this many steps are kept for good; 0: none")
    log_every: int = Field(default=50, gt=0, description="steps between two points of a curve")
    evaluate_every: int = Field(default=0, ge=0, description="steps between two evaluations on held-out samples; 0: at the end only")
    metrics: tuple[str, ...] = Field(
        default=("rPSNR", "rSSIM", "LPIPS"), min_length=1, description="what evaluations measure, see `vitok doctor`; a comma between names"
    )
    bad_steps: int = Field(default=3, gt=0, description="non-finite steps in a row that lead back to the last checkpoint, with other data")
    spot: Literal["", "aws", "gcp"] = Field(default="", description="ask this cloud whether the node will be taken away")
    hang_minutes: float = Field(
        default=15.0, gt=0, le=1e6, description="a step that takes longer is taken for hung, and its ranks are named"
    )
    device_gb: float = Field(
        default=0.0, ge=0, le=1e6, description="memory of one worker's device; for a warning before the start; 0: unknown"
    )
    tflops: float = Field(
        ge=1e-6, le=1e6, description="peak of one worker, TFLOP/s at the recipe's precision; for the estimate of hours only"
    )
    utilisation: float = Field(ge=1e-6, le=1, description="expected share of that peak; for the estimate of hours only")

    @field_validator("metrics", mode="before")
    @classmethod
    def _from_command_line(cls, value: Any) -> Any:
        return tuple(value.split(",")) if isinstance(value, str) else value

    def need(self, recipe: Training) -> dict[str, int]:
        """Return the Ray resources that a cluster must offer to one run: its workers' share, and a CPU to decode with if that happens
        during training.
        """
        apart = self.decode == "cpu-nodes"
        cpus = self.workers * self.cpus_per_worker + int(recipe.decodes and not apart)
        return {"CPU": cpus, "GPU": self.workers * self.gpus_per_worker} | ({DECODE: 1} if apart else {})

    @property
    def slots(self) -> dict[str, int]:
        """The Ray resources held by a trial that only drives a group of workers."""
        return {TRIAL_SLOT: 1} if self.workers > 1 else {}

    def want(self, recipe: Training) -> dict[str, int]:
        """Return the Ray resources that one of several concurrent runs should have, so that none waits for another's data."""
        need = self.need(recipe)
        if DECODE in need:
            return need | {DECODE: max(1, self.data_cpus) if recipe.decodes else 0}
        return need | {"CPU": max(need["CPU"], self.workers * self.cpus_per_worker + self.data_cpus)}


def is_recomputed(number: int, share: float) -> bool:
    """Return whether block `number` belongs to the share named by `Resources.recompute`, which is spread evenly over the depth."""
    return int((number + 1) * share + 1e-6) > int(number * share + 1e-6)


def check_resources(recipe: Training, resources: Resources) -> None:
    """Raise `UsageError` for a recipe that its resources cannot run."""
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
