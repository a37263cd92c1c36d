"""Skips around hidden layers, or smaller branches where there are skips already.

A skip hands the signal on unchanged beside what a layer makes of it, so that no product of factors
can vanish; scaled by 1/√L for L skips, the sums do not grow either. `residual` puts one around
every hidden layer that keeps its width. `scaled-branches` divides the last weights of existing
residual branches by √(number of branches); `zero-branches` sets them to 0, as Fixup does, so that
the network starts as its skips alone and each branch grows as training needs it.

`residual` is proposed where the signal vanishes or samples become one in a deep plain network, and
where weights make it explode, the other two where residual sums make it explode or samples
collapse.

`residual` is unsafe: the network is another function. `scaled-branches` and `zero-branches` are
safe before training has begun, for they only change the scale of initial values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Live, NotApplicable
from unvanish.fix.replace import wrap_module
from unvanish.fix.structure import Layer, Structure, observe, observed
from unvanish.fix.weights import listing
from unvanish.i18n import _
from unvanish.records import Diagnosis


class Skip(nn.Module):
    """x + layer(x) · scale, where shapes allow it."""

    def __init__(self, layer: nn.Module, scale: float) -> None:
        super().__init__()
        self.layer = layer
        self.scale = scale

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Add the input to what the layer makes of it."""
        return x + self.scale * self.layer(x, *args, **kwargs)


class Residual(Cure):
    """Skips around square hidden layers."""

    name = "residual"
    applicability = Applicability.UNSAFE
    kind = "structural"
    sources = (
        "He et al. 2016, Deep Residual Learning, arXiv:1512.03385",
        "Hayou et al. 2021, Stable ResNet, arXiv:2010.12859",
    )
    words: ClassVar[Mapping[str, float]] = {"VG": 0.55, "FS": 0.55, "EG101": 0.3}

    def summary(self) -> str:
        return _("Add a skip around every hidden layer that keeps its width.")

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(len(_square(observed(live))) >= 2)

    def apply(self, live: Live) -> Change:
        layers = _square(observe(live))
        if len(layers) < 2:
            raise NotApplicable(_("fewer than two hidden layers that keep their width"))
        scale = 1.0 / math.sqrt(len(layers))
        rows = []
        for layer in layers:
            old = live.model.get_submodule(layer.path)
            new = Skip(old, scale)
            wrap_module(live.model, old, new)
            rows.append(Edit(layer.path, _("skip"), "f(x)", f"x + {scale:.3g} f(x)"))
        paths = [layer.path for layer in layers]
        return Change(tuple(rows), details={"paths": paths, "scale": scale})

    def code(self, live: Live, change: Change) -> str:
        return "\n".join(
            (
                "import torch",
                "",
                "",
                "class Skip(torch.nn.Module):",
                "    def __init__(self, layer, scale):",
                "        super().__init__()",
                "        self.layer, self.scale = layer, scale",
                "",
                "    def forward(self, x):",
                "        return x + self.scale * self.layer(x)",
                "",
                "",
                listing("names", change.details["paths"]),
                "for name in names:",
                "    parent, _, last = name.rpartition('.')",
                f"    skip = Skip(model.get_submodule(name), {change.details['scale']!r})",
                "    setattr(model.get_submodule(parent), last, skip)",
            )
        )


class ScaledBranches(Cure):
    """Smaller residual branches."""

    name = "scaled-branches"
    applicability = Applicability.SAFE
    kind = "structural"
    sources: ClassVar[tuple[str, ...]] = (
        "Zhang, Dauphin and Ma 2019, Fixup Initialization, arXiv:1901.09321",
        "De and Smith 2020, Batch Normalization Biases Residual Blocks, arXiv:2002.10444",
    )
    words: ClassVar[Mapping[str, float]] = {"EG103": 0.95, "EG": 0.5, "FS": 0.4}

    def summary(self) -> str:
        return _("Divide the last weights of each residual branch by the root of their number.")

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(len(_branches(observed(live))) >= 2)

    def apply(self, live: Live) -> Change:
        names = _branches(observe(live))
        if len(names) < 2:
            raise NotApplicable(_("fewer than two residual branches that end in weights"))
        factor = self._factor(len(names))
        with torch.no_grad():
            for name in names:
                live.model.get_parameter(name).mul_(factor)
        rows = [Edit(name, _("scale"), "1", f"{factor:.3g}") for name in names]
        return Change(tuple(rows), details={"names": names, "factor": factor})

    def code(self, live: Live, change: Change) -> str:
        return "\n".join(
            (
                "import torch",
                "",
                listing("names", change.details["names"]),
                "with torch.no_grad():",
                "    for name in names:",
                f"        model.get_parameter(name).mul_({change.details['factor']!r})",
            )
        )

    def _factor(self, branches: int) -> float:
        return 1.0 / math.sqrt(branches)


class ZeroBranches(ScaledBranches):
    """Residual branches that start at 0."""

    name = "zero-branches"
    sources = (
        "Zhang, Dauphin and Ma 2019, Fixup Initialization, arXiv:1901.09321",
        "Bachlechner et al. 2021, ReZero is All You Need, arXiv:2003.04887",
        "Goyal et al. 2017, Accurate, Large Minibatch SGD, arXiv:1706.02677, section 5.1",
    )
    words: ClassVar[Mapping[str, float]] = {"EG103": 0.9, "EG": 0.4, "FS": 0.35}

    def summary(self) -> str:
        return _("Set the last weights of each residual branch to 0: the network starts as skips.")

    def _factor(self, branches: int) -> float:
        return 0.0


def _square(structure: Structure) -> list[Layer]:
    found = []
    for layer in structure.chain:
        if layer.first or layer.last or layer.after is None or layer.sum_after:
            continue
        module = structure.model.get_submodule(layer.path) if layer.path else None
        if isinstance(module, nn.Linear):
            same = module.in_features == module.out_features
        elif isinstance(module, nn.Conv2d):
            kernel, padding = module.kernel_size[0], module.padding
            same = (
                module.in_channels == module.out_channels
                and module.stride == (1, 1)
                and (padding == "same" or padding == (kernel // 2, kernel // 2))
            )
        else:
            same = False
        if same and layer.calls == 1:
            found.append(layer)
    return found


def _branches(structure: Structure) -> list[str]:
    trainable = {name for name, p in structure.model.named_parameters() if p.requires_grad}
    names = [one.last.weight for one in structure.residuals if one.last is not None]
    return [name for name in dict.fromkeys(names) if name in trainable]


CURES = (Residual(), ScaledBranches(), ZeroBranches())
