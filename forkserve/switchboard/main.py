"""From the fork to the exit of the switchboard."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
from dataclasses import dataclass
from time import monotonic
from typing import NoReturn

from forkserve import titles
from forkserve.channel import Channel, LastCall, Leaving, PassOn, Ready, Trouble
from forkserve.switchboard.board import Board
from forkserve.switchboard.queues import Exchange, Queue
from forkserve.worker import birth, lifeline

HANDOVER = 4.0
"""Seconds for which a successor is waited for, and again for it to make room in the inbox."""

BRIEFLY = 0.5
"""Seconds for which the workers may take up what is held, when the master has died."""


@dataclass(frozen=True, slots=True)
class Errand:
    """All that a switchboard gets from the master."""

    exchange: Exchange
    channel: Channel
    last_words: int
    """A file for the fault handler; the master reads it after the switchboard's end."""

    master_pid: int
    graceful_timeout: float
    name: str | None
    """What ``--name`` says."""

    def fds(self) -> set[int]:
        return {self.channel.fileno(), self.last_words} | self.exchange.fds()


def run(errand: Errand) -> NoReturn:
    """Be the switchboard. Called in the new child, with every signal blocked; never returns."""
    birth.live_and_leave(lambda: _be_the_switchboard(errand))


def _be_the_switchboard(errand: Errand) -> int:
    birth.forget_the_parent(errand.fds(), errand.last_words, errand.master_pid)
    lifeline.take_no_notice_of(signal.SIGINT)  # Ctrl-C is for the master to act on
    titles.show("switchboard", "forkserve-swbd", errand.name)
    channel = errand.channel
    descriptors = _as_many_descriptors_as_possible()
    board = Board(errand.exchange, descriptors, lambda what: channel.send(Trouble(what)))
    terminated = _readable_after_sigterm()
    board.watch(terminated.fileno())
    board.watch(channel.fileno())
    board.open()
    channel.send(Ready())
    _serve(board, errand, terminated.fileno())
    return 0


def _serve(board: Board, errand: Errand, terminated: int) -> None:
    """Until the service ends, the master has died, or there is a successor."""
    channel = errand.channel
    passes_on = False
    while True:
        ready = board.turn()
        if channel.fileno() in ready:
            messages = channel.receive_with_fds()
            if channel.closed:
                board.hand_out(monotonic() + BRIEFLY)
                return
            for message, fds in messages:
                if isinstance(message, PassOn) and fds:
                    board.pass_on(Queue.to(fds[0]))
                    passes_on = True
            if any(isinstance(message, LastCall) for message, _ in messages):
                # Should the master die now, the kernel's SIGTERM is to end us.
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                board.hand_out(monotonic() + errand.graceful_timeout)
                return
        if board.is_succeeded(monotonic()):
            board.leave_to_successor(monotonic() + HANDOVER)
            return
        if terminated in ready and not lifeline.is_orphan(errand.master_pid):
            board.unwatch(terminated)
            if passes_on:
                continue  # it will be told to leave, once nobody needs it
            board.ask_for_successor(monotonic() + HANDOVER)
            channel.send(Leaving())


def _as_many_descriptors_as_possible() -> int:
    """Raise the soft limit to the hard one, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _readable_after_sigterm() -> socket.socket:
    """A socket from which there is something to read as soon as a SIGTERM has come."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    return reader
