"""The two kinds of lines of a trace."""

from __future__ import annotations

import json
from dataclasses import dataclass

from forkserve.supervisor.actions import Action
from forkserve.supervisor.events import Event
from forkserve.supervisor.state import Policy, State
from forkserve.trace.codec import UnknownError, decode, encode

FORMAT = 1
"""The number of the format. Raised when older readers would misunderstand it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is known of a master, before its next step."""

    trace: int
    """The format's number."""

    because: str
    """Why it stands here: ``start``, ``new file`` or ``gap``."""

    lost: int
    """So many steps before it could not be written."""

    pid: int
    """The master's."""

    step: int
    """The number of the last step before it."""

    forkserve: str
    """The version of forkserve ..."""

    python: str
    """... and of Python."""

    wall: float
    """Unix seconds ..."""

    monotonic: float
    """... at the moment that was this one by the clock of the events."""

    app: str
    urls: tuple[str, ...]
    policy: Policy
    state: State


@dataclass(frozen=True, slots=True)
class Step:
    """One event, and what the brain has decided."""

    pid: int
    step: int
    """Steps are counted, from 1; those that are lost too."""

    event: Event
    actions: tuple[Action, ...] = ()

    folded: int = 0
    """So many alarms right before it, in which nothing was decided either, are left out: the
    state after this one is the same without them."""

    fault: str = ""
    """Why the brain did not decide at all, if it did not: a bug."""


Line = Snapshot | Step


class CutOffError(ValueError):
    """A line that is not whole."""


def to_bytes(line: Line) -> bytes:
    """With its newline."""
    return json.dumps(encode(line), separators=(",", ":")).encode("ascii") + b"\n"


def from_bytes(data: bytes) -> Line:
    """Raises CutOffError, and UnknownError for a line that is whole and not understood."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise CutOffError from exc
    if not isinstance(found, dict) or not {"trace", "event"} & found.keys():
        raise UnknownError("this is no line of a trace")
    kind = Step if "event" in found else Snapshot
    if kind is Snapshot and found["trace"] != FORMAT:
        raise UnknownError(f"the format {found['trace']} of the trace is not known")
    line: Line = decode(found, kind)
    return line


def recorded_by(data: bytes) -> str:
    """The version of forkserve that a snapshot names, understood or not; else empty."""
    found = json.loads(data)
    return str(found.get("forkserve", "")) if isinstance(found, dict) else ""
