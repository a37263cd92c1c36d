"""The trace of a sampled step. Its hooks are there for that one step and no longer."""

from __future__ import annotations

import contextlib
import io
import weakref
from collections.abc import Collection, Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from unvanish.errors import NoSignalError
from unvanish.measure import BackwardTracer, CallLog, NameBook, PendingTrace, TraceOptions
from unvanish.measure.sharding import named_parameters
from unvanish.monitor.closing import Closing, Pass
from unvanish.monitor.lane import Lane
from unvanish.monitor.listener import BackwardCall
from unvanish.monitor.losses import Reading
from unvanish.monitor.naming import script_name
from unvanish.records import Trace


class Sampler:
    """Traces the first backward pass of a step that reaches the model's parameters."""

    def __init__(self, lane: Lane, model: weakref.ref[nn.Module], *, replay: bool) -> None:
        """`model` is the one of `lane`.

        `replay`: also probe the network and open fused layers, on a replay of the batch.
        """
        self.names = NameBook(script_name)
        self.armed = False
        self._lane = lane
        self._model = model
        self._replay = replay
        self._log = CallLog(keep_inputs=replay, samples=replay)
        self._kept: Pass | None = None

    def arm(self) -> None:
        """Record the module calls of the coming forward."""
        self._kept = None
        self._log.install()
        self._log.active = True
        self.armed = True

    def disarm(self) -> None:
        """Take the hooks on modules off."""
        self.armed = False
        self._log.remove()

    @property
    def traced(self) -> bool:
        """Whether a pass of this step is traced already."""
        return self._kept is not None

    def begin(self, roots: Sequence[Tensor], parameters: Collection[int]) -> BackwardTracer | None:
        """Put hooks on the graph of `roots`; `parameters` are the ids of what is trained."""
        options = TraceOptions(
            probes=TraceOptions().probes if self._replay else 0,
            open_fused=self._replay,
            inputs=self._replay,
            keep_ops=self._replay,
            parameters=frozenset(parameters),
        )
        try:
            tracer = BackwardTracer(roots, self._log, self.names, options)
        except NoSignalError:
            return None
        tracer.__enter__()
        return tracer

    def end(
        self,
        tracer: BackwardTracer,
        call: BackwardCall,
        loss: Reading,
        loss_scale: float,
        parameters: Collection[int],
    ) -> bool:
        """Keep what was traced, if it reached one of `parameters`; return whether it did."""
        number = loss if isinstance(loss, float) else None
        pending = tracer.pending(step=0, loss=number, loss_scale=loss_scale)
        reached = pending.parameters
        self._log.calls = []
        if reached and parameters and not any(identity in parameters for identity in reached):
            return False
        # What the user's modules print when they run again is not the script's output.
        if self._replay:
            with contextlib.redirect_stdout(io.StringIO()):
                pending.replay()
        self.disarm()
        self._kept = Pass(
            site=call.site,
            loss=loss,
            inside_step=False,
            auxiliary=False,
            steps_before=0,
            pending=pending,
            reached=reached,
        )
        return True

    def send(self, step: int, optimizers: Sequence[Optimizer]) -> SampledTrace | None:
        """Start to send what was traced at `step` to the host."""
        kept, self._kept = self._kept, None
        if kept is None or kept.pending is None:
            return None
        self._lane.optimizers = [weakref.ref(optimizer) for optimizer in optimizers]
        kept.pending.send()
        held = self._lane.held()
        optimised = held | self._of_others(kept.pending) if held else None
        closing = Closing(self._lane, step, [kept], set(), held, optimised)
        return SampledTrace(closing, self.names)

    def _of_others(self, pending: PendingTrace) -> frozenset[int]:
        """Return the ids of the parameters of other models that the loss passed through.

        They are their own optimisers' (a generator's loss passes its discriminator).
        """
        model = self._model()
        return frozenset(
            id(parameter)
            for root in pending.models
            if all(part is not model for part in root.modules())
            for _name, parameter in named_parameters(root)
        )


class SampledTrace:
    """A traced pass on its way to the host."""

    def __init__(self, closing: Closing, names: NameBook) -> None:
        self.closing = closing
        self._names = names

    def ready(self) -> bool:
        """Whether `resolve` would not have to wait."""
        return all(one.pending is None or one.pending.ready() for one in self.closing.passes)

    def see_units(self, lane: Lane) -> None:
        """Let `lane` remember which units were on, while all is still on the device."""
        for one in self.closing.passes:
            if one.pending is not None:
                lane.see_units(one.pending)

    def resolve(self) -> Trace:
        """Hand the trace to the lane, and return it."""
        self.closing.resolve(self._names)
        return self.closing.lane.traces[-1]
