"""How long judging a trace takes: `make bench-rules`. The aim is 0.5 s for a trace of 5,000 ops.

The traces are made by hand, so that only the judging is timed: a deep sigmoid network that vanishes
(every rule of the family VG has something to say) and a healthy one, five traces each.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.diagnose.builders import Net, a_model, a_run, falling, stuck

from unvanish.diagnose import diagnose
from unvanish.records import OpGain, Run, Trace

OPS = 5000
AIM = 0.5
REPEATS = 7


def trace(net: Net, step: int) -> Trace:
    """A trace of `net`, with its ops listed as a tracer lists them."""
    gains = tuple(
        OpGain(op.op, op.module, 0, order, 0, op.factor, op.gain, -1.0)
        for order, op in enumerate(net.ops)
    )
    return net.trace(step, ops=gains, op_count=len(gains))


def chain(activation: str, weight: float) -> Net:
    """A chain of `OPS` ops in forward order, with its loss."""
    net = Net().linear("0", weight)
    for i in range((OPS - 3) // 2):
        getattr(net, activation)(f"{2 * i + 1}")
        net.linear(f"{2 * i + 2}", weight)
    return net.loss()


def seconds(run: Run) -> float:
    """Return the median time of judging `run`."""
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        diagnose(run)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> None:
    """Print the time of one trace, and of five."""
    for name, net, losses in (
        ("vanishing", chain("sigmoid", 0.58), stuck()),
        ("healthy", chain("relu", 2**0.5), falling()),
    ):
        for count in (1, 5):
            traces = [trace(net, 2**i) for i in range(count)]
            took = seconds(a_run(a_model(traces, losses)))
            print(
                f"{name}: {count} trace(s) of {len(net.ops)} ops judged in {took:.3f} s"
                f" ({took / count:.3f} s a trace, aim {AIM} s)"
            )


if __name__ == "__main__":
    main()
