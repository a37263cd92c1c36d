"""How the theory explorer is laid out: its controls and pictures."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

from unvanish.i18n import _
from unvanish.meanfield.catalogue import NAMES
from unvanish.meanfield.formula import FUNCTIONS, LONGEST
from unvanish.report.explain import Explanation
from unvanish.web import address, controls, parts

SIGMA_W = address.Range(0.05, 12.0, 0.05, 1.5)
SIGMA_B = address.Range(0.0, 3.0, 0.05, 0.1)
DEPTH = address.Range(1, 200, 1, 20)
FORMULA = "formula"  # the choice that is no name


def page(name: str, text: str, sigma_w: float, sigma_b: float, depth: int) -> list[Any]:
    """Return the explorer with its controls where they are asked to be."""
    names = [(FORMULA, _("a formula of your own"))] + [(each, each) for each in NAMES]
    if name not in (FORMULA, *NAMES):
        names.append((name, name))  # with parameters: leaky_relu(0.2)
    told = _words()
    return [
        html.H1(_("The theory of an activation")),
        html.P(
            _(
                "Mean-field theory of wide plain networks: weights of variance σ_w²/fan_in, biases"
                " of variance σ_b². Gradients vanish in the ordered phase and grow in the chaotic."
            ),
            className="lead",
        ),
        dcc.Store(id="theory-now"),
        *controls.addressed("theory"),
        html.Div(
            [
                html.Section(
                    [
                        parts.choice("theory-activation", _("activation"), names, name),
                        html.Div(
                            [
                                html.Label(_("formula of z"), htmlFor="theory-formula"),
                                dcc.Input(
                                    id="theory-formula",
                                    type="text",
                                    value=text,
                                    maxLength=LONGEST,
                                    debounce=0.4,
                                    placeholder="z * sigmoid(1.7 * z)",
                                    spellCheck=False,
                                    autoComplete="off",
                                ),
                                html.Small(
                                    _(
                                        "z, numbers, + − * / **, {names}; choose “a formula” above"
                                    ).format(names=", ".join([*FUNCTIONS, "max", "min"]))
                                ),
                            ],
                            className="control",
                        ),
                        parts.slider("theory-sigma-w", _("weights, σ_w"), SIGMA_W, sigma_w),
                        parts.slider("theory-sigma-b", _("biases, σ_b"), SIGMA_B, sigma_b),
                        parts.slider("theory-depth", _("depth"), DEPTH, depth, whole=True),
                        html.Div(id="theory-facts", className="facts"),
                        html.Div(id="theory-deep", className="facts more"),
                    ],
                    className="controls",
                    **parts.named(aria_label=_("controls")),
                ),
                html.Div(
                    [
                        parts.empty("theory-problem"),
                        html.Div(_picture("phase", told, 440), className="first"),
                        *(
                            _picture(key, told, 340)
                            for key in ("depth", "slope", "lengths", "correlations")
                        ),
                        html.Div(id="theory-table"),
                    ],
                    className="shown",
                ),
            ],
            className="explorer",
        ),
    ]


def _picture(name: str, told: dict[str, Explanation], height: int) -> Any:
    return parts.picture(f"theory-{name}", told[name], height)


def _words() -> dict[str, Explanation]:
    return {
        "slope": Explanation(
            _("The activation and its slope"),
            _("Grey: where most pre-activations lie, within ±√q*."),
            (
                _(
                    "The gradient is multiplied by the slope at the pre-activation of every unit."
                    " What counts is the slope within the grey band."
                ),
            ),
        ),
        "phase": Explanation(
            _("Where gradients vanish and where they grow"),
            _("Blue: each layer shrinks the gradient. Red: each lets it grow. Black: the border."),
            (
                _(
                    "Colour is ½ log₁₀ χ₁ at the fixed point of the length map: the gain of the"
                    " gradient's norm, a layer. On the critical line it is 1. Your choice of σ_w"
                    " and σ_b is the star."
                ),
            ),
        ),
        "depth": Explanation(
            _("How deep it trains"),
            _("6 ξ_c, the greatest depth that plain networks were found to train, over σ_w."),
            (
                _(
                    "ξ_c is the number of layers in which two inputs become e times more alike (or"
                    " unlike). It is infinite at the critical line (Schoenholz et al. 2017)."
                ),
            ),
        ),
        "lengths": Explanation(
            _("The length map"),
            _("The variance q of the pre-activations, a layer later."),
            (
                _(
                    "Where the curve crosses the dashed line, lengths settle. If it never does,"
                    " they vanish or explode."
                ),
            ),
        ),
        "correlations": Explanation(
            _("The correlation map"),
            _("How alike two inputs are, a layer later."),
            (
                _(
                    "At c = 1 two inputs are the same. If the curve lies above the dashed line all"
                    " the way, all inputs become alike, and nothing can be told apart any more."
                ),
            ),
        ),
    }
