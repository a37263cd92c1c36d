"""A run: what is known of its models, its steps and its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from unvanish.records.findings import Finding
from unvanish.records.trace import NonFinite, Trace
from unvanish.records.vocabulary import Ending, GradientState, Phase
from unvanish.shown import Shown


@dataclass(frozen=True, slots=True)
class ParameterFacts:
    """What is known of one parameter over a whole run."""

    name: str
    module: str
    type: str  # class of the owning module
    numel: int
    requires_grad: bool
    registered: bool  # found under the root module (False: reached by backward only)
    in_optimizer: bool | None  # None: no optimiser was seen
    called: bool  # its module was called, with gradients enabled
    gradient: GradientState  # the best state seen over all traced steps
    weight_log10: float | None = None


@dataclass(frozen=True, slots=True)
class OptimizerFacts:
    """The optimiser that steps a model."""

    name: str  # class name
    lr: tuple[float, ...]  # by parameter group, at the first sampled step
    rescales: bool  # the update does not depend on the gradient's scale (Adam, RMSprop, ...)
    eps: float | None = None
    weight_decay: float | None = None
    momentum: float | None = None
    orphans: int = 0  # parameters that it holds, and that no watched model has or loss reaches
    stepped: bool = True  # False: it holds this model's parameters, and never made a step


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What is known of every step, sampled or not."""

    step: int
    loss: float  # unscaled; nan and inf as they were
    sampled: bool = False
    skipped: bool = False  # the scaler skipped the optimiser's step
    backwards: int = 1  # backward passes since the last step: accumulation
    phase: Phase = "unscaled"  # of the gradients that the optimiser was given
    loss_scale: float = 1.0  # of a gradient scaler
    clip_log10: float | None = None  # factor of clipping, 0: it let them pass; None: none was seen
    lr: tuple[float, ...] = ()  # by parameter group
    rank: int = 0  # of the process that saw it
    gradient_log10: float | None = None  # joint norm, unscaled; None: not measured at this step


@dataclass(frozen=True, slots=True)
class Readings:
    """One quantity at one step, for many parameters or layers at once.

    Norms and ratios are log10, and so are counts: `-inf` is none.
    """

    quantity: str  # "gradient", "weight", "update", "zeros", "subnormals", "nonfinite", "level"
    step: int
    names: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Incident:
    """Something went wrong between two looks: what the last steps before it were like."""

    step: int  # the first bad step that is known
    seen_at: int  # the step at which it was noticed
    kind: Literal["nonfinite", "spike"]
    quantity: str  # "loss", "gradient" or "weight"
    value: float
    usual: float | None = None  # median of the steps before, for a spike
    model: str = ""
    parameter: str | None = None  # the first, in the model's order, that was not finite
    guilty: NonFinite | None = None  # the op, where it was seen
    command: str = ""  # runs the script again with that step sampled
    steps: tuple[StepRecord, ...] = ()
    readings: tuple[Readings, ...] = ()
    traces: tuple[Trace, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class ModelRun:
    """One model, which is one optimiser's parameters, over a run."""

    name: str
    type: str
    traces: tuple[Trace, ...]
    steps: tuple[StepRecord, ...] = ()
    optimizer: OptimizerFacts | None = None
    parameters: tuple[ParameterFacts, ...] = ()
    always_dead: Mapping[str, float] = field(default_factory=dict)
    # layer key "module#call" -> share of units with slope 0 in every traced batch

    def __repr__(self) -> str:
        return f"<ModelRun {self.type}: {len(self.steps)} steps, {len(self.traces)} traces>"


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a run happened."""

    python: str
    torch: str
    platform: str
    device: str
    distributed: str | None = None  # "rank 0 of 2"


@dataclass(frozen=True, slots=True, repr=False)
class Run(Shown):
    """A watched run, or one check: everything that diagnosis needs."""

    id: str
    kind: Literal["run", "check", "watch", "monitor"]
    created: str  # ISO 8601, UTC
    command: tuple[str, ...]
    directory: str
    tool_version: str
    environment: Environment
    models: tuple[ModelRun, ...]
    ending: Ending = "finished"
    exit_code: int = 0  # of the user's script
    error: str | None = None  # last line of the script's traceback
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    alarms: tuple[Finding, ...] = ()  # raised while it ran
    incidents: tuple[Incident, ...] = ()

    def __repr__(self) -> str:
        steps = max((len(model.steps) for model in self.models), default=0)
        return f"<Run {self.id}: {self.kind}, {steps} steps, {self.ending}>"
