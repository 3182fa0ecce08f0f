"""The pidfile: whose it is, and what is never done to somebody else's file."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import pytest

from forkserve.channel import close_all_but
from forkserve.master import pidfile
from forkserve.master.pidfile import PidFile, PidFileError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.pid"


class Process:
    """A child that does something, says what came of it, and lives until it is let go."""

    def __init__(self, do: Callable[[], str]) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            self.pid = os.fork()
            if self.pid == 0:
                self._live(do, theirs)

    def _live(self, do: Callable[[], str], theirs: socket.socket) -> NoReturn:
        try:
            try:
                said = do()
            except PidFileError as exc:
                said = str(exc)
            theirs.sendall(said.encode())
            theirs.recv(1)
        finally:
            os._exit(0)

    @cached_property
    def said(self) -> str:
        return self._ours.recv(4096).decode()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):
            self._ours.sendall(b".")
        self._ours.close()
        os.waitpid(self.pid, 0)


def left_in(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def test_it_holds_the_pid_while_it_is_ours(path: Path) -> None:
    before = os.umask(0o077)
    try:
        file = PidFile.claim(str(path))
    finally:
        os.umask(before)
    assert path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert not os.get_inheritable(file.fileno())
    assert left_in(path) == ["app.pid"]
    file.remove()
    assert left_in(path) == []
    file.remove()  # once more does no harm


def test_another_master_is_refused_and_told_who_holds_it(path: Path) -> None:
    with Process(lambda: PidFile.claim(str(path)).path) as other:
        assert other.said == str(path)
        with pytest.raises(
            PidFileError, match=rf"is held by another master, pid {other.pid}; stop"
        ):
            PidFile.claim(str(path))
        assert left_in(path) == ["app.pid"]
    # It has ended without removing its file: nobody holds that any more.
    assert path.read_text() == f"{other.pid}\n"
    PidFile.claim(str(path)).remove()
    assert left_in(path) == []


def test_a_child_does_not_hold_it_nor_remove_it(path: Path) -> None:
    file = PidFile.claim(str(path))

    def live() -> str:
        file.remove()
        close_all_but(set(map(int, os.listdir("/dev/fd"))) - {file.fileno()})
        return "lives"

    with Process(live) as other:
        assert other.said == "lives"
        assert path.exists()
        file.give_away()  # as the kernel does when the master is killed
        PidFile.claim(str(path)).remove()


@pytest.mark.parametrize("stale", ["", "4711\n", "99999999"])
def test_what_a_dead_master_has_left_is_taken_over(path: Path, stale: str) -> None:
    path.write_text(stale)
    former = path.open()
    PidFile.claim(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    assert former.read() == stale  # whoever was reading has read no mixture
    former.close()


def test_only_one_of_many_gets_what_a_dead_master_has_left(path: Path) -> None:
    path.write_text("4711\n")
    go = path.parent / "go"

    def claim() -> str:
        while not go.exists():
            pass
        return PidFile.claim(str(path)).path

    with ExitStack() as stack:
        children = [stack.enter_context(Process(claim)) for _ in range(8)]
        go.touch()
        answers = [child.said for child in children]
    assert answers.count(str(path)) == 1, answers
    assert all("is held by another master" in said for said in answers if said != str(path))


def test_who_opens_what_is_replaced_a_moment_later_looks_again(path: Path) -> None:
    """Its lock can be had, since nobody needs that file any more."""
    path.write_text("4711\n")
    new = path.parent / "new"
    new.touch()
    with path.open("r+") as there, Process(lambda: PidFile.claim(str(path)).path) as other:
        assert other.said == str(path)
        assert not pidfile._replace_this(there.fileno(), str(path), str(new), None)
        assert path.read_text() == f"{other.pid}\n"


@pytest.mark.parametrize("content", ["import os\n", "12 34\n", "-5\n", "1" * 40])
def test_a_file_that_is_no_pidfile_is_left_alone(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(PidFileError, match="is there already and no pidfile"):
        PidFile.claim(str(path))
    assert path.read_text() == content
    assert left_in(path) == ["app.pid"]


def test_links_pipes_and_folders_are_left_alone(path: Path) -> None:
    victim = path.parent / "victim"
    victim.write_text("4711\n")
    path.symlink_to(victim)
    with pytest.raises(PidFileError, match="it is a symbolic link"):
        PidFile.claim(str(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PidFileError, match="no pidfile"):
        PidFile.claim(str(path))
    path.unlink()
    path.mkdir()
    with pytest.raises(PidFileError, match="Is a directory"):
        PidFile.claim(str(path))
    path.rmdir()
    os.link(victim, path)  # another name of a file of value, made by whoever may write there
    PidFile.claim(str(path))
    assert victim.read_text() == "4711\n"


def test_a_missing_folder_is_one_sentence(path: Path) -> None:
    where = path.parent / "no" / "app.pid"
    sentence = f"the pidfile {where} cannot be written: No such file or directory; choose another"
    with pytest.raises(PidFileError, match=re.escape(sentence)):
        PidFile.claim(str(where))


def test_somebody_elses_file_of_that_name_is_not_removed(path: Path) -> None:
    file = PidFile.claim(str(path))
    path.unlink()
    path.write_text("4711\n")
    file.remove()
    assert path.read_text() == "4711\n"


# -- when one master takes the place of another -------------------------------------------


def test_a_lock_that_is_handed_down_outlives_who_has_given_it_away(path: Path) -> None:
    old = PidFile.claim(str(path))
    new = PidFile.adopt(str(path), os.dup(old.fileno()))
    assert not os.get_inheritable(new.fileno())
    old.give_away()
    with Process(lambda: PidFile.claim(str(path)).path) as other:
        assert "is held by another master" in other.said
    new.rewrite(4711)
    assert path.read_text() == "4711\n"
    with Process(lambda: PidFile.claim(str(path)).path) as other:
        assert "is held by another master, pid 4711" in other.said
    new.remove()
    assert left_in(path) == []


def test_the_old_master_removes_nothing_after_the_new_one_has_written(path: Path) -> None:
    old = PidFile.claim(str(path))
    new = PidFile.adopt(str(path), os.dup(old.fileno()))
    new.rewrite(4711)
    old.remove()
    assert path.read_text() == "4711\n"


def test_the_old_master_takes_back_what_a_dead_new_one_has_left(path: Path) -> None:
    old = PidFile.claim(str(path))

    def upgrade() -> str:
        PidFile.adopt(str(path), os.dup(old.fileno())).rewrite(os.getpid())
        return "written"

    with Process(upgrade) as other:
        assert other.said == "written"
        with pytest.raises(PidFileError, match=f"held by another master, pid {other.pid}"):
            old.rewrite(os.getpid())
    old.rewrite(os.getpid())
    assert path.read_text() == f"{os.getpid()}\n"
    old.remove()
    assert left_in(path) == []


def test_only_the_pidfile_itself_is_adopted(path: Path) -> None:
    PidFile.claim(str(path))
    for fd in (os.open(os.devnull, os.O_RDWR), os.open(path, os.O_RDWR), 1 << 20):
        with pytest.raises(PidFileError, match="is not the pidfile"):
            PidFile.adopt(str(path), fd)


def test_a_killed_holder_leaves_no_lock(path: Path) -> None:
    with Process(lambda: PidFile.claim(str(path)).path) as other:
        assert other.said
        os.kill(other.pid, signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        PidFile.claim(str(path)).remove()
