"""How the Realtime stand-in behaves, and every way in which it can be told to fail.

A test sets the attributes at any time. Counters (`fail_transcripts`) tell how many of the next ones
a failure befalls; lists (`refuse_connections`) tell how each of the next ones fails; the rest holds
until it is set back. Times are in seconds, unless a name says ms. A `created_delay` or
`transcript_delay` that is set back ends at once, so that what comes behind it comes when a test is
ready for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

LOOK_SECONDS = 0.01  # how often a delay looks whether its knob was turned


class SessionClose(NamedTuple):
    """How OpenAI closes a WebSocket."""

    code: int
    reason: str = ""


TOO_MANY_SESSIONS = SessionClose(4429, "rate limited: too many concurrent sessions")


@dataclass
class ResponseFailure:
    """How one response ends, after so many ms of its audio (0: before its output begins).

    `status` is the one of its `response.done`: failed (`code`, `kind` and `message` tell why),
    incomplete (`reason` tells why), or completed (as if all were well). If it is "hangs", nothing
    more comes, until the client cancels the response.
    """

    status: str = "failed"
    after_ms: int = 0
    code: str = "server_error"
    message: str = "The server had an error while processing your request."
    reason: str = "content_filter"
    kind: str = "server_error"


QUOTA_USED_UP = ResponseFailure(
    code="insufficient_quota",
    kind="insufficient_quota",
    message="You exceeded your current quota, please check your plan and billing details.",
)
CONTENT_FILTERED = ResponseFailure("incomplete", reason="content_filter")
SILENTLY_COMPLETED = ResponseFailure("completed")
HANGS = ResponseFailure("hangs")


@dataclass
class ConnectionKnobs:
    """From the handshake to an open session."""

    connect_delay: float = 0.0
    refuse_connections: list[int] = field(default_factory=list)
    """HTTP statuses with which the next handshakes are refused, one each."""
    refuse_all: int | None = None
    """HTTP status with which every handshake is refused."""
    accept_but_stall: bool = False
    """Complete handshakes, then neither send nor read anything, not even pings."""
    mute: bool = False
    """Answer pings and take everything, but send no event."""
    model_is_gone: bool = False
    """Answer every handshake with the error `model_not_found` and a close."""
    close_connections: list[SessionClose] = field(default_factory=list)
    """How the next sessions are closed as soon as they are open, one each."""
    close_all: SessionClose | None = None
    """How every session is closed as soon as it is open."""


@dataclass
class SessionKnobs:
    """What becomes of an open session and its settings."""

    session_seconds: float | None = None
    """Lifetime of sessions opened from now on: then session_expired and close 1001."""
    updated_delay: float = 0.0
    confirm_updates: bool = True
    """Whether a session.update is followed by session.updated."""
    reject_updates: int = 0
    """How many of the next session.update events are answered by a server_error."""
    refused_field: str = ""
    """The field, such as `session.tracing`, for which every session.update is refused whole."""
    chatter: int = 0
    """After every so many events send an unknown or malformed one; 0 for never."""
    keep_audio_events: bool = True
    """Whether appends are kept in `received` and audio deltas in `sent`; switch off for soaks."""


@dataclass
class HearingKnobs:
    """From the caller's sound to its transcript."""

    hear_ends: bool = True
    """Whether the end of speech is noticed; while it isn't, no speech_stopped comes."""
    transcript_delay: float = 0.05
    next_transcripts: list[str] = field(default_factory=list)
    """What the next utterances are transcribed as, whatever was heard; may be empty strings."""
    fail_transcripts: int = 0
    lose_transcripts: int = 0
    """How many of the next transcripts never come, nor a failure."""
    repeat_transcripts: int = 0
    """How many of the next transcripts come twice."""
    hold_transcripts: int = 0
    """How many of the next transcripts are held back until a later one is out."""
    unpinned_transcript: str | None = None
    """What is heard where no language is pinned: 8 kHz sound is often taken for another one."""


@dataclass
class SpeakingKnobs:
    """From response.create to the last of its sound."""

    drift: Callable[[str], str] | None = None
    """What is spoken instead of the given text."""
    created_delay: float = 0.0
    first_audio_delay: float = 0.05
    speed: float = 8.0
    """How many times faster than it plays audio is generated."""
    next_failures: list[ResponseFailure] = field(default_factory=list)
    """How the next responses end, one each."""
    fail_all: ResponseFailure | None = None
    """How every response ends."""
    reject_responses: int = 0
    """How many of the next response.create events are answered by an error and nothing else."""
    ignore_responses: int = 0
    """How many of the next response.create events are answered by nothing at all."""
    late_deltas: int = 1
    """Audio deltas still sent after a response.cancel was received."""

    def next_failure(self) -> ResponseFailure | None:
        """Return how the response that starts now is to end, if not well."""
        if self.next_failures:
            return self.next_failures.pop(0)
        return self.fail_all


@dataclass
class ModelKnobs:
    """What the account's key is told of the models."""

    shutdown_dates: dict[str, str] = field(default_factory=dict)
    """Models whose end is announced, and when: `YYYY-MM-DD`."""
    key_is_restricted: bool = False
    """Whether the key lacks the permission to ask about models, as restricted ones may."""


@dataclass
class RealtimeBehaviour(ConnectionKnobs, SessionKnobs, HearingKnobs, SpeakingKnobs):
    """All knobs of the Realtime side."""

    async def wait(self, delay: str) -> None:
        """Wait for as long as the named knob says, also if it is turned meanwhile."""
        began = time.monotonic()
        await asyncio.sleep(0)
        while (left := began + getattr(self, delay) - time.monotonic()) > 0:
            await asyncio.sleep(min(left, LOOK_SECONDS))

    def take(self, counter: str) -> bool:
        """Count down the named knob; tell whether it applies this time."""
        left = getattr(self, counter)
        setattr(self, counter, max(0, left - 1))
        return bool(left)
