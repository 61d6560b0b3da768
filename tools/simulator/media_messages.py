"""Messages of Media Streams: what Twilio accepts from the app, and what it sends."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

CONNECTED = '{"event":"connected","protocol":"Call","version":"1.0.0"}'


class BadMessage(Exception):
    """A message that Twilio does not accept."""


# By event: its keys, the one that holds an object, and the one key in that.
_SHAPES = {
    "media": ({"event", "streamSid", "media"}, "media", "payload"),
    "mark": ({"event", "streamSid", "mark"}, "mark", "name"),
    "clear": ({"event", "streamSid"}, "", ""),
}


def check_message(text: str, stream_sid: str) -> tuple[str, str]:
    """Return the event's name and its one value: base64 payload, mark's name, or nothing.

    :raises BadMessage: for anything but an exact `media`, `mark` or `clear` of this stream.
    """
    try:
        message = json.loads(text)
    except ValueError as error:
        raise BadMessage(f"not JSON: {error}") from error
    event = message.get("event") if isinstance(message, dict) else None
    if not isinstance(event, str) or event not in _SHAPES:
        raise BadMessage(f"no such event: {event!r}")
    keys, inner, name = _SHAPES[event]
    if message.keys() != keys:
        raise BadMessage(f"{event} has the keys {sorted(message)}, not {sorted(keys)}")
    if message["streamSid"] != stream_sid:
        raise BadMessage(f"{event} for stream {message['streamSid']!r}, this is {stream_sid}")
    return event, _value(event, message[inner], name) if inner else ""


def _value(event: str, body: Any, name: str) -> str:
    if not isinstance(body, dict) or body.keys() != {name}:
        raise BadMessage(f"{event}.{event} must be an object with {name!r} alone")
    if not isinstance(body[name], str) or not body[name]:
        raise BadMessage(f"{event}.{event}.{name} must be a string that isn't empty")
    return str(body[name])


# Twilio's own order of the keys, which differs from event to event.
_KEY_ORDER = {
    "start": ("sequenceNumber", "start", "streamSid"),
    "dtmf": ("streamSid", "sequenceNumber", "dtmf"),
    "mark": ("sequenceNumber", "streamSid", "mark"),
    "stop": ("sequenceNumber", "stop", "streamSid"),
}


class Uplink:
    """What one stream sends to the app, numbered as Twilio numbers it."""

    def __init__(self, stream_sid: str) -> None:
        self.frames_to_skip = 0
        self.frames_to_repeat = 0
        self._stream_sid = stream_sid
        self._sequence = 0
        self._chunk = 0
        self._ticks = 0

    def event(self, event: str, **body: Any) -> str:
        """Return an event that is no sound."""
        self._sequence += 1
        values = {"sequenceNumber": str(self._sequence), "streamSid": self._stream_sid, **body}
        message = {"event": event, **{key: values[key] for key in _KEY_ORDER[event]}}
        return json.dumps(message, separators=(",", ":"), ensure_ascii=False)

    def frames(self, audio: bytes, *, crowded: bool) -> Iterator[str]:
        """Yield the messages of the next 20 ms: one, but for faults; none while `crowded`."""
        timestamp = self._ticks * 20
        self._ticks += 1
        if self.frames_to_skip:
            self.frames_to_skip -= 1
            return
        if crowded:
            return
        self._chunk += 1
        yield self._media(audio, timestamp)
        if self.frames_to_repeat:
            self.frames_to_repeat -= 1
            yield self._media(audio, timestamp)

    def _media(self, audio: bytes, timestamp: int) -> str:
        self._sequence += 1
        payload = base64.b64encode(audio).decode()
        return (
            f'{{"event":"media","sequenceNumber":"{self._sequence}","media":'
            f'{{"track":"inbound","chunk":"{self._chunk}","timestamp":"{timestamp}",'
            f'"payload":"{payload}"}},"streamSid":"{self._stream_sid}"}}'
        )
