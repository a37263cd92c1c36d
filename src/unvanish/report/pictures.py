"""Which pictures a model has, by name: on the page and in a file for a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
