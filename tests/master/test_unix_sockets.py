from __future__ import annotations

import contextlib
import grp
import logging
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.config.bind import BindError, UnixBind
from forkserve.config.owner import Owner, parse_owner
from forkserve.config.values import Mode
from forkserve.master import holders, unix_sockets
from forkserve.master.listeners import Listener, Terms, open_listeners

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, or shutdown(2)")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")

SERVER = (
    "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen();"
    "print(flush=True); sys.stdin.read()"
)


@pytest.fixture(autouse=True)
def _times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for, and a busy machine may take its time to find a holder."""
    monkeypatch.setattr(unix_sockets, "LAST_WORKERS", 0.0)
    monkeypatch.setattr(holders, "LONGEST_SEARCH", 60.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.sock"


@pytest.fixture
def server(path: Path) -> Iterator[int]:
    """The pid of another process that listens on ``path``."""
    argv = [sys.executable, "-c", SERVER, str(path), "--password=hunter2"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid


def let_everybody_in(folder: Path) -> None:
    """Below the directory for temporary files, which is open to all."""
    outside = set(Path(tempfile.gettempdir()).parents) | {Path(tempfile.gettempdir())}
    for inside in {folder, *folder.parents} - outside:
        inside.chmod(0o755)


@contextlib.contextmanager
def opened(path: Path | str, terms: Terms | None = None) -> Iterator[Listener]:
    (listener,) = open_listeners([UnixBind(str(path))], terms)
    try:
        yield listener
    finally:
        listener.close()


def refusal(*paths: Path | str, terms: Terms | None = None) -> str:
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(BindError) as caught:
        open_listeners([UnixBind(str(path)) for path in paths], terms)
    assert len(os.listdir("/dev/fd")) == before
    message = str(caught.value)
    assert "\n" not in message
    return message


def connect(path: Path | str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    return sock


def leave_a_stale_one(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()


# -- taking a path ------------------------------------------------------------------------


def test_it_is_as_workers_need_it_and_everybody_may_connect(path: Path) -> None:
    umask = os.umask(0o077)
    try:
        with opened(path) as listener:
            assert listener.url == f"unix:{path}"
            assert not listener.socket.getblocking()
            assert not listener.socket.get_inheritable()
            assert stat.S_IMODE(path.stat().st_mode) == 0o666
            connect(path).close()
    finally:
        assert os.umask(umask) == 0o077


def test_it_has_the_mode_that_was_asked_for(path: Path) -> None:
    with opened(path, Terms(unix_mode=Mode(0o600))):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_group_of_ones_own_may_have_it(path: Path) -> None:
    name = grp.getgrgid(os.getgroups()[-1] if os.getgroups() else os.getgid())
    with opened(path, Terms(unix_owner=parse_owner(f":{name.gr_name}"))):
        assert path.stat().st_gid == name.gr_gid
        assert path.stat().st_uid == os.geteuid()


@as_root
def test_it_has_the_owner_that_was_asked_for(path: Path) -> None:
    with opened(path, Terms(unix_owner=Owner("7:8", 7, 8))):
        assert (path.stat().st_uid, path.stat().st_gid) == (7, 8)


@as_root
def test_what_cannot_be_given_away_leaves_no_file(path: Path) -> None:
    let_everybody_in(path.parent)
    path.parent.chmod(0o777)
    os.seteuid(65534)
    try:
        message = refusal(path, terms=Terms(unix_owner=Owner("root", 0, -1)))
    finally:
        os.seteuid(0)
    assert "cannot be given to root (Operation not permitted); " in message
    assert not path.exists()


def test_a_relative_path_counts_from_where_it_was_started(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    with opened(path.name) as listener:
        assert listener.url == f"unix:{path}"
        monkeypatch.chdir("/")
    assert not path.exists()


def test_a_stale_one_is_replaced_and_that_is_said(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leave_a_stale_one(path)
    with caplog.at_level(logging.INFO, "forkserve"), opened(path):
        connect(path).close()
    assert caplog.messages == [f"removed {path}: a socket on which nobody listens any more"]


@linux_only
def test_a_living_one_is_not_touched_and_its_holder_named(path: Path, server: int) -> None:
    inode = path.stat().st_ino
    message = refusal(path)
    name = Path(f"/proc/{server}/comm").read_text().strip()
    assert message == (
        f"unix:{path} is already in use by pid {server} ({name}); "
        "stop it or choose another address with --bind"
    )
    assert path.stat().st_ino == inode
    connect(path).close()


def test_a_living_one_whose_holder_cannot_be_seen(
    path: Path, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "_listdir", lambda _: [])
    assert f"unix:{path} is already in use by another process;" in refusal(path)


@linux_only
def test_one_whose_queue_is_full_is_living(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen(0)
        with connect(path):
            assert "is already in use by" in refusal(path)
        assert path.exists()


def test_one_of_another_kind_is_living(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        assert "is already in use by" in refusal(path)
        assert path.exists()


def test_one_that_is_just_being_closed_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_sockets, "LAST_WORKERS", 60.0)
    looked = threading.Event()
    is_living = unix_sockets._is_living

    def look(path: str) -> bool:
        found = is_living(path)
        looked.set()
        return found

    monkeypatch.setattr(unix_sockets, "_is_living", look)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()

    def close() -> None:
        looked.wait()
        sock.close()

    closes = threading.Thread(target=close, daemon=True)
    closes.start()
    with opened(path):
        connect(path).close()
    closes.join()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_left_alone(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        leave_a_stale_one(path.with_suffix(".real"))
        path.symlink_to(path.with_suffix(".real"))
    assert f"{path} is there already and no socket, so it is left alone" in refusal(path)
    assert path.exists()


@linux_only
def test_one_path_twice(path: Path) -> None:
    assert "this process itself; give each address only once" in refusal(path, path)
    assert not path.exists()


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 108)
    assert f"{path} is {len(bytes(path))} bytes long, and a Unix socket's" in refusal(path)


def test_the_longest_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path).ljust(unix_sockets.LONGEST_PATH - 2, "_") + "/s"
    os.mkdir(os.path.dirname(path))
    with opened(path):
        connect(path).close()


def test_no_directory(tmp_path: Path) -> None:
    assert f"there is no directory {tmp_path}/run; make it" in refusal(tmp_path / "run" / "a.sock")


@as_root
def test_a_directory_that_may_not_be_written_to(tmp_path: Path) -> None:
    let_everybody_in(tmp_path)
    os.seteuid(65534)
    try:
        assert f"this user lacks permission in {tmp_path};" in refusal(tmp_path / "a.sock")
    finally:
        os.seteuid(0)


def test_a_directory_that_somebody_keeps_locked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(unix_sockets, "LONGEST_LOCK", 0.1)
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert f"another process keeps {path.parent} locked" in refusal(path)
    finally:
        os.close(fd)


def test_of_many_that_start_at_once_on_a_stale_one_exactly_one_gets_it(path: Path) -> None:
    for _ in range(10):
        leave_a_stale_one(path)
        assert sorted(_start_together(path, 6)) == [b"no"] * 5 + [b"yes"]
        path.unlink()


def _start_together(path: Path, count: int) -> list[bytes]:
    """What each of so many processes says, all of which keep what they get until the end."""
    go_out, go_in = os.pipe()
    end_out, end_in = os.pipe()
    answers = []
    pids = []
    for _ in range(count):
        answer_out, answer_in = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(go_in)
                os.close(end_in)
                os.read(go_out, 1)  # until all are there
                try:
                    kept = open_listeners([UnixBind(str(path))])
                    os.write(answer_in, b"yes")
                except BindError:
                    kept = []
                    os.write(answer_in, b"no")
                os.read(end_out, 1)
                del kept
            finally:
                os._exit(0)
        os.close(answer_in)
        pids.append(pid)
        answers.append(answer_out)
    os.close(go_in)
    said = [os.read(answer, 3) for answer in answers]
    os.close(end_in)
    for pid in pids:
        os.waitpid(pid, 0)
    for fd in (go_out, end_out, *answers):
        os.close(fd)
    return said


# -- giving it back -----------------------------------------------------------------------


def test_the_file_is_removed_at_the_end(path: Path) -> None:
    with opened(path):
        assert path.exists()
    assert not path.exists()


def test_another_file_at_the_path_is_not_removed(path: Path) -> None:
    with opened(path) as listener:
        path.unlink()
        path.write_text("somebody else's")
        listener.close()
        assert path.exists()
        path.unlink()
        leave_a_stale_one(path)
    assert path.exists()


def test_a_child_does_not_remove_it(path: Path) -> None:
    with opened(path) as listener:
        pid = os.fork()
        if pid == 0:
            try:
                listener.file and listener.file.remove()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert path.exists()


def test_what_is_given_away_serves_on(path: Path) -> None:
    with opened(path) as listener, listener.socket.dup() as successor:
        listener.give_away()
        listener.close()
        assert path.exists()
        with connect(path):
            successor.accept()[0].close()


@linux_only
def test_who_comes_too_late_is_refused_and_who_waits_is_served(path: Path) -> None:
    with opened(path) as listener, listener.socket.dup() as workers, connect(path) as early:
        os.link(path, path.with_suffix(".other"))
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            connect(path.with_suffix(".other"))
        served, _ = workers.accept()
        with served:
            served.sendall(b"hello")
        assert early.recv(5) == b"hello"


# -- names without a file -----------------------------------------------------------------


@linux_only
def test_an_abstract_name_is_served_and_never_taken_over() -> None:
    name = f"@forkserve-test-{os.getpid()}"
    with opened(name) as listener:
        assert listener.url == f"unix:{name}"
        connect("\0" + name[1:]).close()
        message = refusal(name)
        assert f"unix:{name} is already in use by pid {os.getpid()} " in message
