"""VG104: the signal vanishes over time.

## What it finds

In a recurrent net (or any net that uses the same weights again on their own output) the level of
the backward signal at the first time steps is far below that at the last one.

## Why it matters

What happened many steps ago then has no influence on the weights: the net cannot learn
dependencies longer than the signal lasts. For a factor of 0.6 a step, 2.7 decades are gone after 12
steps.

## Known problems

The gradient of the recurrent weights does not show it: the last steps dominate the sum. Nor is it
always a fault: where the answer lies in the last steps, or the loss has a term for every step, the
net learns well; so while the loss falls this is a remark only. An untrained LSTM forgets by design,
its gates open during training.

## Example

    rnn = nn.RNN(1, 32, batch_first=True)        # default weights: spectral radius about 0.6
    output, _ = rnn(torch.randn(16, 100, 1))
    loss(head(output[:, -1]), first_input_sign)  # the answer is 100 steps away

## Cure

`nn.init.orthogonal_` (or the identity, for ReLU) for the recurrent weights; an LSTM or GRU with a
forget bias of 1 or more; shorter sequences, skips through time, or attention.

## References

- Bengio, Simard, Frasconi 1994, Learning long-term dependencies with gradient descent is difficult.
- Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks.
- Le, Jaitly, Hinton 2015, A simple way to initialize recurrent networks, arXiv 1504.00941.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.recurrence import recurrence_finding
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Finding


def check(view: View) -> Sequence[Finding]:
    """Fire if the signal is lost over time."""
    remedy = _(
        "Initialise the recurrent weights orthogonally (nn.init.orthogonal_), or use a gated cell"
        " (LSTM, GRU) with a forget bias of 1 or more; or shorten the way back in time."
    )
    return recurrence_finding(view, "vanishing", "VG104", remedy)


RULE = Rule(
    code="VG104",
    verdict="vanishing",
    title="signal lost over time by recurrence",
    check=check,
    documentation=__doc__,
    thresholds=("vanishing-clear",),
)
