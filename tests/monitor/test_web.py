"""The monitor's answers and its doors, over a master that is played by the test."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.datastructures import Headers

from forkserve.monitor import doors, page
from forkserve.monitor import feed as feeding
from forkserve.monitor.doors import Doors, Token, is_local_name
from forkserve.monitor.feed import Feed
from forkserve.monitor.readiness import why_not_ready
from forkserve.monitor.web import make_app
from tests.monitor.example import status, worker

TOKEN = "s3cret-t0ken"


class Master:
    """The other end of the control connection."""

    def __init__(self) -> None:
        self.status = status()
        self.asked = 0
        self.answers = True
        self._writer: asyncio.StreamWriter | None = None

    async def live(self, end: socket.socket) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=end)
        while line := await reader.readline():
            said = json.loads(line)
            if said["do"] == "status" and self.answers:
                self.asked += 1
                self.say({"id": said["id"], "ok": True, "status": self.status})

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def say(self, what: dict[str, Any]) -> None:
        assert self._writer
        self._writer.write(json.dumps(what).encode() + b"\n")


@asynccontextmanager
async def monitored(
    token: str = "", only_local_names: bool = False
) -> AsyncIterator[tuple[Master, httpx.AsyncClient, Feed]]:
    ours, theirs = socket.socketpair()
    master, feed = Master(), await Feed.over(theirs)
    tasks = [asyncio.ensure_future(master.live(ours)), asyncio.ensure_future(feed.follow())]
    app = Doors(
        make_app(feed, ready_min=2), Token(token.encode()) if token else None, only_local_names
    )
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:9000"
    )
    try:
        async with client:
            yield master, client, feed
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        feed.close()
        master.close()
        ours.close()  # should it have ended before it had begun


def test_readiness_follows_the_status() -> None:
    assert why_not_ready(status(), 2) == ""
    assert "1 of 2 workers are ready; 2 must be" in why_not_ready(status(workers_ready=1), 2)
    assert "stopping" in why_not_ready(status(state="stopping"), 1)


def test_answers() -> None:
    async def story() -> None:
        async with monitored() as (master, client, _):
            assert (await client.get("/livez")).status_code == 200
            assert (await client.get("/readyz")).status_code == 200
            assert (await client.get("/status")).json()["workers"][0]["pid"] == 1001
            metrics = await client.get("/metrics")
            assert metrics.headers["content-type"].startswith("text/plain; version=")
            assert "forkserve_requests_total 100.0" in metrics.text
            assert "<title>forkserve</title>" in (await client.get("/")).text
            assert (await client.get("/elsewhere")).status_code == 404
            assert (await client.post("/status")).status_code == 405
            master.status = status(state="stopping")
            await asyncio.sleep(feeding.FRESH)  # for so long an answer may be what it was
            readyz = await client.get("/readyz")
            assert (readyz.status_code, readyz.text) == (503, "The service is stopping.\n")

    asyncio.run(story())


def test_who_asks_at_once_or_soon_after_shares_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with monitored() as (master, _client, feed):
            for _ in range(200):
                await feed.status()
            # More than one only where the machine takes longer than an answer is fresh.
            assert master.asked < 100
            monkeypatch.setattr(feeding, "FRESH", 0.0)
            before = master.asked
            await asyncio.gather(*(feed.status() for _ in range(200)))
            assert master.asked - before <= 2  # the feed asks for itself, too

    asyncio.run(story())


def test_a_master_that_does_not_answer_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "PATIENCE", 0.05)

    async def story() -> None:
        async with monitored() as (master, client, _):
            master.answers = False
            answers = [await client.get(path) for path in ("/livez", "/readyz", "/metrics")]
            assert [answer.status_code for answer in answers] == [503] * 3
            assert "has not answered" in answers[0].text

    asyncio.run(story())


def test_without_the_token_there_is_nothing_but_health() -> None:
    async def story() -> None:
        async with monitored(TOKEN) as (_, client, _feed):
            for path in ("/", "/status", "/metrics", "/events", "/elsewhere", "/?token=wrong"):
                refused = await client.get(path)
                assert refused.status_code == 401, path
                assert "Bearer" in refused.headers["www-authenticate"]
            for said in ("Bearer wrong", f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x"):
                headers = {"authorization": said}
                assert (await client.get("/status", headers=headers)).status_code == 401, said
            for path in ("/livez", "/readyz"):
                assert (await client.get(path)).status_code == 200
            headers = {"authorization": f"Bearer {TOKEN}"}
            assert (await client.get("/metrics", headers=headers)).status_code == 200

    asyncio.run(story())


def test_a_browser_exchanges_the_token_for_a_cookie_that_does_not_hold_it() -> None:
    async def story() -> None:
        async with monitored(TOKEN) as (_, client, _feed):
            admitted = await client.get(f"/?token={TOKEN}")
            assert admitted.status_code == 303
            cookie = admitted.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=strict" in cookie
            assert TOKEN not in cookie
            assert TOKEN not in admitted.headers["location"]
            assert (await client.get("/")).status_code == 200  # httpx has kept the cookie
            client.cookies.clear()
            name = Token(TOKEN.encode()).cookie_name
            for forged in ("", "x", TOKEN):
                answer = await client.get("/", headers={"cookie": f"{name}={forged}"})
                assert answer.status_code == 401, forged

    asyncio.run(story())


def test_a_browser_can_be_in_at_two_monitors_of_one_machine() -> None:
    """It keeps one cookie of a name for all ports of a host."""
    assert Token(b"one").cookie_name != Token(b"another").cookie_name


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By nothing but hmac.compare_digest: without it nobody gets in."""
    token = Token(TOKEN.encode())
    monkeypatch.setattr(doors.hmac, "compare_digest", lambda a, b: False)
    assert not token.is_right(TOKEN)
    for name, value in {
        "authorization": f"Bearer {TOKEN}",
        "cookie": f"{token.cookie_name}={token.cookie}",
    }.items():
        assert not token.is_known_to(Headers({name: value}))


def test_a_name_that_somebody_owns_is_not_answered_without_a_token() -> None:
    async def story() -> None:
        async with monitored(only_local_names=True) as (_, client, _feed):
            stranger = {"host": "attacker.example:9000"}
            assert (await client.get("/status", headers=stranger)).status_code == 421
            assert (await client.get("/livez", headers=stranger)).status_code == 200
            assert (await client.get("/status")).status_code == 200

    asyncio.run(story())


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1:9000", True),
        ("[::1]:9000", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("", True),
        ("example.org", False),
        ("127.0.0.1.example.org:9000", False),
        ("localhost.example.org", False),
    ],
)
def test_names_that_nobody_can_own(host: str, local: bool) -> None:
    assert is_local_name(host) is local


def test_browsers_keep_nothing_and_execute_only_what_stands_in_the_page() -> None:
    async def story() -> None:
        async with monitored() as (_, client, _feed):
            headers = (await client.get("/")).headers
            assert headers["cache-control"] == "no-store"
            # Other pages can neither take it in, nor lay something over it; nor hear of it.
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            policy = headers["content-security-policy"]
            assert "frame-ancestors 'none'" in policy
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            script = re.findall(r"<script>(.*?)</script>", page.HTML, re.S)
            assert len(script) == page.HTML.count("<script") == 1
            digest = b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
            assert f"script-src 'sha256-{digest}'" in policy

    asyncio.run(story())


def test_the_page_takes_nothing_from_elsewhere_and_sets_text_as_text_only() -> None:
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page.HTML)
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "@import",
    ):
        assert way not in page.HTML


def test_the_past_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "MOST_ROWS", 40)

    async def story() -> None:
        async with monitored() as (master, _client, feed):
            master.status = status(workers=[worker(n) for n in range(1, 5)])
            for _ in range(15):
                feed._remember(master.status)
            assert len(feed.past) == 10
            assert "serving" not in feed.past[0]["workers"][0]  # what was asked for is not kept

    asyncio.run(story())


def _wait(condition: Callable[[], bool]) -> Any:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.005)

    return asyncio.wait_for(wait(), 20)


def test_an_event_brings_a_look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "EVERY", 1000.0)

    async def story() -> None:
        async with monitored() as (master, _client, _feed):
            await _wait(lambda: master.asked == 1)
            master.say({"id": 1, "event": {"text": "something has happened"}})
            await _wait(lambda: master.asked == 2)

    asyncio.run(story())


def test_who_never_reads_misses_some_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "FRESH", 0.0)
    monkeypatch.setattr(feeding, "SOON", 0.0)
    monkeypatch.setattr(feeding, "EVERY", 1000.0)
    last = 20

    async def story() -> None:
        async with (
            monitored() as (master, _client, feed),
            serving(feed) as base,
            httpx.AsyncClient(base_url=base, timeout=20) as client,
            client.stream("GET", "/events") as not_read,
            client.stream("GET", "/events") as read,
        ):
            lines = read.aiter_lines()
            for number in range(1, last + 1):
                # In all, far more than the kernel takes for anybody.
                master.status = status(faults=number, name="x" * 1_000_000)
                master.say({"id": 1, "event": {}})
                await _told(lines, number)
            assert await _told(not_read.aiter_lines(), last) < last

    asyncio.run(story())


@asynccontextmanager
async def serving(feed: Feed) -> AsyncIterator[str]:
    """The monitor's app, for real clients; where it is."""
    server = uvicorn.Server(uvicorn.Config(make_app(feed, 1), log_config=None, lifespan="off"))
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        task = asyncio.ensure_future(server.serve([listening]))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        await task


async def _told(lines: AsyncIterator[str], faults: int) -> int:
    """Read on until the status with so many faults; how many have come."""
    count = 0
    async for line in lines:
        if line.startswith("data: {"):
            count += 1
            if json.loads(line.removeprefix("data: "))["faults"] == faults:
                break
    return count
