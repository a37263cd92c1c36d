"""The textbook chain on the terminal: its product, its training, the claims about the ReLU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from unvanish.chain.claims import Claims, Spread
from unvanish.chain.explain import headline
from unvanish.chain.formula import figure, numbers, slope_in_symbols, symbols
from unvanish.chain.learn import Training
from unvanish.chain.solution import Neuron, Solution
from unvanish.i18n import _
from unvanish.report.prose import Prose

ROWS = 24  # neurons in a table; of more, those at both ends and the smallest factors
BAR = 9  # columns of a bar
SPARKS = "▁▂▃▄▅▆▇█"
CURVE = 8  # columns of a curve


def solution_view(solution: Solution, notes: Sequence[str]) -> list[RenderableType]:
    """Return the formula, a table of neurons, and what there is to note."""
    return [
        Text(headline(solution), style="bold"),
        "",
        *_formula(solution),
        _neurons(solution),
        _bullets(notes),
    ]


def training_view(
    trainings: Mapping[str, Training], stories: Sequence[str]
) -> list[RenderableType]:
    """Return a table of trained chains with a sentence on each; of a single one, every weight."""
    first = next(iter(trainings.values()))
    task = ", ".join(f"{figure(x)} → {figure(y)}" for x, y in first.samples)
    parts: list[RenderableType] = [
        Text(
            _(
                "Trained on x → y: {task}; gradient descent, {steps} steps, learning rate {lr}."
            ).format(
                task=task, steps=max(len(t.steps) for t in trainings.values()) - 1, lr=first.lr
            )
        ),
        _trainings(trainings),
        _bullets(stories),
    ]
    if len(trainings) == 1:
        parts += [_by_step(first), _weights(first)]
    return parts


def claims_view(claims: Claims, verdicts: Sequence[str]) -> list[RenderableType]:
    """Return the three claims, each with what was measured."""
    slope, cost, row = claims.slope, claims.cost, claims.spread[0]
    first, second, third = (Text(verdict, style="bold") for verdict in verdicts)
    return [
        first,
        _(
            "At {draws} random z ~ N(0, 1) the measured slope differs from 1 by at most {on} where"
            " z > 0, and from 0 by at most {off} where z < 0. But only {share} of the z are"
            " positive. The sigmoid's slope reached {sigmoid} at the same z."
        ).format(
            draws=slope.draws,
            on=figure(slope.worst_on, digits=2),
            off=figure(slope.worst_off, digits=2),
            share=f"{slope.on_share:.0%}",
            sigmoid=figure(slope.sigmoid_largest),
        ),
        "",
        second,
        _(
            "In a chain of single neurons with random weights, one negative z kills the product: of"
            " 2^L draws one survives L neurons. So the gain here is the length of a random unit"
            " vector after back-propagation through layers of {width} ReLU neurons, over {draws}"
            " draws. Theory says √(s/2) a layer for weights of variance s/{width}: s is 1/3 for"
            " PyTorch's default, 1 for Xavier, 2 for He. Whatever the scale, the spread grows with"
            " depth, and the median falls below the mean."
        ).format(width=row.width, draws=row.draws),
        _spread(claims.spread),
        third,
        _(
            "Medians of {rounds} interleaved rounds, in this Python. Kept from the forward pass,"
            " the sigmoid's activation gives the slope a·(1 − a) without another exponential."
        ).format(rounds=cost.rounds),
    ]


def _spread(rows: Sequence[Spread]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(_("weights"))
    for heading in (_("layers"), _("rms gain"), "±", _("theory"), "5 %", _("median"), "95 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        rms, theory, low, median, high = (
            f"{10.0**log:.3g}"
            for log in (
                row.rms_log10,
                row.theory_log10,
                row.low_log10,
                row.median_log10,
                row.high_log10,
            )
        )
        # the error of the mean square, halved by the root
        error = f"{row.standard_error / 2:.0%}"
        table.add_row(row.scheme, str(row.depth), rms, error, theory, low, median, high)
    return table


def _formula(solution: Solution) -> list[RenderableType]:
    chain = solution.chain
    in_slopes, in_factors, result = numbers(solution)
    lines = (
        symbols(chain.depth, chain.activation),
        "= " + in_slopes,
        "= " + in_factors,
        "= " + result,
        _("where {slope}, z_k = w_k·a_(k−1) + b_k, C = ½(a_{depth} − y)²").format(
            slope=slope_in_symbols(chain.activation), depth=chain.depth
        ),
    )
    return [Padding(Text(line), (0, 0, 0, 2)) for line in lines]


def _neurons(solution: Solution) -> Table:
    slope = "σ'(z)" if solution.chain.activation == "sigmoid" else "φ'(z)"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("k", "w", "b", "z", "a", slope, "w·" + slope, "log10", "", "∂C/∂w"):
        table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=True)
    shown = _shown(solution.neurons)
    logs = [abs(neuron.factor_log10) for neuron in shown if math.isfinite(neuron.factor_log10)]
    reach = max([1.0, *logs])  # a full bar is a decade, or the greatest factor
    previous = 0
    for neuron in shown:
        if neuron.k != previous + 1:
            table.add_row("…")
        previous = neuron.k
        table.add_row(
            str(neuron.k),
            *(
                figure(value, digits=3)
                for value in (neuron.weight, neuron.bias, neuron.z, neuron.a)
            ),
            figure(neuron.slope, neuron.slope_log10, digits=3),
            figure(neuron.factor, neuron.factor_log10, digits=3),
            f"{neuron.factor_log10:+.2f}" if abs(neuron.factor_log10) < 1e4 else "",
            _bar(neuron.factor_log10, reach),
            figure(neuron.dC_dw, neuron.dC_dw_log10, digits=3),
        )
    return table


def _shown(neurons: Sequence[Neuron]) -> list[Neuron]:
    if len(neurons) <= ROWS:
        return list(neurons)
    third = ROWS // 3
    middle = sorted(neurons[third:-third], key=lambda neuron: neuron.factor_log10)[:third]
    return [*neurons[:third], *sorted(middle, key=lambda n: n.k), *neurons[-third:]]


def _bar(log10: float, reach: float) -> Text:
    """A bar of the log: red and marked − where the signal shrinks, blue and + where it grows."""
    if math.isnan(log10) or log10 == 0:
        return Text("")
    share = 1.0 if math.isinf(log10) else abs(log10) / reach
    bar = "█" * round(share * (BAR - 1))
    return Text("−" + bar, style="red") if log10 < 0 else Text("+" + bar, style="blue")


def _trainings(trainings: Mapping[str, Training]) -> Table:
    depth = next(iter(trainings.values())).chain.depth
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(_("chain"))
    table.add_column(_("loss"), no_wrap=True)
    for heading in (_("first"), _("last"), "∂C/∂w_1", _("max step"), "Δw_1", f"Δw_{depth}"):
        table.add_column(heading, justify="right", no_wrap=True)
    highest = max((t.losses[0] for t in trainings.values() if t.losses[0] < math.inf), default=1.0)
    for name, training in trainings.items():
        table.add_row(
            name,
            _curve(training.losses, 0.0, highest),
            figure(training.losses[0], digits=2),
            figure(training.losses[-1], digits=2),
            figure(training.steps[0].dC_dw[0], digits=2),
            figure(max(training.largest_steps), digits=2),
            figure(training.movement[0], digits=2),
            figure(training.movement[-1], digits=2),
        )
    return table


def _by_step(training: Training) -> Table:
    """Loss and movement at steps 0, 1, 2, 5, 10, 20, 50 ... and the last."""
    depth = training.chain.depth
    shown = sorted({1, (depth + 1) // 2, depth})
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in (_("step"), _("loss"), *(f"Δw_{k}" for k in shown), "∂C/∂w_1"):
        table.add_column(heading, justify="right", no_wrap=True)
    start, last = training.chain.weights, training.steps[-1].step
    for step in training.steps:
        if step.step not in (0, last) and str(step.step).rstrip("0") not in ("1", "2", "5"):
            continue
        table.add_row(
            str(step.step),
            figure(step.loss, digits=3),
            *(figure(step.weights[k - 1] - start[k - 1], digits=3) for k in shown),
            figure(step.dC_dw[0], digits=3),
        )
    return table


def _weights(training: Training) -> Table:
    """Every weight: where it went, and how far from its start it was at each step."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("k", justify="right")
    for heading in (_("w at first"), _("w at last"), _("moved"), _("max step")):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(_("movement by step"))
    first, last = training.steps[0], training.steps[-1]
    paths = [
        [_log10(step.weights[k] - first.weights[k]) for step in training.steps]
        for k in range(training.chain.depth)
    ]
    high = max((log for path in paths for log in path if math.isfinite(log)), default=0.0)
    shown = range(training.chain.depth)
    if len(shown) > ROWS:
        shown = range(0, len(shown), -(-len(shown) // ROWS))
    for k in shown:
        table.add_row(
            str(k + 1),
            figure(first.weights[k]),
            figure(last.weights[k]),
            figure(training.movement[k], digits=3),
            figure(training.largest_steps[k], digits=3),
            _curve(paths[k], high - 8.0, high),
        )
    return table


def _curve(values: Sequence[float], low: float, high: float) -> str:
    """Draw values between `low` and `high`; columns are steps, spaced by their logarithm."""
    marks = []
    for column in range(CURVE):
        value = values[round(len(values) ** (column / (CURVE - 1))) - 1]
        share = 1.0 if math.isnan(value) else (value - low) / ((high - low) or 1.0)
        marks.append(SPARKS[round(min(max(share, 0.0), 1.0) * (len(SPARKS) - 1))])
    return "".join(marks)


def _bullets(texts: Sequence[str]) -> RenderableType:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column()
    grid.add_column(overflow="fold")
    for text in texts:
        grid.add_row("•", Prose(text))
    return grid


def _log10(value: float) -> float:
    return -math.inf if value == 0 else math.log10(abs(value))
