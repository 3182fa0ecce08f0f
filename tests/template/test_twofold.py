"""Twofold forks: whose child the new process is, and what happens when it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is a subreaper only there")


def run(script: str) -> str:
    """What ``script`` prints, in a process of its own that is a subreaper."""
    prelude = """
        import errno, os, resource, signal, sys
        from forkserve.template import twofold
        assert twofold.adopt_orphans()
        master = os.getpid()

        def in_a_template(life):
            '''Run life in a child; returns its exit code.'''
            pid = os.fork()
            if pid == 0:
                try:
                    life()
                finally:
                    os._exit(0)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(prelude) + dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_child_is_the_masters_and_outlives_the_template() -> None:
    said = run("""
        reader, writer = os.pipe()
        template_ended, hold = os.pipe()

        def child():
            os.close(hold)
            os.read(template_ended, 1)  # until the template and the master let go
            os.write(writer, b"parent %d" % os.getppid())
            os._exit(7)

        def life():
            pid = twofold.fork_for(master, child)
            os.write(writer, b"pid %d " % pid)

        in_a_template(life)
        os.close(hold)
        pid, status = os.wait()
        print(os.read(reader, 100).decode() == f"pid {pid} parent {master}",
              os.waitstatus_to_exitcode(status))
    """)
    assert said == "True 7\n"


def test_the_child_starts_with_the_master_as_its_parent_every_time() -> None:
    said = run("""
        def child():
            os._exit(0 if os.getppid() == master else 1)

        def life():
            for _ in range(200):
                twofold.fork_for(master, child)

        in_a_template(life)
        codes = [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(200)]
        print(set(codes))
    """)
    assert said == "{0}\n"


def test_signals_are_blocked_in_the_child_and_as_before_in_the_template() -> None:
    said = run("""
        def child():
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            os._exit(0 if {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1} <= mask else 1)

        def life():
            twofold.fork_for(master, child)
            os._exit(0 if not signal.pthread_sigmask(signal.SIG_BLOCK, ()) else 1)

        print(in_a_template(life), os.waitstatus_to_exitcode(os.wait()[1]))
    """)
    assert said == "0 0\n"


@pytest.mark.skipif(os.getuid() != 0, reason="it needs a user id that nobody else has")
@pytest.mark.parametrize("left", [0, 1])
def test_a_refused_fork_is_an_error_and_leaves_nothing(left: int) -> None:
    """``left``: how many forks succeed before the system refuses one."""
    said = run(f"""
        def life():
            os.setuid(100_000 + os.getpid())  # whose only process this is
            resource.setrlimit(resource.RLIMIT_NPROC, (1 + {left}, 1 + {left}))
            before = os.listdir("/proc/self/fd")
            try:
                twofold.fork_for(master, lambda: os._exit(0))
            except OSError as exc:
                same = len(os.listdir("/proc/self/fd")) == len(before)
                os._exit(50 if exc.errno == errno.EAGAIN and same else 51)

        print(in_a_template(life))
    """)
    assert said == "50\n"


def test_no_descriptor_left_is_an_error() -> None:
    said = run("""
        def life():
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
            try:
                twofold.fork_for(master, lambda: os._exit(0))
            except OSError as exc:
                os._exit(50 if exc.errno == errno.EMFILE else 51)

        print(in_a_template(life))
    """)
    assert said == "50\n"
