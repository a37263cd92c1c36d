"""Sinks for trackers against the real packages, and the examples of docs/monitor.md."""

from __future__ import annotations

import csv
import importlib
import json
import logging
import math
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", WANDB_SILENT="true")
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # the store that needs no database

import pytest
import torch
from torch import nn

import unvanish
from unvanish.errors import UnvanishWarning, UsageError
from unvanish.integrations.jsonl import JsonlSink, lines
from unvanish.integrations.lightning_logger import LightningLoggerSink
from unvanish.integrations.mlflow import MlflowSink
from unvanish.integrations.opentelemetry import OpenTelemetrySink
from unvanish.integrations.transformers_report import TransformersSink
from unvanish.monitor.sinks import adapted
from unvanish.testing.conformance import SinkConformance

from .test_sinks import Rows, history, scalars

DOCS = Path(__file__).parents[2] / "docs" / "monitor.md"
pytestmark = pytest.mark.trainer


# --- what arrived --------------------------------------------------------------------------------


def json_lines(path: Path) -> Rows:
    found: Rows = defaultdict(list)
    for line in lines(path):
        for name, value in line.get("numbers", {}).items():
            found[name].append((line["step"], value))
        if "alarm" in line:
            found["unvanish/alarm"].append((line["step"], line["alarm"]["code"]))
    return found


def mlflow_metrics(client: Any, run: str) -> Rows:
    data = client.get_run(run).data
    found: Rows = {
        name: [(one.step, one.value) for one in client.get_metric_history(run, name)]
        for name in data.metrics
    }
    for name, text in data.tags.items():
        family, _slash, rest = name.partition("/alarm/")
        if rest:
            found.setdefault(f"{family}/alarm", []).append((int(rest.split("/")[0]), text))
    return found


def csv_metrics(directory: Path) -> Rows:
    (file,) = directory.rglob("metrics.csv")
    found: Rows = defaultdict(list)
    with file.open(newline="") as stream:
        for row in csv.DictReader(stream):
            for name, text in row.items():
                if text and name.startswith("unvanish/"):
                    value = text if name == "unvanish/alarm" else float(text)
                    found[name].append((int(row["step"]), value))
    return found


def gauges(reader: Any) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Return the values that a reader collects by our names, and the attributes of the last."""
    values, attributes = {}, {}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    name = metric.name.replace(".", "/", 1)
                    if "name" in point.attributes:
                        name = f"{name}/{point.attributes['name']}"
                    values[name], attributes[name] = point.value, dict(point.attributes)
    return values, attributes


# --- the conformance suite -----------------------------------------------------------------------


class TestJsonl(SinkConformance):
    def make(self, directory: Path) -> tuple[Any, Any]:
        file = directory / "numbers.jsonl"
        return JsonlSink(file), lambda: json_lines(file)


class TestMlflow(SinkConformance):
    def make(self, directory: Path) -> tuple[Any, Any]:
        mlflow = pytest.importorskip("mlflow")
        client = mlflow.MlflowClient(tracking_uri=directory.as_uri())
        run = client.create_run(client.create_experiment("test"))
        return MlflowSink(run, client), lambda: mlflow_metrics(client, run.info.run_id)


class _TrackingServer(BaseHTTPRequestHandler):
    """What a tracking server does for two calls of MLflow's REST interface."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found: Rows = self.server.found  # type: ignore[attr-defined]
        if self.path.endswith("/runs/log-batch"):
            for metric in body["metrics"]:
                row = int(metric.get("step", 0)), float(metric["value"])
                found.setdefault(metric["key"], []).append(row)
        elif self.path.endswith("/runs/set-tag"):
            _unvanish, _alarm, step, _code = body["key"].split("/")
            found.setdefault("unvanish/alarm", []).append((int(step), body["value"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *given: Any) -> None:
        pass


class TestMlflowOverHttp(SinkConformance):
    """The package's own client, talking to a server on this machine."""

    @pytest.fixture(autouse=True)
    def _served(self) -> Iterator[None]:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _TrackingServer)
        self.server.found = {}  # type: ignore[attr-defined]
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        yield
        self.server.shutdown()
        thread.join()
        self.server.server_close()

    def make(self, directory: Path) -> tuple[Any, Any]:
        mlflow = pytest.importorskip("mlflow")
        client = mlflow.MlflowClient(tracking_uri=f"http://127.0.0.1:{self.server.server_port}")
        run = SimpleNamespace(info=SimpleNamespace(run_id="0" * 32))
        return MlflowSink(run, client), lambda: self.server.found  # type: ignore[attr-defined]


class TestLightningCsv(SinkConformance):
    def make(self, directory: Path) -> tuple[Any, Any]:
        loggers = pytest.importorskip("pytorch_lightning.loggers")
        return LightningLoggerSink(loggers.CSVLogger(directory)), lambda: csv_metrics(directory)


class TestLightningTensorBoard(SinkConformance):
    def make(self, directory: Path) -> tuple[Any, Any]:
        loggers = pytest.importorskip("pytorch_lightning.loggers")
        logger = loggers.TensorBoardLogger(directory)
        return LightningLoggerSink(logger), lambda: scalars(Path(logger.log_dir))


class TestTransformers(SinkConformance):
    def make(self, directory: Path) -> tuple[Any, Any]:
        trainer = transformers_trainer(directory, report_to=[])
        transformers = pytest.importorskip("transformers")
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(directory / "board"))
        trainer.add_callback(transformers.integrations.TensorBoardCallback(writer))

        def read() -> Rows:
            found = scalars(directory / "board")
            return {name.removeprefix("train/"): rows for name, rows in found.items()}

        return TransformersSink(trainer), read


class TestOpenTelemetry(SinkConformance):
    """A reader that collects after each sample, as one that exports often enough does."""

    def make(self, directory: Path) -> tuple[Any, Any]:
        metrics = pytest.importorskip("opentelemetry.sdk.metrics")
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        reader = InMemoryMetricReader()
        found: Rows = defaultdict(list)
        sink = OpenTelemetrySink(metrics.MeterProvider(metric_readers=[reader]))

        class Collected:
            def write(self, step: int, numbers: Any) -> None:
                sink.write(step, numbers)
                values, _attributes = gauges(reader)
                assert values["unvanish/step"] == step
                for name in numbers:
                    if name in values and math.isfinite(numbers[name]):
                        found[name].append((step, values[name]))

            def alarm(self, step: int, finding: Any) -> None:
                sink.alarm(step, finding)
                _values, attributes = gauges(reader)
                told = attributes["unvanish/alarm"]
                found["unvanish/alarm"].append((told["step"], told["text"]))

            def close(self) -> None:
                sink.close()

        return Collected(), lambda: found


# --- each by itself ------------------------------------------------------------------------------

APPENDING = """
import itertools, sys
from unvanish.integrations.jsonl import JsonlSink
sink = JsonlSink(sys.argv[1])
for step in itertools.count():
    sink.write(step, {f"unvanish/gradient/{index}": float("-inf") for index in range(100)})
    print(step, flush=True)
"""


def test_json_lines_survive_a_kill_and_are_appended_to(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    writer = subprocess.Popen(
        [sys.executable, "-c", APPENDING, str(file)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    for _ in range(20):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    told = writer.stdout.read().split()
    writer.wait()
    steps = [line["step"] for line in lines(file)]
    assert steps == list(range(len(steps)))
    assert len(steps) >= int(told[-1] if told else 19) + 1
    with file.open("ab") as stream:
        stream.write(b'{"step": 99, "numb')  # the system went down
    sink = JsonlSink(file)
    sink.write(100, {"unvanish/loss": 1.0})
    sink.close()
    assert [line["step"] for line in lines(file)] == [*steps, 100]
    text = file.read_text("utf-8").splitlines()
    assert json.loads(text[0])["numbers"]["unvanish/gradient/0"] == "-Infinity"


def test_a_sink_of_json_lines_that_cannot_be_written_is_dropped(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watched = train_plain([tmp_path / "missing" / "x.jsonl"])
    assert any("JsonlSink gets no more" in str(one.message) for one in caught)
    assert watched.step == 10


def test_mlflow_takes_names_that_it_would_refuse(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(tracking_uri=tmp_path.as_uri())
    run = client.create_run(client.create_experiment("test"))
    sink = MlflowSink(run, client)
    numbers = {f"unvanish/level/layer {index}#0[é]": 1.0 for index in range(1200)}
    sink.write(1, numbers)
    found = mlflow_metrics(client, run.info.run_id)
    assert len(found) == 1200  # more than it takes in one batch
    assert "unvanish/level/layer 7:0___" in found


def test_opentelemetry_counts_what_it_cannot_take(caplog: pytest.LogCaptureFixture) -> None:
    metrics = pytest.importorskip("opentelemetry.sdk.metrics")
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = metrics.MeterProvider(metric_readers=[reader])
    sink = OpenTelemetrySink(provider.get_meter("theirs"))
    with caplog.at_level(logging.WARNING):
        sink.write(1, {"unvanish/gradient/a": math.nan, "unvanish/loss": 2.0})
        sink.write(2, {"unvanish/gradient/a": math.inf, "unvanish/loss": 3.0})
        sink.close()
    assert caplog.records == []
    values, attributes = gauges(reader)
    assert values["unvanish/loss"] == 3.0
    assert values["unvanish/not_finite/a"] == 2
    assert attributes["unvanish/not_finite/a"]["quantity"] == "unvanish.gradient"


def test_a_subclass_of_a_known_class_will_do() -> None:
    loggers = pytest.importorskip("pytorch_lightning.loggers")

    class Mine(loggers.CSVLogger):  # type: ignore[misc, name-defined]
        pass

    (sink,) = adapted([Mine("/nowhere")])
    assert isinstance(sink, LightningLoggerSink)
    with pytest.raises(UsageError, match="is no sink"):
        adapted([object()])


def test_a_sink_imports_nothing_of_its_tracker() -> None:
    modules = ["jsonl", "mlflow", "opentelemetry", "lightning_logger", "transformers_report"]
    program = (
        "import sys, importlib, pathlib\n"
        f"for name in {modules}: importlib.import_module('unvanish.integrations.' + name)\n"
        "from unvanish.monitor.sinks import adapted\n"
        "adapted([pathlib.Path('x.jsonl')])\n"
        "names = ['mlflow', 'opentelemetry', 'pytorch_lightning', 'transformers', 'wandb']\n"
        "print([name for name in names if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# --- the examples of the documentation -----------------------------------------------------------


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def train_plain(sinks: list[Any]) -> Any:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with unvanish.monitor(model, optimizer, sinks=sinks, save=False) as watched:
        steps(model, optimizer)
    return watched


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int = 10) -> None:
    for _ in range(count):
        optimizer.zero_grad()
        model(torch.randn(8, 6)).square().mean().backward()
        optimizer.step()


def transformers_trainer(directory: Path, **options: Any) -> Any:
    transformers = pytest.importorskip("transformers")

    class Regression(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": (self.net(x) - labels).square().mean()}

    rows = [{"x": torch.randn(6), "labels": torch.zeros(2)} for _ in range(40)]
    return transformers.Trainer(
        model=Regression(),
        args=transformers.TrainingArguments(
            output_dir=str(directory / "out"), max_steps=10, per_device_train_batch_size=4,
            save_strategy="no", use_cpu=True, disable_tqdm=True, logging_strategy="no", **options,
        ),
        train_dataset=rows,
    )  # fmt: skip


def lightning_module() -> Any:
    lightning = pytest.importorskip("pytorch_lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            loss: torch.Tensor = self.net(batch).square().mean()
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Module()


def examples() -> dict[str, str]:
    """Return the examples of the section on trackers, by their headings."""
    section = DOCS.read_text("utf-8").split("## Trackers", 1)[1]
    found = re.findall(r"^\*\*(.+?)\*\*.*?\n\n```python\n(.*?)```", section, re.M | re.S)
    return dict(found)


class _Provider:
    """The names that an example may use, made when it does."""

    def __init__(self, directory: Path) -> None:
        from torch.utils.data import DataLoader

        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.names: dict[str, Any] = {
            "unvanish": unvanish,
            "model": model,
            "optimizer": optimizer,
            "train": lambda: steps(model, optimizer),
            "loader": DataLoader([torch.randn(6) for _ in range(80)], batch_size=8),
        }
        self.directory = directory


def arrived_in_transformers(names: dict[str, Any], directory: Path) -> Rows:
    (board,) = {file.parent for file in directory.rglob("events.out.tfevents*")}
    logged = [one for one in names["trainer"].state.log_history if "unvanish/gradient" in one]
    assert [one["step"] for one in logged] == [0, 1, 2, 4, 8]
    assert not any("unvanish/gradient/net.0.weight" in one for one in logged)
    return {name.removeprefix("train/"): rows for name, rows in scalars(board).items()}


def arrived_in_opentelemetry(names: dict[str, Any], directory: Path) -> Rows:
    values, _attributes = gauges(names["reader"])
    return {name: [(int(values["unvanish/step"]), value)] for name, value in values.items()}


ARRIVED: dict[str, Callable[[dict[str, Any], Path], Rows]] = {
    "TensorBoard": lambda names, directory: scalars(directory / "logs"),
    "W&B": lambda names, directory: (names["run"].finish(), history(directory))[1],
    "MLflow": lambda names, directory: mlflow_metrics(
        sys.modules["mlflow"].MlflowClient(), names["run"].info.run_id
    ),
    "JSON lines": lambda names, directory: json_lines(directory / "numbers.jsonl"),
    "Lightning's loggers": lambda names, directory: csv_metrics(directory),
    "transformers' reports": arrived_in_transformers,
    "OpenTelemetry": arrived_in_opentelemetry,
}


def test_each_tracker_has_an_example() -> None:
    assert [*examples()] == [*ARRIVED, "Your own"]
    assert all(len(examples()[name].splitlines()) <= 6 for name in ARRIVED)  # it is that easy


@pytest.fixture
def mlflow_here(tmp_path: Path) -> Iterator[None]:
    mlflow = pytest.importorskip("mlflow")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    yield
    mlflow.end_run()
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize("name", [*ARRIVED, "Your own"])
def test_the_example_does_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_here: None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    names = _Provider(tmp_path).names
    if name == "Lightning's loggers":
        names["module"] = lightning_module()
    if name == "transformers' reports":
        names["trainer"] = transformers_trainer(tmp_path, report_to=["tensorboard"])
    if name == "W&B":
        importlib.import_module("wandb").teardown()  # it would write where its last run began
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnvanishWarning)  # a sink that fails says so
        exec(compile(examples()[name], f"{DOCS}:{name}", "exec"), names)
    if name == "Your own":
        assert names["newest"]["unvanish/loss"] > 0
        return
    found = ARRIVED[name](names, tmp_path)
    parameter = next(
        one for one in found if re.fullmatch(r"unvanish/gradient/(net\.)?0\.weight", one)
    )
    whole = "unvanish/gradient/all parameters" if name == "MLflow" else "unvanish/gradient"
    for one in ("unvanish/loss", whole, parameter):
        expected = [8] if name == "OpenTelemetry" else [0, 1, 2, 4, 8]
        assert [step for step, _value in found[one]] == expected
        assert all(math.isfinite(value) for _step, value in found[one])
