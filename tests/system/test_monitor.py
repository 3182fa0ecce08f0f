"""The monitor: seen by real clients, missed by nobody, and never an orphan."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from forkserve.monitor.web import MOST_DASHBOARDS
from tests.system.people import ids_of, open_to_everybody
from tests.system.server import APP, MONITOR, PATIENCE, Load, Server, is_gone, name_of

Start = Callable[..., Server]

DEPLOY = Path(__file__).parents[2] / "demo_app/deploy/prometheus"
SEEN = r"the monitor \(pid (\d+)\) is at http://[\d.]+:(\d+)"


def the_monitor(server: Server, since: int = 0) -> tuple[int, int]:
    """Its pid and its port, once it serves."""
    found = server.wait_for_log(SEEN, since=since)
    return int(found[1]), int(found[2])


def connection_to(where: int | Path) -> http.client.HTTPConnection:
    """``where``: a port, or the path of a Unix socket."""
    connection = http.client.HTTPConnection("127.0.0.1", timeout=PATIENCE)
    if isinstance(where, Path):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(PATIENCE)
        connection.sock.connect(os.fspath(where))
    else:
        connection.port = where
    return connection


def ask(where: int | Path, path: str, **headers: str) -> tuple[int, str]:
    with closing(connection_to(where)) as connection:
        connection.request("GET", path, headers=headers)
        with connection.getresponse() as response:
            return response.status, response.read().decode()


def test_a_killed_monitor_comes_back_and_the_service_notices_nothing(start: Start) -> None:
    server = start("-w", "2", "--monitor", "0").wait_until_ready()
    pid, port = the_monitor(server)
    with Load(server) as load:
        since = server.mark()
        os.kill(pid, signal.SIGKILL)
        server.wait_for_log(r"the monitor .* SIGKILL.*the service goes on", since=since)
        again, port_again = the_monitor(server, since)
        assert again != pid
        assert port_again == port
        assert ask(port, "/readyz")[0] == 200
        # No page in a browser on this machine can read it, by whatever name it gets here.
        assert ask(port, "/status", host="attacker.example")[0] == 421
    assert not load.failed
    assert server.stop() == 0
    assert is_gone(again)


def test_it_dies_with_the_master_and_not_of_a_signal_to_all(start: Start) -> None:
    server = start("--monitor", "0").wait_until_ready()
    pid, port = the_monitor(server)
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    assert ask(port, "/livez")[0] == 200
    assert name_of(pid) == MONITOR
    os.kill(pid, signal.SIGSTOP)  # so that it is the kernel's doing, and not its own
    os.kill(server.pid, signal.SIGKILL)
    server.wait_for("all of them gone", lambda: all(map(is_gone, server.seen_pids | {pid})))


def test_it_says_whether_the_service_is_ready_from_the_first_to_the_last(
    start: Start, folder: Path
) -> None:
    os.mkfifo(folder / "gate")
    held = "import os\nif os.environ['FORKSERVE_SLOT'] == '1': open('gate').read()\n"
    (folder / "app.py").write_text(held + APP)
    server = start("-w", "2", "--ready-min", "2", "--monitor", "0", "--no-preload")
    _, port = the_monitor(server)
    one = "1 of 2 workers are ready; 2 must be.\n"
    server.wait_for("one ready", lambda: ask(port, "/readyz") == (503, one))
    assert ask(port, "/livez")[0] == 200
    (folder / "gate").write_text("")
    server.wait_until_ready()
    server.wait_for("ready", lambda: ask(port, "/readyz")[0] == 200)
    with hanging_request(server):
        server.signal(signal.SIGTERM)
        server.wait_for_log("stopping because of")
        server.wait_for("not ready", lambda: "stopping" in ask(port, "/readyz")[1])
        assert ask(port, "/livez")[0] == 200
    server.wait_for_exit()


@contextmanager
def hanging_request(server: Server) -> Iterator[None]:
    """A request that is not complete, and so holds up its worker's leave."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    with closing(connection):
        connection.putrequest("POST", "/")
        connection.putheader("content-length", "1")
        connection.endheaders()
        yield


def test_a_token_is_asked_for_and_shown_nowhere(start: Start, folder: Path) -> None:
    (folder / "token").write_text("s3cret-t0ken\n")
    server = start("--monitor", "0.0.0.0:0", "--monitor-token", "token").wait_until_ready()
    pid, port = the_monitor(server)
    assert "asks nobody" not in server.log
    assert ask(port, "/status")[0] == 401
    server.wait_for("ready", lambda: ask(port, "/readyz")[0] == 200)
    status, text = ask(port, "/status", authorization="Bearer s3cret-t0ken")
    assert status == 200
    assert json.loads(text)["monitor"]["pid"] == pid
    titles = [Path(f"/proc/{one}/cmdline").read_text() for one in (server.pid, pid)]
    assert "s3cret" not in server.log + text + "".join(titles)


def test_an_upgrade_passes_the_address_on_once_it_succeeds(start: Start) -> None:
    server = start("--monitor", "0").wait_until_ready()
    pid, port = the_monitor(server)
    old = server.pid
    with dashboard(port) as watching:
        server.write("raise RuntimeError('bad deploy')")
        assert server.upgrade() == "failed"
        assert news(watching, "bad deploy")["monitor"]["pid"] == pid  # nobody was cut off
    server.write(APP)
    since = server.mark()
    with Load(server, port=port, path="/status", clients=2) as load:
        assert server.upgrade() == "done"
        new, same_port = the_monitor(server, since)
        server.wait_for("the old one gone", lambda: is_gone(pid))
    # The old one has answered whom it had accepted; who came later has waited for the new one.
    assert load.failed == []
    assert same_port == port
    shown = json.loads(ask(port, "/status")[1])
    assert (shown["pid"], shown["monitor"]["pid"]) == (server.pid, new)
    assert server.pid != old
    assert server.stop() == 0
    server.wait_for("the monitor gone", lambda: is_gone(new))


@contextmanager
def dashboard(port: int) -> Iterator[http.client.HTTPResponse]:
    """One that is open: its stream, if there is room for it."""
    with closing(connection_to(port)) as connection:
        connection.request("GET", "/events")
        with connection.getresponse() as stream:
            yield stream


def news(stream: http.client.HTTPResponse, text: str = "") -> Any:
    """The next status in a dashboard's stream that has ``text`` in it."""
    for line in stream:
        if line.startswith(b"data: {") and text.encode() in line:
            return json.loads(line.removeprefix(b"data: "))
    raise AssertionError("the stream has ended")


def test_many_dashboards_and_one_that_never_reads(start: Start) -> None:
    server = start("--monitor", "0").wait_until_ready()
    pid, port = the_monitor(server)
    with ExitStack() as opened:
        deaf = opened.enter_context(closing(connection_to(port)))
        deaf.request("GET", "/events")
        streams = [opened.enter_context(dashboard(port)) for _ in range(MOST_DASHBOARDS - 1)]
        for stream in streams:
            assert stream.readline() == b"retry: 1000\n"  # should it be cut off
            news(stream, '"state":"serving"')
        with dashboard(port) as one_more:
            assert one_more.status == 503
        os.kill(server.worker_pids().pop(), signal.SIGKILL)
        for stream in streams:
            assert "SIGKILL" in news(stream, "SIGKILL")["deaths"][0]["text"]
        assert ask(port, "/livez")[0] == 200

    def there_is_room() -> bool:
        with dashboard(port) as stream:
            return stream.status == 200

    server.wait_for("room", there_is_room)
    assert name_of(pid) == MONITOR
    assert server.stop() == 0


def test_a_unix_socket_is_the_users_alone_and_kept_over_monitors_and_masters(
    start: Start, folder: Path
) -> None:
    path = folder / "m.sock"
    server = start("--monitor", "unix:m.sock").wait_until_ready()
    seen = rf"the monitor \(pid (\d+)\) is at unix:{path}"
    pid = int(server.wait_for_log(seen)[1])
    made = path.stat()
    assert stat.filemode(made.st_mode) == "srw-------"
    assert ask(path, "/status", host="a.proxy.example")[0] == 200
    for how in (lambda: os.kill(pid, signal.SIGKILL), server.upgrade):
        since = server.mark()
        how()
        server.wait_for_log(seen, since=since)
        assert json.loads(ask(path, "/status")[1])["pid"] == server.pid
        assert path.stat().st_ino == made.st_ino
    server.wait_for_log("the old master .* has left")
    assert server.stop() == 0
    assert not path.exists()
    assert "asks nobody for a token" not in server.log


def test_an_address_for_all_is_warned_of(start: Start) -> None:
    server = start("--monitor", "0.0.0.0:0").wait_until_ready()
    server.wait_for_log(r"WARNING .*the monitor at 0\.0\.0\.0:0 asks nobody for a token")
    _, port = the_monitor(server)
    assert ask(port, "/status", host="status.example.org")[0] == 200
    for _ in range(3):  # Nor can anybody fill the log.
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as nonsense:
            nonsense.sendall(b"\0\r\n\r\n")
            assert b" 400 " in nonsense.recv(1000)
    complaint = "has a difficulty: Invalid HTTP request received."
    server.wait_for_log(complaint)
    assert server.stop() == 0
    assert server.log.count(complaint) == 1


BLOCKS = """
import time
from starlette.responses import PlainTextResponse
def blocks(*_):
    while True:
        time.sleep(0.1)
PlainTextResponse.render = blocks
from forkserve.cli import main
main()
"""
"""A forkserve whose monitor hangs as soon as it is to answer in plain text."""


def test_one_that_hangs_is_replaced_and_its_stack_shown(start: Start) -> None:
    command = [sys.executable, "-c", BLOCKS]
    server = start("--monitor", "0", command=command).wait_until_ready()
    pid, port = the_monitor(server)
    since = server.mark()
    with closing(connection_to(port)) as connection:
        connection.request("GET", "/livez")
        server.wait_for_log(rf"the monitor \(pid {pid}\) was killed: it hangs", since=since)
    server.wait_for_log("in blocks$", since=since)
    again, _ = the_monitor(server, since)
    assert json.loads(ask(port, "/status")[1])["monitor"]["pid"] == again
    assert server.get().startswith("VERSION")
    assert server.stop() == 0


WITHOUT = "import sys; sys.modules['starlette'] = None; from forkserve.cli import main; main()"


def test_without_its_packages_it_does_not_start(start: Start) -> None:
    server = start("--monitor", "0", command=[sys.executable, "-c", WITHOUT])
    assert server.wait_for_exit() == 2
    sentence = '--monitor needs starlette, which "pip install forkserve[monitor]" brings.'
    assert server.lines[-2].endswith(sentence)


def test_with_packages_that_have_broken_the_service_goes_on(start: Start, folder: Path) -> None:
    broken = folder / "prometheus_client.py"
    broken.write_text("")
    server = start("--monitor", "0").wait_until_ready()
    why = r"the monitor \(pid \d+\) cannot live: .*prometheus_client.*; \"pip install"
    server.wait_for_log(why)
    assert server.get().startswith("VERSION")
    broken.unlink()
    _, port = the_monitor(server)
    assert ask(port, "/livez")[0] == 200
    assert "Traceback" not in server.log
    assert server.stop() == 0


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Not below pytest's own, which is closed to others."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "app.py").write_text(APP)
        yield Path(name).resolve()


def test_another_user_gets_the_token_but_not_its_file(start: Start, open_folder: Path) -> None:
    under = open_to_everybody(open_folder)
    (open_folder / "token").write_text("s3cret-t0ken\n")
    (open_folder / "token").chmod(0o600)
    options = ("--user", "nobody", "--monitor", "0", "--monitor-token", "token")
    server = start(*options, under=under, folder=open_folder).wait_until_ready()
    pid, port = the_monitor(server)
    since = server.mark()
    os.kill(pid, signal.SIGKILL)
    pid, port = the_monitor(server, since)
    assert set(ids_of(pid)["Uid"]) == {pwd.getpwnam("nobody").pw_uid}
    assert ask(port, "/status", authorization="Bearer wrong")[0] == 401
    assert ask(port, "/status", authorization="Bearer s3cret-t0ken")[0] == 200
    os.kill(pid, signal.SIGSTOP)  # who has changed its user is told of the master's death, too
    os.kill(server.pid, signal.SIGKILL)
    server.wait_for("all of them gone", lambda: all(map(is_gone, server.seen_pids | {pid})))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--monitor", "fd://3"], "write PORT, HOST:PORT or unix:PATH"),
        (["--monitor", "0", "--monitor-token", "none"], "none: cannot be read: No such file"),
        (["--monitor-token", "token"], "--monitor-token is for --monitor; give that too"),
        (["-w", "2", "--ready-min", "3"], "--ready-min 3 is more than there are --workers"),
    ],
)
def test_what_cannot_be_is_one_sentence(start: Start, options: list[str], sentence: str) -> None:
    server = start(*options)
    assert server.wait_for_exit() == 2
    assert sentence in server.log
    assert "Traceback" not in server.log


def asked_by_grafana() -> Iterator[str]:
    """What the dashboard asks Prometheus, for all instances and the last minute."""
    board = json.loads((DEPLOY / "grafana.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [each["expr"] for each in board["annotations"]["list"]]
    for each in board["templating"]["list"]:
        if each["type"] == "query":
            found = re.fullmatch(r"label_values\((.*), (\w+)\)", each["query"]["query"])
            assert found
            queries.append(f"count by ({found[2]}) ({found[1]})")
    for query in queries:
        yield re.sub(r"\$(job|instance)\b", ".+", query).replace("$__rate_interval", "1m")


def compared_by_the_rules() -> Iterator[str]:
    """What the alert rules compare with a limit, or with each other."""
    for group in yaml.safe_load((DEPLOY / "forkserve.rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            sides = re.split(r" (?:==|<|>) ", rule["expr"])
            assert len(sides) == 2
            yield from (side for side in sides if not re.fullmatch(r"[\d.]+", side))


@pytest.mark.skipif(not shutil.which("prometheus"), reason="needs prometheus")
def test_prometheus_knows_an_answer_to_all_that_is_asked(start: Start, tmp_path: Path) -> None:
    server = start("-w", "2", "--monitor", "0").wait_until_ready()
    _, port = the_monitor(server)
    for _ in range(5):
        server.get("/")
    config = (DEPLOY / "prometheus.yml").read_text()
    config = config.replace("127.0.0.1:9000", f"127.0.0.1:{port}").replace("15s", "500ms")
    (tmp_path / "prometheus.yml").write_text(config)
    shutil.copy(DEPLOY / "forkserve.rules.yml", tmp_path)
    with prometheus(tmp_path) as base:

        def seen(query: str) -> list[str]:
            asked = urllib.parse.urlencode({"query": query})
            try:
                with urllib.request.urlopen(f"{base}/api/v1/query?{asked}") as answer:
                    result: Any = json.load(answer)["data"]["result"]
            except urllib.error.HTTPError:
                return []  # it listens before it is ready
            return [one["value"][1] for one in result if one["value"][1] != "NaN"]

        server.wait_for("scraped", lambda: seen("forkserve_requests_total") == ["5"])
        assert seen("forkserve_workers_ready") == ["2"]
        # The first of its kind has to show, too.
        os.kill(server.worker_pids().pop(), signal.SIGKILL)
        died = 'increase(forkserve_worker_restarts_total{cause="crashed"}[1m]) > 0'
        server.wait_for("a death", lambda: seen(died) != [])
        assert server.reload() == "done"
        server.get("/")
        for query in (*asked_by_grafana(), *compared_by_the_rules()):
            server.wait_for(f"an answer to {query}", lambda query=query: seen(query) != [])
    assert server.stop() == 0


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [
            "prometheus",
            "--config.file=prometheus.yml",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr
        address = next(
            found[1]
            for line in process.stderr
            if (found := re.search(r'msg="Listening on" address=(\S+)', line))
        )
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait(PATIENCE)
        assert process.stderr
        process.stderr.close()
