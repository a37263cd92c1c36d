"""The prediction of theory in words, beside what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from unvanish import words
from unvanish.i18n import _
from unvanish.records import LayerPrediction, Trace

_MOST_REASONS = 3


def sentences(trace: Trace) -> list[str]:
    """Say what theory predicts of the network, what was measured, and where theory does not apply.

    Nothing for a network that has no trunk, or whose gradient was not finite.
    """
    return [*_account(trace.predictions), *_reasons(trace.predictions)]


def covered(predictions: Sequence[LayerPrediction]) -> Sequence[LayerPrediction]:
    """Return the predictions from the network's output down to the last that theory knows."""
    known = [one.total_predicted_log10 is not None for one in predictions]
    return predictions[len(known) - known[::-1].index(False) :] if False in known else predictions


def a_layer(predictions: Sequence[LayerPrediction]) -> tuple[float, float] | None:
    """Return the predicted and the measured log-gain per layer with weights, if there is one."""
    layers = sum(one.factor == "weight" for one in predictions)
    if not layers or predictions[0].total_predicted_log10 is None:
        return None
    first = predictions[0]
    predicted = first.total_predicted_log10 or 0.0
    return predicted / layers, first.total_measured_log10 / layers


def _account(predictions: Sequence[LayerPrediction]) -> Iterator[str]:
    known = covered(predictions)
    each = a_layer(known)
    if each is None:
        return
    first = known[0]
    numbers = (first.total_predicted_log10, first.total_low_log10, first.total_high_log10)
    if not all(number is not None and math.isfinite(number) for number in numbers):
        return
    if any(one.flag is not None for one in known):
        text = _(
            "Theory, not to be trusted from the output to `{where}` (why is said below):"
            " {predicted} for random networks of these sizes, measured {measured}; a layer: {each},"
            " measured {seen}."
        )
    else:
        text = _(
            "Theory, from the output to `{where}`: predicted {predicted} ({low} to {high} in nine"
            " of ten random networks), measured {measured}; a layer: predicted {each}, measured"
            " {seen}."
        )
    yield text.format(
        where=words.shorten_path(words.module_name(first.module), 30),
        predicted=words.times(first.total_predicted_log10),
        low=words.times(first.total_low_log10),
        high=words.times(first.total_high_log10),
        measured=words.times(first.total_measured_log10),
        each=short(each[0]),
        seen=short(each[1]),
    )


def short(gain_log10: float) -> str:
    """Return a gain of one layer with three digits: "×0.143"."""
    if not abs(gain_log10) < 3.0:
        return words.times(gain_log10)
    return f"×{10.0**gain_log10:.3g}"


def _reasons(predictions: Sequence[LayerPrediction]) -> Iterator[str]:
    places: dict[str, list[LayerPrediction]] = {}
    for one in predictions:
        if one.flag is not None:
            places.setdefault(one.flag, []).append(one)
    for reason, flagged in list(places.items())[:_MOST_REASONS]:
        text = words.printable(reason)
        if len(flagged) == len(predictions):
            yield _("Where theory does not apply: everywhere; {reason}.").format(reason=text)
            continue
        name = words.shorten_path(words.module_name(flagged[0].module), 30)
        more = len(flagged) - 1
        where = _("`{name}` and {more} more").format(name=name, more=more) if more else f"`{name}`"
        yield _("Where theory does not apply: {where}; {reason}.").format(where=where, reason=text)
