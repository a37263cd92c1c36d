"""Sinks against the real packages: what is written is read back from their own files."""

from __future__ import annotations

import json
import os
import struct
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import unvanish
from unvanish.errors import UnvanishWarning
from unvanish.integrations.tensorboard import TensorBoardSink
from unvanish.integrations.wandb import WandbSink
from unvanish.testing.conformance import SinkConformance

os.environ.setdefault("WANDB_SILENT", "true")

tensorboard = pytest.importorskip("torch.utils.tensorboard")
wandb = pytest.importorskip("wandb")
Rows = dict[str, list[tuple[int, Any]]]


def scalars(directory: Path) -> Rows:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: Rows = defaultdict(list)
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    for name in events.Tags()["scalars"]:
        found[name] = [(item.step, item.value) for item in events.Scalars(name)]
    for name in events.Tags()["tensors"]:
        found[name.removesuffix("/text_summary")] = [
            (item.step, item.tensor_proto.string_val[0].decode()) for item in events.Tensors(name)
        ]
    return found


def log_records(data: bytes) -> Iterator[bytes]:
    """Yield the records of a file in LevelDB's log format, behind a header of seven bytes."""
    position, parts = 7, b""
    while position + 7 <= len(data):
        left = 32_768 - position % 32_768
        if left < 7:  # no room for a header: the rest of the block is filled up
            position += left
            continue
        _checksum, length, kind = struct.unpack_from("<IHB", data, position)
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def history(directory: Path) -> Rows:
    """Return what a W&B run in offline mode has put into its file."""
    from wandb.proto import wandb_internal_pb2

    (file,) = directory.rglob("run-*.wandb")
    found: Rows = defaultdict(list)
    for data in log_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if not record.HasField("history"):
            continue
        row = {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        for name, value in row.items():
            if name != "unvanish/step" and not name.startswith("_"):
                found[name].append((row.get("unvanish/step", row["_step"]), value))
    return found


class TestTensorBoard(SinkConformance):
    def make(self, directory: Path) -> tuple[Any, Any]:
        writer = tensorboard.SummaryWriter(str(directory))
        return TensorBoardSink(writer), lambda: scalars(directory)


class TestWandb(SinkConformance):
    def make(self, directory: Path) -> tuple[Any, Any]:
        run = wandb.init(mode="offline", dir=str(directory), project="test", reinit=True)

        def read() -> Rows:
            run.finish()
            return history(directory)

        return WandbSink(run), read


def trained(sink: Any, steps: int = 10, each: Any = lambda _step: None) -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with unvanish.monitor(model, optimizer, sinks=[sink], save=False) as watched:
        for step in range(steps):
            optimizer.zero_grad()
            model(torch.randn(8, 6)).square().mean().backward()
            optimizer.step()
            each(step)
    return watched


def test_a_writer_can_be_given_as_it_is(tmp_path: Path) -> None:
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        watched = trained(writer)
        writer.add_scalar("theirs", 1.0, 0)  # it is still open
    found = scalars(tmp_path)
    assert [step for step, _value in found["unvanish/gradient/0.weight"]] == [0, 1, 2, 4, 8]
    losses = {step.step: step.loss for step in watched.run().models[0].steps}
    for step, value in found["unvanish/loss"]:
        assert value == pytest.approx(losses[step], rel=1e-6)  # kept as float32
    assert found["unvanish/lr/0"][0][1] == pytest.approx(0.1)
    assert "unvanish/level/0#0" in found
    assert found["theirs"] == [(0, 1.0)]


def test_a_run_can_be_given_as_it_is_and_keeps_its_own_steps(tmp_path: Path) -> None:
    run = wandb.init(mode="offline", dir=str(tmp_path), project="test", reinit=True)
    watched = trained(run, each=lambda step: run.log({"theirs": step}, step=10 * step))
    assert watched.notes == ()
    run.finish()
    found = history(tmp_path)
    assert [value for _step, value in found["theirs"]] == list(range(10))  # none was dropped
    assert [step for step, _value in found["unvanish/gradient/0.weight"]] == [0, 1, 2, 4, 8]


def test_alarms_reach_a_writer(tmp_path: Path) -> None:
    layers = [layer for _ in range(12) for layer in (nn.Linear(6, 6), nn.Sigmoid())]
    torch.manual_seed(0)
    model = nn.Sequential(*layers, nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings(), tensorboard.SummaryWriter(str(tmp_path)) as writer:
        warnings.simplefilter("ignore", UnvanishWarning)
        with unvanish.monitor(model, optimizer, sinks=[writer], save=False):
            for _ in range(10):
                optimizer.zero_grad()
                model(torch.randn(8, 6)).square().mean().backward()
                optimizer.step()
    ((_step, text),) = scalars(tmp_path)["unvanish/alarm"]
    assert "VG101" in text
