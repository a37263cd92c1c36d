"""What a command works on: a script with its arguments, or a function of a file."""

from __future__ import annotations

import click


class ScriptCommand(click.Command):
    """Ends its own options at the script, or at the module that `-m` names, as `python` does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click."""
        takes_value = {
            name
            for option in self.params
            if isinstance(option, click.Option) and not option.is_flag
            for name in option.opts
        }
        position = 0
        while position < len(args) and args[position].startswith("-") and args[position] != "--":
            word = args[position]
            if word == "-m":
                args = [*args[: position + 2], "--", *args[position + 2 :]]
                break
            position += 2 if word in takes_value else 1
        return super().parse_args(ctx, args)


def is_function(target: str) -> bool:
    """Whether `target` has the form FILE.py:FUNCTION."""
    file, _colon, name = target.rpartition(":")
    return file.endswith(".py") and name.isidentifier()
