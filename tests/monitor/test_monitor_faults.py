"""What goes wrong around a monitor, each as a test: the training goes on, and it is said."""

from __future__ import annotations

import contextlib
import itertools
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loops
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import optimizer as optimizer_hooks
from torch.utils.data import DataLoader, Dataset

import unvanish
from unvanish import store
from unvanish.errors import UnvanishWarning
from unvanish.monitor import flights, gauge, sampler, watchman


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def setting() -> tuple[nn.Sequential, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = loops.network()
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    inputs, targets = loops.batch()
    optimizer.zero_grad()
    functional.cross_entropy(model(inputs), targets).backward()
    optimizer.step()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        step(model, optimizer)


SCRIPT = """
import os, sys, warnings
import torch
from torch import nn
import unvanish
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def step():
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(torch.randn(16, 12)), torch.randint(0, 4, (16,)))
    loss.backward()
    optimizer.step()
"""


def script(body: str, directory: Path) -> subprocess.CompletedProcess[str]:
    program = SCRIPT + textwrap.dedent(body)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=directory, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


# --- the store -----------------------------------------------------------------------------------


def test_a_disk_that_is_full(directory: Path) -> None:
    done = script(
        """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with unvanish.monitor(model, optimizer, overhead=None) as watched:
            step()
            resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
            for _ in range(40):
                step()
        print(watched.step, len(watched.notes))
        """,
        directory,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "41"
    assert done.stderr.count("the run cannot be saved") == 1
    assert "Free some space" in done.stderr
    assert store.load("last", directory / ".unvanish").models[0].steps[0].step == 0


def test_a_directory_that_is_read_only() -> None:
    # pytest's own directories are closed to other users.
    with tempfile.TemporaryDirectory() as name:
        _in_a_read_only_directory(Path(name))


def _in_a_read_only_directory(directory: Path) -> None:
    directory.chmod(0o555)
    done = script(
        """
        import unvanish.monitor.attach, unvanish.report.terminal
        if os.geteuid() == 0:  # root may write everywhere
            os.setuid(65534)
        with unvanish.monitor(model, optimizer, directory=os.environ["WHERE"]) as watched:
            for _ in range(10):
                step()
        print(watched.step, watched.diagnosis().verdict)
        """.replace('os.environ["WHERE"]', repr(str(directory))),
        directory,
    )
    directory.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "10"
    assert "the run cannot be saved" in done.stderr
    assert "Check its permissions" in done.stderr


def test_a_database_that_is_locked_for_a_while(directory: Path) -> None:
    model, optimizer = setting()
    with unvanish.monitor(model, optimizer, every=4, overhead=None) as watched:
        train(model, optimizer, 2)
        other = sqlite3.connect(directory / ".unvanish" / "runs.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.warns(UnvanishWarning, match="Another process holds it"):
            train(model, optimizer, 10)
        other.execute("ROLLBACK")
        other.close()
        with pytest.warns(UnvanishWarning, match="being saved again"):
            train(model, optimizer, 10)
        run = store.load("last", directory / ".unvanish")
        assert [record.step for record in run.models[0].steps] == list(range(21))
    assert len(watched.notes) == 2
    assert len(store.load("last", directory / ".unvanish").models[0].steps) == 22


def test_a_process_that_is_killed(directory: Path) -> None:
    done = script(
        """
        watched = unvanish.monitor(model, optimizer, overhead=None)
        for _ in range(33):
            step()
        print(watched.id, flush=True)
        os.kill(os.getpid(), 9)
        """,
        directory,
    )
    assert done.returncode == -signal.SIGKILL
    run = store.load(done.stdout.strip(), directory / ".unvanish")
    assert run.ending == "killed"
    # Step 32 was sampled, and all before it was written with it or earlier.
    assert [trace.step for trace in run.models[0].traces] == [0, 1, 2, 4, 8, 16, 32]
    assert [record.step for record in run.models[0].steps] == list(range(33))


def test_a_program_that_ends_without_closing(directory: Path) -> None:
    done = script(
        """
        watched = unvanish.monitor(model, optimizer, overhead=None)
        for _ in range(3):
            step()
        raise RuntimeError("theirs")
        """,
        directory,
    )
    assert done.returncode == 1
    run = store.load("last", directory / ".unvanish")
    assert (run.ending, run.error) == ("crashed", "RuntimeError: theirs")
    assert len(run.models[0].steps) == 3


# --- the training --------------------------------------------------------------------------------


def test_an_optimiser_whose_state_is_reloaded() -> None:
    model, optimizer = setting()
    with unvanish.monitor(model, optimizer, overhead=None) as watched:
        train(model, optimizer, 5)
        state = optimizer.state_dict()
        for group in state["param_groups"]:
            group["lr"] = 0.01
        optimizer.load_state_dict(state)
        train(model, optimizer, 5)
    (run,) = watched.run().models
    assert [record.lr for record in run.steps] == [(0.1,)] * 5 + [(0.01,)] * 5
    assert watched.notes == ()


def test_a_new_optimiser_for_the_same_model() -> None:
    model, optimizer = setting()
    with unvanish.monitor(model, optimizer, overhead=None) as watched:
        train(model, optimizer, 3)
        del optimizer
        again = torch.optim.Adam(model.parameters(), lr=1e-3)
        assert unvanish.monitor(model, again) is watched
        train(model, again, 3)
    assert [record.lr for record in watched.run().models[0].steps] == [(0.1,)] * 3 + [(1e-3,)] * 3


def test_a_model_that_is_moved() -> None:
    model, optimizer = setting()
    with unvanish.monitor(model, optimizer, every=1, overhead=None) as watched:
        train(model, optimizer, 3)
        model.to(torch.float64)
        for state in optimizer.state.values():
            state["momentum_buffer"] = state["momentum_buffer"].double()
        for _ in range(3):
            inputs, targets = loops.batch()
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs.double()), targets).backward()
            optimizer.step()
        model.to("meta")  # another device, whose tensors cannot be read
        optimizer.zero_grad()
        loss = functional.cross_entropy(
            model(torch.randn(16, 12, dtype=torch.float64, device="meta")),
            torch.zeros(16, dtype=torch.long, device="meta"),
        )
        loss.backward()
    (run,) = watched.run().models
    assert [trace.step for trace in run.traces] == [0, 1, 2, 3, 4, 5]
    assert all(signal.grad_log10 is not None for signal in run.traces[-1].parameters)
    assert watched.notes == ()


def test_parameters_that_are_added_later(directory: Path) -> None:
    model, optimizer = setting()
    with unvanish.monitor(model, optimizer, level="cheap", every=1, overhead=None) as watched:
        train(model, optimizer, 3)
        model.append(nn.Linear(4, 4))
        optimizer.add_param_group({"params": list(model[-1].parameters()), "lr": 0.01})
        train(model, optimizer, 3)
    names = [one.names for one in store.Database(directory / ".unvanish").series(
        watched.id, "gradient")]  # fmt: skip
    assert [("7.weight" in one) for one in names] == [False] * 3 + [True] * 3
    assert watched.run().models[0].steps[-1].lr == (0.1, 0.01)
    assert watched.notes == ()


def test_a_frozen_layer_that_is_thawed() -> None:
    model, optimizer = setting()
    model[0].requires_grad_(False)
    with unvanish.monitor(model, optimizer, level="cheap", every=1, overhead=None) as watched:
        train(model, optimizer, 3)
        model[0].requires_grad_(True)
        train(model, optimizer, 3)
    names = [
        [signal.name for signal in trace.parameters] for trace in watched.run().models[0].traces
    ]
    assert [("0.weight" in one) for one in names] == [False] * 3 + [True] * 3


def test_hooks_that_the_user_removes() -> None:
    model, optimizer = setting()
    with unvanish.monitor(model, optimizer, every=1, overhead=None) as watched:
        train(model, optimizer, 2)
        optimizer_hooks._global_optimizer_pre_hooks.clear()
        optimizer_hooks._global_optimizer_post_hooks.clear()
        nn.modules.module._global_forward_hooks.clear()
        nn.modules.module._global_forward_pre_hooks.clear()
        with pytest.warns(UnvanishWarning, match="were removed"):
            train(model, optimizer, 200)
    steps = watched.run().models[0].steps
    assert len(watched.notes) == 1
    assert steps[-1].step > 100  # it listens again


# --- processes -----------------------------------------------------------------------------------


class Data(Dataset[tuple[Tensor, Tensor]]):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        # A worker that trains something of its own must not be recorded.
        inner = nn.Linear(12, 1)
        optimizer = torch.optim.SGD(inner.parameters(), lr=0.1)
        inner(torch.ones(12)).sum().backward()
        optimizer.step()
        return torch.full((12,), float(index)), torch.tensor(index % 4)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_data_loader_workers(method: str, directory: Path) -> None:
    model, optimizer = setting()
    loader = DataLoader(Data(), batch_size=16, num_workers=1, multiprocessing_context=method)
    with unvanish.monitor(model, optimizer) as watched:
        for inputs, targets in loader:
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    assert watched.notes == ()
    (summary,) = store.runs(directory / ".unvanish")
    assert (summary.id, summary.state) == (watched.id, "finished")
    assert len(watched.run().models[0].steps) == 4


def test_a_forked_child_that_ends_normally_saves_nothing(directory: Path) -> None:
    done = script(
        """
        watched = unvanish.monitor(model, optimizer, overhead=None)
        step()
        if os.fork() == 0:
            step()
            sys.exit(0)
        os.wait()
        step()
        watched.close()
        print(watched.step)
        """,
        directory,
    )
    assert done.stdout.strip() == "2", done.stderr
    (summary,) = store.runs(directory / ".unvanish")
    assert summary.state == "finished"
    assert len(store.load("last", directory / ".unvanish").models[0].steps) == 2


# --- ourselves -----------------------------------------------------------------------------------


def broken(*_args: Any, **_kwargs: Any) -> Any:
    raise RuntimeError("ours")


@contextlib.contextmanager
def trained_to_the_end(steps: int = 12) -> Iterator[Any]:
    """Train with a monitor, without it, and compare: whatever broke inside changed nothing."""
    model, optimizer = setting()
    train(model, optimizer, steps)
    expected = [value.clone() for value in model.state_dict().values()]
    model, optimizer = setting()
    with unvanish.monitor(model, optimizer) as watched:
        yield watched
        train(model, optimizer, steps)
    for one, other in zip(expected, model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("home", "name", "part"),
    [
        (gauge.Gauge, "look", "measuring"),
        (gauge.Gauge, "finish", "measuring"),
        (sampler.Sampler, "begin", "tracing"),
        (sampler.Sampler, "end", "tracing"),
    ],
)
def test_a_part_that_fails_is_switched_off_alone(
    home: type, name: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, name, broken)
    with pytest.warns(UnvanishWarning, match=f"{part} was switched off"), trained_to_the_end() as m:
        pass
    assert len(m.notes) == 1
    assert len(m.run().models[0].steps) == 12
    assert m.run().models[0].traces or part == "tracing" or name == "look"


@pytest.mark.parametrize(
    ("home", "name"),
    [
        (watchman.Watchman, "_open_step"),
        (watchman.Watchman, "_close_step"),
        (watchman.Watchman, "_is_ours"),
        (flights.Flights, "take"),
    ],
)
def test_an_exception_in_our_own_hook(
    home: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, name, broken)
    with pytest.warns(UnvanishWarning, match="switched itself off"), trained_to_the_end() as m:
        pass
    assert m.closed
    assert len(m.notes) == 1
    assert not nn.modules.module._global_forward_hooks


def test_a_function_of_the_user_that_fails_on_an_alarm() -> None:
    torch.manual_seed(0)
    layers = [layer for _ in range(12) for layer in (nn.Linear(12, 12), nn.Sigmoid())]
    model = nn.Sequential(*layers, nn.Linear(12, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.warns(UnvanishWarning, match="on_alarm was switched off"),
        unvanish.monitor(model, optimizer, on_alarm=broken) as watched,
    ):
        train(model, optimizer, 60)
    assert watched.step == 60


class BrokenSink:
    def write(self, step: int, numbers: Any) -> None:
        raise OSError("no connection")

    def alarm(self, step: int, finding: Any) -> None: ...

    def close(self) -> None: ...


def test_a_sink_that_fails_gets_no_more() -> None:
    model, optimizer = setting()
    with (
        pytest.warns(UnvanishWarning, match="BrokenSink gets no more"),
        unvanish.monitor(model, optimizer, sinks=[BrokenSink()]) as watched,
    ):
        train(model, optimizer, 12)
    assert len(watched.notes) == 1
    assert watched.step == 12


# --- long runs -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_memory_is_flat_over_fifty_thousand_steps() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    inputs = torch.randn(4, 2)
    sizes, resident = [], []
    with unvanish.monitor(model, optimizer, every=50) as watched:
        tracemalloc.start()
        for count in range(50_000):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
            if count % 10_000 == 9_999:
                sizes.append(tracemalloc.get_traced_memory()[0])
                resident.append(_resident())
        tracemalloc.stop()
    assert watched.step == 50_000
    # The thinned record of steps fills up to 4,096 entries of about 300 bytes, and is halved then.
    assert max(sizes[1:]) - sizes[1] < 2_000_000
    assert resident[-1] - resident[1] < 8_000_000


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_the_ring_and_the_history_are_bounded() -> None:
    from unvanish.monitor.recent import History, Recent
    from unvanish.records import StepRecord

    history, recent = History(most=100), Recent()
    for number in range(5_000):
        record = StepRecord(number, float("nan") if number == 777 else 1.0)
        history.add(record)
        recent.add(record)
    steps = [record.step for record in history.steps()]
    assert len(steps) <= 101
    assert 777 in steps  # what went wrong is kept
    gaps = {b - a for a, b in itertools.pairwise(steps)} - {777 - 768, 832 - 777}
    assert len(gaps) <= 2
    assert len(recent.steps) == 64


def test_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget is kept: looks that cost more than it allows become rare."""
    from unvanish.monitor.cadence import Cadence

    now = [0.0]
    cadence = Cadence(overhead=0.01, clock=lambda: now[0])
    looks = []
    for number in range(20_000):
        look = cadence.look(number)
        looks.append(look)
        now[0] += 0.01 + (0.5 if look == "sampled" else 0.0)  # a look costs fifty steps
        cadence.step_over(number, look, 0.0)
    spent = 0.5 * looks.count("sampled")
    assert spent <= 0.01 * now[0] + 1.0 + 8 * 0.01 + 0.5
    assert looks[:3] == ["sampled", "sampled", "sampled"]
    assert "sampled" in looks[15_000:]
