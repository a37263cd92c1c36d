"""A callback for pytorch-lightning: `Trainer(callbacks=[UnvanishCallback()])`.

With `log=True` the trainer's own loggers get the numbers too.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from unvanish.monitor.attach import attach

if TYPE_CHECKING:
    from pytorch_lightning import Callback

    from unvanish.monitor.handle import Monitor
elif "lightning.pytorch" in sys.modules and "pytorch_lightning" not in sys.modules:
    from lightning.pytorch import Callback  # the same library under its other name
else:
    from pytorch_lightning import Callback


class UnvanishCallback(Callback):
    """Monitors the LightningModule and its optimisers while `fit` runs; `monitor` is the monitor.

    Takes the options of `unvanish.monitor`. Gradients are read where the optimiser gets them: after
    accumulation, unscaling and clipping.
    """

    def __init__(self, *, log: bool = False, **options: Any) -> None:
        """`log`: also to the trainer's loggers; `options` are those of `unvanish.monitor`."""
        self.monitor: Monitor | None = None
        self._log = log
        self._options = options

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Attach, once the optimisers are there."""
        if trainer.optimizers:
            loggers = trainer.loggers if self._log else []
            options = {**self._options, "sinks": [*self._options.get("sinks", ()), *loggers]}
            self.monitor = attach(pl_module, trainer.optimizers, **options)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Save the run."""
        if self.monitor is not None:
            self.monitor.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Save the run, with what ended it."""
        if self.monitor is not None:
            self.monitor.close(exception)
