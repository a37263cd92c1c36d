"""One run: what its report says; and, while it goes on, what it has just added."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update
from flask import Flask, Response, request

from unvanish import words
from unvanish.errors import NoSignalError, UnvanishError
from unvanish.figures.history import history_picture
from unvanish.i18n import _
from unvanish.records import Diagnosis
from unvanish.report import focus, layers, pictures
from unvanish.report.explain import Explanation, explanation
from unvanish.report.focus import Focus
from unvanish.report.incidents import describe
from unvanish.report.layers import Fold, Row, factor_parts
from unvanish.report.page import ROOM, render_page
from unvanish.web import address, guard, parts
from unvanish.web.follow import Followers
from unvanish.web.shell import View
from unvanish.web.site import Site
from unvanish.web.views import live

EVERY = 500  # milliseconds between two looks at a run that goes on
VERDICT = 2000  # milliseconds between two looks at its verdict
INCIDENTS = 50


def view(site: Site, prefix: str) -> View:
    """Return the view: `?id=RUN`."""

    def show(search: str) -> Any:
        identity = address.parse(search).get("id", "")
        site.runs.check(identity)
        running = site.runs.state(identity) == "running"
        verdict, content = _content(site, prefix, identity)
        return [
            dcc.Store(id="run-id", data=identity),
            dcc.Store(id="live-seen"),
            html.Section(live.frame(), id="live", hidden=not running),
            dcc.Interval(id="live-tick", interval=EVERY, disabled=not running),
            dcc.Interval(id="verdict-tick", interval=VERDICT, disabled=not running),
            html.Div(verdict, id="run-verdict"),
            html.Div(content, id="run-content"),
            html.Div(_history_frame(), id="run-history", hidden=True),
        ]

    return show


def register(app: Dash, site: Site, prefix: str) -> None:
    """Follow the run while it goes on, and show its report when it has ended."""
    followers = Followers(site.directory)

    @app.callback(
        output={
            "line": Output("live-line", "children"),
            "loss": Output({"kind": "picture", "name": "live-loss"}, "data"),
            "sample": Output({"kind": "picture", "name": "live-sample"}, "data"),
            "says": Output("live-sample-says", "children"),
            "seen": Output("live-seen", "data"),
            "ended": Output("live-ended", "data"),
        },
        inputs=[Input("live-tick", "n_intervals"), Input("revived", "data")],
        state=[State("run-id", "data"), State("live-seen", "data")],
    )
    def follow(
        ticks: int | None, revived: object, identity: str, seen: dict[str, Any] | None
    ) -> dict[str, Any]:
        nothing = dict.fromkeys(("line", "loss", "sample", "says", "seen", "ended"), no_update)
        try:
            site.runs.check(identity)
            follower = followers.of(identity)
        except UnvanishError as error:
            return {**nothing, "line": parts.problem(error)}
        mark = {"mark": follower.mark, "state": follower.state}
        if seen == mark:
            return nothing
        if follower.state != "running":
            # What is below was made after the end, unless this page has seen the run go on.
            return {**nothing, "seen": mark, "ended": True} if seen else {**nothing, "seen": mark}
        return {**nothing, **live.newest(follower), "seen": mark}

    @app.callback(
        Output({"kind": "picture", "name": "run-history"}, "data"),
        Output("run-history-says", "children"),
        Output("run-history", "hidden"),
        Input("run-id", "data"),
        Input("live-ended", "data"),
    )
    def whole(identity: str, ended: bool | None) -> Any:
        try:
            found = site.runs.history(identity)
        except UnvanishError:  # the page says it above
            found = None
        if found is None or len(found.first) < 2:
            return no_update, no_update, True
        text = _("Steps {first} to {last}, in {count} stretches.").format(
            first=found.first[0], last=found.last[-1], count=len(found.first)
        )
        return parts.plain(history_picture(found)), text, False

    @app.callback(
        Output("live", "hidden"),
        Output("live-tick", "disabled"),
        Output("verdict-tick", "disabled"),
        Output("run-verdict", "children"),
        Output("run-content", "children"),
        Input("live-ended", "data"),
        State("run-id", "data"),
        prevent_initial_call=True,
    )
    def end(ended: bool | None, identity: str) -> Any:
        if not ended:
            return [no_update] * 5
        return True, True, True, *_content(site, prefix, identity)

    @app.callback(
        Output("run-verdict", "children", allow_duplicate=True),
        Output("run-content", "children", allow_duplicate=True),
        Input("verdict-tick", "n_intervals"),
        State("run-id", "data"),
        State("run-content", "children"),
        prevent_initial_call=True,
    )
    def judge(ticks: int | None, identity: str, content: list[Any] | None) -> Any:
        """Judge anew while the run goes on; show the rest once there is a first sample."""
        try:
            diagnosis = site.runs.recent(identity)
        except UnvanishError:  # no sample yet
            return no_update, no_update
        rest = no_update if content else report(diagnosis, prefix)
        return _verdict(diagnosis), rest


def add_routes(server: Flask, site: Site) -> None:
    """Add the whole report as one file: `/report?id=RUN`."""

    @server.get("/en/report")
    @server.get("/zh/report")
    def report() -> Response:
        identity = request.args.get("id", "")
        try:
            text = render_page(site.runs.diagnosis(identity))
        except UnvanishError as error:
            return guard.refusal(error.problem, error.remedy, 404)
        answer = Response(text, content_type="text/html; charset=utf-8")
        # It has a policy of its own, which names its scripts by hash.
        answer.headers["Content-Security-Policy"] = "frame-ancestors 'none'"
        return answer


def _content(site: Site, prefix: str, identity: str) -> tuple[Any, list[Any]]:
    """Return the verdict on a run, and what its report says below; nothing without a sample."""
    try:
        diagnosis = site.runs.diagnosis(identity)
    except NoSignalError as error:
        name = words.shorten(words.printable(identity), 60)
        return [html.H1(_("Run {id}").format(id=name)), parts.problem(error)], []
    return _verdict(diagnosis), report(diagnosis, prefix)


def _verdict(diagnosis: Diagnosis) -> Any:
    models = focus.models(diagnosis)
    lines = [focus.training(models[0])] if len(models) == 1 else []
    if diagnosis.run.ending == "running":
        lines.append(_("It goes on: this is the verdict on what was sampled by now."))
    return parts.verdict(diagnosis, *lines)


def report(diagnosis: Diagnosis, prefix: str) -> list[Any]:
    """Return the report of a run below its verdict: what its HTML page shows, in that order."""
    run = diagnosis.run
    models = focus.models(diagnosis)
    notes = focus.degradations(diagnosis)
    return [
        html.P(
            [
                html.A(
                    _("The report as one file"),
                    href=address.link(f"{prefix}report", id=run.id),
                    target="_blank",
                ),
                " · ",
                html.A(
                    _("Compare with another run"),
                    href=address.link(f"{prefix}compare", runs=run.id),
                ),
            ],
            className="lead",
        ),
        *_happened(diagnosis),
        *(part for i, one in enumerate(models) for part in _model(one, i, len(models), prefix)),
        *(
            [
                html.H3(_("Not measured, or only in part")),
                html.Ul([html.Li(note) for note in notes], className="notes"),
            ]
            if notes
            else []
        ),
        _facts(diagnosis, models),
    ]


def _happened(diagnosis: Diagnosis) -> list[Any]:
    """Return the alarms and incidents of a run."""
    run = diagnosis.run
    lines = [
        _("step {step}: {code}: {title}").format(
            step=words.NONE if one.step is None else one.step,
            code=one.code,
            title=focus.title_of(one),
        )
        for one in run.alarms[:INCIDENTS]
    ]
    lines += [describe(one) for one in run.incidents[:INCIDENTS]]
    if not lines:
        return []
    more = len(run.alarms) + len(run.incidents) - len(lines)
    if more:
        lines.append(_("and {count} more").format(count=more))
    return [
        html.Section(
            [html.H3(_("While it ran")), html.Ul([html.Li(parts.prose(x)) for x in lines])],
            className="facts",
        )
    ]


def _model(one: Focus, index: int, count: int, prefix: str) -> list[Any]:
    order = list(dict.fromkeys((*one.pictures, *pictures.PICTURES)))
    drawn = [part for name in order if (part := _picture(name, index, one)) is not None]
    heading = [
        html.H2(words.shorten(words.printable(one.run.name), 80)),
        html.P(
            f"{words.printable(one.run.type)} · {words.verdict_name(one.diagnosis.verdict)}"
            f" · {focus.training(one)}",
            className="lead",
        ),
    ]
    findings = [parts.finding(each, prefix) for each in one.diagnosis.findings]
    return [
        html.Section(
            [
                *(heading if count > 1 else []),
                *drawn[:1],
                *(
                    [html.Section([html.H3(_("Findings")), *findings], className="findings")]
                    if findings
                    else []
                ),
                *drawn[1:],
                *_layers(one),
            ],
            className="model",
        )
    ]


def _picture(name: str, index: int, one: Focus) -> Any | None:
    figure = pictures.draw(name, one)
    if figure is None:
        return None
    accounts = focus.accounts(one.trace) if name == "waterfall" and one.trace is not None else []
    return parts.picture(
        f"{name}-{index}", explanation(name), int(figure.layout.height), figure, accounts
    )


def _layers(one: Focus) -> list[Any]:
    rows = focus.rows(one)
    if not rows or one.trace is None:
        return []
    folded = list(layers.fold(rows, ROOM))
    whole = html.Details(
        [html.Summary(_("All {count} layers").format(count=len(rows))), _table(rows, "tall")],
        className="more",
    )
    return [
        html.Section(
            [
                html.H3(_("The layers")),
                html.P(
                    _(
                        "Step {step}, loss {loss}. Level: log₁₀ of the norm of the gradient at the"
                        " layer's output."
                    ).format(step=one.trace.step, loss=words.loss(one.trace.loss))
                    + (f" {focus.optimizer(one.run.optimizer)}." if one.run.optimizer else ""),
                    className="lead",
                ),
                _table(folded, ""),
                *([whole] if len(folded) != len(rows) else []),
            ],
            className="layers-box",
        )
    ]


def _table(lines: list[Row] | list[Row | Fold], kind: str) -> Any:
    heads = (_("layer"), _("type"), _("level"), _("gain"), _("theory"), "log₁₀")
    return parts.table(
        (*heads, _("factors"), _("notes")),
        [_fold(line) if isinstance(line, Fold) else _line(line) for line in lines],
        f"layers {kind}",
        numbers=(2, 3, 4, 5),
        label=_("The layers"),
    )


def _fold(fold: Fold) -> list[Any]:
    return [html.Em(fold.text), *[""] * 7]


def _line(row: Row) -> list[Any]:
    signal = row.signal
    name = words.shorten(words.module_name(signal.module), 60)
    theory = row.predicted_log10
    return [
        html.Span(name + (f" #{signal.call}" if signal.call else ""), className="mono"),
        words.shorten(words.printable(signal.type), 24),
        parts.number(signal.level_log10, words.level(signal.level_log10)),
        words.times(signal.gain_log10),
        "" if theory is None else parts.number(theory, words.times(theory)),
        parts.number(signal.gain_log10, words.decades(signal.gain_log10)),
        ", ".join(factor_parts(signal)),
        html.Span(", ".join([*row.codes, *(flag.text for flag in row.flags)]), className="flag"),
    ]


def _facts(diagnosis: Diagnosis, models: list[Focus]) -> Any:
    run, place = diagnosis.run, diagnosis.run.environment
    counted = [
        _("{name} ({type}): {steps} steps, {traces} sampled, {numbers} parameters").format(
            name=words.shorten(words.printable(one.run.name), 60),
            type=words.shorten(words.printable(one.run.type), 40),
            steps=len(one.run.steps),
            traces=len(one.run.traces),
            numbers=f"{sum(each.numel for each in one.run.parameters):,}",
        )
        for one in models
    ]
    described = ", ".join(
        (f"Python {place.python}", f"PyTorch {place.torch}", place.platform, place.device)
    )
    return html.Section(
        [
            html.H3(_("The run")),
            parts.facts(
                (
                    (_("command"), words.shorten(words.printable(" ".join(run.command)), 400)),
                    (_("directory"), words.printable(run.directory)),
                    (_("id"), words.printable(run.id)),
                    (_("started"), words.moment(run.created)),
                    (_("took"), _("{seconds} s").format(seconds=words.quantity(run.seconds))),
                    (_("ended"), focus.ending(run)),
                    (_("models"), "; ".join(counted)),
                    (_("environment"), words.printable(described)),
                    (_("recorded by"), f"Unvanish {run.tool_version}"),
                )
            ),
        ],
        className="facts",
    )


def _history_frame() -> Any:
    told = Explanation(
        _("The whole run"),
        _("The size of the backward signal by layer, over all samples."),
        (
            _(
                "Across: the steps, in stretches of equally many samples; each cell is a mean. Up:"
                " the layers, the input at the bottom. It holds every sample that was taken, also"
                " those whose traces were not kept."
            ),
        ),
    )
    return parts.picture("run-history", told, 460)
