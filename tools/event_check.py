"""What the app sends to Realtime, held against the SDK's own types: right, and nothing more."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pydantic
from openai.types.realtime import RealtimeClientEvent

from tools.simulator.openai_server import RealtimeSession

APPEND = "input_audio_buffer.append"
CLIENT_EVENTS = {
    get_args(event.model_fields["type"].annotation)[0]: event
    for event in get_args(get_args(RealtimeClientEvent)[0])
}


def check_client_events(session: RealtimeSession) -> None:
    """Check everything that a session was sent, but of the sound only the first piece."""
    appends = session.events(APPEND)
    others = [event for _, event in session.received if event["type"] != APPEND]
    for event in itertools.chain(appends[:1], others):
        model = CLIENT_EVENTS[event["type"]].model_validate(event, strict=True)
        assert extra_fields(model) == [], event


def extra_fields(value: Any) -> list[str]:
    """List every field, at any depth, that the SDK's types do not know."""
    if isinstance(value, pydantic.BaseModel):
        known = [extra_fields(getattr(value, name)) for name in type(value).model_fields]
        return [*(value.model_extra or {}), *itertools.chain.from_iterable(known)]
    if isinstance(value, list):
        return list(itertools.chain.from_iterable(map(extra_fields, value)))
    return []
