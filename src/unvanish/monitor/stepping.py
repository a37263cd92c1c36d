"""One step of the watched model as it is seen: whose passes made it, and what is noted of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch.optim import Optimizer

from unvanish.monitor.cadence import Look as Kind
from unvanish.monitor.gauge import Levels, Look
from unvanish.monitor.losses import Reading
from unvanish.monitor.optimizers import local
from unvanish.monitor.sampler import SampledTrace
from unvanish.records import Phase, StepRecord

_MARKERS = 8  # parameters that tell whether a backward was one of ours
_RATES_MOST = 16  # learning rates noted, by parameter group


class Markers:
    """A few of the model's parameters, to see whether a backward reached them."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        stride = max(1, len(parameters) // _MARKERS)
        self._chosen = [*parameters[::stride][:_MARKERS], *parameters[-1:]]

    def state(self) -> list[tuple[int, int]]:
        """Return what changes when a gradient arrives: which tensor it is, and its version."""
        gradients = [parameter.grad for parameter in self._chosen]
        return [(0, 0) if g is None else (id(g), g._version) for g in gradients]


@dataclass(slots=True, eq=False)
class SeenPass:
    """A backward pass that no step has claimed yet."""

    loss: Reading
    scale: Reading
    reached: bool  # one of the model's marked parameters
    auxiliary: bool  # its gradient is an ingredient of another loss
    inside_step: bool


@dataclass(slots=True, eq=False)
class Step:
    """A step under way, then one whose numbers are under way."""

    number: int
    kind: Kind
    losses: list[Reading]
    loss_scale: Reading = 1.0
    backwards: int = 0
    inside: int = 0  # of these, in a closure inside the optimiser's step
    rates: list[Reading] = field(default_factory=list)
    clip: Reading | None = None
    skipped: Reading = 0.0
    gradients_scaled: bool = False  # the optimiser unscales them itself
    stepped: set[int] = field(default_factory=set)  # ids of optimisers
    look: Look | None = None
    trace: SampledTrace | None = None
    levels: Levels | None = None

    def readings(self) -> list[Reading]:
        """Return the numbers that may be on a device, in the order `record` wants them."""
        clip = 1.0 if self.clip is None else self.clip
        return [self.loss_scale, clip, self.skipped, *self.losses, *self.rates]

    def on_device(self) -> bool:
        """Whether a number has to be sent to the host."""
        return any(isinstance(item, Tensor) for item in self.readings())

    def record(self, values: Iterator[float], rank: int) -> StepRecord:
        """Return the record; `values` gives `readings()` as numbers."""
        scale, clip, skipped = next(values), next(values), next(values)
        losses = [next(values) for _ in self.losses]
        rates = [next(values) for _ in self.rates]
        phase: Phase = "scaled" if self.gradients_scaled else "unscaled"
        joint = None if self.levels is None else self.levels.joint_gradient()
        return StepRecord(
            step=self.number,
            loss=float(sum(losses)) if losses else math.nan,
            sampled=self.kind == "sampled",
            skipped=skipped != 0.0,
            backwards=self.backwards,
            phase="clipped" if self.clip is not None else phase,
            loss_scale=scale,
            clip_log10=None if self.clip is None else _log(clip),
            lr=tuple(rates),
            rank=rank,
            gradient_log10=joint,
        )


def claim(passes: Sequence[SeenPass]) -> list[SeenPass]:
    """Return those of the open passes that the model's step rests on."""
    return [one for one in passes if one.reached] or list(passes)


def adding_up(passes: Sequence[SeenPass]) -> list[Reading]:
    """Return the losses that add up to the step's: of a closure that runs often, the first."""
    main = [one for one in passes if not one.auxiliary] or list(passes)
    outside = [one.loss for one in main if not one.inside_step]
    inside = [one.loss for one in main if one.inside_step]
    return [*outside, *inside[:1]]


def rates_of(optimizers: Sequence[Optimizer]) -> list[Reading]:
    """Return the learning rate of each parameter group."""
    rates = [group.get("lr") for one in optimizers for group in one.param_groups]
    return [_reading(rate) for rate in rates[:_RATES_MOST]]


def _reading(value: object) -> Reading:
    if isinstance(value, Tensor):
        scalar = local(value)
        return float(scalar) if scalar.device.type == "cpu" else scalar.clone()
    return float(value) if isinstance(value, int | float) else math.nan


def _log(factor: float) -> float:
    if factor <= 0:
        return -math.inf
    return math.log10(factor) if math.isfinite(factor) else factor
