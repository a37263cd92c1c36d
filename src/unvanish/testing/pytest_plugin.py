"""pytest: a test marked `unvanish_healthy` fails unless the backward signal it shows is healthy.

    @pytest.mark.unvanish_healthy
    def test_training():
        train(model, steps=50)          # any training loop: it is watched as `unvanish run` does

    @pytest.mark.unvanish_healthy(allow=["DU"], max_severity="warning")
    def test_model():
        return model, batch, loss_fn    # one batch, as `unvanish check FILE.py:test_model` takes it

Nothing of torch is imported until the first marked test runs.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

import pytest

from unvanish.errors import NoSignalError
from unvanish.i18n import _

if TYPE_CHECKING:
    from unvanish.testing.healthy import MaxSeverity

MARKER = "unvanish_healthy"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    meaning = _(
        "fail unless the backward signal is healthy, of the training in this test or of the"
        " (model, batch, loss_fn) that it returns (unvanish)"
    )
    config.addinivalue_line("markers", f"{MARKER}(allow=(), max_severity='info'): {meaning}")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Watch a marked test, then judge what it returned, or else what it trained."""
    marker = pyfuncitem.get_closest_marker(MARKER)
    if marker is None:
        return (yield)
    from unvanish.checking import check, returned
    from unvanish.diagnose.config import load_config
    from unvanish.monitor.notebook import watch
    from unvanish.testing.healthy import accepted_codes, require_healthy

    allow, max_severity = _wishes(*marker.args, **marker.kwargs)
    allowed = accepted_codes(allow, max_severity)
    values = _values_of(pyfuncitem)
    watching = watch(save=False, quiet=True)
    outcome: Any = True
    try:
        with watching:
            outcome = yield
    except NoSignalError as error:
        if not values:
            remedy = _("Train in the test, or return (model, batch, loss_fn) from it.")
            pytest.fail(f"{error} {remedy}", pytrace=False)
    except Exception:
        if watching.diagnosis is not None:
            pyfuncitem.add_report_section("call", "unvanish", str(watching.diagnosis))
        raise
    diagnosis = watching.diagnosis
    if values:
        made = returned(values[-1], pyfuncitem.name)
        diagnosis = check(*made, config=load_config(pyfuncitem.config.rootpath))
    assert diagnosis is not None
    require_healthy(diagnosis, allowed, max_severity)
    return outcome


def _wishes(
    allow: Iterable[str] = (), max_severity: MaxSeverity = "info"
) -> tuple[Iterable[str], MaxSeverity]:
    """Give the marker its signature: pytest reports a wrong argument as Python would."""
    return allow, max_severity


def _values_of(item: pytest.Function) -> list[Any]:
    """Have what the test returns kept in a list, and nothing returned: pytest warns of that."""
    values: list[Any] = []
    function = item.obj

    @functools.wraps(function)
    def keeping(*args: Any, **kwargs: Any) -> None:
        value = function(*args, **kwargs)
        if value is not None:
            values.append(value)

    item.obj = keeping
    return values
