"""The theory explorer: what an activation does to signals in wide plain networks."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from dash import Dash, Input, Output, Patch, State, ctx, html, no_update

from unvanish import i18n, words
from unvanish.errors import UnvanishError
from unvanish.figures import theory as figures
from unvanish.i18n import _
from unvanish.meanfield import Activation
from unvanish.meanfield.catalogue import named
from unvanish.meanfield.depth import propagate
from unvanish.meanfield.facade import Theory
from unvanish.meanfield.facade import theory as theory_of
from unvanish.meanfield.formula import LONGEST, formula
from unvanish.meanfield.maps import FixedPoint, Layer, fixed_point
from unvanish.report.theory import phase_name, settings_rows
from unvanish.web import address, parts
from unvanish.web.shell import View
from unvanish.web.site import Site
from unvanish.web.views import theory_page
from unvanish.web.views.theory_page import DEPTH, FORMULA, SIGMA_B, SIGMA_W

GRID = (48, 25)  # of the phase diagram: it is drawn again at every move
LATER = ("depth", "slope", "lengths", "correlations")  # drawn after the phase diagram


def view(site: Site, prefix: str) -> View:
    """Return the view: `?activation=tanh&sw=1.5&sb=0.1&depth=20`, or `?formula=…`."""

    def show(search: str) -> Any:
        query = address.parse(search)
        text = query.get("formula", "")
        name = FORMULA if text else query.get("activation", "tanh")
        _activation(name, text)
        return theory_page.page(
            name,
            text,
            SIGMA_W.check("sw", query.get("sw", SIGMA_W.default)),
            SIGMA_B.check("sb", query.get("sb", SIGMA_B.default)),
            DEPTH.whole("depth", query.get("depth", DEPTH.default)),
        )

    return show


def register(app: Dash, site: Site, prefix: str) -> None:
    """Compute whenever a control is moved."""

    @app.callback(
        output={
            "phase": Output({"kind": "picture", "name": "theory-phase"}, "data"),
            "facts": Output("theory-facts", "children"),
            "table": Output("theory-table", "children"),
            "problem": Output("theory-problem", "children"),
            "now": Output("theory-now", "data"),
            "query": Output("theory-query", "data"),
        },
        inputs={
            "name": Input("theory-activation", "data"),
            "text": Input("theory-formula", "value"),
            "sigma_w": Input("theory-sigma-w", "value"),
            "sigma_b": Input("theory-sigma-b", "value"),
            "depth": Input("theory-depth", "value"),
            "revived": Input("revived", "data"),
        },
        state={"last": State("theory-now", "data")},
    )
    def compute(
        name: str,
        text: str | None,
        sigma_w: Any,
        sigma_b: Any,
        depth: Any,
        revived: object,
        last: dict[str, Any] | None,
    ) -> dict[str, Any]:
        try:
            return _answer(
                name,
                text or "",
                SIGMA_W.check("σ_w", sigma_w),
                SIGMA_B.check("σ_b", sigma_b),
                DEPTH.whole(_("depth"), depth),
                fresh=ctx.triggered_id == "revived"
                or not last
                or (last["name"], last["text"]) != (name, text or ""),
            )
        except UnvanishError as error:
            keys = ("phase", "facts", "table", "now", "query")
            return {**dict.fromkeys(keys, no_update), "problem": parts.problem(error)}

    @app.callback(
        {
            **{
                name: Output({"kind": "picture", "name": f"theory-{name}"}, "data")
                for name in LATER
            },
            "deep": Output("theory-deep", "children"),
        },
        Input("theory-now", "data"),
        prevent_initial_call=True,
    )
    def follow(now: dict[str, Any] | None) -> Any:
        """Draw what takes longer after the others."""
        return _later(now) if now else dict.fromkeys((*LATER, "deep"), no_update)


def _activation(name: str, text: str) -> Activation:
    """Return the activation of a name or a typed formula. Raises UsageError, UnknownNameError."""
    if name != FORMULA:
        return named(name[:LONGEST])
    return formula(text if text.strip() else "z")


@lru_cache(maxsize=64)
def _theory(activation: Activation, language: str) -> Theory:
    """Return the theory of an activation; its sentences are in one language."""
    return theory_of(activation)


@lru_cache(maxsize=32)
def _background(activation: Activation, language: str) -> tuple[dict[str, Any], float]:
    """Return the phase diagram without the reader's own point, and its greatest σ_w."""
    settings = _theory(activation, language).settings
    shown = figures.phases(activation, settings, *GRID)
    picture = parts.plain(figures.phase_picture(shown, settings))
    for trace in picture["data"]:
        if trace.get("mode") == "lines":  # black: no legend on a dark page, the caption names it
            trace["showlegend"] = False
    return picture, shown.sigma_w[-1]


@lru_cache(maxsize=128)
def _depths(activation: Activation, sigma_b: float, widest: float) -> Any:
    return figures.depth_scale(activation, sigma_b, widest)


def _answer(
    name: str, text: str, sigma_w: float, sigma_b: float, depth: int, *, fresh: bool
) -> dict[str, Any]:
    activation, language = _activation(name, text), i18n.current()
    theory = _theory(activation, language)
    layer = Layer(activation, sigma_w, sigma_b)
    point = fixed_point(layer)
    background, widest = _background(activation, language)
    return {
        "phase": _with_point(background, sigma_w, sigma_b, point, fresh=fresh),
        "facts": _facts(theory, point),
        "table": _settings(theory) if fresh else no_update,
        "problem": None,
        "now": {
            "name": name,
            "text": text,
            "sigma_w": sigma_w,
            "sigma_b": sigma_b,
            "depth": depth,
            "widest": max(widest, sigma_w),
        },
        "query": _query(name, text, sigma_w, sigma_b, depth),
    }


def _later(now: dict[str, Any]) -> dict[str, Any]:
    activation = _activation(now["name"], now["text"])
    sigma_w, sigma_b = float(now["sigma_w"]), float(now["sigma_b"])
    layer = Layer(activation, sigma_w, sigma_b)
    point = fixed_point(layer)
    grid, depths = _depths(activation, sigma_b, float(now["widest"]))
    lengths = figures.length_map(layer, point)
    correlations = figures.correlation_map(layer, point)
    q = point.q if 0.0 < point.q < 1e4 else 1.0
    return {
        "depth": parts.plain(figures.depth_picture(grid, depths, sigma_w, point.trainable_depth)),
        "slope": parts.plain(figures.slope_picture(activation, q)),
        "lengths": parts.plain(
            figures.map_picture(lengths, _("The length map"), "q", _("q a layer later"))
        ),
        "deep": _deep(layer, int(now["depth"])),
        "correlations": parts.plain(
            figures.map_picture(correlations, _("The correlation map"), "c", _("c a layer later"))
        ),
    }


def _with_point(
    background: dict[str, Any], sigma_w: float, sigma_b: float, point: FixedPoint, *, fresh: bool
) -> Any:
    """Return the phase diagram with the reader's own point on it.

    Unless `fresh`, the browser has the diagram, and only the point is sent.
    """
    trace = figures.own_point(sigma_w, sigma_b, words.times(figures.gain_log10(point)))
    layout = background["layout"]
    low, high = layout["yaxis"]["range"]
    across = [0.0, max(layout["xaxis"]["range"][1], 1.03 * sigma_w)]
    up = [low, max(high, 1.03 * sigma_b)]
    if not fresh:
        change = Patch()
        change["data"][len(background["data"])] = trace
        change["layout"]["xaxis"]["range"] = across
        change["layout"]["yaxis"]["range"] = up
        return change
    return {
        "data": [*background["data"], trace],
        "layout": {
            **layout,
            "xaxis": {**layout["xaxis"], "range": across},
            "yaxis": {**layout["yaxis"], "range": up},
        },
    }


def _deep(layer: Layer, depth: int) -> Any:
    """Return what is predicted of a network of `depth` layers."""
    profile = propagate(layer, depth)
    return parts.facts(
        (
            (
                _("gradient, {depth} layers").format(depth=depth),
                parts.number(profile.gain_log10, words.times(profile.gain_log10)),
            ),
            (
                _("two inputs after {depth} layers").format(depth=depth),
                parts.number(profile.correlation, f"c = {profile.correlation:.2f}"),
            ),
        )
    )


def _facts(theory: Theory, point: FixedPoint) -> Any:
    gains = theory.gains
    gain = figures.gain_log10(point)

    def plain(value: float) -> Any:
        return parts.number(value, words.quantity(value))

    return [
        html.P(theory.critical.statement, className="account"),
        parts.facts(
            (
                (_("gain, forward"), plain(gains.forward)),
                (_("gain, backward"), plain(gains.backward)),
                (_("gain, centred"), plain(gains.centred)),
                (
                    _("greatest slope"),
                    plain(theory.slope_supremum) if theory.slope_supremum is not None else None,
                ),
                (_("phase"), phase_name(point.phase)),
                (_("length q*"), plain(point.q)),
                ("χ₁", plain(point.chi_1)),
                ("χ∥", plain(point.chi_parallel)),
                (_("correlation c*"), plain(point.correlation)),
                (_("gradient, a layer"), parts.number(gain, words.times(gain))),
                (_("depth scale ξ_c"), plain(point.xi_c)),
                (_("trains to about 6 ξ_c"), plain(point.trainable_depth)),
            )
        ),
    ]


def _settings(theory: Theory) -> Any:
    heads, *rows = settings_rows(theory)
    return [
        html.H3(_("What usual choices lead to")),
        parts.table(
            heads,
            rows,
            "layers",
            numbers=range(1, len(heads)),
            label=_("What usual choices lead to"),
        ),
        html.Ul([html.Li(note) for note in theory.notes], className="notes"),
    ]


def _query(name: str, text: str, sigma_w: float, sigma_b: float, depth: int) -> str:
    named_by: dict[str, object] = {"formula": text} if name == FORMULA else {"activation": name}
    numbers = (("sw", sigma_w, SIGMA_W), ("sb", sigma_b, SIGMA_B), ("depth", depth, DEPTH))
    moved = {key: value for key, value, bounds in numbers if value != bounds.default}
    return address.write({**named_by, **moved})
