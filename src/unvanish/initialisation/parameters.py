"""The parameters of a model: whose they are, what kind of layer, and which to leave alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from unvanish.errors import UsageError
from unvanish.i18n import _

Kind = Literal[
    "dense", "dense (in, out)", "conv", "transposed conv", "embedding", "recurrent", "attention",
    "norm", "other",
]  # fmt: skip
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True, slots=True)
class Owned:
    """One parameter and the module that holds it, under its first name."""

    name: str
    tensor: nn.Parameter
    module: nn.Module
    path: str
    attribute: str
    kind: Kind
    tied: tuple[str, ...] = ()  # further names of the same tensor
    left: str | None = None  # why it is left alone; None: it may be set

    @property
    def is_bias(self) -> bool:
        """Whether it is a vector that is added."""
        return self.attribute == "bias" or self.attribute.startswith("bias_")

    @property
    def bias(self) -> str | None:
        """The name of the bias beside this weight, None where there is none that may be set."""
        beside = self.module._parameters.get("bias")
        if self.attribute != "weight" or beside is None or not beside.requires_grad:
            return None
        return f"{self.path}.bias" if self.path else "bias"


def parameters_of(model: nn.Module) -> dict[str, Owned]:
    """Return the parameters of `model` by name, in the order of registration.

    Raises UsageError where one has no values yet (lazy modules, the meta device).
    """
    found: dict[str, Owned] = {}
    first: dict[int, str] = {}
    for path, module in model.named_modules():
        for attribute, tensor in module._parameters.items():
            if tensor is None:
                continue
            name = f"{path}.{attribute}" if path else attribute
            if id(tensor) in first:
                known = found[first[id(tensor)]]
                found[known.name] = _with_alias(known, name)
                continue
            if isinstance(tensor, UninitializedParameter) or tensor.device.type == "meta":
                raise UsageError(
                    _("{name} has no values yet").format(name=name),
                    _("Run one batch through lazy modules first; move meta tensors to a device."),
                )
            first[id(tensor)] = name
            kind = _kind(module, attribute)
            left = _reason(name, tensor, module, attribute, kind)
            found[name] = Owned(name, tensor, module, path, attribute, kind, (), left)
    return found


def _with_alias(known: Owned, name: str) -> Owned:
    return Owned(
        known.name,
        known.tensor,
        known.module,
        known.path,
        known.attribute,
        known.kind,
        (*known.tied, name),
        known.left,
    )


def _kind(module: nn.Module, attribute: str) -> Kind:
    if isinstance(module, nn.MultiheadAttention):
        return "attention"
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return "recurrent"
    if isinstance(module, NORMS) or "norm" in type(module).__name__.lower():
        return "norm"
    if attribute not in ("weight", "bias"):
        return "other"
    if isinstance(module, nn.Linear):
        return "dense"
    if isinstance(module, _ConvTransposeNd):
        return "transposed conv"
    if isinstance(module, _ConvNd):
        return "conv"
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "embedding"
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):  # transformers' GPT-2
        return "dense (in, out)"
    return "other"


def _reason(name: str, tensor: Tensor, module: nn.Module, attribute: str, kind: Kind) -> str | None:
    """Return why this parameter is not to be touched, None where it may be set."""
    if not tensor.requires_grad:
        return _("frozen")
    if not tensor.is_floating_point() or tensor.layout != torch.strided:
        return _("not a dense floating-point tensor")
    if type(tensor.data) is not Tensor or type(tensor) not in (nn.Parameter, Tensor):
        return _("a tensor of a kind of its own ({kind})").format(kind=type(tensor).__name__)
    if isinstance(module, parametrize.ParametrizationList) or _is_derived(module, attribute):
        return _("the weight is computed from it (weight norm or another parametrisation)")
    if "lora_" in name.lower() or "adapter" in name.lower().split("."):
        return _("an adapter beside a pretrained layer: its own start is meant")
    if kind == "other":
        return _("held by {kind}, no layer whose weights it knows").format(
            kind=type(module).__name__
        )
    if tensor.dim() > 1 and not bool(tensor.detach().count_nonzero()):
        return _("all zeros, taken as meant so (a closed branch, head or adapter)")
    return None


def _is_derived(module: nn.Module, attribute: str) -> bool:
    """Whether torch's older weight_norm and spectral_norm make the weight of this parameter."""
    for ending in ("_g", "_v", "_orig"):
        if attribute.endswith(ending):
            plain = attribute.removesuffix(ending)
            return plain not in module._parameters and hasattr(module, plain)
    return False
