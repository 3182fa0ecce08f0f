"""The status as Prometheus metrics, named by its conventions.

Counters of the service as a whole are the master's and go on over workers, generations and
monitors. Those of one worker begin anew with each worker in the slot, as counters do when a
process begins anew: ``rate()`` knows of that. Workers are told apart by their slot, since that
is used again and so does not make ever new series, as an id or a pid would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from forkserve.monitor.feed import Status

PHASES = ("starting", "ready", "draining", "killed")
STATES = ("starting", "serving", "reloading", "stopping")

CAUSES = (
    "boot_timed_out",
    "crashed",
    "failed_to_boot",
    "hung",
    "left",
    "out_of_memory",
    "recycled",
    "reloaded",
)
"""Why a worker may have been replaced. All are shown from the first, at zero: of a counter that
begins at one, Prometheus does not see that it has risen."""

_Worker: TypeAlias = Mapping[str, Any]


def registry_of(status: Status) -> CollectorRegistry:
    """All metrics as they are in this status."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(status))
    return registry


class _Collector(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        yield from _of_the_service(self._status)
        yield from _of_requests(self._status)
        yield from _of_each_worker(self._status["workers"])
        yield from _of_the_others(self._status)


def _of_the_service(status: Status) -> Iterator[Metric]:
    build = GaugeMetricFamily(
        "forkserve_build_info", "What runs; always 1.", labels=("version", "python")
    )
    build.add_metric((status["version"], status["python"]), 1)
    yield build
    yield _gauge("forkserve_start_time_seconds", "When the master started.", status["started"])
    yield _gauges(
        "forkserve_state",
        "1 for the state that the service is in.",
        "state",
        {state: int(status["state"] == state) for state in STATES},
    )
    yield _gauge(
        "forkserve_generation",
        "The generation that serves; a reload raises it.",
        status["generation"],
    )
    phases = [worker["phase"] for worker in status["workers"]]
    yield _gauges(
        "forkserve_workers",
        "Workers by phase.",
        "phase",
        {phase: phases.count(phase) for phase in PHASES},
    )
    yield _gauge("forkserve_workers_wanted", "How many are to be ready.", status["workers_wanted"])
    yield _gauge("forkserve_workers_ready", "How many serve.", status["workers_ready"])
    yield _counters(
        "forkserve_reloads",
        "Reloads: done, or failed, so that the old generation went on.",
        "result",
        {result: status["reloads"][result] for result in ("done", "failed")},
    )
    yield _counters(
        "forkserve_worker_restarts",
        "Workers that were replaced, by cause.",
        "cause",
        dict.fromkeys(CAUSES, 0) | status["restarts"],
    )
    yield _counter(
        "forkserve_faults",
        "Errors in the master's own code; please report them.",
        status["faults"],
    )


def _of_requests(status: Status) -> Iterator[Metric]:
    workers, totals = status["workers"], status["totals"]
    yield _counter("forkserve_requests", "Requests answered.", totals["requests"])
    yield _counter(
        "forkserve_requests_lost", "Requests that died with their worker.", totals["lost"]
    )
    yield _gauge(
        "forkserve_requests_in_flight",
        "Requests begun and not answered yet.",
        sum(worker["in_flight"] for worker in workers),
    )
    yield _counter(
        "forkserve_busy_seconds",
        "Time in which a worker had at least one request in flight.",
        totals["busy"],
    )
    durations = status["durations"]
    yield HistogramMetricFamily(
        "forkserve_request_duration_seconds",
        "From the request's reaching the app to the end of its answer.",
        buckets=list(_cumulative(durations["bounds"], durations["counts"])),
        sum_value=durations["sum"],
    )
    queues = status["queues"]
    yield _gauges(
        "forkserve_accept_queue_length",
        "Connections that wait in the kernel to be accepted.",
        "bind",
        {queue["bind"]: queue["length"] for queue in queues},
    )
    yield _gauges(
        "forkserve_accept_queue_limit",
        "How many may wait.",
        "bind",
        {queue["bind"]: queue["limit"] for queue in queues},
    )


def _cumulative(bounds: list[float], counts: list[int]) -> Iterator[tuple[str, float]]:
    """The buckets as Prometheus has them: each with all below it."""
    total = 0
    for number, count in enumerate(counts):
        total += count
        yield (str(float(bounds[number])) if number < len(bounds) else "+Inf"), total


def _of_each_worker(workers: list[_Worker]) -> Iterator[Metric]:
    def gauge(name: str, meaning: str, value: Callable[[_Worker], float | None]) -> Metric:
        by_slot = {str(worker["slot"]): value(worker) for worker in workers}
        return _gauges(f"forkserve_{name}", meaning, "slot", by_slot)

    def counter(name: str, meaning: str, value: Callable[[_Worker], float]) -> Metric:
        by_slot = {str(worker["slot"]): value(worker) for worker in workers}
        return _counters(f"forkserve_{name}", meaning, "slot", by_slot)

    yield gauge(
        "event_loop_lag_seconds", "How late a worker's event loop turns.", lambda w: w["lag"]
    )
    yield gauge(
        "event_loop_highest_lag_seconds",
        "... at the worst in the last half a minute, or a little more.",
        lambda w: w["highest_lag"],
    )
    yield gauge("worker_resident_memory_bytes", "Shared pages in full.", lambda w: w["rss"])
    yield gauge(
        "worker_proportional_memory_bytes", "Shared pages by its share.", lambda w: w["pss"]
    )
    yield gauge("worker_boot_seconds", "From the fork until it was ready.", lambda w: w["boot"])
    yield gauge("worker_age_seconds", "Since the fork.", lambda w: w["age"])
    yield gauge("worker_generation", "The generation that it is of.", lambda w: w["generation"])
    yield gauge("worker_connections", "Open connections.", lambda w: w["connections"])
    yield gauge(
        "worker_requests_in_flight", "Begun and not answered yet.", lambda w: w["in_flight"]
    )
    yield counter("worker_requests", "Answered by the slot's worker.", lambda w: w["requests"])
    yield counter(
        "worker_busy_seconds", "It had at least one request in flight.", lambda w: w["busy"]
    )


def _of_the_others(status: Status) -> Iterator[Metric]:
    yield _gauge(
        "forkserve_template_resident_memory_bytes",
        "The templates', shared pages in full.",
        sum(template["rss"] or 0 for template in status["templates"]),
    )
    if board := status["switchboard"]:
        yield _gauges(
            "forkserve_switchboard_connections",
            "Keep-alive connections that wait there: idle, or with a request for a worker.",
            "state",
            {state: board[state] for state in ("idle", "waiting")},
        )


# The four forms that there are. What is not known (None) is left out.


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(name, meaning, value=value)


def _gauges(name: str, meaning: str, label: str, values: Mapping[str, float | None]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=(label,))
    return _filled(family, values)


def _counters(name: str, meaning: str, label: str, values: Mapping[str, float | None]) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=(label,))
    return _filled(family, values)


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, float | None]
) -> Metric:
    for value_of, value in values.items():
        if value is not None:
            family.add_metric((value_of,), value)
    return family
