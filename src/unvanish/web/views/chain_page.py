"""How the chain explorer is laid out: its story's screens, controls, pictures."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

from unvanish.chain import ACTIVATIONS
from unvanish.i18n import _
from unvanish.report.explain import Explanation
from unvanish.web import controls, parts
from unvanish.web.views import setting as settings
from unvanish.web.views.setting import Setting
from unvanish.web.views.stories import STORIES, Story

PICTURES = ("factors", "gradients", "neuron", "training")
PLAY = 150  # milliseconds between two frames of the training


def page(prefix: str, number: int, made: Setting) -> list[Any]:
    """Return the explorer at a setting; `number` is the story's screen, 0 for all of it."""
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
