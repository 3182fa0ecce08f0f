"""The template: shared memory, fresh code, and a judgement on whether to fork at all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forkserve.template.sharing import immortal_is_possible
from tests.system.server import APP, Load, Server, is_gone, state_of

Start = Callable[..., Server]

TEMPLATE_READY = r"the template \(pid (\d+), generation (\d+)\) is ready"
REJECTED = r"cannot be shared between workers.*generation {}.*opened at import: (.*)\. \("

COUNTED = (
    """
import os
with open("imports", "a") as log:
    log.write(f"{os.getpid()}\\n")
"""
    + APP
)
"""Says in a file which process imported it."""


def importers(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "imports").read_text().split()]


def template_pid(server: Server, generation: int = 1) -> int:
    return int(server.wait_for_log(rf"the template \(pid (\d+), generation {generation}\) is r")[1])


def ready(server: Server) -> set[int]:
    found = re.findall(r"worker \d+ \(pid (\d+), generation \d+\) is ready", server.log)
    return {int(pid) for pid in found}


# -- what it is for -----------------------------------------------------------------------


def test_the_app_is_imported_once_and_every_worker_is_a_child_of_the_master(
    start: Start, folder: Path
) -> None:
    (folder / "app.py").write_text(COUNTED)
    server = start("-w", "4").wait_until_ready()
    assert importers(folder) == [template_pid(server)]
    assert server.worker_pids() == ready(server)
    assert server.template_pids() == {template_pid(server)}
    victim = min(server.worker_pids())
    os.kill(victim, signal.SIGKILL)
    server.wait_for("a new worker", lambda: len(ready(server)) == 5)
    server.wait_for("four again", lambda: server.worker_pids() == ready(server) - {victim})
    assert len(importers(folder)) == 1
    assert server.stop() == 0


def test_a_reload_brings_the_new_code_from_a_new_template(start: Start, folder: Path) -> None:
    (folder / "app.py").write_text(COUNTED)
    server = start("-w", "2").wait_until_ready()
    old = template_pid(server)
    server.write(COUNTED.replace("VERSION", "SECOND"))
    with Load(server) as load:
        assert server.reload() == "done"
    assert not load.failed
    server.wait_for("the new code", lambda: server.get().startswith("SECOND"))
    server.wait_for("the old template is gone", lambda: is_gone(old))
    assert importers(folder) == [old, template_pid(server, 2)]
    assert server.stop() == 0


def test_a_broken_deploy_leaves_the_old_template_which_can_still_fork(
    start: Start, folder: Path
) -> None:
    server = start("-w", "2").wait_until_ready()
    template = template_pid(server)
    server.write("import nothing_like_this")
    assert server.reload() == "failed"
    server.wait_for("only the old one", lambda: server.template_pids() == {template})
    for victim in server.worker_pids():
        os.kill(victim, signal.SIGKILL)
    server.wait_for("new workers", lambda: len(ready(server)) == 4)
    assert server.get().startswith("VERSION")  # the code is still the old one
    assert server.stop() == 0


OPENED = (
    """
import gc, os, signal
data = open("data", "rb")
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append("USR1"))
signal.signal(signal.SIGTERM, lambda *_: heard.append("TERM"))
"""
    + APP.replace("VERSION {os.getpid()}", "{tell()} {os.getpid()}")
    + """
def tell():
    os.kill(os.getpid(), signal.SIGUSR1)
    words = os.pread(data.fileno(), 100, 0).decode()
    return f"{words} {''.join(heard)} {gc.get_freeze_count() > 1000}"
"""
)


def test_what_the_app_has_set_up_is_there_in_every_worker(start: Start, folder: Path) -> None:
    """Its files to read from, its signal handlers, and its objects, which are frozen."""
    (folder / "data").write_text("weights")
    (folder / "app.py").write_text(OPENED)
    server = start("-w", "2").wait_until_ready()
    assert server.template_pids()
    assert server.get().rpartition(" ")[0] == "weights USR1 True"
    # But a handler for TERM would hold the template back.
    template = template_pid(server)
    os.kill(template, signal.SIGTERM)
    server.wait_for_log(rf"the template \(pid {template}, generation 1\) was ended by SIGTERM")
    assert server.stop() == 0


def test_forking_leaves_nothing_open_in_the_template(start: Start) -> None:
    server = start("-w", "2").wait_until_ready()
    fds = Path(f"/proc/{template_pid(server)}/fd")
    before = len(list(fds.iterdir()))
    for _ in range(3):
        victim = min(server.worker_pids())
        os.kill(victim, signal.SIGKILL)
        server.wait_for("two again", lambda gone=victim: len(alive(server) - {gone}) == 2)
    # Not more, but perhaps fewer: at first it may not have been done with its last fork.
    server.wait_for("flat", lambda: len(list(fds.iterdir())) <= before)
    assert server.stop() == 0


def test_no_preload_has_no_template_and_preload_does_not_judge(start: Start, folder: Path) -> None:
    threaded = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True,"
    (folder / "app.py").write_text(f"{threaded} name='loader').start()\n{COUNTED}")
    server = start("-w", "2", "--no-preload").wait_until_ready()
    assert sorted(importers(folder)) == sorted(server.worker_pids())
    assert not server.template_pids()
    assert server.stop() == 0
    (folder / "imports").unlink()
    server = start("-w", "2", "--preload").wait_until_ready()
    assert importers(folder) == [template_pid(server)]
    assert "cannot be shared" not in server.log
    assert server.stop() == 0


# -- the judgement ------------------------------------------------------------------------

UNFIT = {
    "thread": (
        "import threading\n"
        "threading.Thread(target=threading.Event().wait, daemon=True, name='loader').start()",
        "loader",
    ),
    "socket": (
        "import os, socket\n"
        "server = socket.create_connection(('127.0.0.1', int(os.environ['DATABASE_PORT'])))",
        r"127\.0\.0\.1:{port}",
    ),
    "sqlite": (
        "import sqlite3\n"
        "database = sqlite3.connect('orders.db')\n"
        "database.execute('create table if not exists orders (id)')",
        r"orders\.db",
    ),
    "child": (
        "import subprocess, sys\nhelper = subprocess.Popen(['sleep', '654'])\n"
        "open(f'helper-{helper.pid}', 'w').close()",
        "sleep",
    ),
    "epoll": ("import select\npoller = select.epoll()", "epoll"),
}


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a real server for the app to connect to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setenv("DATABASE_PORT", str(port))
        yield port


@pytest.mark.parametrize("kind", UNFIT)
def test_what_cannot_be_shared_is_named_and_the_app_is_served_all_the_same(
    start: Start, folder: Path, database: int, kind: str
) -> None:
    source, name = UNFIT[kind]
    (folder / "app.py").write_text(f"{source}\n{APP}")
    server = start("-w", "2")
    findings = server.wait_for_log(REJECTED.format(1))[1]
    assert re.search(name.format(port=database), findings), findings
    server.wait_until_ready()
    assert not server.template_pids()
    assert server.get().startswith("VERSION")
    assert len(re.findall("cannot be shared", server.log)) == 1
    for file in folder.glob("helper-*"):  # the app's own children are the app's own business
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(file.name.partition("-")[2]), signal.SIGKILL)
    assert server.stop() == 0


def test_reloads_turn_a_fit_app_into_an_unfit_one_and_back(start: Start, folder: Path) -> None:
    server = start("-w", "2").wait_until_ready()
    with Load(server) as load:
        server.write(UNFIT["epoll"][0] + APP.replace("VERSION", "UNFIT"))
        assert server.reload() == "done"
        server.wait_for("the new code", lambda: server.get().startswith("UNFIT"))
        server.wait_for("no template", lambda: not server.template_pids())
        server.write(APP.replace("VERSION", "FIT"))
        assert server.reload() == "done"
        server.wait_for("the new code", lambda: server.get().startswith("FIT"))
        assert server.template_pids() == {template_pid(server, 3)}
    assert not load.failed
    assert server.stop() == 0


# -- its death ----------------------------------------------------------------------------


def test_a_killed_template_takes_nobody_along_and_another_is_made(start: Start) -> None:
    server = start("-w", "2").wait_until_ready()
    workers = server.worker_pids()
    with Load(server) as load:
        victim = template_pid(server)
        os.kill(victim, signal.SIGKILL)
        server.wait_for_log(rf"the template \(pid {victim}.* SIGKILL .*its workers live on, anoth")
        server.wait_for_log(TEMPLATE_READY, times=2)
        assert server.worker_pids() == workers
    assert not load.failed
    os.kill(min(workers), signal.SIGKILL)
    server.wait_for("a worker from the new template", lambda: len(ready(server)) == 3)
    assert server.stop() == 0


DEAF = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: None)\n"
SLOW_IMPORT = 'open("importing", "w").close()\nopen("go").read()\n' + APP


def test_a_template_killed_in_its_import_is_made_again(start: Start, folder: Path) -> None:
    os.mkfifo(folder / "go")
    (folder / "app.py").write_text(SLOW_IMPORT)
    server = start("-w", "2")
    server.wait_for("the import", (folder / "importing").exists)
    (victim,) = server.template_pids()
    (folder / "importing").unlink()
    os.kill(victim, signal.SIGKILL)
    server.wait_for("another import", (folder / "importing").exists)
    (folder / "go").write_text("")
    server.wait_until_ready()
    assert server.stop() == 0


def test_a_template_that_keeps_dying_is_delayed_and_then_done_without(start: Start) -> None:
    server = start("-w", "2").wait_until_ready()
    workers = server.worker_pids()
    killed = 0
    while "each worker imports the app by itself from now on" not in server.log:
        killed += 1
        assert killed < 10, server.log
        server.wait_for_log(TEMPLATE_READY, times=killed)
        (victim,) = server.template_pids()
        os.kill(victim, signal.SIGKILL)
        server.wait_for_log(r"the template \(pid \d+.* was ended by SIGKILL", times=killed)
    assert server.worker_pids() == workers
    os.kill(min(workers), signal.SIGKILL)
    server.wait_for("a worker without a template", lambda: len(ready(server)) == 3)
    assert not server.template_pids()
    assert server.reload() == "done"  # which tries a template again
    server.wait_for("a template", lambda: len(server.template_pids()) == 1)
    assert server.stop() == 0


def test_a_template_that_hangs_is_found_out_when_it_is_needed(start: Start) -> None:
    server = start("-w", "2").wait_until_ready()
    template = template_pid(server)
    os.kill(template, signal.SIGSTOP)
    server.wait_for("it stands still", lambda: state_of(template) == "T")
    os.kill(min(server.worker_pids()), signal.SIGKILL)
    server.wait_for_log(rf"the template \(pid {template}.*told to fork a worker and has not for 10")
    server.wait_for("two again", lambda: len(ready(server)) == 3)
    assert is_gone(template)
    assert server.stop() == 0


def test_a_template_killed_while_a_worker_is_asked_of_it(start: Start) -> None:
    """The request is in its channel, descriptors and all, and is asked of the next."""
    server = start("-w", "2").wait_until_ready()
    template = template_pid(server)
    os.kill(template, signal.SIGSTOP)
    server.wait_for("it stands still", lambda: state_of(template) == "T")
    victim = min(server.worker_pids())
    os.kill(victim, signal.SIGKILL)
    server.wait_for_log(rf"worker \d \(pid {victim}, generation 1\) was ended by SIGKILL")
    os.kill(template, signal.SIGKILL)
    server.wait_for_log(TEMPLATE_READY, times=2)
    server.wait_for("two again", lambda: len(alive(server)) == 2)
    assert server.stop() == 0


def test_a_template_killed_on_its_way_out_is_not_missed(start: Start) -> None:
    server = start("-w", "2").wait_until_ready()
    template = template_pid(server)
    os.kill(template, signal.SIGSTOP)  # so that it cannot follow its dismissal
    server.wait_for("it stands still", lambda: state_of(template) == "T")
    assert server.reload() == "done"
    server.wait_for("it is gone", lambda: is_gone(template))  # it is killed in the end
    assert "lives on" not in server.log
    assert server.stop() == 0


@pytest.mark.parametrize("importing", [True, False])
def test_nobody_is_orphaned_when_the_master_is_killed(
    start: Start, folder: Path, importing: bool
) -> None:
    server = start("-w", "2").wait_until_ready()
    everybody = server.worker_pids() | server.template_pids()
    if importing:
        os.mkfifo(folder / "go")
        server.write(DEAF + SLOW_IMPORT)
        server.signal(signal.SIGHUP)
        server.wait_for("the import", (folder / "importing").exists)
        everybody |= server.template_pids()
        assert len(everybody) == 4
    server.process.kill()
    server.wait_for("all are gone", lambda: all(map(is_gone, everybody)))


def test_term_in_the_middle_of_an_import_is_honoured(start: Start, folder: Path) -> None:
    os.mkfifo(folder / "go")
    (folder / "app.py").write_text(
        DEAF + SLOW_IMPORT.replace(".read()", '.read(); open("go").read()')
    )
    server = start("-w", "2")
    server.wait_for("the import", (folder / "importing").exists)
    assert server.stop() == 0
    server.wait_for_log(r"stopped after [0-3]\.")


def test_a_first_import_that_fails_ends_the_master(start: Start, folder: Path) -> None:
    (folder / "app.py").write_text("def app(: pass")
    server = start("-w", "2")
    assert server.wait_for_exit() == 3
    assert re.search(r"cannot start app:app\. .*SyntaxError.*app\.py:1\)", server.log), server.log


# -- births that go wrong -----------------------------------------------------------------

DIES_AT_BIRTH = (
    APP
    + """
import os, signal
def after():
    try:
        os.unlink("curse")
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
os.register_at_fork(after_in_child=after)
"""
)
"""The first process that is forked of it after there is a file called curse dies at once."""


def test_a_death_between_fork_and_hello_is_noticed(start: Start, folder: Path) -> None:
    """Whether it is the go-between or the worker, another one is made."""
    (folder / "app.py").write_text(DIES_AT_BIRTH)
    server = start("-w", "2").wait_until_ready()
    (folder / "curse").touch()
    os.kill(min(server.worker_pids()), signal.SIGKILL)
    server.wait_for("two again", lambda: len(ready(server)) == 3)
    assert not (folder / "curse").exists()
    assert server.stop() == 0


SLOW_TO_TELL = (
    APP
    + """
import os, signal
TEMPLATE = os.getpid()
def in_child():
    if os.getppid() != TEMPLATE and os.path.exists("curse"):
        with open("dead", "w") as file:
            file.write(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
def in_parent():
    if os.getpid() == TEMPLATE and os.path.exists("curse"):
        open("go").read()
os.register_at_fork(after_in_child=in_child, after_in_parent=in_parent)
"""
)
"""While there is a file called curse, workers die at once, and their template says nothing
before it may go on."""


def with_a_death_untold(start: Start, folder: Path) -> Server:
    """Its worker 3 has been waited for, and nobody has said yet which pid it had."""
    os.mkfifo(folder / "go")
    (folder / "app.py").write_text(SLOW_TO_TELL)
    server = start("-w", "2").wait_until_ready()
    (folder / "curse").touch()
    os.kill(min(server.worker_pids()), signal.SIGKILL)
    dead = folder / "dead"
    server.wait_for("a death", lambda: dead.exists() and dead.read_text() != "")
    server.wait_for("nothing is left of it", lambda: state_of(int(dead.read_text())) == "")
    return server


def test_a_worker_that_dies_before_its_hello_has_an_obituary(start: Start, folder: Path) -> None:
    """Whoever it was is told only when the master has long waited for the process."""
    server = with_a_death_untold(start, folder)
    (folder / "curse").unlink()
    (folder / "go").write_text("")
    server.wait_for_log(r"worker 3 \(pid \d+, generation 1\) was ended by SIGKILL .*after \d\.")
    server.wait_for("two again", lambda: len(alive(server)) == 2)
    assert server.stop() == 0


def test_who_has_been_waited_for_is_not_signalled_when_its_pid_is_told(
    start: Start, folder: Path
) -> None:
    """It is not wanted any more by then, and the pid may be somebody else's."""
    server = with_a_death_untold(start, folder)
    server.signal(signal.SIGTTOU)
    server.wait_for_log("1 workers? wanted now")
    (folder / "curse").unlink()
    (folder / "go").write_text("")
    server.wait_for_log(r"worker 3 \(pid \d+, generation 1\) .*after \d\.")
    assert "a fault in forkserve itself" not in server.log, server.log
    assert len(alive(server)) == 1
    assert server.stop() == 0


SILENT = (
    APP
    + """
import os, signal
TEMPLATE = os.getpid()
def in_parent():
    if os.getpid() == TEMPLATE and os.path.exists("curse"):
        os.unlink("curse")
        os.kill(TEMPLATE, signal.SIGKILL)
os.register_at_fork(after_in_parent=in_parent)
"""
)
"""The template dies as soon as it has forked, before it can say what."""


def test_a_worker_whose_template_dies_in_the_fork_says_itself_who_it_is(
    start: Start, folder: Path
) -> None:
    (folder / "app.py").write_text(SILENT)
    server = start("-w", "2").wait_until_ready()
    (folder / "curse").touch()
    os.kill(min(server.worker_pids()), signal.SIGKILL)
    server.wait_for_log(r"worker 3 \(pid \d+, generation 1\) is ready")
    server.wait_for_log(r"the template \(pid \d+, generation 1\) was ended by SIGKILL")
    server.wait_for("two again", lambda: len(alive(server)) == 2)
    assert server.stop() == 0


# -- flat over time -----------------------------------------------------------------------


def test_two_hundred_respawns_and_fifty_reloads_leave_the_master_flat(start: Start) -> None:
    server = start("-w", "4").wait_until_ready()
    assert server.reload() == "done"
    # Four workers, the switchboard, and the template: the one before has left, too.
    server.wait_for("only six", lambda: len(server.children()) == 6)
    fds, rss = server.fds(), server.rss()
    for _ in range(50):
        victims = server.worker_pids()
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        server.wait_for("four others", lambda gone=victims: len(alive(server) - gone) == 4)
        assert server.reload() == "done"  # which forgives the deaths, too
        server.wait_for("only four", lambda: len(server.worker_pids()) == 4)
    server.wait_for("flat", lambda: server.fds() <= fds and not server.zombies())
    assert server.rss() < rss * 1.1
    assert len(re.findall("was ended by SIGKILL .*after", server.log)) == 200
    assert server.stop() == 0


def alive(server: Server) -> set[int]:
    """Workers that live and have said that they are ready."""
    return server.worker_pids() & ready(server)


# -- immortal memory ----------------------------------------------------------------------

SHARED_STATE = (
    APP.replace('body = f"VERSION {os.getpid()}".encode()', "body = work()")
    + """
import gc, json
ROWS = [{"id": i, "name": str(i), "tags": [str(i % 7)]} for i in range(20_000)]
INDEX = {row["name"]: row for row in ROWS}
turn = 0
def work():
    global turn
    turn += 1
    INDEX[str(turn % 20_000)] = {"id": turn, "name": str(turn), "tags": []}
    ROWS.append(ROWS.pop(0))
    if turn % 50 == 0:
        gc.collect()
    total = sum(row["id"] for row in ROWS[:100])
    return json.dumps([os.getpid(), total >= 0, len(ROWS), len(INDEX)]).encode()
"""
)


@pytest.mark.skipif(bool(immortal_is_possible()), reason=immortal_is_possible())
def test_immortal_memory_under_load_reloads_and_recycling(start: Start, folder: Path) -> None:
    (folder / "app.py").write_text(SHARED_STATE)
    options = ("--share", "immortal", "--max-requests", "300")
    server = start("-w", "2", *options).wait_until_ready()
    with Load(server, keep_alive=True) as kept, Load(server) as load:
        for _ in range(5):
            assert server.reload() == "done"
            server.wait_for_log("it has answered 300 requests", since=server.mark())
    assert not load.failed
    assert not kept.failed
    assert {tuple(json.loads(a)[1:]) for a in load.answers + kept.answers} == {
        (True, 20_000, 20_000)
    }
    assert "was ended by" not in server.log
    assert server.stop() == 0


@pytest.mark.skipif(not immortal_is_possible(), reason="it is possible here")
def test_immortal_memory_is_refused_in_a_sentence_where_it_is_not_possible(start: Start) -> None:
    server = start("--share", "immortal")
    assert server.wait_for_exit() == 2
    assert re.search(r"--share immortal is not possible here: .*; leave it out", server.log)
