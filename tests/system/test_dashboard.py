"""The dashboard in a browser: Chromium, by the DevTools protocol."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.system.server import PATIENCE, Server
from tests.system.test_monitor import dashboard, the_monitor

Start = Callable[..., Server]

pytestmark = pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")

WRONG = ("Runtime.exceptionThrown", "Log.entryAdded")


class Page:
    """A page in the browser, and what it has complained of."""

    def __init__(self, devtools: ClientConnection) -> None:
        self._devtools = devtools
        self._number = 0
        self.complaints: list[Any] = []
        """Errors in the console, and of the network."""

    def call(self, method: str, **params: Any) -> Any:
        self._number += 1
        request = {"id": self._number, "method": method, "params": params}
        self._devtools.send(json.dumps(request))
        while True:
            said = json.loads(self._devtools.recv(PATIENCE))
            if said.get("id") == self._number:
                return said["result"]
            errors = said.get("params", {}).get("type") == "error"
            if said["method"] in WRONG or errors:
                self.complaints.append(said)

    def value(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")


@contextmanager
def opened(url: str, folder: Path) -> Iterator[Page]:
    browser = subprocess.Popen(
        [
            *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu"),
            *("--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert browser.stderr
        lines = (re.search(r"ws://127\.0\.0\.1:(\d+)/", line) for line in browser.stderr)
        port = next(int(found[1]) for found in lines if found)
        asked = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        with closing(asked):
            asked.request("GET", "/json/list")
            (target, *_) = json.loads(asked.getresponse().read())
        with connect(target["webSocketDebuggerUrl"], max_size=None) as devtools:
            page = Page(devtools)
            for domain in ("Log", "Runtime", "Page"):
                page.call(f"{domain}.enable")
            page.call("Page.navigate", url=url)
            yield page
    finally:
        os.killpg(browser.pid, signal.SIGKILL)  # its own group, which we have made
        browser.wait(PATIENCE)
        assert browser.stderr
        browser.stderr.close()


def test_a_browser_sees_what_happens_and_whether_it_still_does(
    start: Start, tmp_path: Path
) -> None:
    server = start("-w", "2", "--monitor", "0").wait_until_ready()
    monitor, port = the_monitor(server)
    with opened(f"http://127.0.0.1:{port}/", tmp_path / "browser") as page:

        def shows(element: str, text: str) -> bool:
            return text in (page.value(f"document.getElementById('{element}').innerText") or "")

        server.wait_for("serving", lambda: shows("state", "serving"))
        server.wait_for("the tree", lambda: shows("tree", "worker 2"))
        assert shows("tree", "template")
        pid = int(server.wait_for_log(r"worker 1 \(pid (\d+)")[1])
        os.kill(pid, signal.SIGKILL)
        server.wait_for("the death", lambda: shows("deaths", str(pid)))
        server.wait_for("the replacement", lambda: shows("tree", "worker 3"))
        assert not shows("tree", "worker 1\n")
        assert server.reload() == "done"
        server.wait_for("the reload", lambda: shows("facts", "generation 2"))
        server.wait_for("its end", lambda: shows("events", "reload done"))
        assert page.complaints == []

        # Another monitor knows nothing of the past, but the page does.
        began = page.value("past[0].at")
        since = server.mark()
        os.kill(monitor, signal.SIGKILL)
        monitor, _ = the_monitor(server, since)
        server.wait_for("the new monitor", lambda: shows("tree", str(monitor)))
        assert page.value("past[0].at") == began

        os.kill(monitor, signal.SIGSTOP)
        server.wait_for("the silence", lambda: shows("state", "no news for"))
        os.kill(monitor, signal.SIGCONT)
        server.wait_for("its end", lambda: shows("state", "serving"))

        # It is not let in, and so tries again until it is.
        page.call("Page.navigate", url="about:blank")
        with ExitStack() as others:
            server.wait_for("no room", lambda: _is_full(others, port))
            page.complaints.clear()
            page.call("Page.navigate", url=f"http://127.0.0.1:{port}/")
            server.wait_for("refused", lambda: not page.value("''") and page.complaints != [])
            assert shows("state", "connecting")
        server.wait_for("let in", lambda: shows("state", "serving"))
        assert [one for one in page.complaints if one["method"] == "Runtime.exceptionThrown"] == []
    assert server.stop() == 0


def _is_full(others: ExitStack, port: int) -> bool:
    """Take what room there still is for dashboards."""
    stream = others.enter_context(dashboard(port))
    return stream.status == 503
