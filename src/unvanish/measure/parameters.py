"""What a pass and the step behind it say of parameters: gradients, weights, updates."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unvanish.measure.cover import Cover
from unvanish.measure.reduce import Reducer, join_log10
from unvanish.records import ParameterSignal, StepGradient


@dataclass(frozen=True, slots=True)
class ParameterUpdate:
    """What an optimiser's step did to one parameter."""

    update_ratio_log10: float
    lr: float | None = None
    group: int | None = None
    predicted_change: float | None = None  # inner product of `.grad` and what the step changed
    taken_log10: float | None = None  # norm of `.grad` when the step began; None: it had none
    erased: bool = False  # there was no `.grad` when the step began


class Parameters:
    """The trainable parameters of a pass, by id: name, slot of the norm."""

    def __init__(self, cover: Cover, reducer: Reducer, known: Mapping[int, int]) -> None:
        """Queue the norms; `known` are slots by id of those that are queued already."""
        self._cover = cover
        self._slots = {
            identity: (name, known[identity] if identity in known else reducer.norm(parameter))
            for parameter, identity, name in cover.trainable()
        }

    def signals(
        self, values: list[float], updates: Mapping[int, ParameterUpdate]
    ) -> tuple[ParameterSignal, ...]:
        """Return the signal of each, in the model's order."""
        reached = self._cover.gradient_slots()
        found = []
        for identity, (name, weight) in self._slots.items():
            slots, update = reached.get(identity), updates.get(identity)
            found.append(
                ParameterSignal(
                    name=name,
                    grad_log10=None if slots is None else values[slots.gradient],
                    weight_log10=values[weight],
                    zeros=None if slots is None else int(values[slots.zeros]),
                    subnormals=_count(values, slots.subnormals if slots else None),
                    nonfinite=_count(values, slots.nonfinite if slots else None) or 0,
                    update_ratio_log10=update.update_ratio_log10 if update else None,
                )
            )
        return tuple(found)

    def by_module(
        self, values: list[float], updates: Mapping[int, ParameterUpdate]
    ) -> dict[int, dict[str, Any]]:
        """Return, by id of module, the fields of its row that concern its own parameters."""
        reached = self._cover.gradient_slots()
        found: dict[int, dict[str, Any]] = {}
        for module in self._cover.modules():
            own = [item for item in module.parameters(recurse=False) if id(item) in self._slots]
            if not own:
                continue
            keys = [id(item) for item in own]
            gradients = [values[reached[key].gradient] for key in keys if key in reached]
            fields: dict[str, Any] = {
                "weight_log10": join_log10([values[self._slots[key][1]] for key in keys]),
                "grad_log10": join_log10(gradients) if gradients else None,
            }
            known = [(key, updates[key]) for key in keys if key in updates]
            if known:
                # ||dw|| of all own parameters over ||w|| of all.
                steps = [
                    update.update_ratio_log10 + values[self._slots[key][1]]
                    for key, update in known
                    if math.isfinite(update.update_ratio_log10)
                    and math.isfinite(values[self._slots[key][1]])
                ]
                fields["update_ratio_log10"] = join_log10(steps) - fields["weight_log10"]
                fields["lr"] = known[0][1].lr
                fields["optimizer_group"] = known[0][1].group
            found[id(module)] = fields
        return found

    def step_gradient(
        self,
        values: list[float],
        updates: Mapping[int, ParameterUpdate],
        leftover: Mapping[int, int],
        opened_for: Collection[int],
        loss_scale: float,
    ) -> StepGradient | None:
        """Return what the step took of the gradient, over the parameters that both concern."""
        slots = self._cover.gradient_slots()
        taken = {
            key: update.taken_log10
            for key, update in updates.items()
            if update.taken_log10 is not None and key in slots
        }
        scale = math.log10(loss_scale) if loss_scale > 0 else 0.0
        if not taken:
            # No `.grad` may be left of what this pass gave: then the step took nothing.
            both = [key for key in updates if key in slots]
            if not both or not all(updates[key].erased for key in both):
                return None
            fresh = join_log10([values[slots[key].gradient] for key in both])
            return StepGradient(fresh - scale, -math.inf)
        left = [values[slot] for key, slot in leftover.items() if key in opened_for]
        return StepGradient(
            fresh_log10=join_log10([values[slots[key].gradient] for key in taken]) - scale,
            taken_log10=join_log10(list(taken.values())),
            leftover_log10=join_log10(left) if opened_for else None,
            predicted_change=sum(updates[key].predicted_change or 0.0 for key in taken),
        )


def _count(values: Sequence[float], slot: int | None) -> int | None:
    return None if slot is None else int(values[slot])
