"""Recurrent weights that keep the signal over time.

Orthogonal recurrent matrices (identity for ReLU cells) neither shrink nor stretch what they carry;
a forget gate with bias 1 stays open at the start, so that an LSTM remembers; the update gate of a
GRU likewise. A plain cell gets biases of 0, so that its tanh starts where it is steepest.

Proposed where a recurrence is to blame, and, less strongly, wherever the signal of a network with
recurrent layers vanishes or explodes.

Safe before training has begun: only values are redrawn that were drawn at random themselves. What a
trained network has learnt would be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Live, NotApplicable
from unvanish.i18n import _
from unvanish.records import Diagnosis

_CELLS = (nn.RNNBase, nn.RNNCellBase)
_FORGET = 1.0


class OrthogonalRecurrence(Cure):
    """Orthogonal W_hh, forget gates open."""

    name = "orthogonal-recurrence"
    applicability = Applicability.SAFE
    kind = "structural"
    sources = (
        "Saxe et al. 2014, Exact solutions to the nonlinear dynamics of learning, arXiv:1312.6120",
        "Le et al. 2015, Recurrent Networks of Rectified Linear Units, arXiv:1504.00941",
        "Jozefowicz et al. 2015, An Empirical Exploration of Recurrent Architectures, ICML",
    )
    words: ClassVar[Mapping[str, float]] = {"VG104": 0.98, "EG102": 0.95, "VG": 0.7, "EG": 0.6}

    def summary(self) -> str:
        return _("Make recurrent weights orthogonal, and open the forget gates.")

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(any(isinstance(module, _CELLS) for module in live.model.modules()))

    def apply(self, live: Live) -> Change:
        rows = []
        for path, module in live.model.named_modules():
            if isinstance(module, _CELLS):
                rows += _reset(path, module, live.generator)
        if not rows:
            raise NotApplicable(_("no recurrent layer"))
        return Change(tuple(rows))

    def code(self, live: Live, change: Change) -> str:
        return "\n".join(
            (
                "import torch",
                "",
                "for module in model.modules():",
                "    if not isinstance(module, (torch.nn.RNNBase, torch.nn.RNNCellBase)):",
                "        continue",
                "    size = module.hidden_size",
                "    kind = type(module).__name__ + str(getattr(module, 'nonlinearity', ''))",
                "    with torch.no_grad():",
                "        for name, value in module.named_parameters():",
                "            if 'weight_hh' in name:",
                "                for block in value.split(size):",
                "                    if 'relu' in kind.lower():",
                "                        torch.nn.init.eye_(block)",
                "                    else:",
                "                        torch.nn.init.orthogonal_(block)",
                "            elif 'bias_ih' in name and kind.startswith(('LSTM', 'GRU')):",
                f"                value[size : 2 * size] = {_FORGET!r}",
                "            elif 'bias' in name and kind.startswith('RNN'):",
                "                value.zero_()",
            )
        )


def _reset(path: str, module: nn.Module, generator: torch.Generator) -> list[Edit]:
    rows = []
    size = int(module.hidden_size)  # type: ignore[arg-type]
    kind = type(module).__name__ + str(getattr(module, "nonlinearity", ""))
    relu = "relu" in kind.lower()
    with torch.no_grad():
        for name, value in module.named_parameters():
            where = f"{path}.{name}" if path else name
            if not value.requires_grad:
                continue
            if "weight_hh" in name:
                for block in torch.split(value, size):
                    block.copy_(_square(block, relu, generator))
                law = _("identity") if relu else _("orthogonal")
                rows.append(Edit(where, _("recurrent weights"), _("as drawn"), law))
            elif "bias_ih" in name and kind.startswith(("LSTM", "GRU")):
                value[size : 2 * size] = _FORGET
                rows.append(Edit(where, _("gate bias"), _("as drawn"), f"{_FORGET:g}"))
            elif "bias" in name and kind.startswith("RNN"):
                value.zero_()
                rows.append(Edit(where, _("bias"), _("as drawn"), "0"))
    return rows


def _square(block: Tensor, relu: bool, generator: torch.Generator) -> Tensor:
    if relu:
        return torch.eye(*block.shape)
    return nn.init.orthogonal_(torch.empty(block.shape), generator=generator)


CURES = (OrthogonalRecurrence(),)
