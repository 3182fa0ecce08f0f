"""Somebody who listens like a master, and says what the test has them say."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from forkserve.control.protocol import Lines

Request = dict[str, Any]
Answers = Callable[[Iterator[Request]], Iterator[Request]]
"""From what one client asks, one by one, to what it is answered."""


def never(asked: Iterator[Request]) -> Iterator[Request]:
    """Hears all and says nothing, until the client goes."""
    for _ in asked:
        yield from ()


def status(**document: Any) -> Answers:
    def answers(asked: Iterator[Request]) -> Iterator[Request]:
        for request in asked:
            yield {"id": request["id"], "ok": True, "status": document}

    return answers


class Listener:
    """A context. It answers each client in turn, and then closes the connection."""

    def __init__(self, path: Path, answers: Answers = never) -> None:
        self.path = str(path)
        self.asked: list[str] = []
        """What everybody wanted."""

        self._answers = answers
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client:
                for answer in self._answers(self._requests(client)):
                    client.sendall(json.dumps(answer).encode() + b"\n")

    def _requests(self, client: socket.socket) -> Iterator[Request]:
        lines = Lines()
        while data := client.recv(1 << 16):
            lines.feed(data)
            for request in map(json.loads, lines):
                self.asked.append(request["do"])
                yield request
