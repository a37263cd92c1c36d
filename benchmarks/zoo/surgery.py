"""The faults themselves: what is changed in a model, in place, or in its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from benchmarks.zoo.specimen import UnbuildableError
from torch import Tensor, nn

_WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.CELU, nn.SELU, nn.PReLU,
    nn.Hardswish, nn.Hardtanh, nn.Softplus, nn.Tanh,
)  # fmt: skip
_ACTIVATION_MODULES = ("transformers.activations", "timm.layers.activations")


def weights(model: nn.Module) -> Iterator[Tensor]:
    """Yield the weights of all linear and convolution layers, those that are shared once."""
    seen: set[int] = set()
    for module in model.modules():
        weight = getattr(module, "weight", None)
        # transformers' own: Conv1D, and experts that hold theirs as one tensor
        known = isinstance(module, _WEIGHTED) or type(module).__name__ == "Conv1D"
        if known and isinstance(weight, nn.Parameter) and id(weight) not in seen:
            seen.add(id(weight))
            yield weight


@torch.no_grad()
def scaled(model: nn.Module, by: float) -> None:
    """Multiply all linear and convolution weights."""
    for weight in weights(model):
        weight.mul_(by)


@torch.no_grad()
def drawn(model: nn.Module, deviation: float) -> None:
    """Draw all linear and convolution weights from N(0, deviation²)."""
    generator = torch.Generator().manual_seed(1)
    for weight in weights(model):
        weight.copy_(torch.randn(weight.shape, generator=generator) * deviation)


@torch.no_grad()
def everything(model: nn.Module, by: float) -> None:
    """Multiply every parameter, the scales of normalisations and embeddings too."""
    for parameter in model.parameters():
        parameter.mul_(by)


class Through(nn.Module):
    """Gives back its first argument, whatever else it is called with."""

    def forward(self, value: Any, *_args: Any, **_kwargs: Any) -> Any:
        return value


def without_norms(model: nn.Module) -> None:
    """Take every normalisation out; one that holds an activation leaves that. UnbuildableError."""

    def bare(module: nn.Module) -> nn.Module:
        activation = getattr(module, "act", None)
        return activation if isinstance(activation, nn.Module) else Through()

    _replaced(model, is_norm, bare)


def is_norm(module: nn.Module) -> bool:
    """Whether a module only normalises (and may apply an activation), by its class or its name."""
    if isinstance(module, _NORMS):
        return True
    parts = module.modules()
    return "Norm" in type(module).__name__ and not any(isinstance(m, _WEIGHTED) for m in parts)


def with_sigmoid(model: nn.Module) -> None:
    """Put a sigmoid in place of every activation that is a module. Raises UnbuildableError."""
    _replaced(model, is_activation, lambda module: nn.Sigmoid())


def is_activation(module: nn.Module) -> bool:
    """Whether a module is an element-wise nonlinearity other than a sigmoid."""
    if isinstance(module, _ACTIVATIONS):
        return True
    home, name = type(module).__module__, type(module).__name__
    return home.startswith(_ACTIVATION_MODULES) and "Sigmoid" not in name


def _replaced(
    model: nn.Module,
    chosen: Callable[[nn.Module], bool],
    made: Callable[[nn.Module], nn.Module],
) -> None:
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if chosen(child)
    ]
    if not places:
        raise UnbuildableError("there is nothing to replace")
    for parent, name, child in places:
        parent._modules[name] = made(child)


def raw(batch: Any) -> Any:
    """Return the batch with its real-valued inputs scaled to 0 … 255. Raises UnbuildableError."""
    if isinstance(batch, tuple) and isinstance(batch[0], dict):
        return (raw(batch[0]), *batch[1:])
    items = dict(batch) if isinstance(batch, dict) else dict(enumerate(batch))
    real = [
        key
        for key, value in items.items()
        if isinstance(value, Tensor) and value.is_floating_point()
    ]
    if not real:
        raise UnbuildableError("no real-valued input")
    for key in real:
        low, high = items[key].min(), items[key].max()
        items[key] = 255 * (items[key] - low) / (high - low)
    return items if isinstance(batch, dict) else tuple(items.values())


def detached(model: nn.Module, loss: Callable[[], Tensor]) -> None:
    """Detach the output of a module, so that what lies before it gets no gradient.

    The module nearest to the middle of the parameters of which that is true: a quarter of
    all of them must lose their gradient (a cut shortcut beside a residual branch is no cut).
    `loss` runs the model. Raises UnbuildableError if there is no such place.
    """
    ends: dict[int, int] = {}
    total = 0
    for parameter in model.parameters():
        total += parameter.numel()
        ends[id(parameter)] = total
    blocks = [
        (abs(ends[id(inside[-1])] - total / 2), number, module)
        for number, module in enumerate(model.modules())
        if (inside := list(module.parameters()))
        and module is not model
        and not isinstance(module, nn.ModuleList | nn.ModuleDict)
    ]
    before = _reached(model, loss)
    for _distance, _number, block in sorted(blocks, key=lambda each: each[:2])[:_PLACES]:
        block.forward = _cut(block.forward)  # type: ignore[method-assign]
        try:
            if _reached(model, loss) < (1 - _LOST) * before:
                return
        except (RuntimeError, AttributeError, TypeError):
            pass  # its output is no plain tensor, or nothing requires a gradient any more
        del block.__dict__["forward"]
    raise UnbuildableError("no block whose output is all that is passed on")


_PLACES = 30  # modules that are tried
_LOST = 0.25  # share of the parameters that lie before the cut


def _reached(model: nn.Module, loss: Callable[[], Tensor]) -> int:
    """Return how many entries of parameters a gradient reaches."""
    parameters = [each for each in model.parameters() if each.requires_grad]
    found = torch.autograd.grad(loss(), parameters, allow_unused=True)
    return sum(p.numel() for p, grad in zip(parameters, found, strict=True) if grad is not None)


def _cut(forward: Callable[..., Any]) -> Callable[..., Any]:
    def cut(*args: Any, **kwargs: Any) -> Any:
        return _detached(forward(*args, **kwargs))

    return cut


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, list | tuple):
        return type(value)(map(_detached, value))
    return value
