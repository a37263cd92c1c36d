"""What every page has: its head, the navigation, and the place where a view is put."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dash import MATCH, ClientsideFunction, Dash, Input, Output, State, dcc, html
from markupsafe import escape

from unvanish import i18n
from unvanish._version import __version__
from unvanish.errors import UnvanishError
from unvanish.i18n import _
from unvanish.web import parts

# What makes a view out of the query of its address.
View = Callable[[str], Any]


def navigation() -> tuple[tuple[str, str], ...]:
    """Return the views that can be gone to: the end of their path, their name."""
    return (
        ("", _("Runs")),
        ("compare", _("Compare")),
        ("chain", _("The chain")),
        ("theory", _("Theory")),
        ("playground", _("Playground")),
    )


def index(language: str, instance: str) -> str:
    """Return the frame of the HTML: nothing in it comes from a user."""
    with i18n.speaking(language):
        texts = {
            "lost": _("The server does not answer. This page tries again every second."),
            "back": _("The server answers again."),
            "title": _("Unvanish: where the gradient goes"),
            "skip": _("Skip to the content"),
        }
    safe = {name: escape(text) for name, text in texts.items()}
    tag = {"zh": "zh-CN"}.get(language, "en")
    return f"""<!DOCTYPE html>
<html lang="{tag}">
<head>
{{%metas%}}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{safe["title"]}</title>
<link rel="icon" href="data:,">
{{%css%}}
</head>
<body>
<a class="skip" href="#view">{safe["skip"]}</a>
<div id="connection" role="status" aria-live="polite" data-instance="{escape(instance)}"
 data-lost="{safe["lost"]}" data-back="{safe["back"]}"></div>
{{%app_entry%}}
{{%config%}}
{{%scripts%}}
{{%renderer%}}
</body>
</html>"""


def layout() -> Any:
    """Return what is there before the address is known."""
    return html.Div(
        [
            dcc.Location(id="url", refresh=False),
            dcc.Store(id="revived"),  # changes when the server answers again
            dcc.Store(id="titled"),
            html.Div(id="page"),
        ]
    )


def register(app: Dash, prefix: str, views: Mapping[str, View]) -> None:
    """Register what makes the view of an address, and what every view needs."""

    @app.callback(Output("page", "children"), Input("url", "pathname"), State("url", "search"))
    def show(path: str | None, search: str | None) -> Any:
        name = (path or prefix).removeprefix(prefix).strip("/")
        try:
            view = views.get(name)
            content = _unknown(name) if view is None else view(search or "")
        except UnvanishError as error:
            content = [html.H1(_("This page cannot be shown")), parts.problem(error)]
        return frame(prefix, name, search or "", content)

    app.clientside_callback(
        ClientsideFunction("unvanish", "entitle"),
        Output("titled", "data"),
        Input("page", "children"),
    )
    app.clientside_callback(
        ClientsideFunction("unvanish", "fit"),
        Output({"kind": "graph", "name": MATCH}, "figure"),
        Output({"kind": "graph", "name": MATCH}, "config"),
        Input({"kind": "picture", "name": MATCH}, "data"),
        State({"kind": "picture", "name": MATCH}, "id"),
    )


def _unknown(name: str) -> Any:
    return [
        html.H1(_("There is no such page")),
        html.P(_("Choose one of those above."), className="problem", role="alert"),
    ]


def frame(prefix: str, name: str, search: str, content: Any) -> Any:
    """Return a view with the navigation above it."""
    here = {"run": "", "rule": "", "fix": ""}.get(name, name)
    links = [
        html.A(
            text,
            href=prefix + end,
            **parts.named(**({"aria_current": "page"} if end == here else {})),
        )
        for end, text in navigation()
    ]
    other, its_name = ("zh", "中文") if i18n.current() == "en" else ("en", "English")
    return [
        html.Header(
            [
                html.Strong("Unvanish"),
                html.Nav(links, **parts.named(aria_label=_("views"))),
                html.A(
                    its_name,
                    href=f"/{other}/{name}{search}",
                    id="language",
                    lang={"zh": "zh-CN"}.get(other, other),
                ),
            ],
            className="top",
        ),
        html.Main(content, id="view", tabIndex=-1),
        html.Footer(
            _(
                "Unvanish {version}, on this machine. This page loads nothing from elsewhere."
            ).format(version=__version__)
        ),
    ]
