"""Where numbers go beside the store: the user's own objects, through a small Protocol.

`unvanish.testing.conformance.SinkConformance` tests a sink. A package names its own by entry points

    [project.entry-points."unvanish.sinks"]
    "their.module" = "their.package:TheirSink"

and an object whose class lies in `their.module` may then be given as it is.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.records import Finding

# The module of an object's class -> what wraps it. Looked up by name: nothing is imported for it.
_KNOWN = {
    "torch.utils.tensorboard": "unvanish.integrations.tensorboard:TensorBoardSink",
    "tensorboardX": "unvanish.integrations.tensorboard:TensorBoardSink",
    "wandb": "unvanish.integrations.wandb:WandbSink",
    "mlflow": "unvanish.integrations.mlflow:MlflowSink",
    "pathlib": "unvanish.integrations.jsonl:JsonlSink",
    "opentelemetry": "unvanish.integrations.opentelemetry:OpenTelemetrySink",
    "transformers.trainer": "unvanish.integrations.transformers_report:TransformersSink",
    **dict.fromkeys(
        (
            "pytorch_lightning.loggers",
            "lightning.pytorch.loggers",
            "lightning_fabric.loggers",
            "lightning.fabric.loggers",
        ),
        "unvanish.integrations.lightning_logger:LightningLoggerSink",
    ),
}


@runtime_checkable
class Sink(Protocol):
    """Takes numbers and alarms. What it raises is reported once, and it gets no more."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take numbers by name, such as "unvanish/gradient/0.weight"; nan and inf are data."""

    def alarm(self, step: int, finding: Finding) -> None:
        """Take an alarm."""

    def close(self) -> None:
        """Hand on what is buffered. The user's own object stays open."""


def adapted(given: Iterable[Any]) -> list[Sink]:
    """Return sinks: those given, and known objects wrapped. Raises UsageError for others."""
    return [one if isinstance(one, Sink) else _wrapper(one)(one) for one in given]


def alarm_text(finding: Finding) -> str:
    """Return an alarm as one line."""
    return f"{finding.code}: {finding.title} {finding.remedy}"


def _wrapper(given: Any) -> Callable[[Any], Sink]:
    # A user's own subclass of a known class will do too.
    homes = [f"{kind.__module__}." for kind in type(given).__mro__]
    for module, target in _KNOWN.items():
        if any(home.startswith(f"{module}.") for home in homes):
            package, _colon, name = target.partition(":")
            wrapper: Callable[[Any], Sink] = getattr(importlib.import_module(package), name)
            return wrapper
    for entry in entry_points(group="unvanish.sinks"):
        if any(home.startswith(f"{entry.name}.") for home in homes):
            loaded: Callable[[Any], Sink] = entry.load()
            return loaded
    raise UsageError(
        _("{type} is no sink").format(type=f"{type(given).__module__}.{type(given).__qualname__}"),
        _("Give a tracker's own object, a Path of a .jsonl file, or write, alarm and close."),
    )
