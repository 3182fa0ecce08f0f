"""What comes before a reload: somebody asks for it, and the settings are read again.

With ``--reload`` it is a file that asks, by its having changed.
"""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable
from functools import partial

from forkserve.config.reading import Reading
from forkserve.config.settings import Settings
from forkserve.master.kernel import Kernel
from forkserve.master.logbook import log
from forkserve.master.rereading import Reread, Rereading
from forkserve.master.watching import Watching
from forkserve.supervisor.failures import BootFailure


class Reloads:
    """At most one child that reads the settings, and one that watches files."""

    def __init__(
        self,
        kernel: Kernel,
        selector: selectors.BaseSelector,
        reread: Reread | None,
        go_on: Callable[[Reading | BootFailure | None], None],
    ) -> None:
        """``go_on`` is told what was read, or why it cannot be used; None: there is nothing
        to read."""
        self._kernel = kernel
        self._selector = selector
        self._reread = reread
        self._go_on = go_on
        self._rereading: Rereading | None = None
        self._watching: Watching | None = None

    def begin(self) -> None:
        """Read the settings. Whoever reads them already may have missed what is new: then
        they are read once more."""
        if self._rereading is not None:
            self._rereading.outdated = True
        elif self._reread is None:
            self._go_on(None)
        else:
            self._fork(self._reread)

    def _fork(self, reread: Reread) -> None:
        try:
            self._rereading = Rereading(self._kernel, reread)
        except OSError as exc:
            self._go_on(BootFailure(f"The settings could not be read: {exc.strerror}."))
        else:
            self._selector.register(self._rereading, selectors.EVENT_READ, self._hear_settings)

    def _hear_settings(self) -> None:
        rereading = self._rereading
        if rereading is None or not rereading.is_complete():
            return
        self._selector.unregister(rereading)
        rereading.close()
        self._rereading = None
        if rereading.outdated:
            self.begin()
        else:
            self._go_on(rereading.result())

    def watch(self, settings: Settings, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever a file has changed that a developer works on."""
        try:
            watching = self._watching = Watching(self._kernel, settings)
        except OSError as exc:
            log.error("files cannot be watched: %s; reload with SIGHUP", exc.strerror)
            return
        hear = partial(self._hear_of_changes, watching, changed)
        self._selector.register(watching, selectors.EVENT_READ, hear)

    def _hear_of_changes(self, watching: Watching, changed: Callable[[], None]) -> None:
        if path := watching.changed():
            log.info("%s has changed", _from_here(path))
            changed()
        if watching.ended:
            log.error("files are watched no more: the process that did has ended")
            self._selector.unregister(watching)
            watching.close()
            self._watching = None

    def close(self) -> None:
        for pipe in (self._rereading, self._watching):
            if pipe is not None:
                pipe.close()


def _from_here(path: str) -> str:
    try:
        return os.path.relpath(path)
    except OSError:
        return path  # the directory itself has been removed
