"""What each kind of record shows in a notebook: a fragment of HTML, no script, loads nothing."""

from __future__ import annotations

from functools import singledispatch

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from unvanish import words
from unvanish.chain import Claims, Solution, Training, explain
from unvanish.i18n import _
from unvanish.meanfield.critical import Criticality
from unvanish.meanfield.facade import Theory
from unvanish.records import Cure, Diagnosis, Fix, ModelRun, Proof, Run, Trace
from unvanish.report import fix_words, focus
from unvanish.report.chain import claims_view, solution_view, training_view
from unvanish.report.comparison import Comparison
from unvanish.report.comparison_view import view as comparison_view
from unvanish.report.notebook import repr_html, trace_html
from unvanish.report.rich_html import to_html
from unvanish.report.theory import facts_view


@singledispatch
def fragment(shown: object) -> str:
    """Return what `shown` shows in a notebook."""
    raise TypeError(f"nothing shows a {type(shown).__name__}")


fragment.register(Diagnosis)(repr_html)
fragment.register(Trace)(trace_html)


@fragment.register
def _run(shown: Run) -> str:
    return to_html([_facts(shown), *map(_model_line, shown.models)])


def _facts(run: Run) -> Table:
    table = Table.grid()
    table.add_column()
    table.add_column()
    rows = (
        (_("run"), run.id),
        (_("created"), run.created),
        (_("command"), " ".join(run.command)),
        (_("ending"), focus.ending(run)),
    )
    for name, value in rows:
        table.add_row(Text(name, style="bold"), Text(words.shorten(words.printable(value), 200)))
    return table


def _model_line(model: ModelRun) -> Text:
    losses = [step.loss for step in model.steps]
    return Text(
        _("{model}: {steps} steps, {traces} of them traced; loss {first} → {last}").format(
            model=words.printable(f"{model.name} ({model.type})"),
            steps=len(model.steps),
            traces=len(model.traces),
            first=words.loss(losses[0]) if losses else words.NONE,
            last=words.loss(losses[-1]) if losses else words.NONE,
        )
    )


@fragment.register
def _fix(shown: Fix) -> str:
    from unvanish.report.fix_page import repr_html  # it draws: with Plotly

    return repr_html(shown)


@fragment.register
def _cure(shown: Cure) -> str:
    title = Text(words.printable(shown.name), style="bold")
    what = words.printable(shown.summary)
    told = [fix_words.status_name(shown.status), fix_words.evidence(shown), fix_words.reason(shown)]
    code = (Padding(Text(words.printable(line)), (0, 0, 0, 2)) for line in shown.code.splitlines())
    return to_html([title, what, Text(" · ".join(part for part in told if part)), *code])


@fragment.register
def _proof(shown: Proof) -> str:
    table = Table(_("seed"), _("untreated"), _("cured"))
    for column in table.columns[1:]:
        column.justify = "right"
    for seed, before, after in zip(shown.seeds, shown.baseline_scores, shown.scores, strict=False):
        table.add_row(str(seed), words.loss(before), words.loss(after))
    outcome = _("proven") if shown.proven else shown.why_not
    verdicts = ", ".join(words.verdict_name(one) for one in dict.fromkeys(shown.verdicts_after))
    said = _("{outcome}; better on {beaten}; verdict after: {verdicts}").format(
        outcome=words.printable(outcome), beaten=fix_words.better_on(shown), verdicts=verdicts
    )
    return to_html([Text(said, style="bold"), table])


@fragment.register
def _comparison(shown: Comparison) -> str:
    return to_html(comparison_view(shown))


@fragment.register
def _solution(shown: Solution) -> str:
    return to_html(solution_view(shown, explain.notes(shown, shown.chain.chosen)))


@fragment.register
def _training(shown: Training) -> str:
    return to_html(training_view({shown.chain.activation: shown}, [explain.story(shown)]))


@fragment.register
def _claims(shown: Claims) -> str:
    return to_html(claims_view(shown, explain.verdicts(shown)))


@fragment.register
def _theory(shown: Theory) -> str:
    return to_html(facts_view(shown))


@fragment.register
def _criticality(shown: Criticality) -> str:
    return to_html([shown.statement])
