"""SIGUSR1: the log files are opened anew, by everybody, after logrotate(8) has moved them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from forkserve.channel import LogReopened
from forkserve.logs.files import LogFile, LogFiles, open_log, put_in_place
from forkserve.master.family import Child
from forkserve.master.logbook import log


class Rotation:
    """Opens the files, passes them on, and knows who still writes to the old ones."""

    def __init__(self, log_files: LogFiles) -> None:
        self._files = log_files.files
        self._behind: dict[int, int] = {}
        """How many files a child has not taken over yet, by the id of its object."""

    def reopen(self, children: Sequence[Child], because: str = "SIGUSR1") -> bool:
        """A file that cannot be opened stays as it is, and so do all who write to it.

        ``because`` says who asked. Returns whether all that there are have been opened.
        """
        if not self._files:
            log.info("%s: the log goes to no file, so there is none to open anew", because)
            return True
        opened = [file.path for file in self._files if self._reopen(file, children, because)]
        if opened:
            number = sum(1 for child in children if id(child) in self._behind)
            also = f"; {number} more {'process is' if number == 1 else 'processes are'} told"
            files = " and ".join(opened)
            log.info("%s: %s opened anew%s", because, files, also if number else "")
        return len(opened) == len(self._files)

    def _reopen(self, file: LogFile, children: Sequence[Child], because: str) -> bool:
        try:
            new = open_log(file.path)
        except OSError as exc:
            log.error(
                "%s: %s cannot be opened anew (%s); its lines go on into the file that is "
                "open, until it is tried again",
                because,
                file.path,
                exc.strerror,
            )
            return False
        put_in_place(new, file.fd)
        for child in children:
            if child.channel.offer(LogReopened(file.fd), (new,)):
                self._behind[id(child)] = self._behind.get(id(child), 0) + 1
        os.close(new)
        return True

    def switched(self, child: Child) -> None:
        """It has taken one over."""
        left = self._behind.get(id(child), 1) - 1
        if left:
            self._behind[id(child)] = left
        else:
            self.gone(child)

    def gone(self, child: Child) -> None:
        """It writes to no old file: for it has none, or has ended."""
        if self._behind.pop(id(child), None) is not None and not self._behind:
            log.info("every process writes to the new log files; the old ones stay as they are now")
