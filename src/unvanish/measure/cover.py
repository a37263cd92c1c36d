"""What a traced backward covers: models, calls, parameters, and how they are named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from unvanish.measure.calls import ModuleCall
from unvanish.measure.names import Names, unwrapped
from unvanish.measure.passes import BackwardPass, ParameterSlots
from unvanish.measure.sharding import is_partial

if TYPE_CHECKING:
    from unvanish.measure.trace import BackwardTracer


class Cover:
    """The calls and the passes of one traced backward, and the models that they belong to.

    `models` are the user's root modules that it covers, without wrappers; `idle_models` were called
    as well, but their outputs have no part in this loss (detached, or another model's turn).
    `named_parameters` gives by id the dotted name and the owner of each parameter of the `models`.
    """

    def __init__(self, tracer: BackwardTracer) -> None:
        self._tracer = tracer
        nested = [call for item in tracer.nested for call in item.calls]
        tracer.names.learn([*tracer.calls, *tracer.idle, *nested])
        self.calls = [*tracer.calls, *nested]  # those of recomputed checkpoints included
        self.models = self._roots(self.calls)
        idle = self._roots(tracer.idle)
        self.idle_models = tuple(model for model in idle if model not in self.models)
        self.named_parameters = self._name_parameters()

    # --- passes and parameters -----------------------------------------------------------------

    def passes(self) -> list[BackwardPass]:
        """Return the traced pass, and those that ran inside it."""
        return [self._tracer.measured, *(item.measured for item in self._tracer.nested)]

    def gradient_slots(self) -> dict[int, ParameterSlots]:
        """Return where the reducer has the gradient of each parameter that was reached, by id."""
        return {
            self.own_id(key): slots
            for item in self.passes()
            for key, slots in item.parameters.items()
        }

    def reached(self) -> dict[int, Tensor]:
        """Return the parameters (leaves) that this backward reached, by id."""
        found: dict[int, Tensor] = {}
        for measured in self.passes():
            for op in measured.graph.ops:
                if op.variable is not None and id(op.variable) in measured.parameters:
                    own = self._tracer.gathered.get(id(op.variable), op.variable)
                    found[id(own)] = own
        return found

    def spread(self) -> frozenset[str]:
        """Return the names of parameters of which this process holds only a part."""
        return frozenset(
            name
            for name, owner in self.named_parameters.values()
            if is_partial(getattr(owner, name.rpartition(".")[2], None))
        )

    def own_id(self, identity: int) -> int:
        """Return the id of the parameter that the optimiser holds: FSDP2 gathers another."""
        own = self._tracer.gathered.get(identity)
        return identity if own is None else id(own)

    def trainable(self) -> Iterator[tuple[Tensor, int, str]]:
        """Yield each parameter that is trained, with its id and its name."""
        seen: set[int] = set()
        for module in self.modules():
            for parameter in module.parameters(recurse=False):
                own = self._tracer.gathered.get(id(parameter), parameter)
                if parameter.requires_grad and id(own) not in seen:
                    seen.add(id(own))
                    yield own, id(own), self.named_parameters[id(own)][0]

    # --- modules -------------------------------------------------------------------------------

    def modules(self) -> list[nn.Module]:
        """Return every module of the models, and every other that was called, once."""
        inside = [module for root in self.models for module in root.modules()]
        called = [unwrapped(call.module) for call in self.calls]
        return list(dict.fromkeys([*inside, *called]))

    def called_modules(self) -> tuple[nn.Module, ...]:
        """Return every module that was called to be trained, once.

        That is with gradients enabled, or by a reentrant checkpoint, which enables them later.
        """
        called = [call.module for call in (*self.calls, *self._tracer.idle)]
        return tuple(dict.fromkeys(map(unwrapped, [*called, *self._tracer.checkpointed])))

    def signature(self) -> tuple[Any, ...]:
        """Return what tells two backward passes of one step apart: models, loss op, size."""
        graph = self._tracer.measured.graph
        root = graph.ops[graph.roots[0]]
        return (tuple(id(model) for model in self.models), root.name, len(graph.ops))

    def _roots(self, calls: Sequence[ModuleCall]) -> tuple[nn.Module, ...]:
        """Return the user's root modules: those with parameters, or all if none has any."""
        names = self._tracer.names
        roots = dict.fromkeys(
            names.root_of(unwrapped(call.module)) for call in calls if call.parent is None
        )
        real = [root for root in roots if next(root.parameters(), None) is not None]
        return tuple(real or roots)

    # --- names ---------------------------------------------------------------------------------

    def names(self) -> Names:
        """Return how ops are named in the records."""
        return Names(
            book=self._tracer.names,
            calls=self.calls,
            parameters=self._parameter_names(),
            prefix_roots=len(self.models) > 1,
        )

    def _name_parameters(self) -> dict[int, tuple[str, nn.Module]]:
        """Return names by id; of several models each name begins with its model's, as of layers."""
        names = self._tracer.names
        named = names.parameter_names(self.modules())
        found = {self.own_id(identity): item for identity, item in named.items()}
        if len(self.models) < 2:
            return found
        return {
            identity: (f"{names.root_name(names.root_of(owner))}.{name}", owner)
            for identity, (name, owner) in found.items()
        }

    def _parameter_names(self) -> dict[int, str]:
        named = {key: name for key, (name, _module) in self.named_parameters.items()}
        leaves = {key: self.own_id(key) for key in self._tracer.gathered}
        return named | {leaf: named[own] for leaf, own in leaves.items() if own in named}
