"""Biases with which every rectifier is on for some samples.

A ReLU whose input is at or below 0 for every sample passes no gradient, and nothing moves it again;
with inputs and biases of 0 that is every ReLU. Layer by layer, on one batch, the bias of each unit
that is off for all samples is raised until it is on for half of them, by at least 0.1.

Proposed where units are dead.

Safe before training has begun: only initial biases change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Live, NotApplicable
from unvanish.fix.cures.more_units import RECTIFIERS
from unvanish.fix.structure import Structure, observe, observed
from unvanish.fix.weights import listing
from unvanish.i18n import _
from unvanish.measure.preserve import preserved
from unvanish.records import Diagnosis

_MARGIN = 0.1


class LiveBiases(Cure):
    """Raise the biases of units that are off for every sample."""

    name = "live-biases"
    applicability = Applicability.SAFE
    kind = "structural"
    sources = (
        "Goodfellow, Bengio & Courville 2016, Deep Learning, section 6.3.1",
        "Lu et al. 2020, Dying ReLU and Initialization, arXiv:1903.06733",
    )
    words: ClassVar[Mapping[str, float]] = {"DU": 0.85, "FS": 0.3}

    def summary(self) -> str:
        return _("Raise the bias of every rectifier that is off for all samples of a batch.")

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(bool(_biased(observed(live))))

    def apply(self, live: Live) -> Change:
        paths = _biased(observe(live))
        if not paths:
            raise NotApplicable(_("no layer with a bias in front of a rectifier"))
        raised: dict[str, int] = {}
        with preserved(live.model):
            handles = [
                live.model.get_submodule(path).register_forward_hook(_raise(path, raised))
                for path in paths
            ]
            try:
                live.loss_fn(live.model, live.batch)
            finally:
                for handle in handles:
                    handle.remove()
        rows = [
            Edit(
                f"{path}.bias",
                _("bias"),
                _("as drawn"),
                _("raised in {units} units").format(units=n),
            )
            for path, n in raised.items()
        ]
        if not rows:
            raise NotApplicable(_("every rectifier is on for a sample of the batch"))
        return Change(tuple(rows), details={"paths": paths})

    def code(self, live: Live, change: Change) -> str:
        return "\n".join(
            (
                "import torch",
                "",
                "",
                "def raise_biases(layer, inputs, output):",
                "    axis = -1 if isinstance(layer, torch.nn.Linear) else 1",
                "    units = output.detach().movedim(axis, 0).flatten(1)",
                f"    shift = ({_MARGIN!r} - units.median(1).values) * (units <= 0).all(1)",
                "    layer.bias.data.add_(shift)",
                "    return (output.movedim(axis, -1) + shift).movedim(-1, axis)",
                "",
                "",
                listing("names", change.details["paths"]),
                "layers = [model.get_submodule(name) for name in names]",
                "handles = [layer.register_forward_hook(raise_biases) for layer in layers]",
                "loss_fn(model, batch)  # " + _("one batch of your data"),
                "for handle in handles:",
                "    handle.remove()",
            )
        )


def _raise(path: str, raised: dict[str, int]) -> Any:
    def hook(layer: nn.Module, args: Any, output: Tensor) -> Tensor:
        axis = -1 if isinstance(layer, nn.Linear) else 1
        units = output.detach().movedim(axis, 0).flatten(1)
        off = (units <= 0).all(1)
        shift = (_MARGIN - units.median(1).values) * off
        layer.get_parameter("bias").data.add_(shift)
        if bool(off.any()):
            raised[path] = int(off.sum())
        return (output.movedim(axis, -1) + shift).movedim(-1, axis)

    return hook


def _biased(structure: Structure) -> list[str]:
    """Return paths of layers, in order, whose biased outputs go straight into a rectifier."""
    found = []
    for layer in structure.chain:
        if layer.after is None or layer.after.name not in RECTIFIERS or layer.norm_after:
            continue
        module = structure.model.get_submodule(layer.path) if layer.path else None
        if not isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            continue
        trained = module.bias is not None and module.bias.requires_grad
        if trained and layer.calls == 1 and not layer.sum_after:
            found.append(layer.path)
    return found


CURES = (LiveBiases(),)
