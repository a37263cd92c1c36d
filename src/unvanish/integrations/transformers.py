"""A callback for transformers: `Trainer(…, callbacks=[UnvanishCallback()])`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from unvanish.monitor.attach import attach

if TYPE_CHECKING:
    from unvanish.monitor.handle import Monitor


class UnvanishCallback(TrainerCallback):
    """Monitors the model while `train` runs; `monitor` is the monitor.

    Takes the options of `unvanish.monitor`. transformers hands its callbacks clipped gradients;
    this one sees them where the optimiser gets them, and says by what factor they were clipped.
    """

    def __init__(self, **options: Any) -> None:
        """`options` are those of `unvanish.monitor`."""
        self.monitor: Monitor | None = None
        self._options = options

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Attach, once the optimiser is there."""
        model, optimizer = given.get("model"), given.get("optimizer")
        if model is not None and optimizer is not None:
            self.monitor = attach(model, optimizer, **self._options)

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Save the run. (Of a training that raises, it is saved when the program ends.)"""
        if self.monitor is not None:
            self.monitor.close()
