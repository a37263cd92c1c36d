"""The chain that is on the screen, as its address says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from unvanish.chain import (
    ACTIVATIONS,
    TASK,
    Chain,
    Solution,
    Training,
    make_chain,
    solve,
    train,
)
from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.web.address import Range, one_of

Mode = Literal["b", "z"]

DEPTH = Range(1, 40, 1, 10)
WEIGHT = Range(-12.0, 12.0, 0.1, 1.0)
BIAS = Range(-12.0, 12.0, 0.1, 0.0)  # or every z, where biases are chosen
INPUT = Range(-5.0, 5.0, 0.05, 1.0)
TARGET = Range(-2.0, 2.0, 0.05, 0.0)
STEP = Range(0, 500, 1, 0)
NEURON = Range(0, 40, 1, 0)


@dataclass(frozen=True, slots=True)
class Setting:
    """What the controls say.

    `bias` is b_k, or with mode "z" the z_k for which biases are chosen. `own` holds neurons with a
    weight and a bias (or z) of their own, by their number. `step` is how far the chain is trained,
    and `neuron` the one that is looked at (0: the first).
    """

    depth: int = 10
    activation: str = "sigmoid"
    mode: Mode = "b"
    weight: float = 1.0
    bias: float = 0.0
    input: float = 1.0
    target: float = 0.0
    own: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    step: int = 0
    neuron: int = 0

    def chain(self) -> Chain:
        """Return the untrained chain. Raises UsageError where no bias puts a z in its place."""
        weights = [self.own.get(k, (self.weight, 0.0))[0] for k in range(1, self.depth + 1)]
        others = [self.own.get(k, (0.0, self.bias))[1] for k in range(1, self.depth + 1)]
        given = {"bias" if self.mode == "b" else "pre_activation": others}
        return make_chain(self.depth, weights, a_0=self.input, activation=self.activation, **given)

    def trained(self, steps: int) -> Training:
        """Return the training of the chain on the line y = 0.1 + 0.4 x."""
        return train(self.chain(), TASK, steps=steps)

    def solution(self, training: Training | None = None) -> Solution:
        """Return the chain at its step, solved for the input and the target."""
        chain = self.chain()
        if self.step and training is not None:
            at = training.steps[min(self.step, len(training.steps) - 1)]
            chain = Chain(at.weights, at.biases, chain.activation)
        return solve(chain, self.input, self.target)

    def command(self) -> str:
        """Return the command line that prints the same numbers, for an untrained chain."""
        ks = range(1, self.depth + 1)
        weights = [self.own.get(k, (self.weight, self.bias))[0] for k in ks]
        others = [self.own.get(k, (self.weight, self.bias))[1] for k in ks]
        option = "--bias" if self.mode == "b" else "--pre-activation"
        return " ".join(
            [
                f"unvanish chain --depth {self.depth} --activation {self.activation}",
                f"--weight={_list(weights)} {option}={_list(others)}",
                f"--input={self.input:g} --target={self.target:g}",
            ]
        )

    def differences(self, base: Setting) -> dict[str, object]:
        """Return what an address has to say of this setting where `base` is known."""
        known = _values(base)
        return {name: value for name, value in _values(self).items() if value != known[name]}


def _list(values: list[float]) -> str:
    return f"{values[0]:.12g}" if len(set(values)) == 1 else ",".join(f"{v:.12g}" for v in values)


def _values(one: Setting) -> dict[str, object]:
    return {
        "depth": one.depth,
        "activation": one.activation,
        "biases": one.mode,
        "w": float(one.weight),
        "b": float(one.bias),
        "x": float(one.input),
        "y": float(one.target),
        "own": ",".join(f"{k}:{w:.12g}:{b:.12g}" for k, (w, b) in sorted(one.own.items())),
        "step": one.step,
        "neuron": one.neuron,
    }


def read(query: Mapping[str, str], base: Setting) -> Setting:
    """Return the setting of an address; what it does not say is as in `base`. Raises UsageError."""
    values = {name: str(value) for name, value in _values(base).items()}
    values |= {name: value for name, value in query.items() if name in values}
    return checked(
        depth=values["depth"],
        activation=values["activation"],
        mode=values["biases"],
        weight=values["w"],
        bias=values["b"],
        a_0=values["x"],
        target=values["y"],
        own=_read_own(values["own"]),
        step=values["step"],
        neuron=values["neuron"],
    )


def checked(
    *,
    depth: float | str | None,
    activation: str,
    mode: str,
    weight: float | str | None,
    bias: float | str | None,
    a_0: float | str | None,
    target: float | str | None,
    own: Mapping[int, tuple[float, float]],
    step: float | str | None,
    neuron: float | str | None,
) -> Setting:
    """Return the setting that controls or an address say. Raises UsageError for any that is not."""
    neurons = DEPTH.whole("depth", depth)
    kept = {
        int(NEURON.whole("neuron", k)): (WEIGHT.check("w", w), BIAS.check("b", b))
        for k, (w, b) in own.items()
    }
    return Setting(
        depth=neurons,
        activation=one_of(_("activation"), activation, list(ACTIVATIONS)),
        mode="z" if one_of("biases", mode, ("b", "z")) == "z" else "b",
        weight=WEIGHT.check("w", weight),
        bias=BIAS.check("b", bias),
        input=INPUT.check("x", a_0),
        target=TARGET.check("y", target),
        own={k: pair for k, pair in kept.items() if 1 <= k <= neurons},
        step=STEP.whole("step", step),
        neuron=min(NEURON.whole("neuron", neuron), neurons),
    )


def _read_own(text: str) -> dict[int, tuple[float, float]]:
    try:
        triples = [part.split(":") for part in text.split(",") if part]
        return {int(k): (float(w), float(b)) for k, w, b in triples}
    except ValueError as error:
        raise UsageError(
            _("own = {text!r} is refused").format(text=text[:80]),
            _("Write it as NEURON:WEIGHT:BIAS, with commas between."),
        ) from error
