"""The values of dense and convolution weights and of their biases, by what surrounds them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor

from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.initialisation import draw
from unvanish.initialisation.links import Link, Scheme, units_of
from unvanish.initialisation.parameters import Owned
from unvanish.initialisation.structure import End, Site
from unvanish.meanfield.moments import moments

DELTA_FROM = 10  # convolutions in a row from which kernels are drawn on their centres only


@dataclass(slots=True)
class Draft:
    """New values for one parameter, in its shape, in float64 on the CPU, and the reasons."""

    value: Tensor
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Target:
    """What a weight's output is to be on a batch: its root mean square about its bias.

    A mean square of 0 is not held to anything: a norm follows, the bias is frozen, or it is the
    network's output, which cuts a part out of the signal. `centre` says that each unit's mean over
    the batch is removed by its bias; `told` whether its gains say something.
    """

    weight: str
    bias: str | None
    rms: float
    centre: bool = False
    offset: float = 0.0
    told: bool = True


@dataclass(frozen=True, slots=True)
class Around:
    """A weight with its surroundings: links in front and behind are those of its run."""

    weight: Owned
    site: Site
    front: Link | None
    behind: Link | None
    front_units: int | None  # of the layer in front, in a run
    scheme: Scheme
    trunk: float  # root mean square of what residual branches are added to


def weight_and_bias(around: Around, generator: Generator) -> tuple[Draft, Draft | None, Target]:
    """Return the drafts of a weight and its bias, and what to hold the output to."""
    kernel = tuple(around.weight.tensor.shape[2:])
    taps = math.prod(kernel)
    base, form = _base(around, taps, generator)
    scale, reasons = _scale(around)
    matrix = base * scale  # (out, in · taps)
    bias, bias_reason = _bias(around, matrix)
    shaped = around.behind.shaping if around.behind is not None else None
    if shaped is not None:
        matrix = matrix * shaped.alpha
    if not matrix.count_nonzero():
        form = _("zeros")
    else:
        form = f"{form} × {scale * (shaped.alpha if shaped else 1.0):.4g}"
    weight = Draft(_in_shape(around.weight, matrix, kernel), form, _("; ").join(reasons))
    draft = None if around.weight.bias is None else Draft(bias, *bias_reason)
    return weight, draft, _target(around)


def _base(around: Around, taps: int, generator: Generator) -> tuple[Tensor, str]:
    """Return (out, in · taps) that hands on mean squares, mirrored where its links are."""
    rows, columns = (
        units_of(around.weight),
        around.weight.tensor.numel() // (units_of(around.weight) * taps),
    )
    out_mirrored = around.behind is not None and around.behind.kind == "mirrored"
    in_mirrored = around.front is not None and around.front.kind == "mirrored"
    each = columns // around.front_units if in_mirrored and around.front_units else 1
    out_units = rows // 2 if out_mirrored else rows
    in_units = (columns // each // 2) * each if in_mirrored else columns
    delta = taps > 1 and _may_be_delta(around)
    inner = 1 if delta else taps
    if around.scheme == "gaussian":
        matrix, form = draw.gaussian(out_units, in_units * inner, generator), _("Gaussian")
    else:
        blocks = _blocks(around, out_units, in_units * inner)
        matrix = draw.in_blocks(
            blocks, out_units // blocks, in_units * inner, generator, "orthogonal"
        )
        form = _("orthogonal")
    if in_mirrored:
        matrix = draw.mirrored_columns(matrix, columns // each, each * inner)
    if out_mirrored:
        matrix = draw.mirrored_rows(matrix, rows, generator)
    if delta:
        kernel = tuple(around.weight.tensor.shape[2:])
        matrix = draw.on_centre(matrix, kernel).flatten(1)
        form = _("delta-{form}").format(form=form)
    if in_mirrored or out_mirrored:
        form = _("mirrored {form}").format(form=form)
    return matrix, form


def _blocks(around: Around, rows: int, columns: int) -> int:
    """Return into how many matrices a weight falls: groups, packed queries, keys and values."""
    groups = int(getattr(around.weight.module, "groups", 1))
    if groups > 1:
        return groups
    feeds_attention = any(end.kind == "attention" for end in around.site.after)
    return 3 if feeds_attention and rows == 3 * columns else 1


def _may_be_delta(around: Around) -> bool:
    """Whether a convolution keeps the size of its image, deep inside a run of such."""
    module: Any = around.weight.module
    links = [link for link in (around.front, around.behind) if link is not None]
    deep = around.front is not None and any(link.depth >= DELTA_FROM for link in links)
    sizes = module.kernel_size
    same = all(
        size % 2 == 1 and stride == 1 for size, stride in zip(sizes, module.stride, strict=True)
    )
    padded = module.padding == "same" or all(
        pad == dilation * (size // 2)
        for pad, size, dilation in zip(module.padding, sizes, module.dilation, strict=True)
    )
    return deep and same and padded and getattr(module, "groups", 1) == 1


def _scale(around: Around) -> tuple[float, list[str]]:
    """Return σ, by which the drawn matrix is multiplied, and why."""
    scale, reasons = _gain_in_front(around)
    behind, site = around.behind, around.site
    if around.front is None and behind is not None and behind.q != 1.0:
        scale *= math.sqrt(behind.q)
        reasons.append(
            _("{name} works at a mean square of {q:.3g}, where it is nearly straight").format(
                name=behind.activation.name if behind.activation else "", q=behind.q
            )
        )
    if site.branch is not None:
        factor, reason = _branch_factor(around)
        scale *= factor
        reasons.append(reason)
    kinds = {end.kind for end in site.after}
    if kinds == {"norm"}:
        reasons.append(_("a norm follows: this scale sets how fast it learns, not the signal"))
    elif kinds == {"output"}:
        reasons.append(_("output layer"))
    elif kinds == {"attention"}:
        reasons.append(_("feeds attention"))
    return scale, reasons or [_("takes a signal of mean square 1 and hands it on")]


def _gain_in_front(around: Around) -> tuple[float, list[str]]:
    front = around.front
    if around.site.recurrent:
        return 1.0, [_("keeps the state's norm, and the gradient's, over time")]
    if front is not None:
        name = front.activation.name if front.activation else _("an unknown activation")
        texts = {
            "plain": _("makes up for {name}"),
            "centred": _("makes up for {name} without its mean"),
            "mirrored": _("pairs of {name} are straight: lengths and gradients are kept"),
            "shaped": _("{name} shaped for {depth} layers, folded into weights and biases"),
        }
        if front.shaping is not None:
            return front.shaping.gamma, [texts["shaped"].format(name=name, depth=front.depth)]
        return 1.0 / front.gain, [texts[front.kind].format(name=name)]
    if around.behind is not None and around.behind.kind == "mirrored":
        return 1.0, [_("begins mirrored pairs")]
    seconds = [_second(end) for end in around.site.before if end.kind in ("activation", "gate")]
    known = [second for second in seconds if second is not None]
    if not known:
        return 1.0, []
    names = ", ".join(
        dict.fromkeys(end.activation.name for end in around.site.before if end.activation)
    )
    mean = sum(known) / len(known)
    return mean**-0.5, [_("makes up for {name}").format(name=names)]


def _second(end: End) -> float | None:
    """Return E φ² at pre-activations of mean square 1, None where it is not known or 0."""
    if end.activation is None:
        return None
    try:
        second = moments(end.activation, 1.0).second
    except UsageError:
        return None
    return second if second > 0.0 else None


def _branch_factor(around: Around) -> tuple[float, str]:
    branch = around.site.branch
    assert branch is not None
    factor, why = branch_factor(branch.index, branch.count, branch.post_norm, around.scheme)
    return factor * (1.0 if branch.post_norm else around.trunk), why


def branch_factor(index: int, count: int, post_norm: bool, scheme: Scheme) -> tuple[float, str]:
    """Return by how much the last scale of a residual branch is reduced, and why.

    1/√count keeps the variance of the sum below e times that of the input (Hayou et al. 2021).
    Where a norm takes every sum, the i-th branch gets the share that Admin gives it, 1/√(i + 1) of
    its skip (Liu et al. 2020, arXiv 2004.08249), here in the branch's weight.
    """
    if scheme == "zero_branches":
        return 0.0, _("ends a residual branch: closed at the start (zero)")
    if post_norm:
        return (index + 1) ** -0.5, _(
            "ends residual branch {number} of {count}, a norm takes the sum: × 1/√{number} (Admin)"
        ).format(number=index + 1, count=count)
    return count**-0.5, _("ends one of {count} residual branches: × 1/√{count}").format(count=count)


def _bias(around: Around, matrix: Tensor) -> tuple[Tensor, tuple[str, str]]:
    """Return the bias, with `matrix` (out, in · taps) before the shaping behind it."""
    front, behind = around.front, around.behind
    bias = matrix.new_zeros(len(matrix))
    what, why = _("zeros"), _("no mean to remove")
    if front is not None and front.shaping is not None:
        bias = front.shaping.delta * matrix.sum(1)  # γ is in the matrix
        what, why = _("folded"), _("carries the shift of the shaped activation")
    elif front is not None and front.kind == "centred" and abs(front.mean) > 1e-9:
        bias = -front.mean * matrix.sum(1)
        what = _("−{mean:.4g} · W · 1").format(mean=front.mean)
        why = _("removes the mean of {name}").format(
            name=front.activation.name if front.activation else ""
        )
    if behind is not None and behind.shaping is not None:
        bias = behind.shaping.alpha * bias + behind.shaping.beta
        what, why = _("folded"), _("carries the shift of the shaped activation")
    elif behind is not None and behind.offset != 0.0:
        bias = bias + behind.offset
        what = f"{behind.offset:.4g}" if what == _("zeros") else f"{what} + {behind.offset:.4g}"
        why = _("where a mirrored pair of {name} is straightest").format(
            name=behind.activation.name if behind.activation else ""
        )
    return bias, (what, why)


def _in_shape(weight: Owned, matrix: Tensor, kernel: tuple[int, ...]) -> Tensor:
    if weight.kind == "dense (in, out)":
        return matrix.mT.contiguous()
    return matrix.reshape(len(matrix), -1, *kernel)


def _target(around: Around) -> Target:
    """Return the root mean square to hold the output to; 0 where it does not matter."""
    site, front, behind = around.site, around.front, around.behind
    kinds = {end.kind for end in site.after}
    rms = 1.0
    if behind is not None:
        rms = math.sqrt(behind.q)
    elif front is not None:
        rms = math.sqrt(front.q)
    if behind is not None and behind.shaping is not None:
        rms = behind.shaping.alpha
    if site.branch is not None:
        rms *= _branch_factor(around)[0]
    told = not (kinds & {"norm", "unknown"} or len(site.ops) != 1 or around.weight.tied)
    has_bias = around.weight.module._parameters.get("bias") is not None
    frozen_bias = has_bias and around.weight.bias is None
    if not told or kinds == {"output"} or frozen_bias:
        rms = 0.0
    centred = behind is not None and behind.kind == "centred"
    if behind is None and front is not None:  # the last of a run: takes off what is in front of it
        centred = front.kind == "centred" and abs(front.mean) > 1e-9
    centred = centred and around.weight.bias is not None
    offset = behind.offset if behind is not None else 0.0
    if behind is not None and behind.shaping is not None:
        offset = behind.shaping.beta
    return Target(around.weight.name, around.weight.bias, rms, centred, offset, told)
