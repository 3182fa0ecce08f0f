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


def test_what_lies_below_the_app_is_left_out() -> None:
    dump = (
        "Current thread 0x0000000000000001 (most recent call first):\n"
        '  File "/srv/app.py", line 3 in crunch\n'
        f'  File "{PACKAGE}/worker/tracking.py", line 50 in track\n'
        '  File "/usr/lib/python3/asyncio/runners.py", line 190 in run\n'
    )
    assert readable(dump).splitlines()[1:] == ['  File "/srv/app.py", line 3 in crunch']


def test_what_is_too_long_is_cut_at_a_line() -> None:
    frames = "".join(f'  File "/srv/app.py", line {n} in f\n' for n in range(2000))
    text = readable("Current thread 0x1 (most recent call first):\n" + frames)
    assert len(text) <= stacks.LONGEST_STACK + 4
    assert re.fullmatch(r'  File "/srv/app.py", line \d+ in f', text.splitlines()[-2])
    assert text.endswith("\n...")


def test_nothing_is_nothing() -> None:
    assert readable("") == ""
