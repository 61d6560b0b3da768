"""What a stream's first messages tell of its call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from call import Call, find_start

PARAMETERS = {
    "conversation": "conv_1",
    "caller": "+15552223333",
    "called": "+15550001111",
    "attempt": "2",
    "opening": "bridge",
    "since": "1795651200.0",
    "about": "Of the caller: name Ada.",
}


def start(**changes: Any) -> bytes:
    body = {
        "accountSid": "AC1",
        "streamSid": "MZ1",
        "callSid": "CA1",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": PARAMETERS,
        **changes,
    }
    return json.dumps({"event": "start", "start": body, "streamSid": "MZ1"}).encode()


def test_a_start_tells_who_calls_whom_and_how_far_the_call_is() -> None:
    messages = iter([b'{"event": "connected", "protocol": "Call"}', start()])
    assert find_start(messages) == Call(
        sid="CA1",
        stream_sid="MZ1",
        caller="+15552223333",
        called="+15550001111",
        conversation="conv_1",
        attempt=2,
        opening="bridge",
        since="1795651200.0",
        about="Of the caller: name Ada.",
    )


@pytest.mark.parametrize("parameters", [{}, None, {"attempt": "many"}, {"attempt": "-1"}])
def test_a_start_without_our_parameters_is_a_new_call_of_somebody_unknown(parameters: Any) -> None:
    call = find_start(iter([start(customParameters=parameters)]))
    assert call
    assert (call.sid, call.caller, call.conversation, call.attempt) == ("CA1", "", "", 0)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"[]",
        b'{"event": "start"}',
        b'{"event": "start", "start": {"callSid": "CA1"}}',
        b'{"event": "start", "streamSid": "MZ1", "start": {"callSid": 7}}',
        start(callSid=None),
    ],
)
def test_a_message_before_the_start_that_makes_no_sense_costs_nothing(message: bytes) -> None:
    assert find_start(iter([message])) is None
    call = find_start(iter([message, start()]))
    assert call
    assert call.sid == "CA1"


def test_sound_other_than_mulaw_is_refused_in_one_clear_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sound = {"encoding": "audio/opus", "sampleRate": 48000, "channels": 1}
    assert find_start(iter([start(mediaFormat=sound), start()])) is None
    (line,) = caplog.messages
    assert "audio/opus" in line
    assert "audioFormat" in line


def test_a_stream_that_ends_before_its_start_carries_no_call() -> None:
    assert find_start(iter([b'{"event": "stop"}'])) is None


@pytest.mark.parametrize(
    ("since", "age"), [("1000.0", 60.0), ("1100", 0.0), ("", 0.0), ("yesterday", 0.0)]
)
def test_the_age_of_a_call_counts_from_its_first_stream(since: str, age: float) -> None:
    call = find_start(iter([start(customParameters={**PARAMETERS, "since": since})]))
    assert call
    assert call.age(1060.0) == age
