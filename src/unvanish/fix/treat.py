"""Applying a treatment to a live training, and what its settings ask of the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch.optim import Optimizer

from unvanish.checking import check
from unvanish.errors import UnvanishError
from unvanish.fix.catalogue import cure, cures
from unvanish.fix.cure import Live, TrainingSettings
from unvanish.fix.trial import Candidate, Treatment
from unvanish.records import Diagnosis, Edited, LevelAt, Predicted, Trace

_RATE = """for group in optimizer.param_groups:
    group["lr"] *= {factor}"""
_SEED = 7_403  # of a cure's own generator, beside the trial's seed


@dataclass(frozen=True, slots=True)
class Treated:
    """What was changed, and the lines that do the same in the user's source."""

    edits: tuple[Edited, ...]
    note: str
    code: str


def generator(seed: int) -> torch.Generator:
    """Return the generator that cures draw from in the trial of `seed`."""
    return torch.Generator().manual_seed(_SEED + 1_000_003 * seed)


def treat(live: Live, treatment: Treatment) -> Treated:
    """Apply the cures of `treatment` in order. Raises NotApplicable."""
    edits: list[Edited] = []
    notes: list[str] = []
    lines: list[str] = []
    for name in treatment.cures:
        one = cure(name)
        change = one.apply(live)
        live.seen = None  # the next cure looks at the network as it is now
        edits += [Edited(row.where, row.what, row.before, row.after) for row in change.edits]
        notes += [change.note] if change.note else []
        lines.append(one.code(live, change).strip())
    if treatment.lr_factor != 1.0:
        live.settings.lr_factor *= treatment.lr_factor
        lines.append(_RATE.format(factor=f"{treatment.lr_factor:.4g}"))
    return Treated(tuple(edits), " ".join(notes), "\n\n".join(lines))


@contextmanager
def entered(settings: TrainingSettings) -> Iterator[None]:
    """Enter what the cures want around a forward with its loss."""
    with ExitStack() as stack:
        for context in settings.contexts:
            stack.enter_context(context())
        yield


class Rates:
    """The learning rate as the cures want it, for one step at a time."""

    def __init__(self, optimizer: Optimizer, settings: TrainingSettings) -> None:
        self._optimizer = optimizer
        self._settings = settings
        self._step = 0
        self._own: list[float] = []

    @property
    def changes(self) -> bool:
        """Whether anything is asked for."""
        return self._settings.lr_factor != 1.0 or self._settings.warmup_steps > 0

    def next(self) -> float:
        """Count a step, and return what its rates are multiplied by."""
        factor = self._settings.lr_factor
        if self._step < self._settings.warmup_steps:
            factor *= (self._step + 1) / self._settings.warmup_steps
        self._step += 1
        return factor

    def begin(self) -> None:
        """Set the rates of this step."""
        if not self.changes:
            return
        factor = self.next()
        self._own = [group["lr"] for group in self._optimizer.param_groups]
        for group in self._optimizer.param_groups:
            group["lr"] = group["lr"] * factor

    def end(self) -> None:
        """Give the optimiser, and its scheduler, their own rates back."""
        for group, lr in zip(self._optimizer.param_groups, self._own, strict=False):
            group["lr"] = lr
        self._own = []


def clip(optimizer: Optimizer, settings: TrainingSettings) -> None:
    """Clip the total norm of the optimiser's gradients, if the cures want it."""
    if settings.clip_norm is not None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)


def candidates(diagnosis: Diagnosis, live: Live, copy: Callable[[], Live]) -> list[Candidate]:
    """Return the cures proposed for `live`, each measured on a copy that `copy` makes."""
    before = levels(live.run.traces[0]) if live.run is not None and live.run.traces else ()
    found = []
    for one in cures():
        word = one.proposed(diagnosis, live)
        if word <= 0:
            continue
        refused, predicted = None, None
        try:
            cured = copy()
            treat(cured, Treatment((one.name,)))
            predicted = _predicted(cured, before)
        except UnvanishError as error:
            predicted = Predicted(ratio(before), None, None, before) if error.problem else None
        except Exception as error:  # NotApplicable, or a network that the cure does not understand
            refused = f"{error}".splitlines()[0] if f"{error}" else type(error).__name__
        found.append(
            Candidate(
                name=one.name,
                prior=word,
                applicability=str(one.applicability),
                kind=one.kind,
                keeps_activation=one.keeps_activation,
                summary=one.summary(),
                sources=one.sources,
                predicted=predicted,
                refused=refused,
            )
        )
    return found


def _predicted(live: Live, before: tuple[LevelAt, ...]) -> Predicted:
    with entered(live.settings):
        diagnosis = check(live.model, live.batch, live.loss_fn, live.optimizer, probes=0)
    after = levels(diagnosis.run.models[0].traces[-1])
    return Predicted(ratio(before), ratio(after), diagnosis.verdict, before, after)


def levels(trace: Trace) -> tuple[LevelAt, ...]:
    """Return the levels of the layers of the main path, in forward order."""
    return tuple(
        LevelAt(layer.module, layer.level_log10)
        for layer in trace.layers
        if layer.on_main_path and layer.level_log10 is not None
    )


def ratio(found: Sequence[LevelAt]) -> float | None:
    """Return log10 of the level at the first layer of the main path over that at its last."""
    return found[0].level_log10 - found[-1].level_log10 if len(found) > 1 else None
