"""Started as root: who the app runs as, and who does not."""

from __future__ import annotations

import grp
import json
import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.people import ids_of, open_to_everybody
from tests.system.server import APP, Server, is_gone, name_of, port_is_free

Start = Callable[..., Server]

_nobody = pwd.getpwnam("nobody")
NOBODY, NOGROUP, HOME = _nobody.pw_uid, _nobody.pw_gid, _nobody.pw_dir
DAEMON = grp.getgrnam("daemon").gr_gid

CURIOUS = """
import json, os
def who():
    before = os.umask(0)
    os.umask(before)
    return {"uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(),
            "umask": before, "home": os.environ["HOME"], "user": os.environ.get("USER"),
            "back": list(ways_back()), "cwd": os.getcwd()}
def ways_back():
    for way in (os.setuid, os.seteuid, os.setgid, os.setegid):
        try:
            way(0)
        except PermissionError:
            continue
        yield way.__name__
    try:
        os.setgroups([0])
    except PermissionError:
        return
    yield "setgroups"
AT_IMPORT = who()
""" + APP.replace(
    "    body =",
    '    body = json.dumps([AT_IMPORT, who()]).encode() if scope["path"] == "/who" else',
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below pytest's own, whose permissions pytest sees to while other runs go on."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "app.py").write_text(APP)
        yield Path(name).resolve()


@pytest.fixture
def curious(start: Start, folder: Path) -> Start:
    """Starts servers as root, with groups that only root should have, and a curious app. A file
    ``group`` in the folder is their /etc/group."""
    mount = 'test ! -e group || mount --bind group /etc/group; exec "$@"'
    before = ["setpriv", "--groups", "4,24", *open_to_everybody(folder), "sh", "-c", mount, "sh"]
    (folder / "app.py").write_text(CURIOUS)
    return lambda *options: start(*options, under=before)


def a_low_port() -> int:
    """One that is free now, and that usually only root may listen on."""
    for port in random.sample(range(700, 1024), 324):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.skip("no port below 1024 is free")


def children_of(server: Server) -> set[int]:
    return server.worker_pids() | server.template_pids() | server.switchboard_pids()


@pytest.mark.parametrize("way", ["--preload", "--no-preload"])
def test_everybody_but_the_master_drops_its_rights(curious: Start, way: str) -> None:
    port = a_low_port()
    options = ("-w", "2", "-b", f"127.0.0.1:{port}", "--user", "nobody", "--group", "daemon")
    server = curious(*options, "--umask", "027", way).wait_until_ready()
    server.wait_for_log(rf"the app runs as user nobody \(uid {NOBODY}, gid {DAEMON}\)")
    # Two workers, the switchboard and maybe a template, once those of before have left.
    expected = 4 if way == "--preload" else 3
    for reload in (False, True):
        if reload:
            assert server.reload() == "done"
        server.wait_for("all there", lambda: len(children_of(server)) == expected)
        children = children_of(server)
        assert ids_of(server.pid)["Uid"] == [0] * 4
        assert ids_of(server.pid)["Groups"] == [4, 24]
        for child in children:
            assert ids_of(child) == {
                "Uid": [NOBODY] * 4,
                "Gid": [DAEMON] * 4,
                "Groups": [DAEMON],
                "Umask": [0o027],
            }, name_of(child)
    for seen in json.loads(server.get("/who")):
        assert seen["back"] == []
        assert (seen["umask"], seen["home"], seen["user"]) == (0o027, HOME, "nobody")
    os.kill(server.pid, signal.SIGKILL)
    server.wait_for("nobody left", lambda: all(map(is_gone, children)))
    assert port_is_free(port)


@pytest.mark.parametrize("way", ["--preload", "--no-preload"])
def test_a_killed_master_ends_who_is_still_importing(
    curious: Start, folder: Path, way: str
) -> None:
    """Nobody reads the channel then: the kernel has to tell of the master's death, which it
    forgets to do for whoever has changed its user."""
    folder.chmod(0o777)
    source = "import os, time\nopen(f'importing-{os.getpid()}', 'w').close()\ntime.sleep(600)\n"
    (folder / "app.py").write_text(source)
    server = curious("--user", "nobody", way)
    server.wait_for("importing", lambda: list(folder.glob("importing-*")) != [])
    (importing,) = (int(file.name.split("-")[1]) for file in folder.glob("importing-*"))
    os.kill(server.pid, signal.SIGKILL)
    server.wait_for("it has ended", lambda: is_gone(importing))


def test_initgroups_gives_all_groups_of_the_user(curious: Start, folder: Path) -> None:
    groups = Path("/etc/group").read_text() + "forkserve-test:x:4242:nobody\n"
    (folder / "group").write_text(groups)
    (folder / "app.py").write_text(APP)
    server = curious("--user", "nobody", "--initgroups").wait_until_ready()
    server.the_switchboard()
    for child in children_of(server):
        assert set(ids_of(child)["Groups"]) == {4242, *os.getgrouplist("nobody", NOGROUP)}
    assert server.stop() == 0


def test_the_master_still_sees_into_workers_of_another_user(curious: Start, folder: Path) -> None:
    """A worker's stacks and memory are asked of the kernel, which protects a process that
    has changed its user."""
    source = APP.replace(
        "    body =",
        """    if scope["path"] == "/grow": held.append(b'x' * (200 << 20))
    if scope["path"] == "/block": block()
    body =""",
    )
    stuck = "import time\nheld = []\ndef block():\n    while True: time.sleep(600)\n"
    (folder / "app.py").write_text(source + stuck)
    server = curious("-w", "2", "--user", "nobody", "--timeout", "3", "--max-rss", "150M")
    server.wait_until_ready()
    grown = int(server.get("/grow").split()[1])
    server.wait_for_log(rf"\(pid {grown}, .*recycled.*: it uses 2\d\d MiB \(--max-rss 150 MiB\)")
    server.wait_for_log(rf"\(pid {grown}, generation 1\) has left")
    server.get_in_vain("/block")
    server.wait_for_log(r"was ended by SIGKILL \(hung\)")
    server.wait_for_log(r"in block$")
    # Others of its own user may look into it, with a debugger say, as if they had started it.
    assert os.stat(f"/proc/{min(server.worker_pids())}/environ").st_uid == NOBODY


@pytest.mark.parametrize("way", ["--preload", "--no-preload"])
def test_a_reload_follows_the_link_that_chdir_names(start: Start, folder: Path, way: str) -> None:
    for release in ("one", "two"):
        (folder / release / "src").mkdir(parents=True)
        source = APP.replace("VERSION", release)
        (folder / release / "src" / "app.py").write_text(source)
    (folder / "current").symlink_to("one")
    server = start("--chdir", "current", "--app-dir", "src", way).wait_until_ready()
    assert server.get().startswith("one")
    (folder / "next").symlink_to("two")
    (folder / "next").replace(folder / "current")
    assert server.reload() == "done"
    server.wait_for("two", lambda: server.get().startswith("two"))
    (folder / "current").unlink()
    assert server.reload() == "failed"
    server.wait_for_log(r"--chdir .*/current cannot be entered: No such file or directory")
    assert server.get().startswith("two")
    assert server.stop() == 0


def run(under: list[str], folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit code of forkserve, and what it said."""
    done = subprocess.run(
        [*under, sys.executable, "-m", "forkserve", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert "/forkserve/" not in done.stdout  # no traceback of our own
    return done.returncode, done.stdout


def test_check_imports_the_app_as_that_user_too(folder: Path) -> None:
    under = open_to_everybody(folder)
    (folder / "app.py").write_text(APP + "open('secret').close()\n")
    (folder / "secret").touch(0o600)
    assert run(under, folder, "check", "app:app")[0] == 0
    code, said = run(under, folder, "check", "app:app", "--user", "nobody")
    assert code == 3
    assert "PermissionError" in said
    folder.chmod(0o700)
    code, said = run(under, folder, "--check-config", "app:app", "--user", "nobody")
    assert code == 2
    assert f"user nobody may not read {folder}, where the app (--app-dir) can be found" in said


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [
        (
            "-setuid",
            f"cannot become user nobody with group {NOGROUP} (Operation not permitted); start",
        ),
        (
            "-setgid",
            f"cannot become user nobody with group {NOGROUP} (Operation not permitted); start",
        ),
        ("-kill", "the master could neither stop nor reload workers of another user: give it"),
    ],
)
def test_a_root_who_may_not_do_it_is_told_before_anything_runs(
    folder: Path, lacking: str, sentence: str
) -> None:
    under = ["setpriv", "--bounding-set", lacking, "--", *open_to_everybody(folder)]
    code, said = run(under, folder, "-b", "127.0.0.1:0", "--user", "nobody", "app:app")
    assert code == 2
    assert sentence in said
    assert "forkserve starts" not in said
