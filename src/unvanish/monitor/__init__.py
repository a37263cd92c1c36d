"""Listening to a training script that is not touched.

    program.py     runs the user's script or module as `python` would
    arrival.py     waits for the script's own import of torch
    children.py    names the processes that are not watched
    schedule.py    which steps are traced
    listener.py    T  the places where every training loop passes, wrapped and restored
    watcher.py     T  what those events mean: backward passes, steps, models, optimisers
    session.py     T  a watched stretch of a process, from start to `Run`

Only the modules marked T import torch, and they are imported when the script has done so.
"""
