"""DeepSpeed, and all of it that is used: one model, AdamW, ZeRO, clipping, bf16 autocast, checkpoints."""

import inspect
import logging
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vitok.config import Recipe, Resources


@dataclass(frozen=True)
class Place:
    """Which process this is among those that train one model."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


class Engine:
    """A model under DeepSpeed. `engine(...)` is the model's forward, under the recipe's precision."""

    def __init__(self, model: nn.Module, recipe: Recipe, resources: Resources, place: Place) -> None:
        deepspeed = _connected(place)
        kind = _AdamW if place.device.type == "cpu" else torch.optim.AdamW
        optimizer = kind(
            model.to(place.device).parameters(), lr=1.0, betas=(recipe.optimizer.beta1, recipe.optimizer.beta2),
            weight_decay=recipe.optimizer.weight_decay, fused=True,
        )  # fmt: skip
        self.config = settings(recipe, resources)
        self._engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=self.config)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self._engine(*inputs, **options)

    def update(self, loss: Tensor, lr: float) -> float:
        """Backward, clip, step at this learning rate. Returns the gradient's norm before clipping."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        self._engine.backward(loss)
        self._engine.step()
        return float(self._engine.get_global_grad_norm() or 0.0)

    def state(self) -> dict[str, Tensor]:
        """The model's float32 weights on the CPU. Under ZeRO-3 a collective: every rank must call it."""
        import deepspeed

        parameters = [p for p in self._engine.module.parameters() if hasattr(p, "ds_id")]
        with deepspeed.zero.GatheredParameters(parameters, enabled=bool(parameters)):
            return {k: v.detach().float().cpu().clone() for k, v in self._engine.module.state_dict().items()}

    def train(self, mode: bool = True) -> None:
        self._engine.module.train(mode)

    def save(self, folder: Path) -> None:
        """Every rank writes its part into `folder`."""
        self._engine.save_checkpoint(str(folder), tag="engine", save_latest=False)

    def load(self, folder: Path) -> None:
        self._engine.load_checkpoint(str(folder), tag="engine")


def settings(recipe: Recipe, resources: Resources) -> dict[str, Any]:
    """The JSON that DeepSpeed gets."""
    return {
        "train_batch_size": recipe.batch_size,
        "train_micro_batch_size_per_gpu": recipe.batch_size // resources.workers,
        "gradient_clipping": recipe.optimizer.clip,
        "zero_optimization": {"stage": resources.zero},
        "zero_allow_untested_optimizer": True,
        # Parameters and optimizer stay float32, only the modules that are safe in bf16 compute in it: the paper's
        # "bfloat16 autocasting" (2.3), where DeepSpeed's own bf16 mode would train bf16 weights.
        "torch_autocast": {"enabled": recipe.precision == "bf16", "dtype": "bfloat16"},
        "steps_per_print": sys.maxsize,
    }


class _AdamW(torch.optim.AdamW):
    """AdamW without the import of torch._dynamo, three seconds of a first trial. torch's optimizers import it when first used,
    only to keep some methods from being compiled and to break the graph around a step; nothing is compiled on CPUs here."""

    # The step inside torch's wrappers, with what they do beside it: no gradients.
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))  # pyright: ignore[reportAssignmentType]

    def __init__(self, *inputs: Any, **options: Any) -> None:
        for method in vars(torch.optim.Optimizer).values():
            inner = getattr(method, "__wrapped__", None)
            if inner is not None and not hasattr(inner, "__dynamo_disable"):
                setattr(inner, "__dynamo_disable", inner)
        super().__init__(*inputs, **options)


def _imported(place: Place) -> Any:
    """DeepSpeed, imported for this kind of device, which it would else choose by what the machine has."""
    if place.device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    # Its autotuner, unused here, imports MLflow if it can: two seconds of every trial's start.
    hidden = {"mlflow": sys.modules.pop("mlflow", None)} if "deepspeed" not in sys.modules else {}
    modules: dict[str, Any] = sys.modules
    modules.update(dict.fromkeys(hidden))
    try:
        import deepspeed
    finally:
        for name, module in hidden.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
    deepspeed.utils.logger.setLevel(logging.WARNING)
    # An all-reduce for inference that DeepSpeed would compile with g++ at start; nothing here calls it.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _connected(place: Place) -> Any:
    """DeepSpeed on the process group; a lone process gets a group of its own."""
    deepspeed = _imported(place)
    os.environ.setdefault("LOCAL_RANK", "0")
    if not dist.is_initialized():
        backend = "nccl" if place.device.type == "cuda" else "gloo"
        store = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed(verbose=False)
    return deepspeed
