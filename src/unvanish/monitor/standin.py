"""What stays of a monitor that has failed while other ranks share with it: it counts steps.

It gives its row at every sampled step, so that no rank waits for it, and says there that it failed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer

from unvanish.monitor.convoy import Convoy
from unvanish.monitor.voice import LOGGER


class StandIn:
    """A `listener.Sink` that measures nothing. It must not raise, and has next to nothing to."""

    def __init__(
        self,
        join: Callable[[], Convoy | None],
        optimizers: Sequence[weakref.ref[Optimizer]],
        number: int,
        stepped: set[int],
    ) -> None:
        """`join` is asked at the end of the step under way, `number`, for the other ranks.

        `stepped` are the ids of the optimisers that have made that step already.
        """
        self._join = join
        self._convoy: Convoy | None = None
        self._optimizers = optimizers
        self._number = number
        self._stepped = stepped
        self._over = False

    def backward_begins(self, describe: Callable[[], Any]) -> None:
        """See `listener.Sink`; nothing to do."""

    def backward_ends(self, token: Any, *, finished: bool, gradients: Sequence[Any]) -> None:
        """See `listener.Sink`; nothing to do."""

    def derivative_taken(self, outputs: Sequence[Any], gradients: Sequence[Any]) -> None:
        """See `listener.Sink`; nothing to do."""

    def step_begins(self, optimizer: Optimizer) -> None:
        """Close a step in which not all optimisers stepped."""
        if id(optimizer) in self._stepped:
            self.close_step()

    def step_ends(self, optimizer: Optimizer) -> None:
        """Close the step once all optimisers have stepped."""
        alive = [one for reference in self._optimizers if (one := reference()) is not None]
        if not any(one is optimizer for one in alive):
            return
        self._stepped.add(id(optimizer))
        if len(self._stepped) >= len(alive):
            self.close_step()

    def step_skipped(self, optimizer: Optimizer) -> None:
        """Count a step that the gradient scaler left out."""
        self.step_ends(optimizer)

    def close_step(self) -> None:
        """Give our row if the step was a sampled one, and count on."""
        number = self._number
        self._number += 1
        self._stepped.clear()
        if self._over:
            return
        try:
            self._keep_step(number)
        except Exception as error:  # it has failed before, and this was the last that it could do
            self._over = True
            LOGGER.info(f"{type(error).__name__}: {error}")

    def _keep_step(self, number: int) -> None:
        if self._convoy is None:
            self._convoy = self._join()
        convoy = self._convoy
        if convoy is None:
            return
        look = convoy.cadence.look(number)
        if look == "sampled":
            convoy.owe(number)
        convoy.give_failed()
        convoy.step_over(number)
        convoy.cadence.step_over(number, look, 0.0)
