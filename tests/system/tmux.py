"""A real terminal whose screen can be looked at: tmux(1), a server of our own with one shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from tests.system.server import PATIENCE

needs_tmux = pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is missing")

PROMPT = "shell> "


class Tmux:
    """A context."""

    def __init__(self, folder: Path, width: int = 120, height: int = 30) -> None:
        self._socket = folder / "tmux"
        self._tmux(
            *("new-session", "-d", "-x", str(width), "-y", str(height), "-c", str(folder)),
            *("-e", f"PYTHONPATH={Path(__file__).parents[2]}", "sh"),
        )

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), "-f", os.devnull, *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
            check=True,
        )
        return done.stdout

    def __enter__(self) -> Tmux:
        return self

    def __exit__(self, *_: object) -> None:
        self._tmux("kill-server")

    # -- doing ----------------------------------------------------------------------

    def begin(self) -> None:
        """Until there is nothing on the screen but our prompt."""
        self.type(f"PS1='{PROMPT}'; clear")
        self.wait_for("its prompt", lambda: self.text == PROMPT.rstrip())

    def type(self, line: str) -> None:
        """... and press Enter."""
        self._tmux("send-keys", "-l", line)
        self.press("Enter")

    def press(self, key: str) -> None:
        self._tmux("send-keys", key)

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def hang_up(self) -> None:
        """What runs there loses its terminal."""
        self._tmux("respawn-pane", "-k", "sh")

    # -- looking --------------------------------------------------------------------

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without blanks at the ends of lines."""
        return [line.rstrip() for line in self._tmux("capture-pane", "-p").splitlines()]

    @property
    def shows_its_cursor(self) -> bool:
        return self._tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"

    @property
    def program(self) -> int:
        """The pid of what its shell runs."""
        shell = self._tmux("display-message", "-p", "#{pane_pid}").strip()
        (pid,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return int(pid)

    @property
    def text(self) -> str:
        return "\n".join(self.lines).rstrip()

    @property
    def styled(self) -> str:
        """With the escape sequences of its colours."""
        return self._tmux("capture-pane", "-p", "-e")

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        """Until ``condition`` holds; the screen does not say when it changes."""
        deadline = monotonic() + PATIENCE
        while not condition():
            assert monotonic() < deadline, f"never {what}:\n{self.text}"
            threading.Event().wait(0.05)
