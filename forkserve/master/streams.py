"""The standard streams, which a careless parent may have closed."""

from __future__ import annotations

import os


def fill_the_gaps() -> None:
    """Open ``/dev/null`` in the place of each standard stream that is closed.

    The next file that is opened takes the lowest free number (open(2)), so what is written
    to standard error would go to the listening socket, or to a client.
    """
    for stream in (0, 1, 2):
        try:
            os.fstat(stream)
        except OSError:
            taken = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(taken, True)  # as standard streams are
