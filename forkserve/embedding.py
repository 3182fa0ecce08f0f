"""Serving from Python instead of from the command line."""

from __future__ import annotations

import os
import sys
from functools import partial

from forkserve.config.given import Found, Given
from forkserve.config.reading import Sources, read


def run(app: str, *, config: str = "", **settings: object) -> None:
    """Serve ``app`` (``"module:attribute"``) until stopped, as ``forkserve APP`` does.

    Settings have the names that they have in a file, and values as in one: ``workers=4``,
    ``bind=":8000"``, ``preload=True``. They have the last word over the environment and files;
    ``config`` is what ``-c`` is on the command line. Call it in the main thread, and below
    ``if __name__ == "__main__":``, since a worker may import the same module.

    Returns once the server has stopped as asked. Raises
    :class:`~forkserve.config.reading.WrongSettingsError`, a ValueError, if the settings cannot be
    used, and SystemExit with the exit code that ``forkserve`` would have had if it fails.
    """
    given = [Given("app", app, "run()")]
    given += [Given(name, value, f"run({name}=…)") for name, value in settings.items()]
    sources = Sources([Found(given)], config)
    reading = read(sources, os.environ)
    from forkserve.master.start import run as serve

    if code := serve(reading, partial(read, sources, os.environ)):
        sys.exit(code)
