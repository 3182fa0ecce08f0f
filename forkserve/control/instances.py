"""Which masters there are on this machine, and which of them is meant."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from forkserve.control import places
from forkserve.control.client import Client, ControlError, RefusedError, SilentError
from forkserve.control.peer import ROOT

PATIENCE = 5.0
"""Seconds that a master may take to say who it is."""

HEIR = 2.0
"""... when it may be the next of one that is watched: it is soon looked for again."""


class SeveralError(Exception):
    """It has to be said which one is meant. The message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A master that can be reached."""

    path: str
    """Of its control socket."""

    pid: int | None
    """The kernel's word for who listens there; None where it has none."""

    status: dict[str, Any] | None
    """None: it does not tell it now, for this reason:"""

    why_not: str = ""

    @property
    def shown(self) -> str:
        if self.status is None:
            who = self.path if self.pid is None else f"pid {self.pid} ({self.path})"
            return f"{who}, which tells nothing of itself"
        name = f"{self.status['name']}, " if self.status["name"] else ""
        return f"pid {self.status['pid']} ({name}{self.status['app']})"


def instances() -> list[Instance]:
    """Those of this user."""
    paths = places.known()
    found: dict[object, Instance] = {}
    for path, one in zip(paths, _look_at(paths, PATIENCE), strict=True):
        if one is not None:
            found.setdefault(one.pid or path, one)
    return list(found.values())


def _look_at(paths: Sequence[str], patience: float) -> Iterator[Instance | None]:
    """Who is at each of these, in this order; all are asked at once, since some may be silent."""
    found: list[Instance | None] = [None] * len(paths)

    def look(number: int) -> None:
        found[number] = _look(paths[number], patience)

    # Daemons, so that nobody who has seen enough waits for them.
    looks = [threading.Thread(target=look, args=(n,), daemon=True) for n in range(len(paths))]
    for one in looks:
        one.start()
    for number, one in enumerate(looks):
        one.join()
        yield found[number]


def _look(path: str, patience: float) -> Instance | None:
    """None: nobody listens there, or nobody who knows the protocol."""
    pid: int | None = None
    try:
        with Client.connect(path, patience) as client:
            pid = client.pid
            return Instance(path, pid, client.status())
    except (SilentError, RefusedError) as exc:
        return Instance(path, pid, None, str(exc))
    except (ControlError, KeyError, TypeError):
        return None


def choose(control: str | None, pid: str | None) -> Client:
    """The one whose socket is at ``control``, or whose pid, or pidfile, is ``pid``, or else the
    only one that there is. Raises ControlError, SeveralError."""
    if control is not None:
        return Client.connect(os.path.abspath(control))
    if pid is not None:
        return Client.connect(_by_pid(pid))
    there = instances()
    if not there:
        raise ControlError(
            "no forkserve of this user can be found on this machine; --control says where the "
            "control socket of one is"
        )
    if len(there) > 1:
        shown = ", ".join(one.shown for one in there)
        raise SeveralError(f"several can be meant: {shown}; choose one with --pid or --control")
    if there[0].status is None:
        raise ControlError(there[0].why_not)
    return Client.connect(there[0].path)


def successor_of(path: str, last: Mapping[str, Any]) -> Client | None:
    """The master that is there instead of the one which has said ``last`` at ``path``, if there
    is one yet: whoever listens there now, or has taken over from it in an upgrade."""
    there = [path, *places.known()]
    for place, one in zip(there, _look_at(there, HEIR), strict=True):
        if one is None or one.status is None or one.status["pid"] == last["pid"]:
            continue
        is_next = one.status["pid"] == last.get("succeeded_by")
        took_over = is_next or one.status.get("replaced") == last["pid"]
        if took_over or place == path:
            with suppress(ControlError):
                return Client.connect(place)
    return None


def _by_pid(text: str) -> str:
    """The path of the socket of that master. Raises ControlError."""
    pid = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else _read(text)
    beside = [] if text.isdigit() else [places.beside(text)]
    # Root may ask anybody, and has said whom.
    paths = [*beside, *places.known(everybodys=os.geteuid() == ROOT)]
    for path in paths:
        if _who_listens_at(path) == pid:  # without asking it, who may not answer
            return path
    # Where the kernel does not tell; and in a container a pid is another.
    for path, one in zip(paths, _look_at(paths, PATIENCE), strict=True):
        if one is not None and one.status is not None and one.status["pid"] == pid:
            return path
    raise ControlError(
        f"no forkserve of this user with pid {pid} can be found on this machine; --control says "
        "where its control socket is"
    )


def _who_listens_at(path: str) -> int | None:
    try:
        with Client.connect(path, PATIENCE) as client:
            return client.pid
    except ControlError:
        return None


def _read(pidfile: str) -> int:
    try:
        with open(pidfile) as file:
            return int(file.read(32))
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it holds no pid"
        raise ControlError(f"the pidfile {pidfile} cannot be used: {why}") from exc
