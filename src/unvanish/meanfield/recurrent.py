"""Recurrent cells: the growth of a gradient per time step is a Lyapunov exponent.

For h_t = φ(W h_{t−1} + U x_t + b) the gradient over T steps is a product of T Jacobians
diag(φ'(z_t)) W. Its growth rates are measured by QR, which keeps the product's columns apart where
the plain product is rank 1 to rounding after some steps (Benettin et al. 1980; Engelken, Wolf &
Abbott 2023).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.meanfield.activation import Activation, Array
from unvanish.meanfield.layers import Rate
from unvanish.meanfield.maps import Layer, length_fixed_point


def lyapunov_exponents(
    jacobians: Iterable[Array], count: int | None = None, *, warm_up: int = 0
) -> Array:
    """Return the `count` greatest exponents per step, in natural logarithms, the greatest first.

    `jacobians` are ∂h_t/∂h_{t−1} in order of time, each of shape (n, n); None counts all n. The
    first `warm_up` steps only turn the frame and are not averaged.

    Raises UsageError if no step is left to average over.
    """
    frame: Array | None = None
    total, steps = np.zeros(0), 0
    for step, jacobian in enumerate(jacobians):
        if frame is None:
            frame = np.eye(len(jacobian))[:, : count or len(jacobian)]
            total = np.zeros(frame.shape[1])
        frame, stretch = np.linalg.qr(jacobian @ frame)
        if step >= warm_up:
            with np.errstate(divide="ignore"):
                total += np.log(np.abs(np.diag(stretch)))
            steps += 1
    if not steps:
        raise UsageError(
            _("no time step is left to average over"), _("Give more Jacobians than `warm_up`.")
        )
    return np.sort(total / steps)[::-1]


def step_jacobians(
    activation: Activation,
    weight: Array,
    drive: Iterable[Array],
    state: Array | None = None,
) -> Iterator[Array]:
    """Yield ∂h_t/∂h_{t−1} = diag(φ'(z_t)) W along h_t = φ(W h_{t−1} + drive_t).

    `weight` is (n, n), each drive (n,) stands for U x_t + b, `state` is h_0 (None: 0).
    """
    hidden = np.zeros(len(weight)) if state is None else state
    for push in drive:
        z = weight @ hidden + push
        hidden = activation.f(z)
        yield activation.df(z)[:, None] * weight


def recurrent_step(activation: Activation, sigma_w: float, drive_variance: float = 0.0) -> Rate:
    """Return the rate of one time step of h_t = φ(W h_{t−1} + drive_t), where lengths have settled.

    Its `backward` is exp(2 · `mean_field_exponent`).
    """
    layer = Layer(activation, sigma_w, math.sqrt(drive_variance))
    growth = layer.gradient_growth(length_fixed_point(layer))
    return Rate(
        f"recurrent({activation.name})",
        1.0,
        growth,
        growth,
        _("a fresh input at each step, infinite width; gates and trained weights: measure"),
        "Chen, Pennington & Schoenholz 2018; Engelken, Wolf & Abbott 2023",
        None
        if drive_variance > 0.0 or growth <= 1.0
        else _("without input such a cell is chaotic by itself: measure, do not predict"),
    )


def mean_field_exponent(
    activation: Activation, sigma_w: float, drive_variance: float = 0.0
) -> float:
    """Return the greatest exponent in the limit of infinite width: ½ log χ₁ at q*.

    The input and bias add `drive_variance` to every z. Exact for inputs that are fresh at each step
    (W may then be the same at every step: Chen, Pennington & Schoenholz 2018); without input a net
    at χ₁ > 1 is chaotic by itself and its exponent is smaller (Sompolinsky et al. 1988).
    """
    growth = recurrent_step(activation, sigma_w, drive_variance).backward or 0.0
    return 0.5 * math.log(growth) if growth > 0.0 else -math.inf
