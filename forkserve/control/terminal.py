"""All of a terminal, for a while; afterwards it is as it was, whatever has happened."""

from __future__ import annotations

import io
import os
import select
import signal
import socket
import sys
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.control import Control
from rich.screen import Screen

SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGQUIT,  # Ctrl-\
    signal.SIGHUP,  # the terminal goes
    signal.SIGTSTP,  # Ctrl-Z
    signal.SIGWINCH,  # it has another size
)
"""Those that would leave it as it must not be left, or that change it."""

POKE = 0
"""Not a signal's number."""

UNKNOWN_SIZE = (80, 24)
"""Columns and lines of a terminal that does not know how large it is."""


@dataclass(frozen=True, slots=True)
class News:
    """What has come while :meth:`Terminal.wait` waited."""

    keys: str
    signals: frozenset[int]
    gone: bool
    """Nobody will ever type again."""


class Terminal:
    """A context. While it lasts, keys come one by one, and the screen is another than the one
    on which the shell has written."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # what it has no characters for
        # It finds out by itself whether there may be colours: NO_COLOR, TERM.
        self._console = Console(markup=False, highlight=False, emoji=False)
        self._keyboard = sys.stdin.fileno()
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._ringer.setblocking(False)
        self._handlers: dict[int, Any] = {}
        self._wakeup = -1
        self._attributes: list[Any] = []

    def __enter__(self) -> Terminal:
        self._wakeup = signal.set_wakeup_fd(self._ringer.fileno(), warn_on_full_buffer=False)
        # A signal leaves a byte, nothing more.
        self._handlers = {n: signal.signal(n, lambda *_: None) for n in SIGNALS}
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._bell.close()
        self._ringer.close()

    def _take(self) -> None:
        self._attributes = termios.tcgetattr(self._keyboard)
        tty.setcbreak(self._keyboard)
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)

    def _give_back(self) -> None:
        with suppress(OSError, termios.error):  # it may be what has gone
            self._console.show_cursor(True)
            self._console.set_alt_screen(False)
        with suppress(termios.error):
            termios.tcsetattr(self._keyboard, termios.TCSADRAIN, self._attributes)

    def suspend(self) -> None:
        """Stop, as Ctrl-Z has asked for; returns when the shell has let us go on."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()

    def show(self, picture: Callable[[int, int], RenderableType]) -> None:
        """``picture(width, height)``, instead of what has been there. Raises OSError."""
        width, height = self._size()
        self._console.size = width, height
        shown = picture(width, height)
        if self._console.is_dumb_terminal:  # which has one way: down
            self._console.print(shown)
            return
        with self._console:  # in one write
            self._console.control(Control.home())
            self._console.print(Screen(shown), end="")

    def _size(self) -> tuple[int, int]:
        # Not rich's way: in the environment there may be what was true once.
        with suppress(OSError):
            width, height = os.get_terminal_size(sys.stdout.fileno())
            if width and height:
                return width, height
        return UNKNOWN_SIZE

    def poke(self) -> None:
        """Have :meth:`wait` return. For other threads."""
        with suppress(OSError):  # it has been rung often enough, or nobody listens any more
            self._ringer.send(bytes([POKE]))

    def wait(self, seconds: float) -> News:
        """Until a key, a signal or a poke, at most so long."""
        ready, _, _ = select.select([self._keyboard, self._bell], [], [], seconds)
        keys, gone, rung = "", False, b""
        if self._keyboard in ready:
            try:
                typed = os.read(self._keyboard, 1024)
            except OSError:
                typed = b""
            keys, gone = typed.decode("ascii", "replace"), not typed
        if self._bell in ready:
            rung = self._bell.recv(1024)
        return News(keys, frozenset(rung) - {POKE}, gone)
