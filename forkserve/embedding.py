"""Serving from Python instead of from the command line."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from functools import partial

from forkserve.config.given import Found, Given
from forkserve.config.reading import Sources, read


def run(app: str, *, config: str = "", **settings: object) -> None:
    """Serve ``app`` (``"module:attribute"``) until stopped, as ``forkserve APP`` does.

    Settings have the names that they have in a file, and values as in one: ``workers=4``,
    ``bind=":8000"``, ``preload=True``; None is as if it were left out. They have the last word
    over the environment and files; ``config`` is what ``-c`` is on the command line. Call it
    in the main thread, and below ``if __name__ == "__main__":``, since a worker may import the
    same module.

    Returns once the server has stopped as asked. Raises
    :class:`~forkserve.config.reading.WrongSettingsError`, a ValueError, if the settings cannot be
    used, SystemExit with the exit code that ``forkserve`` would have had if it fails, and
    RuntimeError in another thread than the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("forkserve.run() takes signals, so it has to be in the main thread")
    given = [Given("app", app, "run()")]
    given += [
        Given(name, value, f"run({name}=…)")
        for name, value in settings.items()
        if value is not None
    ]
    sources = Sources([Found(given)], config)
    reading = read(sources, os.environ)
    from forkserve.master.start import run as serve

    with _signals_as_they_are():
        code = serve(reading, partial(read, sources, os.environ))
    if code:
        sys.exit(code)


@contextlib.contextmanager
def _signals_as_they_are() -> Iterator[None]:
    """Whoever goes on after the service shall be heard on Ctrl-C as before."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)
