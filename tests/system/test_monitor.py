"""The monitor: seen by real clients, missed by nobody, and never an orphan."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.system.server import MONITOR, PATIENCE, Load, Server, is_gone, name_of

Start = Callable[..., Server]

DEPLOY = Path(__file__).parents[2] / "demo_app/deploy/prometheus"
SEEN = r"the monitor \(pid (\d+)\) is at http://127\.0\.0\.1:(\d+)"


def the_monitor(server: Server, since: int = 0) -> tuple[int, int]:
    """Its pid and its port, once it serves."""
    found = server.wait_for_log(SEEN, since=since)
    return int(found[1]), int(found[2])


def ask(port: int, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with closing(connection):
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
    os.kill(server.pid, signal.SIGKILL)
    server.wait_for("all of them gone", lambda: all(map(is_gone, server.seen_pids | {pid})))


def test_it_says_whether_the_service_is_ready_from_the_first_to_the_last(
    start: Start, folder: Path
) -> None:
    source = (folder / "app.py").read_text()
    os.mkfifo(folder / "gate")
    (folder / "app.py").write_text("open('gate').read()\n" + source)
    server = start("--monitor", "0", "--no-preload")
    _, port = the_monitor(server)
    assert ask(port, "/readyz") == (503, "0 of 1 workers are ready; 1 must be.\n")
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
    server = start("--monitor", "0", "--monitor-token", "token").wait_until_ready()
    pid, port = the_monitor(server)
    assert ask(port, "/status")[0] == 401
    server.wait_for("ready", lambda: ask(port, "/readyz")[0] == 200)
    status, text = ask(port, "/status", authorization="Bearer s3cret-t0ken")
    assert status == 200
    assert json.loads(text)["monitor"]["pid"] == pid
    titles = [Path(f"/proc/{one}/cmdline").read_text() for one in (server.pid, pid)]
    assert "s3cret" not in server.log + text + "".join(titles)


def test_an_upgrade_passes_the_address_on(start: Start) -> None:
    server = start("--monitor", "0").wait_until_ready()
    pid, port = the_monitor(server)
    since = server.mark()
    assert server.upgrade() == "done"
    new, same_port = the_monitor(server, since)
    assert same_port == port
    assert json.loads(ask(port, "/status")[1])["pid"] == server.pid
    assert is_gone(pid)
    assert server.stop() == 0
    server.wait_for("the monitor gone", lambda: is_gone(new))


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


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (prometheus)")
def test_promtool_finds_nothing_to_say(start: Start) -> None:
    server = start("-w", "2", "--monitor", "0").wait_until_ready()
    _, port = the_monitor(server)
    server.get("/")
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=ask(port, "/metrics")[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    rules = ["promtool", "check", "rules", os.fspath(DEPLOY / "forkserve.rules.yml")]
    subprocess.run(rules, check=True, capture_output=True)


@pytest.mark.skipif(not shutil.which("prometheus"), reason="needs prometheus")
def test_prometheus_scrapes_it(start: Start, tmp_path: Path) -> None:
    server = start("-w", "2", "--monitor", "0").wait_until_ready()
    _, port = the_monitor(server)
    for _ in range(5):
        server.get("/")
    config = (DEPLOY / "prometheus.yml").read_text()
    config = config.replace("127.0.0.1:9000", f"127.0.0.1:{port}").replace("15s", "500ms")
    (tmp_path / "prometheus.yml").write_text(config)
    shutil.copy(DEPLOY / "forkserve.rules.yml", tmp_path)
    with prometheus(tmp_path) as base:

        def seen(query: str) -> str | None:
            try:
                with urllib.request.urlopen(f"{base}/api/v1/query?query={query}") as answer:
                    result: Any = json.load(answer)["data"]["result"]
            except urllib.error.HTTPError:
                return None  # it listens before it is ready
            return result[0]["value"][1] if result else None

        server.wait_for("scraped", lambda: seen("forkserve_requests_total") == "5")
        assert seen("forkserve_workers_ready") == "2"


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
