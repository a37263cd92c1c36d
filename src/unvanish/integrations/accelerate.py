"""A monitor for what an Accelerator has prepared.

model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
with monitor_prepared(accelerator, model, optimizer):
    train()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accelerate import Accelerator

from unvanish.monitor.attach import attach

if TYPE_CHECKING:
    from torch import nn

    from unvanish.monitor.handle import Monitor


def monitor_prepared(
    accelerator: Accelerator, model: nn.Module, optimizer: Any, **options: Any
) -> Monitor:
    """Monitor a prepared model and its optimiser (or several); options are `unvanish.monitor`'s.

    Steps that the accelerator leaves out while it accumulates are no steps; the run is saved by the
    main process only. Raises UsageError as `unvanish.monitor` does.
    """
    options.setdefault("save", accelerator.is_main_process)
    return attach(accelerator.unwrap_model(model), optimizer, **options)
