"""``forkserve check``: what it finds out, and its exit code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.server import APP

UNFIT = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
FAILS = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no table"})
"""


def forkserve(folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit code and the report."""
    done = subprocess.run(
        [sys.executable, "-m", "forkserve", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "forkserve/check.py" not in done.stderr  # no traceback of our own
    assert "Warning" not in done.stderr
    return done.returncode, done.stdout


def test_a_fit_app(folder: Path) -> None:
    code, said = forkserve(folder, "check", "app:app", "-w", "4", "--lifespan")
    assert code == 0
    assert "app:app can be served" in said
    assert re.search(r"import +\d+\.\d\d s", said)
    assert re.search(r"\d+ MiB before the import, \d+ MiB after", said)
    together, apart = re.search(  # type: ignore[union-attr]
        r"about (\d+) MiB for 4 workers and a template, (\d+) MiB if each", said
    ).groups()
    assert 0 < int(together) < int(apart)
    assert "startup complete after" in said
    assert "shutdown complete" in said
    assert "sharing    yes" in said


def test_an_app_that_cannot_be_shared(folder: Path) -> None:
    (folder / "app.py").write_text(UNFIT + APP)
    code, said = forkserve(folder, "check", "app:app")
    assert code == 1
    assert "sharing    no" in said
    assert 'the thread "Thread-1' in said
    assert forkserve(folder, "check", "app:app", "--preload")[0] == 0
    # It would be served all the same.
    assert forkserve(folder, "--check-config", "app:app")[0] == 0


@pytest.mark.parametrize("command", [["check", "app:app"], ["--check-config", "app:app"]])
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import nothing_like_this", "No module named 'nothing_like_this' "),
        ("import os; os._exit(9)", "the process that imported it exited with 9"),
        ("import os, signal; os.kill(os.getpid(), 9)", "was ended by signal 9"),
        ("App = None", 'no attribute "app"; did you mean "App"'),
    ],
)
def test_an_app_that_cannot_be_served(
    folder: Path, command: list[str], source: str, words: str
) -> None:
    (folder / "app.py").write_text(source)
    code, said = forkserve(folder, *command)
    assert code == 3
    assert words in said


def test_an_import_that_does_not_end(folder: Path) -> None:
    (folder / "app.py").write_text("import time; time.sleep(600)")
    code, said = forkserve(folder, "check", "app:app", "--boot-timeout", "1")
    assert code == 3
    assert "was not imported within 1 s (--boot-timeout)" in said


def test_a_lifespan_that_fails(folder: Path) -> None:
    (folder / "app.py").write_text(FAILS)
    assert forkserve(folder, "check", "app:app")[0] == 0
    code, said = forkserve(folder, "check", "app:app", "--lifespan")
    assert code == 3
    assert "failed in its lifespan startup" in said


def test_its_own_option_is_not_uvicorns(folder: Path) -> None:
    code, said = forkserve(folder, "check", "--lifespan", "--ws", "websockets-sansio", "app:app")
    assert code == 0
    assert "lifespan   startup complete" in said


def test_settings_that_contradict_each_other(folder: Path) -> None:
    for command in (["check"], []):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "forkserve", *command, "app:app"),
                *("--share", "immortal", "--no-preload"),
            ],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2
        assert "leave out --no-preload" in done.stdout + done.stderr
