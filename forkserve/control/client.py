"""The client's side of a control connection."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import struct
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from forkserve.control.peer import Peer
from forkserve.control.protocol import Lines, Message, ProtocolError, decode, encode

CONNECTING = 5
"""Seconds that a master may take to let us in: its queue may be full."""

NO_MASTER = "whoever answers is no forkserve master"


class ControlError(Exception):
    """The message is one sentence for the user."""

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.details = details
        """A traceback or a stack, if there is one."""


class Client:
    """One control connection. Every method raises ControlError.

    It blocks, and asks one thing at a time; :meth:`follow` takes the connection for good.
    """

    def __init__(self, sock: socket.socket, timeout: float | None = None, path: str = "") -> None:
        """``timeout``: seconds that the master may be silent; None: for ever. ``path``: where
        it listens, if that is known."""
        sock.settimeout(timeout)
        self.path = path
        self._socket = sock
        self._lines = Lines()
        self._ids = itertools.count(1)

    @classmethod
    def connect(cls, path: str, timeout: float | None = None) -> Client:
        """To the master that listens on ``path``, if it is one that we may believe."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Not by settimeout(), with which a full queue is an error at once (connect(2)).
            patience = struct.pack("@ll", CONNECTING, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
            sock.connect(path)
            peer = Peer.of(sock)
            if not peer.is_trusted:
                raise ControlError(
                    f"{path} is answered by a process of the user with uid {peer.uid}, and not "
                    "by one of yours or root's"
                )
        except OSError as exc:
            sock.close()
            raise ControlError(f"nobody answers at {path} ({exc.strerror or exc})") from exc
        except ControlError:
            sock.close()
            raise
        return cls(sock, timeout, path)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    # -- asking -----------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The status document."""
        found = self.ask("status").get("status")
        if not isinstance(found, dict) or "pid" not in found:
            raise ControlError(NO_MASTER)
        return found

    def ask(self, do: str, **arguments: object) -> Message:
        """What comes of it in the end."""
        *_, end = self.tell(do, **arguments)
        return end

    def tell(self, do: str, **arguments: object) -> Iterator[Message]:
        """Each progress (``{"stage", "text"}``), and then what has come of it in the end."""
        return self._told(self._answers(do, arguments))

    def _told(self, answers: Iterator[Message]) -> Iterator[Message]:
        for answer in answers:
            if "progress" in answer:
                yield answer["progress"]
                continue
            if not answer.get("ok"):
                raise _failure(answer)
            yield answer
            return

    def follow(self) -> Iterator[Message]:
        """Each event, from now on."""
        return map(_event, self._answers("follow", {}))

    def stop(self) -> Iterator[Message]:
        """Like :meth:`tell`, and in the end wait until the master has exited."""
        # Taken now: once it has gone its pid may be another's.
        with _Process(Peer.of(self._socket).pid) as master:
            yield from self.tell("stop")
            with contextlib.suppress(ControlError):
                while True:
                    self._receive()  # until it has closed the connection
            master.wait()

    def _answers(self, do: str, arguments: dict[str, object]) -> Iterator[Message]:
        id = next(self._ids)
        # Who is turned away is told why, and cannot send any more.
        with contextlib.suppress(BrokenPipeError):
            self._send(encode({"id": id, "do": do, **arguments}))
        return self._of(id)

    def _of(self, id: int) -> Iterator[Message]:
        while True:
            answer = self._receive()
            if answer.get("id") in (id, None):
                yield answer

    def _send(self, line: bytes) -> None:
        try:
            self._socket.sendall(line)
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise ControlError(f"the master does not listen ({exc.strerror or exc})") from exc

    def _receive(self) -> Message:
        try:
            while (line := self._lines.next()) is None:
                if not (data := self._socket.recv(1 << 16)):
                    raise ControlError("the master has closed the connection")
                self._lines.feed(data)
            return decode(line)
        except TimeoutError as exc:
            raise ControlError("the master does not answer") from exc
        except OSError as exc:
            raise ControlError(f"the connection has broken ({exc.strerror or exc})") from exc
        except ProtocolError as exc:
            raise ControlError(NO_MASTER) from exc


class _Process:
    """One that is no child of ours (pidfd_open(2); elsewhere than on Linux it is not waited
    for)."""

    def __init__(self, pid: int | None) -> None:
        self._fd: int | None = None
        if sys.platform == "linux" and pid is not None:
            with contextlib.suppress(OSError):
                self._fd = os.pidfd_open(pid)

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)

    def wait(self) -> None:
        if self._fd is not None:
            select.select([self._fd], [], [])


def _event(answer: Message) -> Message:
    if "event" not in answer:
        raise _failure(answer)
    event: Message = answer["event"]
    return event


def _failure(answer: Message) -> ControlError:
    return ControlError(str(answer.get("error", "it failed")), str(answer.get("details", "")))
