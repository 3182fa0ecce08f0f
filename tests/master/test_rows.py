"""The master's part of the rows follows the supervisor's state."""

from __future__ import annotations

import os
from dataclasses import replace

from forkserve.master.rows import Rows
from forkserve.readings import Holder
from forkserve.scoreboard import Scoreboard
from forkserve.supervisor.phases import Phase
from forkserve.supervisor.state import State, Worker


def test_each_row_says_how_its_worker_stands() -> None:
    board = Scoreboard(3)
    rows = Rows(board)
    state = State(target=2)
    worker = Worker(7, 1, Phase.STARTING, 10.0, 20.0, slot=2)
    state.workers[7] = worker
    rows.follow(state)
    assert rows.snapshots(0.0)[7].holder == Holder(7, 1, Phase.STARTING, None, 10.0, None)
    worker.pid, worker.phase, worker.ready_at = os.getpid(), Phase.READY, 12.0
    rows.follow(state)
    told = Holder(7, 1, Phase.READY, os.getpid(), 10.0, 12.0)
    assert rows.snapshots(0.0)[7].holder == told
    assert board.row(2).snapshot().holder == told
    assert board.row(0).snapshot().holder is None
    worker.phase = Phase.DRAINING
    rows.follow(state)
    assert rows.snapshots(0.0)[7].holder == replace(told, phase=Phase.DRAINING)
    del state.workers[7]
    board.row(2).clear()
    rows.follow(state)
    assert rows.snapshots(0.0) == {}


def test_a_successor_in_the_same_slot_is_told_at_once() -> None:
    board = Scoreboard(1)
    rows = Rows(board)
    state = State(target=1)
    state.workers[1] = Worker(1, 1, Phase.READY, 10.0, 20.0, slot=0, pid=5)
    rows.follow(state)
    board.row(0).clear()
    state.workers = {2: Worker(2, 1, Phase.READY, 10.0, 20.0, slot=0, pid=5)}
    rows.follow(state)
    holder = board.row(0).snapshot().holder
    assert holder is not None
    assert holder.worker_id == 2
    assert list(rows.snapshots(0.0)) == [2]


def test_memory_is_weighed_now_and_then_and_shared_out_when_asked() -> None:
    rows = Rows(Scoreboard(1))
    state = State(target=1)
    state.workers[1] = Worker(1, 1, Phase.READY, 10.0, 20.0, slot=0, pid=os.getpid())
    rows.follow(state)

    def seen() -> tuple[bool, bool]:
        row = rows.snapshots(0.0)[1]
        return row.rss > 0, row.pss > 0

    assert seen() == (False, False)
    rows.weigh(100.0)
    assert seen() == (True, False)
    rows.weigh(100.5, share_out=True)
    assert seen() == (True, True)
    # Not again so soon: somebody else's pid would be seen to weigh nothing.
    rows._pids[1] = 2**22 + 1
    rows.weigh(101.0, share_out=True)
    assert seen() == (True, True)
    rows.weigh(103.0, share_out=True)
    assert seen() == (False, True)
    rows.weigh(111.0, share_out=True)
    assert seen() == (False, False)
