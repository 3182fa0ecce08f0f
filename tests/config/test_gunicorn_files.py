"""Files as they are found in public repositories, written anew with their shapes and tricks."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from multiprocessing import cpu_count
from pathlib import Path
from tempfile import gettempdir
from types import FunctionType, ModuleType
from typing import Any

import pytest

from forkserve.config.foreign import from_python
from forkserve.config.gunicorn import SETTINGS, translate
from forkserve.config.outcome import Hook, Note, Refuse, SetEnvironment, Unknown, Use
from forkserve.config.python_file import execute
from forkserve.config.unknown_names import may_be_a_mistake, never_read, warning

FILES = Path(__file__).parent / "gunicorn_files"


@dataclass
class Content:
    """What a file comes to."""

    settings: dict[str, object] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    hooks: dict[str, str] = field(default_factory=dict)
    noted: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    warning: str = ""


def read(path: Path) -> Content:
    """The smallest reader: executes the file here, and has each name translated."""
    source = path.read_text()
    module = ModuleType("__config__")
    module.__file__ = str(path)
    exec(compile(source, path, "exec"), module.__dict__)
    content, unknown = Content(), []
    for name, value in vars(module).items():
        match translate(name, value):
            case Use(settings):
                content.settings |= settings
            case SetEnvironment(variables):
                content.environment |= variables
            case Hook(moment, function):
                content.hooks[moment] = function
            case Note():
                content.noted.add(name)
            case Refuse(sentence):
                content.refused[name] = sentence
            case Unknown() if not isinstance(value, ModuleType | type):
                if may_be_a_mistake(name, function=isinstance(value, FunctionType)):
                    unknown.append(name)
    content.warning = warning(unknown, never_read(source), vars(module).keys())
    return content


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    environ, path = dict(os.environ), list(sys.path)
    sys.path.insert(0, str(FILES))
    yield
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:] = path


def own(*hooks: str) -> dict[str, str]:
    """Hooks that the file itself defines."""
    return dict.fromkeys(hooks, "")


WANTED: dict[str, Content] = {
    "container_image": Content(
        settings={
            "log_level": "info",
            "workers": max(cpu_count(), 2),
            "bind": ["0.0.0.0:80"],
            "error_logfile": "-",
            "access_log": False,
            "timeout": 120,
            "graceful_timeout": 120,
            "keep_alive": 5,
        },
        noted={"worker_tmp_dir"},
    ),
    "everything_spelled_out": Content(
        settings={
            "bind": ["127.0.0.1:8000"],
            "backlog": 2048,
            "workers": 1,
            "timeout": 30,
            "keep_alive": 2,
            "unix_mode": "666",
            "error_logfile": "-",
            "log_level": "info",
            "access_logfile": "-",
            "access_logformat": '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"',
        },
        environment={"SECRET_KEY": "not,a=secret", "COLOUR": "blue"},
        hooks=own("pre_fork", "post_fork", "when_ready"),
        noted={"pre_exec", "worker_int", "worker_abort"},
        refused={
            "worker_class": 'worker_class "sync" is for WSGI apps: leave it out, and give '
            "--interface wsgi unless the app is an ASGI app."
        },
    ),
    "identity_provider": Content(
        settings={
            "bind": [f"unix:{gettempdir()}/identity.sock"],
            "preload": True,
            "max_requests": 1000,
            "max_requests_jitter": 50,
            "workers": 2,
        },
        hooks=own("on_starting", "on_reload", "pre_fork", "worker_ready", "worker_exit"),
        noted={"worker_tmp_dir", "threads", "nworkers_changed"},
        refused={
            "worker_class": 'worker_class "identity.worker.LifespanOffWorker" is not known; '
            "forkserve runs uvicorn in every worker, so leave it out, and give what it has in "
            'CONFIG_KWARGS as settings, such as lifespan = "off".'
        },
    ),
    "workflow_webserver": Content(hooks=own("worker_ready", "on_starting")),
    "package_index": Content(
        settings={
            "bind": ["unix:/var/run/index/index.sock"],
            "backlog": 2048,
            "preload": True,
            "max_requests": 2048,
            "max_requests_jitter": 128,
            "timeout": 60,
            "keep_alive": 2,
            "error_logfile": "-",
            "log_level": "info",
            "access_logfile": "-",
            "access_logformat": "%({Index-Hashed-IP}i)s %(l)s %(u)s %(t)s "
            '"%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"',
        },
        noted={"statsd_host"},
    ),
    "analytics": Content(
        settings={"log_level": "error", "bind": ["unix:tmp/analytics.socket"], "timeout": 90},
        hooks=own("on_starting", "when_ready"),
        refused={
            "worker_class": 'worker_class "gevent" is for WSGI apps: leave it out, and give '
            "--interface wsgi unless the app is an ASGI app."
        },
    ),
    "notifications": Content(
        settings={
            "workers": 4,
            "error_logfile": "/home/app/logs/gunicorn_error.log",
            "bind": ["0.0.0.0:9000"],
            "keep_alive": 0,
            "timeout": 30,
        },
        hooks=own("child_exit"),
        noted={
            "disable_redirect_access_to_syslog",
            "worker_abort",
            "worker_connections",
            "statsd_host",
        },
        refused={
            "worker_class": 'worker_class "gevent" is for WSGI apps: leave it out, and give '
            "--interface wsgi unless the app is an ASGI app."
        },
    ),
    "image_registry": Content(
        settings={
            "log_config": "conf/logging.conf",
            "bind": ["unix:/tmp/registry_web.sock"],
            "workers": 6,
            "app_dir": ".",
            "preload": True,
        },
        hooks=own("post_fork", "when_ready"),
        refused={
            "worker_class": 'worker_class "gthread" is for WSGI apps: leave it out, and give '
            "--interface wsgi unless the app is an ASGI app."
        },
    ),
    "document_archive": Content(
        settings={
            "bind": ["[::]:8000"],
            "workers": 1,
            "timeout": 120,
            "loop": "asyncio",
            "root_path": "/archive",
            "lifespan": "off",
            "max_requests": 10000,
            "access_log": False,
        },
    ),
    "course_platform": Content(
        settings={
            "preload": False,
            "timeout": 300,
            "bind": ["127.0.0.1:8000"],
            "app_dir": "/srv/courses/platform",
            "max_requests": 50,
            "workers": 17,
        },
        hooks=own("post_fork"),
        noted={"pre_request"},
    ),
    "annotations": Content(
        settings={
            "bind": ["unix:/tmp/annotations-web.sock"],
            "workers": "6",
            "max_requests": 1_000_000,
            "max_requests_jitter": 250_000,
        },
        noted={"worker_tmp_dir"},
    ),
    "in_capitals": Content(
        warning="no settings, so without effect: ACCESS_LOG (did you mean accesslog?), "
        "BIND (did you mean bind?), LOG_LEVEL (did you mean loglevel?), "
        "RELOAD (did you mean reload?), "
        "WORKERS (did you mean workers?), WORKER_CLASS (did you mean worker_class?).",
    ),
    "mistyped": Content(
        settings={"bind": ["0.0.0.0:8000", "[::1]:8000"], "log_level": "warning"},
        warning="no settings, so without effect: grace_timeout (did you mean graceful_timeout?), "
        "log_level, max_request (did you mean max_requests?), "
        "on_start (did you mean on_starting?), worker (did you mean workers?).",
    ),
    "from_the_environment": Content(
        settings={
            "workers": "3",
            "preload": "true",
            "bind": ["unix:/run/app.sock", "127.0.0.1:8001"],
            "http": "h11",
            "loop": "asyncio",
        },
    ),
    "metrics": Content(
        settings={
            "bind": ["0.0.0.0:8080"],
            "access_log": False,
            "max_requests": 0,
            "max_requests_jitter": 10,
        },
        hooks={
            **own("when_ready", "on_starting", "child_exit"),
            "on_exit": "gunicorn_metrics:tidy",
        },
        noted={"logger_class", "worker_abort"},
    ),
    "own_server": Content(
        settings={
            "app_dir": "/opt/shop",
            "bind": ["0.0.0.0:443", "127.0.0.1:8000"],
            "workers": "0x3",
            "app": "shop.asgi:make_app",
            "factory": True,
            "chdir": "/opt/shop",
            "user": "www-data",
            "group": "33",
            "unix_mode": "660",
            "initgroups": True,
            "pid": "/run/shop.pid",
            "name": "shop",
            "error_logfile": "/var/log/shop/error.log",
            "access_logfile": "/var/log/shop/access.log",
            "log_level": "warning",
            "log_syslog": True,
            "log_syslog_to": "unix:///dev/log#dgram",
            "log_syslog_prefix": "shop",
            "log_syslog_facility": "local0",
            "reuse_port": True,
            "reload": False,
            "ssl_keyfile": "/etc/ssl/shop.key",
            "ssl_certfile": "/etc/ssl/shop.crt",
            "ssl_ca_certs": "/etc/ssl/clients.pem",
            "ssl_cert_reqs": 2,
            "ssl_ciphers": "TLSv1.2",
        },
        environment={"DJANGO_SETTINGS_MODULE": "shop.settings,prod"},
        noted={"limit_request_field_size", "secure_scheme_headers", "ssl_context"},
        refused={
            "daemon": "daemon is not possible: forkserve stays in the foreground, where a service "
            "manager sees it: let systemd run it, with the unit in demo_app/deploy/systemd/ to "
            "begin with."
        },
        warning="no setting, so without effect: command.",
    ),
}

NAMES = sorted(path.name.removesuffix(".conf.py") for path in FILES.glob("*.conf.py"))
ENVIRONMENT = {
    "container_image": {"ACCESS_LOG": "", "MAX_WORKERS": "512"},
    "notifications": {"PORT": "9000"},
    "annotations": {"WEB_NUM_WORKERS": "6"},
    "from_the_environment": {
        "GUNICORN_WORKERS": "3",
        "GUNICORN_PRELOAD_APP": "true",
        "GUNICORN_BIND": "unix:/run/app.sock,127.0.0.1:8001",
    },
}


def given(name: str, monkeypatch: pytest.MonkeyPatch) -> Content:
    for variable in ("PORT", "HOST", "BIND", "WEB_CONCURRENCY", "LOG_LEVEL", "TIMEOUT"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in ENVIRONMENT.get(name, {}).items():
        monkeypatch.setenv(variable, value)
    return read(FILES / f"{name}.conf.py")


@pytest.mark.parametrize("name", WANTED)
def test_what_a_file_comes_to(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "document_archive" and not find_spec("gunicorn"):
        pytest.skip("its worker class needs gunicorn")
    assert given(name, monkeypatch) == WANTED[name]


def test_each_file_is_looked_at() -> None:
    assert set(NAMES) == {*WANTED, "database_console", "chat_service", "newest_gunicorn"}


WITHOUT_EFFECT = {"database_console": {"access_logformat"}, "metrics": {"max_requests_jitter"}}
"""What stands beside something else in the file that has the last word."""


# -- the same by forkserve's own reader, in a process apart -------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_forkserves_reader_says_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file defines comes through JSON there, and loses nothing on the way."""
    wanted = given(name, monkeypatch)
    os.environ.clear()
    os.environ.update(ENVIRONMENT.get(name, {}), PATH="/bin")
    path = str(FILES / f"{name}.conf.py")
    found = from_python(execute(path, "conf.py"), path, "conf.py", ())
    settings = {one.name: one.value for one in found.given}
    environment: Any = settings.pop("env", [])
    lost = {name: wanted.settings.pop(name) for name in wanted.settings.keys() - settings.keys()}
    assert set(lost) == WITHOUT_EFFECT.get(name, set())
    assert settings == json.loads(json.dumps(wanted.settings))
    assert dict(text.split("=", 1) for text in environment).items() >= wanted.environment.items()
    assert {hook.name for hook in found.hooks} == set(wanted.hooks)
    assert len(found.problems) == len(wanted.refused)
    assert len(found.notes) == len(wanted.noted) + len(lost) + bool(wanted.warning)


def test_what_is_not_text_is_sent_as_its_name(tmp_path: Path) -> None:
    path = tmp_path / "conf.py"
    path.write_text(
        "import sys, logging\nfrom logging.handlers import WatchedFileHandler\n"
        "logconfig_dict = {'handlers': {'console': {'class': WatchedFileHandler},"
        " 'error_console': {'()': logging.StreamHandler, 'stream': sys.stderr}}}\n"
        "class Own(logging.Formatter): pass\nlogconfig_json = {'()': Own}\n"
        "accesslog = None\npre_fork = 'a'.join\nworkers = len\n"
    )
    found = from_python(execute(str(path), "conf.py"), str(path), "conf.py", ())
    settings: Any = {one.name: one.value for one in found.given}
    handlers = settings["log_config"]["handlers"]
    assert handlers["console"] == {"class": "logging.handlers.WatchedFileHandler"}
    assert handlers["error_console"]["stream"] == "ext://sys.stderr"
    assert settings["access_log"] is False
    assert [hook.name for hook in found.hooks] == ["pre_fork"]
    assert sorted(found.problems) == [
        "conf.py:5: logconfig_json holds an object that other processes cannot be given: put it "
        'into a module, and write its name, such as "shop.logs.Formatter".',
        "conf.py:8: workers is a function; write what it returns.",
    ]


def test_a_worker_class_is_found_by_its_name(tmp_path: Path) -> None:
    """The file's child imports it, as gunicorn would; the master does not."""
    (tmp_path / "shop_workers.py").write_text(
        "class UvicornWorker: __module__ = 'uvicorn.workers'\n"  # the real one needs gunicorn
        "class Quiet(UvicornWorker): CONFIG_KWARGS = {'lifespan': 'off', 'backlog': 64}\n"
    )
    path = tmp_path / "conf.py"
    path.write_text(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nworker_class = 'shop_workers.Quiet'\n"
    )
    found = from_python(execute(str(path), "conf.py"), str(path), "conf.py", ())
    assert found.problems == []
    assert {one.name: one.value for one in found.given} == {"lifespan": "off", "backlog": 64}
    assert "shop_workers" not in sys.modules


# -- logs by a dict ---------------------------------------------------------------------------


def test_the_loggers_of_uvicorn_are_set_up_as_those_of_gunicorn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = given("database_console", monkeypatch)
    config: Any = content.settings.pop("log_config")
    assert list(content.settings) == ["access_logformat"]
    assert (content.noted, content.refused, content.warning) == (set(), {}, "")
    assert config["root"] == {"level": "WARNING", "handlers": []}
    assert config["loggers"]["uvicorn.error"]["handlers"] == ["error_console"]
    assert config["loggers"]["uvicorn.error"]["propagate"] is False
    assert config["loggers"]["uvicorn.access"]["level"] == "WARNING"
    assert config["formatters"] == {"plain": {"format": "%(levelname)s %(message)s"}}


def test_a_dict_may_leave_out_what_gunicorn_fills_in(monkeypatch: pytest.MonkeyPatch) -> None:
    content = given("chat_service", monkeypatch)
    config: Any = content.settings.pop("log_config")
    assert content == Content(
        settings={
            "bind": ["0.0.0.0:8000"],
            "workers": 2,
            "forwarded_allow_ips": "*",
            "access_log": False,
            "graceful_timeout": 25.5,
        },
        noted={"disable_redirect_access_to_syslog", "capture_output"},
    )
    assert (config["version"], config["disable_existing_loggers"]) == (1, False)
    assert config["root"]["handlers"] == ["console"]
    json = {"handlers": ["json"], "level": "INFO", "propagate": False}
    assert config["loggers"]["uvicorn.error"] == json
    assert config["loggers"]["uvicorn"] == {"handlers": ["json"], "level": "INFO"}


@pytest.mark.parametrize("name", ["database_console", "chat_service"])
def test_logging_takes_the_dict(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process apart: it changes the loggers of the whole process."""
    config = given(name, monkeypatch).settings["log_config"]
    child = os.fork()
    if not child:
        code = 1
        try:
            import logging.config

            logging.config.dictConfig(config)  # type: ignore[arg-type]
            code = 0 if logging.getLogger("uvicorn.error").handlers else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- the newest -------------------------------------------------------------------------------


def test_what_the_newest_gunicorn_has(monkeypatch: pytest.MonkeyPatch) -> None:
    content = given("newest_gunicorn", monkeypatch)
    assert content.settings == {
        "loop": "uvloop",
        "lifespan": "on",
        "ws_max_size": (1 << 63) - 1,
        "http": "h11",
        "root_path": "/api",
    }
    assert content.noted == {
        "asgi_disconnect_grace_period",
        "http_protocols",
        "dirty_workers",
        "control_socket",
    }
    assert set(content.refused) == {"http2_cleartext", "proxy_protocol", "protocol", "dirty_apps"}
    assert all(name in SETTINGS for name in content.refused)
