"""``forkserve top`` in a real terminal: what is on its screen, and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.system.server import APP, Server, is_gone
from tests.system.tmux import Tmux, needs_tmux

pytest.importorskip("rich")

Start = Callable[..., Server]

SLOW = """
import asyncio

async def app(scope, receive, send):
    while "/slow" in scope.get("path", "") and not os.path.exists("go"):
        await asyncio.sleep(0.01)
    await answer(scope, receive, send)
""" + APP.replace("async def app(", "async def answer(")

HELD = """
import os, time
while os.path.exists("held"):
    time.sleep(0.01)
"""

FORKSERVE = f"{sys.executable} -m forkserve"

MARKUP = "/slow/[red]%1b[2J"
"""rich's markup, and what would clear the screen if somebody decoded it."""


@pytest.fixture
def served(start: Start, folder: Path) -> Server:
    """Two workers whose answer to /slow waits until the file "go" is there."""
    (folder / "app.py").write_text(SLOW)
    return start("-w", "2", "--control", "c.sock").wait_until_ready()


@pytest.fixture
def terminal(folder: Path) -> Iterator[Tmux]:
    with Tmux(folder) as tmux:
        tmux.begin()
        yield tmux


def watch(terminal: Tmux, *, before: str = "", which: str = "--control c.sock") -> None:
    """Begin to look, after a word that is on the shell's screen."""
    command = f"{FORKSERVE} top {which} --interval 0.2"
    terminal.type(f"echo of the shell; {before} {command}; echo exit code $?")
    terminal.wait_for("the screen of top", lambda: "last events" in terminal.text)


def rows(terminal: Tmux) -> dict[int, str]:
    """The row of each worker, by its id."""
    found = [re.match(r" +(\d+)  .*", line) for line in terminal.lines]
    return {int(row[1]): " ".join(row[0].split()) for row in found if row}


def titles(terminal: Tmux) -> set[str]:
    found = [line for line in terminal.lines if line.startswith("worker ")]
    return set(found[0].split()) if found else set()


def pids(terminal: Tmux) -> set[int]:
    return {int(row.split()[1]) for row in rows(terminal).values()}


def wait_for_exit(terminal: Tmux, code: int) -> None:
    """Until the shell is as it was: its screen, and its keys."""
    terminal.wait_for("the shell again", lambda: f"exit code {code}" in terminal.lines)
    assert "last events" not in terminal.text
    assert "of the shell" in terminal.lines
    terminal.type("stty -a")  # which the terminal has to echo
    terminal.wait_for("its keys", lambda: "shell> stty -a" in terminal.lines)
    terminal.wait_for("its modes", lambda: bool(re.search(r"[^-]icanon.*\secho ", flat(terminal))))


def shell_is_back(terminal: Tmux) -> bool:
    lines = terminal.lines
    return "of the shell" in lines and not any("last events" in line for line in lines)


def flat(terminal: Tmux) -> str:
    return " ".join(terminal.text.split())


@needs_tmux
def test_it_shows_what_happens(served: Server, terminal: Tmux, folder: Path) -> None:
    watch(terminal)
    terminal.wait_for("both workers", lambda: set(rows(terminal)) == {1, 2})
    assert pids(terminal) == served.worker_pids()
    assert "app:app  serving  2 of 2 ready  generation 1" in terminal.lines[0]
    assert f"http://127.0.0.1:{served.port}" in terminal.lines[1]

    # A worker that is killed goes, and another comes.
    victim = int(rows(terminal)[1].split()[1])
    os.kill(victim, signal.SIGKILL)
    terminal.wait_for("its replacement", lambda: " ready " in rows(terminal).get(3, ""))
    terminal.wait_for("two", lambda: set(rows(terminal)) == {2, 3})
    assert pids(terminal) == served.worker_pids()
    assert f"worker 1 (pid {victim}, generation 1) was ended by SIGKILL" in terminal.text

    # A request that takes long, and whose path means no good.
    answers: list[str] = []
    asked = threading.Thread(target=lambda: answers.append(served.get(MARKUP)), daemon=True)
    asked.start()
    row = re.compile(r"\d+ \d+ 1 ready .* 1 [\d.]+ m?s GET " + re.escape(MARKUP))
    terminal.wait_for("the request", lambda: any(map(row.fullmatch, rows(terminal).values())))
    assert "1 in flight" in terminal.lines[1]

    # Whatever its size, it is whole.
    def whole() -> bool:
        lines = terminal.lines
        # What the last failure was may take more than one.
        first = [line for line in lines if not line.startswith(" " * 10)]
        beginnings = [" ".join(line.split()[:1]) for line in first[:7]]
        wanted = ["app:app", "0.0", "last", "worker", "2", "3", "last"]
        return beginnings == wanted and "GET /slow/[red]" in "".join(lines)

    terminal.resize(72, 12)
    terminal.wait_for("a smaller one", lambda: {"phase"} == titles(terminal) & {"phase", "pid"})
    terminal.wait_for("all of it", whole)
    terminal.resize(170, 40)
    terminal.wait_for("a larger one", lambda: titles(terminal) > {"age", "pid"})
    terminal.wait_for("all of it", whole)

    (folder / "go").touch()
    terminal.wait_for("the answer", lambda: bool(answers))
    terminal.wait_for("that it is answered", lambda: "0 in flight" in terminal.text)
    terminal.press("q")
    wait_for_exit(terminal, 0)
    assert served.stop() == 0


@needs_tmux
def test_it_ends_with_the_master(served: Server, terminal: Tmux) -> None:
    watch(terminal)
    assert "\x1b[32mserving" in terminal.styled
    assert served.stop() == 0
    gone = "another is looked for"
    terminal.wait_for("that it has gone", lambda: gone in terminal.lines[0])
    wait_for_exit(terminal, 1)
    said = f"the master (pid {served.pid}) has gone, and no other has come in its place"
    assert f"forkserve: {said}" in terminal.lines


def shows(terminal: Tmux, server: Server) -> Callable[[], bool]:
    """Whether it watches the master that serves now."""
    head = re.compile(rf"app:app  serving .*  pid {server.pid}(  |$)")
    return lambda: bool(head.match(terminal.lines[0])) and pids(terminal) == server.worker_pids()


@needs_tmux
def test_it_goes_on_with_the_new_master_of_an_upgrade(
    start: Start, terminal: Tmux, folder: Path
) -> None:
    (folder / "app.py").write_text(SLOW)
    server = start("-w", "2").wait_until_ready()
    watch(terminal, before=f"set -m; XDG_RUNTIME_DIR={folder}", which=f"--pid {server.pid}")
    terminal.wait_for("the first master", shows(terminal, server))

    # The old one lives on as long as one of its requests does.
    answers: list[str] = []
    asked = threading.Thread(target=lambda: answers.append(server.get("/slow")), daemon=True)
    asked.start()
    terminal.wait_for("the request", lambda: "GET /slow" in terminal.text)
    assert server.upgrade() == "done"
    terminal.wait_for("the second", shows(terminal, server))
    assert not answers
    assert server.process.poll() is None
    (folder / "go").touch()
    server.wait_for_log(r"the old master \(pid \d+\) has left")

    # All of the next one passes unseen.
    terminal.press("C-z")
    terminal.wait_for("the shell", lambda: shell_is_back(terminal))
    second, since = server.pid, server.mark()
    assert server.upgrade() == "done"
    server.wait_for_log(rf"the old master \(pid {second}\) has left", since=since)
    terminal.type("fg")
    terminal.wait_for("the third", shows(terminal, server))
    terminal.press("q")
    terminal.wait_for("the shell again", lambda: shell_is_back(terminal))
    assert server.stop() == 0


@needs_tmux
def test_it_goes_on_with_whoever_is_there_after_a_death(
    served: Server, terminal: Tmux, folder: Path
) -> None:
    watch(terminal)
    (folder / "app.py").write_text(HELD + SLOW)
    (folder / "held").touch()
    served.signal(signal.SIGUSR2)
    heir = served.wait_for_log(r"a new master \(pid (\d+)\) starts")[1]
    served.wait_for_log("starts to replace master pid")
    upgrades = f"  upgrading to pid {heir}"
    terminal.wait_for("that it upgrades", lambda: upgrades in terminal.lines[0])
    served.signal(signal.SIGKILL)
    starts = re.compile(rf"app:app  starting .*  pid {heir}(  |$)")
    terminal.wait_for("the new one", lambda: bool(starts.match(terminal.lines[0])))
    (folder / "held").unlink()
    served.wait_for_log(r"goes on alone")
    terminal.wait_for("that it serves", shows(terminal, served))
    terminal.press("q")
    wait_for_exit(terminal, 0)
    assert served.stop() == 0


@needs_tmux
def test_it_ends_while_the_master_is_silent(served: Server, terminal: Tmux) -> None:
    watch(terminal)
    served.signal(signal.SIGSTOP)
    try:
        terminal.wait_for("that it is silent", lambda: "no answer for" in terminal.lines[0])
        terminal.press("q")
        wait_for_exit(terminal, 0)
    finally:
        served.signal(signal.SIGCONT)
    assert served.stop() == 0


@needs_tmux
def test_however_it_ends_the_terminal_is_as_it_was(served: Server, terminal: Tmux) -> None:
    for how in ("C-c", "C-\\", "SIGTERM", "SIGHUP"):
        watch(terminal)
        if how.startswith("SIG"):
            os.kill(terminal.program, signal.Signals[how])
        else:
            terminal.press(how)
        wait_for_exit(terminal, 0)
        assert terminal.shows_its_cursor
        terminal.begin()
    assert served.stop() == 0


@needs_tmux
def test_it_ends_with_its_terminal(served: Server, terminal: Tmux) -> None:
    watch(terminal)
    pid = terminal.program
    terminal.hang_up()
    served.wait_for("its end", lambda: is_gone(pid))
    assert served.stop() == 0


@needs_tmux
def test_it_can_be_suspended(served: Server, terminal: Tmux) -> None:
    watch(terminal, before="set -m;")
    terminal.press("C-z")
    terminal.wait_for("the shell", lambda: shell_is_back(terminal))
    terminal.type("fg")
    terminal.wait_for("the screen of top again", lambda: "last events" in terminal.text)
    terminal.press("q")
    terminal.wait_for("the shell again", lambda: shell_is_back(terminal))
    assert served.stop() == 0


@needs_tmux
@pytest.mark.parametrize("variable", ["NO_COLOR=1", "TERM=dumb"])
def test_without_colours(served: Server, terminal: Tmux, variable: str) -> None:
    watch(terminal, before=variable)
    assert not re.search(r"\x1b\[[\d;]*3[0-7]m", terminal.styled)
    terminal.press("q")
    terminal.wait_for("the end", lambda: "exit code 0" in terminal.text)
    assert served.stop() == 0


def top(without: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run it without a terminal, and without these libraries."""
    code = (
        f"import sys; sys.argv[0] = 'forkserve'; sys.modules |= {dict.fromkeys(without)}; "
        "from forkserve.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "top"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_a_terminal_it_says_what_is_there_instead() -> None:
    done = top()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "forkserve: top needs a terminal; `forkserve status` tells the same once, anywhere.\n"
    )


def test_without_rich_it_says_how_to_get_it() -> None:
    done = top(without=["rich"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "forkserve: top needs the package rich, which is missing; "
        "`pip install 'forkserve[monitor]'` brings it.\n"
    )
