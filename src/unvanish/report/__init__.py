"""Renderers: terminal, HTML, JSON. None of them measures."""

from __future__ import annotations

import importlib
import random

# Rich draws from Python's random when its styles are imported. What of ours is imported late, in a
# script that trains, must not move the script's stream: they are imported here, and it is put back.
_drawn = random.getstate()
importlib.import_module("rich.style")
random.setstate(_drawn)
