"""One task for all of transformers, so that each can be trained: tell inputs apart."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from benchmarks.zoo.language import build_transformers
from benchmarks.zoo.specimen import Specimen, UnbuildableError, float_tensors
from torch import Tensor, nn


class Headed(nn.Module):
    """A model of the library with a linear read-out of its first output, averaged over places."""

    def __init__(self, model: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.model = model
        self.head = nn.Linear(width, classes)

    def forward(self, inputs: Mapping[str, Any]) -> Tensor:
        return self.head(pooled(self.model(**inputs)))


def pooled(output: Any) -> Tensor:
    """Return the first real-valued output (batch, width): averaged over time, or over the image."""
    (first,) = float_tensors(output)
    if first.dim() == 2:
        return first
    return first.flatten(2).mean(2) if first.dim() > 3 else first.flatten(1, -2).mean(1)


def build_headed(name: str, count: int) -> Specimen:
    """Build one of transformers' that tells `count` inputs apart, each of a class of its own.

    The same task for all of them, so that all can be trained. Raises UnbuildableError.
    """
    made = build_transformers(name, count)
    inputs = dict(made.batch)
    targets = inputs.pop("labels", None)
    accepted = inspect.signature(made.model.forward).parameters
    if targets is not None and "decoder_input_ids" in accepted:
        inputs.setdefault("decoder_input_ids", targets)
    inputs.pop("return_loss", None)
    try:
        found = pooled(made.model(**inputs))
    except Exception as error:
        raise UnbuildableError(f"no output to read: {type(error).__name__}: {error}") from error
    if found.dim() != 2 or len(found) != count:
        raise UnbuildableError(f"no output to read: {tuple(found.shape)}")
    labels = torch.arange(count)
    model = Headed(made.model, found.shape[1], count)
    return Specimen(name, name, model, (inputs, labels), tell_apart, labels)


def tell_apart(model: nn.Module, batch: tuple[Mapping[str, Any], Tensor]) -> Tensor:
    """Return the cross-entropy of the read-out."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])
