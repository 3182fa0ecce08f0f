"""Every setting of forkserve's own, declared once.

A setting is a field of :class:`Settings`; its metadata holds the rest of its declaration. From
that come the command line, the environment variable, the name in a file, ``--print-config`` and
the README's tables. Adding a setting is adding a field. What uvicorn can be told besides comes
from uvicorn itself: see :mod:`forkserve.config.uvicorn_options`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from enum import Enum
from typing import Any

from forkserve.config.bind import AnyBind, Bind, UnixBind, parse_bind
from forkserve.config.hooks import Hook
from forkserve.config.kinds import (
    Kind,
    choice,
    existing,
    logging_config,
    many,
    named,
    octal,
    seconds,
    size,
    switch,
    text,
    whole,
)
from forkserve.config.monitor import parse_monitor
from forkserve.config.owner import Owner, parse_owner
from forkserve.config.values import (
    MOST_WORKERS,
    Mode,
    parse_app,
    parse_function,
    parse_mode,
    parse_name,
    parse_path,
    parse_umask,
    parse_variable,
    parse_worker_env,
    parse_workers,
    show_variable,
)
from forkserve.logs.atoms import parse_access_format
from forkserve.logs.syslog import DEFAULT_ADDRESS, FACILITIES, parse_syslog_address


class Group(Enum):
    """Where a setting stands in ``--help`` and in the README."""

    APP = "The app"
    SOCKETS = "Sockets"
    WORKERS = "Workers"
    START = "Start"
    CONNECTIONS = "Connections"
    RECYCLING = "Recycling"
    PEOPLE = "Rights and names"
    DEVELOPMENT = "Development"
    LOGS = "Logs"
    MONITOR = "Monitor"
    UVICORN = "Passed to uvicorn"


@dataclass(frozen=True, slots=True)
class Option:
    """The declaration of one setting."""

    name: str
    """In a file, and the parameter of :func:`forkserve.run`."""

    flags: tuple[str, ...]
    off: tuple[str, ...]
    """The flags that switch it off."""

    kind: Kind
    default: Any
    help: str
    group: Group

    otherwise: str = ""
    """What happens by default, where the default value does not say it."""

    fixed: bool = False
    """It counts as it was at the start; a reload does not change it."""

    secret: bool = False
    """Its value is never shown."""

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"FORKSERVE_{self.name.upper()}"


def setting(
    default: Any,
    *flags: str,
    kind: Kind,
    group: Group,
    help: str,
    off: tuple[str, ...] = (),
    otherwise: str = "",
    fixed: bool = False,
) -> Any:
    """A field of :class:`Settings` with its declaration."""
    declared = {"flags": flags, "off": off, "kind": kind, "group": group, "help": help}
    more = {"otherwise": otherwise, "fixed": fixed}
    return field(default=default, metadata=declared | more)


def _as_it_is(parse: Callable[[str], object]) -> Callable[[str], str]:
    """Only checks: what is kept is the text."""

    def checked(text: str) -> str:
        parse(text)
        return text

    return checked


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user wants. Times in seconds, sizes in bytes."""

    app: str = setting(
        "",
        kind=text("MODULE:ATTRIBUTE", parse_app),
        group=Group.APP,
        help="What to serve. On the command line it stands alone: the argument APP.",
    )
    app_dir: str = setting(
        ".",
        "--app-dir",
        kind=text("DIRECTORY"),
        group=Group.APP,
        help="Look for APP here first.",
    )
    factory: bool = setting(
        False,
        "--factory",
        kind=switch(),
        group=Group.APP,
        help="APP is a function that returns the app.",
    )
    env: tuple[tuple[str, str], ...] = setting(
        (),
        "-e",
        "--env",
        kind=many(text("NAME=VALUE", parse_variable, show_variable)),
        group=Group.APP,
        help="Set in the environment before the app is imported. May be given several times.",
    )
    bind: tuple[AnyBind, ...] = setting(
        (),
        "-b",
        "--bind",
        kind=many(text("ADDRESS", parse_bind), split=","),
        group=Group.SOCKETS,
        fixed=True,
        help="Where to listen: HOST:PORT, :PORT (every IPv4 interface), [IPV6]:PORT; port 0 takes "
        "a free one; unix:PATH; fd://NUMBER or fd://NAME, a socket that was passed in. May be "
        "given several times.",
        otherwise="the sockets that systemd has passed, or 127.0.0.1:8000",
    )
    backlog: int = setting(
        2048,
        "--backlog",
        kind=whole(1, (1 << 31) - 1),
        group=Group.SOCKETS,
        fixed=True,
        help="How many connections may wait to be accepted, for each address; the system may cap "
        "it (Linux: net.core.somaxconn). A socket that was passed in keeps its own.",
    )
    reuse_port: bool = setting(
        False,
        "--reuse-port",
        kind=switch(),
        group=Group.SOCKETS,
        fixed=True,
        help="Let other processes of the same user listen on the same port (SO_REUSEPORT).",
    )
    unix_mode: Mode = setting(  # noqa: RUF009  # it does not change
        Mode(0o666),
        "--unix-mode",
        kind=octal("MODE", parse_mode),
        group=Group.SOCKETS,
        fixed=True,
        help="Permissions of the files of Unix sockets, in octal; who may write may connect.",
    )
    unix_owner: Owner | None = setting(  # noqa: RUF009  # nor does this
        None,
        "--unix-owner",
        kind=text("USER[:GROUP]", parse_owner),
        group=Group.SOCKETS,
        fixed=True,
        help="Owner of the files of Unix sockets.",
        otherwise="the user who starts forkserve",
    )
    workers: int = setting(
        1,
        "-w",
        "--workers",
        kind=Kind(lambda v: parse_workers(str(v)), "NUMBER|auto", lambda n: n or "auto"),
        group=Group.WORKERS,
        help="How many workers to keep ready; auto: one for each CPU that may be used, by the CPU "
        "quota of the container too.",
    )
    spares: int = setting(
        0,
        "--spares",
        kind=whole(0, 512),
        group=Group.WORKERS,
        fixed=True,
        help="How many more workers to keep ready that accept nothing until one dies.",
    )
    surge: int | None = setting(
        None,
        "--surge",
        kind=whole(1, 512),
        group=Group.WORKERS,
        help="How many workers above --workers may live while a reload or recycling replaces them.",
        otherwise="a quarter of the workers, at least 1",
    )
    timeout: float = setting(
        30.0,
        "-t",
        "--timeout",
        kind=seconds(),
        group=Group.WORKERS,
        help="Kill and replace a worker whose event loop has not turned for so long, with its "
        "stacks in the log; 0: never.",
    )
    slow_threshold: float = setting(
        0.0,
        "--slow-threshold",
        kind=seconds(none=True),
        group=Group.WORKERS,
        help="Show in the log where a worker's event loop is blocked, and by which request, when "
        "it has not turned for so long (1s, 500ms, 0.5); the worker goes on. 0 or none: never.",
    )
    graceful_timeout: float = setting(
        30.0,
        "--graceful-timeout",
        kind=seconds(),
        group=Group.WORKERS,
        help="How long a leaving worker may take to finish its requests.",
    )
    worker_env: tuple[tuple[str, str], ...] = setting(
        (),
        "--worker-env",
        kind=many(text("NAME=VALUE", parse_worker_env, "=".join)),
        group=Group.WORKERS,
        help="Set in each worker's environment, with {slot}, {worker_id} and {generation} filled "
        "in. May be given several times.",
    )
    boot_timeout: float = setting(
        120.0,
        "--boot-timeout",
        kind=seconds(),
        group=Group.START,
        help="Kill a worker, or a template, that is not ready after so long; 0: never.",
    )
    preload: bool | None = setting(
        None,
        "--preload",
        off=("--no-preload",),
        kind=switch(),
        group=Group.START,
        help="Import the app in a template that forks the workers, whatever is found in it, or in "
        "each worker.",
        otherwise="in a template, if nothing is found that cannot be shared",
    )
    share: str = setting(
        "frozen",
        "--share",
        kind=choice("frozen", "immortal"),
        group=Group.START,
        help="How the template's memory stays shared: kept from the garbage collector, or from "
        "reference counting too (Python 3.12 or newer).",
    )
    warmup: str | None = setting(
        None,
        "--warmup",
        kind=text("MODULE:FUNCTION", parse_function),
        group=Group.START,
        help="Call this after the import, in the template if there is one: to load a model, say.",
    )
    warm_path: tuple[str, ...] = setting(
        (),
        "--warm-path",
        kind=many(text("PATH", parse_path)),
        group=Group.START,
        help="Have the app answer GET PATH five times after the import, before its lifespan and "
        "without a socket: first requests are faster then, and workers smaller. May be given "
        "several times.",
    )
    ready_path: str | None = setting(
        None,
        "--ready-path",
        kind=text("PATH", parse_path),
        group=Group.START,
        help="A worker is ready only once its own app has answered GET PATH with 2xx or 3xx.",
    )
    keep_alive: float = setting(
        5.0,
        "--keep-alive",
        kind=seconds(),
        group=Group.CONNECTIONS,
        help="Close a connection that has been idle for so long, and up to two seconds more: such "
        "connections are looked at once a second. Below 2 to the point; at the switchboard up to "
        "a second more.",
    )
    header_timeout: float = setting(
        10.0,
        "--header-timeout",
        kind=seconds(),
        group=Group.CONNECTIONS,
        help="Close a connection on which the head of a request is not complete after so long; "
        "0: never.",
    )
    max_header_size: int = setting(
        64 * 1024,
        "--max-header-size",
        kind=size(),
        group=Group.CONNECTIONS,
        help="Refuse a request whose head is longer, with 431; 0: no limit.",
    )
    worker_concurrency: int = setting(
        0,
        "--worker-concurrency",
        kind=whole(),
        group=Group.CONNECTIONS,
        help="How many requests a worker may have in flight; while it has so many, new connections "
        "wait in the kernel's queue for whichever worker is free first; 0: any number.",
    )
    switchboard: str = setting(
        "auto",
        "--switchboard",
        kind=choice("auto", "on", "off"),
        group=Group.CONNECTIONS,
        fixed=True,
        help="Whether idle keep-alive connections wait at the switchboard, from which any free "
        "worker takes the next request: while handlers are slow (auto), always, or never.",
    )
    max_requests: int = setting(
        0,
        "--max-requests",
        kind=whole(),
        group=Group.RECYCLING,
        help="Recycle a worker after so many requests, its replacement first; 0: never.",
    )
    max_requests_jitter: int = setting(
        0,
        "--max-requests-jitter",
        kind=whole(),
        group=Group.RECYCLING,
        help="Add up to so many at random to --max-requests, for each worker anew.",
    )
    max_rss: int = setting(
        0,
        "--max-rss",
        kind=size(),
        group=Group.RECYCLING,
        help="Recycle a worker that uses more memory, such as 512M, its replacement first; what it "
        "shares counts by its share; 0: never.",
    )
    max_lifetime: float = setting(
        0.0,
        "--max-lifetime",
        kind=seconds(),
        group=Group.RECYCLING,
        help="Recycle a worker that has been ready for so long, up to a tenth less at random, its "
        "replacement first; 0: never.",
    )
    log_level: str = setting(
        "info",
        "--log-level",
        kind=choice("trace", "debug", "info", "warning", "error", "critical"),
        group=Group.LOGS,
        help="Leave out what is less important.",
    )
    log_format: str = setting(
        "text",
        "--log-format",
        kind=choice("text", "json"),
        group=Group.LOGS,
        help="Lines for people, or one JSON object a line, with the same keys in all processes.",
    )
    error_logfile: str = setting(
        "-",
        "--log-file",
        "--error-logfile",
        kind=text("PATH"),
        group=Group.LOGS,
        fixed=True,
        help="Where errors, and what the master says, are written to; -: standard error. SIGUSR1 "
        "opens it anew.",
    )
    access_logfile: str | None = setting(
        None,
        "--access-logfile",
        kind=text("PATH"),
        group=Group.LOGS,
        fixed=True,
        help="Where a line for each request is written to; -: standard output. SIGUSR1 opens it "
        "anew.",
        otherwise="-, if --log-level is info or below",
    )
    access_logformat: str | None = setting(
        None,
        "--access-logformat",
        kind=text("FORMAT", parse_access_format),
        group=Group.LOGS,
        help="The line for each request, with gunicorn's atoms, such as %(h)s, %(D)s and "
        "%({user-agent}i)s.",
        otherwise="uvicorn's line",
    )
    log_syslog: bool = setting(
        False,
        "--log-syslog",
        kind=switch(),
        group=Group.LOGS,
        help="Send both logs to a syslog daemon too.",
    )
    log_syslog_to: str = setting(
        DEFAULT_ADDRESS,
        "--log-syslog-to",
        kind=text("ADDRESS", _as_it_is(parse_syslog_address)),
        group=Group.LOGS,
        help="Where it listens: unix://PATH or udp://HOST:PORT.",
    )
    log_syslog_prefix: str = setting(
        "forkserve",
        "--log-syslog-prefix",
        kind=text("NAME"),
        group=Group.LOGS,
        help="The program's name in its messages; .access is added for requests.",
    )
    log_syslog_facility: str = setting(
        "user",
        "--log-syslog-facility",
        kind=choice(*FACILITIES),
        group=Group.LOGS,
        help="The facility of its messages.",
    )
    log_config: str | Mapping[str, Any] | None = setting(
        None,
        "--log-config",
        kind=logging_config(),
        group=Group.LOGS,
        help="Have this file (.ini, .json, .yaml) set up logging in workers and the template, as "
        "with uvicorn. Read anew at each reload.",
    )
    trace: str | None = setting(
        None,
        "--trace",
        kind=text("FILE"),
        group=Group.LOGS,
        fixed=True,
        help="Record every event and decision of the master there, for `forkserve replay FILE`.",
    )
    trace_size: int = setting(
        16 * 1024 * 1024,
        "--trace-size",
        kind=size(),
        group=Group.LOGS,
        fixed=True,
        help="Go on in another file when that is longer; the old one is kept as FILE.1, in place "
        "of the one before; 0: no limit.",
    )
    monitor: Bind | UnixBind | None = setting(  # noqa: RUF009  # nor does this
        None,
        "--monitor",
        kind=Kind(lambda v: parse_monitor(str(v)), "ADDRESS", str),
        group=Group.MONITOR,
        fixed=True,
        help="Show metrics, health and a dashboard here, from a process of its own: PORT (on "
        "127.0.0.1), HOST:PORT or unix:PATH; needs forkserve[monitor].",
    )
    monitor_token: str | None = setting(
        None,
        "--monitor-token",
        kind=text("FILE"),
        group=Group.MONITOR,
        fixed=True,
        help="Show them only to who knows the token that is in this file; /livez and /readyz "
        "need none.",
    )
    ready_min: int = setting(
        1,
        "--ready-min",
        kind=whole(1, MOST_WORKERS),
        group=Group.MONITOR,
        fixed=True,
        help="How many workers have to be ready for /readyz to say so.",
    )
    user: str | None = setting(
        None,
        "-u",
        "--user",
        kind=named("USER"),
        group=Group.PEOPLE,
        fixed=True,
        help="Run the app as this user (a name or a number): the master opens its sockets and "
        "keeps its rights, everybody else drops them before any of the app's code runs.",
    )
    group: str | None = setting(
        None,
        "-g",
        "--group",
        kind=named("GROUP"),
        group=Group.PEOPLE,
        fixed=True,
        help="Run the app with this group (a name or a number).",
        otherwise="that of --user",
    )
    initgroups: bool = setting(
        False,
        "--initgroups",
        kind=switch(),
        group=Group.PEOPLE,
        fixed=True,
        help="Give the app all groups that --user is in, and not --group alone.",
    )
    umask: int | None = setting(
        None,
        "-m",
        "--umask",
        kind=octal("OCTAL", parse_umask),
        group=Group.PEOPLE,
        fixed=True,
        help="Which permissions new files do not get, such as 027.",
        otherwise="as it was found",
    )
    chdir: str | None = setting(
        None,
        "--chdir",
        kind=text("DIRECTORY"),
        group=Group.PEOPLE,
        fixed=True,
        help="Go there first, as if forkserve had been started there; again for each generation, "
        "so that a reload follows a symbolic link.",
    )
    pid: str | None = setting(
        None,
        "-p",
        "--pid",
        "--pidfile",
        kind=text("PATH"),
        group=Group.PEOPLE,
        fixed=True,
        help="Write the master's pid there while it serves, and let no other master do so.",
    )
    name: str | None = setting(
        None,
        "-n",
        "--name",
        "--proc-name",
        kind=text("NAME", parse_name),
        group=Group.PEOPLE,
        help="Show this in the process titles (needs the package setproctitle).",
    )
    control: str | None = setting(
        None,
        "--control",
        kind=text("PATH|off"),
        group=Group.PEOPLE,
        fixed=True,
        help="Where the control socket is, by which `forkserve status` and its like reach the "
        "master; off: nowhere. Only this user and root may use it.",
        otherwise="in $XDG_RUNTIME_DIR/forkserve, beside the pidfile, in /run/forkserve for root, "
        "or in a directory of its own for temporary files: the first that there is",
    )
    reload: bool = setting(
        False,
        "--reload",
        kind=switch(),
        group=Group.DEVELOPMENT,
        fixed=True,
        help="Reload when a file changes, with the same care as on SIGHUP.",
    )
    reload_dirs: tuple[str, ...] = setting(
        (),
        "--reload-dir",
        kind=many(existing()),
        group=Group.DEVELOPMENT,
        fixed=True,
        help="Watch this directory, with all below it. May be given several times.",
        otherwise="the current one",
    )
    reload_includes: tuple[str, ...] = setting(
        (),
        "--reload-include",
        kind=many(text("PATTERN")),
        group=Group.DEVELOPMENT,
        fixed=True,
        help="Watch files of such names besides *.py, or a directory.",
    )
    reload_excludes: tuple[str, ...] = setting(
        (),
        "--reload-exclude",
        kind=many(text("PATTERN")),
        group=Group.DEVELOPMENT,
        fixed=True,
        help="Do not watch files of such names, or a directory.",
    )
    reload_extra_files: tuple[str, ...] = setting(
        (),
        "--reload-extra-file",
        kind=many(existing()),
        group=Group.DEVELOPMENT,
        fixed=True,
        help="Watch this file too.",
    )
    uvicorn: Mapping[str, Any] = field(default_factory=dict)
    """What uvicorn.Config is given besides, by its own names."""

    hooks: tuple[Hook, ...] = ()
    """From a file only."""


def _declared(one: Field[Any]) -> Option:
    default = None if one.default is MISSING else one.default
    return Option(name=one.name, default=default, **one.metadata)


OPTIONS: tuple[Option, ...] = tuple(_declared(f) for f in fields(Settings) if "kind" in f.metadata)
"""forkserve's own, in the order in which they are shown."""


def with_what_is_fixed(new: Settings, old: Settings) -> Settings:
    """``new`` with the values of ``old`` for what a reload does not change."""
    return replace(new, **{o.name: getattr(old, o.name) for o in OPTIONS if o.fixed})


def changed(new: Settings, old: Settings) -> list[Option]:
    """forkserve's own settings that differ."""
    return [o for o in OPTIONS if getattr(new, o.name) != getattr(old, o.name)]
