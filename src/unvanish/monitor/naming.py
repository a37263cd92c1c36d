"""What the user calls a model: the variable of the script that it is bound to."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from unvanish.measure.names import unwrapped
from unvanish.records import ModelRun


def script_name(root: nn.Module) -> str | None:
    """Return the global name of `root` in the script, None if no variable of it holds the model.

    Models that live in a function's variables have no name there; their class stands for them.
    """
    main = sys.modules.get("__main__")
    names = [
        name
        for name, value in list(vars(main).items() if main is not None else ())
        if issubclass(type(value), nn.Module) and unwrapped(value) is root
    ]
    # A public name before a private one, then the first bound.
    return min(names, key=lambda name: name.startswith("_"), default=None)


def named_apart(models: Sequence[ModelRun]) -> tuple[ModelRun, ...]:
    """Number the second and later models of one name."""
    seen: Counter[str] = Counter()
    named = []
    for model in models:
        seen[model.name] += 1
        number = seen[model.name]
        named.append(model if number == 1 else replace(model, name=f"{model.name} {number}"))
    return tuple(named)
