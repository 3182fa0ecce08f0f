"""The client's side of a control connection."""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from forkserve.control.peer import Peer
from forkserve.control.protocol import Lines, Message, ProtocolError, decode, encode

CONNECTING = 5.0
"""Seconds that a master may take to let us in: its queue may be full."""


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

    def __init__(self, sock: socket.socket, timeout: float | None = None) -> None:
        """``timeout``: seconds that the master may be silent; None: for ever."""
        sock.settimeout(timeout)
        self._socket = sock
        self._lines = Lines()
        self._ids = itertools.count(1)

    @classmethod
    def connect(cls, path: str, timeout: float | None = None) -> Client:
        """To the master that listens on ``path``, if it is one that we may believe."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(CONNECTING)
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
        return cls(sock, timeout)

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
        found: dict[str, Any] = self.ask("status")["status"]
        return found

    def ask(self, do: str, **arguments: object) -> Message:
        """What comes of it in the end."""
        *_, end = self.tell(do, **arguments)
        return end

    def tell(self, do: str, **arguments: object) -> Iterator[Message]:
        """Each progress (``{"stage", "text"}``), and then what has come of it in the end."""
        for answer in self._answers(do, arguments):
            if "progress" in answer:
                yield answer["progress"]
                continue
            if not answer.get("ok"):
                raise _failure(answer)
            yield answer
            return

    def follow(self) -> Iterator[Message]:
        """Each event, from now on."""
        for answer in self._answers("follow", {}):
            if "event" not in answer:
                raise _failure(answer)
            yield answer["event"]

    def wait_for_the_end(self) -> None:
        """Until the master has closed the connection, which its exit does."""
        with contextlib.suppress(ControlError):
            while True:
                self._receive()

    def _answers(self, do: str, arguments: dict[str, object]) -> Iterator[Message]:
        id = next(self._ids)
        # Who is turned away is told why, and cannot send any more.
        with contextlib.suppress(BrokenPipeError):
            self._send(encode({"id": id, "do": do, **arguments}))
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
            raise ControlError("whoever answers is no forkserve master") from exc


def _failure(answer: Message) -> ControlError:
    return ControlError(str(answer.get("error", "it failed")), str(answer.get("details", "")))
