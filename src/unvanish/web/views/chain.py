"""The chain explorer: every factor as a bar, the product, the gradients, the band, the training.

With `story=1` … `story=6` in its address it tells the course note's story, one screen each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, html, no_update

from unvanish.chain import Chain, Solution, Training, explain, formula, train
from unvanish.chain.learn import TASK
from unvanish.errors import UnvanishError
from unvanish.figures import chain as figures
from unvanish.i18n import _
from unvanish.web import address, parts
from unvanish.web.shell import View
from unvanish.web.site import Site
from unvanish.web.views import chain_page
from unvanish.web.views import setting as settings
from unvanish.web.views.chain_page import PICTURES
from unvanish.web.views.setting import Setting
from unvanish.web.views.stories import STORIES

LATER = PICTURES[1:]  # drawn after the factors
STORY = address.Range(0, len(STORIES), 1, 0)


def view(site: Site, prefix: str) -> View:
    """Return the view."""

    def show(search: str) -> Any:
        query = address.parse(search)
        number = STORY.whole("story", query.get("story", "0"))
        return chain_page.page(prefix, number, settings.read(query, _base(number)))

    return show


def register(app: Dash, site: Site, prefix: str) -> None:
    """Solve the chain whenever a control is moved."""

    @app.callback(
        output={
            "factors": Output({"kind": "picture", "name": "chain-factors"}, "data"),
            "says": Output("chain-factors-says", "children"),
            "headline": Output("chain-headline", "children"),
            "told": Output("chain-told", "children"),
            "problem": Output("chain-problem", "children"),
            "query": Output("chain-query", "data"),
            # where the story puts it first
            "training": Output(
                {"kind": "picture", "name": "chain-training"}, "data", allow_duplicate=True
            ),
            "training-says": Output("chain-training-says", "children", allow_duplicate=True),
        },
        inputs={
            "depth": Input("chain-depth", "value"),
            "activation": Input("chain-activation", "data"),
            "mode": Input("chain-mode", "data"),
            "weight": Input("chain-weight", "value"),
            "bias": Input("chain-bias", "value"),
            "a_0": Input("chain-input", "value"),
            "target": Input("chain-target", "value"),
            "step": Input("chain-step", "value"),
            "neuron": Input("chain-neuron", "data"),
            "own": Input("chain-own", "data"),
            "revived": Input("revived", "data"),
        },
        state={"story": State("chain-story", "data")},
        prevent_initial_call="initial_duplicate",
    )
    def solve(
        own: Mapping[str, list[float]] | None, revived: object, story: int, **given: Any
    ) -> dict[str, Any]:
        try:
            pairs = {int(k): (w, b) for k, (w, b) in (own or {}).items()}
            return _answer(settings.checked(own=pairs, **given), story)
        except UnvanishError as error:
            keys = ("factors", "says", "headline", "told", "query", "training", "training-says")
            return {**dict.fromkeys(keys, no_update), "problem": parts.problem(error)}

    @app.callback(
        output={
            **{
                name: Output({"kind": "picture", "name": f"chain-{name}"}, "data") for name in LATER
            },
            **{f"{name}-says": Output(f"chain-{name}-says", "children") for name in LATER},
            "notes": Output("chain-notes", "children"),
        },
        inputs={"query": Input("chain-query", "data")},
        state={"story": State("chain-story", "data")},
        prevent_initial_call=True,
    )
    def follow(query: str | None, story: int) -> dict[str, Any]:
        """Draw the rest of what the address says, once the factors are drawn."""
        return _later(settings.read(address.parse(query), _base(story)), story)

    for name, output, inputs, states in (
        (
            "pick",
            (Output("chain-own-weight", "value", allow_duplicate=True),
             Output("chain-own-bias", "value", allow_duplicate=True),
             Output("chain-own-controls", "hidden")),
            (Input("chain-neuron", "data"),),
            (State("chain-own", "data"), State("chain-weight", "value"),
             State("chain-bias", "value")),
        ),
        (
            "own",
            (Output("chain-own", "data"),),
            (Input("chain-own-weight", "value"), Input("chain-own-bias", "value"),
             Input("chain-own-reset", "n_clicks")),
            (State("chain-neuron", "data"), State("chain-own", "data"),
             State("chain-weight", "value"), State("chain-bias", "value")),
        ),
    ):  # fmt: skip
        app.clientside_callback(
            ClientsideFunction("unvanish", name), output, inputs, states, prevent_initial_call=True
        )
    app.clientside_callback(
        ClientsideFunction("unvanish", "advance"),
        Output("chain-step", "value", allow_duplicate=True),
        Output("chain-clock", "disabled"),
        Output("chain-play", "children"),
        Input("chain-clock", "n_intervals"),
        Input("chain-play", "n_clicks"),
        Input("chain-one", "n_clicks"),
        State("chain-step", "value"),
        State("chain-clock", "disabled"),
        State("chain-words", "data"),
        prevent_initial_call=True,
    )


@lru_cache(maxsize=64)
def _training(chain: Chain) -> Training:
    return train(chain, TASK, steps=int(settings.STEP.high))


def _base(number: int) -> Setting:
    return STORIES[number - 1].setting if number else Setting()


def _shown(number: int) -> Sequence[str]:
    return STORIES[number - 1].pictures if number else PICTURES


def _answer(made: Setting, number: int) -> dict[str, Any]:
    training = _training(made.chain()) if made.step or _shown(number)[0] == "training" else None
    solution = made.solution(training)
    told = STORIES[number - 1].tell(solution) if number else ()
    head = {"story": number} if number else {}
    return {
        **_drawn_training(training if _shown(number)[0] == "training" else None, made.step),
        "factors": parts.plain(figures.factors(solution))
        if "factors" in _shown(number)
        else no_update,
        "says": [
            f"∂a_{made.depth}/∂a_0 = ",
            parts.number(solution.input_gain, explain.precise(solution)),
        ],
        "headline": explain.headline(solution),
        "told": [html.P(parts.prose(text)) for text in told],
        "problem": None,
        "query": address.write({**head, **made.differences(_base(number))}),
    }


def _later(made: Setting, number: int) -> dict[str, Any]:
    shown = _shown(number)
    training = _training(made.chain()) if made.step or "training" in shown else None
    solution = made.solution(training)
    answer: dict[str, Any] = dict.fromkeys((*LATER, *(f"{name}-says" for name in LATER)), no_update)
    if "gradients" in shown:
        first = solution.neurons[0]
        answer["gradients"] = parts.plain(figures.gradients(solution))
        answer["gradients-says"] = [
            "∂C/∂w_1 = ",
            parts.number(first.dC_dw, formula.figure(first.dC_dw, first.dC_dw_log10)),
        ]
    if "neuron" in shown:
        one = solution.neurons[max(made.neuron, 1) - 1]
        before = solution.a_0 if one.k == 1 else solution.neurons[one.k - 2].a
        answer["neuron"] = parts.plain(
            figures.neuron(made.activation, one.weight, one.bias, before)
        )
        answer["neuron-says"] = _("Neuron {k}: x = {x}, factor {factor}.").format(
            k=one.k,
            x=formula.figure(before),
            factor=formula.figure(one.factor, one.factor_log10),
        )
    if shown[0] != "training":
        answer |= _drawn_training(training if "training" in shown else None, made.step)
    return {**answer, "notes": [] if number else _notes(made, solution)}


def _drawn_training(training: Training | None, step: int) -> dict[str, Any]:
    """Return the picture of a training and its sentence; nothing without one."""
    if training is None:
        return {"training": no_update, "training-says": no_update}
    step = min(step, len(training.steps) - 1)
    return {
        "training": parts.plain(figures.training(training, step)),
        "training-says": _progress(training, step),
    }


def _progress(training: Training, step: int) -> str:
    """Return what the training has come to at `step`, and what becomes of it."""
    return " ".join(
        (
            _("Step {step}: loss {loss}.").format(
                step=step, loss=formula.figure(training.losses[step])
            ),
            _("After all {steps} steps:").format(steps=len(training.steps) - 1),
            explain.story(training),
        )
    )


def _notes(made: Setting, solution: Solution) -> list[Any]:
    in_slopes, in_factors, result = formula.numbers(solution)
    found = [
        html.H3(_("The chain rule, written out")),
        html.Pre(
            "\n".join(
                (
                    formula.symbols(solution.chain.depth, solution.chain.activation),
                    formula.slope_in_symbols(solution.chain.activation),
                    f"        = {in_slopes}",
                    f"        = {in_factors}",
                    f"        = {result}",
                )
            ),
            className="mono formula",
            tabIndex=0,
        ),
        html.Ul([html.Li(note) for note in explain.notes(solution, made.mode == "z")]),
    ]
    if made.step == 0:
        found += [
            html.P(
                [
                    _("The same numbers in the terminal:"),
                    " ",
                    html.Code(made.command(), id="chain-command"),
                ]
            )
        ]
    return found
