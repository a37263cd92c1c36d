"""What every store of runs and every sink must do, as test classes to derive from.

    class TestMyStore(StoreConformance):
        def make(self, directory):
            return MyStore(directory)

pytest collects what is derived; each test is one sentence of docs/store.md.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unvanish import codec
from unvanish.errors import UnknownNameError
from unvanish.records import (
    Environment,
    Evidence,
    Finding,
    Incident,
    ModelRun,
    Readings,
    Run,
    StepRecord,
    Trace,
    Where,
)
from unvanish.store.contract import Batch, RunStore, RunWriter

_ID = "20260101-000000-00000000"
_FINDING = Finding(
    code="NF101",
    family="NF",
    verdict="non-finite",
    severity="error",
    title="The loss is NaN.",
    where=Where(module="0", op="LogBackward0"),
    factor=None,
    evidence=(Evidence("loss", math.nan),),
    remedy="Add a small number.",
)


def example_run(identity: str = _ID) -> Run:
    """Return a run that has just begun."""
    return Run(
        id=identity,
        kind="monitor",
        created="2026-01-01T00:00:00+00:00",
        command=("train.py", "--epochs", "3"),
        directory="/somewhere",
        tool_version="0",
        environment=Environment("3.11", "2.13", "Linux", "cpu"),
        models=(),
    )


def example_batch(step: int, *, model: int = 0) -> Batch:
    """Return what one sampled step adds; its loss is NaN and a gradient is exactly zero."""
    return Batch(
        model=model,
        steps=(StepRecord(step, math.nan, sampled=True, lr=(0.1,), phase="clipped"),),
        readings=(Readings("gradient", step, ("0.weight", "0.bias"), (-3.25, -math.inf)),),
        traces=(Trace(step=step, loss=math.nan, layers=(), main_path=None),),
        facts=ModelRun(name="net", type="Sequential", traces=()),
    )


def _same(one: Run, other: Run) -> bool:
    return codec.encode_run(one) == codec.encode_run(other)  # NaN differs from itself


def _add_samples(writer: RunWriter, steps: Iterable[int]) -> None:
    """Add step / 1000 for "a" and "b", but for a spike of "a" at 321 and a zero of "b" at 500."""
    for step in steps:
        first = 100.0 if step == 321 else step / 1000
        second = -math.inf if step == 500 else step / 1000
        reading = Readings("gradient", step, ("a", "b"), (first, second))
        writer.add(Batch(steps=(StepRecord(step, 1.0),), readings=(reading,)))


class StoreConformance(ABC):
    """Derive from it, and say how the store is made."""

    @abstractmethod
    def make(self, directory: Path) -> RunStore:
        """Return a store that keeps its runs in `directory`, which exists."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> RunStore:
        return self.make(tmp_path)

    def test_a_saved_run_is_read_as_it_was(self, store: RunStore) -> None:
        run = replace(example_run(), models=(ModelRun("net", "Net", (), (StepRecord(0, 1.5),)),))
        store.save(run)
        assert _same(store.load(_ID), run)
        assert [one.state for one in store.runs()] == ["finished"]

    def test_saving_again_replaces(self, store: RunStore) -> None:
        store.save(example_run())
        store.save(replace(example_run(), ending="crashed", exit_code=1))
        assert [one.id for one in store.runs()] == [_ID]
        assert store.load(_ID).ending == "crashed"

    def test_an_unknown_run_is_an_error_of_ours(self, store: RunStore) -> None:
        store.save(example_run())
        with pytest.raises(UnknownNameError):
            store.load("nothing")

    def test_what_is_added_is_read_while_the_run_goes_on(self, store: RunStore) -> None:
        writer = store.begin(example_run())
        for step in range(3):
            writer.add(example_batch(step))
            run = store.load(_ID)
            assert run.ending == "running"
            assert [record.step for record in run.models[0].steps] == list(range(step + 1))
            assert run.models[0].steps[-1].phase == "clipped"
            assert len(run.models[0].traces) == step + 1
        assert (run.command, run.models[0].name) == (("train.py", "--epochs", "3"), "net")
        writer.close()

    def test_a_finished_record_stands_for_what_was_added(self, store: RunStore) -> None:
        writer = store.begin(example_run())
        writer.add(example_batch(0))
        run = replace(example_run(), seconds=2.5, models=store.load(_ID).models)
        writer.finish(run)
        writer.close()
        assert _same(store.load(_ID), run)
        assert [one.state for one in store.runs()] == ["finished"]

    def test_readings_come_back_as_float32_in_order_of_steps(self, store: RunStore) -> None:
        writer = store.begin(example_run())
        values = (-3.14159265358979, math.inf, -math.inf, math.nan)
        for step in (8, 0, 4):
            writer.add(Batch(readings=(Readings("weight", step, tuple("abcd"), values),)))
        writer.close()
        found = store.series(_ID, "weight")
        assert [one.step for one in found] == [0, 4, 8]
        assert [one.names for one in found] == [tuple("abcd")] * 3
        for one in found:
            # float32 has 24 bits: half a unit in the last place of a number below 4 is 1.2e-7.
            assert abs(one.values[0] - values[0]) <= 1.2e-7
            assert one.values[1:3] == values[1:3]
            assert math.isnan(one.values[3])

    def test_names_may_change_during_a_run(self, store: RunStore) -> None:
        writer = store.begin(example_run())
        writer.add(Batch(readings=(Readings("weight", 0, ("a",), (1.0,)),)))
        writer.add(Batch(readings=(Readings("weight", 1, ("a", "b"), (1.0, 2.0)),)))
        writer.close()
        assert [one.names for one in store.series(_ID, "weight")] == [("a",), ("a", "b")]

    def test_of_a_long_run_the_newest_samples_are_kept_and_older_ones_thinned(
        self, store: RunStore
    ) -> None:
        added = 2000
        writer = store.begin(example_run(), retention=64)
        incident = Incident(step=7, seen_at=7, kind="nonfinite", quantity="loss", value=math.nan)
        writer.add(
            Batch(facts=ModelRun("net", "Net", ()), alarms=(_FINDING,), incidents=(incident,))
        )
        _add_samples(writer, range(added))
        for steps in (
            [one.step for one in store.series(_ID, "gradient")],
            [one.step for one in store.load(_ID).models[0].steps],
        ):
            assert steps[-64:] == list(range(added - 64, added))
            assert steps[0] == 0
            # 64, then three quarters of 64 more each time that the age is four times greater, and
            # what waits to be taken out together.
            assert len(steps) <= 600
            assert max(np.diff(steps)) <= added / 8  # no part of the run is lost
        run = store.load(_ID)
        assert (len(run.alarms), run.incidents[0].step) == (1, 7)
        writer.close()

    def test_without_retention_all_is_kept(self, store: RunStore) -> None:
        writer = store.begin(example_run(), retention=None)
        _add_samples(writer, range(600))
        writer.close()
        assert [one.step for one in store.series(_ID, "gradient")] == list(range(600))

    def test_an_overview_has_all_of_a_thinned_run(self, store: RunStore) -> None:
        writer = store.begin(example_run(), retention=64)
        _add_samples(writer, range(1003))
        found = store.overview(_ID, "gradient", points=50)
        assert found.names == ("a", "b")
        assert 12 <= len(found.first) <= 50
        assert (found.first[0], found.last[-1], found.count.sum()) == (0, 1002, 1003)
        assert (found.first[1:] > found.last[:-1]).all()
        # The spike of one step is seen, and where a gradient was exactly zero.
        (spike,) = np.flatnonzero(found.high[:, 0] == 100)
        assert found.first[spike] <= 321 <= found.last[spike]
        (zero,) = np.flatnonzero(found.low[:, 1] == -np.inf)
        assert found.first[zero] <= 500 <= found.last[zero]
        # Values are step / 1000, of which float32 keeps 24 bits; the mean is of finite ones.
        values = np.delete(np.arange(1003), 321) / 1000
        weights = found.count - (np.arange(len(found.count)) == spike)
        usual = (found.mean[:, 0] * found.count - 100 * (found.high[:, 0] == 100)) / weights
        assert np.average(usual, weights=weights) == pytest.approx(values.mean(), rel=1e-5)
        writer.close()

    def test_an_overview_of_a_part_is_finer(self, store: RunStore) -> None:
        writer = store.begin(example_run(), retention=64)
        _add_samples(writer, range(1003))
        writer.close()
        recent = store.overview(_ID, "gradient", points=50, first=980, last=1000)
        assert recent.first.tolist() == list(range(980, 1001))
        assert recent.mean[:, 0] == pytest.approx(np.arange(980, 1001) / 1000)
        old = store.overview(_ID, "gradient", points=50, first=100, last=200)
        assert old.first[0] <= 100
        assert old.last[-1] >= 200
        assert old.count.sum() < 400

    def test_an_overview_of_steps_has_their_numbers(self, store: RunStore) -> None:
        writer = store.begin(example_run())
        for step in range(40):
            loss = math.nan if step == 17 else 3.0
            gradient = -1.0 if step % 2 else None
            record = StepRecord(step, loss, lr=(0.5,), gradient_log10=gradient)
            writer.add(Batch(facts=ModelRun("net", "Net", ()), steps=(record,)))
        writer.close()
        assert store.quantities(_ID) == [(0, "steps")]
        found = store.overview(_ID, "steps", points=10)
        column = {name: found.names.index(name) for name in ("loss", "gradient", "clip", "lr/0")}
        (bad,) = np.flatnonzero(found.high[:, column["loss"]] == np.inf)
        assert found.first[bad] <= 17 <= found.last[bad]
        assert (found.mean[:, column["loss"]] == 3.0).all()
        assert (found.mean[:, column["gradient"]] == -1.0).all()
        assert np.isnan(found.high[:, column["clip"]]).all()
        assert (found.low[:, column["lr/0"]] == 0.5).all()

    def test_an_overview_of_what_was_never_read_is_empty(self, store: RunStore) -> None:
        store.save(example_run())
        found = store.overview(_ID, "gradient")
        assert (found.names, found.low.shape) == ((), (0, 0))

    def test_models_of_one_run_are_kept_apart(self, store: RunStore) -> None:
        writer = store.begin(example_run())
        writer.add(example_batch(0))
        second = example_batch(0, model=1)
        writer.add(replace(second, facts=ModelRun("critic", "Net", ())))
        writer.close()
        run = store.load(_ID)
        assert [(one.name, len(one.traces)) for one in run.models] == [("net", 1), ("critic", 1)]
        assert len(store.series(_ID, "gradient", 1)) == 1

    def test_runs_do_not_disturb_each_other(self, store: RunStore) -> None:
        writers = [store.begin(example_run(f"run-{name}")) for name in "ab"]
        for step in range(2):
            for writer in writers:
                writer.add(example_batch(step))
        for writer in writers:
            writer.close()
        assert [one.id for one in store.runs()] == ["run-a", "run-b"]
        for name in "ab":
            assert len(store.load(f"run-{name}").models[0].steps) == 2

    def test_a_reader_follows_by_its_mark(self, store: RunStore) -> None:
        writer = store.begin(example_run())
        writer.add(example_batch(0))
        first = store.progress(_ID)
        assert (first.state, [step.step for _model, step in first.steps]) == ("running", [0])
        assert [one.quantity for _model, one in first.readings] == ["gradient"]
        assert store.progress(_ID, first.mark).steps == ()
        incident = Incident(step=1, seen_at=1, kind="nonfinite", quantity="loss", value=math.nan)
        batch = example_batch(1)
        writer.add(replace(batch, alarms=(_FINDING,), incidents=(incident,)))
        second = store.progress(_ID, first.mark)
        assert [step.step for _model, step in second.steps] == [1]
        assert [one.code for one in second.alarms] == ["NF101"]
        assert [one.step for one in second.incidents] == [1]
        assert store.load(_ID).incidents[0].quantity == "loss"
        writer.close()

    def test_a_list_shows_runs_that_go_on(self, store: RunStore) -> None:
        writer = store.begin(example_run())
        writer.add(example_batch(0))
        (summary,) = store.runs()
        assert (summary.id, summary.state, summary.damaged) == (_ID, "running", None)
        assert summary.head is not None
        assert [(one.name, len(one.steps)) for one in summary.head.models] == [("net", 1)]
        writer.close()


class SinkConformance(ABC):
    """Derive from it; `make` returns the sink and a function that reads back what arrived."""

    @abstractmethod
    def make(self, directory: Path) -> tuple[Any, Any]:
        """Return a sink, and a function () -> {name: [(step, value), …]} to call when closed."""

    def test_numbers_arrive_under_their_names_and_steps(self, tmp_path: Path) -> None:
        sink, read = self.make(tmp_path)
        sink.write(3, {"unvanish/gradient/0.weight": -3.25, "unvanish/loss": 1.5})
        sink.write(5, {"unvanish/gradient/0.weight": -3.5})
        sink.close()
        found = read()
        assert found["unvanish/gradient/0.weight"] == [(3, -3.25), (5, -3.5)]
        assert found["unvanish/loss"] == [(3, 1.5)]

    def test_alarms_arrive_as_text(self, tmp_path: Path) -> None:
        sink, read = self.make(tmp_path)
        sink.alarm(7, _FINDING)
        sink.close()
        ((step, text),) = read()["unvanish/alarm"]
        assert step == 7
        assert "NF101" in text

    def test_numbers_that_are_not_finite_do_not_break_it(self, tmp_path: Path) -> None:
        sink, read = self.make(tmp_path)
        sink.write(0, {"unvanish/loss": math.nan, "unvanish/gradient/a": -math.inf})
        sink.write(1, {"unvanish/loss": 2.0})
        sink.close()
        assert (1, 2.0) in read()["unvanish/loss"]
