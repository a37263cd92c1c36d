"""What one backward pass shows."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unvanish.records.vocabulary import Factor, SourceLine
from unvanish.shown import Shown


@dataclass(frozen=True, slots=True)
class OpGain:
    """One edge of the autograd graph: an op and one of its data inputs."""

    op: str  # autograd name, such as "AddmmBackward0"
    module: str | None  # dotted path of the innermost owning call; None: unowned
    call: int  # which call of that module, from 0
    order: int  # position of the op in forward order, 0 is first
    input: int  # which input of the op (attention has query 0, key 1, value 2)
    factor: Factor
    gain_log10: float
    level_log10: float  # of the op's output (joint norm over its outputs)


@dataclass(frozen=True, slots=True)
class PathEdge:
    """One step of a main path, listed from the loss down to the source.

    Adding `gain_log10` and `merge_log10` over all edges gives exactly the log-ratio of the levels
    at the two ends.
    """

    op: str
    module: str | None
    call: int
    factor: Factor
    gain_log10: float
    merge_log10: float  # log10(||G|| / ||c||) at the tensor this edge leads to
    level_log10: float  # of the op's output, before the gain
    blame_log10: float  # gain minus the reference of its factor (0 for loss, pool, scale, merge)
    weight: str | None = None  # name of the parameter, for weight and recurrence
    cut_point: bool = False  # every path from loss to source passes this op


@dataclass(frozen=True, slots=True, repr=False)
class MainPath:
    """The main path of one source: at each fan-out the consumer with the greatest signed share."""

    source_op: str
    source_module: str | None
    source_call: int
    source_level_log10: float
    root_level_log10: float
    edges: tuple[PathEdge, ...]

    def __repr__(self) -> str:
        return f"<MainPath from {self.source_module or self.source_op}: {len(self.edges)} edges>"


@dataclass(frozen=True, slots=True)
class Segment:
    """What lies between two neighbouring cut points; `gain_log10` is the ratio of their levels."""

    start_op: str
    start_module: str | None
    end_op: str
    end_module: str | None
    gain_log10: float
    ops: int


@dataclass(frozen=True, slots=True)
class LayerSignal:
    """One module call that owns ops, or one functional op owned by a module with children."""

    module: str
    type: str  # class name, or the op's plain name for a functional op
    call: int
    op: str | None  # autograd name when the row is one functional op
    level_log10: float | None  # dL/d(output of the call)
    gain_log10: float | None  # part of dL/d(input) through the call over dL/d(output)
    factors_log10: Mapping[str, float] = field(default_factory=dict)  # log-gain by factor
    blame_log10: Mapping[str, float] = field(default_factory=dict)  # the same minus references
    on_main_path: bool = False
    opaque: bool = False
    # slope statistics, shares of unit-sample pairs, of those whose incoming gradient is nonzero
    activation: str | None = None  # plain name of the element-wise op, such as "sigmoid"
    units: int | None = None
    off_share: float | None = None  # slope exactly 0
    saturated_share: float | None = None  # 0 < |slope| < 0.0707 sup|slope|; None: sup unknown
    dead_share: float | None = None  # units with slope 0 for every sample of this batch
    slope_rms: float | None = None
    # forward signal
    forward_rms: float | None = None  # root mean square of the call's output
    sample_correlation: float | None = None  # mean cosine between samples, 1: all look the same
    participation: float | None = None  # effective number of samples in dL/dh under the probe
    # the module's own parameters
    grad_log10: float | None = None
    weight_log10: float | None = None
    update_ratio_log10: float | None = None  # log10(||dw|| / ||w||) of the optimiser's step
    lr: float | None = None
    optimizer_group: int | None = None
    source: SourceLine | None = None


@dataclass(frozen=True, slots=True)
class NonFinite:
    """The first op, in its own direction, that turned finite inputs into NaN or infinity."""

    direction: Literal["forward", "backward", "parameters"]
    op: str
    module: str | None
    call: int
    kind: Literal["nan", "inf"]
    detail: str = ""  # what its inputs were, in numbers
    source: SourceLine | None = None


@dataclass(frozen=True, slots=True)
class ParameterSignal:
    """One parameter in one backward pass."""

    name: str
    grad_log10: float | None  # None: no gradient reached it
    weight_log10: float
    zeros: int | None = None
    subnormals: int | None = None  # None: not counted, the gradient lies far above them
    nonfinite: int = 0
    update_ratio_log10: float | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """Random unit cotangents at the network's output, on a replay of the same batch.

    `gain_log10` is half the log10 of the mean of ||J^T v||^2 over probes, at the main source;
    `low` and `high` bound it by the least and the greatest probe.
    """

    count: int
    gain_log10: float
    low_log10: float
    high_log10: float


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Singular values of the derivative of the network's output by its input, on one batch.

    Of each sample by itself; `coupled`: samples depend on each other (batch normalisation), and
    it is of the whole batch. Values are the greatest first, each with the share of all singular
    values that are as great or greater. `exact`: all of them, each as the median over samples,
    between the least and the greatest. Otherwise the distribution as `starts` random directions
    see it, between the least and the greatest of these.
    """

    rows: int  # outputs
    columns: int  # inputs
    samples: int  # whose derivatives are shown
    coupled: bool
    exact: bool
    starts: int
    products: int  # of the derivative, or its transpose, with a vector
    shares: tuple[float, ...]
    values_log10: tuple[float, ...]
    low_log10: tuple[float, ...]
    high_log10: tuple[float, ...]
    floor_log10: float  # what lies below is rounding


@dataclass(frozen=True, slots=True)
class TimeStep:
    """A recurrent weight at one time step: the level of dL/dz_t where it is used."""

    step: int
    level_log10: float


@dataclass(frozen=True, slots=True)
class Recurrence:
    """Weights used again on their own output: the backward signal against time."""

    module: str
    weight: str
    levels: tuple[TimeStep, ...]  # in forward order: first time step first


@dataclass(frozen=True, slots=True)
class LossTerm:
    """One summand of the loss at the root of the graph."""

    op: str
    module: str | None
    level_log10: float


@dataclass(frozen=True, slots=True)
class InnerDerivative:
    """A gradient with respect to data that is part of the loss (a PDE residual, a penalty).

    The second derivative is the gradient of one that is itself such a gradient.
    """

    order: int
    level_log10: float  # norm of the derivative; -inf: exactly 0, or not connected at all


@dataclass(frozen=True, slots=True)
class LossHead:
    """What the code behind the network's output does with it, as far as the graph tells."""

    op: str  # the op that the output enters
    module: str | None
    output_shape: tuple[int, ...]  # of the output as it enters
    broadcast_shape: tuple[int, ...] | None = None  # stretched to this by a constant operand
    reduction: Literal["none", "mean", "sum"] | None = None  # of the loss op, where it says so
    entries: int = 0  # numbers that the loss op reduces
    constant_log10: float = 0.0  # product of the constants that multiply the loss


@dataclass(frozen=True, slots=True)
class StepGradient:
    """The gradient that an optimiser's step took, against what this backward pass gave.

    All are norms over the parameters that stepped and that the pass reached.
    """

    fresh_log10: float  # of this pass, unscaled
    taken_log10: float  # of `.grad` when the step began
    leftover_log10: float | None = None
    # of `.grad` before the first backward since the last step, -inf: clean; None: not known
    predicted_change: float | None = None  # inner product of the gradient taken and the step


@dataclass(frozen=True, slots=True)
class CustomBackward:
    """A backward that somebody wrote (torch.autograd.Function), tried out on a replay.

    `error` is the difference between the slopes it gives and those by finite differences, along
    random directions, over the latter (root mean squares); None where there is nothing to compare
    (a step function, an identity, noise).
    """

    op: str
    module: str | None
    call: int
    ignores_gradient: bool  # it gives a gradient although none came in
    error: float | None = None


@dataclass(frozen=True, slots=True)
class AttentionHead:
    """How one head of one attention spreads its weight, over all queries of a batch."""

    module: str
    call: int
    head: int
    entropy: float  # mean over queries, as a share of the greatest possible, 0 to 1


@dataclass(frozen=True, slots=True)
class LayerPrediction:
    """What mean-field theory says of one op of the trunk, beside what was measured.

    A gain is predicted for the median network with weights and biases of the measured size, drawn
    at random; `spread_log10` is its standard deviation over such networks. The totals are from the
    network's output through this op, with the bounds that nine in ten networks keep. Numbers are
    None where theory has nothing to say, and `flag` says why; with a number beside it, `flag` says
    why not to trust it.
    """

    op: str  # autograd name
    module: str | None
    call: int
    kind: str  # what theory takes it for: "linear", "sigmoid", "LayerNorm", "sum" (of branches)
    factor: Factor
    measured_log10: float
    predicted_log10: float | None
    spread_log10: float | None
    total_measured_log10: float
    total_predicted_log10: float | None
    total_low_log10: float | None
    total_high_log10: float | None
    amplification_log10: float | None = None  # of a small relative error in the first length
    flag: str | None = None


INPUT_REACH, INPUT_BINS = 8.0, 64  # of the histogram of an activation's input


@dataclass(frozen=True, slots=True)
class ActivationInput:
    """How the input z of one activation is spread, and how steep the activation is there.

    `counts` are of up to some thousand entries of z, evenly spaced, in INPUT_BINS equal bins from
    -INPUT_REACH to INPUT_REACH; the outermost two also hold all that lies beyond. Bins before
    `first`, and those after the last, are empty.
    """

    module: str
    call: int
    op: str
    activation: str | None  # as in `LayerSignal`; None: not one of a known name
    negative_slope: float | None  # of a leaky ReLU, from the op itself
    entries: int
    first: int
    counts: tuple[int, ...]
    slopes: tuple[float, ...]  # mean over the bin, from the backward pass; nan: no gradient there
    unseen: int = 0  # entries known to be at most 0, and no more (a ReLU that nobody fed in view)


@dataclass(frozen=True, slots=True)
class GraphCall:
    """One module call of a traced graph."""

    module: str
    type: str  # class name
    call: int
    parent: int | None  # position of the call that made it; None: the outermost


@dataclass(frozen=True, slots=True)
class OpGraph:
    """What feeds what: the ops that a path to a source passes, in forward order, and their edges.

    A node is an op, or the ops of a module call that is one factor as a whole. An edge leads from a
    node to one that takes its output; several between the same two are one. Columns, not rows: a
    graph of thousands of ops stays small in a file.
    """

    calls: tuple[GraphCall, ...]
    names: tuple[str, ...]  # autograd names, each once
    ops: tuple[int, ...]  # by node: position in `names`
    owners: tuple[int | None, ...]  # by node: position in `calls`
    factors: tuple[Factor, ...]  # by node
    levels_log10: tuple[float | None, ...]  # by node: of its output; None: no signal came back
    tails: tuple[int, ...]  # by edge: the node nearer the input
    heads: tuple[int, ...]  # by edge: the node nearer the loss
    gains_log10: tuple[float, ...]  # by edge: of the head, toward the tail
    shares: tuple[float, ...]  # by edge: signed share of what comes back to the tail; nan: unknown
    main: tuple[int, ...] = ()  # nodes of the main path, the loss first


@dataclass(frozen=True, slots=True, repr=False)
class Trace(Shown):
    """One backward pass, measured at every op."""

    step: int
    loss: float
    layers: tuple[LayerSignal, ...]  # in forward order
    main_path: MainPath | None  # of the source that lies farthest from the loss
    paths: tuple[MainPath, ...] = ()  # of further sources, the farthest first
    output_level_log10: float | None = None  # dL/d(network output)
    root_level_log10: float = 0.0
    phase: Literal["unscaled", "scaled"] = "unscaled"
    loss_scale: float = 1.0
    batch_size: int | None = None
    loss_terms: tuple[LossTerm, ...] = ()
    segments: tuple[Segment, ...] = ()
    recurrences: tuple[Recurrence, ...] = ()
    parameters: tuple[ParameterSignal, ...] = ()
    probe: Probe | None = None
    nonfinite: NonFinite | None = None
    op_count: int = 0
    ops: tuple[OpGain, ...] = ()
    notes: tuple[str, ...] = ()  # degradations: what could not be measured, and why
    derivatives: tuple[InnerDerivative, ...] = ()  # taken while the loss was computed, in order
    head: LossHead | None = None
    taken: StepGradient | None = None
    custom: tuple[CustomBackward, ...] = ()
    attention: tuple[AttentionHead, ...] = ()
    predictions: tuple[LayerPrediction, ...] = ()  # of the trunk's ops, in forward order
    graph: OpGraph | None = None  # None: not kept
    spectrum: Spectrum | None = None  # None: not measured
    inputs: tuple[ActivationInput, ...] = ()  # of activations, in forward order

    def __repr__(self) -> str:
        return f"<Trace of step {self.step}: loss {self.loss:.4g}, {len(self.layers)} layers>"

    def figure(self, name: str = "waterfall") -> Any:
        """Return a picture of this pass as a Plotly figure: one of `report.pictures.PICTURES`.

        Raises UnknownNameError for another name, NoSignalError where there is nothing to draw.
        """
        return importlib.import_module("unvanish.report.pictures").of_trace(self, name)
