"""The unit files, as systemd itself reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[1] / "demo_app" / "deploy" / "systemd"
SERVICE = (UNITS / "forkserve.service").read_text()
EXPOSURE = 1.5
"""Of ten, as `systemd-analyze security` counts; a unit without any of it has 9.6."""

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is missing"
)


def value(name: str) -> str:
    (found,) = re.findall(rf"^{name}=(.*)$", SERVICE, re.MULTILINE)
    return found


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *arguments]
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def version() -> int:
    found = re.match(r"systemd (\d+)", systemd_analyze("--version").stdout)
    assert found
    return int(found[1])


def for_older_systemd(service: str) -> str:
    """As the comment in the unit says."""
    changed = service.replace("Type=notify-reload\n", "", 1)
    for line in ("Type=notify", "ExecReload=/bin/kill -HUP $MAINPID"):
        assert f"\n#{line}\n" in changed
        changed = changed.replace(f"#{line}\n", f"{line}\n", 1)
    return changed


def install(folder: Path, service: str) -> Path:
    """The units in ``folder``, with a command that exists on every machine."""
    shutil.copy(UNITS / "forkserve.socket", folder)
    path = folder / "forkserve.service"
    path.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", service, count=1))
    return path


@needs_systemd
@pytest.mark.parametrize("older", [False, True], ids=["as it is", "for older systemd"])
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path, older: bool) -> None:
    if not older and version() < 253:
        pytest.skip("Type=notify-reload needs systemd 253")
    service = install(tmp_path, for_older_systemd(SERVICE) if older else SERVICE)
    socket = tmp_path / "forkserve.socket"
    done = systemd_analyze("verify", "--man=no", "--recursive-errors=no", str(service), str(socket))
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "forkserve" not in said, said


@needs_systemd
def test_the_service_is_shut_in(tmp_path: Path) -> None:
    service = install(tmp_path, for_older_systemd(SERVICE))
    threshold = f"--threshold={EXPOSURE * 10:.0f}"
    done = systemd_analyze("security", "--offline=yes", threshold, str(service))
    if "offline" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a file")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stop_has_the_time_that_the_workers_have() -> None:
    found = re.search(r"--graceful-timeout (\d+)", value("ExecStart"))
    assert found
    assert int(value("TimeoutStopSec")) > int(found[1]) + 1


def test_the_units_command_line_is_one_that_forkserve_takes() -> None:
    _, *arguments = value("ExecStart").split()
    command = [sys.executable, "-m", "forkserve", *arguments, "--check-config"]
    done = subprocess.run(
        command, cwd=UNITS.parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
