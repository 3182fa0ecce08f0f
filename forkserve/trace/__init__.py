"""The flight recorder: every event and every decision of the brain, in a file.

Theory of operation
-------------------

All that the master decides is decided by a pure function of what has happened (see
:mod:`forkserve.supervisor`). So what has happened, and the state in which it began, is all
that has to be written down, and whoever has the file can have the same decisions made again:
to see why, or to see whether a newer forkserve would have decided otherwise.

The file holds one JSON object a line, of two kinds (:mod:`.lines`). A *snapshot* holds the
whole state and the policy; a *step* holds one event and the actions that it led to. A snapshot
stands wherever steps begin: at the start, at the beginning of a file that goes on from another
one, and after a gap. So each file can be replayed by itself, and so can what comes after a gap.

:mod:`.recorder` writes it, without ever holding up the master: what cannot be written is
counted, and the gap is marked. Alarms in which nothing is decided are folded (:mod:`.recorded`),
so a service where nothing happens writes nothing.

Several masters may write to one file: the two of an upgrade, and one after the other. Each
line tells the master's pid.

Where to read: :mod:`.codec` (dataclasses and JSON), :mod:`.lines`, :mod:`.recorder` (the file),
:mod:`.recorded` (the brain that is recorded), :mod:`.replaying` (the same decisions made again),
:mod:`.words` and :mod:`.timeline` (the story and the picture), :mod:`.command`
(``forkserve replay``).
"""
