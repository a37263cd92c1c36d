"""The playground: a small network trained live by the server, its trace beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update

from unvanish import store, words
from unvanish.diagnose import diagnose
from unvanish.errors import UnvanishError
from unvanish.i18n import _
from unvanish.report import focus, pictures
from unvanish.report.explain import explanation
from unvanish.web import address, parts, playground
from unvanish.web import controls as shared
from unvanish.web.follow import Follower
from unvanish.web.playground import Training
from unvanish.web.shell import View
from unvanish.web.site import Site
from unvanish.web.views import live

EVERY = 400  # milliseconds between two looks
NAMES = tuple(playground.DEFAULTS)
SHOWN = 3  # pictures of a training that has ended


def view(site: Site, prefix: str) -> View:
    """Return the view: `?activation=relu&start=he&depth=10`, `&training=ID` to look at one."""

    def show(search: str) -> Any:
        query = address.parse(search)
        given = playground.checked({name: query[name] for name in NAMES if name in query})
        return _page(given, query.get("training"))

    return show


def register(app: Dash, site: Site, prefix: str) -> None:
    """Start, stop and follow trainings."""
    followers: dict[str, Follower] = {}
    controls = {name: Input(f"play-{name}", _property(name)) for name in NAMES}

    @app.callback(
        Output("play-query", "data"),
        inputs={"given": controls, "training": Input("play-training", "data")},
        prevent_initial_call=True,
    )
    def keep(given: Mapping[str, Any], training: str | None) -> str:
        return _query(given, training)

    @app.callback(
        Output("play-training", "data"),
        Output("play-problem", "children"),
        Output("play-tick", "disabled", allow_duplicate=True),
        Output("play-result", "children", allow_duplicate=True),
        Input("play-go", "n_clicks"),
        State("play-training", "data"),
        {name: State(f"play-{name}", _property(name)) for name in NAMES},
        prevent_initial_call=True,
    )
    def start(clicks: int | None, last: str | None, given: Mapping[str, Any]) -> Any:
        try:
            training = site.playground.start(given)
        except UnvanishError as error:
            return no_update, parts.problem(error), no_update, no_update
        return training.identity, None, False, []

    @app.callback(
        Output("play-problem", "children", allow_duplicate=True),
        Input("play-stop", "n_clicks"),
        State("play-training", "data"),
        prevent_initial_call=True,
    )
    def stop(clicks: int | None, training: str | None) -> Any:
        try:
            if training:
                site.playground.stop(training)
        except UnvanishError as error:
            return parts.problem(error)
        return None

    @app.callback(
        output={
            "line": Output("play-line", "children"),
            "loss": Output({"kind": "picture", "name": "play-loss"}, "data"),
            "sample": Output({"kind": "picture", "name": "play-sample"}, "data"),
            "says": Output("play-sample-says", "children"),
            "seen": Output("play-seen", "data"),
            "result": Output("play-result", "children"),
            "done": Output("play-tick", "disabled"),
            "hidden": Output("play-live", "hidden"),
        },
        inputs=[
            Input("play-tick", "n_intervals"),
            Input("play-training", "data"),
            Input("revived", "data"),
        ],
        state=[State("play-seen", "data")],
    )
    def follow(ticks: int | None, identity: str | None, revived: object, seen: Any) -> Any:
        nothing = dict.fromkeys(
            ("line", "loss", "sample", "says", "seen", "result", "done", "hidden"), no_update
        )
        if not identity:
            return {
                **nothing,
                "line": _("No training yet: choose a network, and train it."),
                "done": True,
            }
        try:
            training = site.playground.get(identity)
            return {**nothing, **_look(training, followers, seen, prefix)}
        except UnvanishError as error:
            return {**nothing, "line": parts.problem(error), "done": True}


def _look(training: Training, followers: dict[str, Follower], seen: Any, prefix: str) -> Any:
    """Return what has changed of a training since the reader last looked."""
    running = training.running
    identity = training.run()
    if identity is None:
        if running:
            return {"line": _("Starting: loading PyTorch …"), "done": False}
        return {"line": _ended(training), "done": True}
    follower = followers.get(training.identity)
    if follower is None:
        if len(followers) > playground.KEPT:
            followers.clear()
        follower = followers[training.identity] = Follower(store.Database(training.store), identity)
    follower.look()
    mark = [training.identity, follower.mark, running]
    if mark == seen:
        return {}
    answer = {**live.newest(follower), "seen": mark, "done": not running, "hidden": False}
    if not running:
        answer |= {"line": _ended(training), "result": _result(training, identity, prefix)}
    return answer


def _ended(training: Training) -> Any:
    complaint = training.complaint()
    if complaint is not None:
        text = _("The training failed: {reason}").format(reason=words.printable(complaint))
        return html.Span(text, className="problem", role="alert")
    accuracy = training.accuracy()
    if accuracy is None:
        return _("Stopped.")
    return [
        _("Done: right on"),
        " ",
        parts.number(accuracy, f"{100 * accuracy:.1f} %"),
        " ",
        _("of the test images (chance: 10 %)."),
    ]


def _result(training: Training, identity: str, prefix: str) -> list[Any]:
    """Return the verdict on a training that has ended, with its first pictures."""
    diagnosis = diagnose(store.load(identity, training.store))
    models = focus.models(diagnosis)
    if not models or models[0].trace is None:
        return []
    one = models[0]
    order = list(dict.fromkeys((*one.pictures, "waterfall", "levels", "slopes", "heatmap")))
    drawn = [(name, pictures.draw(name, one)) for name in order]
    shown = [(name, figure) for name, figure in drawn if figure is not None and name != "loss"]
    return [
        parts.verdict(diagnosis, focus.training(one), level=2),
        *(
            parts.picture(f"play-{name}", explanation(name), int(figure.layout.height), figure)
            for name, figure in shown[:SHOWN]
        ),
        *(
            [
                html.Section(
                    [
                        html.H3(_("Findings")),
                        *(parts.finding(each, prefix) for each in one.diagnosis.findings),
                    ],
                    className="findings",
                )
            ]
            if one.diagnosis.findings
            else []
        ),
    ]


def _query(given: Mapping[str, Any], training: str | None) -> str:
    said: dict[str, object] = {
        name: value for name, value in given.items() if str(value) != playground.DEFAULTS[name]
    }
    return address.write({**said, **({"training": training} if training else {})})


def _property(name: str) -> str:
    return "value" if name in ("depth", "width") else "data"


# --- the page ------------------------------------------------------------------------------------


def _page(given: Mapping[str, str], training: str | None) -> list[Any]:
    return [
        html.H1(_("Playground")),
        html.P(
            _(
                "A small network learns to read handwritten digits (1,437 images of 8 × 8), on this"
                " machine: {steps} steps, at most {seconds:.0f} seconds, watched as by `unvanish"
                " run`."
            )
            .format(steps=playground.STEPS, seconds=playground.SECONDS)
            .replace("`", ""),
            className="lead",
        ),
        dcc.Store(id="play-training", data=training),
        dcc.Store(id="play-seen"),
        *shared.addressed("play"),
        dcc.Interval(id="play-tick", interval=EVERY, disabled=not training),
        html.Div(
            [
                _controls(given),
                html.Div(
                    [
                        html.Div(id="play-problem", className="first"),
                        html.P(id="play-line", className="account first", role="status"),
                        html.Div(
                            [
                                parts.picture("play-loss", explanation("loss"), 300),
                                parts.picture("play-sample", live.sample_words(), 340),
                            ],
                            id="play-live",
                            hidden=True,
                        ),
                        html.Div(id="play-result"),
                    ],
                    className="shown",
                ),
            ],
            className="explorer",
        ),
    ]


def _controls(given: Mapping[str, str]) -> Any:
    labels = {
        "activation": _("activation"),
        "start": _("starting weights"),
        "normalisation": _("normalisation"),
        "residual": _("residual connections"),
        "lr": _("learning rate"),
    }
    said = {
        "default": _("PyTorch's default"),
        "xavier": "Xavier",
        "he": "He",
        "orthogonal": _("orthogonal"),
        "small": _("small: 0.01"),
        "large": _("large: ten times the usual"),
        "none": _("none"),
        "layer": "LayerNorm",
        "batch": "BatchNorm",
        "no": _("no"),
        "yes": _("yes"),
    }
    choices = {
        name: parts.choice(
            f"play-{name}",
            labels[name],
            [(value, said.get(value, value)) for value in known],
            given[name],
        )
        for name, known in playground.CHOICES.items()
    }
    depth = parts.slider(
        "play-depth", _("depth"), playground.DEPTH, int(given["depth"]), whole=True
    )
    width = parts.slider(
        "play-width", _("width"), playground.WIDTH, int(given["width"]), whole=True
    )
    order = ("activation", "start", "normalisation", "residual", "lr")
    return html.Section(
        [
            *(choices[name] for name in order[:2]),
            depth,
            width,
            *(choices[name] for name in order[2:]),
            html.Button(_("Train"), id="play-go", type="button", className="main"),
            html.Button(_("Stop"), id="play-stop", type="button"),
        ],
        className="controls",
        **parts.named(aria_label=_("controls")),
    )
