"""``forkserve check``: would this app be served, and can its workers be forked?

The app is imported in a process of its own, as a template would, and the findings come
back through a pipe. What the app prints while it is imported is left where it goes.
"""

from __future__ import annotations

import asyncio
import gc
from dataclasses import asdict, dataclass, field
from functools import partial
from time import monotonic
from typing import Any

import click

from forkserve import apart, memory
from forkserve.config.hooks import ARGUMENTS
from forkserve.config.settings import Settings
from forkserve.master.capacity import Cpus
from forkserve.master.cgroups import Cgroups
from forkserve.memory import mebibytes
from forkserve.place import Place, PlaceError, settle
from forkserve.printing import to_standard_output

FIT = 0
UNFIT = 1
"""It can be served, but each worker has to import it by itself."""
WRONG_SETTINGS = 2
BROKEN = 3


@dataclass(slots=True)
class Report:
    """What has been found out. Sizes in bytes, times in seconds."""

    failure: str = ""
    """Why the app cannot be served, if it cannot."""

    details: str = ""
    import_seconds: float = 0.0
    before: int = 0
    """Memory before the import."""
    after: int = 0
    """Memory after it."""
    worker: int = 0
    """What one more worker takes of its own, forked from a template and just begun."""
    findings: list[tuple[str, str]] = field(default_factory=list)
    lifespan: str = ""


def check(settings: Settings, lifespan: bool) -> int:
    """Import the app, print the report, and return the exit code."""
    try:
        place = settle(settings)
    except PlaceError as exc:
        click.echo(f"settings   {exc}.")
        return WRONG_SETTINGS
    report = _in_a_process_of_its_own(settings, place, lifespan)
    with to_standard_output():
        _show(report, settings)
    if report.failure:
        return BROKEN
    return UNFIT if report.findings and not settings.preload else FIT


def _in_a_process_of_its_own(settings: Settings, place: Place, lifespan: bool) -> Report:
    def find_out() -> dict[str, Any]:
        place.take()
        return asdict(_examine(settings, lifespan))

    answer = apart.ask(find_out, settings.boot_timeout)
    if answer.said is not None:
        return Report(**answer.said)
    if not answer.in_time:
        limit = f"{settings.boot_timeout:g} s (--boot-timeout)"
        return Report(failure=f"{settings.app} was not imported within {limit}.")
    how = answer.code
    ending = f"was ended by signal {-how}" if how < 0 else f"exited with {how}"
    return Report(failure=f"{settings.app}: the process that imported it {ending}.")


# -- in the process that imports the app --------------------------------------------------


def _examine(settings: Settings, lifespan: bool) -> Report:
    from forkserve.hooks.calling import Hooks
    from forkserve.logs.files import STANDARD_STREAMS
    from forkserve.template import audit, sharing
    from forkserve.worker import logs
    from forkserve.worker.app import BootError
    from forkserve.worker.serve import load

    report = Report(before=memory.of_kind("Pss"))
    try:
        logs.configure(settings, STANDARD_STREAMS)
        before, began = audit.Baseline.take(), monotonic()
        Hooks(settings.hooks, settings.app_dir, ARGUMENTS)
        config = load(settings)
    except BootError as exc:
        where = f" ({exc.failure.where})" if exc.failure.where else ""
        return Report(failure=f"{exc.failure.headline}{where}", details=exc.failure.details)
    report.import_seconds = monotonic() - began
    report.findings = [(f.what, f.advice) for f in audit.audit(before)]
    report.after = memory.of_kind("Pss")
    sharing.freeze()
    begin = partial(_begin_like_a_worker, config, lifespan)
    try:
        worker = apart.ask(begin, settings.boot_timeout).said
    except apart.NoChildError as exc:
        report.failure = f"{settings.app}: {exc}"
        return report
    if worker is None:
        report.failure = f"{settings.app}: a worker that was forked from it did not start."
    else:
        report.worker, report.lifespan, failed = worker
        if failed:
            report.failure = f"{settings.app} failed in its lifespan startup."
    return report


def _begin_like_a_worker(config: Any, lifespan: bool) -> tuple[int, str, bool]:
    """Its own memory, the state of its lifespan, and whether that has failed."""
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        return runner.run(_live(config, lifespan))


async def _live(config: Any, lifespan: bool) -> tuple[int, str, bool]:
    said, failed = "", False
    if lifespan:
        began = monotonic()
        life = config.lifespan_class(config)
        await life.startup()
        failed = bool(life.should_exit)
        if not failed:
            said = f"startup complete after {monotonic() - began:.2f} s"
            await life.shutdown()
            said += ", shutdown " + ("failed" if life.shutdown_failed else "complete")
    gc.collect()
    return memory.of_kind("Private_Dirty"), said, failed


# -- the report ---------------------------------------------------------------------------


def _show(report: Report, settings: Settings) -> None:
    if report.failure:
        click.echo(f"app        {report.failure}")
        for line in report.details.splitlines():
            click.echo(f"           {line}")
        return
    click.echo(f"app        {settings.app} can be served")
    click.echo(f"import     {report.import_seconds:.2f} s")
    if report.lifespan:
        click.echo(f"lifespan   {report.lifespan}")
    if report.after:
        _show_memory(report, Cpus.look(Cgroups()).workers(settings.workers))
    if report.findings:
        click.echo("sharing    no: each worker imports the app by itself, because of")
        for what, advice in report.findings:
            click.echo(f"           - {what}: {advice}")
    else:
        click.echo("sharing    yes: workers can be forked from a template")


def _show_memory(report: Report, workers: int) -> None:
    each, shared = report.after, report.after + workers * report.worker
    click.echo(f"memory     {mebibytes(report.before)} before the import, {mebibytes(each)} after")
    number = "1 worker" if workers == 1 else f"{workers} workers"
    click.echo(
        f"           about {mebibytes(shared)} for {number} and a template, "
        f"{mebibytes(workers * each)} if each imports the app"
    )
