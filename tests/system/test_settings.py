"""Settings as an operator meets them: files, the environment, mistakes, and what a reload reads."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.system.people import open_to_everybody
from tests.system.server import PATIENCE, Server

Start = Callable[..., Server]


def forkserve(
    folder: Path, *args: str, under: Sequence[str] = (), **environ: str
) -> subprocess.CompletedProcess[str]:
    """``under``: a command that executes it."""
    return subprocess.run(
        [*under, sys.executable, "-m", "forkserve", *args],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_mistakes_of_all_sources_are_told_at_once_with_exit_code_2(folder: Path) -> None:
    (folder / "forkserve.toml").write_text("workers = 0\n")
    done = forkserve(folder, "--surge", "x", "app:app", FORKSERVE_TIMEOUT="soon")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "forkserve: 3 things are wrong:",
        '  forkserve.toml:1, workers: "0" is not a number of workers; write 1 to 512, or "auto".',
        '  FORKSERVE_TIMEOUT: "soon" is no number of seconds; write for example 30.',
        '  --surge: "x" is no whole number from 1 to 512.',
    ]
    assert not done.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--wokers", "3", "app:app"], "forkserve: there is no option --wokers; did you mean"),
        (["--ws-max-sze=3", "app:app"], "did you mean --ws-max-size"),
        (["app:app", "other:app"], "forkserve: Got unexpected extra argument (other:app)"),
        (["-w"], "forkserve: Option '-w' requires an argument."),
        ([], 'forkserve: there is no APP to serve; write for example "forkserve demo_app:app".'),
        (["app/main.py:app"], 'APP: "app/main.py:app" is a path; write the module'),
    ],
)
def test_a_wrong_command_line_is_one_sentence(folder: Path, args: list[str], said: str) -> None:
    done = forkserve(folder, *args)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_print_config_says_where_each_value_comes_from(folder: Path) -> None:
    (folder / "forkserve.toml").write_text("surge = 2\n")
    done = forkserve(folder, "--print-config", "-w", "3", "app:app", WEB_CONCURRENCY="7")
    assert done.returncode == 0
    assert re.search(r"^workers = 3 +# --workers$", done.stdout, re.M)
    assert re.search(r"^surge = 2 +# forkserve.toml:1$", done.stdout, re.M)
    assert re.search(r'^loop = "auto" +# default$', done.stdout, re.M)


def test_uvicorns_options_reach_uvicorn(start: Start, folder: Path) -> None:
    (folder / ".env").write_text("GREETING=hello\n")
    (folder / "app.py").write_text(
        "import os, asyncio\n"
        "greeting = os.environ['GREETING']\n"
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    loop = type(asyncio.get_running_loop()).__module__\n"
        "    body = f\"{greeting} {scope['root_path']} {loop}\".encode()\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': body})\n"
    )
    options = ("--env-file", ".env", "--root-path", "/api", "--loop", "asyncio", "--http", "h11")
    more = ("--lifespan", "off", "--no-server-header", "--header", "x-served-by: forkserve")
    server = start(*options, *more).wait_until_ready()
    body, headers = server.fetch("/")
    assert body.startswith("hello /api asyncio")
    assert headers["x-served-by"].strip() == "forkserve"
    assert "server" not in headers


def test_wsgi_apps_are_served_too(start: Start, folder: Path) -> None:
    (folder / "app.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('content-type', 'text/plain')])\n"
        "    return [b'by WSGI']\n"
    )
    server = start("--interface", "wsgi").wait_until_ready()
    assert server.get("/") == "by WSGI"


def test_wsgi_apps_are_served_through_a2wsgi(start: Start, folder: Path) -> None:
    pytest.importorskip("a2wsgi")
    (folder / "app.py").write_text(
        "import a2wsgi\n"
        "def wsgi_app(environ, start_response):\n"
        "    start_response('200 OK', [('content-type', 'text/plain')])\n"
        "    return [environ['PATH_INFO'].encode()]\n"
        "app = a2wsgi.WSGIMiddleware(wsgi_app)\n"
    )
    server = start("-w", "2").wait_until_ready()
    assert server.get("/by/a2wsgi") == "/by/a2wsgi"
    assert server.reload() == "done"
    assert server.stop() == 0


@pytest.mark.parametrize(
    "arguments", ["--help", "--version", "--print-config", "check app:app", "check --help"]
)
def test_what_cannot_be_printed_is_one_sentence(folder: Path, arguments: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "forkserve", *arguments.split()],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )
    said = "forkserve: standard output cannot be written to: No space left on device.\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize("arguments", ["-c gunicorn.conf.py app:app", "--ws-max-size 1 app:app"])
def test_a_process_that_the_system_refuses_is_one_sentence(folder: Path, arguments: str) -> None:
    (folder / "gunicorn.conf.py").write_text("workers = 2\n")
    # The limit does not hold for root (setrlimit(2)).
    way = open_to_everybody(folder)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = forkserve(folder, *arguments.split(), under=[*way, *nobody, "prlimit", "--nproc=1"])
    assert done.returncode == 1
    assert re.fullmatch(
        r"forkserve: the system refuses to make another process \(.*\): look at .*\.\n", done.stderr
    )


# -- a reload -------------------------------------------------------------------------------


def test_a_reload_reads_the_file_again(start: Start, folder: Path) -> None:
    (folder / "forkserve.toml").write_text("workers = 1\nworker_env = {COLOUR = 'red'}\n")
    (folder / "app.py").write_text(
        "import os\n"
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    body = os.environ['COLOUR'].encode()\n"
        "    await send({'type': 'http.response.body', 'body': body})\n"
    )
    server = start().wait_until_ready()
    assert server.get("/") == "red"
    (folder / "forkserve.toml").write_text("workers = 2\nworker_env = {COLOUR = 'blue'}\n")
    assert server.reload() == "done"
    server.wait_for("two workers", lambda: len(server.worker_pids()) == 2)
    assert server.get("/") == "blue"


def test_a_file_that_cannot_be_read_any_more_changes_nothing(start: Start, folder: Path) -> None:
    (folder / "conf.py").write_text("workers = 1\n")
    server = start("-c", "conf.py").wait_until_ready()
    before = server.worker_pids()
    (folder / "conf.py").write_text("workers = 2\nwokers = (\n")
    assert server.reload() == "failed"
    assert re.search(r"reload failed: generation 1 keeps serving.*conf\.py:2: Synt", server.log)
    (folder / "conf.py").write_text("workers = -2\nsurge = 'no'\n")
    assert server.reload() == "failed"
    assert "2 settings are wrong:" in server.log
    server.wait_for("as before", lambda: server.worker_pids() == before)
    # The worker that replaces a dead one is made by the settings that it was accepted with.
    (folder / "conf.py").write_text("workers = 2\n")
    assert server.reload() == "done"


def test_a_place_that_is_gone_changes_nothing(start: Start, folder: Path) -> None:
    release = folder / "release"
    release.mkdir()
    (release / "app.py").write_text((folder / "app.py").read_text())
    server = start(folder=release).wait_until_ready()
    shutil.rmtree(release)
    assert server.reload() == "failed"
    server.wait_for_log(rf"reload failed: .*{release}, where forkserve was started.* cannot be ent")
    assert "Traceback" not in server.log


def test_a_reload_does_not_wait_for_what_a_file_has_started(start: Start, folder: Path) -> None:
    """As multiprocessing.Manager() does, which forks and keeps all that is open."""
    (folder / "conf.py").write_text("workers = 1\n")
    server = start("-c", "conf.py").wait_until_ready()
    (folder / "conf.py").write_text(
        "import os, time\n"
        "open('held', 'w').close()\n"
        "if os.fork() == 0:\n"
        "    os.closerange(0, 3)\n"
        "    while os.path.exists('held'):\n"
        "        time.sleep(0.01)\n"
        "    os._exit(0)\n"
        "workers = 2\n"
    )
    assert server.reload() == "done"
    server.wait_for("two workers", lambda: len(server.worker_pids()) >= 2)
    (folder / "held").unlink()
    assert server.stop() == 0


def test_settings_of_a_dropped_generation_are_dropped_with_it(start: Start, folder: Path) -> None:
    (folder / "forkserve.toml").write_text("workers = 1\n")
    server = start().wait_until_ready()
    good = (folder / "app.py").read_text()
    server.write("import nothing_like_this")
    (folder / "forkserve.toml").write_text("workers = 3\n")
    assert server.reload() == "failed"
    since = server.mark()
    os.kill(next(iter(server.worker_pids())), signal.SIGKILL)
    server.wait_for_log(r"1 ready, 1 wanted", since=since)
    server.write(good)
    assert server.reload() == "done"
    server.wait_for("three workers", lambda: len(server.worker_pids()) == 3)


def test_what_cannot_change_while_the_master_runs_is_said(start: Start, folder: Path) -> None:
    (folder / "forkserve.toml").write_text("spares = 0\n")
    server = start().wait_until_ready()
    (folder / "forkserve.toml").write_text("spares = 1\n")
    since = server.mark()
    server.signal(signal.SIGHUP)
    server.wait_for_log(r"spares cannot be changed while the master runs", since=since)
    server.wait_for_log(r"reload done", since=since)


def test_ctrl_c_while_the_settings_are_read_is_no_traceback(start: Start, folder: Path) -> None:
    (folder / "conf.py").write_text(
        "import time\nopen('reading', 'w').close()\ntime.sleep(600)\nworkers = 1\n"
    )
    server = start("-c", "conf.py")
    server.wait_for("reading", lambda: (folder / "reading").exists())
    os.killpg(server.process.pid, signal.SIGINT)
    assert server.wait_for_exit() == 130
    assert server.lines == ["<end of log>"]


def test_term_while_the_settings_are_read_stops_at_once(start: Start, folder: Path) -> None:
    (folder / "conf.py").write_text("workers = 1\n")
    server = start("-c", "conf.py").wait_until_ready()
    (folder / "conf.py").write_text(
        "import time\nopen('reading', 'w').close()\ntime.sleep(600)\nworkers = 1\n"
    )
    server.signal(signal.SIGHUP)
    server.wait_for("reading", lambda: (folder / "reading").exists())
    assert server.get("/").startswith("VERSION")
    assert server.stop() == 0
