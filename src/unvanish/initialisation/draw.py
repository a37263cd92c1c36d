"""Random matrices with one norm: they hand on the mean square of what they are given, times σ².

Everything is drawn in float64 on the CPU from the caller's generator, so that a seed gives the same
weights on every device and in every precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def gaussian(rows: int, columns: int, generator: Generator) -> Tensor:
    """Return (rows, columns) from N(0, 1/columns)."""
    drawn = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return drawn / math.sqrt(columns)


def orthogonal(rows: int, columns: int, generator: Generator) -> Tensor:
    """Return (rows, columns) with orthonormal rows, or columns times √(rows/columns) if it is tall.

    Haar distributed: of the QR decomposition of a Gaussian matrix, with the signs of R's diagonal
    (Mezzadri 2007). Either way the mean square of the output is that of a typical input.
    """
    tall, short = max(rows, columns), min(rows, columns)
    drawn = torch.randn(tall, short, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(drawn)
    q = q * torch.sign(torch.diagonal(r))
    scaled: Tensor = q * math.sqrt(rows / columns) if rows >= columns else q.mT.contiguous()
    return scaled


def mirrored_rows(upper: Tensor, units: int, generator: Generator) -> Tensor:
    """Return [A; −A] for A = `upper` (units // 2, columns).

    An odd unit at the end has no partner: it gets a row of its own, of the same mean square.
    """
    rows = [upper, -upper]
    if units % 2:
        size = upper.square().sum(1).mean().sqrt()
        alone = torch.randn(1, upper.shape[1], generator=generator, dtype=torch.float64)
        rows.append(alone / alone.norm() * size)
    return torch.cat(rows)


def mirrored_columns(left: Tensor, units: int, each: int) -> Tensor:
    """Return [B, −B] for B = `left` (rows, units // 2 · each), and zeros behind an odd unit.

    `each` columns belong to one unit: those of its pixels, where a dense layer follows the
    flattened output of a convolution.
    """
    columns = [left, -left]
    if units % 2:
        columns.append(left.new_zeros(len(left), each))
    return torch.cat(columns, 1)


def on_centre(matrix: Tensor, kernel: Sequence[int]) -> Tensor:
    """Return a kernel (rows, columns, *kernel) that is `matrix` at its centre and 0 elsewhere.

    With an orthogonal matrix this is delta-orthogonal (Xiao et al. 2018): the only kind of
    convolution that keeps the norm of every image.
    """
    weight = matrix.new_zeros(*matrix.shape, *kernel)
    centre = sum((size // 2) * math.prod(kernel[place + 1 :]) for place, size in enumerate(kernel))
    weight.flatten(2)[:, :, centre] = matrix
    return weight


def in_blocks(blocks: int, rows: int, columns: int, generator: Generator, kind: str) -> Tensor:
    """Return `blocks` independent matrices (rows, columns), one below the other.

    What gates and attention heads pack into one parameter.
    """
    draw = orthogonal if kind == "orthogonal" else gaussian
    return torch.cat([draw(rows, columns, generator) for _block in range(blocks)])
