"""VG107: a second derivative that is zero by nature.

## What it finds

A loss that holds a second (or higher) derivative of the network with respect to its input, which is
exactly 0 at every traced step, while the first derivative is not: the network is made of straight
pieces (ReLU, leaky ReLU, hardtanh), and those have none.

## Why it matters

The term is in the loss, and sends no gradient at all: in d(phi'')/dw every factor phi'' is 0. Only
the other terms (boundary, data) train, so the loss falls to where the residual alone is left, and
stays there.

## Known problems

A network whose output is 0 everywhere (a zero-initialised last layer) has no second derivative
either, at first: so every traced step must show it, and no activation may be a curved one. Gradient
penalties hold first derivatives only, and train networks of ReLUs well. Derivatives taken by
torch.func are not seen.

## Example

    u = relu_net(x)
    du = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    d2u = torch.autograd.grad(du.sum(), x, create_graph=True)[0]     # 0 everywhere
    loss = (d2u + f(x)).pow(2).mean() + boundary(relu_net)

## Cure

A smooth activation: tanh, sine (SIREN), softplus, GELU or SiLU. Or write the equation as a system
of first order, with the derivative as an output of its own.

## References

- Raissi, Perdikaris, Karniadakis 2019, Physics-informed neural networks.
- Sitzmann et al. 2020, Implicit neural representations with periodic activation functions,
  arXiv 2006.09661, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, LayerSignal, Where

# Activations that are straight by pieces: their second derivative is 0 wherever there is one.
_STRAIGHT = frozenset({"relu", "leaky_relu", "prelu", "rrelu", "hardtanh", "threshold"})


def check(view: View) -> Sequence[Finding]:
    """Fire if a higher derivative in the loss is 0 at every step, and all activations straight."""
    seen = [trace for trace in view.traces if trace.trace.derivatives]
    orders = [_zero_order(trace) for trace in seen]
    if not seen or not all(orders):
        return []
    rows = [row for trace in seen for row in trace.trace.layers if row.activation is not None]
    if not all(row.activation in _STRAIGHT for row in rows):
        return []
    order = max(orders)
    title = _(
        "The derivative of order {order} in the loss is exactly 0: the network is made of straight"
        " pieces ({activation}), and this term sends no gradient."
    )
    row = rows[0] if rows else None
    return [_finding(view, seen[0], row, order, title)]


def _zero_order(trace: TraceView) -> int:
    """The lowest order from 2 up whose derivatives are all 0, lower ones not; 0 if there is none.

    One derivative that is not 0 (the mixed one of two inputs, say) shows that there is curvature.
    """
    levels: dict[int, list[float]] = {}
    for one in trace.trace.derivatives:
        levels.setdefault(one.order, []).append(one.level_log10)
    for order, found in sorted(levels.items()):
        if all(level == -math.inf for level in found):
            return order if order > 1 else 0
    return 0


def _finding(
    view: View, trace: TraceView, row: LayerSignal | None, order: int, title: str
) -> Finding:
    activation = row.activation if row is not None and row.activation else _("no activation")
    first = max(one.level_log10 for one in trace.trace.derivatives if one.order == 1)
    return Finding(
        code="VG107",
        family="VG",
        verdict="vanishing",
        severity="error",
        title=title.format(order=order, activation=activation),
        where=Where(row.module, row.op, row.call, row.source) if row is not None else Where(),
        factor="slope",
        evidence=(
            Evidence("first_derivative_log10", first),
            Evidence("derivative_order", float(order)),
            Evidence("higher_derivative", 0.0),
            Evidence("training", view.training.state),
        ),
        remedy=_(
            "Use a smooth activation (tanh, sine, softplus), or write the equation as a system of"
            " first order."
        ),
        model=view.model.name,
        step=trace.step,
        explains=("UR101", "UR106", "UR104"),
    )


RULE = Rule(
    code="VG107",
    verdict="vanishing",
    title="a second derivative that is zero by nature",
    check=check,
    documentation=__doc__,
)
