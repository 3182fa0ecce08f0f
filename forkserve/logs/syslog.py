"""The log as messages to a syslog daemon (RFC 3164), through logging's own handler."""

from __future__ import annotations

import logging
import os
import socket
import sys
from dataclasses import dataclass
from logging.handlers import SysLogHandler
from typing import Any

from forkserve.logs.lines import Lines

PORT = 514
DEFAULT_ADDRESS = "unix:///var/run/syslog" if sys.platform == "darwin" else "unix:///dev/log"
FACILITIES = sorted(SysLogHandler.facility_names)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the daemon listens: a path, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = PORT

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"udp://{host}:{self.port}"


def parse_syslog_address(text: str) -> Address:
    """``unix://PATH`` or ``udp://HOST:PORT``, as gunicorn writes them.

    Raises ValueError with a sentence for the user. Not a stream: half a message that the
    daemon has not taken would spoil those after it, or have to be waited for.
    """
    hint = 'write for example "unix:///dev/log" or "udp://localhost:514".'
    scheme, found, rest = text.partition("://")
    path, _, kind = rest.partition("#")
    if scheme == "tcp" or kind == "stream":
        raise ValueError(f'"{text}" is a stream, and only datagrams are never waited for; {hint}')
    if scheme == "unix" and path.startswith("/") and kind in ("", "dgram"):
        return Address(path=path)
    host, colon, port = rest.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = rest, str(PORT)
    if not found or scheme != "udp" or not host or not _is_a_port(port):
        raise ValueError(f'"{text}" is not the address of a syslog daemon; {hint}')
    return Address(host=host.strip("[]"), port=int(port))


def _is_a_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 65536


class Syslog(SysLogHandler):
    """Sends each record as one datagram, and never waits for the daemon.

    While it is not there, or does not keep up, records are counted; ``complain_to``, if
    given, is told so, once for each time.
    """

    priority_map = SysLogHandler.priority_map | {"TRACE": "debug"}

    def __init__(
        self,
        address: Address,
        facility: str,
        tag: str,
        lines: Lines,
        complain_to: logging.Handler | None = None,
    ) -> None:
        self._where = address
        self._tag = tag
        self._lines = lines
        self._complain_to = complain_to
        self._complained = False
        self.lost = 0
        # Names are looked up now, since that may take long, and not when there is a line.
        self._family, self._target = _looked_up(address)
        super().__init__(str(address), SysLogHandler.facility_names[facility])
        self.setFormatter(lines.formatter)

    def createSocket(self) -> None:
        """Of ours alone, as soon as there is something to send."""
        self.socket: socket.socket | None = None

    def begin_anew(self) -> None:
        """In a child: what its parent has lost is the parent's own."""
        self.lost = 0
        self._forget_the_socket()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        try:
            if self.lost:
                self._send(self._packet("warning", self._lines.lost(self.lost)))
                self.lost = 0
            self._send(self._packet(self.mapPriority(record.levelname), text))
            self._complained = False
        except OSError as exc:
            self.lost += 1
            self._complain(exc)

    def _packet(self, priority: str, text: str) -> bytes:
        number = self.encodePriority(self.facility, priority)
        return f"<{number}>{self._tag}[{os.getpid()}]: {text}".encode("utf-8", "backslashreplace")

    def _send(self, packet: bytes) -> None:
        """Raises OSError. A daemon that has been started anew has another socket."""
        for attempt in (1, 2):
            self.socket = self.socket or _connected(self._family, self._target)
            try:
                self.socket.send(packet)
                return
            except BlockingIOError:
                raise  # it is there, and does not keep up
            except OSError:
                self._forget_the_socket()
                if attempt == 2:
                    raise

    def _forget_the_socket(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def _complain(self, exc: OSError) -> None:
        if self._complain_to is None or self._complained:
            return
        self._complained = True
        text = "syslog at %s takes nothing (%s); lines to it are counted until it does"
        args = (self._where, exc.strerror or exc)
        level = logging.WARNING
        self._complain_to.handle(logging.LogRecord("forkserve", level, "", 0, text, args, None))


def _looked_up(address: Address) -> tuple[int, Any]:
    """Family and address as connect(2) wants them; without one if the name is unknown."""
    if address.path:
        return socket.AF_UNIX, address.path
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
    except OSError:
        return socket.AF_INET, None
    return found[0][0], found[0][4]


def _connected(family: int, target: Any) -> socket.socket:
    """A datagram socket that never blocks. Raises OSError."""
    if target is None:
        raise OSError("its name was not found at the start")
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.connect(target)
    except OSError:
        sock.close()
        raise
    return sock
