"""Settings from every source: who has the last word, and what is said of mistakes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from forkserve.config.bind import Bind
from forkserve.config.foreign import NOT_PASSED_ON
from forkserve.config.given import Found, Given
from forkserve.config.reading import Reading, Sources, WrongSettingsError, known_options, read
from forkserve.config.settings import OPTIONS
from forkserve.config.show import as_toml

Read = Callable[..., Reading]


@pytest.fixture
def read_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Reads in an empty directory; ``line`` is the command line."""
    monkeypatch.chdir(tmp_path)

    def read_it(
        environ: dict[str, str] | None = None,
        file: str = "",
        app: str = "demo_app:app",
        **line: object,
    ) -> Reading:
        given = [Given(name, value, f"--{name}") for name, value in line.items()]
        given += [Given("app", app, "APP")] if app else []
        return read(Sources([Found(given)], file), environ or {})

    return read_it


def problems_of(call: Callable[[], object]) -> list[str]:
    with pytest.raises(WrongSettingsError) as caught:
        call()
    return list(caught.value.problems)


# -- who has the last word ------------------------------------------------------------------


def test_the_command_line_beats_the_environment_beats_the_file_beats_the_default(
    read_here: Read,
) -> None:
    assert read_here().settings.workers == 1
    Path("forkserve.toml").write_text("workers = 2\n")
    assert read_here().settings.workers == 2
    assert read_here({"WEB_CONCURRENCY": "3"}).settings.workers == 3
    both = {"WEB_CONCURRENCY": "3", "FORKSERVE_WORKERS": "4"}
    assert read_here(both).settings.workers == 4
    assert read_here(both, workers="5").settings.workers == 5


def test_a_gunicorn_file_beats_what_gunicorn_takes_for_defaults(read_here: Read) -> None:
    Path("gunicorn.conf.py").write_text("workers = 2\nbind = '127.0.0.1:7000'\n")
    reading = read_here({"WEB_CONCURRENCY": "3", "PORT": "9000"})
    assert reading.settings.workers == 2
    assert reading.settings.bind == (Bind("127.0.0.1", 7000),)
    assert read_here({"FORKSERVE_WORKERS": "4"}).settings.workers == 4


def test_gunicorns_variable_for_flags_is_read(read_here: Read) -> None:
    Path("gunicorn.conf.py").write_text("workers = 2\ntimeout = 7\n")
    given = {
        "GUNICORN_CMD_ARGS": "--workers=3 --bind 127.0.0.1:7000 --access-logformat '%(h)s %(s)s'"
    }
    reading = read_here(given)
    assert reading.settings.workers == 3
    assert reading.settings.timeout == 7
    assert reading.settings.bind == (Bind("127.0.0.1", 7000),)
    assert reading.settings.access_logformat == "%(h)s %(s)s"
    assert reading.places["workers"] == "GUNICORN_CMD_ARGS, --workers"
    assert read_here(given | {"FORKSERVE_WORKERS": "4"}).settings.workers == 4

    Path("other.py").write_text("workers = 5\n")
    assert read_here({"GUNICORN_CMD_ARGS": "-c other.py"}).settings.workers == 5
    assert read_here({"GUNICORN_CMD_ARGS": "-c gone.py"}, file="other.py").file == "other.py"
    for wrong, why in (
        ("--name 'x", "GUNICORN_CMD_ARGS: No closing quotation."),
        ("--wrokers 3", "GUNICORN_CMD_ARGS: No such option"),
        ("--workers four", 'GUNICORN_CMD_ARGS, --workers: "four" is not a number of workers'),
        ("-k gevent", 'GUNICORN_CMD_ARGS, -k: worker_class "gevent" is for WSGI apps'),
    ):
        (said,) = problems_of(lambda w=wrong: read_here({"GUNICORN_CMD_ARGS": w}))  # type: ignore[misc]
        assert why in said


def test_port_means_every_interface(read_here: Read) -> None:
    assert read_here({"PORT": "9000"}).settings.bind == (Bind("0.0.0.0", 9000),)


def test_each_value_knows_where_it_was_given(read_here: Read) -> None:
    Path("forkserve.toml").write_text("# ours\n\nsurge = 2\n")
    reading = read_here({"FORKSERVE_TIMEOUT": "5"}, workers="3")
    assert reading.places == {
        "surge": "forkserve.toml:3",
        "timeout": "FORKSERVE_TIMEOUT",
        "workers": "--workers",
        "app": "APP",
    }


# -- files ----------------------------------------------------------------------------------


def test_pyproject_is_found_without_asking_if_it_has_our_table(read_here: Read) -> None:
    Path("pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert read_here().file == ""
    Path("pyproject.toml").write_text(
        "[project]\nname = 'x'\n[tool.forkserve]\nmax-rss = '1G'\nworker_env = {GPU = '{slot}'}\n"
    )
    reading = read_here()
    assert reading.file == "pyproject.toml"
    assert reading.settings.max_rss == 1 << 30
    assert reading.settings.worker_env == (("GPU", "{slot}"),)
    assert reading.places["max_rss"] == "pyproject.toml:4"


def test_a_python_file_may_compute_its_values(read_here: Read) -> None:
    Path("conf.py").write_text(
        "import os\nfrom pathlib import Path\n_half = 2\nworkers = _half * 2\n"
        "bind = ['127.0.0.1:0', '[::1]:0']\napp_dir = Path('.')\n"
    )
    reading = read_here(file="conf.py")
    assert reading.settings.workers == 4
    assert reading.settings.bind == (Bind("127.0.0.1", 0), Bind("::1", 0))
    assert reading.places["workers"] == "conf.py:4"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("gone.toml", None, "gone.toml: cannot be read (No such file or directory)."),
        ("gone.py", None, "gone.py: cannot be read (No such file or directory)."),
        ("conf.ini", "", "-c conf.ini: is neither a .toml nor a .py file."),
        ("conf.py", "x = 1\nimport nothing_like_this\n", "conf.py:2: ModuleNotFoundError"),
        ("conf.py", "x = 1\ndef (\n", "conf.py:2: SyntaxError"),
        ("conf.py", "x = 1\0\n", "SyntaxError: source code string cannot contain null"),
        ("conf.py", "x = 1\nraise KeyboardInterrupt\n", "conf.py:2: KeyboardInterrupt."),
        (
            "conf.py",
            "import os\nos._exit(4)\n",
            "conf.py: the process that executed it ended with 4",
        ),
        ("conf.py", "import sys\nsys.exit('no')\n", "conf.py:2: SystemExit: no."),
        ("conf.toml", "workers = \n", "conf.toml: is no valid TOML"),
        ("conf.toml", "wokers = 3\n", 'conf.toml:1: there is no setting "wokers"; did you mean'),
        (
            "conf.toml",
            "workers = 0\n",
            'conf.toml:1, workers: "0" is not a number of workers; write 1 to 512, or "auto".',
        ),
        ("conf.toml", "workers = true\n", 'conf.toml:1, workers: "True" is not a number'),
        (
            "conf.toml",
            "unix_mode = 660\n",
            'the decimal number 660 is 1224 in octal, which is too much; write "660" or 0o660',
        ),
        ("conf.toml", "ready_path = 5\n", "conf.toml:1, ready_path: 5 is no text"),
        ("conf.toml", "a = " + "[" * 5000, "conf.toml: is no valid TOML: maximum recursion"),
        ("conf.toml", 'chdir = "a\\u0000b"\n', "conf.toml:1, chdir: there is a null byte in it"),
        ("pyproject.toml", "tool.forkserve = 3\n", "toml: tool.forkserve is no table of settings."),
    ],
)
def test_a_mistake_in_a_file_is_one_sentence_with_its_place(
    read_here: Read, name: str, content: str | None, problem: str
) -> None:
    if content is not None:
        Path(name).write_text(content)
    (said,) = problems_of(lambda: read_here(file=name))
    assert problem in said


# -- mistakes -------------------------------------------------------------------------------


def test_all_mistakes_are_found_at_once(read_here: Read) -> None:
    Path("forkserve.toml").write_text("workers = 'four'\nlop = 'uvloop'\n")
    said = problems_of(
        lambda: read_here({"FORKSERVE_SURGE": "-1"}, app="", share="imortal", max_requests_jitter=5)
    )
    assert said == [
        'forkserve.toml:1, workers: "four" is not a number of workers; write 1 to 512, or "auto".',
        'forkserve.toml:2: there is no setting "lop"; did you mean "loop"?',
        'FORKSERVE_SURGE: "-1" is no whole number from 1 to 512.',
        '--share: "imortal" is not possible; did you mean "immortal"?',
        'there is no APP to serve; write for example "forkserve demo_app:app".',
        "--max-requests-jitter adds to --max-requests; give that too.",
    ]


def test_what_a_cluster_or_a_worker_puts_into_the_environment_is_no_mistake(
    read_here: Read,
) -> None:
    read_here(
        {
            "FORKSERVE_PORT": "tcp://10.0.0.1:80",
            "FORKSERVE_PORT_80_TCP_ADDR": "10.0.0.1",
            "FORKSERVE_SERVICE_HOST": "10.0.0.1",
            "FORKSERVE_SERVICE_PORT_HTTP": "80",
            "FORKSERVE_SLOT": "0",
            "FORKSERVE_WORKER_ID": "1",
            "FORKSERVE_GENERATION": "1",
        }
    )


# -- uvicorn's ------------------------------------------------------------------------------


def test_uvicorns_options_are_passed_on_under_their_names(read_here: Read) -> None:
    reading = read_here(loop="asyncio", access_log=False, headers=["x-a:1"])
    assert reading.settings.uvicorn == {
        "loop": "asyncio",
        "access_log": False,
        "headers": ("x-a:1",),
    }


def test_every_option_of_uvicorns_command_can_be_given(read_here: Read) -> None:
    """What uvicorn adds appears by itself; what it takes is what uvicorn.Config takes."""
    from uvicorn import Config
    from uvicorn.main import main

    taken = set(inspect.signature(Config).parameters)
    options = known_options()
    passed_on = set(options) - {option.name for option in OPTIONS}
    assert passed_on <= taken
    ours = {"app", "version"} | NOT_PASSED_ON
    assert {param.name for param in main.params} - ours <= set(options)
    loop = next(param for param in main.params if param.name == "loop")
    assert options["loop"].help == loop.help  # type: ignore[attr-defined]


def test_a_wrong_value_of_uvicorns_is_found_too(read_here: Read) -> None:
    said = problems_of(lambda: read_here(loop="uvlop", ws_max_size="big", lifespan="of"))
    assert said == [
        '--loop: "uvlop" is not possible; did you mean "uvloop"?',
        '--ws_max_size: "big" is no whole number.',
        '--lifespan: "of" is not possible; did you mean "off"?',
    ]
    assert read_here(loop="my.module:Loop").settings.uvicorn["loop"] == "my.module:Loop"


# -- showing --------------------------------------------------------------------------------


def test_what_is_shown_can_be_read_again(read_here: Read, tmp_path: Path) -> None:
    first = read_here(
        {"FORKSERVE_BIND": "127.0.0.1:1,127.0.0.1:2"}, max_rss="1M", worker_env="A=b", ws="wsproto"
    )
    shown = as_toml(first, known_options())
    (tmp_path / "shown.toml").write_text(shown)
    again = read(Sources(file="shown.toml"), {})
    own = {option.name for option in OPTIONS}
    assert {name: getattr(again.settings, name) for name in own} == {
        name: getattr(first.settings, name) for name in own
    }
    assert again.settings.uvicorn["ws"] == "wsproto"


def test_a_secret_is_not_shown(read_here: Read) -> None:
    shown = as_toml(read_here(ssl_keyfile_password="hush"), known_options())
    assert "hush" not in shown
    assert "ssl_keyfile_password" in shown
    # A settings file often sets passwords for the app.
    Path("gunicorn.conf.py").write_text("import os\nos.environ['db.password'] = 'hush'\n")
    reading = read_here(env="TOKEN=hush")
    assert reading.settings.env == (("TOKEN", "hush"),)
    assert "hush" not in as_toml(reading, known_options())
    assert read_here().settings.env == (("db.password", "hush"),)


@pytest.mark.parametrize(
    "content",
    [
        "ssl_keyfile_password = 12345\n",
        'env = ["A B=12345"]\n',
        'env = ["12345"]\n',
        'env = ["A=12345\\u0000"]\n',
    ],
)
def test_a_secret_is_not_in_what_is_said_of_it(read_here: Read, content: str) -> None:
    Path("forkserve.toml").write_text(content)
    (said,) = problems_of(read_here)
    assert "12345" not in said


def test_a_table_that_is_not_ours_is_no_mistake(read_here: Read) -> None:
    Path("pyproject.toml").write_text("tool = 3\n")
    assert read_here().file == ""
    assert read_here(file="pyproject.toml").settings.workers == 1
