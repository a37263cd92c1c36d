"""A sink for transformers' Trainer: its own reports get the numbers.

    trainer.add_callback(UnvanishCallback(sinks=[trainer]))

What `report_to` names (TensorBoard, W&B, MLflow, …) gets all numbers, at the step they are of;
`trainer.state.log_history` gets those of the model as a whole, for it is saved with checkpoints.
Nothing is printed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from unvanish.monitor.sinks import alarm_text
from unvanish.records import Finding


class TransformersSink:
    """Reports through the callbacks that transformers' own logs go to."""

    def __init__(self, trainer: Any) -> None:
        """`trainer` is a transformers.Trainer."""
        self._trainer = trainer

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Report the numbers."""
        whole = {name: value for name, value in numbers.items() if name.count("/") == 1}
        self._trainer.state.log_history.append({**whole, "step": step})
        self._report(step, dict(numbers))

    def alarm(self, step: int, finding: Finding) -> None:
        """Report the alarm as text."""
        alarm = {"unvanish/alarm": alarm_text(finding)}
        self._trainer.state.log_history.append({**alarm, "step": step})
        self._report(step, alarm)

    def close(self) -> None:
        """Do nothing: the trainer ends its reports itself."""

    def _report(self, step: int, logs: dict[str, Any]) -> None:
        trainer = self._trainer
        state = copy.copy(trainer.state)
        state.global_step = step  # numbers arrive after their step is over
        for callback in trainer.callback_handler.callbacks:
            if _reports(type(callback)):
                callback.on_log(
                    trainer.args, state, trainer.control, logs=dict(logs), model=trainer.model
                )


def _reports(kind: type) -> bool:
    """Whether a callback is one of those that `report_to` names."""
    return any(one.__module__.startswith("transformers.integrations.") for one in kind.__mro__)
