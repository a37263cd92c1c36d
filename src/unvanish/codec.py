"""Records to bytes and back, and numbers to JSON and back, without losing NaN or infinity.

Runs are saved as MessagePack behind a short header (never pickle: a run may come from anyone).
JSON has no NaN or infinity, and they are our data: they are written as the strings "NaN",
"Infinity" and "-Infinity".
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from unvanish.errors import NotOurFileError
from unvanish.records import Ending, Run

MAGIC = b"unvanish run\n"
SCHEMA = 1  # of the saved file; raised when a change cannot be read by older code

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def encode_run(run: Run) -> bytes:
    """Return `run` as bytes: a magic line, the schema number as a line, MessagePack."""
    return MAGIC + f"{SCHEMA}\n".encode() + msgspec.msgpack.encode(run)


def decode_run(data: bytes) -> Run:
    """Return the run in `data`.

    Raises NotOurFileError if it is something else, is cut short, or was written by a newer schema.
    """
    return _decode(data, Run)


def encode_record(record: Any) -> bytes:
    """Return one record as MessagePack, to be sent and not to be kept: it names no schema."""
    return msgspec.msgpack.encode(record)


def decode_record(data: bytes, kind: type[T]) -> T:
    """Return a record of `kind`. Raises NotOurFileError if `data` is none."""
    try:
        return decode(data, kind)
    except msgspec.MsgspecError as error:
        raise NotOurFileError(
            f"this is no record of unvanish ({error})",
            "Use the same version of unvanish on all ranks.",
        ) from error


@dataclass(frozen=True, slots=True)
class RunHead:
    """What a list of runs shows; the rest of the file is skipped, not read into objects."""

    id: str
    kind: str
    created: str  # ISO 8601, UTC
    command: tuple[str, ...]
    models: tuple[ModelHead, ...]
    ending: Ending = "finished"
    exit_code: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelHead:
    """One model of a run, in a list."""

    name: str
    type: str
    steps: tuple[StepHead, ...] = ()


@dataclass(frozen=True, slots=True)
class StepHead:
    """One step of a run, in a list."""

    step: int


def decode_head(data: bytes) -> RunHead:
    """Return the head of the run in `data`. Raises as `decode_run` does."""
    return _decode(data, RunHead)


T = TypeVar("T")

_known: set[Any] = set()
_learning = threading.Lock()


def decode(data: bytes, kind: type[T]) -> T:
    """Return the `kind` that MessagePack `data` holds. Raises what msgspec raises.

    msgspec learns a dataclass when it first meets it, and a second thread that meets it meanwhile
    reads what is half made and crashes the process. So types are learnt one thread at a time.
    """
    if kind not in _known:
        with _learning:
            msgspec.msgpack.Decoder(kind)
            _known.add(kind)
    return msgspec.msgpack.decode(data, type=kind)


def _decode(data: bytes, kind: type[T]) -> T:
    if not data.startswith(MAGIC):
        raise NotOurFileError(
            "this is not a run saved by unvanish", "Give a file from the .unvanish directory."
        )
    number, _, body = data[len(MAGIC) :].partition(b"\n")
    schema = int(number) if number.isdigit() and len(number) < 10 else -1
    if schema > SCHEMA:
        raise NotOurFileError(
            f"this run was saved with schema {schema}, and this version reads up to {SCHEMA}",
            "Upgrade unvanish to read it.",
        )
    try:
        if schema < 1:
            raise msgspec.DecodeError("the header is damaged")
        return decode(body, kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotOurFileError(
            f"this run is damaged ({error})", "Its writing was probably cut short; run again."
        ) from error


def to_plain(value: Any) -> Any:
    """Return records as dicts, lists, strings and numbers that JSON can hold exactly."""
    return _escape(msgspec.to_builtins(value))


def _escape(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {key: _escape(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escape(item) for item in value]
    return value


def number(value: Any) -> float:
    """Return a number read from our JSON: the inverse of what `to_plain` does to floats."""
    return _NON_FINITE[value] if isinstance(value, str) else float(value)


def dumps(plain: Any) -> str:
    """Return strict JSON text (no NaN tokens), indented, with a final newline."""
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
