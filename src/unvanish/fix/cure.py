"""What a cure is: when it is proposed, what it changes, how, and the lines a user pastes.

A cure works on a `Live`: a model, its optimiser and one batch that are a copy, or a child
process's own. It changes them in place, or asks for a change of the loop through `settings`.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unvanish.fix.priors import prior
from unvanish.i18n import _
from unvanish.records import Diagnosis, ModelRun, Trace

LossFunction = Callable[[nn.Module, Any], Tensor]
Kind = Literal["structural", "optimiser", "loss", "input", "source-edit"]


class Applicability(StrEnum):
    """How far a cure may go by itself."""

    SAFE = "safe"  # redraws what would be redrawn anyway, or is an algebraic identity
    UNSAFE = "unsafe"  # changes the function or the dynamics: never applied without being asked
    DISPLAY_ONLY = "display-only"  # a source edit that the user makes by hand

    @property
    def word(self) -> str:
        """The word for it in the language in use."""
        return {"safe": _("safe"), "unsafe": _("unsafe"), "display-only": _("display-only")}[self]


class NotApplicable(Exception):  # noqa: N818 - an answer, not a failure
    """This cure does not fit this model; the model is as it was. `str` is the reason."""


@dataclass
class TrainingSettings:
    """What a cure asks of the training loop; whoever runs the trial heeds it.

    The defaults ask for nothing.
    """

    clip_norm: float | None = None  # clip the (unscaled) gradient's total norm before each step
    lr_factor: float = 1.0  # times the learning rate of every group, at every step
    warmup_steps: int = 0  # from there the full rate; before, rate * (step + 1) / warmup_steps
    zero_grad_each_step: bool = False  # clear gradients after every optimiser step
    loss_scale: float = 1.0  # times the loss before backward; not undone before the step
    # Entered around every forward with its loss (in script mode: for the rest of the script).
    contexts: list[Callable[[], AbstractContextManager[Any]]] = field(default_factory=list)


@dataclass
class Live:
    """A training about to start, which a cure may change in place."""

    model: nn.Module
    batch: Any  # one batch, as `loss_fn` takes it, on the model's device
    loss_fn: LossFunction
    optimizer: Optimizer | None
    run: ModelRun | None  # the last measurement of the uncured model
    generator: torch.Generator  # on the CPU; a cure draws its random numbers from here only
    settings: TrainingSettings = field(default_factory=TrainingSettings)
    seen: Any = field(default=None, init=False, repr=False)  # the structure, once observed

    @property
    def trace(self) -> Trace | None:
        """The last traced step of the uncured model."""
        return self.run.traces[-1] if self.run is not None and self.run.traces else None


@dataclass(frozen=True, slots=True)
class Edit:
    """One thing that was changed."""

    where: str  # module path, parameter name, or "" for the training as a whole
    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Change:
    """What a cure did, row by row."""

    edits: tuple[Edit, ...]
    note: str = ""  # one translated sentence: what a reader must know, such as "imitated here"
    details: Mapping[str, Any] = field(default_factory=dict)  # for the cure's own `code`


class Cure(abc.ABC):
    """One cure. Its module's docstring is its documentation."""

    name: ClassVar[str]  # such as "critical-orthogonal-init"
    applicability: ClassVar[Applicability]
    kind: ClassVar[Kind]  # "loss": the yardstick changes, so it can be measured, never proven
    keeps_activation: ClassVar[bool] = True
    sources: ClassVar[tuple[str, ...]]
    # What findings speak for it: code, family or verdict -> a word in (0, 1], as `priors.prior`.
    words: ClassVar[Mapping[str, float]] = {}

    @abc.abstractmethod
    def summary(self) -> str:
        """One translated sentence: what it does."""

    def proposed(self, diagnosis: Diagnosis, live: Live) -> float:
        """Return 0 where it is not worth a try, else a prior in (0, 1]: the higher, the sooner.

        Decided from findings, the model's structure and its optimiser, without changing them.
        """
        word = prior(diagnosis, self.words)
        return word * self.fits(diagnosis, live) if word else 0.0

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        """Return how well it fits the structure, from 0 (not at all) to 1."""
        return 1.0

    @abc.abstractmethod
    def apply(self, live: Live) -> Change:
        """Change `live` in place. Raises NotApplicable, with `live` untouched."""

    @abc.abstractmethod
    def code(self, live: Live, change: Change) -> str:
        """Return the lines that do to the user's `model` (and `optimizer`) what `apply` did.

        They run as they stand, after the model and the optimiser are built; a line that belongs
        elsewhere is a comment that says where. `live` is as `apply` left it.
        """

    @property
    def documentation(self) -> str:
        """The documentation: the docstring of the file that holds the cure."""
        return inspect.cleandoc(inspect.getmodule(type(self)).__doc__ or "")
