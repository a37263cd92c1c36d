"""Two ranks under gloo. One launch for all that needs no death; its numbers are judged here."""

from __future__ import annotations

import fcntl
import json
import math
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tests.monitor.scripts import call

from unvanish import store
from unvanish.records import Run

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
RANKED = str(Path(__file__).with_name("ranked.py"))
BOTH = (0, 1)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank has seen, by name of the training; launched once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ranks-together"
    directory.mkdir(exist_ok=True)
    results = [directory / f"{rank}.json" for rank in BOTH]
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all(path.exists() for path in results):
            result = call(*TORCHRUN, RANKED, str(directory), cwd=directory, OMP_NUM_THREADS="1")
            assert result.returncode == 0, result.stderr
    return [json.loads(path.read_text()) for path in results]


@pytest.mark.parametrize("level", ["cheap", "standard", "full"])
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_200_steps_are_bit_for_bit_those_without_the_monitor(
    seen: list[dict[str, Any]], kind: str, level: str
) -> None:
    assert [one["bits"][f"{kind} {level}"] for one in seen] == [True, True]


@pytest.mark.parametrize("rank", BOTH)
@pytest.mark.parametrize("kind", ["ddp", "fsdp", "fsdp wide"])
def test_norms_are_those_of_the_whole_model(
    seen: list[dict[str, Any]], kind: str, rank: int
) -> None:
    """Also at 1e-25, 1e20 and 1e-40 in float32, and at 1e-175, 1e140 and 1e-280 in float64."""
    found = seen[rank][kind]
    assert sorted(map(int, found["read"])) == [*range(10)]
    for step, expected in found["expected"].items():
        read = found["read"][step]
        assert read["zeros"] == expected["zeros"]
        for quantity in ("gradient", "weight"):
            # Both are sums of the same float32 squares in float64: 1e-6 is what is promised.
            assert read[quantity] == pytest.approx(expected[quantity], abs=4e-7, nan_ok=True)


def test_norms_are_those_of_the_unsharded_model_on_the_whole_batch(
    seen: list[dict[str, Any]],
) -> None:
    for kind in ("ddp", "fsdp"):
        found = seen[0][f"as one {kind}"]
        # 1e-6 relative is 4.3e-7 decades; the ranks average in float32, one process does not.
        assert found["read"] == pytest.approx(found["unsharded"], abs=4.3e-7)


def test_an_infinity_on_one_rank_is_counted_and_seen_by_all(seen: list[dict[str, Any]]) -> None:
    for one in seen:
        found = one["fsdp"]
        # Rank 1 has a part of all parameters but the head's only row and bias.
        assert found["read"]["8"]["nonfinite"] == [1, 1, 1, 1, 1, 1, 0, 0]
        assert found["joint"]["8"] == math.inf


def test_a_trace_under_fsdp_is_of_the_users_modules(seen: list[dict[str, Any]]) -> None:
    found = seen[0]["fsdp"]
    path = [factor for factor in found["main path"] if factor != "scale"]
    assert path == ["loss", "weight", "slope", "weight", "slope", "weight", "slope"]
    assert found["facts"]["blocks.0.0.weight"] == [49, "Linear"]
    assert any("all 2 ranks" in note for note in found["notes"])


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_one_collective_a_sample_and_none_at_other_steps(
    seen: list[dict[str, Any]], kind: str
) -> None:
    for one in seen:
        found = one[f"collectives {kind}"]
        sampled = set(found["sampled"])
        assert sampled == {0, 1, 2, 4, 8, 10, 16, 20, 30, 32}
        for step, (bare, watched) in enumerate(zip(found["bare"], found["watched"], strict=True)):
            assert watched.pop("ours", 0) == (1 if step in sampled else 0)
            assert watched == bare


def test_bytes_of_a_sample_are_as_stated(seen: list[dict[str, Any]]) -> None:
    """docs/monitor.md: 88 bytes a rank, and 56 for each parameter that is spread over ranks."""
    assert set(seen[0]["collectives ddp"]["bytes"]) == {2 * 88}
    assert set(seen[0]["collectives fsdp"]["bytes"]) == {2 * 88 + 8 * 56}


def test_ranks_of_different_speed_sample_the_same_steps(seen: list[dict[str, Any]]) -> None:
    first, second = (one["slow"] for one in seen)
    assert first["sampled"] == second["sampled"]
    assert first["seconds"] == second["seconds"]
    assert first["seconds"][1] > first["seconds"][0] + 0.02
    assert any("rank 1 strays" in note for note in first["notes"])


def test_an_alarm_on_one_rank_is_raised_by_all_at_the_same_step(
    seen: list[dict[str, Any]],
) -> None:
    first, second = (one["alarm"] for one in seen)
    assert first["alarms"] == ["rank 1: VG101 only here"]
    # Found at step 4, told with the sample of step 8, which is read back two steps later.
    assert first["told"] == [[10, "rank 1: VG101 only here"]]
    # What it finds at its last look nobody hears, but it is not lost.
    assert second["alarms"] == [*first["alarms"], "VG102 only here"]
    assert second["told"] == [*first["told"], [39, "VG102 only here"]]
    assert first["sampled"] == second["sampled"]
    assert {11, 12, 14, 18} <= set(first["sampled"])  # all of them look closely after it


def test_the_incident_of_one_rank_is_known_to_all(seen: list[dict[str, Any]]) -> None:
    for one in seen:
        assert [25, "loss", 1, True] in one["alarm"]["incidents"]  # of rank 1, with the guilty op


@pytest.mark.parametrize("what", ["failed", "failed in part"])
def test_others_go_on_when_the_monitor_of_a_rank_fails(
    seen: list[dict[str, Any]], what: str
) -> None:
    found = seen[0][what]
    assert found["sampled"] == [0, 1, 2, 4, 8, 10, 16, 20, 30, 32]
    assert found["closed at"] == 40
    assert found["failed"] == [False, True]
    assert any("monitor of rank 1 failed" in note for note in found["notes"])
    assert found["parameters at the end"] == 0  # norms of half the shards would be wrong


def test_a_rank_that_stays_away_is_waited_for_no_longer_than_agreed(
    seen: list[dict[str, Any]],
) -> None:
    first, second = (one["away"] for one in seen)
    assert first["seconds"] < 2.9  # it was away for 3, and 1 was agreed
    assert any("did not answer in time" in note for note in first["notes"])
    assert any("a rank is gone" in note for note in second["notes"])
    assert first["sampled"] == second["sampled"] == [0, 1, 2, 4, 8, 10, 16, 20]


# --- what ends a rank, and what starts one ------------------------------------------------------

TRAINING = """
import os, signal, sys
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


def train():
    rank = distributed.get_rank()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    wrapped = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    torch.manual_seed(rank)
    for step in range(30):
        optimizer.zero_grad()
        wrapped(torch.randn(4, 8)).square().mean().backward()
        if step == 17 and rank == 1:
            end()
        optimizer.step()
    sys.stdout.write(f"rank {rank} is through\\n")  # one write: ranks share the stream
    distributed.destroy_process_group()


def end():
    kind = sys.argv[1] if len(sys.argv) > 1 else ""
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "error":
        raise ValueError("the script's own error")
"""
ALONE = TRAINING + '\n\ndistributed.init_process_group("gloo")\ntrain()\n'
SPAWNING = (
    TRAINING
    + """

def work(rank, port):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    train()


if __name__ == "__main__":
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, args=(port,), nprocs=2)
    print("the parent is through")
"""
)


def script(directory: Path, text: str) -> str:
    path = directory / "train.py"
    path.write_text(textwrap.dedent(text))
    return str(path)


def saved(directory: Path) -> Run:
    return store.load("last", directory / ".unvanish")


@pytest.mark.parametrize("how", ["killed", "error"])
def test_a_rank_that_dies_leaves_a_readable_run_and_its_own_error(tmp_path: Path, how: str) -> None:
    words = (*TORCHRUN, "-m", "unvanish", "run", "--every", "4", script(tmp_path, ALONE), how)
    result = call(*words, cwd=tmp_path, OMP_NUM_THREADS="1")  # within the 120 s of `call`
    assert result.returncode == 1
    assert ("ValueError: the script's own error" in result.stderr) == (how == "error")
    assert ("Signal 9" in result.stderr or "exitcode: -9" in result.stderr) == (how == "killed")
    run = saved(tmp_path)
    assert [trace.step for trace in run.models[0].traces][:6] == [0, 1, 2, 4, 8, 12]


def test_spawned_workers_are_watched(tmp_path: Path) -> None:
    words = (sys.executable, "-m", "unvanish", "run", "--every", "10", script(tmp_path, SPAWNING))
    result = call(*words, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr
    assert "the parent is through" in result.stdout
    assert sorted(result.stdout.splitlines())[:2] == ["rank 0 is through", "rank 1 is through"]
    assert result.stderr.count("From the loss to") == 1  # one verdict
    assert "were not watched" not in result.stderr
    run = saved(tmp_path)
    assert run.environment.distributed == "rank 0 of 2"
    assert run.command[0].endswith("train.py")
    assert len(run.models[0].steps) == 30


def test_the_error_of_a_spawned_worker_is_the_scripts(tmp_path: Path) -> None:
    path = script(tmp_path, SPAWNING)
    words = (sys.executable, "-m", "unvanish", "run", "--no-save", path, "error")
    result = call(*words, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert result.returncode == 1
    assert "ValueError: the script's own error" in result.stderr
    assert "spawned.py" not in result.stderr  # no frame of ours in the traceback
    assert "From the loss to" in result.stderr  # the verdict on what was seen until then
    assert not (tmp_path / ".unvanish").exists()


def test_ranks_that_never_join_are_watched_alone(tmp_path: Path) -> None:
    """torchrun without torch.distributed: each process trains for itself, the first is reported."""
    text = ALONE.replace('distributed.init_process_group("gloo")', "")
    text = text.replace("distributed.get_rank()", "0").replace(
        "DistributedDataParallel(net)", "net"
    )
    text = text.replace("distributed.destroy_process_group()", "")
    words = ("-m", "unvanish", "run", "--steps", "5", script(tmp_path, text))
    for rank in BOTH:
        result = call(sys.executable, *words, cwd=tmp_path, RANK=str(rank), WORLD_SIZE="2")
        assert result.returncode == 0, result.stderr
        assert result.stderr.count("From the loss to") == (1 if rank == 0 else 0)
        assert len(store.runs(tmp_path / ".unvanish")) == 1
    run = saved(tmp_path)
    assert run.ending == "steps-reached"
    assert [one.step for one in run.models[0].steps] == [0, 1, 2, 3, 4]
