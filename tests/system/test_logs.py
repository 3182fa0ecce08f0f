"""The log never holds the service up, and its files can be moved away under load."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.server import APP, PATIENCE, Load, Server, serving

Start = Callable[..., Server]

F_SETPIPE_SZ = 1031
LOGROTATE = shutil.which("logrotate") or shutil.which("logrotate", path="/usr/sbin")
LOST = r"\((\d+) log lines? before this could not be written\)"

FAILING = APP.replace('    body = f"V', '    if scope["path"] == "/fail": 1 / 0\n    body = f"V')


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Of one page, so that it is soon full."""
    reader, writer = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ") or sys.platform == "linux":
        fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
    yield reader, writer
    os.close(reader)
    with contextlib.suppress(OSError):
        os.close(writer)


def read_all(reader: int) -> list[str]:
    os.set_blocking(reader, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(reader, 1 << 16):
            data += piece
    return data.decode().splitlines()


# -- nobody is waited for -----------------------------------------------------------------


def test_requests_are_answered_while_nobody_reads_the_access_log(
    start: Start, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    server = start("-w", "1", stdout=writer).wait_until_ready()
    asked = 200
    for _ in range(asked):
        assert server.get().startswith("VERSION")
    written = read_all(reader)
    assert 0 < len(written) < asked
    assert all(re.search(r'INFO +127\.0\.0\.1:\d+ - "GET / HTTP/1\.1" 200 OK$', w) for w in written)
    server.get()
    lost, last = read_all(reader)
    found = re.fullmatch(LOST, lost)
    assert found
    assert int(found[1]) + len(written) == asked
    assert last.endswith("200 OK")
    assert server.stop() == 0


def test_and_while_its_reader_has_gone(start: Start) -> None:
    reader, writer = os.pipe()
    server = start("-w", "1", stdout=writer).wait_until_ready()
    os.close(writer)
    os.close(reader)
    assert server.get().startswith("VERSION")
    assert server.get().startswith("VERSION")
    assert server.stop() == 0
    assert "Error" not in server.log  # nor does logging itself complain


def test_a_full_disk_costs_lines_and_nothing_else(start: Start, folder: Path) -> None:
    server = start("-w", "1", "--access-logfile", "access").wait_until_ready()
    server.get()
    file = folder / "access"
    (worker,) = server.worker_pids()
    before = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    # The kernel refuses what would make the file longer, here by EFBIG (setrlimit(2)).
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (file.stat().st_size, before[1]))
    for _ in range(3):
        assert server.get().startswith("VERSION")
    resource.prlimit(worker, resource.RLIMIT_FSIZE, before)
    server.get()
    first, lost, last = file.read_text().splitlines()
    assert first.endswith("200 OK")
    assert re.fullmatch(LOST, lost)
    assert "3" in lost
    assert last.endswith("200 OK")
    assert server.stop() == 0


# -- files ------------------------------------------------------------------------------


@pytest.mark.skipif(LOGROTATE is None, reason="needs logrotate")
def test_logrotate_under_load_loses_no_line(start: Start, folder: Path) -> None:
    server = start("-w", "2", "--access-logfile", "access").wait_until_ready()
    config = folder / "logrotate.conf"
    config.write_text(
        f"{folder}/access {{\n rotate 99\n create\n su {os.getuid()} {os.getgid()}\n"
        f" postrotate\n  kill -USR1 {server.pid}\n endscript\n}}\n"
    )
    config.chmod(0o644)
    command = [str(LOGROTATE), "--force", "--state", str(folder / "state"), str(config)]
    sizes: list[int] = []
    worker = min(server.worker_pids())
    held = server.fds(), logs_open_in(worker, folder)
    with Load(server, keep_alive=True) as load:
        for number in range(1, 6):
            enough = 200 * number
            server.wait_for("enough requests", lambda n=enough: len(load.answers) > n)
            since = server.mark()
            subprocess.run(command, check=True)
            server.wait_for_log(r"every process writes to the new log files", since=since)
            sizes.append((folder / "access.1").stat().st_size)
            server.wait_for_log(r"SIGUSR1: \S+/access opened anew; 3 more processes are told")
    assert not load.failed
    assert (server.fds(), logs_open_in(worker, folder)) == held
    # A worker that the template makes from now on writes to the new file as well.
    since = server.mark()
    os.kill(min(server.worker_pids()), signal.SIGKILL)
    server.wait_for_log(r"worker 3 \(.*\) is ready", since=since)
    later = 40
    for _ in range(later):
        server.get()
    files = [folder / f"access.{number}" for number in range(5, 0, -1)]
    assert [file.stat().st_size for file in files] == sizes  # nothing came after all have switched
    lines = [line for file in [*files, folder / "access"] for line in file.read_text().splitlines()]
    assert all(line.endswith('"GET / HTTP/1.1" 200 OK') for line in lines)
    assert len(lines) == len(load.answers) + later
    assert server.stop() == 0


def test_a_file_that_cannot_be_opened_anew_is_kept(start: Start, folder: Path) -> None:
    there, away = folder / "logs", folder / "away"
    there.mkdir()
    server = start("-w", "1", "--access-logfile", "logs/access").wait_until_ready()
    there.rename(away)
    server.signal(signal.SIGUSR1)
    server.wait_for_log(r"access cannot be opened anew \(No such file or directory\)")
    server.get()
    assert (away / "access").read_text().endswith("200 OK\n")
    there.mkdir()
    server.signal(signal.SIGUSR1)
    server.wait_for_log(r"every process writes to the new log files")
    server.get()
    assert (there / "access").read_text().endswith("200 OK\n")
    assert server.stop() == 0


@pytest.mark.parametrize("preload", ["--preload", "--no-preload"])
def test_the_error_log_is_the_masters_and_the_workers(folder: Path, preload: str) -> None:
    (folder / "app.py").write_text(FAILING)
    port = free_port()
    options = ["-b", f"127.0.0.1:{port}", preload, "--log-format", "json"]
    with serving(folder, *options, "--error-logfile", "errors") as server:
        errors, old = folder / "errors", folder / "errors.1"
        written(server, errors, "workers are ready")
        errors.rename(old)
        server.signal(signal.SIGUSR1)
        written(server, errors, "every process writes to the new log files")
        size = old.stat().st_size
        assert get(port, "/fail") == 500
        assert server.stop() == 0
        told = [json.loads(line) for line in errors.read_text().splitlines()]
    assert old.stat().st_size == size
    assert {line["logger"] for line in told} == {"forkserve", "uvicorn.error"}
    (failed,) = (line for line in told if line["logger"] == "uvicorn.error")
    assert failed["traceback"].endswith("ZeroDivisionError: division by zero")
    assert failed["pid"] != server.pid
    assert told[-1]["message"].startswith("stopped after")
    assert server.lines == ["<end of log>"]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def written(server: Server, file: Path, text: str) -> None:
    server.wait_for(
        f"{text!r} in {file}", lambda: file.exists() and text in file.read_text(errors="replace")
    )


def lines_of(server: Server, file: Path, number: int) -> list[str]:
    """So many lines: one that tells the time of a request comes after its answer."""
    server.wait_for(f"{number} lines in {file}", lambda: file.read_text().count("\n") >= number)
    return file.read_text().splitlines()


def logs_open_in(pid: int, folder: Path) -> int:
    number = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # a connection that was just closed
            number += os.readlink(f"/proc/{pid}/fd/{fd}").startswith(f"{folder}/access")
    return number


def get(port: int, path: str, headers: dict[str, str] | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers or {})
        with connection.getresponse() as response:
            response.read()
            return response.status


def test_without_a_file_there_is_nothing_to_open_anew(start: Start) -> None:
    server = start().wait_until_ready()
    server.signal(signal.SIGUSR1)
    server.wait_for_log(r"SIGUSR1: the log goes to no file")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--error-logfile", "no/such/file"], "the log file no/such/file cannot be opened"),
        (["--access-logformat", "%(x)s"], "there is no atom %(x)s"),
        (["--log-syslog-to", "tcp://h:1"], "is a stream"),
        (["--log-config", "no.ini"], "no.ini"),
        (["--log-config", "app.py", "--access-logfile", "-"], "--log-config says how and where"),
    ],
)
def test_what_cannot_be_is_said_at_once(start: Start, options: list[str], complaint: str) -> None:
    server = start(*options)
    assert server.wait_for_exit() == 2
    assert complaint in server.log
    assert "Traceback" not in server.log


# -- what the lines say -----------------------------------------------------------------


def test_json_in_all_processes(start: Start, folder: Path) -> None:
    (folder / "app.py").write_text(FAILING)
    server = start("-w", "2", "--log-format", "json", "--access-logfile", "access")
    server.wait_until_ready()
    get(server.port, "/a%20b?x=1", {"user-agent": 'me "and" you'})
    get(server.port, "/fail")
    server.write("import no_such_module")
    assert server.reload() == "failed"
    assert server.stop() == 0
    told = [json.loads(line) for line in server.lines[:-1]]
    for line in told:
        assert list(line)[:5] == ["time", "level", "pid", "logger", "message"]
    (dropped,) = (line for line in told if "reload failed" in line["message"])
    assert dropped["details"].endswith("ModuleNotFoundError: No module named 'no_such_module'")
    requests = [json.loads(line) for line in (folder / "access").read_text().splitlines()]
    requests.sort(key=lambda r: r["path"])  # each is written after its answer
    assert [(r["path"], r["query"], r["status"]) for r in requests] == [
        ("/a b", "x=1", 200),
        ("/fail", "", 500),
    ]
    first = requests[0]
    assert first["message"].endswith('- "GET /a%20b?x=1 HTTP/1.1" 200')
    assert first["client"] == "127.0.0.1"
    assert first["user_agent"] == 'me "and" you'
    assert first["bytes"] > 7
    assert 0 < first["duration"] < PATIENCE


def test_gunicorns_atoms(start: Start, folder: Path) -> None:
    form = '%(h)s %(l)s %(u)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %({content-length}o)s %(D)s'
    server = start("--access-logformat", form, "--access-logfile", "access").wait_until_ready()
    size = len(server.get())
    get(server.port, "/x?y", {"referer": "http://a/", "user-agent": 'q"', "x-forwarded-for": "::7"})
    plain, with_headers = lines_of(server, folder / "access", 2)
    assert re.fullmatch(rf'127\.0\.0\.1 - - "GET / HTTP/1\.1" 200 {size} "-" "-" \d+ \d+', plain)
    assert re.fullmatch(
        rf'::7 - - "GET /x\?y HTTP/1\.1" 200 {size} "http://a/" "q\\"" {size} \d+', with_headers
    )


def _lines_of(daemon: socket.socket) -> Iterator[str]:
    while True:
        yield daemon.recv(1 << 16).decode()


def test_syslog_comes_and_goes_and_harms_nobody(start: Start, folder: Path) -> None:
    path = folder / "dev-log"
    server = start("--log-syslog", "--log-syslog-to", f"unix://{path}").wait_until_ready()
    assert server.get().startswith("VERSION")
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as daemon:
        daemon.bind(str(path))
        daemon.settimeout(PATIENCE)
        server.get()
        of_requests = (line for line in _lines_of(daemon) if ".access[" in line)
        lost, request = next(of_requests), next(of_requests)
        assert re.fullmatch(rf"<12>forkserve\.access\[\d+\]: {LOST}", lost)
        assert re.fullmatch(r'<14>forkserve\.access\[\d+\]: 127\S+ - "GET / HTTP/1.1" 200', request)
        # Nobody takes any more out of its queue, which has room for some hundred at most.
        for _ in range(700):
            assert server.get().startswith("VERSION")
        daemon.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                daemon.recv(1 << 16)
        server.get()
        assert re.search(LOST, daemon.recv(1 << 16).decode())
    assert server.stop() == 0
    assert len(re.findall(r"syslog at \S+ takes nothing \(No such file", server.log)) == 1


LOG_CONFIG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"mine": {"format": "MINE %(levelname)s %(name)s %(message)s"}},
    "handlers": {
        "err": {
            "class": "logging.StreamHandler",
            "formatter": "mine",
            "stream": "ext://sys.stderr",
        },
        "file": {"class": "logging.FileHandler", "filename": "mine.log", "mode": "w"},
    },
    "loggers": {"uvicorn": {"handlers": ["err", "file"], "level": "INFO"}},
}


@pytest.mark.parametrize("preload", [(), ("--no-preload",)])
def test_the_users_own_configuration(start: Start, folder: Path, preload: tuple[str, ...]) -> None:
    config = folder / "log.json"
    config.write_text(json.dumps(LOG_CONFIG))
    server = start("-w", "1", *preload, "--log-config", "log.json").wait_until_ready()
    # Its open file is no reason against a template: it is not the app's.
    assert ("workers are forked from it" in server.log) == (not preload)
    server.get()
    server.wait_for_log(r'^MINE INFO uvicorn\.access 127\S+ - "GET / HTTP/1.1" 200$')
    broken = json.dumps(LOG_CONFIG | {"handlers": {"err": {"class": "no.such.Handler"}}})
    config.write_text(broken)
    assert server.reload() == "failed"
    failure = server.wait_for_log(r"reload failed: .*--log-config log\.json cannot be used: (.*)")
    assert "Unable to configure handler 'err'" in failure[1]
    assert server.get().startswith("VERSION")
    assert server.stop() == 0


def test_a_broken_configuration_of_the_users_ends_the_start(start: Start, folder: Path) -> None:
    (folder / "log.ini").write_text("[loggers]\n")
    server = start("--log-config", "log.ini")
    assert server.wait_for_exit() == 3
    assert re.search(r"cannot start app:app\. --log-config log\.ini cannot be used", server.log)
    assert "Traceback" not in server.log


@pytest.mark.parametrize("style", ["text", "json"])
def test_an_app_that_disables_all_loggers_by_accident(
    start: Start, folder: Path, style: str
) -> None:
    """logging.config does, unless it is told not to; the access log goes on all the same."""
    (folder / "app.py").write_text(
        "import logging.config\nlogging.config.dictConfig({'version': 1})\n" + APP
    )
    server = start("--log-format", style, "--access-logfile", "access").wait_until_ready()
    server.get()
    (line,) = lines_of(server, folder / "access", 1)
    assert "GET / HTTP/1.1" in line


def test_what_the_app_changes_of_uvicorns_loggers_stays(start: Start, folder: Path) -> None:
    mine = """
import logging
class Mine(logging.Filter):
    def filter(self, record):
        return "/health" not in record.getMessage()
logging.getLogger("uvicorn.access").addFilter(Mine())
"""
    (folder / "app.py").write_text(mine + APP)
    for style in ("text", "json"):
        server = start("--log-format", style, "--access-logfile", style).wait_until_ready()
        get(server.port, "/health")
        get(server.port, "/other")
        (line,) = lines_of(server, folder / style, 1)
        assert "/other" in line
        assert server.stop() == 0


def test_trace_is_uvicorns(start: Start) -> None:
    server = start("-w", "1", "--log-level", "trace").wait_until_ready()
    server.get()
    server.wait_for_log(r"TRACE +127\S+ - HTTP connection made")
