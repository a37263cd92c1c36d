"""A project's own model held in CI: one batch, one backward, and no finding above a remark."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.optim import Optimizer

from unvanish.checking import check
from unvanish.diagnose.catalogue import rules
from unvanish.diagnose.config import load_config
from unvanish.errors import UnknownNameError, UsageError
from unvanish.i18n import _
from unvanish.records import Diagnosis, Finding

MaxSeverity = Literal["info", "warning"]


class UnhealthyError(AssertionError):
    """A backward signal has findings that its test does not accept.

    The message is the report; `diagnosis` is the whole verdict, `findings` what was not accepted.
    """

    def __init__(self, diagnosis: Diagnosis, findings: tuple[Finding, ...]) -> None:
        """Say which findings were not accepted, how to accept them, and the whole report."""
        codes = tuple(dict.fromkeys(finding.code for finding in findings))
        heading = _(
            "the backward signal is not healthy: {codes}. Mend the model, or accept what is meant"
            " to be so: allow={allow}"
        ).format(codes=", ".join(codes), allow=repr(codes))
        super().__init__(f"{heading}\n\n{diagnosis}")
        self.diagnosis = diagnosis
        self.findings = findings


def assert_healthy(
    model: nn.Module,
    batch: Any,
    loss_fn: Callable[[Any, Any], Tensor],
    *,
    optimizer: Optimizer | None = None,
    allow: Iterable[str] = (),
    max_severity: MaxSeverity = "info",
    probes: int = 4,
) -> Diagnosis:
    """Raise AssertionError, with the report, unless the backward signal of `model` is healthy.

    The arguments are those of `unvanish.check`, which leaves the model as it is: the loss is
    `loss_fn(model, batch)`. Rules and thresholds are those of `[tool.unvanish]` in the
    pyproject.toml of the directory in which the tests run.

    `allow` names rules or families ("DU", "VG103") whose findings are accepted, with those that
    hang under them. Findings up to `max_severity` pass; "warning" lets only errors fail.

    Returns the diagnosis. Raises UnhealthyError (an AssertionError); UnknownNameError for a rule
    that does not exist; and what `unvanish.check` raises when there is nothing to judge.
    """
    __tracebackhide__ = True  # pytest shows the line of the test, not this one
    allowed = accepted_codes(allow, max_severity)
    config = load_config(Path.cwd())
    diagnosis = check(model, batch, loss_fn, optimizer, probes=probes, config=config)
    require_healthy(diagnosis, allowed, max_severity)
    return diagnosis


def require_healthy(
    diagnosis: Diagnosis, allowed: tuple[str, ...], max_severity: MaxSeverity
) -> None:
    """Raise UnhealthyError if `diagnosis` has findings that are not accepted."""
    __tracebackhide__ = True
    failing = _not_accepted(diagnosis, allowed, max_severity)
    if failing:
        raise UnhealthyError(diagnosis, failing)


def accepted_codes(allow: Iterable[str], max_severity: str) -> tuple[str, ...]:
    """Return `allow` in capitals; a code or a severity that does not exist raises UsageError."""
    if max_severity not in get_args(MaxSeverity):
        raise UsageError(
            _("max_severity is {given!r}").format(given=max_severity),
            _('Give "info" (nothing above a remark passes) or "warning" (only errors fail).'),
        )
    wanted = (allow,) if isinstance(allow, str) else tuple(allow)
    codes = tuple(code.strip().upper() for code in wanted)
    known = [rule.code for rule in rules()]
    for code in codes:
        if not code or not any(name.startswith(code) for name in known):
            raise UnknownNameError(
                _("rule"), code, known, _("Give a code or a family, such as VG101 or VG.")
            )
    return codes


def _not_accepted(
    diagnosis: Diagnosis, allowed: tuple[str, ...], max_severity: MaxSeverity
) -> tuple[Finding, ...]:
    passing = ("info",) if max_severity == "info" else ("info", "warning")
    excused = {
        (finding.model, code)
        for finding in diagnosis.findings
        if finding.code.startswith(allowed)
        for code in (finding.code, *finding.explains)
    }
    return tuple(
        finding
        for finding in diagnosis.findings
        if finding.severity not in passing and (finding.model, finding.code) not in excused
    )
