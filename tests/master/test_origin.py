"""How a process was started, and that it can be started so again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from forkserve.master.origin import command, folder

HERE = str(Path(__file__).parents[2])


@pytest.mark.parametrize(
    ("execfn", "orig_argv", "program", "arguments"),
    [
        ("/v/python", ["python", "-m", "forkserve", "a:b"], "/v/python", None),
        ("", ["python", "-m", "forkserve", "a:b"], "python", None),
        ("/v/forkserve", ["/v1/python", "/v/forkserve", "a:b"], "/v/forkserve", 1),
        ("/v/forkserve", ["/v1/python", "-I", "/v/forkserve", "a:b"], "/v/forkserve", 2),
        ("/v/python", ["/v/python", "/v/forkserve", "a:b"], "/v/python", None),
    ],
    ids=["module", "unknown", "script", "script with an option", "script by hand"],
)
def test_the_command(
    execfn: str, orig_argv: list[str], program: str, arguments: int | None
) -> None:
    assert command(execfn, orig_argv) == (program, orig_argv[arguments or 0 :])


def test_the_folder_by_its_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    link = tmp_path / "current"
    link.symlink_to("one")
    monkeypatch.chdir(link)
    assert folder(str(link)) == str(link)
    assert folder("current") == folder("") == str(tmp_path / "one")
    assert folder(str(tmp_path)) == str(tmp_path / "one")
    assert folder(str(tmp_path / "gone")) == str(tmp_path / "one")


def test_a_process_begins_anew_as_it_was(tmp_path: Path) -> None:
    """With its folder, environment, ignored signals and mask, whatever it did to them."""
    probe = tmp_path / "probe.py"
    probe.write_text(
        "import os, signal, sys\n"
        "from forkserve.master.origin import Origin\n"
        "origin = Origin.of_this_process()\n"
        "mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
        "ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN\n"
        "defaults = signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL\n"
        "print(os.getcwd(), os.environ['A'], os.environ.get('TURN'), sys.argv[1:], ignored,\n"
        "      defaults, len(mask), flush=True)\n"
        "if 'TURN' not in os.environ:\n"
        "    os.environ['A'] = 'changed'\n"
        "    signal.signal(signal.SIGHUP, lambda *_: None)\n"
        "    signal.signal(signal.SIGUSR2, signal.SIG_IGN)\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "    os.chdir('/')\n"
        "    origin.begin_anew('TURN', 'second')\n"
    )
    told = subprocess.run(
        [sys.executable, probe.name, "x y"],
        cwd=tmp_path,
        env=os.environ | {"A": "first", "PYTHONPATH": HERE},
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    ).stdout.splitlines()
    assert told == [f"{tmp_path} first {turn} ['x y'] True True 0" for turn in (None, "second")]
