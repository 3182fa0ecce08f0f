"""The status as metrics."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from forkserve.monitor.metrics import registry_of
from tests.monitor.example import status, worker


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"forkserve_{name}", labels)


def test_workers_are_counted_by_phase() -> None:
    workers = [worker(1), worker(2, phase="draining"), worker(3, phase="starting")]
    shown = registry_of(status(workers=workers))
    phases = {phase: value(shown, "workers", phase=phase) for phase in ("ready", "killed")}
    assert phases == {"ready": 1, "killed": 0}
    assert value(shown, "workers", phase="draining") == 1


def test_requests_are_the_services_and_those_of_each_slot() -> None:
    shown = registry_of(status())
    assert value(shown, "requests_total") == 100  # those of workers that have gone, too
    assert value(shown, "worker_requests_total", slot="1") == 20
    assert value(shown, "requests_in_flight") == 2
    assert value(shown, "busy_seconds_total") == 50.0


def test_buckets_are_cumulative_and_the_last_is_for_all() -> None:
    shown = registry_of(status())
    name = "request_duration_seconds"
    buckets = [value(shown, f"{name}_bucket", le=le) for le in ("0.1", "1.0", "+Inf")]
    assert buckets == [20, 27, 30]
    assert value(shown, f"{name}_count") == 30
    assert value(shown, f"{name}_sum") == 12.5


def test_what_the_system_does_not_tell_is_left_out() -> None:
    queues = [{"bind": "unix:/a", "length": None, "limit": 5}]
    shown = registry_of(status(queues=queues, workers=[worker(1, rss=None)], switchboard=None))
    assert value(shown, "accept_queue_length", bind="unix:/a") is None
    assert value(shown, "accept_queue_limit", bind="unix:/a") == 5
    assert value(shown, "worker_resident_memory_bytes", slot="0") is None
    assert value(shown, "switchboard_connections", state="idle") is None


def test_the_state_is_one_of_several() -> None:
    shown = registry_of(status(state="reloading"))
    assert value(shown, "state", state="reloading") == 1
    assert value(shown, "state", state="serving") == 0


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (prometheus)")
def test_promtool_finds_nothing_to_say() -> None:
    text = generate_latest(registry_of(status(app='"quoted"\n')))
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
