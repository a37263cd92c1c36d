"""The verdict on a run."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from unvanish.records.findings import Finding
from unvanish.records.run import Run
from unvanish.records.vocabulary import Training, Verdict
from unvanish.shown import Shown


@dataclass(frozen=True, slots=True)
class ModelDiagnosis:
    """The verdict on one model."""

    name: str
    verdict: Verdict
    training: Training
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Diagnosis(Shown):
    """The verdict on a run. `findings` has the gravest first.

    It shows itself: `print` gives the terminal report, a notebook its own.
    """

    run: Run
    verdict: Verdict
    training: Training
    findings: tuple[Finding, ...]
    models: tuple[ModelDiagnosis, ...]

    def __repr__(self) -> str:
        codes = ", ".join(finding.code for finding in self.findings) or "no finding"
        return f"<Diagnosis {self.verdict}: {codes}; training {self.training}>"

    # Renderers lie above the records and are looked up only when something is shown.
    def __str__(self) -> str:
        text: str = importlib.import_module("unvanish.report.terminal").text(self)
        return text

    def figure(self, name: str | None = None, model: str | None = None) -> Any:
        """Return a picture as a Plotly figure: the one that shows the verdict, or one by its name.

        Names are those of `unvanish report --figure`; `model` is a model's name, by default the one
        with the gravest finding. Raises UnknownNameError for a name that is not known,
        NoSignalError where there is nothing to draw.
        """
        return importlib.import_module("unvanish.report.pictures").of_diagnosis(self, name, model)
