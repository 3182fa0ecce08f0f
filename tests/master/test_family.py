"""What the master holds of its children."""

from __future__ import annotations

import contextlib
import os

from forkserve.channel import Channel
from forkserve.master.family import WorkerChild
from forkserve.scoreboard import Scoreboard


def test_the_connections_of_a_worker_that_is_gone_count_no_more() -> None:
    board = Scoreboard(2)
    ours, theirs = Channel.pair()
    gone = WorkerChild(1, 1, None, ours, os.dup(0), board.row(0))
    board.row(0).hold(0)
    board.row(1).hold(7)
    assert board.row(1).fewest_held() == 0
    with contextlib.closing(theirs):
        gone.close()
    assert board.row(1).fewest_held() == 7
