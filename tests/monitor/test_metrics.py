"""The status as metrics."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from forkserve.monitor.metrics import registry_of
from tests.monitor.example import status, worker

EVERYTHING = """\
forkserve_build_info{python="3.11.7",version="0.1.0"} 1.0
forkserve_start_time_seconds 1.7e+09
forkserve_state{state="starting"} 0.0
forkserve_state{state="serving"} 1.0
forkserve_state{state="reloading"} 0.0
forkserve_state{state="stopping"} 0.0
forkserve_generation 1.0
forkserve_workers{phase="starting"} 0.0
forkserve_workers{phase="ready"} 1.0
forkserve_workers{phase="draining"} 1.0
forkserve_workers{phase="killed"} 0.0
forkserve_workers_wanted 2.0
forkserve_workers_ready 2.0
forkserve_reloads_total{result="done"} 2.0
forkserve_reloads_total{result="failed"} 1.0
forkserve_worker_restarts_total{cause="boot_timed_out"} 0.0
forkserve_worker_restarts_total{cause="crashed"} 3.0
forkserve_worker_restarts_total{cause="failed_to_boot"} 0.0
forkserve_worker_restarts_total{cause="hung"} 0.0
forkserve_worker_restarts_total{cause="left"} 0.0
forkserve_worker_restarts_total{cause="out_of_memory"} 0.0
forkserve_worker_restarts_total{cause="recycled"} 0.0
forkserve_worker_restarts_total{cause="reloaded"} 0.0
forkserve_faults_total 9.0
forkserve_requests_total 100.0
forkserve_requests_lost_total 1.0
forkserve_requests_in_flight 5.0
forkserve_busy_seconds_total 50.0
forkserve_request_duration_seconds_bucket{le="0.1"} 20.0
forkserve_request_duration_seconds_bucket{le="1.0"} 27.0
forkserve_request_duration_seconds_bucket{le="+Inf"} 30.0
forkserve_request_duration_seconds_count 30.0
forkserve_request_duration_seconds_sum 12.5
forkserve_accept_queue_length{bind="http://127.0.0.1:8000"} 4.0
forkserve_accept_queue_limit{bind="http://127.0.0.1:8000"} 2048.0
forkserve_event_loop_lag_seconds{slot="0"} 0.001
forkserve_event_loop_lag_seconds{slot="4"} 0.001
forkserve_event_loop_highest_lag_seconds{slot="0"} 0.25
forkserve_event_loop_highest_lag_seconds{slot="4"} 0.25
forkserve_worker_resident_memory_bytes{slot="0"} 6.7108864e+07
forkserve_worker_resident_memory_bytes{slot="4"} 6.7108864e+07
forkserve_worker_proportional_memory_bytes{slot="4"} 9.437184e+06
forkserve_worker_boot_seconds{slot="0"} 1.0
forkserve_worker_boot_seconds{slot="4"} 1.0
forkserve_worker_age_seconds{slot="0"} 61.0
forkserve_worker_age_seconds{slot="4"} 61.0
forkserve_worker_generation{slot="0"} 1.0
forkserve_worker_generation{slot="4"} 2.0
forkserve_worker_connections{slot="0"} 3.0
forkserve_worker_connections{slot="4"} 3.0
forkserve_worker_requests_in_flight{slot="0"} 1.0
forkserve_worker_requests_in_flight{slot="4"} 4.0
forkserve_worker_requests_total{slot="0"} 10.0
forkserve_worker_requests_total{slot="4"} 50.0
forkserve_worker_busy_seconds_total{slot="0"} 2.5
forkserve_worker_busy_seconds_total{slot="4"} 2.5
forkserve_template_resident_memory_bytes 1.048576e+06
forkserve_switchboard_connections{state="idle"} 5.0
forkserve_switchboard_connections{state="waiting"} 1.0
"""


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"forkserve_{name}", labels)


def test_all_that_is_shown() -> None:
    """Names, units, labels and values: dashboards and alerts of users depend on them."""
    workers = [worker(1), worker(5, phase="draining", generation=2, pss=9 << 20, in_flight=4)]
    shown = generate_latest(registry_of(status(workers=workers))).decode()
    assert "".join(f"{line}\n" for line in shown.splitlines() if line[0] != "#") == EVERYTHING


def test_what_the_system_does_not_tell_is_left_out() -> None:
    queues = [{"bind": "unix:/a", "length": None, "limit": 5}]
    shown = registry_of(status(queues=queues, workers=[worker(1, rss=None)], switchboard=None))
    assert value(shown, "accept_queue_length", bind="unix:/a") is None
    assert value(shown, "accept_queue_limit", bind="unix:/a") == 5
    assert value(shown, "worker_resident_memory_bytes", slot="0") is None
    assert value(shown, "switchboard_connections", state="idle") is None


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (prometheus)")
def test_promtool_finds_nothing_to_say() -> None:
    text = generate_latest(registry_of(status(app='"quoted"\n')))
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
