"""From the settings to a master that serves: what is opened first, and why it may be refused."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial

from forkserve import titles
from forkserve.config.bind import BindError
from forkserve.config.monitor import TokenError
from forkserve.config.reading import Reading
from forkserve.config.settings import Settings
from forkserve.config.values import AUTO
from forkserve.logs.files import LogFiles, make_sure_of_standard_streams
from forkserve.master import logbook
from forkserve.master.capacity import Cpus
from forkserve.master.cgroups import Cgroups
from forkserve.master.door import Door
from forkserve.master.inheritance import Inheritance
from forkserve.master.kernel import Posix
from forkserve.master.listeners import listen
from forkserve.master.main import Master, Surroundings
from forkserve.master.monitoring import (
    is_open_to_all,
    listen_for_the_monitor,
    what_is_the_services,
)
from forkserve.master.origin import Origin
from forkserve.master.pidfile import PidFile, PidFileError
from forkserve.master.rereading import Reread
from forkserve.place import PlaceError, settle
from forkserve.supervisor.state import Policy, Preload
from forkserve.template.twofold import adopt_orphans
from forkserve.trace.recorder import Recorder


class RefusalError(Exception):
    """The master cannot start. The message is one sentence for the user."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        """The exit code."""


def run(
    reading: Reading,
    reread: Reread | None = None,
    origin: Origin | None = None,
    inheritance: Inheritance | None = None,
) -> int:
    """Serve until stopped. Returns the exit code of the process.

    ``reread`` reads the settings anew for a reload; without it they stay as they are.
    ``origin``: how this process was started, as seen before anything else was done.
    ``inheritance``: what the master has left that this one is to replace.
    """
    origin = origin or Origin.of_this_process()
    make_sure_of_standard_streams()
    with ExitStack() as opened:
        try:
            master = _prepare(reading, reread, origin, inheritance, opened)
        except RefusalError as exc:
            logbook.to_stderr(str(exc))
            if inheritance is not None:
                inheritance.tell(str(exc))
            return exc.code
        return master.run()


def _prepare(
    reading: Reading,
    reread: Reread | None,
    origin: Origin,
    inheritance: Inheritance | None,
    opened: ExitStack,
) -> Master:
    """Open all that a master needs, to be closed by ``opened``. Raises RefusalError."""
    settings = reading.settings
    cgroups = Cgroups()
    try:
        place = settle(settings)
    except PlaceError as exc:
        raise RefusalError(2, str(exc)) from exc
    titles.show("master", "forkserve", settings.name)
    can_adopt = settings.preload is not False and adopt_orphans()
    if settings.preload and not can_adopt:
        raise RefusalError(2, "--preload needs Linux (a child subreaper, prctl(2)); leave it out")
    log_files = _open_logs(reading)
    try:
        inherited = inheritance.listeners if inheritance else ()
        listeners = listen(settings, what_is_the_services(inherited))
        for listener in listeners:
            opened.callback(listener.close)
        monitor = listen_for_the_monitor(settings, inherited)
        if monitor is not None:
            opened.callback(monitor.close)
        pidfile = _pidfile(settings, inheritance)
    except (BindError, PidFileError) as exc:
        raise RefusalError(1, str(exc)) from exc
    except TokenError as exc:
        raise RefusalError(2, str(exc)) from exc
    if pidfile is not None:
        opened.callback(pidfile.remove)
    door = Door(settings.control, settings.pid)
    opened.callback(door.close)
    recorder = _recorder(settings, [listener.url for listener in listeners])
    if recorder is not None:
        opened.callback(recorder.close)
    policy = partial(policy_of, can_adopt=can_adopt, cgroups=cgroups)
    found = Surroundings(
        listeners,
        Posix(),
        log_files,
        cgroups,
        place,
        origin,
        door,
        inheritance,
        pidfile,
        recorder,
        monitor,
        tuple(_remarks(settings, cgroups)),
    )
    try:
        return Master(settings, policy, found, reread)
    except OSError as exc:
        raise RefusalError(1, f"cannot start: {exc.strerror}; see `ulimit -n`") from exc


def _open_logs(reading: Reading) -> LogFiles:
    settings = reading.settings
    try:
        log_files = LogFiles.open(settings.error_logfile, settings.access_logfile or "-")
    except OSError as exc:
        sentence = f"the log file {exc.filename} cannot be opened: {exc.strerror}"
        raise RefusalError(2, sentence) from exc
    logbook.configure(settings, log_files.fds)
    for note in reading.notes:
        logbook.log.warning("%s", note)
    return log_files


def _recorder(settings: Settings, urls: Sequence[str]) -> Recorder | None:
    if settings.trace is None:
        return None
    try:
        return Recorder(settings.trace, settings.trace_size, settings.app, urls)
    except OSError as exc:
        sentence = f"the trace {settings.trace} cannot be written: {exc.strerror}"
        raise RefusalError(2, sentence) from exc


def _pidfile(settings: Settings, inheritance: Inheritance | None) -> PidFile | None:
    """Ours, or the predecessor's as long as that lends it to us. Raises PidFileError."""
    lent = inheritance.pidfile if inheritance else None
    if settings.pid is not None and lent is not None and PidFile.is_at(settings.pid, lent):
        return PidFile.adopt(settings.pid, lent)
    if lent is not None:
        os.close(lent)
    return PidFile.claim(settings.pid) if settings.pid is not None else None


def _remarks(settings: Settings, cgroups: Cgroups) -> Iterator[tuple[int, str]]:
    """What is to be said of the settings, each with its level."""
    if settings.name is not None and not titles.can_be_shown():
        yield logging.WARNING, titles.NOT_SHOWN
    if why := is_open_to_all(settings):
        yield logging.WARNING, why
    cpus = Cpus.look(cgroups)
    if settings.workers == AUTO:
        yield logging.INFO, cpus.why_so_many()
    elif why := cpus.too_many(settings.workers):
        yield logging.WARNING, why


def _has_a_switchboard(settings: Settings) -> bool:
    return settings.switchboard != "off" and sys.platform == "linux"


def policy_of(settings: Settings, can_adopt: bool, cgroups: Cgroups) -> Policy:
    """What the supervisor needs to know of the settings, and of the system."""
    workers = Cpus.look(cgroups).workers(settings.workers)
    wish = {True: Preload.ALWAYS, False: Preload.NEVER, None: Preload.AUTO}[settings.preload]
    surge = settings.surge if settings.surge is not None else max(1, workers // 4)
    return Policy(
        workers=workers,
        surge=surge,
        timeout=settings.timeout,
        slow_threshold=settings.slow_threshold,
        boot_timeout=settings.boot_timeout,
        graceful_timeout=settings.graceful_timeout,
        preload=wish if can_adopt else Preload.NEVER,
        spares=settings.spares,
        switchboard=_has_a_switchboard(settings),
        seed=int.from_bytes(os.urandom(4), "big"),
    )
