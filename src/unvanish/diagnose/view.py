"""What a rule looks at: one model of a run, prepared once, read only.

Rules stay short because the work is here: traces with their trunks, the state of training, the
optimiser, the thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

from unvanish.diagnose.sickness import Sickness, find_sickness
from unvanish.diagnose.training import TrainingState, training_state
from unvanish.diagnose.trunk import Place, Trunk
from unvanish.records import LayerSignal, ModelRun, OptimizerFacts, SourceLine, Trace

_ZERO_BY_DESIGN = ("weight", "norm", "gate", "shown")


class TraceView:
    """One traced step: the trace, and the trunk of each of its sources (the farthest first)."""

    def __init__(
        self, trace: Trace, saturated: float, born_zero: frozenset[Place] = frozenset()
    ) -> None:
        """Prepare `trace`; the other arguments are those of `Trunk`."""
        self.trace = trace
        self.step = trace.step
        self._saturated = saturated
        self._born_zero = born_zero

    @cached_property
    def trunks(self) -> tuple[Trunk, ...]:
        """The trunks that can be judged, the main one first; none without a backward signal."""
        output = self.trace.output_level_log10
        if output is not None and not math.isfinite(output):
            return ()  # the loss itself sends nothing, or nothing finite
        main = self.trace.main_path
        paths = [] if main is None else [main, *(p for p in self.trace.paths if p != main)]
        trunks = [Trunk(path, self.trace, self._saturated, self._born_zero) for path in paths]
        return tuple(trunk for trunk in trunks if not trunk.broken and trunk.path.edges)

    @property
    def trunk(self) -> Trunk | None:
        """The main trunk."""
        return self.trunks[0] if self.trunks else None

    def layer(self, module: str | None, call: int = 0) -> LayerSignal | None:
        """Return the row of a module call, if there is one."""
        return self._by_call.get((module, call))

    @cached_property
    def _by_call(self) -> dict[tuple[str | None, int], LayerSignal]:
        return {(row.module, row.call): row for row in reversed(self.trace.layers)}


class View:
    """One model of a run."""

    def __init__(self, model: ModelRun, limit: Callable[[str], float]) -> None:
        """Prepare `model`; `limit` gives the value of a named threshold."""
        self.model = model
        self.limit = limit

    @cached_property
    def traces(self) -> tuple[TraceView, ...]:
        """All traced steps, in order."""
        saturated = self.limit("saturated-layer")
        views: list[TraceView] = []
        zero: set[Place] = set()
        for trace in self.model.traces:
            view = TraceView(trace, saturated, frozenset(zero))
            cuts = [trunk.cut for trunk in view.trunks if trunk.cut is not None]
            zero |= {(c.edge.module, c.edge.op) for c in cuts if c.part in _ZERO_BY_DESIGN}
            views.append(view)
        return tuple(views)

    @cached_property
    def training(self) -> TrainingState:
        """What training does."""
        return training_state(self.model.steps, self.limit)

    @cached_property
    def guess(self) -> float | None:
        """The cross-entropy of one guess in as many as there are classes; None: another loss.

        Nor is it known of a sum of several losses, of which the head is one.
        """
        head = self.traces[0].trace.head if self.traces else None
        if head is None or len(self.traces[0].trace.loss_terms) > 1:
            return None
        if not head.op.startswith("LogSoftmax") or head.reduction != "mean":
            return None
        if head.constant_log10 != 0 or len(head.output_shape) < 2 or head.output_shape[1] < 2:
            return None
        return math.log(head.output_shape[1])

    @property
    def optimizer(self) -> OptimizerFacts | None:
        """The optimiser, if one was seen."""
        return self.model.optimizer

    @property
    def rescales(self) -> bool:
        """The optimiser's update does not depend on the gradient's scale."""
        return self.optimizer is not None and self.optimizer.rescales

    @cached_property
    def vanishing(self) -> Sickness | None:
        """The trunk that loses the signal, if one does."""
        return find_sickness(self, "vanishing")

    @cached_property
    def exploding(self) -> Sickness | None:
        """The trunk that blows the signal up, if one does."""
        return find_sickness(self, "exploding")

    @cached_property
    def nonfinite_step(self) -> int | None:
        """The first step at which something was seen that is not finite."""
        steps = [trace.step for trace in self.traces if trace.trace.nonfinite is not None]
        if self.training.nonfinite_step is not None:
            steps.append(self.training.nonfinite_step)
        return min(steps, default=None)

    def source(self, module: str | None) -> SourceLine | None:
        """Return the user's source line of a module, from the first trace that knows it."""
        for view in self.traces:
            row = view.layer(module)
            if row is not None and row.source is not None:
                return row.source
        return None
