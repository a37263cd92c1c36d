"""`unvanish.gain`, `unvanish.critical`, `unvanish.theory`: the theory of one activation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from unvanish.errors import UnknownNameError, UsageError
from unvanish.i18n import _
from unvanish.meanfield.activation import Activation
from unvanish.meanfield.bridge import resolve
from unvanish.meanfield.critical import Criticality, Kind, criticality
from unvanish.meanfield.depth import Profile, propagate
from unvanish.meanfield.maps import FixedPoint, Layer, fixed_point
from unvanish.meanfield.moments import Moments, moments
from unvanish.shown import Shown

GainKind = Literal["forward", "backward", "centred"]
GAIN_KINDS: tuple[GainKind, ...] = ("forward", "backward", "centred")

# nn.Linear draws weights from U(±1/√fan_in); its bias, of variance 1/(3 fan_in), is left out
TORCH_DEFAULT_SIGMA_W = 3.0**-0.5


def gain(
    activation: Any,
    kind: GainKind = "forward",
    *,
    q: float = 1.0,
    kinks: Iterable[float] | None = None,
) -> float:
    """Return σ_w by which weights of variance σ_w²/fan_in keep a signal at pre-activations N(0, q).

    "forward" keeps their length, √(q/E φ²); "backward" the norm of the gradient, 1/√E φ'²;
    "centred" the length where a bias of −E φ times the row sums of W removes the mean,
    √(q/Var φ). This is what `torch.nn.init.calculate_gain` is for, for any activation.

    `activation` is a name ("gelu", "leaky_relu(0.2)"), a torch function or module, or an
    element-wise function of a tensor, whose `kinks` are found unless they are given.

    Raises UnknownNameError for a name that is not known, UsageError for what is no activation.
    """
    if kind not in GAIN_KINDS:
        raise UnknownNameError(_("kind of gain"), str(kind), GAIN_KINDS, _("Give one of these."))
    return float(getattr(_gains(moments(resolve(activation, kinks=kinks), q)), kind))


def critical(activation: Any, *, kinks: Iterable[float] | None = None) -> Criticality:
    """Return where an activation is critical (keeps lengths and gradients), in numbers and words.

    `activation` and `kinks` as for `gain`. Print the result for its statement.
    """
    return criticality(resolve(activation, kinks=kinks))


@dataclass(frozen=True, slots=True)
class Gains:
    """σ_w by `gain`, all three kinds."""

    forward: float
    backward: float
    centred: float


@dataclass(frozen=True, slots=True)
class Setting:
    """A choice of σ_w and σ_b, and what becomes of a plain network with it.

    `name` is "given", "torch_default" (nn.Linear's), "forward", "backward" or "critical".
    `gain_log10` is the log10 of the gain of the gradient's norm a layer, ½ log10 χ₁, at the fixed
    point; `trains` whether the depth that was asked for is at most the greatest expected to train,
    None where that is infinite: at χ₁ = 1 the theory sets no limit, and does not promise any depth.
    """

    name: str
    sigma_w: float
    sigma_b: float
    gain_log10: float
    fixed_point: FixedPoint
    prediction: Profile | None
    trains: bool | None


@dataclass(frozen=True, slots=True, repr=False)
class Theory(Shown):
    """All that mean-field theory says of one activation in plain networks.

    `mean` is E φ and `kurtosis` E φ'⁴/(E φ'²)² at pre-activations of length `q`, which is also
    where networks start.
    """

    activation: str
    q: float
    gains: Gains
    mean: float
    kurtosis: float
    slope_supremum: float | None
    critical: Criticality
    settings: tuple[Setting, ...]
    depth: int | None
    width: int | None
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Theory of {self.activation}: {self.critical.kind}>"


def theory(
    activation: Any,
    *,
    sigma_w: float | None = None,
    sigma_b: float = 0.0,
    depth: int | None = None,
    width: int | None = None,
    q: float = 1.0,
    kinks: Iterable[float] | None = None,
) -> Theory:
    """Return gains, critical points, fixed points, depth scales and the depth expected to train.

    Computed for the given σ_w and σ_b, if any, for nn.Linear's default, for the forward and
    backward gains and for the first critical point without a bias. With `depth`, the gradient's
    gain is also predicted layer by layer from first pre-activations of length `q`; with `width`,
    so is its spread over random weights. `activation` and `kinks` as for `gain`.

    Raises UnknownNameError and UsageError as `gain` does, and UsageError for σ_w ≤ 0, σ_b < 0 or
    σ_b without σ_w.
    """
    if sigma_w is None and sigma_b != 0.0:
        raise UsageError(_("σ_b has no use without σ_w"), _("Give both, or neither."))
    resolved = resolve(activation, kinks=kinks)
    m, found = moments(resolved, q), criticality(resolved)
    settings = tuple(
        _setting(name, Layer(resolved, w, b), q, depth, width)
        for name, w, b in _choices(sigma_w, sigma_b, _gains(m), found)
    )
    return Theory(
        activation=resolved.name,
        q=q,
        gains=_gains(m),
        mean=m.mean,
        kurtosis=m.kurtosis,
        slope_supremum=resolved.slope_supremum,
        critical=found,
        settings=settings,
        depth=depth,
        width=width,
        notes=tuple(_notes(resolved, m, found, settings)),
    )


def _gains(m: Moments) -> Gains:
    def inverse_root(square: float) -> float:
        return math.inf if square <= 0.0 else square**-0.5

    return Gains(
        forward=inverse_root(m.second / m.q),
        backward=inverse_root(m.slope_second),
        centred=inverse_root(m.variance / m.q),
    )


def _choices(
    sigma_w: float | None, sigma_b: float, gains: Gains, found: Criticality
) -> Iterator[tuple[str, float, float]]:
    if sigma_w is not None:
        yield "given", sigma_w, sigma_b
    yield "torch_default", TORCH_DEFAULT_SIGMA_W, 0.0
    for name, value in (("forward", gains.forward), ("backward", gains.backward)):
        if math.isfinite(value):
            yield name, value, 0.0
    if found.sigma_w is not None:
        yield "critical", found.sigma_w, 0.0


def _setting(name: str, layer: Layer, q: float, depth: int | None, width: int | None) -> Setting:
    point = fixed_point(layer, q)
    limitless = math.isinf(point.trainable_depth)
    return Setting(
        name=name,
        sigma_w=layer.sigma_w,
        sigma_b=layer.sigma_b,
        gain_log10=0.5 * math.log10(point.chi_1) if point.chi_1 > 0.0 else -math.inf,
        fixed_point=point,
        prediction=None if depth is None else propagate(layer, depth, q, width),
        trains=None if depth is None or limitless else depth <= point.trainable_depth,
    )


def setting_name(name: str, kind: Kind) -> str:
    """Return the name of a setting in words; `kind` is that of the activation's criticality."""
    if name == "critical" and kind == "q_to_zero":
        return _("critical, q → 0")
    return {
        "given": _("given"),
        "torch_default": _("PyTorch default"),
        "forward": _("forward gain"),
        "backward": _("backward gain"),
        "critical": _("critical point"),
    }[name]


def _notes(
    activation: Activation, m: Moments, found: Criticality, settings: Sequence[Setting]
) -> Iterator[str]:
    if activation.jumps:
        yield _(
            "{name} jumps at {places}: autograd does not see the jump, and neither do the"
            " gains given here."
        ).format(name=activation.name, places=", ".join(f"{place:g}" for place in activation.jumps))
    if m.squared_mean_cosine > 1e-6:
        yield _(
            "The mean of {name} is {mean:.4g}, not 0: even inputs without correlation get"
            " outputs with correlation {share:.2g} after one layer."
        ).format(name=activation.name, mean=m.mean, share=m.squared_mean_cosine)
    unstable = [
        setting_name(setting.name, found.kind)
        for setting in settings
        if not setting.fixed_point.stable
    ]
    if unstable:
        yield _(
            "χ∥ > 1 with {settings}: lengths that are a little off move further away, and"
            " with them the prediction; ∏ χ∥ says by what factor."
        ).format(settings=_(", ").join(unstable))
    if any(math.isinf(setting.fixed_point.trainable_depth) for setting in settings):
        yield _(
            "At a critical point 6 ξ_c is infinite. That does not promise any depth: samples may"
            " still become alike (ReLU's do, like 1/depth²), and finite width adds noise."
        )
    yield _(
        "The greatest depth expected to train is 6 ξ_c (Schoenholz et al. 2017): measured on"
        " plain tanh networks, without normalisation or skips."
    )
