"""Who may command whom, by the kernel's word and nothing else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess

import pytest

from forkserve.control.client import Client, ControlError
from forkserve.control.peer import Peer
from tests.system.server import PATIENCE

ROOT, WWW, OTHER = 0, 33, 65534


def made_by(uid: int) -> tuple[socket.socket, socket.socket]:
    """The kernel keeps who has made a socket, as it does who has connected (unix(7))."""
    os.seteuid(uid)
    try:
        return socket.socketpair()
    finally:
        os.seteuid(ROOT)


@pytest.mark.skipif(os.geteuid() != ROOT, reason="needs root, to be another user")
@pytest.mark.parametrize(
    ("who", "asks", "may_command", "is_trusted"),
    [
        (WWW, WWW, True, True),
        (ROOT, WWW, True, True),
        (OTHER, WWW, False, False),
        (WWW, ROOT, False, True),  # root may ask anybody
        (ROOT, ROOT, True, True),
    ],
)
def test_who_may(who: int, asks: int, may_command: bool, is_trusted: bool) -> None:
    one, other = made_by(who)
    with one, other:
        os.seteuid(asks)
        try:
            peer = Peer.of(one)
            assert (peer.uid, peer.pid) == (who, os.getpid())
            assert (peer.may_command, peer.is_trusted) == (may_command, is_trusted)
            if is_trusted:
                Client(one).check_who_answers("c.sock")
            else:
                sentence = f"^c.sock is answered by a process of the user with uid {who}, and not"
                with pytest.raises(ControlError, match=sentence):
                    Client(one).check_who_answers("c.sock")
        finally:
            os.seteuid(ROOT)


def test_whether_it_is_stopped() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        try:
            peer = Peer(os.geteuid(), process.pid)
            assert not peer.is_stopped
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            assert peer.is_stopped
            process.send_signal(signal.SIGCONT)
            os.waitid(os.P_PID, process.pid, os.WCONTINUED)
            assert not peer.is_stopped
        finally:
            process.kill()
    process.wait(PATIENCE)
    assert not peer.is_stopped
    assert not Peer(0, None).is_stopped
