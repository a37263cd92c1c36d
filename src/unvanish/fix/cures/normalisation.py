"""A normalisation behind every hidden layer, in front of its activation.

BatchNorm sets each unit's mean and variance over the batch, LayerNorm those of each sample (behind
convolutions: GroupNorm of one group), so that neither lengths nor gradients depend on the scale of
the weights. It goes between a layer and its activation; the last layer gets none. Its parameters
join the optimiser.

Proposed where the signal vanishes or explodes through weights or slopes, where samples become one,
and where units are dead. Not where normalisations are there already.

Unsafe: the network is another function. With BatchNorm the samples of a batch depend on each other,
and the network computes differently in training and in evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Live, NotApplicable
from unvanish.fix.replace import optimise, place, wrap_module
from unvanish.fix.structure import Layer, Structure, observe, observed
from unvanish.fix.weights import listing
from unvanish.i18n import _
from unvanish.records import Diagnosis

_KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d)


class Normalised(nn.Sequential):
    """A layer and its normalisation, under the names `0` and `1`."""


class BatchNorm(Cure):
    """BatchNorm behind every hidden layer."""

    name = "batch-norm"
    applicability = Applicability.UNSAFE
    kind = "structural"
    sources = ("Ioffe and Szegedy 2015, Batch Normalization, arXiv:1502.03167",)
    words: ClassVar[Mapping[str, float]] = {
        "VG101": 0.5,
        "VG103": 0.6,
        "VG": 0.4,
        "EG101": 0.6,
        "EG": 0.4,
        "FS": 0.6,
        "DU": 0.4,
    }

    def summary(self) -> str:
        return _("Put a batch normalisation behind every hidden layer, before its activation.")

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(bool(_hidden(observed(live))))

    def apply(self, live: Live) -> Change:
        layers = _hidden(observe(live))
        if not layers:
            raise NotApplicable(_("no hidden layer without a normalisation"))
        rows = []
        for layer in layers:
            old = live.model.get_submodule(layer.path)
            norm = self._norm(old)
            place(norm, old)
            both = Normalised(old, norm)
            wrap_module(live.model, old, both)
            named = {f"{layer.path}.1.{key}": value for key, value in norm.named_parameters()}
            optimise(live.optimizer, named, beside=old.parameters())
            rows.append(Edit(layer.path, _("normalisation"), "-", type(norm).__name__))
        return Change(tuple(rows), details={"paths": [layer.path for layer in layers]})

    def code(self, live: Live, change: Change) -> str:
        return "\n".join(
            (
                "import torch",
                "",
                listing("names", change.details["paths"]),
                "for name in names:",
                "    parent, _, last = name.rpartition('.')",
                "    layer = model.get_submodule(name)",
                f"    norm = {self._line}",
                "    norm.to(layer.weight.device, layer.weight.dtype)",
                "    setattr(model.get_submodule(parent), last, torch.nn.Sequential(layer, norm))",
                "# build the optimiser after these lines: there are new parameters",
            )
        )

    _line: ClassVar[str] = (
        "(torch.nn.BatchNorm2d if layer.weight.dim() == 4 else torch.nn.BatchNorm1d)"
        "(layer.weight.shape[0])"
    )

    def _norm(self, layer: nn.Module) -> nn.Module:
        if isinstance(layer, nn.Conv2d):
            return nn.BatchNorm2d(layer.out_channels)
        return nn.BatchNorm1d(_width(layer))


class LayerNorm(BatchNorm):
    """LayerNorm (GroupNorm of one group behind convolutions) behind every hidden layer."""

    name = "layer-norm"
    sources = ("Ba, Kiros and Hinton 2016, Layer Normalization, arXiv:1607.06450",)
    words: ClassVar[Mapping[str, float]] = {
        "VG101": 0.4,
        "VG103": 0.45,
        "VG": 0.3,
        "EG101": 0.45,
        "EG": 0.35,
        "DU": 0.3,
        "NF": 0.35,
    }
    _line: ClassVar[str] = (
        "(torch.nn.LayerNorm(layer.weight.shape[0]) if layer.weight.dim() == 2"
        " else torch.nn.GroupNorm(1, layer.weight.shape[0]))"
    )

    def summary(self) -> str:
        return _("Put a layer normalisation behind every hidden layer, before its activation.")

    def _norm(self, layer: nn.Module) -> nn.Module:
        if isinstance(layer, nn.Linear):
            return nn.LayerNorm(layer.out_features)
        return nn.GroupNorm(1, _width(layer))


def _width(layer: nn.Module) -> int:
    return int(layer.get_parameter("weight").shape[0])


def _hidden(structure: Structure) -> list[Layer]:
    """Return plain layers with an activation behind them and no normalisation around."""
    found = []
    for layer in structure.chain:
        if layer.last or layer.norm_after or layer.norm_before or layer.after is None:
            continue
        module = structure.model.get_submodule(layer.path)
        plain = isinstance(module, _KINDS) and not hasattr(module, "parametrizations")
        if plain and layer.calls == 1 and layer.path:
            found.append(layer)
    return found


CURES = (BatchNorm(), LayerNorm())
