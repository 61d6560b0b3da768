"""A call, as its stream's first messages tell of it, and what can be done to it from outside."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from logs import log
from messages import NotUnderstood, parse, text

MULAW = "audio/x-mulaw"


class Unfit(ValueError):
    """A stream can't be served; the text says why, and what to change."""


@dataclass(frozen=True)
class Call:
    """Who calls whom, and how far the call is."""

    sid: str
    stream_sid: str
    caller: str
    called: str
    conversation: str  # "" if it couldn't be started yet
    attempt: int  # how often the call has come back
    opening: str  # the setting that is said first: "greeting", "bridge" or "no_transfer"
    since: str = ""  # when the call began, before any of its streams: seconds of the epoch
    about: str = ""  # what else is known of the caller, for the workflow

    def begun(self) -> "Call":
        """Return the call as it is once the caller has heard something."""
        return replace(self, opening="bridge", attempt=0)

    def age(self, now: float) -> float:
        """Return for how many seconds the call has lasted; `now` is of the epoch, too."""
        try:
            return max(now - float(self.since), 0.0)
        except ValueError:  # our TwiML is the user's to edit
            return 0.0


class CallControl(Protocol):
    """What Twilio's REST API does to a call. All of it may take seconds, and raise OSError."""

    def hang_up(self, call: Call) -> None:
        """End the call."""

    def transfer(self, call: Call) -> None:
        """Connect the caller to TRANSFER_NUMBER."""

    def hold(self, call: Call) -> None:
        """Ask the caller to wait, and have the call come back."""

    def give_up(self, call: Call) -> None:
        """Say UNAVAILABLE, and end the call."""


def find_start(messages: Iterator[bytes]) -> Call | None:
    """Return the call that a stream's `start` tells of; None if it doesn't."""
    for raw in messages:
        try:
            message = parse(raw)
            if text(message, "event") == "start":
                return read_start(message)
        except NotUnderstood as error:
            log.warning("a message before a stream's start was not understood: %s", error)
        except Unfit as error:
            log.warning("refused a stream: %s", error)
            return None
    return None


def read_start(message: Any) -> Call:
    """Read Twilio's `start` message. Raises NotUnderstood, or Unfit.

    See https://www.twilio.com/docs/voice/media-streams/websocket-messages#start-message.
    """
    encoding = text(message, "start.mediaFormat.encoding?")
    if encoding not in ("", MULAW):
        raise Unfit(f"its sound is {encoding}: take audioFormat out of <Stream>")
    attempt = text(message, "start.customParameters.attempt?")
    return Call(
        sid=text(message, "start.callSid"),
        stream_sid=text(message, "streamSid"),
        caller=text(message, "start.customParameters.caller?"),
        called=text(message, "start.customParameters.called?"),
        conversation=text(message, "start.customParameters.conversation?"),
        attempt=int(attempt) if attempt.isdecimal() else 0,
        opening=text(message, "start.customParameters.opening?"),
        since=text(message, "start.customParameters.since?"),
        about=text(message, "start.customParameters.about?"),
    )
