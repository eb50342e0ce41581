"""How ZeRO cuts a model into shards: which elements of which parameter this rank keeps, and in which flat tensor.

The cut differs with the stage and the number of ranks; the names and the elements do not. So a checkpoint is written by element, and
read by any other cut.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's


@dataclass(frozen=True)
class Shard:
    """Elements of one parameter that this rank keeps."""

    name: str  # of the parameter
    start: int  # first of its elements, in the order of memory
    size: int
    keeper: Tensor  # the float32 tensor that the optimizer updates
    place: int  # where in it these elements begin

    def of(self, keeper: Tensor) -> Tensor:
        """Return a view of these elements in the tensor that the optimizer updates, or in one of its moments."""
        return keeper.detach().view(-1)[self.place : self.place + self.size]


def shards_of(engine: Any, rank: int, world: int) -> list[Shard]:
    """Return the shards that `rank` keeps of a DeepSpeed engine's trained parameters. Over the ranks every element is there once."""
    cut = {0: _whole, 1: _flat, 2: _flat, 3: _spread}[engine.zero_optimization_stage()]
    found: list[Shard] = []
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad and (part := cut(engine.optimizer, name, parameter, rank, world)):
            found.append(part)
    return found


def _whole(_: Any, name: str, parameter: Any, rank: int, world: int) -> Shard | None:
    """Stage 0: all of everything on every rank; each answers for its share."""
    start, end = (parameter.numel() * r // world for r in (rank, rank + 1))
    return Shard(name, start, end - start, parameter, start) if end > start else None


def _flat(optimizer: Any, name: str, parameter: Any, rank: int, world: int) -> Shard | None:
    """Stages 1 and 2: all parameters in a row, the row cut into one piece a rank."""
    mapping = parameter._hp_mapping
    if mapping is None:
        return None
    keeper = optimizer.single_partition_of_fp32_groups[mapping.param_group_index]
    return Shard(name, mapping.lp_fragment_address.start, mapping.lp_fragment_address.numel, keeper, mapping.hp_fragment_address.start)


def _spread(optimizer: Any, name: str, parameter: Any, rank: int, world: int) -> Shard | None:
    """Stage 3: each parameter cut into one piece a rank, the last one padded."""
    group, place, size = optimizer.grad_position[optimizer.get_param_id(parameter)]
    start = rank * size
    size = min(size, parameter.ds_numel - start)
    return Shard(name, start, size, optimizer.fp32_partitioned_groups_flat[group], place) if size > 0 else None
