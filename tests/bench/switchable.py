"""forkserve whose workers note their requests or do not: a signal switches between the two.

    python -m tests.bench.switchable -w 1 app:app

For :mod:`tests.bench.scoreboard`: one and the same process can so be compared with itself.
What a connection does is settled when it is made.
"""

from __future__ import annotations

import functools
import signal
from typing import Any

from forkserve.cli import main
from forkserve.worker.server import WorkerServer

SEEN, UNSEEN = signal.SIGUSR2, signal.SIGWINCH
"""Sent to a worker: note requests from now on, or do not."""

_begin = WorkerServer.__init__


@functools.wraps(_begin)
def _switchable(server: WorkerServer, config: Any, *others: Any, **named: Any) -> None:
    unseen = config.loaded_app
    _begin(server, config, *others, **named)
    seen = config.loaded_app

    def switch(number: int, _: Any) -> None:
        config.loaded_app = seen if number == SEEN else unseen

    for number in (SEEN, UNSEEN):
        signal.signal(number, switch)


if __name__ == "__main__":
    WorkerServer.__init__ = _switchable  # type: ignore[method-assign]
    main()
