"""Names of runs: sortable by time, unique across processes, short enough to type a prefix of."""

from __future__ import annotations

import secrets
import threading
import time

_TICKS = 65_536  # a second, as four hexadecimal digits
_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """Return a new id such as "20260422-153012-4f9c2a1b".

    That is the UTC date and time, four hexadecimal digits of the second's fraction, and four
    random ones. The ids of one process sort in the order in which they were made, even within one
    tick of 15 µs; two processes meet only within one tick and then with probability 1/65,536.
    """
    global _last
    with _lock:
        _last = tick = max(time.time_ns() * _TICKS // 1_000_000_000, _last + 1)
    second, fraction = divmod(tick, _TICKS)
    moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime(second))
    return f"{moment}-{fraction:04x}{secrets.token_hex(2)}"
