"""The recipes of demo_app/deploy/telemetry: OpenTelemetry's with the real thing, and without what
it is for; Datadog's by what ddtrace depends on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.server import APP, Server

pytest.importorskip("opentelemetry.sdk")

RECIPES = Path(__file__).parents[2] / "demo_app/deploy/telemetry"
RECIPE = RECIPES / "opentelemetry.conf.py"

TRACED = """
from opentelemetry import trace

tracer = trace.get_tracer("app")

async def app(scope, receive, send):
    with tracer.start_as_current_span(scope.get("path", scope["type"])):
        await answer(scope, receive, send)
""" + APP.replace("async def app(", "async def answer(")
"""It asks for its tracer as it is imported, in the template if there is one."""

AT_IMPORT = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(provider)
"""

Start = Callable[..., Server]


class Collected:
    """What the workers have printed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def spans(self) -> list[dict[str, Any]]:
        complete = self._path.read_text().rpartition("\n")[0].splitlines()
        # The access log goes there too.
        return [json.loads(line) for line in complete if line.startswith("{")]

    def of(self, path: str) -> list[dict[str, Any]]:
        """What is known of the processes that have answered such a request, oldest first."""
        told = [span for span in self.spans() if span["name"] == path]
        return [span["resource"]["attributes"] for span in told]

    def pids(self, path: str) -> list[int]:
        return [of_it["process.pid"] for of_it in self.of(path)]


@pytest.fixture
def collected(folder: Path) -> Collected:
    (folder / "app.py").write_text(TRACED)
    (folder / "printed").touch()
    return Collected(folder / "printed")


@pytest.fixture
def traced(start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts two workers; ``delay``: milliseconds until spans are exported by themselves."""

    def start_one(*options: str, delay: int, recipe: str = "") -> Server:
        (folder / "telemetry.py").write_text(recipe or RECIPE.read_text())
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", str(delay))
        # Lines of several processes: each is written at once, at the end.
        printed = os.open(folder / "printed", os.O_WRONLY | os.O_APPEND)
        try:
            return start("-w", "2", "-c", "telemetry.py", *options, stdout=printed)
        finally:
            os.close(printed)

    return start_one


def answered_by_all(server: Server, path: str) -> set[int]:
    """Ask until both workers have answered. Returns their pids."""
    pids: set[int] = set()

    def both() -> bool:
        pids.add(int(server.get(path).split()[1]))
        return server.worker_pids() <= pids

    server.wait_for(f"both workers have answered {path}", both)
    return pids


def test_spans_of_every_worker_arrive(traced: Start, collected: Collected) -> None:
    server = traced("--preload", delay=50).wait_until_ready()
    pids = answered_by_all(server, "/first")
    server.wait_for("their spans", lambda: set(collected.pids("/first")) == pids)

    victim = min(pids)
    os.kill(victim, signal.SIGKILL)
    server.wait_for_log(r"worker 3 .* is ready")
    pids = answered_by_all(server, "/respawned")
    server.wait_for("those of its replacement", lambda: set(collected.pids("/respawned")) == pids)
    assert victim not in pids

    assert server.reload() == "done"
    server.wait_for_log(r"worker \d+ .*generation 1\) has left", times=2)
    pids = answered_by_all(server, "/reloaded")
    server.wait_for("those of the new ones", lambda: set(collected.pids("/reloaded")) == pids)
    assert {of_it["forkserve.generation"] for of_it in collected.of("/first")} == {1}
    assert {of_it["forkserve.generation"] for of_it in collected.of("/reloaded")} == {2}
    assert server.stop() == 0


NEVER = 3_600_000


@pytest.mark.parametrize("mode", ["--preload", "--no-preload"])
def test_the_last_spans_of_a_leaving_worker_arrive(
    traced: Start, collected: Collected, mode: str
) -> None:
    server = traced(mode, delay=NEVER).wait_until_ready()
    pids = answered_by_all(server, "/")
    assert collected.spans() == []
    assert server.reload() == "done"
    server.wait_for_log(r"worker \d+ .*generation 1\) has left", times=2)
    assert set(collected.pids("/")) == pids
    assert server.stop() == 0
    # The lifespan too, whose shutdown comes before: the provider was there from the start.
    assert len(collected.pids("lifespan")) == 4


def test_without_worker_exit_they_are_lost(traced: Start, collected: Collected) -> None:
    """As shutdown_on_exit, the SDK's default, is an atexit function."""
    careless = RECIPE.read_text().partition("def worker_exit")[0]
    careless = careless.replace(", shutdown_on_exit=False", "")
    server = traced("--preload", delay=NEVER, recipe=careless).wait_until_ready()
    answered_by_all(server, "/")
    assert server.stop() == 0
    assert collected.spans() == []


def test_a_processor_that_is_started_at_import_costs_the_sharing(
    traced: Start, collected: Collected, folder: Path
) -> None:
    server = traced(delay=NEVER).wait_until_ready()
    assert "the template" in server.log
    assert "cannot be shared" not in server.log
    server.write(AT_IMPORT + TRACED)
    assert server.reload() == "done"
    server.wait_for_log(
        r"app:app cannot be shared .* imports it by itself\. The app has opened at import: "
        r'the thread "OtelBatchSpanRecordProcessor"'
    )
    assert server.stop() == 0


def test_datadog_is_there_before_the_app_and_ends_after_it(start: Start, folder: Path) -> None:
    """What is imported before ddtrace is not instrumented; the real one is not needed to see it."""
    (folder / "ddtrace").mkdir()
    (folder / "ddtrace" / "auto.py").write_text(
        "import sys\nwith open('told', 'a') as file: print('app' in sys.modules, file=file)\n"
    )
    (folder / "ddtrace" / "__init__.py").write_text(
        "class tracer:\n"
        "    def shutdown():\n"
        "        with open('told', 'a') as file: print('shut down', file=file)\n"
    )
    server = start("-w", "2", "-c", str(RECIPES / "datadog.conf.py")).wait_until_ready()
    assert (folder / "told").read_text() == "False\n" * 2
    assert server.stop() == 0
    assert (folder / "told").read_text() == "False\n" * 2 + "shut down\n" * 2
