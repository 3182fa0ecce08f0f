"""gunicorn's settings and flags: what each comes to in forkserve.

The table has every setting of gunicorn's, up to version 27. Which are only ignored and which
refused goes by what a user relies on: a service that would be another one without it is not
started. So most of what UvicornWorker takes no notice of is ignored here as well.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from forkserve.config import gunicorn_values as values
from forkserve.config.outcome import (
    NOTHING,
    Hook,
    Note,
    Outcome,
    Refuse,
    Unknown,
    Use,
)


@dataclass(frozen=True, slots=True)
class Renamed:
    """Means the same under forkserve's name."""

    to: str


@dataclass(frozen=True, slots=True)
class Translated:
    """Means the same once its value has been translated."""

    how: Callable[[Any], Outcome]

    says: str
    """What it is then, for the README."""

    none_too: bool = False
    """None is a value of it, and not the same as leaving it out."""


@dataclass(frozen=True, slots=True)
class Called:
    """A hook that forkserve calls, at the moment that it has this name for."""

    moment: str


@dataclass(frozen=True, slots=True)
class NotCalled:
    """A hook that is never called."""

    why: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """Has no effect."""

    why: str

    silent: tuple[object, ...] = (None,)
    """What gunicorn has by default, or forkserve does anyway: nothing is said of it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Cannot be had."""

    why: str
    """What is wrong, and what to do instead."""

    fine: tuple[object, ...]
    """What nobody has to be told about: that it is not wanted."""


Entry = Renamed | Translated | Called | NotCalled | Ignored | Refused

OFF = (None, False, 0, "", "0", "off", "no", "false", "False")
"""How people say that they do not want something."""

_PARSERS = "uvicorn's parsers are strict, and cannot be told otherwise"
_HEADERS = "forkserve has one limit for the whole head of a request, --max-header-size"
_STATSD = "forkserve sends nothing to statsd yet"
_DIRTY = "there are no dirty workers"
_CONTROL = "there is no gunicornc here; forkserve is told by signals what to do"

SETTINGS: Mapping[str, Entry] = {
    # The app
    "wsgi_app": Translated(
        values.wsgi_app,
        "`app`; `module` is `module:application`, `module:make()` is `module:make` with `factory`",
    ),
    "chdir": Renamed("chdir"),
    "pythonpath": Translated(values.pythonpath, "`app_dir`; several directories are refused"),
    "raw_env": Translated(values.raw_env, "the environment of all processes"),
    "root_path": Renamed("root_path"),
    "paste": Refused(
        "forkserve reads no PasteDeploy file: load the app from it in a module, and give that as "
        "MODULE:ATTRIBUTE.",
        fine=OFF,
    ),
    "raw_paste_global_conf": Ignored("forkserve reads no PasteDeploy file", (None, [], ())),
    "config": Ignored("the file is given on the command line, with -c"),
    # Sockets
    "bind": Translated(values.bind, "`bind`; without a port it is 8000"),
    "backlog": Renamed("backlog"),
    "reuse_port": Renamed("reuse_port"),
    "umask": Translated(values.umask, "`unix_mode`: gunicorn's umask is for Unix sockets only"),
    "proxy_protocol": Refused(
        "uvicorn does not understand the PROXY protocol, and would answer 400 to each request: "
        "switch it off in the proxy, and have that send X-Forwarded-For.",
        fine=OFF,
    ),
    "proxy_allow_ips": Ignored(
        "uvicorn does not understand the PROXY protocol", (None, "127.0.0.1,::1")
    ),
    "protocol": Refused(
        "uvicorn understands HTTP only: have the proxy talk HTTP, in nginx with proxy_pass.",
        fine=(None, "", "http"),
    ),
    "uwsgi_allow_ips": Ignored("uvicorn understands HTTP only", (None, "127.0.0.1,::1")),
    "forwarded_allow_ips": Renamed("forwarded_allow_ips"),
    "secure_scheme_headers": Ignored("uvicorn takes the scheme from X-Forwarded-Proto only"),
    "forwarder_headers": Ignored(
        "nothing but X-Forwarded-Proto and X-Forwarded-For is taken from a proxy; "
        "--root-path does what SCRIPT_NAME did",
        (None, "SCRIPT_NAME,PATH_INFO"),
    ),
    # TLS
    "keyfile": Renamed("ssl_keyfile"),
    "certfile": Renamed("ssl_certfile"),
    "ca_certs": Renamed("ssl_ca_certs"),
    "ciphers": Renamed("ssl_ciphers"),
    "cert_reqs": Translated(values.cert_reqs, "`ssl_cert_reqs`"),
    "ssl_version": Translated(values.ssl_version, "`ssl_version`"),
    "suppress_ragged_eofs": Ignored("asyncio does so anyway", (None, True)),
    "do_handshake_on_connect": Ignored("asyncio does so anyway", (None, False)),
    "http_protocols": Translated(
        values.http_protocols, "HTTP/1.1; `h2` besides is ignored with a note"
    ),
    "http2_cleartext": Translated(
        values.http2_cleartext, "`off`; `upgrade` is ignored with a note, the others are refused"
    ),
    "http2_max_concurrent_streams": Ignored("it is gunicorn's own HTTP/2", (None, 100)),
    "http2_initial_window_size": Ignored("it is gunicorn's own HTTP/2", (None, 65535)),
    "http2_max_frame_size": Ignored("it is gunicorn's own HTTP/2", (None, 16384)),
    "http2_max_header_list_size": Ignored("it is gunicorn's own HTTP/2", (None, 65536)),
    # Workers
    "workers": Renamed("workers"),
    "worker_class": Translated(
        values.worker_class,
        "nothing for uvicorn's and `asgi`; what a class derived from uvicorn's has in "
        "`CONFIG_KWARGS`; all others are refused",
    ),
    "threads": Ignored(
        "one event loop serves all requests of a worker; what runs in threads is up to the app",
        (None, 1),
    ),
    "worker_connections": Ignored(
        "a worker takes any number of connections; --worker-concurrency limits requests in "
        "flight, and has the others wait for a free worker",
        (None, 1000),
    ),
    "timeout": Renamed("timeout"),
    "graceful_timeout": Renamed("graceful_timeout"),
    "keepalive": Renamed("keep_alive"),
    "max_requests": Renamed("max_requests"),
    "max_requests_jitter": Renamed("max_requests_jitter"),
    "preload_app": Renamed("preload"),
    "worker_tmp_dir": Ignored("heartbeats are in shared memory, no directory is needed"),
    "asgi_loop": Renamed("loop"),
    "asgi_lifespan": Renamed("lifespan"),
    "asgi_disconnect_grace_period": Ignored(
        "uvicorn tells the app that its client has gone, and lets it go on", (None, 3)
    ),
    "websocket_max_message_size": Translated(values.largest_message, "`ws_max_size`"),
    "http_parser": Translated(values.reads_as_h11, "`http`: `fast` is httptools, `python` is h11"),
    # Requests
    "limit_request_line": Ignored(_HEADERS, (None, 4094)),
    "limit_request_fields": Ignored(_HEADERS, (None, 100)),
    "limit_request_field_size": Ignored(_HEADERS, (None, 8190)),
    "permit_obsolete_folding": Ignored(_PARSERS, OFF),
    "strip_header_spaces": Ignored(_PARSERS, OFF),
    "permit_unconventional_http_method": Ignored(_PARSERS, OFF),
    "permit_unconventional_http_version": Ignored(_PARSERS, OFF),
    "casefold_http_method": Ignored(_PARSERS, OFF),
    "header_map": Ignored(
        "an ASGI app is given all headers, under the names that they came with", (None, "drop")
    ),
    "sendfile": Ignored("a file is sent as the app sends it", (None, False)),
    "tmp_upload_dir": Ignored("bodies are handed to the app as they come, and never stored"),
    # Processes
    "daemon": Refused(
        "forkserve stays in the foreground, where a service manager sees it: let systemd run it, "
        "with the unit in demo_app/deploy/systemd/ to begin with.",
        fine=OFF,
    ),
    "user": Translated(values.who("user"), "`user`"),
    "group": Translated(values.who("group"), "`group`"),
    "initgroups": Renamed("initgroups"),
    "pidfile": Renamed("pid"),
    "proc_name": Renamed("name"),
    "default_proc_name": Ignored("the name is given with proc_name", (None, "gunicorn")),
    "control_socket": Ignored(_CONTROL),
    "control_socket_mode": Ignored(_CONTROL, (None, 0o600)),
    "control_socket_disable": Ignored("there is none", (None, True, False)),
    # Logs
    "accesslog": Translated(
        values.accesslog, "`access_logfile`; `None` is `access_log = False`", none_too=True
    ),
    "access_log_format": Renamed("access_logformat"),
    "errorlog": Renamed("error_logfile"),
    "loglevel": Translated(values.loglevel, "`log_level`"),
    "logconfig": Renamed("log_config"),
    "logconfig_dict": Translated(
        values.logconfig_dict,
        "`log_config`, with gunicorn's defaults, and uvicorn's loggers as gunicorn's",
    ),
    "logconfig_json": Translated(values.logconfig_json, "`log_config`"),
    "logger_class": Ignored(
        "forkserve has no class for its log; --log-format json, --access-logformat and "
        "--log-config say how it looks",
        (None, "gunicorn.glogging.Logger"),
    ),
    "capture_output": Ignored("what the app prints goes where forkserve's own streams go", OFF),
    "enable_stdio_inheritance": Ignored("is always so", (None, True, False)),
    "syslog": Renamed("log_syslog"),
    "syslog_addr": Renamed("log_syslog_to"),
    "syslog_prefix": Renamed("log_syslog_prefix"),
    "syslog_facility": Renamed("log_syslog_facility"),
    "disable_redirect_access_to_syslog": Ignored("--log-syslog sends both logs", OFF),
    "statsd_host": Ignored(_STATSD),
    "statsd_prefix": Ignored(_STATSD, (None, "")),
    "dogstatsd_tags": Ignored(_STATSD, (None, "")),
    "enable_backlog_metric": Ignored(_STATSD, OFF),
    # Development
    "reload": Renamed("reload"),
    "reload_engine": Ignored("watchfiles is used", (None, "auto")),
    "reload_extra_files": Renamed("reload_extra_files"),
    "spew": Ignored("there is no such trace here", OFF),
    "check_config": Ignored("it stands on the command line: forkserve --check-config", OFF),
    "print_config": Ignored("it stands on the command line: forkserve --print-config", OFF),
    # Hooks
    "on_starting": Called("on_starting"),
    "when_ready": Called("when_ready"),
    "pre_fork": Called("pre_fork"),
    "post_fork": Called("post_fork"),
    "post_worker_init": Called("worker_ready"),
    "worker_ready": Called("worker_ready"),  # forkserve's own name, in a file like the others
    "worker_exit": Called("worker_exit"),
    "child_exit": Called("child_exit"),
    "on_reload": Called("on_reload"),
    "on_exit": Called("on_exit"),
    "pre_request": NotCalled("as with UvicornWorker; use an ASGI middleware"),
    "post_request": NotCalled("as with UvicornWorker; use an ASGI middleware"),
    "worker_int": NotCalled("worker_exit is called when a worker leaves"),
    "worker_abort": NotCalled(
        "a worker that hangs is killed after its stacks have been written to the log"
    ),
    "nworkers_changed": NotCalled("no hook is told the number of workers"),
    "pre_exec": NotCalled("no hook is told of an upgrade"),
    "ssl_context": NotCalled("as with UvicornWorker; give the --ssl options"),
    # Dirty workers
    "dirty_apps": Refused(
        "forkserve has no dirty workers, and the app would wait for them in vain: keep gunicorn "
        "for these apps, or put the work into a task queue.",
        fine=(*OFF, [], ()),
    ),
    "dirty_workers": Ignored(_DIRTY, (None, 0)),
    "dirty_timeout": Ignored(_DIRTY, (None, 300)),
    "dirty_threads": Ignored(_DIRTY, (None, 1)),
    "dirty_graceful_timeout": Ignored(_DIRTY, (None, 30)),
    "on_dirty_starting": NotCalled(_DIRTY),
    "dirty_post_fork": NotCalled(_DIRTY),
    "dirty_worker_init": NotCalled(_DIRTY),
    "dirty_worker_exit": NotCalled(_DIRTY),
}


def translate(name: str, value: object) -> Outcome:
    """What a setting of gunicorn's comes to. Of a function, anything callable is its value."""
    entry = SETTINGS.get(name)
    if entry is None:
        return Unknown(near(name))
    if value is None and not (isinstance(entry, Translated) and entry.none_too):
        return NOTHING
    is_a_function = callable(value) and not isinstance(value, type)
    if is_a_function and not isinstance(entry, Called | NotCalled):
        return Refuse(f"{name} is a function; write what it returns.")
    match entry:
        case Renamed(to):
            return Use({to: value})
        case Translated(how):
            return how(value)
        case Called(moment):
            return _hook(name, moment, value)
        case NotCalled(why):
            return Note(f"{name} is not called: {why}.")
        case Ignored(why, silent):
            return NOTHING if _among(value, silent) else Note(f"{name} has no effect: {why}.")
        case Refused(why, fine):
            return NOTHING if _among(value, fine) else Refuse(f"{name} is not possible: {why}")


def _hook(name: str, moment: str, value: object) -> Outcome:
    if isinstance(value, str):
        if function := values.import_string(value):
            return Hook(moment, function)
        return Refuse(f'{name} "{value}" is no function; write for example "module.function".')
    if not callable(value):
        return Refuse(f"{name} is no function; define it with def {name}(…).")
    return Hook(moment)


def _among(value: object, some: tuple[object, ...]) -> bool:
    """Whether it is one of them, or the same as text, as on a command line."""
    return any(value == one or (one is not None and str(value) == str(one)) for one in some)


def near(name: str) -> str:
    """The setting of gunicorn's that was probably meant; empty if none is like it."""
    found = difflib.get_close_matches(name.lower().replace("-", "_"), SETTINGS, n=1, cutoff=0.8)
    return found[0] if found else ""
