"""The demo app does what its routes say."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from demo_app import app


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("DEMO_LATENCY", "0")
    with TestClient(app) as client:
        yield client


def test_health(client: TestClient) -> None:
    response = client.get("/health")
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


def test_pid(client: TestClient) -> None:
    assert client.get("/pid").json() == {"pid": os.getpid()}


@pytest.mark.parametrize("data", [{"input": "a cat"}, [1, 2, 3], "a cat", None])
def test_predict_takes_any_json(client: TestClient, data: Any) -> None:
    response = client.post("/predict", json=data)
    assert response.status_code == 200
    assert response.json() == {
        "prediction": len(str(data)),
        "processed_by_worker_pid": os.getpid(),
        "input": data,
    }


@pytest.mark.parametrize(("latency", "slept"), [("0.25", 0.25), (None, 2.0)])
def test_predict_blocks_for_the_latency(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, latency: str | None, slept: float
) -> None:
    if latency is None:
        monkeypatch.delenv("DEMO_LATENCY")
    else:
        monkeypatch.setenv("DEMO_LATENCY", latency)
    sleeps: list[float] = []
    monkeypatch.setattr("demo_app.time.sleep", sleeps.append)
    assert client.post("/predict", json={}).status_code == 200
    assert sleeps == [slept]


def test_events(client: TestClient) -> None:
    response = client.get("/events", params={"count": 2})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text == "".join(
        f"data: tick {tick} from pid {os.getpid()}\n\n" for tick in (1, 2)
    )


def test_echo(client: TestClient) -> None:
    with client.websocket_connect("/echo") as websocket:
        for text in ("one", "two"):
            websocket.send_text(text)
            assert websocket.receive_text() == text


def test_lifespan_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="demo_app")
    with TestClient(app):
        assert "demo app: starting" in caplog.messages
        assert "demo app: stopped" not in caplog.messages
    assert "demo app: stopped" in caplog.messages
