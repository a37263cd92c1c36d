"""Which factor of the chain rule an autograd node is.

One table by op name. What it does not know is classified by structure in `graph.py`: a parameter
among the inputs makes a `weight`; an element-wise map is found by its entry ratios.
"""

from __future__ import annotations

import math
import re
from typing import Any

from unvanish.measure.sharding import emptied
from unvanish.records import Factor

_NAMES: dict[Factor, str] = {
    "slope": """
        Relu Sigmoid Tanh Gelu Silu Elu LeakyRelu Softplus Hardtanh Hardswish Hardsigmoid
        LogSigmoid Mish Threshold PreluKernel Prelu RreluWithNoise Hardshrink Softshrink
        Sin Cos Tan Exp Exp2 Expm1 Log Log2 Log10 Log1P Sqrt Rsqrt Pow Erf Erfc Erfinv Abs Clamp
        ClampMin ClampMax Reciprocal Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Sinc Logit Sgn Sign
        Round Floor Ceil Trunc Frac Relu6 Xlogy Lgamma Digamma
    """,
    "weight": """
        Addmm Mm Addmv Mv Convolution MkldnnConvolution CudnnConvolution ConvolutionOverrideable
        SlowConv2D Linear MkldnnLinear Bilinear Trilinear Addbmm Baddbmm Addr
    """,
    "norm": """
        NativeLayerNorm NativeBatchNorm CudnnBatchNorm MiopenBatchNorm NativeGroupNorm BatchNorm
        FusedRmsNorm Renorm LinalgVectorNorm Norm WeightNormInterface NormalizeFunction
    """,
    "attention": """
        Softmax ScaledDotProductFlashAttention ScaledDotProductEfficientAttention
        ScaledDotProductCudnnAttention ScaledDotProductFlashAttentionForCpu
        ScaledDotProductAttentionMath ScaledDotProductFusedAttentionOverrideable SafeSoftmax Bmm
    """,
    "pool": """
        Mean Sum Nansum MaxPool1D MaxPool2DWithIndices MaxPool3DWithIndices AvgPool1D AvgPool2D
        AvgPool3D AdaptiveAvgPool2D AdaptiveAvgPool3D AdaptiveMaxPool2D AdaptiveMaxPool3D
        FractionalMaxPool2D MkldnnAdaptiveAvgPool2D Max Min Amax Amin Aminmax Median Prod Var Std
        VarMean StdMean Logsumexp Cumsum Cumprod Logcumsumexp SegmentReduce Topk Sort Kthvalue Mode
        MaxUnpool2D Cdist Dist Trace
    """,
    "scale": """
        Neg View Reshape ReshapeAlias UnsafeView Transpose Permute T Unsqueeze Squeeze Slice Select
        Expand Clone ToCopy Alias Split SplitWithSizes UnsafeSplit Chunk Unbind Index IndexSelect
        Gather TakeAlongDim Narrow Diagonal Unfold Flip Roll Rot90 Repeat Tile RepeatInterleave
        ConstantPadNd ReflectionPad1D ReflectionPad2D ReflectionPad3D ReplicationPad1D
        ReplicationPad2D ReplicationPad3D MaskedFill MaskedSelect Where PixelShuffle PixelUnshuffle
        NativeDropout FusedDropout Dropout Contiguous AsStrided Copy CopySlices UpsampleNearest1D
        UpsampleNearest2D UpsampleNearest3D UpsampleBilinear2D UpsampleBicubic2D UpsampleLinear1D
        UpsampleTrilinear3D GridSampler2D GridSampler3D Tril Triu Real Imag ViewAsReal ViewAsComplex
        Complex Im2Col Col2Im Identity Detach Fill MaskedScatter ChannelShuffle Lift Values
        PackPaddedSequence UnsafeChunk Movedim Swapaxes Flatten Conj RegisterPostBackwardFunction
        _DDPSink
    """,
    "merge": """
        Add Sub Rsub Cat Stack Addcmul Addcdiv Scatter ScatterAdd IndexAdd IndexPut IndexCopy
        ScatterReduce Maximum Minimum Fmax Fmin Lerp
    """,
    "gate": "Mul Div Dot Glu Atan2 Hypot Outer Kron",
    "loss": """
        LogSoftmax NllLoss NllLoss2D NllLossNd MseLoss BinaryCrossEntropy
        BinaryCrossEntropyWithLogits SmoothL1Loss HuberLoss KlDiv SoftMarginLoss MultiMarginLoss
        MultilabelMarginLoss CtcLoss CudnnCtcLoss L1Loss
    """,
    "recurrence": "MkldnnRnnLayer CudnnRnn MiopenRnn ThnnFusedLstmCell ThnnFusedGruCell",
    "opaque": """
        CompiledFunction Checkpoint CheckpointFunction CheckpointHigherOrderOp AOTDispatch
    """,
}
_TABLE: dict[str, Factor] = {
    name: factor for factor, text in _NAMES.items() for name in text.split()
}

# Fused nodes that hide several factors, and what opens them on a replay.
FUSED_RECURRENT = frozenset({"MkldnnRnnLayer", "CudnnRnn", "MiopenRnn"})
EMBEDDINGS = frozenset({"Embedding", "EmbeddingBag", "EmbeddingDenseBackward"})
# Products that a parameter turns into a linear map with weights.
BILINEAR = frozenset({"Mm", "Bmm", "Mv", "Mul", "Div", "Baddbmm", "Addmm", "Dot", "Addcmul"})
# Element-wise, also with constants: what a hand-written activation is made of.
ELEMENTWISE = frozenset(
    (
        _NAMES["slope"] + "Mul Div Add Sub Rsub Neg Where MaskedFill ToCopy Clone Alias Contiguous"
    ).split()
)

NORM_REDUCTIONS = frozenset({"Mean", "Sum", "Var", "VarMean", "Std", "StdMean"}) | {
    "LinalgVectorNorm",
    "Norm",
}

# name -> plain activation name, as meanfield knows it
_ACTIVATIONS = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Gelu": "gelu",
    "Silu": "silu",
    "Elu": "elu",
    "LeakyRelu": "leaky_relu",
    "Softplus": "softplus",
    "Hardtanh": "hardtanh",
    "Hardswish": "hardswish",
    "Hardsigmoid": "hardsigmoid",
    "LogSigmoid": "logsigmoid",
    "Mish": "mish",
    "PreluKernel": "prelu",
    "RreluWithNoise": "rrelu",
    "Hardshrink": "hardshrink",
    "Softshrink": "softshrink",
    "Threshold": "threshold",
    "Sin": "sin",
    "Cos": "cos",
    "Erf": "erf",
    "Exp": "exp",
}


def plain_name(node_name: str) -> str:
    """Return `Addmm` for `AddmmBackward0`, `MyFunction` for `MyFunctionBackward`."""
    name = node_name.rpartition("::")[2]
    return re.sub(r"Backward(\d+)?(Cuda|AutogradNestedTensor)?$", "", name) or name


def factor_of(name: str) -> Factor | None:
    """Return the factor of a plain op name, or None where the table does not know it."""
    return _TABLE.get(name)


def activation_of(name: str, node: Any) -> tuple[str | None, float | None]:
    """Return the activation's name and its slope on the negative side if it is homogeneous.

    `node` is the autograd node: parameters such as LeakyReLU's slope are read off it. The second
    value is a for f(z) = z if z > 0 else a*z, and None for activations that are not of this family.
    """
    activation = _ACTIVATIONS.get(name)
    if activation == "relu":
        return activation, 0.0
    if activation == "leaky_relu":
        return activation, float(node._saved_negative_slope)
    if activation == "rrelu":
        return activation, (float(node._saved_lower) + float(node._saved_upper)) / 2
    if activation == "prelu":
        weight = node._saved_weight
        readable = weight.device.type == "cpu" and not emptied(weight)
        return activation, float(weight.detach().mean()) if readable else None
    if activation == "threshold":
        return activation, 0.0 if float(node._saved_threshold) == 0.0 else None
    if activation == "gelu" and getattr(node, "_saved_approximate", "none") == "tanh":
        return "gelu_tanh", None
    return activation, None


def homogeneous_reference_log10(negative_slope: float) -> float:
    """Return log10 of the reference slope sqrt((1 + a^2) / 2) of a homogeneous activation.

    It is the root mean square of the slope over a symmetric pre-activation (He et al. 2015,
    arXiv 1502.01852, section 2.2): what He's weights make up for.
    """
    return 0.5 * math.log10((1.0 + negative_slope**2) / 2.0)
