"""Data of the cases: tables of scikit-learn, texts of the standard library, or drawn."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from unvanish.errors import UsageError
from unvanish.i18n import _

Pair = tuple[Tensor, Tensor]
PIXEL = 255.0


def _without_sklearn() -> UsageError:
    return UsageError(
        _("this case trains on data of scikit-learn, which is not installed"),
        _("Type `pip install scikit-learn`."),
    )


@cache
def _digits() -> tuple[Tensor, Tensor]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise _without_sklearn() from error
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


def _table(loader: str) -> Pair:
    """A table of scikit-learn, as read: its columns and its target. Raises UsageError."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise _without_sklearn() from error
    columns, target = getattr(datasets, loader)(return_X_y=True)
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(0))
    return (
        torch.as_tensor(columns, dtype=torch.float32)[order],
        torch.as_tensor(target, dtype=torch.float32)[order],
    )


def standard(columns: Tensor) -> Tensor:
    """Columns with zero mean and unit variance."""
    return (columns - columns.mean(0)) / columns.std(0)


@cache
def tumours() -> Pair:
    """569 tumours in 30 unscaled columns (0 to 4254), and which are benign (0. or 1.)."""
    return _table("load_breast_cancer")


@cache
def wines() -> Pair:
    """178 wines in 13 unscaled columns, and their grower (0 to 2)."""
    columns, target = _table("load_wine")
    return columns, target.long()


@cache
def diabetes() -> Pair:
    """442 patients in 10 columns of unit variance, and how their illness went (25 to 346)."""
    columns, target = _table("load_diabetes")
    return standard(columns), target


@cache
def prose() -> Tensor:
    """English text of Python's own documentation as numbers from 0 to 95, one a character."""
    from pydoc_data.topics import topics

    return _characters("\n".join(topics[name] for name in sorted(topics)))


@cache
def source() -> Tensor:
    """Python source text of the standard library (a table) as numbers from 0 to 95."""
    import inspect
    from html import entities

    return _characters(inspect.getsource(entities))


def _characters(text: str) -> Tensor:
    codes = torch.frombuffer(bytearray(text.encode("ascii", "replace")), dtype=torch.uint8).long()
    return torch.where((codes >= 32) & (codes < 127), codes - 32, 95)


def excerpts(text: Tensor, length: int, count: int) -> Tensor:
    """`count` random pieces of `length` characters. Shape (count, length)."""
    starts = torch.randint(len(text) - length, (count, 1))
    return text[starts + torch.arange(length)]
