"""gunicorn's settings and flags: the table is complete, and what each value comes to."""

from __future__ import annotations

import importlib
from typing import Any, cast

import pytest

from forkserve.config.bind import EVERY_INTERFACE, Bind, parse_bind
from forkserve.config.gunicorn import (
    OFF,
    SETTINGS,
    Called,
    Ignored,
    NotCalled,
    Refused,
    Renamed,
    near,
    translate,
)
from forkserve.config.gunicorn_flags import FLAGS
from forkserve.config.gunicorn_values import described_worker_class
from forkserve.config.outcome import (
    NOTHING,
    Hook,
    Note,
    Outcome,
    Refuse,
    SetEnvironment,
    Unknown,
    Use,
    a_function,
)
from forkserve.config.reading import known_options
from forkserve.config.unknown_names import is_a_setting, may_be_a_mistake, never_read, warning
from tests.readme_gunicorn import tables

# -- the table, held against gunicorn itself --------------------------------------------------


@pytest.fixture(scope="module")
def theirs() -> Any:
    return pytest.importorskip("gunicorn.config")


def test_every_setting_of_gunicorns_is_in_the_table(theirs: Any) -> None:
    assert {setting.name for setting in theirs.KNOWN_SETTINGS} == set(SETTINGS) - {"worker_ready"}


def test_every_hook_of_gunicorns_is_called_or_said_not_to_be(theirs: Any) -> None:
    hooks = {s.name for s in theirs.KNOWN_SETTINGS if "Hooks" in s.section}
    table = {name for name, entry in SETTINGS.items() if isinstance(entry, Called | NotCalled)}
    assert hooks == table - {"worker_ready"}


def test_what_is_as_it_is_by_default_is_not_worth_a_word(theirs: Any) -> None:
    """But for the worker class, which is for WSGI apps."""
    said = {}
    for setting in theirs.KNOWN_SETTINGS:
        if isinstance(SETTINGS[setting.name], Called | NotCalled):
            continue
        outcome = translate(setting.name, setting.default)
        if isinstance(outcome, Note | Refuse):
            said[setting.name] = outcome
    # The default of the first two is not fixed: a path at home, and headers.
    assert set(said) - {"control_socket", "secure_scheme_headers", "config"} == {"worker_class"}


def test_every_flag_of_gunicorns_is_known_with_what_it_takes(theirs: Any) -> None:
    known = {}
    for action in theirs.Config().parser()._actions:
        for flag in action.option_strings:
            takes_value = action.nargs != 0
            alone = action.const
            many = type(action).__name__ == "_AppendAction"
            known[flag] = (action.dest, takes_value, alone, many)
    for flag in ("-h", "--help", "-v", "--version"):
        del known[flag]
    ours = {flag: (f.setting, f.takes_value, f.alone, f.many) for flag, f in FLAGS.items()}
    assert ours == known


# -- the table by itself ----------------------------------------------------------------------


def test_what_a_setting_is_translated_to_is_a_setting() -> None:
    targets = {entry.to for entry in SETTINGS.values() if isinstance(entry, Renamed)}
    values: dict[str, object] = {
        "wsgi_app": "a:b()",
        "bind": "a",
        "pythonpath": "a",
        "umask": 0,
        "user": "a",
        "group": "a",
        "accesslog": "-",
        "loglevel": "info",
        "logconfig_dict": {"version": 1},
        "logconfig_json": "a.json",
        "cert_reqs": 0,
        "ssl_version": 5,
        "http_parser": "fast",
        "websocket_max_message_size": 1,
    }
    for name, value in values.items():
        outcome = translate(name, value)
        assert isinstance(outcome, Use), name
        targets |= set(outcome.settings)
    assert targets <= set(known_options())


def test_a_sentence_says_which_setting_and_what_to_do() -> None:
    for name, entry in SETTINGS.items():
        outcome: Outcome = NOTHING
        if isinstance(entry, Ignored | Refused):
            outcome = translate(name, "something else")
        elif isinstance(entry, NotCalled):
            outcome = translate(name, a_function)
        else:
            continue
        assert isinstance(outcome, Refuse if isinstance(entry, Refused) else Note), name
        assert outcome.sentence.startswith(f"{name} "), outcome.sentence
        assert outcome.sentence.endswith("."), outcome.sentence
        assert ". " not in outcome.sentence, outcome.sentence
        if isinstance(outcome, Refuse):
            assert ": " in outcome.sentence.partition(" is not possible: ")[2], outcome.sentence


@pytest.mark.parametrize("name", [n for n, e in SETTINGS.items() if isinstance(e, Refused)])
@pytest.mark.parametrize("value", [value for value in OFF if value not in (0, "0")])
def test_what_is_switched_off_is_not_refused(name: str, value: object) -> None:
    if name == "protocol" and value not in (None, ""):
        return  # the name of a protocol, which has no "off"
    assert translate(name, value) == NOTHING


# -- values -----------------------------------------------------------------------------------

H11 = Use({"http": "h11", "loop": "asyncio"})


@pytest.mark.parametrize(
    ("name", "value", "outcome"),
    [
        # the same
        ("workers", 4, Use({"workers": 4})),
        ("workers", "4", Use({"workers": "4"})),
        ("workers", None, NOTHING),
        ("keepalive", 75, Use({"keep_alive": 75})),
        ("preload_app", False, Use({"preload": False})),
        ("proc_name", "shop", Use({"name": "shop"})),
        ("pidfile", "/run/a.pid", Use({"pid": "/run/a.pid"})),
        ("certfile", "a.crt", Use({"ssl_certfile": "a.crt"})),
        ("asgi_loop", "uvloop", Use({"loop": "uvloop"})),
        # addresses
        ("bind", "0.0.0.0:80", Use({"bind": ["0.0.0.0:80"]})),
        ("bind", ":80", Use({"bind": [":80"]})),
        ("bind", "localhost", Use({"bind": ["localhost:8000"]})),
        ("bind", "[::]", Use({"bind": ["[::]:8000"]})),
        ("bind", "[::1]:80", Use({"bind": ["[::1]:80"]})),
        ("bind", "tcp://10.0.0.1:80", Use({"bind": ["10.0.0.1:80"]})),
        ("bind", "unix:/run/a.sock", Use({"bind": ["unix:/run/a.sock"]})),
        ("bind", "unix:///run/a.sock", Use({"bind": ["unix:/run/a.sock"]})),
        ("bind", "fd://3", Use({"bind": ["fd://3"]})),
        ("bind", "a:1, b:2", Use({"bind": ["a:1", "b:2"]})),
        ("bind", ("a:1", "unix:b"), Use({"bind": ["a:1", "unix:b"]})),
        ("bind", [], NOTHING),
        ("bind", 8000, Use({"bind": ["8000"]})),  # refused where addresses are read
        # the app
        ("wsgi_app", "shop.main:app", Use({"app": "shop.main:app"})),
        ("wsgi_app", "shop.wsgi", Use({"app": "shop.wsgi:application"})),
        ("wsgi_app", "shop:make()", Use({"app": "shop:make", "factory": True})),
        (
            "wsgi_app",
            "shop:make('prod')",
            Refuse(
                "wsgi_app \"shop:make('prod')\" calls make with arguments, and forkserve gives "
                "none: write a function without arguments that calls it."
            ),
        ),
        ("pythonpath", "src", Use({"app_dir": "src"})),
        (
            "pythonpath",
            "src,lib",
            Refuse(
                "pythonpath names 2 directories, and forkserve takes one, which is that of the "
                "app: give them as PYTHONPATH=src:lib in the environment of forkserve."
            ),
        ),
        ("raw_env", ["A=b=c", "D="], SetEnvironment({"A": "b=c", "D": ""})),
        ("raw_env", "A=b,c", SetEnvironment({"A": "b,c"})),
        ("raw_env", [], SetEnvironment({})),
        ("raw_env", ["A"], Refuse("raw_env holds a text that is not NAME=VALUE.")),
        ("raw_env", 5, Refuse('raw_env is no list of texts such as "NAME=VALUE".')),
        # worker classes
        ("worker_class", "uvicorn.workers.UvicornWorker", NOTHING),
        ("worker_class", "uvicorn_worker.UvicornWorker", NOTHING),
        ("worker_class", "uvicorn.workers.UvicornH11Worker", H11),
        ("worker_class", "uvicorn_worker.UvicornH11Worker", H11),
        ("worker_class", "asgi", NOTHING),
        ("worker_class", "gunicorn.workers.gasgi.ASGIWorker", NOTHING),
        # people and modes
        ("user", 1000, Use({"user": "1000"})),
        ("user", "www-data", Use({"user": "www-data"})),
        ("user", None, NOTHING),
        ("umask", 0, Use({"unix_mode": "666"})),
        ("umask", 0o022, Use({"unix_mode": "644"})),
        ("umask", "022", Use({"unix_mode": "644"})),
        ("umask", "18", Use({"unix_mode": "644"})),
        ("umask", "0o7", Use({"unix_mode": "660"})),
        ("umask", "0x12", Use({"unix_mode": "644"})),
        ("umask", "u=rwx", Refuse('umask "u=rwx" is no number; write for example "0o022".')),
        # logs
        ("loglevel", "INFO", Use({"log_level": "info"})),
        ("loglevel", "warn", Use({"log_level": "warning"})),
        ("accesslog", "-", Use({"access_logfile": "-"})),
        ("accesslog", None, Use({"access_log": False})),
        ("errorlog", None, NOTHING),
        ("logconfig", "log.ini", Use({"log_config": "log.ini"})),
        ("logconfig_json", "log.json", Use({"log_config": "log.json"})),
        (
            "logconfig_json",
            "log.conf",
            Refuse('logconfig_json "log.conf": give the file a name that ends with ".json".'),
        ),
        ("logconfig_dict", {}, NOTHING),
        (
            "logconfig_dict",
            "log.json",
            Refuse("logconfig_dict is no dict, as for logging.config.dictConfig."),
        ),
        (
            "logconfig_dict",
            {"loggers": ["gunicorn.error"]},
            Refuse('logconfig_dict has "loggers" that are no dict.'),
        ),
        # TLS and HTTP
        ("cert_reqs", "2", Use({"ssl_cert_reqs": "2"})),
        ("ssl_version", 2, NOTHING),
        ("ssl_version", 5, Use({"ssl_version": 5})),
        ("http_parser", "fast", Use({"http": "httptools"})),
        ("http_parser", "auto", NOTHING),
        ("http_protocols", "h1", NOTHING),
        ("http2_cleartext", False, NOTHING),
        ("websocket_max_message_size", "1024", Use({"ws_max_size": "1024"})),
        # nothing to be said
        ("threads", "1", NOTHING),
        ("worker_connections", 1000, NOTHING),
        ("sendfile", False, NOTHING),
        ("proxy_protocol", "off", NOTHING),
        ("protocol", "http", NOTHING),
        ("daemon", False, NOTHING),
        ("dirty_apps", [], NOTHING),
    ],
)
def test_what_a_value_comes_to(name: str, value: object, outcome: Outcome) -> None:
    assert translate(name, value) == outcome


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sync", "is for WSGI apps"),
        ("egg:gunicorn#gthread", "is for WSGI apps"),
        ("gevent", "is for WSGI apps"),
        ("eventlet", "is for WSGI apps"),
        ("gunicorn.workers.ggevent.GeventWorker", "is for WSGI apps"),
        ("meinheld.gmeinheld.MeinheldWorker", "is for WSGI apps"),
        ("tornado", "Tornado's are neither"),
        ("aiohttp.worker.GunicornUVLoopWebWorker", "aiohttp's are neither"),
        ("sanic.worker.GunicornWorker", "leave worker_class out"),
        ("shop.worker.Worker", "is not known"),
    ],
)
def test_other_worker_classes_are_refused_with_what_to_do(name: str, words: str) -> None:
    outcome = translate("worker_class", name)
    assert isinstance(outcome, Refuse)
    assert words in outcome.sentence


@pytest.mark.parametrize(
    "text",
    ["a", "a:1", ":1", "[::1]", "[::1]:2", "[::]", "127.0.0.1", "tcp://a", "tcp://[::1]:3"],
)
def test_addresses_are_read_as_gunicorn_reads_them(text: str) -> None:
    util = pytest.importorskip("gunicorn.util")
    outcome = translate("bind", text)
    assert isinstance(outcome, Use)
    (address,) = cast("list[str]", outcome.settings["bind"])
    host, port = util.parse_address(text)
    assert parse_bind(address) == Bind(host or EVERY_INTERFACE, port)


@pytest.mark.parametrize("text", ["unix:/a/b", "unix:///a/b", "unix://a/b", "unix:a"])
def test_paths_are_read_as_gunicorn_reads_them(text: str) -> None:
    util = pytest.importorskip("gunicorn.util")
    assert translate("bind", text) == Use({"bind": [f"unix:{util.parse_address(text)}"]})


@pytest.mark.parametrize("text", ["0", "7", "007", "0o27", "0x12", "18", "077"])
def test_a_umask_is_read_as_gunicorn_reads_it(text: str) -> None:
    config = pytest.importorskip("gunicorn.config")
    mode = f"{0o666 & ~config.auto_int(None, text):03o}"
    assert translate("umask", text) == Use({"unix_mode": mode})


# -- a worker class of the user's own ---------------------------------------------------------


@pytest.mark.parametrize("module", ["uvicorn_worker", "uvicorn.workers"])
@pytest.mark.filterwarnings("ignore:The `uvicorn.workers` module is deprecated")
def test_uvicorns_worker_classes_are_accepted_as_classes(module: str) -> None:
    pytest.importorskip("gunicorn")
    workers = importlib.import_module(module)
    assert translate("worker_class", workers.UvicornWorker) == NOTHING
    assert translate("worker_class", workers.UvicornH11Worker) == H11


def own(**config_kwargs: object) -> type:
    """A class that is derived from uvicorn's, which needs gunicorn to be imported."""
    uvicorns = type("UvicornWorker", (), {"__module__": "uvicorn.workers"})
    return type("Own", (uvicorns,), {"CONFIG_KWARGS": config_kwargs, "__module__": "shop"})


def test_what_a_class_says_to_uvicorn_is_said_to_uvicorn() -> None:
    cls = own(loop="auto", lifespan="off", timeout_keep_alive=30, ws_ping_interval=None)
    wanted = Use({"lifespan": "off", "keep_alive": 30})
    assert translate("worker_class", cls) == wanted
    assert translate("worker_class", described_worker_class(cls)) == wanted


def test_a_class_that_is_not_uvicorns_is_refused() -> None:
    outcome = translate("worker_class", type("Strange", (), {"__module__": "shop.workers"}))
    assert isinstance(outcome, Refuse)
    assert outcome.sentence.startswith('worker_class "shop.workers.Strange" is not known;')


def test_what_a_class_says_and_cannot_be_is_refused_with_its_name() -> None:
    outcome = translate("worker_class", own(uds="/run/a.sock", fd=3))
    assert outcome == Use({"bind": ["fd://3"]})  # the last counts, as each is looked at alone


# -- hooks ------------------------------------------------------------------------------------


def test_hooks() -> None:
    assert translate("post_worker_init", a_function) == Hook("worker_ready")
    assert translate("worker_ready", a_function) == Hook("worker_ready")
    assert translate("on_exit", "shop.hooks.tidy") == Hook("on_exit", "shop.hooks:tidy")
    assert translate("on_exit", None) == NOTHING
    assert translate("on_exit", "tidy") == Refuse(
        'on_exit "tidy" is no function; write for example "module.function".'
    )
    assert translate("pre_fork", 5) == Refuse(
        "pre_fork is no function; define it with def pre_fork(…)."
    )


def test_a_function_where_a_value_should_be() -> None:
    said = Refuse("workers is a function; write what it returns.")
    assert translate("workers", a_function) == said


# -- unknown names ----------------------------------------------------------------------------


def test_near_misses() -> None:
    assert translate("worker", 4) == Unknown("workers")
    assert translate("WORKERS", 4) == Unknown("workers")
    assert translate("max-requests", 4) == Unknown("max_requests")
    assert near("colour") == ""


def test_only_what_the_file_never_reads_is_a_mistake() -> None:
    source = "import os\nhost = 'a'\nworker = 4\nbind = f'{host}:1'\ndef post_forkk(s, w): pass\n"
    assert never_read(source) == {"worker", "bind", "post_forkk"}
    assert warning(["host", "worker"], never_read(source), ["host", "worker", "bind"]) == (
        "no setting, so without effect: worker (did you mean workers?)."
    )
    assert warning(["host"], never_read(source), []) == ""
    both = "no settings, so without effect: post_forkk (did you mean post_fork?), worker."
    assert warning(["worker", "post_forkk"], never_read(source), ["workers"]) == both


def test_functions_are_worth_a_word_only_if_they_are_almost_hooks() -> None:
    assert may_be_a_mistake("post_forkk", function=True)
    assert not may_be_a_mistake("close_caches", function=True)
    assert not may_be_a_mistake("worker", function=True)
    assert may_be_a_mistake("worker", function=False)
    assert not may_be_a_mistake("_worker", function=False)


def test_a_setting_of_forkserves_is_a_variable_where_gunicorn_has_another_name_for_it() -> None:
    assert is_a_setting("max_rss", ["bind"])
    assert is_a_setting("log_level", ["bind"])
    assert not is_a_setting("log_level", ["loglevel"])
    assert is_a_setting("keep_alive", [])
    assert not is_a_setting("keep_alive", ["keepalive"])
    assert not is_a_setting("host", [])
    assert not is_a_setting("app_dir", [])
    assert is_a_setting("workers", ["workers"])


# -- the README's tables ----------------------------------------------------------------------


def test_the_readmes_tables_have_each_setting_once() -> None:
    first_columns = [line.split("|")[1] for line in tables().splitlines() if "`" in line]
    names = [name.strip("` ") for column in first_columns for name in column.split(",")]
    assert sorted(names) == sorted(set(SETTINGS) - {"worker_ready"})
