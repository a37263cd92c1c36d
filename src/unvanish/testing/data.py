"""Data of the cases: scikit-learn's handwritten digits, or drawn."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from unvanish.errors import UsageError
from unvanish.i18n import _

Pair = tuple[Tensor, Tensor]
PIXEL = 255.0


@cache
def _digits() -> tuple[Tensor, Tensor]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UsageError(
            _("this case trains on the digits of scikit-learn, which is not installed"),
            _("Type `pip install scikit-learn`."),
        ) from error
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return (
        torch.as_tensor(images, dtype=torch.float32)[order] / 16,
        torch.as_tensor(labels, dtype=torch.int64)[order],
    )


def pixels() -> Pair:
    """1797 digits of 64 pixels from 0 to 255, and their labels. Raises UsageError."""
    images, labels = _digits()
    return images * PIXEL, labels


def digits() -> Pair:
    """The digits with zero mean and unit variance over all pixels. Raises UsageError."""
    images, labels = _digits()
    return (images - images.mean()) / images.std(), labels


def unit_digits() -> Pair:
    """The digits with pixels from 0 to 1; some are 0 in every sample. Raises UsageError."""
    images, labels = _digits()
    return images.clone(), labels


def minibatches(*tensors: Tensor, size: int = 64) -> Callable[[int], tuple[Tensor, ...]]:
    """Return a function from the step's number to a batch drawn for it, without replacement.

    The draws follow from the random state at the call, not from what training does.
    """
    base = int(torch.randint(2**31, ()))
    count = len(tensors[0])

    def draw(step: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(base + step)
        chosen = torch.randperm(count, generator=generator)[:size]
        return tuple(tensor[chosen] for tensor in tensors)

    return draw


def always(*tensors: Tensor) -> Callable[[int], tuple[Tensor, ...]]:
    """Return a function that gives the same batch at every step."""
    return lambda step: tensors


def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> Callable[[], float]:
    """Return a function that gives the share of inputs to which the model gives their label."""
    return lambda: float((model(inputs).argmax(-1) == labels).float().mean())


def circle(count: int = 256) -> Pair:
    """Points in the square of ±1, labelled by whether they lie within radius 0.8 (0. or 1.)."""
    points = torch.rand(count, 2) * 2 - 1
    return points, (points.norm(dim=1, keepdim=True) < 0.8).float()


def blobs(count: int = 512) -> Pair:
    """Two overlapping clouds in the plane, and which one a point is from (0. or 1.)."""
    labels = torch.arange(count) % 2
    points = torch.randn(count, 2) * 0.5 + (labels[:, None] * 2.0 - 1.0) * 1.5
    return points, labels[:, None].float()
