"""Layers that are no plain weights: recurrent cells, attention's packed projections, embeddings,
normalisations.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from unvanish.i18n import _
from unvanish.initialisation import draw
from unvanish.initialisation.links import Scheme
from unvanish.initialisation.parameters import NORMS, Owned
from unvanish.initialisation.structure import Structure
from unvanish.initialisation.weights import Draft, branch_factor

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def special(
    owned: Owned, structure: Structure, scheme: Scheme, tied: bool, generator: Generator
) -> Draft | str:
    """Return the draft of one parameter, or why it is kept as it is.

    `tied` says that an embedding of the model is its output layer too.
    """
    if owned.kind == "recurrent":
        return _recurrent(owned, generator)
    if owned.kind == "attention":
        return _attention(owned, structure, scheme, generator)
    if owned.kind == "embedding":
        return _embedding(owned, structure, tied, generator)
    if owned.kind == "norm":
        return _norm(owned, structure, scheme)
    if owned.kind == "transposed conv" and owned.attribute == "weight":
        return _transposed(owned, generator)
    if owned.is_bias:
        return Draft(_zeros(owned.tensor), _("zeros"), _("no mean to remove"))
    return _("no linear map of the traced forward uses it, so what follows it is not known")


def _recurrent(owned: Owned, generator: Generator) -> Draft | str:
    module: Any = owned.module
    name = owned.attribute
    gates = next((n for kind, n in _GATES.items() if kind in type(module).__name__), None)
    if gates is None:
        return _("a recurrent cell that it does not know")
    hidden = int(module.hidden_size)
    if owned.tensor.dim() == 1:
        return _recurrent_bias(owned, hidden)
    rows, columns = owned.tensor.shape
    if name.startswith("weight_hr"):  # projection of an LSTM's output
        drawn = draw.orthogonal(rows, columns, generator)
        return Draft(drawn, _("orthogonal"), _("projects the state back onto itself"))
    relu_cell = getattr(module, "nonlinearity", getattr(module, "mode", "")) in ("relu", "RNN_RELU")
    if name.startswith("weight_hh") and relu_cell:
        return Draft(
            torch.eye(rows, columns, dtype=torch.float64),
            _("identity"),
            _("a ReLU cell that starts by remembering (Le et al. 2015)"),
        )
    value = draw.in_blocks(gates, rows // gates, columns, generator, "orthogonal")
    what = _("orthogonal")
    if gates > 1:
        what = _("orthogonal, {count} gates each by itself").format(count=gates)
    if name.startswith("weight_hh"):
        return Draft(value, what, _("keeps the state's norm, and the gradient's, over time"))
    return Draft(value, what, _("takes a signal of mean square 1 and hands it on"))


def _recurrent_bias(owned: Owned, hidden: int) -> Draft:
    """Zeros; the gate that keeps the state starts open, in one of the two biases."""
    value = _zeros(owned.tensor)
    kind = type(owned.module).__name__
    keeper = {"LSTM": 1, "GRU": 1}.get(kind.removesuffix("Cell"))  # i f g o; r z n
    if keeper is None or not owned.attribute.startswith("bias_ih"):
        return Draft(value, _("zeros"), _("no mean to remove"))
    value[keeper * hidden : (keeper + 1) * hidden] = 1.0
    if kind.startswith("LSTM"):
        why = _("the forget gate starts at σ(1) = 0.73, so that the state lasts (Jozefowicz 2015)")
        return Draft(value, _("1 for the forget gate, else zeros"), why)
    why = _("the update gate starts at σ(1) = 0.73 of the old state, so that it lasts")
    return Draft(value, _("1 for the update gate, else zeros"), why)


def _attention(
    owned: Owned, structure: Structure, scheme: Scheme, generator: Generator
) -> Draft | str:
    """Packed projections of nn.MultiheadAttention; its out_proj is a plain weight."""
    if owned.tensor.dim() != 2:
        if owned.is_bias or owned.attribute == "in_proj_bias":
            return Draft(_zeros(owned.tensor), _("zeros"), _("no mean to remove"))
        return _("held by {kind}, no layer whose weights it knows").format(
            kind=type(owned.module).__name__
        )
    rows, columns = owned.tensor.shape
    blocks = 3 if owned.attribute == "in_proj_weight" else 1
    kind = "gaussian" if scheme == "gaussian" else "orthogonal"
    value = draw.in_blocks(blocks, rows // blocks, columns, generator, kind)
    what = _("Gaussian") if kind == "gaussian" else _("orthogonal")
    if blocks == 3:
        what = _("{form}; queries, keys and values each by itself").format(form=what)
    return Draft(value, what, _("feeds attention"))


def _embedding(owned: Owned, structure: Structure, tied: bool, generator: Generator) -> Draft:
    rows, columns = owned.tensor.shape
    value = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    padding = getattr(owned.module, "padding_idx", None)
    what, why = _("N(0, 1)"), _("entries of mean square 1 for the layers that follow")
    own = owned.name in structure.sites
    if own or tied:
        value /= math.sqrt(columns)
        what = _("N(0, 1/{width})").format(width=columns)
        why = _("as large as the embedding that is also the output layer")
    if own:
        why = _("also the output layer ({names}): scores of mean square 1").format(
            names=", ".join(owned.tied) or owned.name
        )
    if padding is not None:
        value[padding] = 0.0
    return Draft(value, what, why)


def _norm(owned: Owned, structure: Structure, scheme: Scheme) -> Draft | str:
    """Ones and zeros; a small scale where the norm ends a residual branch."""
    if not isinstance(owned.module, NORMS) or not bool(owned.tensor.detach().count_nonzero()):
        # some multiply by 1 + weight, and some start closed
        return _("scale or shift of a normalisation, kept as its author starts it")
    if owned.is_bias:
        return Draft(_zeros(owned.tensor), _("zeros"), _("shift of a normalisation"))
    branch = structure.norm_branches.get(owned.name)
    if branch is None:
        return Draft(_zeros(owned.tensor) + 1.0, _("ones"), _("scale of a normalisation"))
    factor, why = branch_factor(branch.index, branch.count, branch.post_norm, scheme)
    return Draft(_zeros(owned.tensor) + factor, f"{factor:.4g}", why)


def _transposed(owned: Owned, generator: Generator) -> Draft:
    """N(0, 1/fan_in), where an output pixel is fed by (kernel/stride) taps of each channel."""
    module: Any = owned.module
    weight = owned.tensor
    taps = math.prod(
        size / stride for size, stride in zip(module.kernel_size, module.stride, strict=True)
    )
    fan_in = weight.shape[0] / module.groups * max(taps, 1.0)
    value = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    return Draft(
        value / math.sqrt(fan_in),
        _("Gaussian"),
        _("{fan:.4g} inputs meet in each output of this transposed convolution").format(fan=fan_in),
    )


def _zeros(tensor: Tensor) -> Tensor:
    return torch.zeros(tensor.shape, dtype=torch.float64)
