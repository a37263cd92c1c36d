"""Records to Plotly figures: pure functions, used by report, notebook and page alike.

Each returns a `plotly.graph_objects.Figure`, or None where there is nothing to draw. What a figure
shows is computed apart from how it is drawn (`bars`, `level_lines`, `thin`), so that the data can
be tested. Names of layers are untrusted text and are escaped for Plotly here.
"""

from __future__ import annotations

from unvanish.figures.activations import activations
from unvanish.figures.heatmap import heat_lines, heatmap
from unvanish.figures.layers import forward, parameters, slopes
from unvanish.figures.levels import Line, level_lines, levels
from unvanish.figures.network import network
from unvanish.figures.prediction import prediction
from unvanish.figures.spectrum import spectrum
from unvanish.figures.time import loss, recurrence, thin
from unvanish.figures.waterfall import Bar, Bars, bars, waterfall

__all__ = [
    "Bar",
    "Bars",
    "Line",
    "activations",
    "bars",
    "forward",
    "heat_lines",
    "heatmap",
    "level_lines",
    "levels",
    "loss",
    "network",
    "parameters",
    "prediction",
    "recurrence",
    "slopes",
    "spectrum",
    "thin",
    "waterfall",
]
