"""Singular values of the network's Jacobian, the derivative of its output by its input.

Where they all lie near 1 a signal keeps its length in every direction, forward and backward:
dynamical isometry (Saxe et al. 2014, arXiv 1312.6120; Pennington et al. 2017, arXiv 1711.04735).
A network can keep the mean of their squares, which is what a probe sees, and have lost all
directions but a few.

Row by row, or column by column, where that takes few products; that is exact. Else sampled: by
Golub-Kahan-Lanczos bidiagonalisation from random vectors, whose quadrature gives the distribution
of all singular values (Ubaru, Chen and Saad 2017), one side being orthogonalised again and again
(Simon and Zha 2000).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from unvanish.i18n import _
from unvanish.measure.reduce import cpu_log10_norm, log10
from unvanish.records import Spectrum

CHEAP = 16  # products that are spent unasked
SAMPLED = 256  # products that are spent where the spectrum was asked for
_SEED = 20_103
_SAMPLES = 64  # of the batch, at most, whose Jacobians are formed
_ENTRIES = 1 << 23  # of all Jacobians that are formed, at most
_STARTS = 4  # random vectors
_LEAST_STEPS = 8  # from each; after fewer, the ends of the distribution are far off
# float32 ends near 1e-38: where a product is far from 1, the vectors that go in are scaled.
_NEAR_ONE = 8.0
_SCALE_LOG2 = 100


class SpectrumError(Exception):
    """The spectrum cannot be measured here; the message says why."""


class TooManyProductsError(Exception):
    """It would take more products than were allowed."""


class Jacobian:
    """The Jacobian of a network's output by its inputs, as products with vectors.

    Vectors are flat, in float64 on the CPU: at the output its entries, at the inputs those of each
    input after the other.
    """

    def __init__(
        self, output: Tensor, edges: Sequence[GradientEdge], shapes: Sequence[tuple[int, ...]]
    ) -> None:
        """Take the graph of `output` down to `edges`, the inputs, of these shapes."""
        self.products = 0
        self.dtype = output.dtype
        self._output, self._edges, self._shapes = output, edges, shapes
        self._sizes = [math.prod(shape) for shape in shapes]
        self._scale = 1.0
        self._dual: tuple[Tensor, list[Tensor | None]] | None = None
        self.rows, self.columns = output.numel(), sum(self._sizes)

    def transposed(self, vector: Tensor) -> Tensor:
        """Return Jᵀ times a vector at the output: one backward pass."""
        self.products += 1
        cotangent = (vector * self._scale).reshape(self._output.shape).to(self._output)
        return self._flat(
            torch.autograd.grad(
                self._output, self._edges, cotangent, retain_graph=True, allow_unused=True
            )
        )

    def times(self, vector: Tensor) -> Tensor:
        """Return J times a vector at the inputs: the derivative of Jᵀu by u, along it.

        Raises SpectrumError, or RuntimeError from torch, where a backward cannot be differentiated.
        """
        if self._dual is None:
            dual = torch.zeros_like(self._output, requires_grad=True)
            found = torch.autograd.grad(
                self._output, self._edges, dual, create_graph=True, allow_unused=True
            )
            self._dual = dual, list(found)
            self._require_adjoint()
        self.products += 1
        dual, parts = self._dual
        pieces = (vector * self._scale).split(self._sizes)
        used = [
            (part, piece.reshape(part.shape).to(part))
            for part, piece in zip(parts, pieces, strict=True)
            if part is not None and part.requires_grad
        ]
        if not used:
            return torch.zeros(self.rows, dtype=torch.float64)
        image: Tensor | None = torch.autograd.grad(
            [part for part, _piece in used],
            dual,
            [piece for _part, piece in used],
            retain_graph=True,
            allow_unused=True,
        )[0]
        if image is None:
            return torch.zeros(self.rows, dtype=torch.float64)
        return image.detach().reshape(-1).cpu().double() / self._scale

    def _require_adjoint(self) -> None:
        """Require ⟨u, Jv⟩ = ⟨Jᵀu, v⟩: a hand-written backward may lose what it depends on."""
        vector = _random(self.rows, 0)
        image = self.transposed(vector)
        size = _length(image)
        if size > 0 and math.isfinite(size):
            found = float(self.times(image / size) @ vector)
            tolerance = min(0.1, 1e4 * torch.finfo(self._output.dtype).eps)
            if not abs(found - size) <= tolerance * size:
                raise SpectrumError(_("a backward in it cannot be differentiated"))

    def adjust(self) -> None:
        """Scale what goes in so that products stay within the range of the network's type.

        Raises SpectrumError where a product is not finite.
        """
        vector = _random(self.rows, 0)
        for scale in (0, _SCALE_LOG2, -_SCALE_LOG2):
            self._scale = 2.0**scale
            level = cpu_log10_norm(self.transposed(vector))
            if math.isfinite(level):
                shift = round(level / math.log10(2.0)) if abs(level) > _NEAR_ONE else 0
                self._scale = 2.0 ** -min(max(shift, -_SCALE_LOG2), _SCALE_LOG2)
                return
            if level == -math.inf and scale > 0:
                return  # exactly zero
        raise SpectrumError(_("the Jacobian is not finite"))

    def samples(self, batch_size: int | None) -> int:
        """Return the size of the batch if no sample's output depends on another's input, else 1."""
        leading = [shape[:1] for shape in (tuple(self._output.shape), *self._shapes)]
        if batch_size is None or batch_size < 2 or any(size != (batch_size,) for size in leading):
            return 1
        vector = torch.zeros(batch_size, self.rows // batch_size, dtype=torch.float64)
        vector[0] = _random(vector.shape[1], 1)
        others = self.by_sample(self.transposed(vector.reshape(-1)), batch_size)[1:]
        return batch_size if not torch.count_nonzero(others) else 1

    def by_sample(self, vector: Tensor, samples: int) -> Tensor:
        """Return a vector at the inputs as a matrix, a row for each sample."""
        return torch.cat([part.reshape(samples, -1) for part in vector.split(self._sizes)], dim=1)

    def joined(self, matrix: Tensor) -> Tensor:
        """Return what `by_sample` was made of."""
        widths = [size // len(matrix) for size in self._sizes]
        return torch.cat([part.reshape(-1) for part in matrix.split(widths, dim=1)])

    def _flat(self, parts: Sequence[Tensor | None]) -> Tensor:
        flat = [
            torch.zeros(size, dtype=torch.float64)
            if part is None
            else part.detach().reshape(-1).cpu().double()
            for part, size in zip(parts, self._sizes, strict=True)
        ]
        return torch.cat(flat) / self._scale


def affordable(rows: int, columns: int, most: int) -> bool:
    """Whether `most` products may be enough for so many outputs and inputs of one sample."""
    return min(rows, columns) <= most or most >= 2 * _LEAST_STEPS + 2


def spectrum(jacobian: Jacobian, batch_size: int | None, most: int) -> Spectrum:
    """Return the singular values, after at most `most` products or a few more.

    Raises TooManyProductsError where `most` is too few even to sample them, SpectrumError where the
    Jacobian is not finite, RuntimeError where torch cannot differentiate a backward.
    """
    jacobian.adjust()
    samples = jacobian.samples(batch_size)
    rows, columns = jacobian.rows // samples, jacobian.columns // samples
    left = most - jacobian.products
    empty = Spectrum(
        rows=rows,
        columns=columns,
        samples=samples,
        coupled=samples == 1 and (batch_size or 1) > 1,
        exact=True,
        starts=0,
        products=0,
        shares=(),
        values_log10=(),
        low_log10=(),
        high_log10=(),
        floor_log10=-math.inf,
    )
    if min(rows, columns) <= left and rows * columns <= _ENTRIES:
        found = _exact(jacobian, empty)
    elif left >= 2 * _LEAST_STEPS:
        found = _sampled(jacobian, empty, left)
    else:
        raise TooManyProductsError
    top = max((value for value in found.high_log10), default=-math.inf)
    rounding = torch.finfo(jacobian.dtype).eps * math.sqrt(min(rows, columns))
    return replace(found, products=jacobian.products, floor_log10=top + math.log10(rounding))


def _exact(jacobian: Jacobian, empty: Spectrum) -> Spectrum:
    samples, rows, columns = empty.samples, empty.rows, empty.columns
    kept = max(1, min(samples, _SAMPLES, _ENTRIES // (rows * columns)))
    picked = [i * samples // kept for i in range(kept)]
    lines = []
    for number in range(min(rows, columns)):
        if rows <= columns:
            unit = torch.zeros(samples, rows, dtype=torch.float64)
            unit[:, number] = 1.0
            line = jacobian.by_sample(jacobian.transposed(unit.reshape(-1)), samples)
        else:
            unit = torch.zeros(samples, columns, dtype=torch.float64)
            unit[:, number] = 1.0
            line = jacobian.times(jacobian.joined(unit)).reshape(samples, -1)
        lines.append(line[picked])
    matrices = torch.stack(lines, dim=1)  # by sample: rows of J, or of its transpose
    if not torch.isfinite(matrices).all():
        raise SpectrumError(_("the Jacobian is not finite"))
    values = torch.stack([_singular_values(matrix) for matrix in matrices])
    count = values.shape[1]
    return replace(
        empty,
        samples=kept,
        shares=tuple((i + 1) / count for i in range(count)),
        values_log10=_logarithms(values.median(dim=0).values),
        low_log10=_logarithms(values.amin(dim=0)),
        high_log10=_logarithms(values.amax(dim=0)),
    )


def _singular_values(matrix: Tensor) -> Tensor:
    """Return them, the greatest first, of a matrix whose entries may be far from 1."""
    top = matrix.abs().amax()
    found: Tensor = top * torch.linalg.svdvals(matrix / torch.where(top > 0, top, 1.0))
    return found


def _sampled(jacobian: Jacobian, empty: Spectrum, left: int) -> Spectrum:
    starts = max(1, min(_STARTS, left // (2 * _LEAST_STEPS)))
    size = min(jacobian.rows, jacobian.columns)
    steps = min(size, left // (2 * starts))
    runs = [_lanczos(jacobian, _random(size, 2 + start), steps) for start in range(starts)]
    nodes = torch.cat([values for values, _weights in runs])
    weights = torch.cat([weights for _values, weights in runs]) / starts
    order = torch.argsort(nodes, descending=True)
    nodes, shares = nodes[order], weights[order].cumsum(0).clamp(max=1.0)
    middles = shares - weights[order] / 2
    spread = torch.stack([_quantiles(*run, middles) for run in runs])
    return replace(
        empty,
        exact=False,
        starts=starts,
        shares=tuple(shares.tolist()),
        values_log10=_logarithms(nodes),
        low_log10=_logarithms(torch.minimum(spread.amin(dim=0), nodes)),
        high_log10=_logarithms(torch.maximum(spread.amax(dim=0), nodes)),
    )


def _lanczos(jacobian: Jacobian, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return singular values, the greatest first, and the share of `start` that lies along each.

    The bidiagonal matrix L is built on the shorter side: JᵀU = VLᵀ with orthonormal U and V, so
    that LLᵀ is JJᵀ seen from `start` (JᵀJ where there are fewer inputs than outputs).
    """
    there, back = jacobian.transposed, jacobian.times
    if jacobian.columns < jacobian.rows:
        there, back = back, there
    rounding = 16 * torch.finfo(jacobian.dtype).eps
    basis = start[None]
    diagonal: list[float] = []
    below: list[float] = []
    other = torch.zeros(0)
    while len(diagonal) < steps:
        image = there(basis[-1])
        if below:
            image -= below[-1] * other
        diagonal.append(_length(image))
        if not math.isfinite(diagonal[-1]):
            raise SpectrumError(_("the Jacobian is not finite"))
        if diagonal[-1] <= rounding * max(diagonal):
            break  # what is left is mapped to nothing
        other = image / diagonal[-1]
        following = back(other) - diagonal[-1] * basis[-1]
        for _twice in range(2):
            following -= basis.T @ (basis @ following)
        size = _length(following)
        if not size > rounding * max(diagonal) or len(diagonal) == steps:
            break  # nothing is left: these are all singular values that `start` can see
        below.append(size)
        basis = torch.cat([basis, (following / size)[None]])
    lower = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    count = len(diagonal)
    lower[range(1, count), range(count - 1)] = torch.tensor(below[: count - 1], dtype=torch.float64)
    left, values, _right = torch.linalg.svd(lower)
    return values, left[0].square()


def _quantiles(values: Tensor, weights: Tensor, at: Tensor) -> Tensor:
    """Return, of weighted `values` (the greatest first), those that the shares `at` fall on."""
    places = torch.searchsorted(weights.cumsum(0), at).clamp(max=len(values) - 1)
    return values[places]


def _random(size: int, number: int) -> Tensor:
    generator = torch.Generator().manual_seed(_SEED + number)
    vector = torch.randn(size, generator=generator, dtype=torch.float64)
    length: Tensor = torch.linalg.vector_norm(vector)
    return vector / length


def _length(vector: Tensor) -> float:
    level = cpu_log10_norm(vector)
    return 0.0 if level == -math.inf else 10.0**level if math.isfinite(level) else level


def _logarithms(values: Tensor) -> tuple[float, ...]:
    return tuple(log10(value) for value in values.tolist())
