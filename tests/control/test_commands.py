"""What is a wrong use of a command is found out before any master is asked."""

from __future__ import annotations

import pytest

from forkserve.config.command_line import WrongArguments
from forkserve.control import commands


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("status --pid 1 --control c.sock", "both choose an instance"),
        ("scale", "Missing argument"),
        ("scale x", r"such as 4, \+1 or -1"),
        ("scale +-1", r"such as 4, \+1 or -1"),
        ("scale 1.5", r"such as 4, \+1 or -1"),
        ("recycle x", "the id of a worker is meant"),
        ("recycle -1", "there is no option -1"),
        ("recycle ²", "the id of a worker is meant"),
        ("dump x", "not a valid integer"),
        ("status 1", "unexpected extra argument"),
        ("list --jsn", "did you mean --json"),
    ],
)
def test_wrong_use(words: str, why: str) -> None:
    name, *rest = words.split()
    with pytest.raises(WrongArguments, match=why):
        commands.run(name, rest)
