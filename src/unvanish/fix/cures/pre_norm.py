"""Normalise inside the residual branches instead of after the sums.

A post-norm transformer divides what its skips carry by the length of each sum, so that the signal
shrinks toward the front, and its first layers die once the rate is at its full height; with the
normalisation inside the branch the skip stays open from end to end (Xiong et al. 2020). Sets
`norm_first` of `nn.TransformerEncoderLayer` and `nn.TransformerDecoderLayer`. A stack of such
layers usually ends in one more normalisation, which this cure does not add.

Proposed where a normalisation is to blame for vanishing, and, less strongly, wherever the signal of
such a network vanishes, explodes or collapses.

Unsafe: the network is another function, and weights that were trained post-norm do not fit it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Live, NotApplicable
from unvanish.i18n import _
from unvanish.records import Diagnosis

_SWITCHED = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


class PreNorm(Cure):
    """norm_first=True."""

    name = "pre-norm"
    applicability = Applicability.UNSAFE
    kind = "structural"
    sources = ("Xiong et al. 2020, On Layer Normalization in the Transformer, arXiv:2002.04745",)
    words: ClassVar[Mapping[str, float]] = {
        "VG105": 0.98,
        "VG": 0.7,
        "FS": 0.7,
        "EG": 0.5,
        "UR": 0.4,
    }

    def summary(self) -> str:
        return _("Normalise inside the branches of the transformer's layers (norm_first=True).")

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(bool(_post(live.model)))

    def apply(self, live: Live) -> Change:
        paths = _post(live.model)
        if not paths:
            raise NotApplicable(_("no transformer layer of torch that normalises after its sums"))
        for path in paths:
            layer = live.model.get_submodule(path)
            layer.norm_first = True  # type: ignore[assignment]
        rows = [Edit(path, "norm_first", "False", "True") for path in paths]
        return Change(tuple(rows))

    def code(self, live: Live, change: Change) -> str:
        return "\n".join(
            (
                "import torch",
                "",
                "for module in model.modules():",
                "    if hasattr(module, 'norm_first'):  # the transformer layers of torch.nn",
                "        module.norm_first = True",
            )
        )


def _post(model: nn.Module) -> list[str]:
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, _SWITCHED) and not module.norm_first
    ]


CURES = (PreNorm(),)
