"""Why nothing was measured, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from unvanish.errors import NoSignalError
from unvanish.i18n import _


@dataclass(frozen=True, slots=True)
class NothingSeen:
    """What a script did that gave no backward signal."""

    torch_imported: bool
    backwards: int = 0  # backward passes that ran
    steps: int = 0  # optimiser steps
    without_graph: int = 0  # calls of backward on what has no graph
    not_scalar: tuple[int, ...] | None = None  # shape of a loss that was no scalar

    def error(self, script_error: str | None = None) -> NoSignalError:
        """Return the most telling reason, with its remedy.

        `script_error` is the last line of the script's traceback.
        """
        if script_error is not None and "empty parameter list" in script_error:
            return NoSignalError(
                _("the optimiser was given no parameters"),
                _("Check that the model has layers; keep lists of them in nn.ModuleList."),
            )
        if self.not_scalar is not None:
            return NoSignalError(
                _("the loss has shape {shape}, and backward needs a scalar").format(
                    shape=self.not_scalar
                ),
                _("Reduce it: loss.mean().backward(), or reduction='mean' in the loss function."),
            )
        if self.without_graph:
            return NoSignalError(
                _("backward was called on a loss that depends on nothing that needs a gradient"),
                _(
                    "Look for no_grad(), detach(), torch.tensor(loss), frozen parameters, a model"
                    " without parameters."
                ),
            )
        if script_error is not None:
            return NoSignalError(
                _("the script failed before a backward pass was seen"),
                _("Mend the error above, then run it again."),
            )
        if self.backwards:
            return NoSignalError(
                _("no backward pass could be measured"), _("The line above says why.")
            )
        if not self.torch_imported:
            return NoSignalError(
                _("the script did not import torch"),
                _("Give the script that trains; processes it starts are not watched."),
            )
        if self.steps:
            return NoSignalError(
                _("the optimiser stepped, but backward was never called"),
                _("Gradients from torch.func are not seen; use loss.backward() in this run."),
            )
        return NoSignalError(
            _("the script never called backward"),
            _("Run the script that trains; under no_grad() there is no gradient to measure."),
        )
