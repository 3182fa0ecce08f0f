"""Workers that are recycled, spares that stand by, and boots that take longer."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.server import APP, Load, Server

Start = Callable[..., Server]

GONE = r"worker \d+ \(pid \d+, generation 1\) has left after"
WAYS = pytest.mark.parametrize("way", ["--preload", "--no-preload"])


# -- recycling ----------------------------------------------------------------------------


@WAYS
def test_max_requests_recycles_with_the_replacement_first(start: Start, way: str) -> None:
    server = start("-w", "2", "--max-requests", "50", way).wait_until_ready()
    with Load(server, keep_alive=True) as kept, Load(server) as load:
        server.wait_for_log(r"will be recycled, its replacement first: it has answered 50 req")
        server.wait_for_log(GONE, times=6)
    assert not load.failed
    assert not kept.failed
    lowest = [int(n) for n in re.findall(r"; (\d+) of 2 ready", server.log)]
    assert min(lowest) == 2
    most = max(int(n) for n in re.findall(r"; (\d+) ready, 2 wanted", server.log))
    assert most <= 3  # one at a time
    assert server.stop() == 0


def test_jitter_spreads_the_recycling(start: Start) -> None:
    options = ("--max-requests", "10", "--max-requests-jitter", "1000")
    server = start("-w", "2", *options).wait_until_ready()
    with Load(server):
        counts = {
            int(server.wait_for_log(r"it has answered (\d+) requests", times=time)[1])
            for time in (1, 2, 3)
        }
    assert len(counts) == 3
    assert server.stop() == 0


def test_max_lifetime_recycles_by_age(start: Start) -> None:
    server = start("-w", "2", "--max-lifetime", "2").wait_until_ready()
    old = server.worker_pids()
    server.wait_for_log(r"recycled, its replacement first: it has served for 2 s", times=2)
    server.wait_for("all new", lambda: not server.worker_pids() & old)
    assert server.stop() == 0


GROWING = (
    APP.replace("    body =", "    held.append(b'x' * (200 << 20))\n    body =") + "held = []\n"
)


def test_max_rss_recycles_the_one_that_has_grown(start: Start, folder: Path) -> None:
    (folder / "app.py").write_text(GROWING)
    server = start("-w", "2", "--max-rss", "150M").wait_until_ready()
    grown = int(server.get().split()[1])
    server.wait_for_log(rf"\(pid {grown}, .*recycled.*: it uses 2\d\d MiB \(--max-rss 150 MiB\)")
    server.wait_for_log(rf"\(pid {grown}, generation 1\) has left")
    assert server.stop() == 0


def test_a_limit_below_the_start_is_said_and_not_applied(start: Start, folder: Path) -> None:
    server = start("-w", "1", "--max-rss", "1M").wait_until_ready()
    server.wait_for_log(r"--max-rss 1 MiB is below what the app uses when it starts \(\d+ MiB\)")
    server.get()
    assert "recycled" not in server.log
    assert server.stop() == 0


# -- spares -------------------------------------------------------------------------------


@WAYS
def test_a_spare_takes_over_at_once_and_another_is_made(start: Start, way: str) -> None:
    server = start("-w", "2", "--spares", "1", way).wait_until_ready()
    spare = int(server.wait_for_log(r"\(pid (\d+), .* as a spare that does not accept yet")[1])
    answered = {int(server.get().split()[1]) for _ in range(60)}
    assert spare not in answered
    victim = min(answered)
    os.kill(victim, signal.SIGKILL)
    server.wait_for_log(rf"\(pid {spare}, generation 1\) was a spare and accepts from now on")
    server.wait_for_log("as a spare that does not accept yet", times=2)
    server.wait_for("it answers", lambda: int(server.get().split()[1]) == spare)
    assert server.stop() == 0


def test_a_reload_brings_new_spares_too(start: Start) -> None:
    server = start("-w", "2", "--spares", "1").wait_until_ready()
    old = int(server.wait_for_log(r"\(pid (\d+), .* as a spare")[1])
    assert server.reload() == "done"
    new = int(server.wait_for_log(r"\(pid (\d+), generation 2\) .* as a spare")[1])
    server.wait_for_log(rf"\(pid {old}, generation 1\) has left")
    assert new in server.worker_pids()
    assert server.stop() == 0


# -- booting ------------------------------------------------------------------------------

SLOW_BUT_SURE = """
import forkserve, time
for _ in range(3):
    forkserve.extend_boot(30)
    time.sleep(0.7)  # a model that is loaded in steps, longer than the boot timeout
"""


@WAYS
def test_a_boot_is_extended_by_an_app_that_makes_progress(
    start: Start, folder: Path, way: str
) -> None:
    (folder / "app.py").write_text(SLOW_BUT_SURE + APP)
    server = start("-w", "1", "--boot-timeout", "1", way).wait_until_ready()
    server.wait_for_log(r"(template|worker 1) \(pid \d+.* asks for up to 30 s more")
    assert server.stop() == 0


HEALTH = """
import os
status = 200
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                open("shutdown", "w").close()
                return
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"the model is missing"})
"""


@WAYS
def test_a_worker_asks_its_own_app_before_it_is_ready(start: Start, folder: Path, way: str) -> None:
    (folder / "app.py").write_text(HEALTH)
    server = start("-w", "2", "--ready-path", "/health", way).wait_until_ready()
    server.write(HEALTH.replace("status = 200", "status = 503"))
    assert server.reload() == "failed"
    server.wait_for_log(r"GET /health \(--ready-path\) answered 503\.")
    server.wait_for_log("the model is missing")
    server.wait_for("lifespan shutdown", (folder / "shutdown").exists)
    assert server.get() == "the model is missing"
    assert server.stop() == 0


NEVER_WELL = HEALTH.replace(
    '    await send({"type": "http.response.start"',
    """    import asyncio
    open("asked", "w").close()
    await asyncio.sleep(600)
    await send({"type": "http.response.start\"""",
)


def test_term_while_the_app_is_asked_ends_its_lifespan_too(start: Start, folder: Path) -> None:
    (folder / "app.py").write_text(NEVER_WELL)
    server = start("-w", "1", "--ready-path", "/health")
    server.wait_for("the question", (folder / "asked").exists)
    assert server.stop() == 0
    assert (folder / "shutdown").exists()
    server.wait_for_log(r"stopped after [01]\.")


@WAYS
def test_a_warm_up_loads_before_the_first_request(start: Start, folder: Path, way: str) -> None:
    source = APP.replace("VERSION {os.getpid()}", "{model}") + "model = None\ndef load():\n"
    (folder / "app.py").write_text(source + "    global model\n    model = f'by {os.getpid()}'\n")
    server = start("-w", "2", "--warmup", "app:load", way).wait_until_ready()
    loader = int(server.get().split()[1])
    everybody = server.template_pids() if way == "--preload" else server.worker_pids()
    assert loader in everybody
    assert server.stop() == 0


COUNTING = (
    APP.replace(
        'scope["type"] == "lifespan":', 'scope["type"] == "lifespan":\n        begun.append(1)'
    )
    .replace("VERSION {os.getpid()}", "{len(asked)} {os.getpid()}")
    .replace("    body =", "    asked.append(bool(begun))\n    body =")
    + "asked, begun = [], []\n"
)


@WAYS
def test_a_warm_path_is_asked_for_before_anybody_serves(
    start: Start, folder: Path, way: str
) -> None:
    (folder / "app.py").write_text(COUNTING)
    server = start("-w", "1", "--warm-path", "/a", "--warm-path", "/b?c=d", way).wait_until_ready()
    assert server.get().split()[0] == "11"  # five each, and this one
    assert server.template_pids() or way == "--no-preload"
    assert server.stop() == 0


def test_a_warm_path_that_needs_the_lifespan_is_left_out(start: Start, folder: Path) -> None:
    (folder / "app.py").write_text(
        APP.replace("    body =", "    scope['state']['db']\n    body =")
    )
    server = start("-w", "1", "--warm-path", "/").wait_until_ready()
    server.wait_for_log("a request before the start failed, and is left out: 'db'")
    assert server.stop() == 0


def test_a_warm_up_that_fails_is_a_failed_boot(start: Start, folder: Path) -> None:
    (folder / "app.py").write_text(APP + "def load():\n    raise OSError('no weights')\n")
    server = start("-w", "2", "--warmup", "app:load")
    assert server.wait_for_exit() == 3
    assert re.search(r"--warmup app:load failed: OSError: no weights \(.*app\.py:\d+\)", server.log)


NUMBERS = APP.replace(
    "{os.getpid()}",
    "{os.environ['FORKSERVE_SLOT']} {os.environ['FORKSERVE_WORKER_ID']} "
    "{os.environ['FORKSERVE_GENERATION']} {os.environ['DEVICE']} {at_import} "
    "{random.random()} {numpy.random.random()}",
).replace(
    "import os\n", "import os, random, numpy.random\nat_import = os.environ.get('DEVICE')\n", 1
)


@WAYS
def test_each_worker_knows_who_it_is(start: Start, folder: Path, way: str) -> None:
    pytest.importorskip("numpy")
    (folder / "app.py").write_text(NUMBERS)
    options = ("--worker-env", "DEVICE=gpu{slot}", way)
    server = start("-w", "3", *options).wait_until_ready()
    seen: dict[str, list[str]] = {}

    def all_seen() -> bool:
        _, slot, *rest = server.get().split()
        seen.setdefault(slot, rest)
        return len(seen) == 3

    server.wait_for("all three", all_seen)
    for slot, (worker_id, generation, device, at_import, *_) in seen.items():
        assert (int(worker_id), generation, device) == (int(slot) + 1, "1", f"gpu{slot}")
        # Before the import, where each worker imports the app itself.
        assert at_import == ("None" if way == "--preload" else device)
    for kind in (-1, -2):  # random numbers of their own
        assert len({rest[kind] for rest in seen.values()}) == 3
    assert server.stop() == 0
