"""More units in narrow hidden layers.

Of two hidden ReLUs one that dies takes half of the network with it; of eight, some stay alive.
Every narrow hidden layer of rectifiers gets four times its units. Those there were keep their
weights; the new ones, and the weights that read them, are drawn by the law of `nn.Linear`.

Proposed where units are dead in a layer of at most 32 of them.

Unsafe: the network is another function, with more parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Live, NotApplicable
from unvanish.fix.replace import resize
from unvanish.fix.structure import Layer, Structure, observe, observed
from unvanish.i18n import _
from unvanish.records import Diagnosis

_TIMES = 4
_NARROW = 32  # units; a wider layer does not die for want of them
_PASSES = frozenset({"dropout", "alpha_dropout", "feature_alpha_dropout"})
RECTIFIERS = frozenset({"relu", "relu6", "hardtanh", "threshold", "clamp_min", "clamp"})


@dataclass(frozen=True, slots=True)
class _Wide:
    """A layer to widen, and those that read it."""

    path: str
    units: int  # that it has
    readers: tuple[str, ...]


class MoreUnits(Cure):
    """Widen narrow layers of rectifiers."""

    name = "more-units"
    applicability = Applicability.UNSAFE
    kind = "structural"
    sources = (
        "Lu et al. 2020, Dying ReLU and Initialization, arXiv:1903.06733",
        "Frankle and Carbin 2019, The Lottery Ticket Hypothesis, arXiv:1803.03635",
    )
    words: ClassVar[Mapping[str, float]] = {"DU": 0.92}

    def summary(self) -> str:
        return _(
            "Give narrow hidden layers {times} times their units; those there are stay."
        ).format(times=_TIMES)

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(bool(_narrow(observed(live))))

    def apply(self, live: Live) -> Change:
        chosen = _narrow(observe(live))
        if not chosen:
            raise NotApplicable(
                _("no linear layer of at most {units} rectifiers between others").format(
                    units=_NARROW
                )
            )
        for one in chosen:
            layer = live.model.get_submodule(one.path)
            assert isinstance(layer, nn.Linear)
            _resize(layer, layer.in_features, _TIMES * one.units, live)
            for path in one.readers:
                reader = live.model.get_submodule(path)
                assert isinstance(reader, nn.Linear)
                _resize(reader, _TIMES * one.units, reader.out_features, live)
        rows = [Edit(w.path, _("units"), f"{w.units}", f"{_TIMES * w.units}") for w in chosen]
        return Change(tuple(rows), details={"chosen": chosen})

    def code(self, live: Live, change: Change) -> str:
        wide = [(one.path, list(one.readers)) for one in change.details["chosen"]]
        return "\n".join(
            (
                "import torch",
                "",
                "",
                "def resize(layer, inputs, outputs):",
                "    new = torch.nn.Linear(inputs, outputs, layer.bias is not None)",
                "    new.to(layer.weight)",
                "    old = layer.weight.data",
                "    new.weight.data[: old.shape[0], : old.shape[1]] = old",
                "    if layer.bias is not None:",
                "        new.bias.data[: old.shape[0]] = layer.bias.data",
                "        layer.bias.data = new.bias.data",
                "    layer.weight.data = new.weight.data",
                "    layer.in_features, layer.out_features = inputs, outputs",
                "",
                "",
                f"for name, readers in {wide!r}:",
                "    layer = model.get_submodule(name)",
                f"    resize(layer, layer.in_features, {_TIMES} * layer.out_features)",
                "    for reader in map(model.get_submodule, readers):",
                "        resize(reader, layer.out_features, reader.out_features)",
            )
        )


def _resize(layer: nn.Linear, inputs: int, outputs: int, live: Live) -> None:
    """Give a layer another size: the weights there are stay, new ones are drawn as torch does."""
    bound = inputs**-0.5
    weight = torch.empty(outputs, inputs).uniform_(-bound, bound, generator=live.generator)
    old = layer.weight.detach()
    weight = weight.to(old)
    weight[: old.shape[0], : old.shape[1]] = old
    if layer.bias is not None:
        bias = torch.empty(outputs).uniform_(-bound, bound, generator=live.generator).to(old)
        bias[: old.shape[0]] = layer.bias.detach()
        _put(layer.bias, bias, live)
    _put(layer.weight, weight, live)
    layer.in_features, layer.out_features = inputs, outputs


def _put(parameter: Tensor, values: Tensor, live: Live) -> None:
    if parameter.shape != values.shape:
        resize(parameter, values, live.optimizer)


def _narrow(structure: Structure) -> tuple[_Wide, ...]:
    """Return plain linear layers of few rectifiers that only plain linear layers read."""
    plain = {one.op.index: one for one in structure.chain if _plain(structure, one)}
    found = []
    for layer in plain.values():
        after = layer.after
        if layer.last or after is None or after.name not in RECTIFIERS or layer.norm_after:
            continue
        units = int(structure.model.get_parameter(layer.weight).shape[0])
        readers = _readers(structure, layer, plain)
        if units <= _NARROW and readers:
            found.append(_Wide(layer.path, units, tuple(readers)))
    return tuple(found)


def _plain(structure: Structure, layer: Layer) -> bool:
    module = structure.model.get_submodule(layer.path) if layer.path else None
    return (
        isinstance(module, nn.Linear)
        and layer.calls == 1
        and not hasattr(module, "parametrizations")
        and all(parameter.requires_grad for parameter in module.parameters())
    )


def _readers(structure: Structure, layer: Layer, plain: Mapping[int, Layer]) -> list[str]:
    """Return the layers that read a layer's units; none where anything else does."""
    found: list[str] = []
    queue = list(layer.op.outputs[:1])
    while queue:
        for op in structure.recording.consumers(queue.pop()):
            if op.index in plain:
                found.append(plain[op.index].path)
            elif (layer.after is not None and op.index == layer.after.index) or op.name in _PASSES:
                queue += op.outputs[:1]
            else:
                return []
    return list(dict.fromkeys(found))


CURES = (MoreUnits(),)
