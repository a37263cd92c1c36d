"""A figure as a file for a paper: SVG, PDF or PNG, on white, in the size of a column."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from unvanish.errors import DependencyError
from unvanish.figures import theme
from unvanish.i18n import _

if TYPE_CHECKING:
    import plotly.graph_objects as go

FORMATS = ("svg", "png", "pdf")


def render_image(figure: go.Figure, kind: str, width: int = 900, scale: float = 2) -> bytes:
    """Return `figure` as a file of `kind` (one of FORMATS), `width` CSS pixels wide.

    A PNG has `scale` pixels to a CSS pixel, to be sharp in print. The figure is not changed.

    Raises DependencyError where the drawing engine (kaleido) or a Chrome or Chromium is missing.
    """
    shown = theme.alone(figure)
    shown.layout.updatemenus = ()  # nobody can open a menu there
    pixels = scale if kind == "png" else 1
    remedy = _("Install unvanish[static] and a Chrome or Chromium.")
    try:
        importlib.import_module("kaleido")  # plotly draws through it, and says less if it lacks
    except ImportError as error:
        raise DependencyError(_("pictures as files need kaleido"), remedy) from error
    from choreographer.errors import BrowserDepsError, BrowserFailedError

    try:
        image: bytes = shown.to_image(
            format=kind, width=width, height=shown.layout.height, scale=pixels
        )
    except (RuntimeError, BrowserDepsError, BrowserFailedError) as error:
        # RuntimeError is what plotly makes of a missing browser; its text fills a screen
        raise DependencyError(_("no Chrome or Chromium could be started"), remedy) from error
    return image
