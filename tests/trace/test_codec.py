"""Whatever the brain knows comes back from JSON as it was; what it does not know is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forkserve.supervisor import actions as do
from forkserve.supervisor import events as on
from forkserve.supervisor.actions import Action, Departure
from forkserve.supervisor.events import Event, Exit
from forkserve.supervisor.failures import BootFailure
from forkserve.supervisor.state import Policy, State
from forkserve.trace.codec import FAMILIES, UnknownError, decode, encode
from forkserve.trace.lines import Snapshot, Step, from_bytes, to_bytes
from tests.trace.values import of_class, of_type

EVERYTHING = [*FAMILIES[Event].values(), *FAMILIES[Action].values(), Policy, State]


def through_json(value: object, hint: Any) -> Any:
    return decode(json.loads(json.dumps(encode(value), allow_nan=False)), hint)


@pytest.mark.parametrize("cls", EVERYTHING, ids=lambda cls: cls.__name__)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_everything_comes_back_as_it_was(cls: type, data: st.DataObject) -> None:
    value = data.draw(of_class(cls))
    hint = next((family for family in FAMILIES if issubclass(cls, family)), cls)
    back = through_json(value, hint)
    assert back == value
    assert json.dumps(encode(back)) == json.dumps(encode(value)), "10 is not 10.0"


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(line=st.one_of(of_class(Step), of_class(Snapshot)))
def test_so_do_whole_lines(line: Step | Snapshot) -> None:
    if isinstance(line, Snapshot):
        object.__setattr__(line, "trace", 1)
    assert from_bytes(to_bytes(line)) == line
    assert to_bytes(line).count(b"\n") == 1


def every(family: type) -> set[str]:
    """The names of all of ours that are derived from it, wherever they stand."""
    below = [cls for cls in family.__subclasses__() if cls.__module__.startswith("forkserve.")]
    return {cls.__name__ for cls in below}.union(*map(every, below))


@pytest.mark.parametrize("family", [Event, Action])
def test_all_the_brain_handles_and_decides_can_be_recorded(family: type) -> None:
    """By a second way. Whoever declares one elsewhere adds it to the codec."""
    assert every(family) - {"Note"} == set(FAMILIES[family])
    assert len(every(family)) > 30


def test_a_whole_number_of_seconds_stays_one() -> None:
    assert repr(through_json(Policy(timeout=10, surge=2), Policy).timeout) == "10"
    assert repr(through_json(Policy(timeout=10.0, surge=2), Policy).timeout) == "10.0"


def test_the_form_is_one_that_a_person_can_read() -> None:
    gone = do.WorkerGone(3, Departure.HUNG, Exit(-9), 1.5, False, failure=BootFailure("No."))
    assert encode(gone) == {
        "is": "WorkerGone",
        "worker_id": 3,
        "departure": "HUNG",
        "exit": {"code": -9, "oom": None, "peak": 0, "limit": 0},
        "age": 1.5,
        "planned": False,
        "stack": "",
        "failure": {"headline": "No.", "where": "", "details": ""},
        "next": "",
    }
    assert encode(on.Alarm(1.0, {7: float("inf")})) == {
        "is": "Alarm",
        "now": 1.0,
        "beats": {"7": "inf"},
        "switchboard_beat": 0.0,
    }


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"is": "WorkerSang", "now": 1.0}, "the event WorkerSang is not known"),
        ({"now": 1.0}, "the event None is not known"),
        ({"is": "Resumed", "now": 1.0, "mood": 3}, "Resumed has no field mood"),
        ({"is": "WorkerReady", "now": 1.0}, "WorkerReady lacks the field worker_id"),
        ({"is": "WorkerReady", "now": 1.0, "worker_id": "7"}, "'7' is no int"),
        ({"is": "WorkerReady", "now": 1.0, "worker_id": True}, "True is no int"),
        ({"is": "Resumed", "now": "soon"}, "'soon' is no number"),
        ({"is": "Alarm", "now": 1.0, "beats": {"x": 1.0}, "switchboard_beat": 0.0}, "'x' is no"),
        ({"is": "Started", "now": 1.0, "predecessor": "me"}, "'me' is no int"),
        (["Resumed"], r"\['Resumed'\] is no object"),
    ],
)
def test_what_is_not_understood_is_refused(data: object, why: str) -> None:
    with pytest.raises(UnknownError, match=why):
        decode(data, Event)


def test_a_member_that_an_enum_does_not_have_is_refused() -> None:
    with pytest.raises(UnknownError, match="'BORED' is no Departure"):
        decode("BORED", Departure)


def test_a_type_that_is_not_provided_for_is_a_mistake_of_ours() -> None:
    @dataclass(frozen=True)
    class Strange:
        file: bytes

    with pytest.raises(TypeError, match="bytes cannot be recorded"):
        encode(Strange(b""))
    with pytest.raises(TypeError, match="bytes"):
        decode({"file": ""}, Strange)
    with pytest.raises(TypeError, match="bytes"):
        of_type(bytes)
