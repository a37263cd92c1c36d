"""What the controls of all views do in the browser."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, dcc

# Every slider of every view: registered once, before any of them exists.
SLIDERS = (
    *("chain-depth", "chain-weight", "chain-bias", "chain-input", "chain-target", "chain-step"),
    *("chain-own-weight", "chain-own-bias"),
    *("theory-sigma-w", "theory-sigma-b", "theory-depth"),
    *("play-depth", "play-width"),
)


# Views whose controls the address says.
ADDRESSED = ("chain", "theory", "play", "compare")


def addressed(view: str) -> list[Any]:
    """Return where a view says what its address is to be: the store `VIEW-query`."""
    return [dcc.Store(id=f"{view}-query"), dcc.Store(id=f"{view}-kept")]


def register(app: Dash) -> None:
    """Keep each slider and its field the same number, and the address what the controls say."""
    for view in ADDRESSED:
        app.clientside_callback(
            ClientsideFunction("unvanish", "keep_address"),
            Output(f"{view}-kept", "data"),
            Input(f"{view}-query", "data"),
        )
    for identity in SLIDERS:
        app.clientside_callback(
            ClientsideFunction("unvanish", "pair"),
            Output(identity, "value"),
            Output(f"{identity}-slider", "value"),
            Input(identity, "value"),
            Input(f"{identity}-slider", "value"),
            prevent_initial_call=True,
        )
