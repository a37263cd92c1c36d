"""Which pictures a model has, by name: on the page and in a file for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from unvanish.errors import NoSignalError, UnknownNameError
from unvanish.i18n import _
from unvanish.records import Diagnosis, Trace

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from unvanish.report.focus import Focus

# In the order of the page, after the one that the verdict asks for.
PICTURES = (
    "waterfall",
    "levels",
    "heatmap",
    "network",
    "slopes",
    "activations",
    "spectrum",
    "recurrence",
    "loss",
    "parameters",
    "forward",
    "prediction",
)


def of_diagnosis(diagnosis: Diagnosis, name: str | None, model: str | None) -> go.Figure:
    """Return the picture `name` of `model`: by default the first that shows its verdict.

    Raises UnknownNameError for a name that is not known, NoSignalError for nothing to draw.
    """
    from unvanish.report import focus

    _check(name)
    models = {one.run.name: one for one in focus.models(diagnosis)}
    if model is not None and model not in models:
        raise UnknownNameError(_("model"), model, models, _("Give one of these."))
    chosen = models[model] if model is not None else next(iter(models.values()), None)
    if chosen is None:
        raise _nothing(name or PICTURES[0])
    return _first(chosen, chosen.pictures if name is None else (name,))


def of_trace(trace: Trace, name: str) -> go.Figure:
    """Return the picture `name` of one pass. Raises as `of_diagnosis` does."""
    from unvanish.report import focus

    _check(name)
    return _first(focus.alone(trace), (name,))


def _check(name: str | None) -> None:
    if name is not None and name not in PICTURES:
        raise UnknownNameError(_("picture"), name, PICTURES, _("Give one of these."))


def _first(one: Focus, names: Sequence[str]) -> go.Figure:
    for name in names:
        drawn = draw(name, one)
        if drawn is not None:
            return drawn
    raise _nothing(names[0])


def _nothing(name: str) -> NoSignalError:
    return NoSignalError(
        _("this run has nothing for the picture {name!r}").format(name=name),
        _("Choose another picture, or look at the whole report."),
    )


def draw(name: str, one: Focus) -> go.Figure | None:
    """Return the picture `name` (one of PICTURES) of a model; None: nothing to draw there."""
    from unvanish import figures  # here: the names above are known without Plotly

    trace = one.trace
    if name == "loss":
        return figures.loss(one.run.steps, one.incidents, one.alarms)
    if trace is None:
        return None
    match name:
        case "waterfall":
            path = trace.main_path
            return figures.waterfall(path) if path is not None and path.edges else None
        case "levels":
            return figures.levels(one.run.traces, trace)
        case "heatmap":
            return figures.heatmap(one.run.traces, trace)
        case "network":
            return figures.network(trace)
        case "slopes":
            return figures.slopes(trace)
        case "activations":
            return figures.activations(trace)
        case "spectrum":
            return figures.spectrum(trace)
        case "recurrence":
            return figures.recurrence(trace.recurrences)
        case "parameters":
            return figures.parameters(trace)
        case "forward":
            return figures.forward(trace)
        case "prediction":
            return figures.prediction(trace)
    raise ValueError(f"no picture is called {name!r}")
