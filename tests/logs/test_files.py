"""The descriptors of the log."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from forkserve.channel import Channel, LogReopened, LogSwitched
from forkserve.logs.files import LogFiles, open_log, take_over

CLOSED = """
import socket, sys
from forkserve.logs.files import make_sure_of_standard_streams
make_sure_of_standard_streams()
sys.exit(socket.socket().fileno())
"""


def test_where_a_standard_stream_is_closed_no_socket_takes_its_place() -> None:
    command = ["sh", "-c", f"exec {sys.executable} -c '{CLOSED}' >&- 2>&- <&-"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run(command, env=environment, check=False).returncode == 3


def test_standard_streams_by_their_names_need_no_file() -> None:
    files = LogFiles.open("/dev/stderr", "/dev/stdout")
    assert files.files == []
    for fd in files.fds.fds() - {1, 2}:
        os.close(fd)


def test_a_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    ours, theirs = Channel.pair()
    fd = open_log(str(tmp_path / "old"))
    new = open_log(str(tmp_path / "new"))
    ours.offer(LogReopened(fd), (new,))
    ((message, fds),) = theirs.receive_with_fds()
    assert isinstance(message, LogReopened)
    take_over(theirs, message, fds)
    os.write(fd, b"x")
    assert (tmp_path / "new").read_text() == "x"
    assert (tmp_path / "old").read_text() == ""
    assert ours.receive() == [LogSwitched()]
    for number in (fd, new, *fds):
        os.close(number)
    ours.close()
    theirs.close()


def test_a_descriptor_that_was_lost_changes_nothing(tmp_path: Path) -> None:
    ours, theirs = Channel.pair()
    fd = open_log(str(tmp_path / "old"))
    take_over(theirs, LogReopened(fd), [])
    os.write(fd, b"x")
    assert (tmp_path / "old").read_text() == "x"
    theirs.close()
    assert ours.receive_rest() == []
    os.close(fd)
    ours.close()


def test_nobody_but_the_owner_and_the_group_may_read_a_new_log(tmp_path: Path) -> None:
    os.close(open_log(str(tmp_path / "log")))
    assert (tmp_path / "log").stat().st_mode & 0o137 == 0
