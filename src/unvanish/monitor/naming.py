"""What the user calls a model: the variable of the script that it is bound to."""

from __future__ import annotations

import sys

from torch import nn

from unvanish.measure.names import unwrapped


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
