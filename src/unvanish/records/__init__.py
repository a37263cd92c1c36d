"""The narrow waist: what was measured and what was concluded, as plain saveable values.

Data flows one way, measure -> Trace -> diagnose -> Finding -> report. Nothing here computes,
prints or imports torch. Conventions:

- `*_log10` is the decimal logarithm of a Frobenius norm or of a ratio of two. Of a norm, `-inf` is
  exactly zero, `inf` has an infinite entry, `nan` has a NaN among its entries. Of a gain, `nan` is
  unknown: there was no signal to pass on (level -inf), or it was not finite. `None` is not
  measured.
- A *level* is log10 of the norm of dL/dh. A *gain* belongs to one edge of the graph: the norm of
  the part of dL/dinput that passes through the op, over the norm of dL/doutput.
- Module paths are dotted names below the root module (`""` is the root itself).

One room for each step of the way, each knowing only those above it:

    vocabulary.py  factors, verdicts, severities: the words
    trace.py       one backward pass
    findings.py    what a rule found in it
    run.py         a run's models, steps, traces, alarms, incidents
    diagnosis.py   the verdict on a run
    cures.py       what was tried against it, and what is proven
"""

from __future__ import annotations

from unvanish.records.cures import (
    Cure,
    Edited,
    Ensemble,
    Fix,
    LevelAt,
    Predicted,
    Proof,
    RandomSearch,
)
from unvanish.records.diagnosis import (
    Diagnosis,
    ModelDiagnosis,
)
from unvanish.records.findings import (
    Evidence,
    Finding,
    Where,
)
from unvanish.records.run import (
    Environment,
    Incident,
    ModelRun,
    OptimizerFacts,
    ParameterFacts,
    Readings,
    Run,
    StepRecord,
)
from unvanish.records.trace import (
    INPUT_BINS,
    INPUT_REACH,
    ActivationInput,
    AttentionHead,
    CustomBackward,
    GraphCall,
    InnerDerivative,
    LayerPrediction,
    LayerSignal,
    LossHead,
    LossTerm,
    MainPath,
    NonFinite,
    OpGain,
    OpGraph,
    ParameterSignal,
    PathEdge,
    Probe,
    Recurrence,
    Segment,
    Spectrum,
    StepGradient,
    TimeStep,
    Trace,
)
from unvanish.records.vocabulary import (
    FACTORS,
    VERDICTS,
    CureStatus,
    Ending,
    Factor,
    GradientState,
    Phase,
    Severity,
    SourceLine,
    Training,
    Verdict,
)

__all__ = [
    "FACTORS",
    "INPUT_BINS",
    "INPUT_REACH",
    "VERDICTS",
    "ActivationInput",
    "AttentionHead",
    "Cure",
    "CureStatus",
    "CustomBackward",
    "Diagnosis",
    "Edited",
    "Ending",
    "Ensemble",
    "Environment",
    "Evidence",
    "Factor",
    "Finding",
    "Fix",
    "GradientState",
    "GraphCall",
    "Incident",
    "InnerDerivative",
    "LayerPrediction",
    "LayerSignal",
    "LevelAt",
    "LossHead",
    "LossTerm",
    "MainPath",
    "ModelDiagnosis",
    "ModelRun",
    "NonFinite",
    "OpGain",
    "OpGraph",
    "OptimizerFacts",
    "ParameterFacts",
    "ParameterSignal",
    "PathEdge",
    "Phase",
    "Predicted",
    "Probe",
    "Proof",
    "RandomSearch",
    "Readings",
    "Recurrence",
    "Run",
    "Segment",
    "Severity",
    "SourceLine",
    "Spectrum",
    "StepGradient",
    "StepRecord",
    "TimeStep",
    "Trace",
    "Training",
    "Verdict",
    "Where",
]
