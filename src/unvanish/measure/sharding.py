"""Parameters that are spread over ranks: FSDP2's (`fully_shard`) are DTensors.

Between steps a module holds this rank's shard of each parameter. For a forward and its backward
FSDP2 gathers the parameters, and those gathered ones are the leaves of the autograd graph. After
the forward it gives their memory back and keeps the tensors: reading one then is a segmentation
fault, so whoever reads a leaf or a saved tensor asks `emptied` first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def emptied(tensor: Tensor) -> bool:
    """Whether the memory of `tensor` was given back, so that its entries must not be read."""
    if tensor.layout != torch.strided or is_spread(tensor) or tensor.numel() == 0:
        return False
    return tensor.untyped_storage().nbytes() == 0


def is_spread(tensor: Tensor) -> bool:
    """Whether `tensor` is a DTensor: this process holds a part of it."""
    return hasattr(tensor, "to_local")


def is_partial(value: object) -> bool:
    """Whether `value` is a tensor of which other ranks hold other parts."""
    if not isinstance(value, Tensor) or not is_spread(value):
        return False
    return cast("DTensor", value).device_mesh.size() > 1


def gathered(modules: Iterable[nn.Module]) -> dict[int, Tensor]:
    """Return, by id of each gathered parameter in the tree of `modules`, the sharded one."""
    if "torch.distributed.fsdp" not in sys.modules:
        return {}
    from torch.distributed.fsdp import FSDPModule

    found: dict[int, Tensor] = {}
    for root in modules:
        for module in root.modules():
            if not isinstance(module, FSDPModule):
                continue
            # Of torch's own, and without a public name (read in torch 2.13).
            for group in getattr(module._get_fsdp_state(), "_fsdp_param_groups", ()):
                for one in getattr(group, "fsdp_params", ()):
                    whole = getattr(one, "_unsharded_param", None)
                    if whole is not None:
                        found[id(whole)] = one.sharded_param
    return found


def named_parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters of `model` with their names, the sharded ones where both are there."""
    sharded = gathered([model])
    for name, parameter in model.named_parameters():
        yield name, sharded.get(id(parameter), parameter)


def plain_class(module: nn.Module) -> str:
    """Return the class that the user wrote: FSDP2 puts one of its own, "FSDPLinear", before it."""
    kinds = type(module).__mro__
    mixed_in = len(kinds) > 2 and kinds[1].__name__ == "FSDPModule"
    return kinds[2].__name__ if mixed_in else kinds[0].__name__


@dataclass(frozen=True, slots=True)
class Shard:
    """This rank's part in a parameter that is spread over ranks."""

    counts: bool  # whether it adds to the whole: of copies of one part, one does
    summable: bool = True  # False: of parts that do not simply add up


def shard_of(tensor: Tensor) -> Shard | None:
    """Return this rank's part in `tensor`; None of a plain tensor, which each rank has whole."""
    if getattr(tensor, "_fsdp_flattened", False):  # FSDP's first generation: a piece of a piece
        return Shard(counts=False, summable=False)
    if not is_spread(tensor):
        return None
    mesh, placements = cast("DTensor", tensor).device_mesh, cast("DTensor", tensor).placements
    place = mesh.get_coordinate()
    if place is None:  # this rank has none of it
        return Shard(counts=False)
    copies = [at for at, kind in zip(place, placements, strict=True) if kind.is_replicate()]
    partial = any(kind.is_partial() for kind in placements)
    return Shard(counts=not any(copies), summable=not partial)
