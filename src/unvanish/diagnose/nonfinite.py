"""The usual cause of a non-finite number, by the op that first makes one."""

from __future__ import annotations

from dataclasses import dataclass

from unvanish.i18n import _
from unvanish.records import NonFinite, OptimizerFacts

_TOO_BIG_FOR_HALF = 1e-7  # eps below this is 0 or subnormal in float16 (smallest normal 6e-5)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why this op makes non-finite numbers, and what to do about it."""

    why: str
    remedy: str


def usual_cause(
    fault: NonFinite, optimizer: OptimizerFacts | None, scaled: bool, grown: bool = False
) -> Cause:
    """Return the cause in words.

    `scaled` says that the gradients carried a loss scale, `grown` that all was finite at the first
    steps: then neither the data's scale nor the initial weights are to blame.
    """
    if fault.direction == "parameters":
        return _of_the_step(optimizer)
    name = fault.op.partition("Backward")[0].rpartition("::")[2]
    if fault.op == "input":
        return Cause(
            _("The data themselves are not finite."),
            _("Look for missing values and divisions by 0 where the data are prepared."),
        )
    if fault.direction == "backward" and " into " in fault.detail and name in _SINGULAR:
        return _where()
    if grown and fault.kind == "inf" and name in _LINEAR | _PASSING | {"MseLoss", "L1Loss"}:
        return _grown()
    for names, forward, backward in _causes(fault):
        if name in names:
            cause = forward if fault.direction == "forward" else backward
            if cause is not None:
                return cause
    if fault.direction == "forward":
        return Cause(
            _("Its inputs were finite."),
            _("Print the inputs of this op; bound them, or scale the data and the weights."),
        )
    if scaled:
        return Cause(
            _("The gradients carry a loss scale, which may be too large for this op."),
            _("Let the gradient scaler lower its scale; if it does not help, look at this op."),
        )
    return Cause(
        _("What came in from behind was finite: its own derivative is not."),
        _("Keep its arguments away from the point where its derivative is infinite."),
    )


def _of_the_step(optimizer: OptimizerFacts | None) -> Cause:
    if optimizer is not None and optimizer.rescales and (optimizer.eps or 0) < _TOO_BIG_FOR_HALF:
        return Cause(
            _(
                "In float16 the optimiser's eps of {eps:g} and small squared gradients are rounded"
                " to 0, and 0/0 is NaN."
            ).format(eps=optimizer.eps or 0),
            _("Keep the parameters in float32 (autocast), or set eps=1e-4."),
        )
    return Cause(
        _("The step was too large for the number format."),
        _("Lower the learning rate, or clip the gradient."),
    )


# Ops with points at which they, or their slopes, are infinite.
_LOG = frozenset({"Log", "Log2", "Log10", "Log1P", "Xlogy", "Logit"})
_ROOT = frozenset({"Sqrt", "Rsqrt", "Norm", "LinalgVectorNorm", "Cdist", "Pow"})
_SPREAD = frozenset({"Std", "Var", "StdMean", "VarMean"})
_ARC = frozenset({"Acos", "Asin", "Atanh", "Acosh"})
_EXPONENTIAL = frozenset({"Exp", "Exp2", "Expm1", "Sinh", "Cosh"})
_DIVIDE = frozenset({"Div", "Reciprocal", "WeightNormInterface"})
_SINGULAR = _LOG | _ROOT | _ARC | _EXPONENTIAL | _DIVIDE
_LINEAR = frozenset({"Addmm", "Mm", "Bmm", "Convolution", "MkldnnConvolution", "Linear"})
_LOSSES = frozenset({"NllLoss", "MseLoss", "L1Loss", "BinaryCrossEntropy", "SmoothL1Loss"})
_PASSING = frozenset({"Relu", "LeakyRelu", "Clamp", "ClampMin", "ClampMax", "Hardtanh", "Abs"})


def outgrown(fault: NonFinite | None) -> bool:
    """Whether numbers outgrew the format, as too large steps make them; None: no op was seen."""
    if fault is None:
        return True
    name = fault.op.partition("Backward")[0].rpartition("::")[2]
    return name in _LINEAR | _LOSSES | _PASSING | {"LogSoftmax", "Mean", "Sum", "Mul", "Pow"}


_Row = tuple[frozenset[str], Cause | None, Cause | None]  # op names, forward, backward


def _causes(fault: NonFinite) -> tuple[_Row, ...]:
    """The table, made when it is used: its texts are in the language chosen by then."""
    softmax = frozenset(
        {"Softmax", "LogSoftmax", "SafeSoftmax", "MaskedFill"}
        | {f"ScaledDotProduct{kind}Attention" for kind in ("Flash", "Efficient", "Cudnn")}
        | {"ScaledDotProductFlashAttentionForCpu", "ScaledDotProductAttentionMath"}
    )
    return (
        (_LOG, _log_forward(), _log_backward()),
        (_ROOT, _root_forward(), _root_backward()),
        (_SPREAD, _spread(), _root_backward()),
        (_ARC, _arc(), _arc()),
        (_EXPONENTIAL, _exponential(), _exponential()),
        (_DIVIDE, _divide(), _divide()),
        (softmax, _softmax(), _softmax()),
        (frozenset({"Where"}), None, _where()),
        (_LINEAR, _linear_forward(fault), _linear_backward(fault)),
        (_LOSSES, _loss(), _loss()),
        (_PASSING, _passed_on(), None),
        (frozenset({"Mul"}), None, _product()),
    )


def _log_forward() -> Cause:
    return Cause(
        _("The logarithm of 0 is minus infinity, of a negative number NaN."),
        _("Write log(x.clamp_min(eps)), or use a loss that takes logits."),
    )


def _log_backward() -> Cause:
    return Cause(
        _("The slope of the logarithm at 0 is infinite."),
        _("Write log(x.clamp_min(eps)), or use a loss that takes logits."),
    )


def _root_forward() -> Cause:
    return Cause(
        _("The root (or power) of a negative number is NaN, the inverse root of 0 infinite."),
        _("Clamp the argument from below, or add a small eps under the root."),
    )


def _root_backward() -> Cause:
    return Cause(
        _("The slope of a root at exactly 0 is infinite, and infinity times 0 is NaN."),
        _("Add a small eps under the root: sqrt(x + eps)."),
    )


def _spread() -> Cause:
    return Cause(
        _("The standard deviation of a single number is 0/0 (it divides by n - 1)."),
        _("Take it over two numbers or more, or with correction=0, and add a small eps."),
    )


def _product() -> Cause:
    return Cause(
        _("One of its factors is infinite (as the logarithm of 0), and times 0 it is NaN."),
        _("Keep that factor finite: clamp the argument before the op, not the product after it."),
    )


def _arc() -> Cause:
    return Cause(
        _("At ±1 the slope of acos and asin is infinite, and beyond ±1 they are NaN."),
        _("Clamp the argument to the open interval: x.clamp(-1 + eps, 1 - eps)."),
    )


def _exponential() -> Cause:
    return Cause(
        _("The exponential overflows: beyond 88 in float32, beyond 11 in float16."),
        _("Bound its argument (clamp), scale the inputs, or work with logarithms (logsumexp)."),
    )


def _divide() -> Cause:
    return Cause(
        _("Division by 0; 0/0 is NaN (weight_norm of an all-zero weight does this)."),
        _("Add a small eps to the denominator; do not start a weight-normalised weight at 0."),
    )


def _softmax() -> Cause:
    return Cause(
        _("A softmax over a row that is masked throughout (-inf only) is 0/0."),
        _("Leave at least one visible entry in every row of the mask."),
    )


def _where() -> Cause:
    return Cause(
        _("The branch that torch.where did not take has an infinite slope, and times 0 is NaN."),
        _("Mask the input of that branch as well, not only its result."),
    )


def _linear_forward(fault: NonFinite) -> Cause:
    if fault.kind == "nan":
        return Cause(
            _(
                "One of its inputs was not finite already: its weight (weight_norm of an all-zero"
                " weight is 0/0), or what came in."
            ),
            _("Do not start a weight-normalised weight at 0; look at the op in front of this one."),
        )
    return Cause(
        _("Its sums outgrew the number format: weights or inputs are too large."),
        _("Scale the inputs to unit variance and the weights to fan-in, or use bfloat16."),
    )


def _grown() -> Cause:
    return Cause(
        _("It was finite at first: training has driven the weights out of the number format."),
        _("Lower the learning rate or warm it up, and clip the gradient; in float16 use bfloat16."),
    )


def _linear_backward(fault: NonFinite) -> Cause:
    if fault.kind == "nan":
        return Cause(
            _(
                "What it kept of the forward pass is not finite, though the loss is: a NaN that was"
                " masked or indexed away, as of a softmax over a fully masked row."
            ),
            _("Leave at least one visible entry in every row of the mask."),
        )
    return _linear_forward(fault)


def _passed_on() -> Cause:
    return Cause(
        _("It hands on what the op before it made: values that outgrew the number format."),
        _("Scale the inputs to unit variance and the weights to fan-in, or use bfloat16."),
    )


def _loss() -> Cause:
    return Cause(
        _("The network's output or the target is too large, or not finite."),
        _("Check the targets for NaN; scale the output; use a loss that takes logits."),
    )
