"""Long runs: what is thinned, what an overview shows, and databases of the first schema."""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from unvanish import store
from unvanish.errors import NotOurFileError, UsageError
from unvanish.records import ModelRun, NonFinite, Readings, Run, StepRecord, Trace
from unvanish.store import Batch, database, schema
from unvanish.store.pyramid import joined, of_sample, of_some, widened
from unvanish.store.thinning import Ordinals
from unvanish.testing.conformance import example_batch, example_run

ID = example_run().id
FACTS = ModelRun("net", "Net", ())


def sample(step: int, names: Iterable[str] = "ab", value: float = 0.0) -> Batch:
    known = tuple(names)
    reading = Readings("gradient", step, known, (value,) * len(known))
    return Batch(steps=(StepRecord(step, 1.0, lr=(0.1,)),), readings=(reading,))


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(directory / database.NAME, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


# --- buckets -------------------------------------------------------------------------------------


def test_buckets_say_what_their_samples_did() -> None:
    generator = random.Random(0)
    odd = [math.nan, math.inf, -math.inf]
    rows = [
        [
            generator.choice(odd) if generator.random() < 0.2 else generator.gauss(0, 3)
            for _ in "xyz"
        ]
        for _ in range(64)
    ]
    samples = [of_sample(i, tuple("xyz"), np.array(row, np.float32)) for i, row in enumerate(rows)]
    fours = [joined(samples[at : at + 4]) for at in range(0, 64, 4)]
    one = joined([joined(fours[:8]), joined(fours[8:])])
    assert (one.first, one.last, one.count) == (0, 63, 64)
    for column in range(3):
        values = [row[column] for row in rows]
        finite = [value for value in values if math.isfinite(value)]
        known = [value for value in values if not math.isnan(value)]
        assert one.low[column] == np.float32(min(known))
        bad = any(math.isnan(value) for value in values)
        assert one.high[column] == (math.inf if bad else np.float32(max(known)))
        assert one.finite is not None
        assert one.finite[column] == len(finite)
        # Each value is kept as float32: a relative error of 6e-8 of numbers around 3.
        assert one.mean[column] == pytest.approx(sum(finite) / len(finite), abs=1e-6)


def test_names_that_come_and_go_have_one_bucket() -> None:
    a = of_sample(0, ("a",), np.array([1.0], np.float32))
    b = of_sample(1, ("b",), np.array([2.0], np.float32))
    one = joined([a, b, replace(a, first=2, last=2)])
    assert one.names == ("a", "b")
    assert one.mean.tolist() == [1.0, 2.0]
    assert one.finite is not None
    assert one.finite.tolist() == [2, 1]
    absent = widened(b, ("a", "b"))
    assert np.isnan(absent.low[0])
    assert np.isnan(absent.high[0])


def test_a_number_that_was_not_read_is_not_one_that_is_nan() -> None:
    bucket = of_some(0, ("a", "b", "c"), (None, math.nan, 1.0))
    assert np.isnan(bucket.high[0])
    assert bucket.high[1] == math.inf
    assert bucket.finite is not None
    assert bucket.finite.tolist() == [0, 0, 1]


# --- thinning ------------------------------------------------------------------------------------


def test_ordinals_keep_a_number_that_grows_with_the_logarithm() -> None:
    rows, kept, counts = Ordinals(dense=8), set(), []
    for row in range(8 * 4**4):
        kept.add(row)
        kept -= set(rows.add(row))
        assert {0, *range(max(0, row - 7), row + 1)} <= kept
        counts.append(len(kept))
    # 8 newest, 6 more for each factor of 4 in age, the very first.
    assert counts[-1] <= 8 + 4 * 6 + 1
    assert all(row % 4 == 0 for row in kept if row < 8 * 4**4 - 9)


def test_traces_are_thinned_but_for_those_that_saw_an_op_go_wrong(tmp_path: Path) -> None:
    guilty = NonFinite("forward", "LogBackward0", "0", 0, "inf")
    writer = store.begin(example_run(), tmp_path)
    for step in range(200):
        trace = Trace(step, 1.0, (), None, nonfinite=guilty if step == 50 else None)
        writer.add(Batch(facts=FACTS, traces=(trace,)))
    writer.close()
    steps = [trace.step for trace in store.load(ID, tmp_path).models[0].traces]
    assert steps[-32:] == list(range(168, 200))
    assert steps[0] == 0
    assert 50 in steps
    assert len(steps) < 90


def test_a_run_of_any_length_stays_under_its_size(tmp_path: Path) -> None:
    names = [f"layer.{index}.weight" for index in range(30)]
    writer = store.begin(example_run(), tmp_path, retention=128)
    sizes = {}
    for step in range(9000):
        writer.add(sample(step, names, float(step % 7)))
        if step in (1500, 8999):
            with opened(tmp_path) as connection:
                (pages,) = connection.execute("PRAGMA page_count").fetchone()
            sizes[step] = pages * 4096
    writer.close()
    # Six times the samples add at most two densities: 96 samples and 32 buckets each.
    assert sizes[8999] < 1.7 * sizes[1500]
    found = store.Database(tmp_path).overview(ID, "gradient", points=200)
    assert found.count.sum() == 9000
    assert len(found.first) <= 200


@pytest.mark.slow
def test_the_stated_size_holds(tmp_path: Path) -> None:
    """Of docs/store.md, at a length where three levels are full."""
    names, retention, added = [f"layer.{index}.weight" for index in range(300)], 1024, 40_000
    writer = store.begin(example_run(), tmp_path, retention=retention)
    for step in range(added):
        writer.add(sample(step, names, float(step == 777)))
    writer.close()
    densities = math.log(added / retention, 4)
    samples = retention * (1 + 0.75 * densities)
    buckets = retention / 4 * (math.ceil(densities) + 1) + retention / 2  # levels that are not full
    stated = len(names) * (4 * samples + 12 * buckets)
    size = (tmp_path / database.NAME).stat().st_size
    # A fifth for SQLite, and a step's record of 200 bytes with each sample.
    assert size < 1.2 * stated + 250 * samples
    found = store.Database(tmp_path).overview(ID, "gradient", points=300)
    assert found.high.max() == 1.0
    assert (len(found.first) <= 300, found.count.sum()) == (True, added)


def test_a_batch_that_fails_leaves_no_trace_in_the_buckets(tmp_path: Path) -> None:
    writer = store.begin(example_run(), tmp_path, retention=64)
    for step in range(100):
        # The readings are in the transaction when the one without a number fails.
        broken = Readings("weight", step, ("a",), ("?",))  # type: ignore[arg-type]
        good = sample(step, value=99.0)
        with pytest.raises(TypeError):
            writer.add(replace(good, readings=(*good.readings, broken)))
        writer.add(sample(step))
    writer.close()
    found = store.Database(tmp_path).overview(ID, "gradient", points=10)
    assert (found.count.sum(), found.high.max()) == (100, 0)
    assert store.Database(tmp_path).quantities(ID) == [(0, "steps"), (0, "gradient")]


def test_steps_that_come_late_are_kept_and_counted(tmp_path: Path) -> None:
    writer = store.begin(example_run(), tmp_path)
    for step in (8, 0, 4, 12, 16):
        writer.add(sample(step))
    writer.close()
    found = store.Database(tmp_path).overview(ID, "gradient", points=2)
    assert (found.first[0], found.last[-1], found.count.sum()) == (0, 16, 5)


def test_a_retention_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 64, and is 3"):
        store.begin(example_run(), tmp_path, retention=3)
    store.save(example_run(), tmp_path)
    with pytest.raises(UsageError, match="points must be at least 1"):
        store.Database(tmp_path).overview(ID, "gradient", points=0)


THINNED = """
import sys
from pathlib import Path
from unvanish import store
from unvanish.records import ModelRun, Readings, StepRecord
from unvanish.store import Batch
from unvanish.testing.conformance import example_run
writer = store.begin(example_run(), Path(sys.argv[1]), retention=64)
writer.add(Batch(facts=ModelRun("net", "Net", ())))
for step in range(10**6):
    reading = Readings("gradient", step, ("a", "b"), (1.0, 2.0))
    writer.add(Batch(steps=(StepRecord(step, 1.0),), readings=(reading,)))
    if step % 50 == 0:
        print(step, flush=True)
"""


@pytest.mark.parametrize("moment", [0.05, 0.3])
def test_kill_9_while_it_thins_loses_nothing(tmp_path: Path, moment: float) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", THINNED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    while int(writer.stdout.readline()) < 500:
        pass  # it thins by now
    time.sleep(moment)
    os.kill(writer.pid, signal.SIGKILL)
    told = writer.stdout.read().split()
    writer.wait()
    database = store.Database(tmp_path)
    found = database.overview(ID, "gradient", points=20)
    last = int(found.last[-1])
    assert last >= int(told[-1] if told else 500)
    assert found.count.sum() == last + 1
    run = store.load(ID, tmp_path)
    assert run.ending == "killed"
    assert [step.step for step in run.models[0].steps][-64:] == list(range(last - 63, last + 1))


# --- overviews -----------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [1, 7, 64, 1000])
@pytest.mark.parametrize("added", [1, 3, 4, 63, 64, 65, 777])
def test_an_overview_has_each_sample_once(tmp_path: Path, points: int, added: int) -> None:
    writer = store.begin(example_run(), tmp_path, retention=64)
    writer.add(
        Batch(readings=tuple(Readings("level", i * i, ("a",), (float(i),)) for i in range(added)))
    )
    writer.close()
    found = store.Database(tmp_path).overview(ID, "level", points=points)
    assert 1 <= len(found.first) <= points
    assert found.count.sum() == added
    assert (found.first[0], found.last[-1]) == (0, (added - 1) ** 2)
    assert (found.low.min(), found.high.max()) == (0, added - 1)
    assert np.average(found.mean[:, 0], weights=found.count) == pytest.approx((added - 1) / 2)


@pytest.mark.parametrize("points", [5, 16, 40, 200])
def test_an_overview_uses_at_least_half_of_its_points(tmp_path: Path, points: int) -> None:
    writer = store.begin(example_run(), tmp_path, retention=None)
    for step in range(1500):
        writer.add(Batch(readings=(Readings("level", step, ("a",), (float(step),)),)))
    writer.close()
    found = store.Database(tmp_path).overview(ID, "level", points=points)
    assert points / 2 <= len(found.first) <= points
    assert found.count.sum() == 1500
    assert (found.high[:, 0] == found.last).all()
    assert (found.low[:, 0] == found.first).all()


def test_parameters_that_take_turns_share_an_overview(tmp_path: Path) -> None:
    writer = store.begin(example_run(), tmp_path, retention=64)
    for step in range(500):
        writer.add(sample(step, "ab" if step % 2 else "bc", float(step % 2)))
    writer.close()
    found = store.Database(tmp_path).overview(ID, "gradient", points=10)
    means = dict(zip(found.names, found.mean.T.tolist(), strict=True))
    assert sorted(means) == ["a", "b", "c"]
    assert set(means["a"]) == {1.0}
    assert set(means["c"]) == {0.0}
    assert np.average(means["b"], weights=found.count) == pytest.approx(0.5)


def test_a_run_that_was_only_saved_has_an_overview(tmp_path: Path) -> None:
    steps = tuple(StepRecord(step, float(step)) for step in range(100))
    store.save(replace(example_run(), models=(replace(FACTS, steps=steps),)), tmp_path)
    found = store.Database(tmp_path).overview(ID, "steps", points=10, first=50)
    assert (found.names[0], found.first[0], found.last[-1]) == ("loss", 50, 99)
    assert store.Database(tmp_path).quantities(ID) == [(0, "steps")]


def test_a_damaged_bucket_is_said(tmp_path: Path) -> None:
    writer = store.begin(example_run(), tmp_path)
    for step in range(40):
        writer.add(sample(step))
    writer.close()
    with opened(tmp_path) as connection:
        connection.execute("""UPDATE buckets SET "values" = x'00'""")
    with pytest.raises(NotOurFileError, match="damaged"):
        store.Database(tmp_path).overview(ID, "gradient", points=5)


# --- the first schema ----------------------------------------------------------------------------


def write_first_schema(directory: Path) -> Path:
    """Make a database as the first version wrote it, with a run that was killed."""
    file = directory / database.NAME
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    for statement in schema.MIGRATIONS[0]:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id={schema.APPLICATION}")
    connection.execute("PRAGMA user_version=1")
    pack = msgspec.msgpack.encode
    connection.execute(
        "INSERT INTO runs VALUES (1, ?, ?, 'elsewhere', 1, 0.0, NULL)", (ID, pack(example_run()))
    )
    connection.execute("INSERT INTO models VALUES (1, 0, ?)", (pack(FACTS),))
    connection.execute("INSERT INTO layouts VALUES (1, 1, ?)", (pack(["0.weight", "0.bias"]),))
    for step in range(6):
        batch = example_batch(step)
        rows = [("steps", pack(batch.steps)), ("trace", pack(batch.traces[0]))]
        connection.executemany(
            "INSERT INTO additions (run, model, kind, record) VALUES (1, 0, ?, ?)", rows
        )
        blob = np.array([step, -np.inf], "<f4").tobytes()
        connection.execute("INSERT INTO readings VALUES (1, 0, 'gradient', ?, 1, ?)", (step, blob))
    connection.close()
    return file


def read_everything(directory: Path) -> None:
    run: Run = store.load(ID, directory)
    assert run.ending == "killed"
    assert [step.step for step in run.models[0].steps] == list(range(6))
    assert len(run.models[0].traces) == 6
    found = store.Database(directory)
    first = found.progress(ID)
    assert [step.step for _model, step in first.steps] == list(range(6))
    assert found.progress(ID, first.mark).steps == ()
    assert found.quantities(ID) == [(0, "steps"), (0, "gradient")]
    for quantity, name in (("gradient", "0.weight"), ("steps", "loss")):
        overview = found.overview(ID, quantity, points=3)
        assert (overview.names[0], overview.count.sum()) == (name, 6)


def test_runs_of_the_first_schema_are_read(tmp_path: Path) -> None:
    write_first_schema(tmp_path)
    read_everything(tmp_path)
    writer = store.begin(example_run("20270101-next"), tmp_path)
    writer.add(example_batch(0))
    writer.close()
    with opened(tmp_path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)


def test_a_file_of_the_first_schema_that_cannot_be_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_first_schema(tmp_path)
    before = file.read_bytes()
    plain = sqlite3.connect

    def read_only(where: str, **options: object) -> sqlite3.Connection:
        return plain(where.replace("mode=rw", "mode=ro"), **options)  # type: ignore[call-overload]

    monkeypatch.setattr(sqlite3, "connect", read_only)
    read_everything(tmp_path)
    assert file.read_bytes() == before
