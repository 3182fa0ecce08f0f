"""forkserve whose master writes down what its rows say, whenever it gets SIGCONT.

    python -m tests.system.watched -w 2 app:app

Into ``rows.json`` in its folder. The master takes SIGCONT for an event that changes nothing.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from time import monotonic
from typing import Any

from forkserve.cli import main
from forkserve.master.rows import Rows
from forkserve.supervisor.state import State

_follow = Rows.follow


def follow(rows: Rows, state: State) -> None:
    """... and write it down, with a number that grows."""
    global looks
    _follow(rows, state)
    looks += 1
    now = monotonic()
    rows.weigh(now, share_out=True)
    seen = rows.snapshots(now)
    said = {
        "looks": looks,
        "rows": {number: asdict(row) for number, row in seen.items()},
        "totals": asdict(rows.totals(seen)),
    }
    with open("rows.json.new", "w") as file:
        json.dump(said, file, default=_as_json)
    os.replace("rows.json.new", "rows.json")


def _as_json(value: Any) -> str:
    return str(value.value)  # a phase


if __name__ == "__main__":
    looks = 0
    Rows.follow = follow  # type: ignore[method-assign]
    main()
