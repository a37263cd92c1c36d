"""Theory against measurement, from the network's output back to its input."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from unvanish import words
from unvanish.figures import theme
from unvanish.i18n import _
from unvanish.records import LayerPrediction, Trace


def prediction(trace: Trace) -> go.Figure | None:
    """Draw predicted against measured gain from the output, with the band of nine in ten networks.

    None where theory predicts nothing of this trace.
    """
    shown = trace.predictions
    known = [i for i, one in enumerate(shown) if one.total_predicted_log10 is not None]
    if not known:
        return None
    figure = theme.figure(
        _("Predicted against measured"),
        theme.depth_title(),
        _("gain from the output (log₁₀)"),
    )
    _band(figure, shown, known)
    for label, values, colour, symbol in (
        (_("predicted"), [one.total_predicted_log10 for one in shown], theme.BLUE, "circle"),
        (_("measured"), [one.total_measured_log10 for one in shown], theme.VERMILLION, "square"),
    ):
        hover = [_hover(one) for one in shown]
        figure.add_trace(
            theme.points(label, range(len(shown)), values, hover, color=colour, symbol=symbol)
        )
    _flags(figure, shown)
    figure.update_xaxes(**theme.ticks([theme.tick(one.module) for one in shown]))
    return figure


def _band(figure: go.Figure, shown: Sequence[LayerPrediction], known: Sequence[int]) -> None:
    there = [shown[i] for i in known]
    figure.add_trace(
        go.Scatter(
            name=_("nine of ten random networks"),
            x=[*known, *reversed(known)],
            y=[
                *(one.total_low_log10 for one in there),
                *(one.total_high_log10 for one in reversed(there)),
            ],
            fill="toself",
            mode="lines",
            line={"width": 0, "color": theme.BLUE},
            fillcolor="rgba(0, 114, 178, 0.18)",
            hoverinfo="skip",
        )
    )


def _flags(figure: go.Figure, shown: Sequence[LayerPrediction]) -> None:
    flagged = [i for i, one in enumerate(shown) if one.flag is not None]
    if flagged:
        figure.add_trace(
            theme.points(
                _("theory does not apply"),
                flagged,
                [shown[i].total_measured_log10 for i in flagged],
                [_hover(shown[i]) for i in flagged],
                color=theme.PURPLE,
                symbol="x",
                mode="markers",
            )
        )


def _hover(one: LayerPrediction) -> str:
    lines = [
        f"<b>{theme.name(one.module)}</b>",
        theme.safe(one.kind),
        _("here: predicted {predicted}, measured {measured}").format(
            predicted=words.times(one.predicted_log10), measured=words.times(one.measured_log10)
        ),
        _("from the output: predicted {predicted}, measured {measured}").format(
            predicted=words.times(one.total_predicted_log10),
            measured=words.times(one.total_measured_log10),
        ),
    ]
    if one.flag is not None:
        lines.append(theme.safe(one.flag))
    return "<br>".join(lines)
