"""The note's story in six screens: the chain that each shows, and what it says.

Numbers in the texts are computed from the chain on the screen, never written down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unvanish.chain import Solution, widest_band
from unvanish.chain.formula import figure as digits
from unvanish.i18n import _
from unvanish.web.views.setting import Setting


@dataclass(frozen=True, slots=True)
class Story:
    """One screen: its title, the chain, the pictures in order, and its sentences."""

    title: Callable[[], str]
    setting: Setting
    pictures: tuple[str, ...]
    tell: Callable[[Solution], Sequence[str]]
    next: Callable[[str], tuple[str, str]] | None = None  # a link to try it on real data


def _first(solution: Solution) -> Sequence[str]:
    return (
        _(
            "Every neuron passes its input on: a_k = σ(w_k a_(k−1) + b_k). How far the cost moves"
            " when the first weight moves is a product, by the chain rule: one factor w_k σ'(z_k)"
            " for each neuron on the way."
        ),
        _("Here the product of the {depth} factors is {gain}. Move a slider and watch it.").format(
            depth=solution.chain.depth, gain=_gain(solution)
        ),
    )


def _second(solution: Solution) -> Sequence[str]:
    worst = min(solution.neurons, key=lambda neuron: neuron.factor_log10)
    rest = solution.input_gain_log10 - worst.factor_log10
    return (
        _(
            "The sigmoid is flat for z above 4 and below −4: there its slope is almost 0. All"
            " neurons here are as good as a sigmoid gets, but for neuron {k}, whose z is {z}."
        ).format(k=worst.k, z=digits(worst.z)),
        _(
            "Its factor is {factor}. Without it the gain would be {rest}; with it, {gain}. One"
            " such factor alone kills the product."
        ).format(
            factor=digits(worst.factor, worst.factor_log10),
            rest=digits(10.0**rest),
            gain=_gain(solution),
        ),
    )


def _third(solution: Solution) -> Sequence[str]:
    largest = max(neuron.factor for neuron in solution.neurons)
    return (
        _(
            "No neuron is broken here, and yet: the sigmoid's slope is at most 1/4, so with"
            " weights of 1 the largest of the {depth} factors is {largest}."
        ).format(depth=solution.chain.depth, largest=digits(largest)),
        _(
            "Their product is {gain}. The earlier a weight, the more factors stand before its"
            " gradient. Make the chain deeper and see."
        ).format(gain=_gain(solution)),
    )


def _fourth(solution: Solution) -> Sequence[str]:
    return (
        _(
            "This is how it shows: the loss falls a little, then stays where it is, and nothing"
            " more happens. The chain is to learn y = 0.1 + 0.4 x from three points."
        ),
        _(
            "The last weights learn the mean of y, which needs no x; the first get no gradient,"
            " so x never comes through. Play the training, and follow ∂C/∂w_1."
        ),
    )


def _fifth(solution: Solution) -> Sequence[str]:
    weight, width = widest_band()
    return (
        _(
            "First cure that was proposed: large weights. With w = 10 and every z at 0 a factor is"
            " {factor}, and {depth} of them are {gain}: it explodes. Play the training: the first"
            " step is far too long, and then everything saturates."
        ).format(
            factor=digits(solution.neurons[0].factor),
            depth=solution.chain.depth,
            gain=_gain(solution),
        ),
        _(
            "And only biases chosen for this one input hold z at 0. The inputs with a factor of 1"
            " or more are a narrow band: never wider than {width}, whatever the weight (at"
            " |w| = {weight}). Choose “biases given” and move the input."
        ).format(width=digits(width, digits=3), weight=digits(weight, digits=3)),
    )


def _sixth(solution: Solution) -> Sequence[str]:
    return (
        _(
            "Second cure: the ReLU. Its slope is 1 for z > 0, so with weights of 1 the product of"
            " all factors is {gain}: it neither grows nor shrinks, and the derivative is cheap."
        ).format(gain=_gain(solution)),
        _(
            "It holds for the right weights only: move w away from 1. And one negative z switches a"
            " neuron off: its factor is exactly 0, and so is the product. In wide networks the"
            " right scale is He's. `unvanish chain --claims` tests all that is said of the ReLU."
        ),
    )


def _gain(solution: Solution) -> str:
    return digits(solution.input_gain, solution.input_gain_log10, digits=6)


def _sigmoid(prefix: str) -> tuple[str, str]:
    return (
        f"{prefix}playground?activation=sigmoid&start=default&depth=10",
        _("The same on real data: ten sigmoid layers on handwritten digits"),
    )


def _relu(prefix: str) -> tuple[str, str]:
    return (
        f"{prefix}playground?activation=relu&start=he&depth=10",
        _("The same on real data: ten ReLU layers with He's weights"),
    )


# S1 … S6 of docs/serve.md, in order.
STORIES: tuple[Story, ...] = (
    Story(
        lambda: _("The chain rule is a product"),
        Setting(depth=4, target=1.0),
        ("factors", "gradients"),
        _first,
    ),
    Story(
        lambda: _("One saturated neuron kills it"),
        Setting(depth=10, mode="z", weight=4.0, bias=0.0, own={5: (4.0, 12.0)}, neuron=5),
        ("factors", "neuron"),
        _second,
    ),
    Story(
        lambda: _("Many factors below 1"),
        Setting(depth=10),
        ("factors", "gradients"),
        _third,
    ),
    Story(
        lambda: _("The symptom: the loss stops falling"),
        Setting(depth=10, input=0.5, target=0.3, step=500),
        ("training", "gradients"),
        _fourth,
        _sigmoid,
    ),
    Story(
        lambda: _("Cure one: large weights"),
        Setting(depth=10, mode="z", weight=10.0, bias=0.0, input=0.5, target=0.3),
        ("factors", "neuron", "training"),
        _fifth,
    ),
    Story(
        lambda: _("Cure two: the ReLU"),
        Setting(depth=10, activation="relu", weight=1.0, input=0.5, target=0.3),
        ("factors", "training"),
        _sixth,
        _relu,
    ),
)
