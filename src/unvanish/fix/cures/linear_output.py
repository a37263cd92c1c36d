"""A linear output in the place of a rectifier at the model's end.

A ReLU behind the last layer is off wherever the network should answer less than 0, and where it is
off for every sample nothing learns any more. It is taken away, and hidden rectifiers get a slope of
0.1 on their other side, so that the whole network passes the gradient.

Proposed where units are dead or the loss head is to blame.

Unsafe: the network can answer less than 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Live, NotApplicable
from unvanish.fix.replace import replace_module
from unvanish.fix.structure import Structure, observe, observed
from unvanish.fix.weights import listing
from unvanish.i18n import _
from unvanish.records import Diagnosis

_SLOPE = 0.1


class LinearOutput(Cure):
    """No rectifier at the end, leaky ones before it."""

    name = "linear-output"
    applicability = Applicability.UNSAFE
    kind = "structural"
    keeps_activation = False
    sources = ("Maas et al. 2013, Rectifier Nonlinearities Improve Neural Network Models, ICML",)
    words: ClassVar[Mapping[str, float]] = {"DU": 0.88, "LH": 0.3}

    def summary(self) -> str:
        return _("Take the ReLU at the model's end away, and make those before it leaky.")

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(bool(_last(observed(live))))

    def apply(self, live: Live) -> Change:
        structure = observe(live)
        last = _last(structure)
        if last is None:
            raise NotApplicable(_("the model's last call is no ReLU module"))
        hidden = [op.module for op in structure.activations if structure.hidden(op)]
        leaky = [path for path in dict.fromkeys(hidden) if path and _relu(structure, path)]
        rows = [Edit(last, _("output"), "ReLU", _("linear"))]
        replace_module(live.model, live.model.get_submodule(last), nn.Identity())
        for path in leaky:
            replace_module(live.model, live.model.get_submodule(path), nn.LeakyReLU(_SLOPE))
            rows.append(Edit(path, _("activation"), "ReLU", f"LeakyReLU({_SLOPE})"))
        return Change(tuple(rows), details={"last": last, "leaky": leaky})

    def code(self, live: Live, change: Change) -> str:
        return "\n".join(
            (
                "import torch",
                "",
                "",
                "def put(name, new):",
                "    parent, _, last = name.rpartition('.')",
                "    setattr(model.get_submodule(parent), last, new)",
                "",
                "",
                f"put({change.details['last']!r}, torch.nn.Identity())",
                listing("leaky", change.details["leaky"]),
                "for name in leaky:",
                f"    put(name, torch.nn.LeakyReLU({_SLOPE}))",
            )
        )


def _last(structure: Structure) -> str | None:
    """Return the path of the ReLU module behind the last weights, if there is one."""
    behind = [op for op in structure.activations if not structure.hidden(op)]
    paths = [op.module for op in behind if op.module and _relu(structure, op.module)]
    return paths[-1] if paths else None


def _relu(structure: Structure, path: str) -> bool:
    return isinstance(structure.model.get_submodule(path), nn.ReLU)


CURES = (LinearOutput(),)
