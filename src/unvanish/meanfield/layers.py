"""What layers beyond the plain one do to lengths and gradients at initialisation.

Each function returns a `Rate`: two factors of squares, with what was assumed to get them and where
they come from. Rates of layers in a row multiply (`in_a_row`), a branch beside a skip adds
(`residual`). Where the assumptions are known to fail, `measure` says so: then measure, and do not
predict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.meanfield.activation import Activation, Array
from unvanish.meanfield.gaussian import expectation
from unvanish.meanfield.maps import Layer
from unvanish.meanfield.moments import moments
from unvanish.meanfield.smooth import normal_cdf

_PROFILE = 256  # entries along an image from which its borders do not matter
_NORM = "Ba et al. 2016 (LayerNorm), Zhang & Sennrich 2019 (RMSNorm); the rates follow from χ₁"


@dataclass(frozen=True, slots=True)
class Rate:
    """Factors of one layer, or of several.

    `forward` multiplies the mean square of the activations (per element); `backward` multiplies the
    squared Frobenius norm of the gradient, from the layer's output to its input. `per_element` is
    `backward` for the mean square of the gradient's elements: `backward` times outputs over inputs.
    None: not given by theory.
    """

    name: str
    forward: float | None
    backward: float | None
    per_element: float | None
    assumptions: str
    source: str
    measure: str | None = None

    @property
    def gain_log10(self) -> float | None:
        """Return log10 of the gain of the gradient's norm: half of that of its square."""
        return None if not self.backward else 0.5 * math.log10(self.backward)


def dense(layer: Layer, q: float, fan_in: int = 1, fan_out: int = 1) -> Rate:
    """Return z' = W φ(z) + b, bias and dropout as in `layer`, for pre-activations of length q."""
    backward = layer.gradient_growth(q)
    return Rate(
        f"linear({layer.activation.name})",
        layer.length(q) / q,
        backward,
        backward * fan_out / fan_in,
        _("independent weights of variance σ_w²/fan_in, infinite width, Gaussian z"),
        "Poole et al. 2016; Schoenholz et al. 2017",
    )


def dropout(keep: float) -> Rate:
    """Return dropout that keeps a share `keep` of the units and divides by it."""
    if not 0.0 < keep <= 1.0:
        raise UsageError(
            _("dropout cannot keep a share of {keep:g}").format(keep=keep), _("Give 0 < keep ≤ 1.")
        )
    return Rate(
        f"dropout(keep={keep:g})",
        1.0 / keep,
        1.0 / keep,
        1.0 / keep,
        _("independent masks, training mode; it also parts equal inputs (see Layer.keep)"),
        "Schoenholz et al. 2017, section 5",
    )


def residual(branch: Rate, branch_scale: float = 1.0, skip_scale: float = 1.0) -> Rate:
    """Return skip_scale · x + branch_scale · branch(x). Unscaled, variance doubles a block."""
    skip, scale = skip_scale**2, branch_scale**2

    def joined(part: float | None) -> float | None:
        return None if part is None else skip + scale * part

    return Rate(
        f"residual({branch.name})",
        joined(branch.forward),
        joined(branch.backward),
        joined(branch.per_element),
        _("the branch's output is uncorrelated with x (fresh weights at its end)"),
        "Yang & Schoenholz 2017; Hayou et al. 2021",
        branch.measure,
    )


def in_a_row(*rates: Rate) -> Rate:
    """Return the rate of layers one after another."""

    def product(parts: Sequence[float | None]) -> float | None:
        known = [part for part in parts if part is not None]
        return math.prod(known) if len(known) == len(parts) else None

    return Rate(
        " → ".join(rate.name for rate in rates),
        product([rate.forward for rate in rates]),
        product([rate.backward for rate in rates]),
        product([rate.per_element for rate in rates]),
        "; ".join(dict.fromkeys(rate.assumptions for rate in rates)),
        "; ".join(dict.fromkeys(rate.source for rate in rates)),
        next((rate.measure for rate in rates if rate.measure), None),
    )


def norm_before(activation: Activation) -> Rate:
    """Return W, then LayerNorm or RMSNorm, then φ: E φ'²/E φ² at q = 1, whatever σ_w."""
    m = moments(activation, 1.0)
    return Rate(
        f"norm → {activation.name}",
        1.0,
        m.slope_second / m.second,
        m.slope_second / m.second,
        _("gain 1 and no bias; width so large that one entry hardly moves the statistics"),
        _NORM,
    )


def norm_after(activation: Activation, sigma_w: float = 1.0, *, centred: bool) -> Rate:
    """Return W, then φ, then RMSNorm (or LayerNorm, `centred`): q E φ'²/E φ² (or /Var φ).

    q = σ_w², as the norm hands a unit mean square to W.
    """
    q = sigma_w**2
    m = moments(activation, q)
    rate = q * m.slope_second / (m.variance if centred else m.second)
    return Rate(
        f"{activation.name} → {'LayerNorm' if centred else 'RMSNorm'}",
        1.0,
        rate,
        rate,
        _("gain 1 and no bias; width so large that one entry hardly moves the statistics"),
        _NORM,
    )


def average_pool(window: int, correlation: float = 0.0) -> Rate:
    """Return the mean over windows of `window` entries that do not overlap.

    `correlation` is that between two entries of one window. Global pooling is one window.
    """
    return Rate(
        f"average_pool({window})",
        (1.0 + (window - 1) * correlation) / window,
        1.0 / window,
        1.0 / window**2,
        _("windows do not overlap; the gradient is exact"),
        _("by its definition"),
    )


def max_pool(window: int) -> Rate:
    """Return the greatest of each window of `window` entries that do not overlap."""
    second = window * expectation(lambda x: x**2 * normal_cdf(x) ** (window - 1), 1.0)
    return Rate(
        f"max_pool({window})",
        second,
        1.0,
        1.0 / window,
        _("windows do not overlap, without ties; forward: independent entries from N(0, q)"),
        _("by its definition"),
    )


def convolution(
    sigma_w: float,
    kernel: Sequence[int],
    size: Sequence[int],
    *,
    padding: Sequence[int] | None = None,
    stride: int = 1,
    channels: tuple[int, int] = (1, 1),
) -> Rate:
    """Return a convolution with weights of variance σ_w²/(channels in · kernel entries).

    `kernel` and `size` are by spatial dimension. Zero padding (None: kernel // 2) feeds zeros to
    the taps that lie outside: both factors are σ_w² times the share of taps inside.
    """
    padding = [k // 2 for k in kernel] if padding is None else padding
    strides = [stride] * len(kernel)
    share = taps_inside(kernel, size, padding=padding, stride=strides)
    outputs = math.prod(
        len(_starts(k, n, p, stride, 1)) / n for k, n, p in zip(kernel, size, padding, strict=True)
    )
    rate = sigma_w**2 * share
    return Rate(
        f"convolution({'×'.join(map(str, kernel))})",
        rate,
        rate,
        rate * outputs * channels[1] / channels[0],
        _("many channels; signal spread evenly over the image"),
        "Xiao et al. 2018",
    )


def taps_inside(
    kernel: Sequence[int],
    size: Sequence[int],
    *,
    padding: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int] | None = None,
) -> float:
    """Return the share of a convolution's taps that zero padding leaves inside the input.

    All by spatial dimension. It multiplies σ_w², forward and backward.
    """
    dilation = [1] * len(kernel) if dilation is None else dilation
    share = 1.0
    for k, n, p, step, apart in zip(kernel, size, padding, stride, dilation, strict=True):
        taps = _starts(k, n, p, step, apart)[:, None] + apart * np.arange(k)
        share *= float(((taps >= 0) & (taps < n)).mean())
    return share


def taps_kept(
    kernel: Sequence[int],
    size: Sequence[int],
    *,
    padding: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> float:
    """Return the same in a deep stack, whose signal has left the borders.

    Where a convolution keeps the size of its input, signal and gradient settle on the profile over
    the image that the taps inside pass on unchanged in shape: the factor is the eigenvalue of that
    profile, by dimension (3 taps, 8 entries: 0.960, evenly spread 0.917).
    """
    same = all(
        step == 1 and 2 * p == apart * (k - 1)
        for k, p, step, apart in zip(kernel, padding, stride, dilation, strict=True)
    )
    if not same:
        return taps_inside(kernel, size, padding=padding, stride=stride, dilation=dilation)
    kept = 1.0
    for k, n, apart in zip(kernel, size, dilation, strict=True):
        places = np.arange(n)
        apart_by = np.abs(places[:, None] - places)
        reached = (apart_by % apart == 0) & (apart_by <= apart * (k // 2))
        kept *= float(np.linalg.eigvalsh(reached / k)[-1]) if n <= _PROFILE else 1.0
    return kept


def _starts(kernel: int, size: int, padding: int, stride: int, dilation: int) -> Array:
    """Return where the windows of a convolution begin."""
    return np.arange(-padding, size + padding - dilation * (kernel - 1), stride, dtype=np.float64)


def attention(
    tokens: int,
    *,
    token_correlation: float = 0.0,
    gradient_correlation: float = 0.0,
    logit_variance: float = 0.0,
) -> Rate:
    """Return softmax attention at initialisation, on its value path, without the projections.

    Logits of small variance v over T tokens give weights with E Σ a² = eᵛ/T: nearly a mean over
    tokens. Forward, what the tokens share is kept and the rest is averaged away (rank collapse);
    backward the same for the gradients of the outputs. The query and key paths carry differences
    of values between tokens: measure them.
    """
    spread = math.exp(logit_variance) / tokens

    def kept(correlation: float) -> float:
        return correlation + (1.0 - correlation) * spread

    small = logit_variance <= 1.0 and math.exp(logit_variance) < 0.1 * tokens
    backward = kept(gradient_correlation)
    return Rate(
        f"attention({tokens})",
        kept(token_correlation),
        backward,
        backward,
        _("logits independent of the values, Gaussian with variance ≤ 1, many tokens, no mask"),
        "Noci et al. 2022",
        None if small else _("peaked attention follows its input: measure, do not predict"),
    )
