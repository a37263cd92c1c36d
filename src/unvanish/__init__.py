"""Unvanish: where a gradient vanishes or explodes, which factor is to blame, what cures it.

This is the one public door. Names are loaded when they are first used, so that `import unvanish`
does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from unvanish._version import __version__

if TYPE_CHECKING:
    from unvanish.checking import check
    from unvanish.errors import UnvanishError
    from unvanish.fix.fixing import fix
    from unvanish.initialisation import InitPlan, init_
    from unvanish.meanfield.facade import critical, gain, theory
    from unvanish.monitor.notebook import watch
    from unvanish.records import Diagnosis, Finding, Run, Trace

# name -> module that defines it
_PUBLIC = {
    "Diagnosis": "unvanish.records",
    "Finding": "unvanish.records",
    "InitPlan": "unvanish.initialisation",
    "Run": "unvanish.records",
    "Trace": "unvanish.records",
    "UnvanishError": "unvanish.errors",
    "check": "unvanish.checking",
    "critical": "unvanish.meanfield.facade",
    "fix": "unvanish.fix",
    "gain": "unvanish.meanfield.facade",
    "init_": "unvanish.initialisation",
    "monitor": "unvanish.monitor",
    "theory": "unvanish.meanfield.facade",
    "watch": "unvanish.monitor.notebook",
}

__all__ = [
    "Diagnosis",
    "Finding",
    "InitPlan",
    "Run",
    "Trace",
    "UnvanishError",
    "__version__",
    "check",
    "critical",
    "fix",
    "gain",
    "init_",
    "monitor",
    "theory",
    "watch",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'unvanish' has no attribute {name!r}")
    module = importlib.import_module(_PUBLIC[name])
    value = module if name in ("fix", "monitor") else getattr(module, name)  # callable packages
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
