"""How numbers, names and the vocabulary are written, wherever a person reads them.

Logarithms become `×0.14`, `×3.2e-412` (beyond what a float can hold), `−0.85`; shares become
`87 %`; factors, verdicts and states of training become words of the chosen language. Names of
modules are untrusted: `printable` makes them safe for a terminal, `shorten` makes them fit.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from itertools import accumulate

from rich.cells import cell_len, chop_cells

from unvanish.i18n import _
from unvanish.records import Factor, Training, Verdict

NONE = "–"  # what is not measured
MINUS = "−"
_WIDE = (
    "\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6"
)
_OPENING = "（“‘《〈「『【"
_CLOSING = "，。、：；！？）”’》〉」』】…"
_PIECES = re.compile(
    f"[{_OPENING}]*(?:[^\\s{_WIDE}{_OPENING}{_CLOSING}]+|(?![{_OPENING}{_CLOSING}])[{_WIDE}])"
    f"[{_CLOSING}]*\\s*|\\S\\s*|\\s+"
)


def times(log10: float | None) -> str:
    """Return the ratio 10**log10 as "×0.14", with two significant digits."""
    if log10 is None:
        return NONE
    if math.isnan(log10):
        return "×NaN"
    if math.isinf(log10):
        return "×0" if log10 < 0 else "×∞"
    exponent = math.floor(log10)
    mantissa = round(10 ** (log10 - exponent), 1)
    if mantissa >= 10:
        exponent, mantissa = exponent + 1, 1.0
    if -3 <= exponent <= 3:
        return f"×{mantissa * 10.0**exponent:.{max(0, 1 - exponent)}f}"
    return f"×{mantissa:.1f}e{exponent}"


def decades(log10: float | None, signed: bool = True, digits: int = 2) -> str:
    """Return a logarithm as "−0.85" or, `signed`, "+0.20"."""
    if log10 is None:
        return NONE
    if math.isnan(log10):
        return "NaN"
    if math.isinf(log10):
        return ("+" if signed and log10 > 0 else "" if log10 > 0 else MINUS) + "∞"
    text = f"{log10:+.{digits}f}" if signed else f"{log10:.{digits}f}"
    if float(text) == 0:
        return text.lstrip("+-")
    return text.replace("-", MINUS)


def level(log10: float | None) -> str:
    """Return a level, the log10 of a norm, as "−17.2"; an exact zero and NaN are called so."""
    if log10 is None:
        return NONE
    if math.isnan(log10):
        return "NaN"
    if log10 == -math.inf:
        return _("zero")
    return decades(log10, signed=False, digits=1)


def percent(share: float | None) -> str:
    """Return a share as "87 %"."""
    if share is None:
        return NONE
    if math.isnan(share):
        return "NaN"
    if 0 < share < 0.005:
        return "<1 %"
    return f"{100 * share:.0f} %"


def quantity(value: float | str) -> str:
    """Return a number of any kind with four significant digits; words stay as they are."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else f"{MINUS}∞")
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e").replace("-", MINUS)


def loss(value: float) -> str:
    """Return a loss with four significant digits, zeros at its end kept: 2.300."""
    if math.isfinite(value) and 1e-3 <= abs(value) < 1e4:
        return f"{value:#.4g}".rstrip(".").replace("-", MINUS)
    return quantity(value)


def moment(created: str) -> str:
    """Return an ISO 8601 time as "2026-04-22 15:30 UTC"; anything else as it is."""
    try:
        when = datetime.fromisoformat(created)
    except ValueError:
        return printable(created)
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def printable(name: str) -> str:
    """Return `name` with control, bidirectional and other invisible characters as escapes."""
    if name.isprintable():
        return name
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in name
    )


def module_name(path: str | None) -> str:
    """Return the path of a module, printable, with words for the root and for no module."""
    if path is None:
        return _("(no module)")
    return printable(path) or _("(root)")


def width(text: str) -> int:
    """Return how many columns `text` takes in a terminal."""
    return cell_len(text)


def line_pieces(text: str) -> list[str]:
    """Split `text` where a line may end: after a space, and before and after a wide character.

    Closing punctuation stays with what it closes, opening punctuation with what it opens.
    """
    return _PIECES.findall(text)


def line_breaks(text: str, columns: int) -> list[int]:
    """Return where `text` has to be broken for lines of at most `columns` (≥ 2) columns."""
    breaks: list[int] = []
    position = used = 0
    for piece in line_pieces(text):
        needed = width(piece.rstrip())
        if used and used + needed > columns:
            breaks.append(position)
            used = 0
        *chunks, last = chop_cells(piece, columns) if needed > columns else [piece]
        breaks += (position + end for end in accumulate(map(len, chunks)))
        used += width(last)
        position += len(piece)
    return breaks


def shorten(text: str, columns: int) -> str:
    """Return `text` in at most `columns` (≥ 1) terminal columns, its middle left out.

    The end of a module's path tells more than its beginning: it gets two thirds of the room.
    """
    if width(text) <= columns:
        return text
    head = (columns - 1) // 3
    return _cut(text, head) + "…" + _cut(text[::-1], columns - 1 - head)[::-1]


def shorten_path(path: str, columns: int) -> str:
    """Return the dotted `path` in at most `columns`: its parts as initials from the left on.

    "encoder.layers.0.self_attn" becomes "e.layers.0.self_attn", then "e.l.0.self_attn"; if that is
    still too long, its middle is left out.
    """
    parts = path.split(".")
    for position in range(len(parts) - 1):
        if width(".".join(parts)) <= columns:
            break
        parts[position] = parts[position][:1]
    return shorten(".".join(parts), columns)


def _cut(text: str, columns: int) -> str:
    used = 0
    for position, character in enumerate(text):
        used += width(character)
        if used > columns:
            return text[:position]
    return text


def factor_name(factor: Factor | str) -> str:
    """Return a factor in words."""
    return {
        "slope": _("slope"),
        "weight": _("weight"),
        "gate": _("gate"),
        "norm": _("norm"),
        "attention": _("attention"),
        "pool": _("pool"),
        "scale": _("scale"),
        "merge": _("merge"),
        "loss": _("loss"),
        "recurrence": _("recurrence"),
        "opaque": _("opaque"),
    }.get(factor, factor)


def verdict_name(verdict: Verdict) -> str:
    """Return a verdict as a short phrase that can begin a sentence."""
    return {
        "vanishing": _("Vanishing gradient"),
        "exploding": _("Exploding gradient"),
        "dead-units": _("Dead units"),
        "forward-collapse": _("Collapsed forward signal"),
        "non-finite": _("Not finite"),
        "cut-graph": _("Cut graph"),
        "loss-head": _("Unfit loss head"),
        "update-size": _("Wrong size of updates"),
        "healthy": _("Healthy"),
    }[verdict]


def training_name(training: Training) -> str:
    """Return what training does, in words."""
    return {
        "falling": _("the loss is falling"),
        "stuck": _("the loss is stuck"),
        "diverging": _("the loss diverges"),
        "too-short": _("the run is too short to tell"),
    }[training]


def training_word(training: Training) -> str:
    """Return what training does, in one word for a table."""
    return {
        "falling": _("falling"),
        "stuck": _("stuck"),
        "diverging": _("diverging"),
        "too-short": _("too short"),
    }[training]


def severity_name(severity: str) -> str:
    """Return a severity in words."""
    return {"error": _("error"), "warning": _("warning"), "info": _("info")}[severity]
