"""What a scheme does at each activation between two weights: centre it, mirror it or shape it.

A *run* is a chain of weights with nothing but activations between. Depth is its problem: what one
layer does to lengths and angles, it does `depth` times.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unvanish.errors import UsageError
from unvanish.initialisation.parameters import Owned
from unvanish.initialisation.structure import Site, Structure
from unvanish.meanfield import Activation
from unvanish.meanfield.mirrored import straightest_pair
from unvanish.meanfield.moments import moments
from unvanish.meanfield.shaping import Shaping, dks, tat

Scheme = Literal["auto", "orthogonal", "gaussian", "mirrored", "zero_branches", "dks", "tat"]
SCHEMES: tuple[Scheme, ...] = (
    "auto",
    "orthogonal",
    "gaussian",
    "mirrored",
    "zero_branches",
    "dks",
    "tat",
)
LinkKind = Literal["plain", "centred", "mirrored", "shaped"]

MIRROR_FROM = 4  # activations in a row from which "auto" mirrors
_FEWEST_UNITS = 8  # a mirrored layer of n units carries n/2 directions
_BENT = 0.25  # mean square at which a pair that is not exactly linear works
# (q E φ'²/Var φ)^depth, the growth of squared gradients where lengths are kept: DKS's default 1.5
_GROWTH = 1.5
_LEAST_Q = 1e-3


@dataclass(frozen=True, slots=True)
class Link:
    """An activation between two weights, and what both make of it.

    `q` is the mean square of what the first weight hands on (about `offset`, its bias); `gain` the
    root mean square behind the activation over √q, without its mean where a bias removes it.
    """

    kind: LinkKind
    activation: Activation | None
    depth: int  # of the run
    q: float = 1.0
    gain: float = 1.0
    mean: float = 0.0  # removed by the bias of the weight behind
    offset: float = 0.0  # bias of the weight in front
    shaping: Shaping | None = None


def links_of(
    structure: Structure, owned: Mapping[str, Owned], scheme: Scheme
) -> tuple[dict[str, Link], list[str]]:
    """Return the link behind each weight of a run, by the weight's name, and notes."""
    found: dict[str, Link] = {}
    notes: list[str] = []
    for run in runs_of(structure, owned):
        depth = len(run) - 1
        for front, behind in itertools.pairwise(run):
            link, note = _link(owned[front], owned[behind], structure.sites[front], depth, scheme)
            found[front] = link
            if note and note not in notes:
                notes.append(note)
    return found, notes


def runs_of(structure: Structure, owned: Mapping[str, Owned]) -> Iterator[list[str]]:
    """Yield each run of two weights or more that may be set, as names in forward order."""

    def follower(site: Site) -> str | None:
        name = site.next
        usable = name is not None and _plain_layer(owned[site.parameter])
        return name if usable and name is not None and _plain_layer(owned[name]) else None

    heads = {follower(site) for site in structure.sites.values()}
    for name, site in structure.sites.items():
        if name in heads or follower(site) is None:
            continue
        run = [name]
        while (following := follower(structure.sites[run[-1]])) is not None:
            run.append(following)
        yield run


def _plain_layer(weight: Owned) -> bool:
    grouped = getattr(weight.module, "groups", 1) != 1
    kind = weight.kind in ("dense", "conv", "dense (in, out)")
    return weight.left is None and not weight.tied and kind and not grouped


def units_of(weight: Owned) -> int:
    """Return the number of output units (channels) of a dense or convolution weight."""
    return int(weight.tensor.shape[1 if weight.kind == "dense (in, out)" else 0])


def _link(
    front: Owned, behind: Owned, site: Site, depth: int, scheme: Scheme
) -> tuple[Link, str | None]:
    activation = site.activation
    if activation is None:
        return Link("plain", None, depth), None
    note = None
    if site.normed:
        return _behind_norm(front, activation, depth, scheme), None
    if scheme in ("dks", "tat") and front.bias and behind.bias:
        try:
            shaping = (dks if scheme == "dks" else tat)(activation, depth)
            return Link("shaped", activation, depth, shaping=shaping), None
        except UsageError as error:
            note = str(error)
    # a pair of an odd function is twice that function, and can only be straightened by a mean
    deep = depth >= MIRROR_FROM and scheme not in ("orthogonal", "gaussian")
    wanted = scheme == "mirrored" or (deep and not _is_odd(activation))
    if wanted and units_of(front) >= _FEWEST_UNITS:
        mirrored = _mirrored(activation, depth, bool(front.bias))
        if mirrored is not None:
            return mirrored, note
    return _straight(activation, depth, bool(behind.bias)), note


def _behind_norm(front: Owned, activation: Activation, depth: int, scheme: Scheme) -> Link:
    """Return a link with a norm in front of its activation: pairs, where they need no bias.

    The norm keeps lengths whatever the weights are, but gradients grow by E φ'²/Var φ a layer (by
    1.21 in norm for BatchNorm with ReLU); pairs that are the identity make that 1.
    """
    if scheme not in ("orthogonal", "gaussian") and units_of(front) >= _FEWEST_UNITS:
        mirrored = _mirrored(activation, depth, biased=False)
        if mirrored is not None and (depth >= MIRROR_FROM or scheme == "mirrored"):
            return mirrored
    return Link("plain", activation, depth, gain=math.sqrt(moments(activation, 1.0).second))


def _is_odd(activation: Activation) -> bool:
    z = np.linspace(0.0, 4.0, 33)
    return bool(np.allclose(activation.f(z), -activation.f(-z), rtol=1e-9, atol=1e-12))


def _mirrored(activation: Activation, depth: int, biased: bool) -> Link | None:
    """Return a link of mirrored pairs, None where φ is flat, or even and no bias helps."""
    try:
        exact = straightest_pair(activation, 1.0)
        best = exact if exact.offset == 0.0 else straightest_pair(activation, _BENT)
    except UsageError:
        return None
    if best.offset != 0.0 and not biased:
        return None
    return Link("mirrored", activation, depth, best.q, best.gain, offset=best.offset)


def _straight(activation: Activation, depth: int, biased: bool) -> Link:
    """Return a link that keeps lengths: with the mean removed, where there is one and a bias."""
    if activation.negative_slope is not None or not biased:
        return Link("plain", activation, depth, gain=math.sqrt(moments(activation, 1.0).second))
    q = keeping_q(activation, depth)
    m = moments(activation, q)
    return Link("centred", activation, depth, q, math.sqrt(m.variance / q), m.mean)


def keeping_q(activation: Activation, depth: int) -> float:
    """Return the q ≤ 1 at which `depth` layers that keep lengths let gradients grow by 1.5.

    At q → 0 every smooth activation is linear and keeps both; at larger q lengths and gradients
    part by q E φ'²/Var φ a layer.
    """

    def excess(q: float) -> float:
        m = moments(activation, q)
        return depth * math.log1p(m.centred_surplus / m.variance) - math.log(_GROWTH)

    low, high = _LEAST_Q, 1.0
    if excess(high) <= 0.0:
        return high
    if excess(low) >= 0.0:  # a kink at 0: no length is small enough to hide it
        return high
    for _halving in range(30):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if excess(middle) <= 0.0 else (low, middle)
    return low
