"""Functions that stay finite where their value or their slope is not.

sqrt has an infinite slope at 0, log and 1/x no value there, acos and asin an infinite slope at ±1,
exp overflows beyond 88 in float32, a softmax whose row is −inf from end to end divides 0 by 0.
`safe-functions` gives each its usual safe form: sqrt(x + eps), log of a clamped x, a clamped acos,
a clamped exponent, a divisor that is not 0, a row of zeros. `torch.where` does not hide what is not
finite in the branch that it does not take, for 0 times infinity is no number: the function inside
has to be safe, and is made so.

An attention of torch whose mask covers a whole row: `visible-key` leaves one visible key in it. A
weight norm of a zero vector: `nonzero-direction` gives it a direction, and the length 0 instead.

Proposed where a value or gradient is not finite.

`safe-functions` and `visible-key` are display-only: in a trial the calls are replaced at run time,
in your source each is an edit of one line. `nonzero-direction` is safe: the weight becomes the 0
that it was meant to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Live, NotApplicable
from unvanish.fix.edits import edits
from unvanish.fix.functions import Substitution
from unvanish.fix.recording import Op
from unvanish.fix.structure import observe
from unvanish.i18n import _
from unvanish.records import Diagnosis

_EPS = 1e-8
_MOST = 20.0  # exp(20) = 5e8
_INSIDE = 1.0 - 1e-6

# name -> pattern of the user's line, its replacement, and the edit in words; `_Safe` does the same.
_FORMS = {
    "sqrt": (r"sqrt\((.+?)\)", rf"sqrt(\1 + {_EPS:g})", f"sqrt(x + {_EPS:g})"),
    "rsqrt": (r"rsqrt\((.+?)\)", rf"rsqrt(\1 + {_EPS:g})", f"rsqrt(x + {_EPS:g})"),
    "log": (r"log\((.+?)\)", rf"log((\1).clamp_min({_EPS:g}))", f"log(x.clamp_min({_EPS:g}))"),
    "exp": (r"exp\((.*?)\)", rf"clamp(\1, max={_MOST:g}).exp()", f"x.clamp(max={_MOST:g}).exp()"),
    "acos": (r"acos\((.+?)\)", rf"acos((\1).clamp(-{_INSIDE}, {_INSIDE}))", "acos of a clamped x"),
    "asin": (r"asin\((.+?)\)", rf"asin((\1).clamp(-{_INSIDE}, {_INSIDE}))", "asin of a clamped x"),
    "div": (r"$^", "", f"x / torch.where(y.abs() < {_EPS:g}, {_EPS:g}, y)"),
    "reciprocal": (r"$^", "", f"1 / torch.where(x.abs() < {_EPS:g}, {_EPS:g}, x)"),
    "pow": (r"$^", "", f"(x + {_EPS:g}) ** p"),
    "softmax": (
        r"$^",
        "",
        "softmax(x.masked_fill((x == -inf).all(dim, keepdim=True), 0))",
    ),
    "where": (r"$^", "", "torch.where(ok, f(torch.where(ok, x, 1.0)), other)"),
}
_SAME = {"truediv": "div", "arccos": "acos", "arcsin": "asin", "log_softmax": "softmax"}


class SafeFunctions(Cure):
    """Safe forms of sqrt, log, exp, acos, asin, division, powers, softmax, and of where."""

    name = "safe-functions"
    applicability = Applicability.DISPLAY_ONLY
    kind = "source-edit"
    sources = (
        "PyTorch documentation, Autograd mechanics: gradients for non-differentiable functions",
        "TensorFlow Probability, Dealing with NaN gradients of tf.where (the double where)",
    )
    words: ClassVar[Mapping[str, float]] = {"NF": 0.95}

    def summary(self) -> str:
        return _(
            "Keep sqrt, log, exp, acos, divisions, powers and softmax away from where they are not"
            " finite."
        )

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return 1.0

    def apply(self, live: Live) -> Change:
        found = [op for op in observe(live).ops if _form(op.name) in _FORMS and not _constant(op)]
        live.settings.contexts.append(_Safe)
        rows = tuple(
            Edit(op.module or "", op.name, op.name, _FORMS[_form(op.name)][2])
            for op in {(op.module, op.name): op for op in found}.values()
        )
        if not rows:
            # The loss is not seen where a script computes it outside of the model.
            rows = (Edit("", _("functions"), "sqrt, log, exp, …", _("safe forms")),)
        note = _("Imitated here; in your source it is an edit.")
        return Change(rows, note=note, details={"ops": found})

    def code(self, live: Live, change: Change) -> str:
        ops = change.details["ops"]
        shown = [
            edits([op.line for op in ops if op.name == name], *_FORMS[_form(name)])
            for name in dict.fromkeys(op.name for op in ops)
        ]
        words = _("# where sqrt, log, exp or acos meet 0, 1 or large numbers: {forms}").format(
            forms="; ".join(_FORMS[name][2] for name in ("sqrt", "log", "exp", "acos"))
        )
        return "\n".join(shown) or words


def _form(name: str) -> str:
    return _SAME.get(name, name)


def _constant(op: Op) -> bool:
    """Whether a division or power is by a number that is safe: x / 2, x ** 2."""
    if _form(op.name) == "div":
        return len(op.inputs) + len(op.parameters) < 2 and "0" not in op.numbers
    exponent = op.numbers.get("1", op.numbers.get("exponent"))
    return op.name == "pow" and isinstance(exponent, int | float) and exponent >= 1


class _Safe(Substitution):
    def instead(self, name: str, function: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Return the safe form of a call on floating-point tensors."""
        if not args or not isinstance(args[0], Tensor) or not args[0].is_floating_point():
            return NotImplemented
        x, name = args[0], _form(name)
        if name in ("sqrt", "rsqrt"):
            return getattr(torch, name)(x + _EPS)
        if name == "log":
            return torch.log(x.clamp_min(_EPS))
        if name == "exp":
            return torch.exp(x.clamp(max=_MOST))
        if name in ("acos", "asin"):
            return getattr(torch, name)(x.clamp(-_INSIDE, _INSIDE))
        if name in ("div", "reciprocal"):
            return _divided(name, function, args, kwargs)
        if name == "pow" and len(args) > 1 and isinstance(args[1], int | float):
            return _power(x, args[1])
        if name == "softmax":
            return function(_masked(x, *args[1:2], **kwargs), *args[1:], **kwargs)
        return NotImplemented


def _divided(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Divide by what is not 0; `2 / x` is a reflected call, whose first argument is the divisor."""
    if name == "reciprocal" or getattr(function, "__name__", "").startswith("__r"):
        return function(_nonzero(args[0]), *args[1:], **kwargs)
    divisor = args[1] if len(args) > 1 else None
    if not isinstance(divisor, Tensor) or not divisor.is_floating_point():
        return NotImplemented
    return function(args[0], _nonzero(divisor), *args[2:], **kwargs)


def _power(x: Tensor, exponent: float) -> Any:
    if 0 < exponent < 1:
        return torch.pow(x.clamp_min(0) + _EPS, exponent)
    return torch.pow(_nonzero(x), exponent) if exponent < 0 else NotImplemented


def _nonzero(x: Tensor) -> Tensor:
    return torch.where(x.abs() < _EPS, _EPS, x)


def _masked(x: Tensor, dim: int | None = None, **_options: Any) -> Tensor:
    """Return `x` with 0 in the rows along `dim` that are −inf from end to end."""
    if dim is None:
        return x
    return x.masked_fill((x == -torch.inf).all(dim, keepdim=True), 0.0)


class VisibleKey(Cure):
    """One visible key in every row of an attention."""

    name = "visible-key"
    applicability = Applicability.DISPLAY_ONLY
    kind = "source-edit"
    sources = ("PyTorch issue 41508: MultiheadAttention gives NaN for fully masked rows",)
    words: ClassVar[Mapping[str, float]] = {"NF": 0.97}

    def summary(self) -> str:
        return _("Leave one key visible in rows that an attention mask covers from end to end.")

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(any(isinstance(m, nn.MultiheadAttention) for m in live.model.modules()))

    def apply(self, live: Live) -> Change:
        paths = [
            path
            for path, module in live.model.named_modules()
            if isinstance(module, nn.MultiheadAttention)
        ]
        if not paths:
            raise NotApplicable(_("no attention layer of torch"))
        for path in paths:
            live.model.get_submodule(path).register_forward_pre_hook(unmask, with_kwargs=True)
        rows = [
            Edit(path, "key_padding_mask", _("as given"), _("first key visible")) for path in paths
        ]
        return Change(tuple(rows))

    def code(self, live: Live, change: Change) -> str:
        return "\n".join(
            (
                "import torch",
                "",
                "",
                "def unmask(module, args, kwargs):",
                "    mask = kwargs.get('key_padding_mask')",
                "    if mask is not None and mask.dtype == torch.bool:",
                "        mask = mask.clone()",
                "        mask[mask.all(1), 0] = False",
                "        kwargs['key_padding_mask'] = mask",
                "    return args, kwargs",
                "",
                "",
                "for module in model.modules():",
                "    if isinstance(module, torch.nn.MultiheadAttention):",
                "        module.register_forward_pre_hook(unmask, with_kwargs=True)",
            )
        )


def unmask(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Show the first key of every row whose mask covers it from end to end."""
    mask = kwargs.get("key_padding_mask")
    if isinstance(mask, Tensor) and mask.dtype == torch.bool:
        mask = mask.clone()
        mask[mask.all(1), 0] = False
        kwargs["key_padding_mask"] = mask
    return args, kwargs


class NonzeroDirection(Cure):
    """A direction for weight norms of zero vectors."""

    name = "nonzero-direction"
    applicability = Applicability.SAFE
    kind = "structural"
    sources = ("Salimans and Kingma 2016, Weight Normalization, arXiv:1602.07868",)
    words: ClassVar[Mapping[str, float]] = {"NF": 0.98}

    def summary(self) -> str:
        return _("Give a direction to weight-normed vectors that are 0, and the length 0 instead.")

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(bool(_zero_directions(live.model)))

    def apply(self, live: Live) -> Change:
        pairs = _zero_directions(live.model)
        if not pairs:
            raise NotApplicable(_("no weight norm of a zero vector"))
        with torch.no_grad():
            for length, direction in pairs:
                g, v = live.model.get_parameter(length), live.model.get_parameter(direction)
                lost = _zero_vectors(g, v)
                drawn = torch.randn(v.shape, generator=live.generator).to(v)
                v.copy_(torch.where(lost, drawn, v))
                g.masked_fill_(lost.reshape(g.shape), 0.0)
        rows = [Edit(direction, _("direction"), "0", _("drawn")) for _length, direction in pairs]
        return Change(tuple(rows), details={"pairs": pairs})

    def code(self, live: Live, change: Change) -> str:
        return "\n".join(
            (
                "import torch",
                "",
                "with torch.no_grad():",
                f"    for length, direction in {list(change.details['pairs'])!r}:",
                "        g, v = model.get_parameter(length), model.get_parameter(direction)",
                "        over = [d for d in range(v.dim()) if g.dim() == 0 or g.shape[d] == 1]",
                "        lost = (v == 0).all(dim=over, keepdim=True)",
                "        v.copy_(torch.where(lost, torch.randn(v.shape).to(v), v))",
                "        g.masked_fill_(lost.reshape(g.shape), 0.0)",
            )
        )


def _zero_directions(model: nn.Module) -> list[tuple[str, str]]:
    """Return (length, direction) of weight norms, new style and old, with a zero direction."""
    parameters = dict(model.named_parameters())
    found = []
    for name, parameter in parameters.items():
        for end, other in (("original1", "original0"), ("weight_v", "weight_g")):
            length = name.removesuffix(end) + other
            if not name.endswith(end) or length not in parameters:
                continue
            if bool(_zero_vectors(parameters[length], parameter).any()):
                found.append((length, name))
    return found


def _zero_vectors(length: Tensor, direction: Tensor) -> Tensor:
    """Return whether the vector that each entry of `length` scales is 0, with kept dimensions."""
    over = [d for d in range(direction.dim()) if length.dim() == 0 or length.shape[d] == 1]
    return (direction.detach() == 0).all(dim=over, keepdim=True)


CURES = (SafeFunctions(), VisibleKey(), NonzeroDirection())
