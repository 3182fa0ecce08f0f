"""The queues at the limits that the kernel sets."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Callable

import pytest

from forkserve.switchboard.queues import MOST_IN_A_MESSAGE, Parked, Queue

NOBODY = 65534


def in_a_child(check: Callable[[], bool]) -> None:
    """In a process of its own, since it gives up its rights."""
    pid = os.fork()
    if pid == 0:
        held = False
        try:
            held = check()
        finally:
            os._exit(0 if held else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_message_keeps_its_connections_and_their_deadlines() -> None:
    queue = Queue.make()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sent = [Parked(theirs.fileno(), 1000.0 + i) for i in range(MOST_IN_A_MESSAGE)]
        assert queue.put(sent)
        assert queue.put(sent[:1])
        taken, lost = queue.take()
        assert [parked.deadline for parked in taken] == [parked.deadline for parked in sent]
        assert lost == 0
        assert len(queue.take(1)[0]) == 1
        for parked in taken:
            assert not os.get_inheritable(parked.fd)
            assert os.fstat(parked.fd).st_ino == os.fstat(theirs.fileno()).st_ino
            os.close(parked.fd)
    queue.close()


def test_more_descriptors_on_their_way_than_a_user_may_have_open_are_too_many() -> None:
    """ETOOMANYREFS (unix(7)), from which only the privileged are free."""

    def put_too_many() -> bool:
        if os.getuid() == 0:
            with contextlib.suppress(OSError):  # no such user in this namespace
                os.setuid(NOBODY)
        queue = Queue.make()
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        for count in range(1000):
            if not queue.put([Parked(0, 0.0)]):
                return 64 <= count < 200 and queue.take()[1] == 0
        return False

    in_a_child(put_too_many)


def test_a_full_queue_takes_no_more_until_something_is_taken() -> None:
    queue = Queue.make()
    count = 0
    while queue.put([Parked(0, 0.0)]):
        count += 1
    assert count > 200
    for parked in queue.take()[0]:
        os.close(parked.fd)
    assert queue.put([Parked(0, 0.0)])
    assert not queue.put([Parked(0, 0.0)])
    queue.close()


def test_a_descriptor_that_is_not_open_is_a_mistake() -> None:
    queue = Queue.make()
    with pytest.raises(OSError, match="Bad file descriptor"):
        queue.put([Parked(10**6, 0.0)])
    queue.close()
