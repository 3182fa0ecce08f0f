"""The channel: messages arrive whole, and nothing else does any harm."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from forkserve.channel import BootFailed, Channel, Leaving, Message, Ready, decode, encode

MESSAGES: list[Message] = [Ready(), Leaving(), BootFailed('it "broke"\n', "a.py:1", "x\ny\u00e9")]


def test_messages_arrive_in_order_and_the_end_is_seen() -> None:
    ours, theirs = Channel.pair()
    for message in MESSAGES:
        theirs.send(message)
    theirs.close()
    assert ours.receive_rest() == MESSAGES
    assert ours.closed
    ours.close()


def test_a_message_cut_anywhere_arrives_once_it_is_whole() -> None:
    line = encode(MESSAGES[2])
    for cut in range(len(line)):
        ours, theirs = Channel.pair()
        os.write(theirs.fileno(), line[:cut])
        first = ours.receive()
        os.write(theirs.fileno(), line[cut:])
        assert first + ours.receive() == [MESSAGES[2]]
        ours.close()
        theirs.close()


def test_a_message_after_a_scribble_without_an_end_is_heard() -> None:
    ours, theirs = Channel.pair()
    os.write(theirs.fileno(), b"x" * 1000)
    theirs.send(Ready())
    assert ours.receive() == [Ready()]
    assert ours.scribbles == 1
    ours.close()
    theirs.close()


@given(st.binary(max_size=200))
def test_nothing_but_a_message_is_a_message(line: bytes) -> None:
    message = decode(line)
    assert message is None or decode(encode(message).strip()) == message


@given(st.recursive(st.none() | st.integers() | st.text(max_size=9), st.lists, max_leaves=9))
def test_json_that_is_no_message_is_none(value: object) -> None:
    import json

    assert decode(json.dumps(value).encode()) is None or isinstance(value, list)
