"""Trainings on two ranks, all in one launch: `torchrun --nproc-per-node 2 ranked.py DIRECTORY`.

Each rank writes what it saw to DIRECTORY/<rank>.json; `test_ranks.py` judges it.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import unvanish
from unvanish.monitor.alarms import Alarms
from unvanish.monitor.ranks import Ranks
from unvanish.records import Finding, Where

STEPS = 200
LEVELS = ("cheap", "standard", "full")
SCALES = {5: 1e-25, 6: 1e20, 7: 1e-40}  # of the gradients of these steps


class Net(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32, depth: int = 3) -> None:
        super().__init__()
        # Odd sizes: shards of unlike size, and one rank without any part of the last bias.
        blocks = [
            nn.Sequential(nn.Linear(7, 7, dtype=dtype), nn.Tanh(), nn.Dropout(0.2))
            for _ in range(depth)
        ]
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(7, 1, dtype=dtype)

    def forward(self, inputs: Tensor) -> Tensor:
        for block in self.blocks:
            inputs = block(inputs)
        return self.head(inputs)


def sharded(model: Net) -> nn.Module:
    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)
    return model


WRAP: dict[str, Callable[[Net], nn.Module]] = {"ddp": DistributedDataParallel, "fsdp": sharded}


def rank() -> int:
    return distributed.get_rank()


def batch(of: int, step: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 * step + of)
    draw = torch.randn(8, 8, generator=generator).to(dtype)
    return draw[:, :7], draw[:, 7:]


def train(
    wrapped: nn.Module,
    steps: int,
    before_step: Callable[[int], None] = lambda step: None,
    lr: float = 1e-2,
    loss_of: Callable[[int, Tensor], Tensor] = lambda step, loss: loss,
    watch: dict[str, Any] | None = None,
) -> unvanish.Monitor | None:
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=lr)
    given = {"overhead": None, "every": 10, "save": False, **(watch or {})}
    monitor = None if watch is None else unvanish.monitor(wrapped, optimizer, **given)
    dtype = next(wrapped.parameters()).dtype
    for step in range(steps):
        inputs, targets = batch(rank(), step, dtype)
        optimizer.zero_grad()
        loss_of(step, functional.mse_loss(wrapped(inputs), targets)).backward()
        before_step(step)
        optimizer.step()
    if monitor is not None:
        monitor.close()
    return monitor


def state(wrapped: nn.Module) -> list[Tensor]:
    found = [item.detach() for item in wrapped.parameters()]
    found = [item.to_local() if isinstance(item, DTensor) else item for item in found]
    return [*(item.clone() for item in found), torch.get_rng_state()]


def trained(kind: str, watch: dict[str, Any] | None) -> list[Tensor]:
    torch.manual_seed(0)
    wrapped = WRAP[kind](Net(depth=1))
    torch.manual_seed(rank())
    train(wrapped, STEPS, watch=watch)
    return state(wrapped)


def bits() -> dict[str, bool]:
    """Whether parameters and random numbers after 200 steps are those without the monitor."""
    found = {}
    for kind in WRAP:
        bare = trained(kind, None)
        for level in LEVELS:
            watched = trained(kind, {"level": level})
            found[f"{kind} {level}"] = all(map(torch.equal, bare, watched))
    return found


def whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().double()


def log_norm(tensor: Tensor) -> float:
    """log10 of the norm in float64, of entries scaled to 1: nothing can leave the range."""
    top = float(tensor.abs().max())
    if top == 0 or not math.isfinite(top):
        return -math.inf if top == 0 else top
    return math.log10(top) + math.log10(float(torch.linalg.vector_norm(tensor / top)))


def norms(kind: str, dtype: torch.dtype) -> dict[str, Any]:
    """What the monitor read, beside what is read off the whole gradients and weights."""
    torch.manual_seed(0)
    model = Net(dtype)
    names = [name for name, _ in model.named_parameters()]
    wrapped = WRAP[kind](model)
    expected: dict[str, dict[str, list[Any]]] = {}
    kept: list[Tensor] = []

    def before_step(step: int) -> None:
        factor = SCALES.get(step, 1.0)
        for parameter in wrapped.parameters():
            gradient = parameter.grad
            own = gradient.to_local() if isinstance(gradient, DTensor) else gradient
            own.mul_(factor if dtype == torch.float32 else factor**7)
            if step == 4 and own.numel():
                own.view(-1)[0] = 0.0
            if step == 8 and rank() == 1 and own.numel() and isinstance(gradient, DTensor):
                own.view(-1)[0] = math.inf
        gradients = [whole(item.grad) for item in wrapped.parameters()]
        kept[:] = [whole(item) for item in wrapped.parameters()]
        expected[str(step)] = {
            "gradient": [log_norm(item) for item in gradients],
            "weight": [log_norm(item) for item in kept],
            "zeros": [int((item == 0).sum()) for item in gradients],
        }

    monitor = train(wrapped, 10, before_step, watch={"every": 1, "level": "standard"})
    model_run = monitor.run().models[0]
    read = {}
    for trace in model_run.traces:
        by_name = {signal.name: signal for signal in trace.parameters}
        signals = [by_name[name] for name in names]
        read[str(trace.step)] = {
            "gradient": [signal.grad_log10 for signal in signals],
            "weight": [signal.weight_log10 for signal in signals],
            "zeros": [signal.zeros for signal in signals],
            "nonfinite": [signal.nonfinite for signal in signals],
            "update": [signal.update_ratio_log10 for signal in signals],
        }
    joint = {str(one.step): one.gradient_log10 for one in model_run.steps}
    return {
        "read": read,
        "expected": expected,
        "joint": joint,
        "facts": {fact.name: [fact.numel, fact.type] for fact in model_run.parameters},
        "unsharded": unsharded(dtype),
        "notes": list(monitor.notes),
        "main path": [edge.factor for edge in model_run.traces[0].main_path.edges],
    }


def unsharded(dtype: torch.dtype) -> list[float]:
    """Gradient norms of the first step of one process that sees the batches of both ranks."""
    torch.manual_seed(0)
    model = Net(dtype).eval()  # two ranks draw other dropout masks than one process
    pairs = [batch(of, 0, dtype) for of in range(2)]
    inputs, targets = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    functional.mse_loss(model(inputs), targets).backward()
    return [log_norm(item.grad.double()) for item in model.parameters()]


def as_one(kind: str) -> dict[str, Any]:
    """The gradient norms of the first step, without dropout: those of the unsharded model."""
    torch.manual_seed(0)
    wrapped = WRAP[kind](Net().eval())
    monitor = train(wrapped, 1, watch={"level": "cheap"})
    signals = monitor.run().models[0].traces[0].parameters
    return {
        "read": [signal.grad_log10 for signal in signals],
        "unsharded": unsharded(torch.float32),
    }


def collectives(kind: str) -> dict[str, Any]:
    """How often each collective is called from Python at each step, without us and with us."""
    counts: list[Counter[str]] = []
    names = ("all_reduce", "all_gather", "all_gather_into_tensor", "broadcast", "barrier")
    originals = {name: getattr(distributed, name) for name in names}
    add_up = Ranks.add_up
    sizes = []

    def counting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            counts[-1][name] += 1
            return original(*arguments, **options)

        return call

    def counted(self: Ranks, vector: Tensor) -> Any:
        counts[-1]["ours"] += 1
        sizes.append(vector.numel() * vector.element_size())
        return add_up(self, vector)

    def run(watch: dict[str, Any] | None) -> tuple[list[dict[str, int]], list[int]]:
        counts[:] = [Counter()]
        torch.manual_seed(0)
        wrapped = WRAP[kind](Net())

        def loss_of(step: int, loss: Tensor) -> Tensor:
            counts.append(Counter())
            return loss

        monitor = train(wrapped, 40, loss_of=loss_of, watch=watch)
        sampled = [] if monitor is None else sampled_of(monitor)
        return [dict(one) for one in counts[1:]], sampled

    for name, original in originals.items():
        setattr(distributed, name, counting(name, original))
    Ranks.add_up = counted
    try:
        bare, _ = run(None)
        watched, sampled = run({"level": "cheap", "every": 10})
    finally:
        Ranks.add_up = add_up
        for name, original in originals.items():
            setattr(distributed, name, original)
    return {"bare": bare, "watched": watched, "sampled": sampled, "bytes": sizes}


def sampled_of(monitor: unvanish.Monitor) -> list[int]:
    return [one.step for one in monitor.run().models[0].steps if one.sampled]


def slow() -> dict[str, Any]:
    """One rank sleeps before each backward; the cadence keeps a budget."""
    torch.manual_seed(0)
    wrapped = DistributedDataParallel(Net())

    def loss_of(step: int, loss: Tensor) -> Tensor:
        time.sleep(0.03 * rank())
        return loss

    watch = {"every": 7, "overhead": 0.5, "level": "standard"}
    monitor = train(wrapped, 80, loss_of=loss_of, watch=watch)
    return {
        "sampled": sampled_of(monitor),
        "seconds": [one.seconds for one in monitor.ranks],
        "notes": list(monitor.notes),
    }


def alarm() -> dict[str, Any]:
    """Rank 1 alone finds something at its fourth look; every rank is told, at the same step."""
    torch.manual_seed(0)
    wrapped = DistributedDataParallel(Net())
    told: list[tuple[int, str]] = []
    judge, looks = Alarms.judge, Counter()

    def judged(self: Alarms, diagnosis: Any) -> list[Finding]:
        looks["all"] += 1
        last = diagnosis.run.models[0].traces[-1].step
        if rank() == 1 and (looks["all"] == 4 or last == 32):
            return [_finding("VG101" if last < 32 else "VG102")]
        return []

    Alarms.judge = judged
    steps = Counter()

    def loss_of(step: int, loss: Tensor) -> Tensor:
        steps["now"] = step
        return loss * math.nan if step == 25 and rank() == 1 else loss

    try:
        monitor = train(
            wrapped,
            40,
            loss_of=loss_of,
            watch={
                "every": 10,
                "overhead": 0.9,
                "on_alarm": lambda finding: told.append((steps["now"], finding.title)),
            },
        )
    finally:
        Alarms.judge = judge
    return {
        "told": told,
        "alarms": [one.title for one in monitor.alarms],
        "sampled": sampled_of(monitor),
        "incidents": [
            [one.step, one.quantity, one.steps[-1].rank, one.guilty is not None]
            for one in monitor.incidents
        ],
    }


def _finding(code: str) -> Finding:
    return Finding(
        code=code,
        family="VG",
        verdict="vanishing",
        severity="error",
        title=f"{code} only here",
        where=Where(module="blocks.0"),
        factor="slope",
        evidence=(),
        remedy="none",
        step=4,
    )


def failed(whole_monitor: bool) -> dict[str, Any]:
    """The monitor of rank 1 fails at step 5, or the part of it that measures."""
    torch.manual_seed(0)
    wrapped = sharded(Net())
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=1e-2)
    monitor = unvanish.monitor(wrapped, optimizer, every=10, overhead=None, save=False)
    for step in range(40):
        if step == 5 and rank() == 1:
            if whole_monitor:
                monitor._markers = None
            else:
                monitor._gauge.look = None
        inputs, targets = batch(rank(), step)
        functional.mse_loss(wrapped(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    monitor.close()
    model = monitor.run().models[0]
    return {
        "sampled": sampled_of(monitor),
        "closed at": monitor.step,
        "failed": [one.failed for one in monitor.ranks],
        "notes": list(monitor.notes),
        "parameters at the end": len(model.traces[-1].parameters) if model.traces else 0,
    }


def away() -> dict[str, Any]:
    """Two trainings that do not wait for each other; rank 1 stays away for longer than agreed."""
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    monitor = unvanish.monitor(
        model, optimizer, every=10, overhead=None, save=False, timeout=1.0, level="cheap"
    )
    began = time.monotonic()
    for step in range(24):
        if step == 6 and rank() == 1:
            time.sleep(3.0)
        inputs, targets = batch(rank(), step)
        functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.monotonic() - began
    monitor.close()
    distributed.barrier()
    return {"seconds": seconds, "notes": list(monitor.notes), "sampled": sampled_of(monitor)}


def main(directory: Path) -> None:
    distributed.init_process_group("gloo")
    checks: dict[str, Callable[[], Any]] = {
        "bits": bits,
        "ddp": lambda: norms("ddp", torch.float32),
        "fsdp": lambda: norms("fsdp", torch.float32),
        "fsdp wide": lambda: norms("fsdp", torch.float64),
        "as one ddp": lambda: as_one("ddp"),
        "as one fsdp": lambda: as_one("fsdp"),
        "collectives ddp": lambda: collectives("ddp"),
        "collectives fsdp": lambda: collectives("fsdp"),
        "slow": slow,
        "alarm": alarm,
        "failed": lambda: failed(True),
        "failed in part": lambda: failed(False),
        "away": away,
    }
    only = sys.argv[2:]
    found = {}
    for name, check in checks.items():
        if not only or name in only:
            began = time.monotonic()
            found[name] = check()
            print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
            distributed.barrier()
    (directory / f"{rank()}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
