"""Running the model without leaving a trace: on a batch, or on input that fits its first layer."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from unvanish.errors import NoSignalError, UsageError, UserCodeError
from unvanish.i18n import _
from unvanish.measure import CallLog
from unvanish.measure.forward import tensors_in
from unvanish.measure.passes import BackwardPass, prepare
from unvanish.measure.path import Numbers
from unvanish.measure.preserve import preserved
from unvanish.measure.reduce import Reducer

Forward = Callable[[], Any]
_SAMPLES = 16  # of random input
_IMAGE_SIZES = (32, 64, 28, 224, 16)
_LENGTH = 16  # of a random sequence


@dataclass(frozen=True, slots=True)
class Observation:
    """One forward, and one backward of random cotangents from the network's output."""

    measured: BackwardPass
    numbers: Numbers


def differentiable(batch: Any) -> Any:
    """Return the batch with copies that require gradients in place of its floating-point tensors.

    The graph then begins at the input, so that a skip around the first layer is seen.
    """

    def leaf(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        with torch.inference_mode(False), torch.enable_grad():
            # a clone of the leaf, so that a model that writes into its input may do so
            return tensor.detach().clone().requires_grad_().clone()

    return _mapped(batch, leaf)


def ordinary(batch: Any) -> Any:
    """Return the batch with copies in place of tensors made in inference mode."""
    return _mapped(batch, lambda tensor: tensor.clone() if tensor.is_inference() else tensor)


def _mapped(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        return {key: _mapped(value, change) for key, value in batch.items()}
    if type(batch) in (list, tuple):
        return type(batch)(_mapped(item, change) for item in batch)
    return batch


def forward_of(model: nn.Module, batch: Any, loss_fn: Callable[[Any, Any], Any] | None) -> Forward:
    """Return a function that runs the model on the batch.

    With a loss function, loss_fn(model, batch). Without: model(**batch) for a mapping, and for a
    tuple or list as many of its items as the model takes by position, so that the label of (input,
    label) is left out.
    """
    if loss_fn is not None:
        return lambda: loss_fn(model, batch)
    if isinstance(batch, Mapping):
        return lambda: model(**batch)
    if isinstance(batch, tuple | list):
        items = list(batch)[: _positions(model)]
        return lambda: model(*items)
    return lambda: model(batch)


def _positions(model: nn.Module) -> int:
    """Return how many arguments a forward needs by position, at least one."""
    needed = [
        parameter
        for parameter in inspect.signature(model.forward).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return max(len(needed), 1)


def observe(model: nn.Module, forward: Forward, generator: Generator) -> Observation:
    """Run `forward` and send random unit-variance cotangents back from the model's output.

    Nothing is left changed. Raises UserCodeError where the model raises, NoSignalError where its
    output does not depend on a parameter that requires a gradient.
    """
    log = CallLog(keep_inputs=False, forward_statistics=False)
    with preserved(model), torch.inference_mode(False), torch.enable_grad(), _outputs(model) as out:
        log.install()
        try:
            log.active = True
            result = run(forward)
            calls = list(log.calls)
        finally:
            log.remove()
        roots = [t for t in out or tensors_in(result) if t.grad_fn is not None]
        if not roots:
            raise NoSignalError(
                _("the model's output does not depend on anything that requires a gradient"),
                _("Unfreeze what is to be initialised, and check for no_grad() and detach()."),
            )
        return _backward(roots, calls, generator)


def observe_either(
    model: nn.Module, forwards: tuple[Forward, Forward], generator: Generator
) -> Observation:
    """Observe the first of two forwards that works. Raises what the second raises."""
    try:
        return observe(model, forwards[0], generator)
    except (UserCodeError, NoSignalError):
        return observe(model, forwards[1], generator)


def run(forward: Forward) -> Any:
    """Call `forward`. Raises UserCodeError from whatever it raises."""
    try:
        return forward()
    except Exception as error:
        told = str(error).strip().splitlines()
        raise UserCodeError(
            _("the model failed on the batch: {kind}: {error}").format(
                kind=type(error).__name__, error=told[0] if told else ""
            ),
            _("Give the batch as the model takes it, or a loss_fn(model, batch) that calls it."),
        ) from error


@contextmanager
def _outputs(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the floating-point outputs of the first call of the model itself."""
    found: list[Tensor] = []

    def see(_module: nn.Module, _arguments: Any, output: Any) -> None:
        if not found:
            found.extend(t for t in tensors_in(output) if t.is_floating_point())

    handle = model.register_forward_hook(see)
    try:
        yield found
    finally:
        handle.remove()


def _backward(roots: Sequence[Tensor], calls: Sequence[Any], generator: Generator) -> Observation:
    reducer = Reducer()
    measured = prepare(roots, calls, reducer)
    cotangents = [
        torch.randn(root.shape, generator=generator, dtype=torch.float64).to(root) for root in roots
    ]
    leaves = [op for op in measured.graph.ops if op.variable is not None]
    nodes = measured.nodes
    measured.attach()
    try:
        torch.autograd.grad(
            roots, [op.variable for op in leaves if op.variable is not None], cotangents,
            allow_unused=True,
        )  # fmt: skip
    except Exception as error:
        raise UserCodeError(
            _("the backward failed: {kind}: {error}").format(
                kind=type(error).__name__, error=str(error).strip().splitlines()[0]
            ),
            _("The same would happen in loss.backward(); the traceback above shows where."),
        ) from error
    finally:
        measured.detach()
    measured.nodes = nodes  # their saved values tell activations apart; dropped by the caller
    return Observation(measured, Numbers(measured, reducer.resolve()))


def guesses(model: nn.Module, generator: Generator) -> Iterator[Tensor]:
    """Yield random inputs that the first layer with parameters could take."""
    first = next(
        (m for m in model.modules() if any(True for _p in m.parameters(recurse=False))), None
    )
    if first is None:
        return
    like = next(first.parameters())

    def normal(*shape: int) -> Tensor:
        drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return drawn.to(like.device, like.dtype)

    if isinstance(first, nn.Embedding):
        drawn = torch.randint(first.num_embeddings, (_SAMPLES, _LENGTH), generator=generator)
        yield drawn.to(like.device)
    elif isinstance(first, nn.Linear):
        yield normal(_SAMPLES, first.in_features)
        yield normal(_SAMPLES, _LENGTH, first.in_features)
    elif isinstance(first, nn.RNNBase):
        yield normal(_SAMPLES, _LENGTH, first.input_size)
    elif isinstance(first, nn.modules.conv._ConvNd):
        dimensions = len(first.kernel_size)
        for size in _IMAGE_SIZES:
            yield normal(_SAMPLES, first.in_channels, *([size] * dimensions))


def guessed(model: nn.Module, generator: Generator) -> Observation | None:
    """Observe the model on the first random input that it takes, None where it takes none."""
    for tensor in guesses(model, generator):
        try:
            return observe(model, functools.partial(model, differentiable(tensor)), generator)
        except (UserCodeError, NoSignalError):
            continue
    return None


def require_finite(batch: Any) -> None:
    """Raise UsageError where the batch holds NaN or infinity."""
    for number, tensor in enumerate(tensors_in(batch)):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UsageError(
                _("tensor {number} of the batch holds NaN or infinity").format(number=number),
                _("Clean or drop these samples; nothing can be measured on them."),
            )
