"""Watching training: a script that is not touched, or a model over a long run.

The package is also the function `unvanish.monitor(model, optimizer, …)`; see `attach`.

    program.py     runs the user's script or module as `python` would
    arrival.py     waits for the script's own import of torch
    children.py    names the processes that are not watched
    schedule.py    which steps are traced, and how
    voice.py       the few lines printed while the script runs
    silence.py     why nothing was measured
    shield.py      a failure of ours never reaches the training
    launch.py      one watched program from start to record
    listener.py    T  the places where every training loop passes, wrapped and restored
    watcher.py     T  what to do at each event: trace, compare, count
    sites.py       T  which backward passes to trace
    ledger.py      T  whose backward it was: passes, and the steps that claim them
    closing.py     T  a sampled step that is over becomes records
    lane.py        T  one model over a run
    losses.py      T  the loss of every step
    optimizers.py  T  which optimisers there are, and what a step did
    naming.py      T  what the script calls its models
    session.py     T  everything of ours that is in torch, from start to record
    notebook.py    T  `unvanish.watch()`

and for long runs

    options.py        what was asked of a monitor
    cadence.py        which steps are looked at, within a measured budget
    recent.py         the last steps, a thinned record of all, incidents
    alarms.py         findings while it runs, once for each cause
    journal.py        writing to the store meanwhile
    sinks.py          the user's own objects that take numbers
    attach.py      T  `unvanish.monitor()`: one monitor a model
    handle.py      T  the monitor as its user holds it
    watchman.py    T  events become steps
    stepping.py    T  one step as it is seen
    gauge.py       T  all parameters at once
    sampler.py     T  the trace of a sampled step
    clipping.py    T  torch's functions that clip gradients
    flight.py      T  numbers on their way to the host
    flights.py     T  steps wait, fly together, and are taken in in order
    desk.py        T  where finished steps arrive, and who is told

and where several ranks train together

    ranks.py       T  the ranks in a process group of our own
    parcel.py      T  what they tell each other at a sample, as one vector
    whole.py       T  from the numbers of one rank to those of the whole model
    convoy.py      T  who gives what when, and what is decided by it
    peers.py       T  what one rank learns of the others
    strays.py         which rank leaves the others
    pace.py           how long a rank takes before its backward
    standin.py     T  what stays of a monitor that has failed
    scout.py       T  which model an optimiser trains
    ranked.py      T  `unvanish run` on each rank
    spawned.py        workers of torch.multiprocessing.spawn

Only the modules marked T import torch, and `run` imports them when the script has done so.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unvanish.monitor.handle import Monitor


class _Package(ModuleType):
    """A package that can be called: `unvanish.monitor` is both."""

    def __call__(self, model: Any, optimizer: Any, **options: Any) -> Monitor:
        """Watch `model` while `optimizer` trains it. See `unvanish.monitor.attach.attach`."""
        from unvanish.monitor.attach import attach

        return attach(model, optimizer, **options)


sys.modules[__name__].__class__ = _Package
