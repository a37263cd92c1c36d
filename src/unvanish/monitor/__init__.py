"""Listening to a training script that is not touched.

    program.py     runs the user's script or module as `python` would
    arrival.py     waits for the script's own import of torch
    children.py    names the processes that are not watched
    schedule.py    which steps are traced, and how
    voice.py       the few lines printed while the script runs
    silence.py     why nothing was measured
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

Only the modules marked T import torch, and `run` imports them when the script has done so.
"""
