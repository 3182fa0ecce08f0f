"""The client's side of a control connection."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from forkserve.control.peer import Peer
from forkserve.control.protocol import Lines, Message, ProtocolError, decode, encode

CONNECTING = 5
"""Seconds that a master may take to let us in: its queue may be full."""

PATIENCE = 10.0
"""Seconds without a word of the master: its loop waits for nobody. If what it does takes its time,
it is then asked for a word, and may take as long for that."""

NO_MASTER = "whoever answers is no forkserve master"


class ControlError(Exception):
    """The message is one sentence for the user."""

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.details = details
        """A traceback or a stack, if there is one."""


class SilentError(ControlError):
    """There is somebody, who does not answer."""


class RefusedError(ControlError):
    """A master has answered, and it has not done it."""


class Client:
    """One control connection. Every method raises ControlError.

    It blocks, and asks one thing at a time; :meth:`follow` takes the connection for good.
    """

    def __init__(
        self, sock: socket.socket, patience: float | None = PATIENCE, path: str = ""
    ) -> None:
        """``patience``: seconds that the master may be silent; None: for ever. ``path``: where
        it listens, if that is known."""
        self.path = path
        self._socket = sock
        self._lines = Lines()
        self._ids = itertools.count(1)
        self._master = Peer.of(sock)
        self.be_patient(patience)

    @classmethod
    def connect(cls, path: str, patience: float | None = PATIENCE) -> Client:
        """To the master that listens on ``path``, if it is one that we may believe."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Not by settimeout(), with which a full queue is an error at once (connect(2)).
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", CONNECTING, 0)
            )
            sock.connect(path)
            client = cls(sock, patience, path)
            client.check_who_answers(path)
            return client
        except OSError as exc:
            sock.close()
            raise _not_connected(path, exc) from exc
        except ControlError:
            sock.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    @property
    def pid(self) -> int | None:
        """The master's, from the kernel; None where that does not tell."""
        return self._master.pid

    def check_who_answers(self, path: str) -> None:
        """Raises ControlError if it is nobody whom we may believe."""
        if not self._master.is_trusted:
            raise ControlError(
                f"{path} is answered by a process of the user with uid {self._master.uid}, and "
                "not by one of yours or root's"
            )

    def be_patient(self, seconds: float | None) -> None:
        """The master may be silent for so long; None: for ever."""
        self._patience = seconds
        self._socket.settimeout(seconds)

    # -- asking -----------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The status document."""
        found = self.ask("status").get("status")
        if not isinstance(found, dict) or "pid" not in found:
            raise ControlError(NO_MASTER)
        return found

    def ask(self, do: str, **arguments: object) -> Message:
        """What comes of what is done at once."""
        *_, end = self._told(self._answers(do, arguments))
        return end

    def tell(self, do: str, **arguments: object) -> Iterator[Message]:
        """Each progress (``{"stage", "text"}``), and then what has come of it in the end.

        That may take its time, so a master that says nothing is asked whether it lives.
        """
        return self._told(self._answers(do, arguments, takes_its_time=True))

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
        return map(_event, self._answers("follow", {}, takes_its_time=True))

    def stop(self) -> Iterator[Message]:
        """Like :meth:`tell`, and in the end wait until the master has exited."""
        # Taken now: once it has gone its pid may be another's.
        with _Process(self.pid) as master:
            yield from self.tell("stop")
            self._wait_for_the_end()
            master.wait()

    def _wait_for_the_end(self) -> None:
        """Until the master has closed the connection."""
        try:
            for _ in self._of(next(self._ids), takes_its_time=True):
                pass
        except SilentError:
            raise
        except ControlError:
            return

    def _answers(
        self, do: str, arguments: dict[str, object], takes_its_time: bool = False
    ) -> Iterator[Message]:
        return self._of(self._request(do, arguments), takes_its_time)

    def _request(self, do: str, arguments: dict[str, object]) -> int:
        id = next(self._ids)
        # Who is turned away is told why, and cannot send any more.
        with contextlib.suppress(BrokenPipeError):
            self._send(encode({"id": id, "do": do, **arguments}))
        return id

    def _of(self, id: int, takes_its_time: bool) -> Iterator[Message]:
        asked_for_a_word = False
        while True:
            try:
                answer = self._receive()
            except SilentError as exc:
                if not takes_its_time:
                    raise
                if asked_for_a_word or self._master.is_stopped:
                    raise SilentError(f"{exc}; what was asked for may be done yet") from exc
                self._request("status", {})
                asked_for_a_word = True
                continue
            asked_for_a_word = False
            if answer.get("id") in (id, None):
                yield answer

    def _send(self, line: bytes) -> None:
        try:
            self._socket.sendall(line)
        except BrokenPipeError:
            raise
        except TimeoutError as exc:
            raise self._silent() from exc
        except OSError as exc:
            raise ControlError(f"the connection has broken ({exc.strerror or exc})") from exc

    def _receive(self) -> Message:
        try:
            while (line := self._lines.next()) is None:
                if not (data := self._socket.recv(1 << 16)):
                    raise ControlError("the master has closed the connection")
                self._lines.feed(data)
            return decode(line)
        except TimeoutError as exc:
            raise self._silent() from exc
        except OSError as exc:
            raise ControlError(f"the connection has broken ({exc.strerror or exc})") from exc
        except ProtocolError as exc:
            raise ControlError(NO_MASTER) from exc

    def _silent(self) -> SilentError:
        who = "the master" if self.pid is None else f"the master (pid {self.pid})"
        if self._master.is_stopped:
            return SilentError(f"{who} does not answer: it is stopped, and SIGCONT lets it go on")
        return SilentError(f"{who} has not answered for {self._patience:g} s")


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


def _failure(answer: Message) -> RefusedError:
    return RefusedError(str(answer.get("error", "it failed")), str(answer.get("details", "")))


def _not_connected(path: str, exc: OSError) -> ControlError:
    match exc:
        case FileNotFoundError():
            return ControlError(f"there is no control socket at {path}")
        case ConnectionRefusedError() if not _is_socket(path):
            return ControlError(f"{path} is no socket")
        case ConnectionRefusedError():
            return ControlError(f"nobody listens at {path} any more: its master has ended")
        case PermissionError():
            return ControlError(
                f"this user may not use {path} ({exc.strerror}): only its master's user and root "
                "may"
            )
        case BlockingIOError():
            return SilentError(
                f"the master at {path} lets nobody in: more wait than it has room for"
            )
        case _:
            return ControlError(f"{path} cannot be connected to ({exc.strerror or exc})")


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
