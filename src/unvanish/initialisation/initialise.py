"""`unvanish.init_`: read the structure, plan, correct on the batch, and only then write."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn

from unvanish.errors import UnknownNameError, UsageError
from unvanish.i18n import _
from unvanish.initialisation.correct import TOLERANCE, Corrector, Gains
from unvanish.initialisation.links import SCHEMES, Link, Scheme, links_of, units_of
from unvanish.initialisation.observe import (
    Forward,
    Observation,
    differentiable,
    forward_of,
    guessed,
    observe_either,
    ordinary,
    require_finite,
)
from unvanish.initialisation.parameters import Owned, parameters_of
from unvanish.initialisation.plan import InitPlan, InitRow, Source
from unvanish.initialisation.special import special
from unvanish.initialisation.structure import End, Structure, in_module_order, read
from unvanish.initialisation.weights import Around, Draft, Target, weight_and_bias
from unvanish.measure.names import unwrapped


def init_(
    model: nn.Module,
    batch: Any = None,
    *,
    scheme: str = "auto",
    loss_fn: Callable[[Any, Any], Any] | None = None,
    dry_run: bool = False,
    generator: Generator | None = None,
) -> InitPlan:
    """Set the weights and biases of `model` to where its signals neither vanish nor explode.

    What follows each weight (activation, normalisation, sum, attention) is read off a trace of the
    model on `batch`: a tensor, a tuple of which the model takes as many as it needs, a mapping of
    keywords; or whatever `loss_fn(model, batch)` takes. With a batch the scales are then corrected
    layer by layer by measurement, forward and backward, until each gain is 1 within
    `plan.tolerance`. Without one the trace is of random input that fits the first layer; where that
    fails, the order of modules is taken, and the plan says so.

    `scheme`: "auto" (orthogonal; chains of four activations or more as mirrored pairs, which start
    as a linear network), "orthogonal", "gaussian", "mirrored", "zero_branches" (as "auto", with
    residual branches closed), "dks" and "tat" (an activation shaped for the depth of its chain,
    folded into weights and biases). With `dry_run` nothing is written. Without a `generator` the
    draws follow from torch's global random state, which is read and not moved.

    Left alone, with the reason in the plan: frozen parameters (freeze what is pretrained) and
    whatever is not understood.
    Buffers, gradients, modes, hooks and random states are as before, also after an exception.

    Raises UsageError for an argument that cannot be used, UserCodeError where the model raises,
    NoSignalError where its output depends on no parameter that requires a gradient.
    """
    _require_usable(model, batch, scheme, loss_fn)
    model = unwrapped(model)
    chosen: Scheme = scheme  # type: ignore[assignment] # one of SCHEMES, as checked
    owned = parameters_of(model)
    generator = generator or _from_global_state()
    if not owned:
        note = _("The model has no parameters: there is nothing to initialise.")
        return InitPlan(scheme, (), (note,), "module order", False, TOLERANCE, not dry_run)
    planner = _Planner(model, owned, chosen, generator)
    with torch.inference_mode(False):
        forwards = None
        if batch is not None or loss_fn is not None:
            batch = ordinary(batch)
            forwards = (
                forward_of(model, differentiable(batch), loss_fn),
                forward_of(model, batch, loss_fn),
            )
        plan = planner.plan(forwards, applied=not dry_run)
        if not dry_run:
            _write(planner.values, owned)
    return plan


def _require_usable(model: Any, batch: Any, scheme: Any, loss_fn: Any) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError(
            _("the model is of type {kind}, not a torch.nn.Module").format(
                kind=type(model).__name__
            ),
            _("Call init_(model) or init_(model, batch)."),
        )
    if scheme not in SCHEMES:
        raise UnknownNameError(_("scheme"), str(scheme), SCHEMES, _("Give one of these."))
    if loss_fn is not None and not callable(loss_fn):
        raise UsageError(
            _("the loss function is of type {kind}, which cannot be called").format(
                kind=type(loss_fn).__name__
            ),
            _("Give a function loss_fn(model, batch) that returns the loss."),
        )
    require_finite(batch)


def _from_global_state() -> Generator:
    """Return a generator that follows from torch's global state, which stays where it is.

    A digest, not the state itself: the weights are not to repeat what the user draws next.
    """
    digest = hashlib.blake2b(torch.get_rng_state().numpy().tobytes(), digest_size=7).digest()
    return Generator().manual_seed(int.from_bytes(digest, "little"))


@dataclass(slots=True)
class _Planner:
    model: nn.Module
    owned: dict[str, Owned]
    scheme: Scheme
    generator: Generator
    values: dict[str, Tensor] = field(default_factory=dict)
    texts: dict[str, tuple[str, str]] = field(default_factory=dict)  # what and why
    kept: dict[str, str] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def plan(self, forwards: tuple[Forward, Forward] | None, applied: bool) -> InitPlan:
        """Draft, correct where there is a batch, and return the record.

        `forwards` run the model on input that requires gradients, and on the batch as it is.
        """
        structure, source = self._structure(forwards)
        forward = None if forwards is None else forwards[1]
        links, notes = links_of(structure, self.owned, self.scheme)
        self.notes += notes
        self._draft(structure, links)
        gains = Gains({}, {}, {}, {})
        if forward is not None and self.values:
            gains = Corrector(
                self.model,
                forward,
                self.values,
                self.owned,
                structure,
                links,
                self.targets,
                self.generator,
            ).correct()
        self._tell(gains)
        for target in self.targets.values():
            if forward is not None and target.centre and target.bias in self.texts:
                why = self.texts[target.bias][1]
                self.texts[target.bias] = (_("minus the mean of each unit on the batch"), why)
        return InitPlan(
            scheme=self.scheme,
            rows=tuple(self._row(item, structure, gains) for item in self.owned.values()),
            notes=tuple(self.notes),
            structure=source,
            measured=forward is not None,
            tolerance=TOLERANCE,
            applied=applied,
        )

    def _structure(self, forwards: tuple[Forward, Forward] | None) -> tuple[Structure, Source]:
        names = {id(item.tensor): item.name for item in self.owned.values()}
        seen: Observation | None
        if forwards is not None:
            seen, source = observe_either(self.model, forwards, self.generator), "batch"
        else:
            seen, source = guessed(self.model, self.generator), "guessed input"
        if seen is None:
            self.notes.append(
                _(
                    "No random input fitted the model, so the structure is guessed from the order"
                    " of its modules: sums and functions such as F.relu are not seen. Give a batch."
                )
            )
            return in_module_order(self.model, names), "module order"
        if forwards is None:
            self.notes.append(
                _("Nothing was measured: scales are those of theory. Give a batch to correct them.")
            )
        structure = read(seen.measured, names)
        seen.measured.nodes = []
        return structure, "batch" if source == "batch" else "guessed input"

    def _draft(self, structure: Structure, links: dict[str, Link]) -> None:
        tied, trunk = self._embeddings(structure)
        for name, item in self.owned.items():
            if item.left is not None:
                self.kept[name] = item.left
            elif name in self.values:
                continue  # a bias, made with its weight
            elif name.replace("bias", "weight") in self.kept:  # never itself: a weight comes first
                self.kept[name] = _("left alone as its weight is")
            elif item.kind in ("dense", "conv", "dense (in, out)") and name in structure.sites:
                self._draft_weight(item, structure, links, trunk)
            elif isinstance(
                made := special(item, structure, self.scheme, tied, self.generator), str
            ):
                self.kept[name] = made
            else:
                self._take(name, made)

    def _embeddings(self, structure: Structure) -> tuple[bool, float]:
        """Return whether an embedding is the output layer too, and how large the embeddings are."""
        found = [item for item in self.owned.values() if item.kind == "embedding"]
        tied = [item for item in found if item.name in structure.sites]
        if not tied:
            return False, 1.0
        return True, math.sqrt(len(found) / tied[0].tensor.shape[-1])

    def _draft_weight(
        self, item: Owned, structure: Structure, links: dict[str, Link], trunk: float
    ) -> None:
        site = structure.sites[item.name]
        front = links.get(site.previous) if site.previous else None
        units = units_of(self.owned[site.previous]) if front and site.previous else None
        around = Around(item, site, front, links.get(item.name), units, self.scheme, trunk)
        weight, bias, target = weight_and_bias(around, self.generator)
        self._take(item.name, weight)
        if item.bias is not None and bias is not None and self.owned[item.bias].left is None:
            self._take(item.bias, bias)
        self.targets[item.name] = target

    def _take(self, name: str, draft: Draft) -> None:
        """Keep a draft's values in the parameter's own precision, and its reasons."""
        self.values[name] = draft.value.to(self.owned[name].tensor)
        self.texts[name] = (draft.what, draft.why)

    def _tell(self, gains: Gains) -> None:
        """Note the weights whose gains miss what they are meant to be by the tolerance."""
        for gain, direction in ((gains.forward, _("Forward")), (gains.backward, _("Backward"))):
            missed = [
                name
                for name, value in gain.items()
                if name in gains.design and abs(value / gains.design[name] - 1.0) > TOLERANCE
            ]
            if missed:
                self.notes.append(
                    _(
                        "{direction} gains that miss what they are meant to be by more than"
                        " {tolerance:.0%}: {count} (first: {name}, ×{gain:.3f}). What lies between"
                        " these layers does not let both directions be so."
                    ).format(
                        count=len(missed),
                        direction=direction,
                        tolerance=TOLERANCE,
                        name=missed[0],
                        gain=gain[missed[0]],
                    )
                )

    def _row(self, item: Owned, structure: Structure, gains: Gains) -> InitRow:
        what, why = self.texts.get(item.name) or (_("left alone"), self.kept.get(item.name, ""))
        site, is_set = structure.sites.get(item.name), item.name in self.values
        before = _rms(item.tensor)
        factor = gains.factor.get(item.name)
        return InitRow(
            parameter=item.name,
            shape=tuple(item.tensor.shape),
            action="set" if is_set else "kept",
            what=what,
            why=why,
            before=before,
            after=_rms(self.values[item.name]) if is_set else before,
            follows=_named(site.before) if site else "",
            feeds=_named(site.after) if site else "",
            forward_gain=gains.forward.get(item.name),
            backward_gain=gains.backward.get(item.name),
            corrected=factor,
        )


def _named(ends: tuple[End, ...]) -> str:
    words = {
        "activation": _("activation"),
        "norm": _("norm"),
        "attention": _("attention"),
        "gate": _("gate"),
        "weight": _("weight"),
        "sum": _("sum"),
        "embedding": _("embedding"),
        "input": _("input"),
        "output": _("output"),
        "recurrence": _("recurrence"),
        "unknown": _("unknown"),
    }
    texts = [end.activation.name if end.activation is not None else words[end.kind] for end in ends]
    return ", ".join(dict.fromkeys(texts))


def _rms(tensor: Tensor) -> float:
    if not tensor.is_floating_point() or not tensor.numel():
        return float("nan")
    return float(tensor.detach().to(torch.float64).square().mean().sqrt())


def _write(values: dict[str, Tensor], owned: dict[str, Owned]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            owned[name].tensor.copy_(value)
