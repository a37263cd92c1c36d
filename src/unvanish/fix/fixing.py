"""`unvanish.fix`: cures for the user's own network, tried on copies and proven."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import nn

from unvanish.diagnose.config import load_config
from unvanish.errors import UsageError
from unvanish.fix.cure import LossFunction
from unvanish.fix.ensemble import Choice
from unvanish.fix.live import LiveTrainer, MakeOptimizer, Metric
from unvanish.fix.search import Budget, Progress, Search
from unvanish.fix.trial import Treatment
from unvanish.i18n import _
from unvanish.records import Cure, Fix, Proof
from unvanish.shown import Shown

DEFAULT_STEPS = 200


class FixResult(Shown):
    """What `unvanish.fix` found. It shows itself: `print` gives the report."""

    def __init__(self, record: Fix, trainer: LiveTrainer) -> None:
        """`record` is the whole answer as plain values; `trainer` can apply the cure again."""
        self.record = record
        self._trainer = trainer

    @property
    def best(self) -> Cure | None:
        """The best proven cure, or None."""
        return next((one for one in self.record.cures if one.name == self.record.best), None)

    @property
    def cures(self) -> tuple[Cure, ...]:
        """All cures that were proposed, the best first, with how far each came."""
        return self.record.cures

    @property
    def proof(self) -> Proof | None:
        """The trainings that prove the best cure; None without one."""
        return self.best.proof if self.best is not None else None

    @property
    def trainings_spent(self) -> float:
        """What the search cost, in untreated trainings of full length."""
        return self.record.trainings_spent

    @property
    def proven(self) -> bool:
        """Whether a cure was proven."""
        return self.record.best is not None

    @property
    def code(self) -> str:
        """The lines of the best cure, to paste after the model and the optimiser are built."""
        return self.best.code if self.best is not None else ""

    @property
    def model(self) -> nn.Module:
        """A copy of the model with the best cure applied, not trained; plain without a cure."""
        return self.model_with(self.record.best)

    def model_with(self, name: str | None) -> nn.Module:
        """Return a copy of the model with the cure `name` of this result applied, not trained."""
        return self._trainer.cured(Treatment.of(name or ""))

    def apply(self) -> None:
        """Apply the best cure to the model that was given, in place; without one, do nothing.

        An optimiser made before does not know parameters that the cure added: make it anew.
        """
        if self.best is not None:
            self._trainer.apply(Treatment.of(self.best.name))

    def document(self) -> dict[str, Any]:
        """Return the result as plain data: the JSON contract of docs/json-fix.md."""
        from unvanish.report.fix_document import document

        return document(self.record)

    def page(self) -> str:
        """Return the result as the text of one HTML page."""
        from unvanish.report.fix_page import render_page

        return render_page(self.record)

    def __str__(self) -> str:
        from unvanish.report.fix import text

        return text(self.record)

    def __repr__(self) -> str:
        return f"<FixResult {self.record.verdict_before}: best {self.record.best}>"

    def _fragment(self) -> str:
        return self.record._fragment()

    def figure(self, name: str = "losses") -> Any:
        """Return a picture as a Plotly figure: "losses" of the proof, or "levels" before and after.

        Raises UnknownNameError for another name, NoSignalError where there is nothing to draw.
        """
        from unvanish.report.fix_page import picture

        return picture(self.record, name)


def fix(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: LossFunction,
    optimizer: MakeOptimizer,
    *,
    model_fn: Callable[[], nn.Module] | None = None,
    metric: Metric | None = None,
    steps: int = DEFAULT_STEPS,
    seeds: int = 3,
    budget: float = 15.0,
    apply: bool = False,
    ensemble: Choice = "measured",
    progress: Progress | None = None,
) -> FixResult:
    """Find what cures `model`, and prove it by training it beside the original.

    `batches` is a list of batches or a DataLoader; `loss_fn(model, batch)` returns the loss;
    `optimizer(parameters)` makes the optimiser. All training happens on copies: the model, the
    random states and all else of yours stay as they are.

    A seed changes the initial weights (drawn by `model_fn()`, or else by `reset_parameters`) and
    the order of the batches. `metric(model, batch)`, the lower the better, is the yardstick;
    without it, the loss on held-out batches. A training has `steps` optimiser steps; `budget` is
    how many trainings may be spent; `progress(what, share)` is told what is being done. With
    `apply` the best proven cure is also applied to `model` itself, in place. Ctrl-C ends the
    search early, and the result holds what was known by then.

    Trainings of one shape (other rates, other weights, other seeds) run as one batched `ensemble`
    where that was "measured" to be faster; "always": wherever they can; "never": one by one. A
    result depends on it no further than rounding.

    Raises UsageError for arguments that cannot be used, UserCodeError if the untreated training
    fails.
    """
    if steps < 1 or seeds < 1:
        raise UsageError(
            _("steps is {steps} and seeds is {seeds}").format(steps=steps, seeds=seeds),
            _("Give at least 1 of each; nothing is proven on fewer than 3 seeds."),
        )
    if not callable(optimizer):
        raise UsageError(
            _("optimizer is of type {kind}, which cannot be called").format(
                kind=type(optimizer).__name__
            ),
            _("Give a function: optimizer=lambda params: torch.optim.AdamW(params)"),
        )
    trainer = LiveTrainer(
        model,
        batches,
        loss_fn,
        optimizer,
        steps=steps,
        model_fn=model_fn,
        metric=metric,
        config=load_config(Path.cwd()),
        ensemble=ensemble,
    )
    search = Search(trainer, Budget(seeds=seeds, most=budget))
    if progress is not None:
        search.progress = progress
    result = FixResult(search.run(), trainer)
    if apply:
        result.apply()
    return result
