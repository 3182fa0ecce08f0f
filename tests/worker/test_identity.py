"""After a fork: what must differ between workers does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

DRAWN = {
    "random": ("import random", "random.random()", False),
    "uuid": ("import uuid; uuid.uuid4()", "str(uuid.uuid4())", False),
    "secrets": ("import secrets; secrets.token_hex()", "secrets.token_hex()", False),
    "ssl": ("import ssl; ssl.RAND_bytes(8)", "ssl.RAND_bytes(8).hex()", False),
    "numpy": ("import numpy.random; numpy.random.random()", "numpy.random.random()", True),
}
"""How it is imported, what is drawn, and whether reseeding is needed for that."""

SCRIPT = """
    import json, os, sys
    {load}
    from forkserve.worker import identity

    def drawn(reseed):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            if reseed:
                identity.reseed()
            os.write(writer, json.dumps({draw}).encode())
            os._exit(0)
        os.close(writer)
        os.waitpid(pid, 0)
        return json.loads(open(reader).read())

    print(json.dumps([[drawn(reseed) for _ in range(5)] for reseed in (False, True)]))
"""


@pytest.mark.parametrize("kind", DRAWN)
def test_random_numbers_differ_after_a_fork(kind: str) -> None:
    load, draw, needed = DRAWN[kind]
    if kind == "numpy":
        pytest.importorskip("numpy")
    done = subprocess.run(
        [sys.executable, "-c", dedent(SCRIPT).format(load=load, draw=draw)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    copied, reseeded = json.loads(done.stdout)
    assert len(set(reseeded)) == 5
    # What is safe on its own is so without us.
    assert len(set(copied)) == (1 if needed else 5)


def test_a_lock_of_the_log_that_was_held_at_the_fork_is_free_in_the_child() -> None:
    """Python makes the locks of ``logging`` anew after a fork; nothing of ours is needed."""
    script = """
        import logging, os, sys, threading
        logging.basicConfig(stream=sys.stdout)
        held, done = threading.Event(), threading.Event()

        def hold():
            with logging.getLogger().handlers[0].lock:
                held.set()
                done.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        pid = os.fork()
        if pid == 0:
            logging.warning("heard")
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(pid, 0)
        done.set()
        holder.join()
    """
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ,
    )
    assert "heard" in said.stdout
