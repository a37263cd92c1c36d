"""The chain explorer: every factor as a bar, the product, the gradients, the band, the training.

With `story=1` … `story=6` in its address it tells the course note's story, one screen each.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update

from unvanish.chain import ACTIVATIONS, Chain, Solution, Training, explain, formula, train
from unvanish.chain.learn import TASK
from unvanish.errors import UnvanishError
from unvanish.figures import chain as figures
from unvanish.i18n import _
from unvanish.report.explain import Explanation
from unvanish.web import address, controls, parts
from unvanish.web.shell import View
from unvanish.web.site import Site
from unvanish.web.views import setting as settings
from unvanish.web.views.setting import Setting
from unvanish.web.views.stories import STORIES, Story

PICTURES = ("factors", "gradients", "neuron", "training")
AT_ONCE = PICTURES[:3]  # the training is drawn after them: it takes longer
STORY = address.Range(0, len(STORIES), 1, 0)
PLAY = 150  # milliseconds between two frames of the training


def view(site: Site, prefix: str) -> View:
    """Return the view."""

    def show(search: str) -> Any:
        query = address.parse(search)
        number = STORY.whole("story", query.get("story", "0"))
        base = STORIES[number - 1].setting if number else Setting()
        return _page(prefix, number, settings.read(query, base))

    return show


def register(app: Dash, site: Site, prefix: str) -> None:
    """Solve the chain whenever a control is moved."""

    @app.callback(
        output={
            **{
                name: Output({"kind": "picture", "name": f"chain-{name}"}, "data")
                for name in AT_ONCE
            },
            **{f"{name}-says": Output(f"chain-{name}-says", "children") for name in AT_ONCE},
            "now": Output("chain-now", "data"),
            "headline": Output("chain-headline", "children"),
            "told": Output("chain-told", "children"),
            "notes": Output("chain-notes", "children"),
            "problem": Output("chain-problem", "children"),
            "query": Output("chain-query", "data"),
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
    )
    def solve(
        own: Mapping[str, list[float]] | None, revived: object, story: int, **given: Any
    ) -> dict[str, Any]:
        try:
            pairs = {int(k): (w, b) for k, (w, b) in (own or {}).items()}
            made = settings.checked(own=pairs, **given)
            return _answer(made, STORIES[story - 1] if story else None, story)
        except UnvanishError as error:
            keys = [*AT_ONCE, *(f"{name}-says" for name in AT_ONCE)]
            keys += ["now", "headline", "told", "notes", "query"]
            return {**dict.fromkeys(keys, no_update), "problem": parts.problem(error)}

    @app.callback(
        Output({"kind": "picture", "name": "chain-training"}, "data"),
        Output("chain-training-says", "children"),
        Input("chain-now", "data"),
        prevent_initial_call=True,
    )
    def learn(now: dict[str, Any] | None) -> Any:
        if not now or not now["shown"]:
            return no_update, no_update
        chain = Chain(tuple(now["weights"]), tuple(now["biases"]), now["activation"])
        training = _training(chain)
        step = min(int(now["step"]), len(training.steps) - 1)
        return parts.plain(figures.training(training, step)), _progress(training, step)

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


def _answer(made: Setting, story: Story | None, number: int) -> dict[str, Any]:
    shown = story.pictures if story else PICTURES
    chain = made.chain()
    solution = made.solution(_training(chain) if made.step else None)
    one = solution.neurons[max(made.neuron, 1) - 1]
    before = solution.a_0 if one.k == 1 else solution.neurons[one.k - 2].a
    drawn: dict[str, Any] = dict.fromkeys(AT_ONCE, no_update)
    drawn["factors"] = parts.plain(figures.factors(solution))
    if "gradients" in shown:
        drawn["gradients"] = parts.plain(figures.gradients(solution))
    if "neuron" in shown:
        drawn["neuron"] = parts.plain(figures.neuron(made.activation, one.weight, one.bias, before))
    first = solution.neurons[0]
    base = story.setting if story else Setting()
    head = {"story": number} if number else {}
    return {
        **drawn,
        "factors-says": [
            f"∂a_{chain.depth}/∂a_0 = ",
            parts.number(solution.input_gain, explain.precise(solution)),
        ],
        "gradients-says": [
            "∂C/∂w_1 = ",
            parts.number(first.dC_dw, formula.figure(first.dC_dw, first.dC_dw_log10)),
        ],
        "neuron-says": _("Neuron {k}: x = {x}, factor {factor}.").format(
            k=one.k,
            x=formula.figure(before),
            factor=formula.figure(one.factor, one.factor_log10),
        ),
        "now": {
            "weights": chain.weights,
            "biases": chain.biases,
            "activation": chain.activation,
            "step": made.step,
            "shown": "training" in shown,
        },
        "headline": explain.headline(solution),
        "told": [html.P(text) for text in story.tell(solution)] if story else [],
        "notes": [] if story else _notes(made, solution),
        "problem": None,
        "query": address.write({**head, **made.differences(base)}),
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


# --- the page ------------------------------------------------------------------------------------


def _page(prefix: str, number: int, made: Setting) -> list[Any]:
    story = STORIES[number - 1] if number else None
    shown = story.pictures if story else PICTURES
    order = [*shown, *(name for name in PICTURES if name not in shown)]
    words_of = _words()
    pictures = [
        html.Div(
            parts.picture(
                f"chain-{name}", words_of[name], 460 if name in ("factors", "training") else 320
            ),
            hidden=name not in shown,
            className="first" if position == 0 else "",
        )
        for position, name in enumerate(order)
    ]
    heading = (
        [
            html.P(
                _("{number} of {count}").format(number=number, count=len(STORIES)), className="lead"
            ),
            html.H1(story.title()),
        ]
        if story
        else [html.H1(_("The chain of single neurons"))]
    )
    return [
        _chapters(prefix, number),
        *heading,
        dcc.Store(id="chain-story", data=number),
        dcc.Store(id="chain-now"),
        *controls.addressed("chain"),
        dcc.Store(id="chain-own", data={str(k): list(pair) for k, pair in made.own.items()}),
        dcc.Store(id="chain-words", data=[_("Play the training"), _("Pause")]),
        dcc.Interval(id="chain-clock", interval=PLAY, disabled=True),
        html.Div(id="chain-told", className="told"),
        *_onward(prefix, number, story),
        html.Div(
            [
                _controls(made),
                html.Div(
                    [
                        parts.empty("chain-problem"),
                        html.P(id="chain-headline", className="account first", role="status"),
                        *pictures,
                        html.Div(id="chain-notes", className="facts", hidden=story is not None),
                    ],
                    className="shown",
                ),
            ],
            className="explorer",
        ),
    ]


def _chapters(prefix: str, number: int) -> Any:
    links = [
        html.Li(
            html.A(
                [f"{i}", html.Span(f". {story.title()}")],
                href=f"{prefix}chain?story={i}",
                **parts.named(**({"aria_current": "step"} if i == number else {})),
            )
        )
        for i, story in enumerate(STORIES, start=1)
    ]
    free = html.Li(
        html.A(
            _("All of it"),
            href=f"{prefix}chain",
            **parts.named(**({} if number else {"aria_current": "step"})),
        )
    )
    return html.Nav(
        html.Ol([*links, free]), className="chapters", **parts.named(aria_label=_("the story"))
    )


def _onward(prefix: str, number: int, story: Story | None) -> list[Any]:
    if story is None:
        return []
    links = []
    if story.next is not None:
        href, text = story.next(prefix)
        links.append(html.A(text, href=href))
    if number < len(STORIES):
        following = STORIES[number].title()
        links.append(
            html.A(
                _("Next: {title}").format(title=following),
                href=f"{prefix}chain?story={number + 1}",
                className="next",
            )
        )
    return [html.P([part for link in links for part in (link, " ")], className="onward")]


def _controls(made: Setting) -> Any:
    neurons = [("0", _("none"))] + [
        (str(k), str(k)) for k in range(1, int(settings.DEPTH.high) + 1)
    ]
    weight, bias = made.own.get(made.neuron, (made.weight, made.bias))
    modes = [("b", _("given")), ("z", _("chosen, so that every z is"))]
    return html.Section(
        [
            parts.slider("chain-depth", _("depth"), settings.DEPTH, made.depth, whole=True),
            parts.choice(
                "chain-activation",
                _("activation"),
                [(name, name) for name in ACTIVATIONS],
                made.activation,
            ),
            parts.slider(
                "chain-weight", _("weight w of every neuron"), settings.WEIGHT, made.weight
            ),
            parts.choice("chain-mode", _("biases"), modes, made.mode),
            parts.slider(
                "chain-bias", _("bias b of every neuron (or its z)"), settings.BIAS, made.bias
            ),
            parts.slider("chain-input", _("input a_0"), settings.INPUT, made.input),
            parts.slider("chain-target", _("target y"), settings.TARGET, made.target),
            html.Fieldset(
                [
                    html.Legend(_("One neuron by itself")),
                    parts.choice("chain-neuron", _("neuron"), neurons, str(made.neuron)),
                    html.Div(
                        [
                            parts.slider(
                                "chain-own-weight", _("its weight"), settings.WEIGHT, weight
                            ),
                            parts.slider(
                                "chain-own-bias", _("its bias (or z)"), settings.BIAS, bias
                            ),
                            html.Button(_("As the others"), id="chain-own-reset", type="button"),
                        ],
                        id="chain-own-controls",
                        hidden=made.neuron == 0,
                    ),
                ]
            ),
            html.Fieldset(
                [
                    html.Legend(_("Training, step by step")),
                    parts.slider("chain-step", _("step"), settings.STEP, made.step, whole=True),
                    html.Button(_("One step"), id="chain-one", type="button"),
                    html.Button(_("Play the training"), id="chain-play", type="button"),
                ]
            ),
        ],
        className="controls",
        **parts.named(aria_label=_("controls")),
    )


def _words() -> dict[str, Explanation]:
    return {
        "factors": Explanation(
            _("Every factor, and their product"),
            _("A bar below 0 shrinks the signal, one above lets it grow. The line: all together."),
            (
                _(
                    "A factor is w_k φ'(z_k): weight times slope. The scale counts powers of ten,"
                    " so factors that multiply are bars that add up. The line starts at the output,"
                    " on the right, and has multiplied all factors when it reaches the front."
                ),
            ),
        ),
        "gradients": Explanation(
            _("The gradient of each weight"),
            _("∂C/∂w_k: how far the cost moves with each weight. The front is on the left."),
            (
                _(
                    "It is the error at the output, times all factors behind neuron k, times the"
                    " slope of neuron k and its input."
                ),
            ),
        ),
        "neuron": Explanation(
            _("The band of good inputs"),
            _("For which inputs x is the factor of one neuron 1 or more?"),
            (
                _(
                    "Choose a neuron among the controls. Where the curve is above the dashed line"
                    " the neuron passes the signal on undiminished. For a sigmoid that needs"
                    " |w| ≥ 4, and larger weights make the band narrower again."
                ),
            ),
        ),
        "training": Explanation(
            _("The chain learns"),
            _("Gradient descent on y = 0.1 + 0.4 x, by the chain's own back-propagation."),
            (
                _(
                    "Above: the loss, and the best that an answer without x can reach. Below: the"
                    " gradients of the first and the last weight. At a step other than 0 the other"
                    " pictures show the chain as it is then."
                ),
            ),
        ),
    }
