"""Where the monitor listens, as the user writes it, and the file with its token."""

from __future__ import annotations

import ipaddress
import os
import re
import stat

from forkserve.config.bind import Bind, InheritedBind, UnixBind, parse_bind

LOOPBACK = "127.0.0.1"

LONGEST_TOKEN = 4096
"""Bytes."""

_WORD = re.compile(rb"\s*([!-~]+)\s*")


class TokenError(Exception):
    """There is no token to be had. The message is one sentence for the user."""


def parse_monitor(text: str) -> Bind | UnixBind:
    """Read ``PORT`` or ``:PORT`` (on 127.0.0.1), ``HOST:PORT``, ``[IPV6]:PORT``, ``unix:PATH``.

    Raises ValueError with a sentence for the user.
    """
    port = text.strip().removeprefix(":")
    if port.isascii() and port.isdigit():
        text = f"{LOOPBACK}:{port}"
    where = parse_bind(text)
    if isinstance(where, InheritedBind):
        raise ValueError(f'"{text}" is not possible; write PORT, HOST:PORT or unix:PATH.')
    return where


def is_private(where: Bind | UnixBind) -> bool:
    """Whether nobody but processes of this machine can connect."""
    if isinstance(where, UnixBind) or where.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(where.host).is_loopback
    except ValueError:
        return False  # a name, which may mean anything


def read_token(path: str) -> bytearray:
    """The token in a file, without the white space around it. Raises TokenError.

    As bytes that can be wiped: who has looked whether the file will do must not pass what is
    in it on to the processes that it forks.
    """
    held = bytearray(LONGEST_TOKEN + 1)
    try:
        # Not blocking, should it be a pipe.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", 0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise TokenError(f"--monitor-token {path}: is no file")
            size = file.readinto(held) or 0
    except OSError as exc:
        raise TokenError(f"--monitor-token {path}: cannot be read: {exc.strerror}") from exc
    if size > LONGEST_TOKEN:
        wipe(held)
        raise TokenError(f"--monitor-token {path}: is longer than {LONGEST_TOKEN} bytes")
    found = _WORD.fullmatch(held, 0, size)
    token = held[found.start(1) : found.end(1)] if found else None
    wipe(held)
    if token is None:
        wrong = "holds no token" if size else "is empty"
        raise TokenError(f"--monitor-token {path}: {wrong}: one word of printable ASCII is needed")
    return token


def wipe(secret: bytearray) -> None:
    secret[:] = bytes(len(secret))
