"""A status as the master gives it, to be changed by each test."""

from __future__ import annotations

from typing import Any


def worker(number: int, **details: Any) -> dict[str, Any]:
    return {
        "id": number,
        "slot": number - 1,
        "pid": 1000 + number,
        "generation": 1,
        "phase": "ready",
        "spare": False,
        "age": 61.0,
        "ready_for": 60.0,
        "boot": 1.0,
        "requests": 10 * number,
        "in_flight": 1,
        "busy": 2.5,
        "lag": 0.001,
        "highest_lag": 0.25,
        "accepts": 7,
        "connections": 3,
        "serving": {"method": "GET", "path": "/", "for": 0.1},
        "rss": 64 << 20,
        "pss": None,
        "slow": False,
    } | details


def status(**details: Any) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "python": "3.11.7",
        "pid": 1000,
        "name": None,
        "app": "app:app",
        "binds": ["http://127.0.0.1:8000"],
        "state": "serving",
        "generation": 1,
        "trying": None,
        "started": 1_700_000_000.0,
        "now": 1_700_000_061.0,
        "uptime": 61.0,
        "workers_wanted": 2,
        "workers_ready": 2,
        "workers": [worker(1), worker(2)],
        "templates": [{"pid": 999, "generation": 1, "phase": "ready", "age": 61.0, "rss": 1 << 20}],
        "switchboard": {"pid": 998, "idle": 5, "waiting": 1},
        "queues": [{"bind": "http://127.0.0.1:8000", "length": 4, "limit": 2048}],
        "reloads": {"done": 2, "failed": 1},
        "restarts": {"crashed": 3},
        "last_failure": None,
        "deaths": [],
        "events": [],
        "durations": {"bounds": [0.1, 1.0], "counts": [20, 7, 3], "sum": 12.5},
        "totals": {"requests": 100, "lost": 1, "accepts": 70, "busy": 50.0},
        "faults": 9,
    } | details
