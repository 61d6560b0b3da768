"""Events held against the SDK's own types: right, and nothing more.

The app's events to Realtime are checked so, and those of the stand-in for OpenAI.
"""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pydantic
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent

from tools.simulator.openai_server import OpenAISimulator, RealtimeSession

Json = dict[str, Any]
Classes = dict[str, type[pydantic.BaseModel]]

APPEND = "input_audio_buffer.append"


def classes_of(union: Any, tag: str) -> Classes:
    """Return the members of one of the SDK's unions, by the value of their `tag`."""
    members = get_args(get_args(union)[0])
    return {get_args(member.model_fields[tag].annotation)[0]: member for member in members}


CLIENT_EVENTS = classes_of(RealtimeClientEvent, "type")
SERVER_EVENTS = classes_of(RealtimeServerEvent, "type")


def check_client_events(session: RealtimeSession) -> None:
    """Check everything that a session was sent, but of the sound only the first piece."""
    appends = session.events(APPEND)
    others = [event for _, event in session.received if event["type"] != APPEND]
    for event in itertools.chain(appends[:1], others):
        model = CLIENT_EVENTS[event["type"]].model_validate(event, strict=True)
        assert extra_fields(model) == [], event


def check_server_events(simulator: OpenAISimulator) -> None:
    """Check everything that the stand-in sent, and that it found no bug of its own."""
    for session in simulator.sessions:
        for _, event in session.sent:
            model = SERVER_EVENTS[event["type"]].model_validate(event)
            assert extra_fields(model) == [], event
    assert not [text for text in simulator.refusals if "BUG" in text]


def extra_fields(value: Any) -> list[str]:
    """List every field, at any depth, that the SDK's types do not know."""
    if isinstance(value, pydantic.BaseModel):
        known = [extra_fields(getattr(value, name)) for name in value.model_fields_set]
        return [*(value.model_extra or {}), *itertools.chain.from_iterable(known)]
    if isinstance(value, list):
        return list(itertools.chain.from_iterable(map(extra_fields, value)))
    return []
