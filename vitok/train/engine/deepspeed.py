"""The engine: DeepSpeed, and all of it that is used. One model, AdamW, ZeRO, clipping, bf16 autocast."""

import inspect
import logging
import math
import os
import sys
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vitok.config import Optimizer, Resources, Training
from vitok.costs.memory import bucket
from vitok.train.checkpoint.format import Saved
from vitok.train.engine.zero_shards import MOMENTS, shards_of
from vitok.train.ranks import Place


class Engine:
    """A model under DeepSpeed: its weights, AdamW's moments and the averaged weights (EMA), all of them cut over the ranks as
    ZeRO cuts them. `engine(...)` is the model's forward, under the recipe's precision."""

    def __init__(
        self, name: str, model: nn.Module, optimizer: Optimizer, recipe: Training, resources: Resources, place: Place, ema: float = 0.0
    ) -> None:
        self.name, self.place, self.clip, self.decay = name, place, optimizer.clip, ema
        self.precision, self.zero = recipe.precision, resources.zero
        deepspeed = init_deepspeed(place)
        kind = _AdamW if place.device.type == "cpu" else torch.optim.AdamW
        self._adam = kind(
            [p for p in model.to(place.device).parameters() if p.requires_grad], lr=0.0, betas=(optimizer.beta1, optimizer.beta2),
            weight_decay=optimizer.weight_decay, fused=True,
        )  # fmt: skip
        self.config = deepspeed_config(recipe, resources, optimizer, sum(p.numel() for p in self._trained()))
        self._engine, *_ = deepspeed.initialize(model=model, optimizer=self._adam, config=self.config)
        if self.zero == 0 and place.world == 1:
            self._engine.enable_backward_allreduce = False  # which copies all gradients there and back also when they are alone
        self.parts = shards_of(self._engine, place.rank, place.world)
        for keeper in {id(part.keeper): part.keeper for part in self.parts}.values():
            device = keeper.device if keeper.device.type == "cuda" else "cpu"
            self._adam.state[keeper] = {"step": torch.zeros((), device=device)} | {name: torch.zeros_like(keeper) for name in MOMENTS}
        self.average = [part.of(part.keeper).clone() for part in self.parts] if self.decay else None

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self._engine(*inputs, **options)

    @property
    def module(self) -> Any:
        """The model itself, for a forward whose gradients are not this engine's. Not under its precision: see `autocast`."""
        return self._engine.module

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the engine's precision, for forwards outside of it."""
        return autocast(self.place.device, self.precision)

    def backward(self, loss: Tensor) -> None:
        """Run the backward pass of one micro-batch; gradients are those of the mean over all micro-batches of the step."""
        self._engine.backward(loss)

    def micro_step(self) -> None:
        """Between two micro-batches of a step."""
        self._engine.step()

    def step(self, lr: float) -> float:
        """Clip and update at this learning rate, after the last micro-batch. Return the gradient's norm before clipping; with one that
        is not finite nothing is changed."""
        for group in self._adam.param_groups:
            group["lr"] = lr
        if self.zero == 0:  # DeepSpeed alone would neither tell the norm nor keep a bad one from the weights
            norm = float(torch.nn.utils.clip_grad_norm_(self._trained(), self.clip))
            if not math.isfinite(norm):
                self._engine.zero_grad()
            self._engine.step()
        else:
            self._engine.step()
            norm = float(self._engine.get_global_grad_norm())
        if self.average is not None and math.isfinite(norm):
            weights = [part.of(part.keeper) for part in self.parts]
            torch._foreach_lerp_(self.average, weights, 1 - self.decay)  # pyright: ignore[reportPrivateImportUsage]
        return norm

    @property
    def updates(self) -> int:
        """Steps that have changed the weights."""
        return int(next(iter(self._adam.state.values()))["step"])

    def kept(self) -> dict[str, list[Tensor]]:
        """Return what a checkpoint holds of this rank, by kind: one flat tensor for every shard."""
        found = {"weight": [part.of(part.keeper) for part in self.parts]}
        found |= {name: [part.of(self._adam.state[part.keeper][name]) for part in self.parts] for name in MOMENTS}
        return found | ({"average": self.average} if self.average is not None else {})

    def resume(self, saved: Saved) -> None:
        """Continue the optimizer of a checkpoint, whatever number of ranks and stage of ZeRO wrote it. Its weights are in the model
        already."""
        updated = shards_of(self._engine, 0, 1) if self.zero == 0 else self.parts  # without ZeRO every rank updates all elements
        for part in updated:
            for moment in MOMENTS:
                part.of(self._adam.state[part.keeper][moment]).copy_(saved.read(self.name, moment, part.name, part.start, part.size))
        if self.average is not None:
            for part, average in zip(self.parts, self.average, strict=True):
                average.copy_(saved.read(self.name, "average", part.name, part.start, part.size))
        for state in self._adam.state.values():
            state["step"].fill_(saved.updates[self.name])

    def weights(self, averaged: bool = False) -> dict[str, Tensor]:
        """Gather all float32 weights on every rank's CPU; `averaged`: the EMA's. A collective: every rank must call it."""
        kept = self.kept()["average" if averaged and self.average is not None else "weight"]
        shapes = {name: getattr(p, "ds_shape", p.shape) for name, p in self._engine.module.named_parameters() if p.requires_grad}
        found = {name: torch.zeros(math.prod(shape), device=self.place.device) for name, shape in shapes.items()}
        for part, tensor in zip(self.parts, kept, strict=True):
            found[part.name][part.start : part.start + part.size] = tensor
        for value in found.values():
            dist.all_reduce(value)  # each element is one rank's, zero on the others
        return {name: value.view(shapes[name]).cpu() for name, value in found.items()}

    def _trained(self) -> list[nn.Parameter]:
        return self._adam.param_groups[0]["params"]


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the autocast context of a precision: bf16, or none for fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def deepspeed_config(recipe: Training, resources: Resources, optimizer: Optimizer, params: int) -> dict[str, Any]:
    """Return the JSON that DeepSpeed gets for a model of so many trained parameters."""
    size = bucket(params)
    # Buffers of 100 MB, not DeepSpeed's two of 2 GB; of ZeRO-3 at most a block or two are whole at a time.
    zero: dict[str, Any] = {"stage": resources.zero, "reduce_bucket_size": size, "allgather_bucket_size": size}
    if resources.zero == 3:
        zero |= {"stage3_prefetch_bucket_size": size, "stage3_max_live_parameters": 2 * size, "stage3_max_reuse_distance": 2 * size}
    if resources.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": bool(resources.gpus_per_worker)}
    return {
        "train_batch_size": recipe.batch_size,
        "train_micro_batch_size_per_gpu": recipe.batch_size // (resources.workers * resources.accumulation),
        "gradient_accumulation_steps": resources.accumulation,
        "gradient_clipping": optimizer.clip if resources.zero else 0.0,  # without ZeRO the engine here clips
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # torch's own fused AdamW runs on CPUs too
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


def init_deepspeed(place: Place) -> Any:
    """Connect DeepSpeed to the process group, and return it; a lone process gets a group of its own."""
    deepspeed = _imported(place)
    os.environ.setdefault("LOCAL_RANK", "0")
    if not dist.is_initialized():
        backend = "nccl" if place.device.type == "cuda" else "gloo"
        store = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed(verbose=False)
    return deepspeed
