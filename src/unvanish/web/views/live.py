"""What a run that goes on has added last: for the view of a run and for the playground."""

from __future__ import annotations

from typing import Any

from dash import dcc, html, no_update

from unvanish import figures, words
from unvanish.figures.live import newest as newest_sample
from unvanish.i18n import _
from unvanish.report import focus
from unvanish.report.explain import Explanation, explanation
from unvanish.report.incidents import describe
from unvanish.web import parts
from unvanish.web.follow import Follower


def frame() -> list[Any]:
    """Return the place of what a run adds while it goes on."""
    return [
        html.H2(_("Live")),
        html.P(id="live-line"),
        dcc.Store(id="live-ended"),
        parts.picture("live-loss", explanation("loss"), 300),
        parts.picture("live-sample", sample_words(), 340),
    ]


def sample_words() -> Explanation:
    """Return what the picture of the newest sample is."""
    return Explanation(
        _("The newest sample"), _("The size of the backward signal, layer by layer."), ()
    )


def newest(follower: Follower) -> dict[str, Any]:
    """Return what the run has added last: a line, and the data of two pictures."""
    sample = next(
        (
            found
            for quantity in ("level", "gradient")
            if (found := follower.readings.get((0, quantity))) is not None
        ),
        None,
    )
    line = figures.loss(follower.steps)
    return {
        "line": _line_of(follower),
        "loss": no_update if line is None else parts.plain(line),
        "sample": no_update if sample is None else parts.plain(newest_sample(sample)),
        "says": "" if sample is None else _("Step {step}").format(step=sample.step),
    }


def _line_of(follower: Follower) -> list[Any]:
    last, sampled = follower.last, follower.sampled
    if last is None:
        return [_("Running: no step is over yet.")]
    text = _("Running: step {step}, loss {loss}; last sampled step").format(
        step=last.step, loss=words.loss(last.loss)
    )
    shown = words.NONE if sampled is None else str(sampled.step)
    troubles = [f"{a.code}: {focus.title_of(a)}" for a in follower.alarms[-5:]]
    troubles += [describe(one) for one in follower.incidents[-5:]]
    return [
        html.Span(className="pulse", **parts.named(aria_hidden="true")),
        text,
        " ",
        html.Data(shown, value=shown, id="live-sampled"),
        *(
            [html.Br(), html.Span(" · ".join(troubles), className="flag", role="alert")]
            if troubles
            else []
        ),
    ]
