"""What a solved chain and a trained chain say, in sentences."""

from __future__ import annotations

import math

from unvanish.chain.activations import find_activation
from unvanish.chain.bands import band, widest_band
from unvanish.chain.claims import Claims
from unvanish.chain.formula import figure
from unvanish.chain.learn import Training
from unvanish.chain.solution import Chain, Neuron, Solution, make_chain, solve
from unvanish.errors import UsageError
from unvanish.i18n import _

KEPT = 2.0  # decades of gain, up or down, within which the signal is said to keep its size
LISTED = 10  # neurons named one by one
GIANT = 1.0  # a step that moves a weight by this much is worth a word


def headline(solution: Solution) -> str:
    """Return one sentence: the input's gain, and what it means."""
    log10, depth = solution.input_gain_log10, solution.chain.depth
    if math.isnan(log10):
        verdict = _("not a number: forward values overflow")
    elif log10 < -KEPT:
        verdict = _("the signal vanishes on its way to the front")
    elif log10 > KEPT:
        verdict = _("the signal explodes on its way to the front")
    else:
        verdict = _("the signal keeps its size")
    each = math.inf if log10 / depth > 308 else 10.0 ** (log10 / depth)
    return _(
        "The input's gain ∂a_{depth}/∂a_0 is {gain}, the product of {depth} factors of ×{each}"
        " each (geometric mean): {verdict}."
    ).format(depth=depth, gain=precise(solution), each=figure(each), verdict=verdict)


def precise(solution: Solution) -> str:
    """Return the input's gain: all digits where 14 hold it exactly, else few."""
    gain = solution.input_gain
    if gain != 0 and math.isfinite(gain) and float(f"{gain:.14g}") == gain:
        return f"{gain:.14g}"
    return figure(gain, solution.input_gain_log10, digits=6)


def notes(solution: Solution, chosen: bool = False) -> tuple[str, ...]:
    """Return what is worth knowing about this chain, the weightiest first.

    `chosen` says that the biases were chosen to put every z_k at a given value.
    """
    found = (
        _saturation(solution, chosen),
        _off(solution),
        _culprit(solution),
        _biases(solution, chosen),
        _front(solution),
        _range(solution),
        _band(solution),
    )
    return tuple(note for note in found if note)


def story(training: Training) -> str:
    """Return what became of a chain in training, in one or two sentences."""
    first, last = training.steps[0], training.steps[-1]
    largest, size = training.largest_step, max(training.step_sizes, default=0.0)
    sentences = {
        "diverged": _("It blows up: at step {end} the loss is {loss}."),
        "dead": _("It dies: ∂C/∂w_1 falls from {before} to {after}, and the loss ends at {loss}."),
        "still": _(
            "The front stands still: w_1 has moved by {front}, w_{depth} by {back}. The loss is"
            " {loss}, and {constant} is reached by an answer that ignores x."
        ),
        "learnt": _(
            "It learns: w_1 has moved by {front}, w_{depth} by {back}. The loss is {loss}, and"
            " {constant} is reached by an answer that ignores x."
        ),
        "moving": _(
            "It moves, w_1 by {front}, w_{depth} by {back}, and has learnt nothing of x: the loss"
            " is {loss}, and {constant} is reached by an answer that ignores x."
        ),
    }
    text = sentences[training.outcome]
    if training.outcome in ("diverged", "dead") and size >= GIANT:
        text = _("One giant step: at step {largest} a weight moves by {size}.") + " " + text
    if training.movement[0] == 0 and first.dC_dw[0] != 0:
        text += " " + _("∂C/∂w_1 is {before}: too small a step for float64 to add to w_1.")
    return text.format(
        depth=training.chain.depth,
        end=last.step,
        largest=largest,
        size=figure(size, digits=3),
        before=figure(training.steps[largest].dC_dw[0], digits=2),
        after=figure(last.dC_dw[0], digits=2),
        loss=figure(last.loss, digits=3),
        constant=figure(training.constant_loss, digits=3),
        front=figure(training.movement[0], digits=2),
        back=figure(training.movement[-1], digits=2),
    )


def verdicts(claims: Claims) -> tuple[str, str, str]:
    """Return one sentence on each of the three claims, as measured."""
    deepest = max(row.depth for row in claims.spread)
    rows = [row for row in claims.spread if row.depth == deepest]
    drifts = ", ".join(
        _("{scheme} ×{gain} a layer").format(
            scheme=row.scheme, gain=figure(10.0 ** (row.rms_log10 / deepest), digits=3)
        )
        for row in rows
    )
    steady = ", ".join(row.scheme for row in rows if row.steady) or _("none")
    slope, cost = claims.slope, claims.cost
    return (
        _("1. The slope is 1 where z > 0: true.")
        if slope.holds
        else _("1. The slope is 1 where z > 0: not true."),
        _(
            "2. The product neither grows nor shrinks: depends on the weights. True of {steady};"
            " measured: {drifts}."
        ).format(steady=steady, drifts=drifts),
        _(
            "3. Its derivative is cheap: the sigmoid's takes {from_z} times as long from z, and"
            " {from_a} times from the activation already computed."
        ).format(from_z=figure(cost.from_z, digits=3), from_a=figure(cost.from_a, digits=3)),
    )


def _saturation(solution: Solution, chosen: bool) -> str | None:
    saturated = [neuron for neuron in solution.neurons if neuron.saturated]
    if not saturated:
        return None
    steepest = find_activation(solution.chain.activation).steepest
    if solution.chain.activation == "sigmoid":
        text = _("{count} of {depth} units saturate ({names}): |z| > 4, where σ' is below 0.018.")
    else:
        text = _(
            "{count} of {depth} units saturate ({names}): their slope is below 0.07 of the"
            " steepest, {steepest}."
        )
    text = text.format(
        count=len(saturated),
        depth=solution.chain.depth,
        names=_names(saturated),
        steepest=figure(steepest),
    )
    if solution.chain.activation == "sigmoid" and not chosen:
        text += " " + _(
            "A large weight makes z large, and σ' falls with exp(−|z|), faster than w grows."
        )
    return text


def _off(solution: Solution) -> str | None:
    off = [neuron for neuron in solution.neurons if neuron.slope_log10 == -math.inf]
    if not off:
        return None
    return _("{count} of {depth} units are off ({names}): slope 0, and so is the product.").format(
        count=len(off), depth=solution.chain.depth, names=_names(off)
    )


def _culprit(solution: Solution) -> str | None:
    """Name the one neuron without which the signal would be fine."""
    if solution.chain.depth < 2 or not solution.input_gain_log10 < -KEPT:
        return None
    worst = min(solution.neurons, key=lambda neuron: neuron.factor_log10)
    others = sum(n.factor_log10 for n in solution.neurons if n.k != worst.k)
    if not -KEPT <= others < math.inf:
        return None
    return _(
        "Neuron {k} alone kills the product: its factor is {factor} (z_{k} = {z}, w_{k} = {w});"
        " without it the gain would be 10^{others:.2f}."
    ).format(
        k=worst.k,
        factor=figure(worst.factor, worst.factor_log10),
        z=figure(worst.z),
        w=figure(worst.weight),
        others=others,
    )


def _biases(solution: Solution, chosen: bool) -> str | None:
    """Hold the gain against what the other way of setting biases gives."""
    chain, phi = solution.chain, find_activation(solution.chain.activation)
    if chosen:
        other = solve(Chain(chain.weights, (0.0,) * chain.depth, chain.activation), solution.a_0)
        return _(
            "The biases were chosen, b_k = z_k − w_k·a_(k−1), so that this one input puts every z_k"
            " where it is. With all biases 0 instead (--bias 0), z_{depth} is {z}, {count} of"
            " {depth} units saturate, and the input gain is {gain}: the answer hangs on the biases."
        ).format(
            depth=chain.depth,
            z=figure(other.neurons[-1].z),
            count=sum(neuron.saturated for neuron in other.neurons),
            gain=precise(other),
        )
    if phi.steepest_at is None:
        return None
    try:
        placed = make_chain(
            chain.depth, chain.weights, None, phi.steepest_at, solution.a_0, chain.activation
        )
    except UsageError:  # weights too large for any bias to place z
        return None
    return _(
        "The biases were given, and z_k is what it comes to. Biases chosen so that every z_k is"
        " {at}, where the slope is steepest ({steepest}), would give an input gain of {gain}: the"
        " answer hangs on the biases (--pre-activation {at})."
    ).format(
        at=figure(phi.steepest_at),
        steepest=figure(phi.steepest),
        gain=precise(solve(placed, solution.a_0)),
    )


def _band(solution: Solution) -> str | None:
    """Return where the sigmoid's factors reach 1, and how many inputs lie there."""
    if solution.chain.activation != "sigmoid":
        return None
    before = [solution.a_0] + [neuron.a for neuron in solution.neurons[:-1]]
    bands = [band(neuron.weight, neuron.bias) for neuron in solution.neurons]
    inside = sum(1 for x, limits in zip(before, bands, strict=True) if limits and x in limits)
    weight, width = widest_band()
    if bands[0] is None:
        first = _("none for neuron 1, since |w_1| < 4")
    else:
        first = _("for neuron 1 from {low} to {high}, {width} wide").format(
            low=figure(bands[0].low), high=figure(bands[0].high), width=figure(bands[0].width)
        )
    return _(
        "The band of inputs with |w·σ'(w·x + b)| ≥ 1: {first}. {inside} of {depth} neurons get an"
        " input inside theirs. No weight makes it wider than {width} (|w| = {weight})."
    ).format(
        first=first,
        inside=inside,
        depth=solution.chain.depth,
        width=figure(width, digits=3),
        weight=figure(weight, digits=3),
    )


def _front(solution: Solution) -> str | None:
    if solution.error == 0:
        return _("The output equals the target, so every ∂C/∂w_k is 0 whatever the product is.")
    if solution.a_0 == 0:
        return _("a_0 is 0, so ∂C/∂w_1 is 0 whatever the product is.")
    return None


def _range(solution: Solution) -> str | None:
    for neuron in solution.neurons:
        if not math.isfinite(neuron.a):
            return _("Forward values overflow float64 from neuron {k} on.").format(k=neuron.k)
    if math.isfinite(solution.input_gain_log10) and solution.input_gain in (
        0.0,
        math.inf,
        -math.inf,
    ):
        return _("The gain is beyond the range of floats; its logarithm is right.")
    return None


def _names(neurons: list[Neuron]) -> str:
    shown = ", ".join(str(neuron.k) for neuron in neurons[:LISTED])
    return shown + (", …" if len(neurons) > LISTED else "")
