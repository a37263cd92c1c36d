"""What is put before the tool: a model with random weights, a real batch, a loss."""

from __future__ import annotations

import codecs
import contextlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10
VOCABULARY = 256
LARGEST = 120e6  # parameters; 30 seconds of processor time are the other bound


@dataclass
class Specimen:
    """One architecture, ready for a step.

    `labels` are those of the cross-entropy that the loss is, or None where it is another loss.
    """

    name: str
    family: str
    model: nn.Module
    batch: Any
    loss_fn: Callable[[nn.Module, Any], Tensor]
    labels: Tensor | None = None

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())


class UnbuildableError(Exception):
    """No configuration of this architecture was found that fits this machine and takes a batch."""


class TooLargeError(Exception):
    """It has more than LARGEST parameters."""


def fitting(parameters: int) -> None:
    """Raise TooLargeError if so many do not fit the time and memory of this machine."""
    if parameters > LARGEST:
        raise TooLargeError(f"{parameters / 1e6:.0f} million parameters")


def chance(labels: Tensor) -> float:
    """Return the cross-entropy of a model that knows only how often each label occurs.

    A network whose trunk is dead still learns this much, by the bias of its head.
    """
    counts = torch.bincount(labels[labels >= 0].flatten()).double()
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * shares.log()).sum())


@cache
def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32), torch.tensor(data.target)


def images(count: int, size: tuple[int, int], channels: int = 3) -> tuple[Tensor, Tensor]:
    """Return scikit-learn's digits (count, channels, *size), standardised, and balanced labels."""
    pictures, target = _digits()
    by_label = [torch.nonzero(target == label).flatten() for label in range(CLASSES)]
    chosen = [int(by_label[row % CLASSES][row // CLASSES]) for row in range(count)]
    small = pictures[chosen][:, None]
    large = functional.interpolate(small, size=size, mode="bilinear")
    standard = (large - large.mean()) / large.std()
    return standard.repeat(1, channels, 1, 1), target[chosen]


def tokens(count: int, length: int) -> Tensor:
    """Return lines of English, the Zen of Python, as bytes: (count, length), each below 128."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints itself, once
        import this

    text = codecs.decode(this.s, "rot13").encode("ascii")
    step = max(1, (len(text) - length) // max(1, count))
    rows = [text[row * step : row * step + length] for row in range(count)]
    return torch.tensor([list(row) for row in rows])


def wave(count: int, length: int) -> Tensor:
    """Return sounds (count, length): two tones each, at pitches of their own, with an envelope."""
    time = torch.arange(length) / length
    pitch = 20.0 + 15.0 * torch.arange(count)[:, None]
    tone = (2 * math.pi * pitch * time).sin() + 0.5 * (5 * math.pi * pitch * time).sin()
    return tone * (math.pi * time).sin() + 0.01 * torch.randn(
        count, length, generator=torch.Generator().manual_seed(0)
    )


def distance(outputs: Sequence[Tensor]) -> Tensor:
    """Return the mean squared distance of `outputs` from fixed random targets of unit variance."""
    generator = torch.Generator().manual_seed(0)
    terms = [
        (each.float() - torch.randn(each.shape, generator=generator)).square().mean()
        for each in outputs
    ]
    return torch.stack(terms).mean()


def float_tensors(value: Any, most: int = 1) -> list[Tensor]:
    """Return the first floating-point tensors with a gradient that a model's output holds."""
    found: list[Tensor] = []
    queue = [value]
    while queue and len(found) < most:
        item = queue.pop(0)
        if isinstance(item, Tensor):
            if item.is_floating_point() and item.requires_grad and item.numel():
                found.append(item)
        elif isinstance(item, dict):
            queue = [*item.values(), *queue]
        elif isinstance(item, list | tuple):
            queue = [*item, *queue]
        elif hasattr(item, "__dict__"):
            queue = [*vars(item).values(), *queue]
    return found
