"""Which masters there are on this machine, and which of them is meant."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from forkserve.control import places
from forkserve.control.client import Client, ControlError

PATIENCE = 5.0
"""Seconds that a master may take to say who it is."""


class SeveralError(Exception):
    """It has to be said which one is meant. The message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A master that can be reached."""

    path: str
    """Of its control socket."""

    status: dict[str, Any] | None
    """None: it does not answer now."""

    @property
    def shown(self) -> str:
        if self.status is None:
            return f"one that does not answer ({self.path})"
        name = f"{self.status['name']}, " if self.status["name"] else ""
        return f"pid {self.status['pid']} ({name}{self.status['app']})"


def instances() -> list[Instance]:
    """Those of this user."""
    found: dict[object, Instance] = {}
    for path in places.known():
        if (one := _look(path)) is not None:
            found.setdefault(one.status["pid"] if one.status else path, one)
    return list(found.values())


def _look(path: str) -> Instance | None:
    """None: nobody listens there, or nobody who knows the protocol."""
    try:
        client = Client.connect(path, PATIENCE)
    except ControlError:
        return None
    with client:
        try:
            return Instance(path, client.status())
        except ControlError as exc:
            return Instance(path, None) if isinstance(exc.__cause__, TimeoutError) else None


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
    return Client.connect(there[0].path)


def successor_of(path: str, last: Mapping[str, Any]) -> Client | None:
    """The master that is there instead of the one which has said ``last`` at ``path``, if there
    is one yet: whoever listens there now, or has taken over from it in an upgrade."""
    for place in (path, *places.known()):  # one by one: strangers may take long to answer
        one = _look(place)
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
    for one in _looked_at(beside):
        if one.status is not None and one.status["pid"] == pid:
            return one.path
    raise ControlError(
        f"no forkserve of this user with pid {pid} can be found on this machine; --control says "
        "where its control socket is"
    )


def _looked_at(first: list[str]) -> Iterator[Instance]:
    for path in first:
        if (one := _look(path)) is not None:
            yield one
    yield from instances()


def _read(pidfile: str) -> int:
    try:
        with open(pidfile) as file:
            return int(file.read(32))
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it holds no pid"
        raise ControlError(f"the pidfile {pidfile} cannot be used: {why}") from exc
