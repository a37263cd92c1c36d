"""EG102: the signal explodes over time.

## What it finds

In a recurrent net (or any net that uses the same weights again on their own output) the level of
the backward signal at the first time steps is far above that at the last one.

## Why it matters

The gradient of the recurrent weights is then dominated by the longest way back, and is huge: one
step throws the weights far away, the loss jumps or becomes NaN.

## Known problems

The growth can hide in the spectrum: a single direction with an eigenvalue above 1 is enough.
Clipping the gradient's norm makes training survive, but does not bring the signal back into shape.

## Example

    rnn = nn.RNN(8, 64, nonlinearity="relu", batch_first=True)
    nn.init.normal_(rnn.weight_hh_l0, std=0.3)   # spectral radius 2.4

## Cure

Orthogonal or identity recurrent weights together with clipping
(`torch.nn.utils.clip_grad_norm_`); neither alone is enough for a ReLU recurrence. Or a gated cell.

## References

- Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.recurrence import recurrence_finding
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Finding


def check(view: View) -> Sequence[Finding]:
    """Fire if the signal grows over time."""
    remedy = _(
        "Initialise the recurrent weights orthogonally (or as the identity, for ReLU) and clip the"
        " gradient (torch.nn.utils.clip_grad_norm_); or use a gated cell (LSTM, GRU)."
    )
    return recurrence_finding(view, "exploding", "EG102", remedy)


RULE = Rule(
    code="EG102",
    verdict="exploding",
    title="signal blown up over time by recurrence",
    check=check,
    documentation=__doc__,
    thresholds=("exploding-clear", "exploding-hopeless"),
)
