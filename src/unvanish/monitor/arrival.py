"""Waiting for the script's own `import torch`.

A script may set OMP_NUM_THREADS or CUDA_VISIBLE_DEVICES before it imports torch, and torch reads
some of these while it is loaded. Importing it earlier than the script does would change what the
script computes, so we start to listen at the end of the script's import instead.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class TorchArrival(MetaPathFinder):
    """Calls back once, as soon as torch is imported (at once if it is already)."""

    def __init__(self, arrived: Callable[[], None]) -> None:
        self._arrived = arrived

    def wait(self) -> None:
        """Start to wait."""
        if "torch" in sys.modules:
            self._arrived()
        else:
            sys.meta_path.insert(0, self)

    def cancel(self) -> None:
        """Stop waiting; nothing of ours is left in the import system."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find torch by the other finders, and have its loader tell us when it is done."""
        if fullname != "torch":
            return None
        self.cancel()
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        loader, load = spec.loader, spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            loader.__dict__.pop("exec_module", None)  # the class's own shows again
            load(module)
            self._arrived()

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
