"""How all figures look: colours for eyes of every kind, fonts, axes; and text made safe.

Colours are those of Okabe and Ito (2008, "Color universal design"); factors that are shown and
never blamed are grey and told apart by patterns. Figures have transparent backgrounds, so that the
report can recolour their text and grid for the dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from unvanish import words
from unvanish.i18n import _
from unvanish.records import Factor, LayerSignal

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#8C8C8C"
FONT = (
    'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC",'
    ' "PingFang SC", "Microsoft YaHei", sans-serif'
)
MARKERS_UP_TO = 80  # points; a longer line has no markers
MOST_TICKS = 36  # names of layers along an axis of a column's width, before they run together
INK, GRID = "#1f2328", "rgba(127,127,127,0.22)"


@dataclass(frozen=True, slots=True)
class Fill:
    """The colour of a factor's bars and, for some, a pattern."""

    color: str
    pattern: str = ""


FILLS: dict[Factor, Fill] = {
    "slope": Fill(VERMILLION),
    "weight": Fill(BLUE),
    "recurrence": Fill(SKY),
    "norm": Fill(GREEN),
    "attention": Fill(PURPLE),
    "gate": Fill(ORANGE),
    "merge": Fill(YELLOW),
    "loss": Fill(GREY),
    "pool": Fill(GREY, "/"),
    "scale": Fill(GREY, "."),
    "opaque": Fill(GREY, "x"),
}


class Picture(go.Figure):  # type: ignore[misc]  # plotly has no types
    """A Plotly figure that stays short as text, and in a notebook shows itself by `alone`."""

    def __repr__(self) -> str:
        return f"<Picture {self.layout.title.text!r}: {len(self.data)} traces>"

    def _ipython_display_(self) -> None:
        try:
            alone(self)._ipython_display_()
        except Exception as error:  # it is the last thing in its cell, and the cell went well
            print(f"{self!r}\n{type(error).__name__}: {error}")


def alone(figure: go.Figure) -> go.Figure:
    """Return a copy to be looked at outside a page of ours, which would take care of it.

    It stands on white, whatever is around it; the legend lies at the bottom, out of the title's way
    however long it is; and of many names along an axis only some are left.
    """
    shown = go.Figure(figure)
    shown.update_layout(
        paper_bgcolor="#ffffff",
        plot_bgcolor="#ffffff",
        legend={"yref": "container", "y": 0, "yanchor": "bottom"},
        margin_t=44,
    )
    for axis in shown.select_xaxes():
        if axis.tickvals is not None:
            stride = -(-len(axis.tickvals) // MOST_TICKS)
            axis.update(
                tickvals=axis.tickvals[::stride], ticktext=axis.ticktext[::stride], tickangle=-45
            )
    return shown


def figure(title: str, x: str, y: str, height: int = 400) -> go.Figure:
    """Return an empty figure with the common layout."""
    # In one go: every later update of a figure's layout costs milliseconds.
    return Picture(
        layout={
            "template": "none",
            "title": {"text": title, "x": 0, "xref": "paper", "font": {"size": 16}},
            "height": height,
            "margin": {"l": 64, "r": 16, "t": 64, "b": 48},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": FONT, "size": 13, "color": INK},
            "hoverlabel": {"align": "left", "font": {"family": FONT}},
            "hovermode": "closest",
            "legend": {
                "orientation": "h",
                "x": 0,
                "xanchor": "left",
                "y": 1.02,
                "yanchor": "bottom",
                "itemsizing": "constant",
            },
            "xaxis": {**_axis(x), "zeroline": False},
            "yaxis": _axis(y),
        }
    )


def two_rows(title: str, x: str, upper: str, lower: str, height: int = 520) -> go.Figure:
    """Return an empty figure of two panels above each other: axes y (upper) and y2, one x."""
    made = figure(title, x, upper, height)
    made.update_layout(
        yaxis={"domain": [0.56, 1]},
        yaxis2={**_axis(lower), "domain": [0, 0.44], "anchor": "x"},
        xaxis={"anchor": "y2"},
    )
    return made


def _axis(title: str) -> dict[str, Any]:
    return {
        "title": {"text": title, "standoff": 8},
        "gridcolor": GRID,
        "zerolinecolor": GRID,
        "linecolor": GRID,
        "automargin": True,
        "ticks": "",
    }


def mark(
    figure: go.Figure,
    label: str,
    symbol: str,
    at: Sequence[int],
    floor: float,
    hover: Sequence[str],
) -> None:
    """Mark at the height `floor` what has no height of its own: zeros, NaN."""
    if at:
        heights = [floor] * len(at)
        figure.add_trace(
            points(label, at, heights, hover, color=PURPLE, symbol=symbol, mode="markers")
        )


def add_menu(made: go.Figure, buttons: Sequence[dict[str, Any]], active: int) -> None:
    """Give a figure a menu of views above it; each button's arguments are for Plotly's `update`.

    The report makes a menu of its own of it. Its colours are for light and dark alike: Plotly
    paints the entry under the pointer white whatever they are.
    """
    made.update_layout(
        margin={"t": 92},
        updatemenus=[
            {
                "buttons": list(buttons),
                "active": active,
                "x": 1,
                "xanchor": "right",
                "y": 1.02,
                "yanchor": "bottom",
                "bgcolor": "#ffffff",
                "font": {"color": INK},
            }
        ],
    )


def safe(text: str) -> str:
    """Return `text` so that Plotly, which reads a little HTML in every text, shows it as it is."""
    printable = words.printable(text)
    return printable.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def name(path: str | None, columns: int = 60) -> str:
    """Return the path of a module for a hover text."""
    return safe(words.shorten(words.module_name(path), columns))


def tick(path: str | None, columns: int = 18) -> str:
    """Return the path of a module for a tick."""
    return safe(words.shorten_path(words.module_name(path), columns))


def ticks(texts: Sequence[str]) -> dict[str, Any]:
    """Return the ticks of an axis with one place for each of `texts`."""
    return {
        "tickmode": "array",
        "tickvals": list(range(len(texts))),
        "ticktext": list(texts),
        "range": [-0.7, len(texts) - 0.3],
        "showgrid": False,
    }


def depth_title() -> str:
    """Return the title of an axis that counts layers."""
    return _("layers in forward order: the input (left) to the output (right)")


def layer_ticks(layers: Sequence[LayerSignal]) -> dict[str, Any]:
    """Return the ticks of an axis that counts `layers`: one each, for the page to thin out."""
    return ticks([layer_tick(layer) for layer in layers])


def layer_tick(layer: LayerSignal) -> str:
    """Return the name of a layer for a tick; a functional op has its own name at the end."""
    path = layer.module
    if layer.op is not None:
        path = f"{path}.{layer.type}" if path else layer.type
    return tick(path) + (f" #{layer.call}" if layer.call else "")


def layer_hover(layer: LayerSignal, *lines: str) -> str:
    """Return a hover text on `layer`; the lines are safe already."""
    place = name(layer.module) + (f" #{layer.call}" if layer.call else "")
    return "<br>".join([f"<b>{place}</b>", safe(layer.type), *lines])


def points(
    label: str,
    xs: Sequence[float],
    ys: Sequence[float | None],
    hovertext: Sequence[str],
    *,
    color: str,
    symbol: str = "circle",
    mode: str | None = None,
    axis: str = "y",
) -> go.Scatter:
    """Return a line with markers, or a bare line where there are too many of them."""
    return go.Scatter(
        name=label,
        x=list(xs),
        y=[y if y is not None and math.isfinite(y) else None for y in ys],
        mode=mode or ("lines+markers" if len(xs) <= MARKERS_UP_TO else "lines"),
        line={"color": color, "width": 2},
        marker={"color": color, "symbol": symbol, "size": 7, "line": {"color": color, "width": 1}},
        hovertext=list(hovertext),
        hoverinfo="text",
        yaxis=axis,
    )
