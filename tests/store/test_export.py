"""Tables of a run's numbers: what is in the store is what other programs read."""

from __future__ import annotations

import csv
import json
import math
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unvanish import store
from unvanish.cli import main
from unvanish.errors import DependencyError, OutputExistsError, UnknownNameError, UsageError
from unvanish.records import ModelRun, ParameterSignal, Readings, StepRecord, Trace
from unvanish.store import Batch, files
from unvanish.store.export import BUCKET_COLUMNS, COLUMNS, export
from unvanish.testing.conformance import example_run

ID = example_run().id
ODD = (math.nan, math.inf, -math.inf)


def recorded(directory: Path, steps: int = 20, names: tuple[str, ...] = ("a", "b")) -> None:
    writer = store.begin(example_run(), directory)
    writer.add(Batch(facts=ModelRun("net", "Net", ())))
    for step in range(steps):
        values = tuple(-0.1 * step if step > 2 else ODD[step] for _ in names)
        readings = tuple(Readings(one, step, names, values) for one in ("gradient", "weight"))
        writer.add(Batch(steps=(StepRecord(step, 0.1, lr=(1e-3,)),), readings=readings))
    writer.close()


def rows_of_parquet(path: Path) -> list[dict[str, Any]]:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def rows_of_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def test_parquet_has_each_number_that_is_kept(tmp_path: Path) -> None:
    recorded(tmp_path)
    done = export("last", tmp_path / "x.parquet", tmp_path)
    rows = rows_of_parquet(done.path)
    assert tuple(rows[0]) == COLUMNS
    # loss and rate of 20 steps, and two quantities of two parameters
    assert (done.rows, len(rows)) == (120, 120)
    assert done.quantities == {"steps": 40, "gradient": 40, "weight": 40}
    stored = {
        (one.step, name): value
        for one in store.Database(tmp_path).series(ID, "gradient")
        for name, value in zip(one.names, one.values, strict=True)
    }
    found = {
        (row["step"], row["name"]): row["value"] for row in rows if row["quantity"] == "gradient"
    }
    assert found.keys() == stored.keys()
    assert all(same(found[key], stored[key]) for key in stored)
    losses = [row for row in rows if row["name"] == "loss"]
    assert {(row["run"], row["model"], row["value"]) for row in losses} == {(ID, 0, 0.1)}


def test_csv_has_the_same_rows(tmp_path: Path) -> None:
    recorded(tmp_path)
    export("last", tmp_path / "x.csv", tmp_path)
    export("last", tmp_path / "x.parquet", tmp_path)
    texts, rows = rows_of_csv(tmp_path / "x.csv"), rows_of_parquet(tmp_path / "x.parquet")
    assert len(texts) == len(rows)
    for text, row in zip(texts, rows, strict=True):
        assert same(float(text["value"]), row["value"])
        assert {name: str(row[name]) for name in COLUMNS[:-1]} == {
            name: text[name] for name in COLUMNS[:-1]
        }


def test_quantities_and_steps_can_be_chosen(tmp_path: Path) -> None:
    recorded(tmp_path)
    done = export("last", tmp_path / "x.csv", tmp_path, quantities=["weight"], steps=(5, 7))
    rows = rows_of_csv(done.path)
    assert {(row["quantity"], int(row["step"])) for row in rows} == {
        ("weight", s) for s in (5, 6, 7)
    }
    with pytest.raises(UnknownNameError, match="steps, gradient, weight"):
        export("last", tmp_path / "y.csv", tmp_path, quantities=["heat"])
    assert not (tmp_path / "y.csv").exists()


def test_buckets_have_all_of_a_thinned_run(tmp_path: Path) -> None:
    writer = store.begin(example_run(), tmp_path, retention=64)
    for step in range(500):
        value = 7.0 if step == 99 else 1.0
        writer.add(Batch(readings=(Readings("level", step, ("0#0",), (value,)),)))
    writer.close()
    done = export("last", tmp_path / "x.parquet", tmp_path, points=20)
    rows = rows_of_parquet(done.path)
    assert tuple(rows[0]) == BUCKET_COLUMNS
    assert sum(row["count"] for row in rows) == 500
    (spike,) = [row for row in rows if row["high"] == 7.0]
    assert spike["first"] <= 99 <= spike["last"]
    assert (spike["low"], spike["run"]) == (1.0, ID)


def test_a_run_of_which_there_is_a_record_only(tmp_path: Path) -> None:
    trace = Trace(3, 0.5, (), None, parameters=(ParameterSignal("w", -2.0, 0.5),))
    model = ModelRun("net", "Net", (trace,), (StepRecord(3, 0.5),))
    run = replace(example_run(), models=(model,))
    path = files.write(run, tmp_path)
    expected = {("steps", "loss", "0.5"), ("gradient", "w", "-2.0"), ("weight", "w", "0.5")}
    for reference in (str(path), str(tmp_path / "runs.db")):
        done = export(reference, tmp_path / "x.csv", tmp_path, force=True)
        rows = rows_of_csv(done.path)
        assert {(row["quantity"], row["name"], row["value"]) for row in rows} == expected
        store.Database(tmp_path).save(run)


def test_names_are_no_formulas(tmp_path: Path) -> None:
    names = ('=HYPERLINK("http://x")', "+1", "@SUM(A1)", "-x", "\tx", 'a,"b"\nc', "plain")
    recorded(tmp_path, 4, names)
    export("last", tmp_path / "x.csv", tmp_path, quantities=["weight"])
    export("last", tmp_path / "x.parquet", tmp_path, quantities=["weight"])
    kept = [row["name"] for row in rows_of_csv(tmp_path / "x.csv")][: len(names)]
    assert kept == [f"'{name}" for name in names[:5]] + [*names[5:]]
    assert [row["name"] for row in rows_of_parquet(tmp_path / "x.parquet")][: len(names)] == [
        *names
    ]


def test_what_exists_is_not_overwritten_and_nothing_half_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(tmp_path)
    target = tmp_path / "x.csv"
    target.write_text("theirs")
    with pytest.raises(OutputExistsError):
        export("last", target, tmp_path)

    def broken(*given: object, **named: object) -> None:
        raise RuntimeError("cut short")

    monkeypatch.setattr(csv, "writer", broken)
    with pytest.raises(RuntimeError):
        export("last", target, tmp_path, force=True)
    assert target.read_text() == "theirs"
    assert not list(tmp_path.glob(".unvanish-*"))


def test_another_ending_and_a_missing_library_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(tmp_path, 4)
    with pytest.raises(UsageError, match=r"ends in \.parquet or \.csv"):
        export("last", tmp_path / "x.xlsx", tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DependencyError, match=r"unvanish\[export\]"):
        export("last", tmp_path / "x.parquet", tmp_path)
    assert export("last", tmp_path / "x.csv", tmp_path).rows > 0


def test_memory_stays_flat(tmp_path: Path) -> None:
    names = tuple(f"layer.{index}" for index in range(200))
    recorded(tmp_path, 1600, names)
    done = export("last", tmp_path / "warm.csv", tmp_path, steps=(0, 2))
    tracemalloc.start()
    done = export("last", tmp_path / "x.csv", tmp_path)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert done.rows == 2 * 1600 * 200 + 2 * 1600
    # 65,536 rows of six columns are 3 MB of pointers and 2 MB of numbers; the table has ten times
    # as many rows.
    assert peak < 16e6


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recorded(tmp_path / ".unvanish")
    with pytest.raises(SystemExit) as ended:
        main(["export", "last", "-o", "x.csv", "--steps", "3:", "--quantity", "steps", "--json"])
    assert ended.value.code == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == {
        "schema": 1,
        "run": ID,
        "path": "x.csv",
        "rows": 34,
        "bytes": Path("x.csv").stat().st_size,
        "quantities": {"steps": 34},
    }
    for words, told in (
        (["-o", "x.csv"], "--force"),
        (["-o", "y.csv", "--steps", "a:b"], "no range of steps"),
        (["-o", "y.csv", "--quantity", "heat"], "unknown quantity"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["export", "last", *words])
        assert ended.value.code == 2
        assert told in capsys.readouterr().err
