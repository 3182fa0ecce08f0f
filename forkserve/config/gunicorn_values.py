"""Values of gunicorn's settings which mean something else, or are written otherwise, here.

Each function takes a value as it stands in a file or behind a flag, and says what it comes to.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from forkserve.config import uvicorn_names
from forkserve.config.outcome import NOTHING, Note, Outcome, Refuse, SetEnvironment, Use

DEFAULT_PORT = 8000
"""Where an address names none."""

# -- what to serve, and where ---------------------------------------------------------------


def wsgi_app(value: object) -> Outcome:
    """``module:attribute``, ``module`` (its ``application``) or ``module:factory()``."""
    module, colon, attribute = str(value).partition(":")
    if not colon:
        return Use({"app": f"{module}:application"})
    name, call, arguments = attribute.partition("(")
    if not call:
        return Use({"app": f"{module}:{name}"})
    if arguments.removesuffix(")").strip():
        return Refuse(
            f'wsgi_app "{value}" calls {name} with arguments, and forkserve gives none: write a '
            "function without arguments that calls it."
        )
    return Use({"app": f"{module}:{name}", "factory": True})


def bind(value: object) -> Outcome:
    """One address or several, as gunicorn reads them: without a port it is 8000."""
    addresses = [_address(one) for one in _texts(value)]
    return Use({"bind": addresses}) if addresses else NOTHING


def _address(text: str) -> str:
    if text.startswith("unix:"):
        # Two slashes belong to the scheme, as in unix:///run/app.sock; what follows is the path.
        return "unix:" + text.removeprefix("unix:").removeprefix("//")
    if text.startswith("fd://"):
        return text
    text = text.removeprefix("tcp://")
    has_port = "]:" in text if text.startswith("[") else ":" in text
    return text if has_port or text.isdigit() else f"{text}:{DEFAULT_PORT}"


def pythonpath(value: object) -> Outcome:
    """Directories in which modules are looked for."""
    folders = _texts(value)
    if len(folders) > 1:
        return Refuse(
            f"pythonpath names {len(folders)} directories, and forkserve takes one, which is that "
            f"of the app: give them as PYTHONPATH={':'.join(folders)} in the environment of "
            "forkserve."
        )
    return Use({"app_dir": folders[0]}) if folders else NOTHING


def raw_env(value: object) -> Outcome:
    """``NAME=VALUE``, one or several; a value may hold commas."""
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple):
        return Refuse('raw_env is no list of texts such as "NAME=VALUE".')
    variables = {}
    for one in given:
        name, equals, text = str(one).partition("=")
        if not equals or not name:
            # Which one is not said: it may be a secret.
            return Refuse("raw_env holds a text that is not NAME=VALUE.")
        variables[name] = text
    return SetEnvironment(variables)


# -- how workers run ------------------------------------------------------------------------

UVICORN_WORKERS = {
    "uvicorn.workers.UvicornWorker": {},
    "uvicorn.workers.UvicornH11Worker": {"http": "h11", "loop": "asyncio"},
    "uvicorn_worker.UvicornWorker": {},
    "uvicorn_worker.UvicornH11Worker": {"http": "h11", "loop": "asyncio"},
    "uvicorn_worker._workers.UvicornWorker": {},
    "uvicorn_worker._workers.UvicornH11Worker": {"http": "h11", "loop": "asyncio"},
    "asgi": {},
    "gunicorn.workers.gasgi.ASGIWorker": {},
}
"""The worker classes that do what a worker of forkserve's does, and what they set."""

_WSGI = {"sync", "gthread", "gevent", "gevent_wsgi", "gevent_pywsgi", "eventlet", "meinheld"}
_OTHERS = {
    "tornado": "forkserve serves ASGI and WSGI apps, and Tornado's are neither.",
    "aiohttp": "forkserve serves ASGI and WSGI apps, and aiohttp's are neither.",
    "sanic": "a Sanic app is an ASGI app: leave worker_class out.",
}


def described_worker_class(value: object) -> object:
    """What there is to know of a class, as data: to be sent to where it is not imported.

    One that is given by its name is imported for that, unless it is known; what is no class,
    or cannot be imported, is returned as it is.
    """
    cls = _imported(value) if isinstance(value, str) and _is_the_users(value) else value
    if not isinstance(cls, type):
        return value
    names = [f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__]
    return {"classes": names, "config_kwargs": dict(getattr(cls, "CONFIG_KWARGS", None) or {})}


def _is_the_users(name: str) -> bool:
    return name not in UVICORN_WORKERS and _kind_of_worker(name) not in {*_WSGI, *_OTHERS}


def _imported(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception:  # the module is the user's, and may raise anything
        return None


def worker_class(value: object) -> Outcome:
    """A name, a class, or a class described."""
    if isinstance(value, type):
        value = described_worker_class(value)
    if isinstance(value, Mapping):
        return _described(value)
    name = str(value).removeprefix("egg:gunicorn#")
    if name in UVICORN_WORKERS:
        return Use(UVICORN_WORKERS[name])
    return _other_worker_class(name)


def _described(cls: Mapping[Any, Any]) -> Outcome:
    """A class of the user's own may say by CONFIG_KWARGS how uvicorn is to be set up."""
    classes: list[str] = list(cls["classes"])
    if not any(name in UVICORN_WORKERS for name in classes):
        return _other_worker_class(classes[0])
    settings: dict[str, object] = {}
    for name, value in cls["config_kwargs"].items():
        if value == "auto":
            continue
        outcome = uvicorn_names.translate(name, value)
        if isinstance(outcome, Refuse):
            return Refuse(f"worker_class {classes[0]}: {outcome.sentence}")
        if isinstance(outcome, Use):
            settings.update(outcome.settings)
    return Use(settings)


def _other_worker_class(name: str) -> Refuse:
    kind = _kind_of_worker(name)
    if kind in _OTHERS:
        return Refuse(f'worker_class "{name}": {_OTHERS[kind]}')
    if kind in _WSGI:
        return Refuse(
            f'worker_class "{name}" is for WSGI apps: leave it out, and give --interface wsgi '
            "unless the app is an ASGI app."
        )
    return Refuse(
        f'worker_class "{name}" is not known; forkserve runs uvicorn in every worker, so leave it '
        'out, and give what it has in CONFIG_KWARGS as settings, such as lifespan = "off".'
    )


def _kind_of_worker(name: str) -> str:
    """The last of ``gunicorn.workers.ggevent.GeventWorker`` tells, and so does the first."""
    by_class = {
        "SyncWorker": "sync",
        "ThreadWorker": "gthread",
        "GeventWorker": "gevent",
        "GeventPyWSGIWorker": "gevent",
        "EventletWorker": "eventlet",
        "TornadoWorker": "tornado",
    }
    return by_class.get(name.rpartition(".")[2], name.partition(".")[0])


def reads_as_h11(value: object) -> Outcome:
    """gunicorn's own parsers: one in C, one in Python. uvicorn has one of each too."""
    parsers = {"fast": {"http": "httptools"}, "python": {"http": "h11"}}
    return Use(parsers.get(str(value).strip().lower(), {}))


def largest_message(value: object) -> Outcome:
    """Bytes; gunicorn's 0 is no limit, for which uvicorn has no word."""
    return Use({"ws_max_size": (1 << 63) - 1 if str(value).strip() == "0" else value})


# -- people ---------------------------------------------------------------------------------


def who(name: str) -> Any:
    """A user, or a group: a name or a number."""
    return lambda value: Use({name: str(value)})


def umask(value: object) -> Outcome:
    """A number, or text with gunicorn's rule for the base: ``18``, ``022``, ``0o22``, ``0x12``.

    gunicorn applies it to Unix sockets, and to a file of its own, but never to what the app
    writes: taken for the mask of a process, its 0 would let everybody write the app's files.
    """
    text = str(value).strip().lower()
    if text.startswith("0") and text.isdigit():
        text = f"0o{text}"
    try:
        mask = int(text, 0)
    except ValueError:
        return Refuse(f'umask "{value}" is no number; write for example "0o022".')
    return Use({"unix_mode": f"{0o666 & ~mask:03o}"})


# -- logs -----------------------------------------------------------------------------------


def loglevel(value: object) -> Outcome:
    """In any case of letters."""
    level = str(value).strip().lower()
    return Use({"log_level": "warning" if level == "warn" else level})


def accesslog(value: object) -> Outcome:
    """A path, or None: no line for a request."""
    if value in (None, ""):
        return Use({"access_log": False})
    return Use({"access_logfile": value})


def logconfig_json(value: object) -> Outcome:
    """A path; uvicorn tells the kind of a file from its name."""
    if not str(value).endswith(".json"):
        return Refuse(f'logconfig_json "{value}": give the file a name that ends with ".json".')
    return Use({"log_config": value})


_LOGGERS = {"gunicorn.error": "uvicorn.error", "gunicorn.access": "uvicorn.access"}

_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["error_console"], "propagate": True},
        "gunicorn.access": {"level": "INFO", "handlers": ["console"], "propagate": True},
    },
    "handlers": {
        name: {"class": "logging.StreamHandler", "formatter": "generic", "stream": stream}
        for name, stream in (
            ("console", "ext://sys.stdout"),
            ("error_console", "ext://sys.stderr"),
        )
    },
    "formatters": {
        "generic": {
            "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
            "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
            "class": "logging.Formatter",
        }
    },
}
"""What gunicorn takes for those of the outermost keys that a logconfig_dict leaves out."""


def logconfig_dict(value: object) -> Outcome:
    """As for logging.config.dictConfig; what is left out is as gunicorn has it.

    uvicorn's loggers get what gunicorn's have, as they do from UvicornWorker.
    """
    if not isinstance(value, Mapping):
        return Refuse("logconfig_dict is no dict, as for logging.config.dictConfig.")
    if not value:
        return NOTHING
    config = _LOGGING | dict(value)
    if not isinstance(config["loggers"], Mapping):
        return Refuse('logconfig_dict has "loggers" that are no dict.')
    loggers = dict(config["loggers"])
    for theirs, uvicorns in _LOGGERS.items():
        if isinstance(loggers.get(theirs), Mapping):
            loggers[uvicorns] = {**loggers[theirs], "propagate": False}
    return Use({"log_config": config | {"loggers": loggers}})


# -- TLS ------------------------------------------------------------------------------------

_ANY_TLS = (2, 16, 17)
"""ssl.PROTOCOL_TLS and its two halves: whatever both sides can do."""


def ssl_version(value: object) -> Outcome:
    """A constant of the module ssl, as a number. gunicorn itself takes no notice of it."""
    if not isinstance(value, int):
        return Note(
            f'ssl_version "{value}" has no effect: TLS 1.2 and 1.3 are offered. A constant of the '
            "module ssl is understood."
        )
    return NOTHING if int(value) in _ANY_TLS else Use({"ssl_version": int(value)})


def cert_reqs(value: object) -> Outcome:
    """ssl.CERT_NONE, CERT_OPTIONAL or CERT_REQUIRED: 0, 1 or 2."""
    return Use({"ssl_cert_reqs": int(value) if isinstance(value, int) else value})


def http_protocols(value: object) -> Outcome:
    """What is offered in a TLS handshake: ``h1``, ``h2``, ``h1,h2``."""
    if "h2" not in _texts(value):
        return NOTHING
    return Note(
        "http_protocols has no effect: HTTP/1.1 is offered; --http zttp --http2 is uvicorn's way "
        "to HTTP/2."
    )


def http2_cleartext(value: object) -> Outcome:
    """Whether clients may talk HTTP/2 without TLS: off, prior-knowledge, upgrade, both."""
    mode = "prior-knowledge" if value is True else str(value).strip().lower()
    if mode in ("prior-knowledge", "both"):
        return Refuse(
            f'http2_cleartext "{mode}": clients that begin with HTTP/2 would not be understood; '
            "have the proxy talk HTTP/1.1 to forkserve."
        )
    if mode == "upgrade":
        return Note("http2_cleartext has no effect: clients stay with HTTP/1.1.")
    return NOTHING


def _texts(value: object) -> list[str]:
    """Texts from one with commas, or from a list of such."""
    if isinstance(value, list | tuple | set | frozenset):
        return [text for one in value for text in _texts(one)]
    return [part.strip() for part in str(value).split(",") if part.strip()]


def import_string(value: str) -> str:
    """``module.function``, as gunicorn writes it, as ``module:function``; empty: it is none."""
    module, _, function = value.strip().rpartition(".")
    parts = [*module.split("."), function]
    return f"{module}:{function}" if all(part.isidentifier() for part in parts) else ""
