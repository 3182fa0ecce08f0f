"""What the fault handler of a real process has written, made readable."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from forkserve.master import stacks
from forkserve.master.stacks import readable

THREADS = """
import faulthandler, sys, threading

def crunch():
    faulthandler.dump_traceback(open(sys.argv[1], "w"), all_threads=True)

def idle():
    begun.release()
    lock.acquire()

begun, lock = threading.Semaphore(0), threading.Lock()
lock.acquire()
for _ in range(5):
    threading.Thread(target=idle, daemon=True).start()
    begun.acquire()
crunch()
"""

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(stacks.__file__)))


def test_the_loops_thread_comes_first_and_what_is_alike_once(tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    subprocess.run([sys.executable, "-c", THREADS, str(dump)], check=True, timeout=60)
    raw = dump.read_text()
    assert raw.index("in idle") < raw.index("in crunch")  # else there is nothing to be turned
    text = readable(raw)
    lines = text.splitlines()
    assert lines[0].startswith("Current thread 0x")
    assert lines[1].endswith("in crunch")
    # The last of them may still be on its way to where the others wait.
    assert text.count("in idle") <= 2
    assert re.search(r"^  and (another|\d more) like it$", text, re.MULTILINE)


def test_a_fatal_error_is_all_that_counts(tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    code = (
        "import faulthandler, sys\n"
        "file = open(sys.argv[1], 'a')\n"
        "faulthandler.enable(file)\n"
        "faulthandler.dump_traceback(file)\n"
        "def dies(): faulthandler._sigsegv()\n"
        "dies()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(dump)], timeout=60, check=False)
    assert done.returncode == -signal.SIGSEGV
    raw = dump.read_text()
    assert raw.startswith("Current thread 0x")
    assert readable(raw).startswith("Fatal Python error: Segmentation fault")
    assert "in dies" in readable(raw)


def frame(path: str, function: str) -> str:
    return f'  File "{path}", line 3 in {function}\n'


HEADER = "Current thread 0x0000000000000001 (most recent call first):\n"
STANDARD = os.path.dirname(os.__file__)
INSTALLED = "/srv/venv/lib/python3.11/site-packages"

START = (
    frame(f"{INSTALLED}/uvicorn/server.py", "run")
    + frame(f"{PACKAGE}/worker/serve.py", "serve")
    + frame(f"{PACKAGE}/worker/birth.py", "live_and_leave")
    + frame(f"{STANDARD}/functools.py", "_method")
    + frame(f"{PACKAGE}/cli.py", "main")
    + frame("/srv/venv/bin/forkserve", "<module>")
)


def test_the_apps_frames_are_marked_and_its_callers_named() -> None:
    dump = (
        HEADER
        + frame(f"{STANDARD}/threading.py", "acquire")
        + frame(f"{STANDARD}/ssl.py", "read")
        + frame(f"{INSTALLED}/requests/api.py", "get")
        + frame("/srv/shop/prices.py", "fetch")
        + frame(f"{INSTALLED}/fastapi/routing.py", "app")
        + frame(f"{INSTALLED}/starlette/routing.py", "app")
        + frame(f"{INSTALLED}/fastapi/routing.py", "handle")
        + frame(f"{INSTALLED}/sentry_sdk/asgi.py", "call")
        + frame("/srv/shop/middleware.py", "dispatch")
        + frame(f"{PACKAGE}/worker/tracking.py", "track")
        + START
    )
    assert readable(dump).splitlines()[1:] == [
        f'  File "{STANDARD}/threading.py", line 3 in acquire',
        f'  File "{STANDARD}/ssl.py", line 3 in read',
        f'  File "{INSTALLED}/requests/api.py", line 3 in get',
        '> File "/srv/shop/prices.py", line 3 in fetch',
        "  ... called by fastapi, starlette",
        f'  File "{INSTALLED}/sentry_sdk/asgi.py", line 3 in call',
        '> File "/srv/shop/middleware.py", line 3 in dispatch',
        "  ... called by uvicorn",
    ]


def test_what_the_app_waits_for_in_forkserve_does_not_hide_the_app() -> None:
    """As a log that nobody reads, when its pipe is full."""
    write = frame(f"{PACKAGE}/logs/lines.py", "write")
    dump = HEADER + write + frame("/srv/app.py", "crunch") + START
    assert readable(dump).splitlines()[1:] == [
        write.rstrip(),
        '> File "/srv/app.py", line 3 in crunch',
        "  ... called by uvicorn",
    ]


def test_a_loop_that_waits_is_shown_without_how_it_was_begun() -> None:
    loop = frame(f"{STANDARD}/asyncio/runners.py", "run")
    beat = frame(f"{PACKAGE}/worker/pulse.py", "beat")
    run = frame(f"{INSTALLED}/uvicorn/server.py", "run")
    assert readable(HEADER + loop + START) == (HEADER + loop + run).rstrip()
    assert readable(HEADER + beat + loop + START) == (HEADER + beat + loop + run).rstrip()
    board = frame(f"{PACKAGE}/switchboard/board.py", "turn")  # all of which is ours
    birth = frame(f"{PACKAGE}/worker/birth.py", "live_and_leave")
    assert readable(HEADER + board + birth + loop) == (HEADER + board).rstrip()
    assert readable(HEADER + birth) == (HEADER + birth).rstrip()


def test_so_is_every_thread_of_a_fatal_error() -> None:
    thread = "Thread 0x0000000000000002 (most recent call first):\n"
    dump = (
        "Fatal Python error: Segmentation fault\n\n"
        + (HEADER + frame("/srv/app.py", "dies") + START + "\n")
        + (thread + frame("/srv/app.py", "waits"))
        + "\nExtension modules: numpy (total: 1)\n"
    )
    lines = readable(dump).splitlines()
    assert lines[0] == "Fatal Python error: Segmentation fault"
    assert lines[1:4] == [
        HEADER.rstrip(),
        '> File "/srv/app.py", line 3 in dies',
        "  ... called by uvicorn",
    ]
    assert lines[4:6] == [thread.rstrip(), '> File "/srv/app.py", line 3 in waits']
    assert lines[-1] == "Extension modules: numpy (total: 1)"


def test_what_is_too_long_is_cut_at_a_line() -> None:
    frames = "".join(f'  File "/srv/app.py", line {n} in f\n' for n in range(2000))
    text = readable("Current thread 0x1 (most recent call first):\n" + frames)
    assert len(text) <= stacks.LONGEST_STACK + 4
    assert re.fullmatch(r'> File "/srv/app.py", line \d+ in f', text.splitlines()[-2])
    assert text.endswith("\n...")


def test_nothing_is_nothing() -> None:
    assert readable("") == ""
