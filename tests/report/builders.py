"""Runs made by hand, as measuring would leave them: every main path telescopes exactly.

A network is a list of `Row`s in forward order, each with the ops of one module call; `trace` walks
it from the loss down and sums, so that the levels of the rows and of the path agree by
construction. Nothing here is measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unvanish.records import (
    ActivationInput,
    Diagnosis,
    Environment,
    Evidence,
    Factor,
    Finding,
    GraphCall,
    LayerSignal,
    LossTerm,
    MainPath,
    ModelDiagnosis,
    ModelRun,
    NonFinite,
    OpGraph,
    OptimizerFacts,
    ParameterFacts,
    ParameterSignal,
    PathEdge,
    Recurrence,
    Run,
    Segment,
    SourceLine,
    Spectrum,
    StepRecord,
    TimeStep,
    Trace,
    Training,
    Verdict,
    Where,
)

ENVIRONMENT = Environment(
    python="3.11.7", torch="2.13.0+cpu", platform="Linux-6.1-x86_64", device="cpu"
)
HALF = 0.5 * math.log10(2)  # a ReLU's reference slope is 1/sqrt(2)


@dataclass(frozen=True)
class Op:
    """One op that the main path passes, with its gain and the merge term at its input."""

    op: str
    factor: Factor
    gain: float
    merge: float = 0.0
    reference: float = 0.0
    weight: str | None = None


@dataclass(frozen=True)
class Row:
    """One module call: its ops on the main path in forward order, and other signals of it."""

    module: str
    type: str
    ops: tuple[Op, ...]
    call: int = 0
    signals: Mapping[str, Any] = field(default_factory=dict)


LOSS = (
    Op("LogSoftmaxBackward0", "loss", -0.02),
    Op("NllLossBackward0", "loss", -1.204),
)


def trace(
    rows: Sequence[Row],
    step: int = 0,
    loss: float = 2.3026,
    losses: Sequence[Op] = LOSS,
    **more: Any,
) -> Trace:
    """Walk `rows` from the loss to the first row's first op, which is the source."""
    level = 0.0
    edges: list[PathEdge] = []

    def pass_op(op: Op, module: str | None, call: int) -> None:
        nonlocal level
        shown_only = op.factor in {"loss", "pool", "scale"}
        edges.append(
            PathEdge(
                op=op.op,
                module=module,
                call=call,
                factor=op.factor,
                gain_log10=op.gain,
                merge_log10=op.merge,
                level_log10=level,
                blame_log10=0.0 if shown_only else op.gain - op.reference,
                weight=op.weight,
                cut_point=True,
            )
        )
        level += op.gain + op.merge

    for op in reversed(losses):
        pass_op(op, None, 0)
    output_level = level
    layers: list[LayerSignal] = []
    for position, row in reversed(list(enumerate(rows))):
        out, factors, blame = level, {}, {}
        is_source = position == 0
        for op in () if is_source else reversed(row.ops):
            pass_op(op, row.module, row.call)
            factors[op.factor] = factors.get(op.factor, 0.0) + op.gain
            blame[op.factor] = blame.get(op.factor, 0.0) + op.gain - op.reference
        layers.append(
            LayerSignal(
                module=row.module,
                type=row.type,
                call=row.call,
                op=None,
                level_log10=out,
                gain_log10=None if is_source else sum(factors.values()),
                factors_log10=factors,
                blame_log10=blame,
                on_main_path=True,
                **row.signals,
            )
        )
    source = rows[0]
    path = MainPath(
        source_op=source.ops[0].op,
        source_module=source.module,
        source_call=source.call,
        source_level_log10=level,
        root_level_log10=0.0,
        edges=tuple(edges),
    )
    return Trace(
        **{
            "step": step,
            "loss": loss,
            "layers": tuple(reversed(layers)),
            "main_path": path,
            "output_level_log10": output_level,
            "batch_size": 64,
            "op_count": 3 * len(rows),
            "loss_terms": (LossTerm("NllLossBackward0", None, 0.0),),
            "parameters": tuple(_parameters(rows)),
            "inputs": tuple(_inputs(rows)),
            "spectrum": spectrum(level, 0.1, 10),
            "graph": graph(path, {row.module: row.type for row in rows}),
            **more,
        }
    )


def _inputs(rows: Sequence[Row]) -> Iterator[ActivationInput]:
    """A bell of inputs z for each activation, a little wider from one to the next."""
    for number, row in enumerate(row for row in rows if "activation" in row.signals):
        wide = 1.0 + 0.1 * (number % 10)
        weights = [math.exp(-0.5 * ((z + 0.5) / (4 * wide)) ** 2) for z in range(-20, 20)]
        slope = row.signals.get("slope_rms", 1.0)
        yield ActivationInput(
            module=row.module,
            call=row.call,
            op=row.ops[0].op,
            activation=row.signals["activation"],
            negative_slope=0.0 if row.signals["activation"] == "relu" else None,
            entries=sum(round(100 * weight) for weight in weights),
            first=12,
            counts=tuple(round(100 * weight) for weight in weights),
            slopes=(slope,) * len(weights),
        )


def spectrum(top: float, step: float, count: int) -> Spectrum:
    """Singular values from 10**top down by `step` decades each, of 64 samples that differ."""
    values = [top - step * i for i in range(count)]
    return Spectrum(
        rows=count,
        columns=100,
        samples=64,
        coupled=False,
        exact=True,
        starts=0,
        products=count + 2,
        shares=tuple((i + 1) / count for i in range(count)),
        values_log10=tuple(values),
        low_log10=tuple(value - 0.2 for value in values),
        high_log10=tuple(value + 0.2 for value in values),
        floor_log10=top - 6.5,
    )


def graph(path: MainPath, types: Mapping[str, str]) -> OpGraph:
    """The graph that has no more than this path: a chain."""
    source = (path.source_op, path.source_module, path.source_call, "weight")
    chain = [(e.op, e.module, e.call, e.factor) for e in reversed(path.edges)]
    nodes = [source, *chain]
    calls = {("", 0): GraphCall("", "Net", 0, None)}
    for _op, module, call, _factor in nodes:
        if module is not None:
            calls.setdefault((module, call), GraphCall(module, types[module], call, 0))
    positions = {key: position for position, key in enumerate(calls)}
    names = tuple(dict.fromkeys(op for op, _module, _call, _factor in nodes))
    return OpGraph(
        calls=tuple(calls.values()),
        names=names,
        ops=tuple(names.index(op) for op, _module, _call, _factor in nodes),
        owners=tuple(None if m is None else positions[m, call] for _op, m, call, _f in nodes),
        factors=tuple(factor for _op, _module, _call, factor in nodes),
        levels_log10=(path.source_level_log10, *(e.level_log10 for e in reversed(path.edges))),
        tails=tuple(range(len(chain))),
        heads=tuple(range(1, len(nodes))),
        gains_log10=tuple(e.gain_log10 for e in reversed(path.edges)),
        shares=(1.0,) * len(chain),
        main=tuple(reversed(range(len(nodes)))),
    )


def _parameters(rows: Sequence[Row]) -> list[ParameterSignal]:
    return [
        ParameterSignal(
            name=f"{row.module}.weight",
            grad_log10=row.signals["grad_log10"],
            weight_log10=row.signals["weight_log10"],
            zeros=0,
            subnormals=0,
            update_ratio_log10=row.signals["update_ratio_log10"],
        )
        for row in rows
        if "weight_log10" in row.signals
    ]


def wobble(index: int, size: float = 0.02) -> float:
    """Return a small deterministic deviation, so that no two layers are alike to the digit."""
    return size * math.sin(1.7 * index + 0.3)


def linear(
    name: str, gain: float, grad: float = -2.0, reference: float = 0.0, kind: str = "Linear"
) -> Row:
    op = "AddmmBackward0" if kind == "Linear" else "ConvolutionBackward0"
    return Row(
        name,
        kind,
        (Op(op, "weight", gain, reference=reference, weight=f"{name}.weight"),),
        signals={
            "forward_rms": 0.31,
            "sample_correlation": 0.62,
            "grad_log10": grad,
            "weight_log10": 0.76,
            "update_ratio_log10": grad - 2.0 - 0.76,
            "lr": 0.01,
            "optimizer_group": 0,
            "source": SourceLine("/home/ada/train.py", 31),
        },
    )


def activation(name: str, kind: str, gain: float, **signals: Any) -> Row:
    plain = kind.lower()
    reference = -HALF if plain == "relu" else 0.0
    return Row(
        name,
        kind,
        (Op(f"{kind.capitalize()}Backward0", "slope", gain, reference=reference),),
        signals={
            "activation": plain,
            "units": 100,
            "off_share": 0.0,
            "saturated_share": 0.0,
            "dead_share": 0.0,
            "slope_rms": 10**gain,
            "forward_rms": 0.5,
            "sample_correlation": 0.9,
            "source": SourceLine("/home/ada/train.py", 31),
            **signals,
        },
    )


def sigmoid_rows(depth: int = 20, weight_gain: float = -0.23, prefix: str = "net") -> list[Row]:
    """`depth` hidden layers of Linear and Sigmoid and a last Linear, default initialisation."""
    rows: list[Row] = []
    for layer in range(depth):
        grad = -1.9 - 0.84 * (depth - layer)
        rows.append(linear(f"{prefix}.{2 * layer}", weight_gain + wobble(layer), grad))
        rows.append(
            activation(f"{prefix}.{2 * layer + 1}", "Sigmoid", -0.611 + wobble(layer, 0.003))
        )
    rows.append(linear(f"{prefix}.{2 * depth}", -0.24, -1.0))
    return rows


def relu_rows(depth: int = 20, scale: float = 0.0, prefix: str = "net") -> list[Row]:
    """The same net with ReLU; `scale` is log10 of the weights' scale over He's."""
    rows: list[Row] = []
    for layer in range(depth):
        gain = HALF + scale + wobble(layer)
        rows.append(linear(f"{prefix}.{2 * layer}", gain, -1.3, reference=HALF))
        rows.append(
            activation(
                f"{prefix}.{2 * layer + 1}",
                "ReLU",
                -HALF + wobble(layer + 5),
                off_share=0.5 + wobble(layer, 0.05),
                dead_share=0.01,
            )
        )
    rows.append(linear(f"{prefix}.{2 * depth}", 0.05, -0.9))
    return rows


SAMPLED = (0, 1, 2, 4, 8, 16, 32, 64, 128)


def drifted(rows: Sequence[Row], more: float) -> list[Row]:
    """Return `rows` with `more` log-gain in every weight."""
    return [
        replace(
            row,
            ops=tuple(
                replace(op, gain=op.gain + more) if op.factor == "weight" else op for op in row.ops
            ),
        )
        for row in rows
    ]


def steps(count: int, start: float, end: float, sampled: Sequence[int] = SAMPLED) -> tuple:
    """Losses from `start` to `end`, exponentially, with a little noise."""
    return tuple(
        StepRecord(
            step=step,
            loss=end + (start - end) * math.exp(-4 * step / count) + wobble(step, 0.004),
            sampled=step in sampled,
        )
        for step in range(count)
    )


def parameter_facts(rows: Sequence[Row], weight: float = 0.76) -> tuple[ParameterFacts, ...]:
    return tuple(
        ParameterFacts(
            name=f"{row.module}.weight",
            module=row.module,
            type=row.type,
            numel=10_000,
            requires_grad=True,
            registered=True,
            in_optimizer=True,
            called=True,
            gradient="some",
            weight_log10=weight,
        )
        for row in rows
        if "weight_log10" in row.signals
    )


SGD = OptimizerFacts(name="SGD", lr=(0.01,), rescales=False, weight_decay=0.0, momentum=0.9)
ADAM = OptimizerFacts(name="Adam", lr=(0.001,), rescales=True, eps=1e-8, weight_decay=0.0)


def model(
    rows: Sequence[Row],
    name: str = "model",
    kind: str = "Sequential",
    losses: tuple[float, float] = (2.31, 2.302),
    **more: Any,
) -> ModelRun:
    """A model whose rows were traced at every step of SAMPLED; its weights grow a little."""
    records = steps(200, *losses)
    traces = tuple(
        trace(drifted(rows, 0.015 * index), step, records[step].loss)
        for index, step in enumerate(SAMPLED)
    )
    return ModelRun(
        **{
            "name": name,
            "type": kind,
            "traces": traces,
            "steps": records,
            "optimizer": SGD,
            "parameters": parameter_facts(rows),
            **more,
        }
    )


def run(*models: ModelRun, **more: Any) -> Run:
    return Run(
        **{
            "id": "20260422-153012-4f9c2a1b",
            "kind": "run",
            "created": "2026-04-22T15:30:12Z",
            "command": ("train.py", "--epochs", "3"),
            "directory": "/home/ada/digits",
            "tool_version": "0.1.0",
            "environment": ENVIRONMENT,
            "models": models,
            "seconds": 12.4,
            **more,
        }
    )


def diagnosis(one_run: Run, findings: Sequence[Finding], training: Training = "stuck") -> Diagnosis:
    """Conclude what the test says: `findings` carry the name of their model, the gravest first."""
    models = []
    for entry in one_run.models:
        own = tuple(finding for finding in findings if finding.model == entry.name)
        verdict: Verdict = own[0].verdict if own else "healthy"
        models.append(ModelDiagnosis(entry.name, verdict, training, own))
    verdict = findings[0].verdict if findings else "healthy"
    return Diagnosis(one_run, verdict, training, tuple(findings), tuple(models))


VANISHING_BY_SLOPE = Finding(
    code="VG101",
    family="VG",
    verdict="vanishing",
    severity="error",
    title="The backward signal shrinks ×0.14 a layer over 20 layers, to 10^-16.8 at `net.0`:"
    " slope of the sigmoid 73% (×0.24 each), weights 27% (×0.59 each).",
    where=Where("net.1", "SigmoidBackward0", 0, SourceLine("/home/ada/train.py", 31)),
    factor="slope",
    evidence=(
        Evidence("log10 of the slope's gain over the path", -12.2, -2.0),
        Evidence("gain of the slope, a layer", 0.245, 0.5),
        Evidence("activation", "sigmoid"),
    ),
    remedy="Use ReLU with He initialisation, or an orthogonal 4× initialisation with a centring"
    " bias to keep the sigmoid.",
    model="model",
    step=0,
    explains=("VG103",),
)
VANISHING_BY_WEIGHTS = Finding(
    code="VG103",
    family="VG",
    verdict="vanishing",
    severity="warning",
    title="Of this, 27% is due to the weights (×0.59 each; most at `net.38`).",
    where=Where("net.2", "AddmmBackward0", 0, SourceLine("/home/ada/train.py", 31)),
    factor="weight",
    evidence=(Evidence("log10 of the weights' gain over the path", -4.83, -2.0),),
    remedy="Initialise with a greater scale.",
    model="model",
    step=0,
)
HEALTHY = Finding(
    code="OK001",
    family="OK",
    verdict="healthy",
    severity="info",
    title="The backward signal is healthy, and the loss falls.",
    where=Where(),
    factor=None,
    evidence=(Evidence("gain from output to input", 0.93, 1e-3),),
    remedy="If training is stuck, look at the data, the learning rate and the loss.",
    model="model",
)


def vanishing(depth: int = 20) -> Diagnosis:
    """A stuck sigmoid net: ×0.14 a layer."""
    one = model(sigmoid_rows(depth))
    if depth > 100:
        one = replace(one, traces=one.traces[:3])  # enough of it, and tests stay quick
    return diagnosis(run(one), (VANISHING_BY_SLOPE, VANISHING_BY_WEIGHTS))


def healthy() -> Diagnosis:
    """A ReLU net with He weights that learns."""
    return diagnosis(run(model(relu_rows(), losses=(2.31, 0.12))), (HEALTHY,), "falling")


def saturated() -> Diagnosis:
    """Sigmoids with large weights: most units saturate, some ReLU units are dead."""
    rows = sigmoid_rows(6, weight_gain=0.9)
    rows[3] = replace(
        rows[3], signals={**rows[3].signals, "saturated_share": 0.87, "slope_rms": 0.02}
    )
    rows[7] = activation("net.7", "ReLU", -0.4, off_share=0.8, dead_share=0.4)
    finding = replace(
        VANISHING_BY_SLOPE,
        code="VG102",
        title="87% of the units of `net.3` are saturated.",
        where=Where("net.3", "SigmoidBackward0", 0, None),
        explains=(),
    )
    return diagnosis(run(model(rows)), (finding,))


def nonfinite() -> Diagnosis:
    """A run whose loss turns NaN at step 8: from there on nothing is finite."""
    rows = relu_rows(4)
    good = [trace(rows, step, 2.3 + step) for step in (0, 1, 2, 4)]
    bad = trace(
        [replace(row, ops=tuple(replace(op, gain=math.nan) for op in row.ops)) for row in rows],
        8,
        math.nan,
        nonfinite=NonFinite(
            "forward", "SqrtBackward0", "net.3", 0, "nan", "inputs from -0.004 to 3.1",
            SourceLine("/home/ada/train.py", 44),
        ),
        notes=("The forward tensors of 2 ops could not be read.",),
    )  # fmt: skip
    records = tuple(
        StepRecord(step, math.nan if step >= 8 else 2.3 + step, step in (0, 1, 2, 4, 8))
        for step in range(12)
    )
    one = ModelRun("model", "Net", (*good, bad), records, SGD, parameter_facts(rows))
    finding = Finding(
        code="NF001",
        family="NF",
        verdict="non-finite",
        severity="error",
        title="SqrtBackward0 in `net.3` made the first NaN, at step 8.",
        where=Where("net.3", "SqrtBackward0", 0, SourceLine("/home/ada/train.py", 44)),
        factor=None,
        evidence=(Evidence("loss", math.nan), Evidence("smallest input", -0.004, 0.0)),
        remedy="Add a small constant under the root.",
        model="model",
        step=8,
    )
    crashed = run(
        one,
        ending="crashed",
        exit_code=1,
        error="ValueError: loss is NaN",
        notes=("Steps 9 to 11 were not sampled: memory was short.",),
    )
    return diagnosis(crashed, (finding,), "diverging")


def recurrent(length: int = 60) -> Diagnosis:
    """An opened RNN that forgets its past: ×0.79 a time step."""
    rows = [
        Row("embed", "Embedding", (Op("EmbeddingBackward0", "weight", 0.0),)),
        *(
            Row(
                "rnn",
                "RNNCell",
                (
                    Op("MmBackward0", "recurrence", -0.06 + wobble(t), weight="rnn.weight_hh"),
                    Op("TanhBackward0", "slope", -0.04 + wobble(t + 3, 0.01)),
                ),
                call=t,
                signals={"activation": "tanh", "slope_rms": 0.91, "saturated_share": 0.02},
            )
            for t in range(length)
        ),
        linear("head", -0.1),
    ]
    levels = tuple(TimeStep(t, -1.3 - 0.1 * (length - 1 - t)) for t in range(length))
    forget = Recurrence("rnn", "rnn.weight_hh", levels)
    one = replace(
        model(rows, "tagger", "Tagger", (1.6, 1.1)),
        traces=tuple(trace(rows, step, 1.6, recurrences=(forget,)) for step in SAMPLED),
        optimizer=ADAM,
    )
    finding = replace(
        VANISHING_BY_SLOPE,
        code="VG106",
        title="The recurrent signal keeps ×0.79 a time step, 10^-5.9 over 60.",
        factor="recurrence",
        where=Where("rnn", "MmBackward0", 0, None),
        explains=(),
        model="tagger",
        remedy="Use an LSTM, or initialise the recurrent weights orthogonally.",
    )
    return diagnosis(run(one), (finding,), "falling")


def gan() -> Diagnosis:
    """Two models in one script: a healthy generator and a vanishing discriminator."""
    generator = model(relu_rows(5, prefix="up"), "generator", "Generator", (0.9, 0.7))
    critic = model(sigmoid_rows(12, prefix="down"), "discriminator", "Critic", (0.69, 0.69))
    return diagnosis(
        run(generator, replace(critic, optimizer=ADAM)),
        (
            replace(VANISHING_BY_SLOPE, model="discriminator", where=Where("down.1")),
            replace(HEALTHY, model="generator"),
        ),
    )


def residual(blocks: int = 12) -> Diagnosis:
    """A residual net: merge terms on the path, blocks of five calls, side branches."""
    rows: list[Row] = [linear("stem", 0.0, kind="Conv2d")]
    for block in range(blocks):
        name = f"blocks.{block}"
        rows += [
            Row(f"{name}.norm1", "BatchNorm2d", (Op("NativeBatchNormBackward0", "norm", 0.1),)),
            activation(f"{name}.relu", "ReLU", -0.15, off_share=0.5),
            linear(f"{name}.conv1", 0.02 + wobble(block), kind="Conv2d"),
            Row(f"{name}.norm2", "BatchNorm2d", (Op("NativeBatchNormBackward0", "norm", 0.08),)),
            Row(
                name,
                "Block",
                (Op("AddBackward0", "merge", 0.0, merge=0.031 + wobble(block, 0.004)),),
            ),
        ]
    rows.append(linear("head", -0.05))
    segments = (Segment("AddBackward0", "blocks.0", "AddBackward0", "blocks.1", 0.08, 7),)
    one = model(rows, kind="ResNet", losses=(2.3, 0.4))
    one = replace(one, traces=tuple(replace(t, segments=segments) for t in one.traces))
    return diagnosis(run(one), (HEALTHY,), "falling")


def cut() -> Diagnosis:
    """A detach in the middle: the first layers get no gradient, and no path reaches the input."""
    rows = relu_rows(6)
    whole = trace(rows)
    cut_layers = tuple(
        replace(layer, level_log10=None, gain_log10=None, factors_log10={}, blame_log10={},
                on_main_path=False, grad_log10=None)
        if position < 6 else layer
        for position, layer in enumerate(whole.layers)
    )  # fmt: skip
    kept = whole.main_path
    assert kept is not None
    edges = tuple(e for e in kept.edges if e.module is None or int(e.module[4:]) > 6)
    path = replace(
        kept,
        source_module="net.6",
        source_level_log10=math.fsum(e.gain_log10 + e.merge_log10 for e in edges),
        edges=edges,
    )
    one = model(rows)
    signals = tuple(
        replace(p, grad_log10=None, update_ratio_log10=None)
        if int(p.name.split(".")[1]) < 6 else p
        for p in whole.parameters
    )  # fmt: skip
    parameters = tuple(
        replace(p, gradient="none") if int(p.module[4:]) < 6 else p for p in one.parameters
    )
    one = replace(
        one,
        traces=(replace(whole, layers=cut_layers, main_path=path, parameters=signals),),
        parameters=parameters,
    )
    finding = Finding(
        code="CG001",
        family="CG",
        verdict="cut-graph",
        severity="error",
        title="3 of 7 weights get no gradient: the graph is cut before `net.6`.",
        where=Where("net.5", None, 0, SourceLine("/home/ada/train.py", 52)),
        factor=None,
        evidence=(Evidence("parameters without a gradient", 3, 0),),
        remedy="Remove the detach() before net.6.",
        model="model",
        step=0,
    )
    return diagnosis(run(one), (finding,))


HOSTILE_NAMES = (
    "</script><b>bold</b>",
    "[red]x[/]",
    "<img src=x onerror=alert(1)>",
    "layer\x1b[31m\nred\u202egnp",
    "n" * 2000,
    "线性层.卷积",
    "%{x}<br>$\\alpha$ & \u2028 &amp;",
)


def hostile() -> Diagnosis:
    """A healthy-looking net whose layer names try to break out of every format."""
    rows = [linear("first", 0.0)]
    for index, name in enumerate(HOSTILE_NAMES):
        rows.append(linear(name, -0.3 + wobble(index)))
        rows.append(activation(f"{name}.act", "Sigmoid", -0.6))
    finding = replace(
        VANISHING_BY_SLOPE,
        title=f"The slope in `{HOSTILE_NAMES[0]}` is too small.",
        where=Where(HOSTILE_NAMES[0], "SigmoidBackward0", 0, SourceLine("/tmp/<b>.py", 3)),
        remedy="Rename [bold]it[/bold] </script>.",
    )
    one = model(rows, kind="<i>Net</i>")
    return diagnosis(
        run(one, command=("</script><script>alert(2)</script>.py",), error="[red]boom[/red]"),
        (finding,),
    )


def nothing_measured() -> Diagnosis:
    """A run that ended before its first backward could be sampled."""
    one = ModelRun("model", "Net", (), (StepRecord(0, 2.3),), None, ())
    return diagnosis(run(one, notes=("No backward pass could be measured.",)), (), "too-short")


def every_diagnosis() -> dict[str, Diagnosis]:
    """All of them, by name, for tests that must hold everywhere."""
    return {
        "vanishing": vanishing(),
        "healthy": healthy(),
        "saturated": saturated(),
        "nonfinite": nonfinite(),
        "recurrent": recurrent(),
        "gan": gan(),
        "residual": residual(),
        "cut": cut(),
        "hostile": hostile(),
        "deep": vanishing(500),
        "empty": nothing_measured(),
    }
