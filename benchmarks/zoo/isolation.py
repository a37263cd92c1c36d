"""One specimen at a time, in a forked process with a limit of time and memory.

The libraries are imported once, in the parent, which runs no model itself: a fork costs nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

MEMORY = 14 << 30  # bytes of address space beyond what the parent has mapped


def isolated(work: Callable[[], dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Return what `work` returns, or {"status": "timeout" | "memory" | "died" | "error", …}.

    `seconds` are of processor time, and of waiting four times as many: others may use the machine.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_inside, args=(work, sender, seconds), daemon=True)
    started, spent = time.monotonic(), _children()
    process.start()
    sender.close()
    try:
        if receiver.poll(4 * seconds):
            answer: dict[str, Any] = receiver.recv()
        else:
            answer = {"status": "timeout", "error": f"{seconds:.0f} s"}
    except EOFError:
        process.join(5)
        late = process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
        answer = {"status": "timeout" if late else "died", "error": f"exit code {process.exitcode}"}
    finally:
        process.kill()
        process.join()
    waited, worked = time.monotonic() - started, _children() - spent
    return {**answer, "seconds": round(waited, 2), "cpu_s": round(worked, 2)}


def warm(build: Callable[[], Any]) -> None:
    """Import in this process what the children would each import again: no backward is run."""
    import torch
    import torch._dynamo  # an optimiser's first step imports it

    import unvanish.checking  # noqa: F401

    torch.set_num_threads(1)  # a fork keeps only one thread
    build()


def _inside(work: Callable[[], dict[str, Any]], sender: Connection, seconds: float) -> None:
    mapped = _mapped()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    spent = int(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (spent, spent + 1))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        sender.send(work())
    except MemoryError:
        sender.send({"status": "memory", "error": "MemoryError"})
    except Exception as error:
        kind = "memory" if "can't allocate memory" in str(error) else "error"
        sender.send(
            {
                "status": kind,
                "error": f"{type(error).__name__}: {str(error)[:300]}",
                "trace": traceback.format_exc()[-3000:],
            }
        )


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _mapped() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
