"""What a command prints instead of serving, where it may not be possible to print."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


class UnprintableError(Exception):
    """The message is one sentence for the user."""


@contextlib.contextmanager
def to_standard_output() -> Iterator[None]:
    """Raises UnprintableError if what is printed inside cannot be: a full disk, or a reader that
    has gone, as head(1) does."""
    try:
        yield
    except OSError as exc:
        # What is left would be tried once more when Python ends. And further words are for nobody.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        raise UnprintableError(f"standard output cannot be written to: {exc.strerror}.") from exc
