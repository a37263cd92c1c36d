"""What tests of integrations share."""

from __future__ import annotations

import pytest

from unvanish.monitor import cadence


@pytest.fixture(autouse=True)
def _looks_may_cost_what_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a look may cost more than the budget; which steps get one is asserted."""
    monkeypatch.setattr(cadence, "_ADVANCE_SECONDS", 600.0)
