"""Values that keep their gradient.

`x.detach()`, `x.data` or a block under `torch.no_grad()` between two parts of a network cuts the
first part off: its parameters get no gradient. `keep-gradient` lets the gradient pass at each such
place inside of the model. A sample that is drawn without a gradient (`Normal.sample`) becomes a
reparametrised one (`rsample`).

Proposed where the graph is cut.

Display-only: an edit of the lines it shows, which a trial imitates. Some of these cuts are meant,
as of a target network or a straight-through estimate; keep those.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.utils._pytree import tree_leaves

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Kind, Live, NotApplicable
from unvanish.fix.edits import edit
from unvanish.fix.functions import Substitution
from unvanish.i18n import _
from unvanish.measure.preserve import preserved
from unvanish.records import Diagnosis, SourceLine

# name -> pattern of the user's line, and its replacement
_EDITS = {
    "detach": (r"\.detach_?\(\)", ""),
    "data": (r"\.data\b", ""),
    "sample": (r"\.sample\(", ".rsample("),
}


class KeepGradient(Cure):
    """Let the gradient pass where it was cut on the way."""

    name = "keep-gradient"
    applicability = Applicability.DISPLAY_ONLY
    kind: ClassVar[Kind] = "source-edit"
    sources = (
        "PyTorch documentation, Autograd mechanics: locally disabling gradient computation",
        "Kingma and Welling 2014, Auto-Encoding Variational Bayes, arXiv:1312.6114",
    )
    words: ClassVar[Mapping[str, float]] = {"CG101": 0.95, "CG": 0.6}

    def summary(self) -> str:
        return _("Let the gradient pass where detach, .data, no_grad or sample cut it.")

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(bool(_cuts(live)))

    def apply(self, live: Live) -> Change:
        cuts = _cuts(live)
        if not cuts:
            raise NotApplicable(_("nothing is detached on the way"))
        places = frozenset(cuts)
        live.settings.contexts.append(lambda: _Kept(places))
        if any(kind == "sample" for kind, _line in cuts):
            live.settings.contexts.append(lambda: _sampling(_trained))
        rows = tuple(
            Edit("", name, _("cuts the gradient"), _("lets it pass"))
            for name in dict.fromkeys(name for name, _line in cuts)
        )
        note = _("Imitated here; in your source it is an edit.")
        return Change(rows, note=note, details={"cuts": cuts})

    def code(self, live: Live, change: Change) -> str:
        otherwise = {
            "detach": _("leave the detach() out"),
            "data": _("take the value itself, not its .data"),
            "sample": _("draw by rsample(), not by sample()"),
            "no_grad": _("take this out of torch.no_grad()"),
        }
        shown = dict.fromkeys(
            edit(line, *_EDITS.get(name, (r"$^", "")), otherwise[name])
            for name, line in change.details["cuts"]
        )
        return "\n".join(shown)


Cut = tuple[str, SourceLine | None]


class _Places(Substitution):
    """Notes where values lose their gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[Cut, bool] = {}  # whether there was a gradient to lose

    def instead(self, name: str, function: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Note a call that cuts, and let it be."""
        kind = _cutting(name, function, args)
        if kind is not None:
            self.note_cut(kind, any(one.requires_grad for one in _floating((args, kwargs))))
        return NotImplemented

    def note_cut(self, kind: str, lost: bool) -> None:
        """Keep the user's line."""
        place = (kind, self.line())
        self.found[place] = lost or self.found.get(place, False)

    def cuts(self) -> tuple[Cut, ...]:
        """Return what cuts; of blocks without gradient, the lines that work on what was cut too."""
        lost = {kind for (kind, _line), lost in self.found.items() if lost}
        return tuple(
            place for place, own in self.found.items() if own or {place[0]} & lost & {"no_grad"}
        )


class _Kept(Substitution):
    def __init__(self, places: frozenset[Cut]) -> None:
        super().__init__()
        self.places = places

    def instead(self, name: str, function: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Hand a value on instead of cutting it off, at the places that were found."""
        kind = _cutting(name, function, args)
        if kind is None or (kind, self.line()) not in self.places:
            return NotImplemented
        if kind != "no_grad":
            return args[0]
        with torch.enable_grad():
            return function(*args, **kwargs)


def _cutting(name: str, function: Any, args: tuple[Any, ...]) -> str | None:
    """Return what a call cuts the gradient by: "detach", "data", "no_grad"; None if it does not."""
    if name == "detach" or (name == "data" and len(args) == 1):
        return name
    called = getattr(function, "__name__", "")
    in_place = called.endswith("_") and not called.endswith("__")
    return None if torch.is_grad_enabled() or in_place or not _floating(args) else "no_grad"


def _floating(given: Any) -> list[Tensor]:
    leaves = tree_leaves(given)
    return [one for one in leaves if isinstance(one, Tensor) and one.is_floating_point()]


@contextmanager
def _sampling(noted: Callable[[Distribution], bool]) -> Iterator[None]:
    """Draw with a gradient from distributions for which `noted` says so."""
    kinds = [kind for kind in _kinds(Distribution) if "sample" in vars(kind) and kind.has_rsample]
    own = [(kind, vars(kind)["sample"]) for kind in kinds]

    def put(kind: Any, plain: Callable[..., Tensor]) -> None:
        def sample(self: Distribution, *args: Any, **kwargs: Any) -> Tensor:
            drawn = self.rsample if noted(self) else functools.partial(plain, self)
            return drawn(*args, **kwargs)

        kind.sample = sample

    for kind, plain in own:
        put(kind, plain)
    try:
        yield
    finally:
        for kind, plain in own:
            kind.sample = plain  # type: ignore[method-assign]


def _kinds(kind: type[Distribution]) -> Iterator[type[Distribution]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _kinds(each)


def _trained(distribution: Distribution) -> bool:
    """Whether a gradient could reach what a distribution is made of."""
    return any(one.requires_grad for one in _floating(vars(distribution)))


def _cuts(live: Live) -> tuple[Cut, ...]:
    """Return the places in the model or its loss where values lose their gradient."""
    places = _Places()

    def note(distribution: Distribution) -> bool:
        places.note_cut("sample", _trained(distribution) and torch.is_grad_enabled())
        return False

    with preserved(live.model), torch.enable_grad(), _sampling(note), places:
        live.loss_fn(live.model, live.batch)
    return places.cuts()


CURES = (KeepGradient(),)
