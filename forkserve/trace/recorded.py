"""A supervisor whose every step is written down."""

from __future__ import annotations

import logging
from copy import copy
from dataclasses import dataclass, fields, is_dataclass

from forkserve.supervisor.actions import Action
from forkserve.supervisor.brain import Supervisor
from forkserve.supervisor.events import Alarm, Event
from forkserve.supervisor.state import Policy, State
from forkserve.trace.lines import Step
from forkserve.trace.recorder import Recorder

log = logging.getLogger("forkserve")


@dataclass(slots=True)
class _QuietRow:
    """Alarms one after the other in which nothing is decided. The last stands for all."""

    before: State
    """The state before the first of them."""

    alarm: Alarm
    folded: int = 0

    def is_as_if_only(self, alarm: Alarm, brain: Supervisor) -> bool:
        """Whether the state that ``brain`` is in after ``alarm`` is the same without the row.

        It is not reasoned but tried, so it is true whatever the brain may come to do.
        """
        other = Supervisor(brain.policy)
        other.state = copied(self.before)
        quiet = not other.handle(alarm)
        return quiet and other.state == brain.state and other.policy == brain.policy


class Recorded(Supervisor):
    """Decides as any, and has a :class:`.Recorder` write down what, before it is done."""

    def __init__(self, policy: Policy, recorder: Recorder) -> None:
        super().__init__(policy)
        self._recorder: Recorder | None = recorder
        self._row: _QuietRow | None = None
        recorder.begin(self)

    def handle(self, event: Event) -> list[Action]:
        if self._recorder is None:
            return super().handle(event)
        begins_row = self._row is None and isinstance(event, Alarm)
        before = copied(self.state) if begins_row else None
        try:
            actions = super().handle(event)
        except Exception as exc:
            self._note(self._recorder, event, fault=repr(exc))
            raise
        self._note(self._recorder, event, tuple(actions), before)
        return actions

    def _note(
        self,
        recorder: Recorder,
        event: Event,
        actions: tuple[Action, ...] = (),
        before: State | None = None,
        fault: str = "",
    ) -> None:
        """``before``: the state before an alarm, if no row of them has begun."""
        try:
            if isinstance(event, Alarm) and not (actions or fault) and self._fold(before, event):
                return
            steps = self._end_of_row(recorder)
            number = recorder.last + len(steps) + 1
            steps.append(Step(recorder.pid, number, event, actions, fault=fault))
            recorder.record(steps, self)
        except Exception:
            # A bug of ours, and what has been decided has to be done all the same.
            log.exception("a fault in forkserve's trace, which ends here; please report it")
            self._recorder = None

    def _fold(self, before: State | None, alarm: Alarm) -> bool:
        """Whether ``alarm`` need not be written down yet."""
        if before is not None:
            self._row = _QuietRow(before, alarm)
            return True
        if self._row is None or not self._row.is_as_if_only(alarm, self):
            return False
        self._row.alarm = alarm
        self._row.folded += 1
        return True

    def _end_of_row(self, recorder: Recorder) -> list[Step]:
        row, self._row = self._row, None
        if row is None:
            return []
        return [Step(recorder.pid, recorder.last + 1, row.alarm, folded=row.folded)]


def copied(state: State) -> State:
    """With all in it that changes: the records of the processes, and of the backing off.

    Much faster than a deep copy. That there is nothing deeper is for a test to see.
    """
    other = copy(state)
    for field in fields(state):
        value = getattr(state, field.name)
        if isinstance(value, dict):
            setattr(other, field.name, {key: copy(item) for key, item in value.items()})
        elif is_dataclass(value):
            setattr(other, field.name, copy(value))
    return other
