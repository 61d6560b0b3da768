"""OpenAI Realtime as the ears and the mouth of a call: its events in, its events out.

No conversation lives there: it hears the caller, and reads one sentence at a time. See
https://platform.openai.com/docs/api-reference/realtime for its events.
"""

import binascii
import json
import re
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event
from typing import Any

from conversation import Conversation, Outcome
from cost import EARS, VOICE, Usage
from messages import Handler, NotUnderstood, text
from settings import Settings
from story import Story
from utils import Downsampler, Upsampler, same_words
from wire import Connection, Refused, connect

KEPT_FRAMES = 500  # 10 s of the caller's sound, for the next session
SESSION_UPDATE = "session"  # the event_id of ours
# These don't get better by trying again
HOPELESS_STATUSES = (401, 403, 404)
HOPELESS_CODES = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "account_deactivated",
        "organization_deactivated",
        "invalid_api_key",
        "model_not_found",
        "beta_api_shape_disabled",
    }
)
BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}").fullmatch
HARMLESS_CODE = "response_cancel_not_active"  # it ended just before it was cancelled


class Format:
    """The sound of a session: base64 as JSON text, to and from 8 kHz mulaw.

    Mulaw (`audio/pcmu`) passes as it is; `audio/pcm` is converted.
    """

    def __init__(self, audio: dict[str, Any]) -> None:
        """Take the `audio` part of a session."""
        self._upsample: Upsampler | None = None
        self._downsample: Downsampler | None = None
        self._output = audio["output"]["format"]
        if audio["input"]["format"]["type"] == "audio/pcm":
            self._upsample = Upsampler(audio["input"]["format"]["rate"])
        self.begin_sentence()

    def begin_sentence(self) -> None:
        """Begin the sound to Twilio anew: a sentence that was cut may have left half a sample."""
        if self._output["type"] == "audio/pcm":
            self._downsample = Downsampler(self._output["rate"])

    def to_realtime(self, sound: bytes) -> bytes:
        """Convert base64 in quotes."""
        if self._upsample is None:
            return sound
        return b'"%b"' % b64encode(self._upsample(decode(sound.strip(b'"'))))

    def to_twilio(self, sound: str) -> str:
        """Convert base64. Raises NotUnderstood."""
        if self._downsample:
            return b64encode(self._downsample(decode(sound))).decode()
        if len(sound) % 4 or not BASE64(sound):
            raise NotUnderstood("no base64")
        return sound


def decode(sound: bytes | str) -> bytes:
    """Decode base64. Raises NotUnderstood."""
    try:
        return b64decode(sound, validate=True)
    except binascii.Error as error:
        raise NotUnderstood(f"no base64: {error}") from error


class Requests:
    """What a session was asked to read, to tell which of it a response reads.

    OpenAI sends our mark back with each response. Of a server that doesn't, responses are taken to
    begin in the order in which they were asked for; so what was given up before its response began
    is waited for, too.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._marks: list[str] = []  # whose responses have not begun, if no marks come back
        self._told_apart = False  # marks come back

    def add(self, mark: str) -> None:
        """Note that a sentence was asked for."""
        if not self._told_apart:
            self._marks.append(mark)

    def refuse(self, mark: str) -> None:
        """Note that no response to it will begin."""
        if mark in self._marks:
            self._marks.remove(mark)

    def begin(self, mark: str) -> str:
        """Return the mark of a response that begins with this one; "" if nobody asked for it."""
        if mark:
            self._told_apart = True
            self._marks.clear()
            return mark
        if not self._marks:
            return ""
        return self._marks.pop(0)


@dataclass
class InFlight:
    """The sentence that Realtime was asked to read, and the response that does so."""

    mark: str = ""
    text: str = ""
    response_id: str = ""  # known once the response has begun


class Realtime:
    """One Realtime session after another, for one call.

    `events` is for the thread that listens and `append` for the one that reads Twilio; the
    handlers, `say`, `stop` and `lose` run under the call's lock; the others are for any thread.
    """

    def __init__(
        self, settings: Settings, rules: Conversation, story: Story, play: Callable[[str], None]
    ) -> None:
        """Connect nothing yet; `play` gets base64 of 8 kHz mulaw for the caller."""
        self.over = Event()  # no other session is to be opened
        self._settings = settings
        self._rules = rules
        self._story = story
        self._play = play
        self._format = Format(settings.realtime_session["audio"])
        self._connection: Connection | None = None
        self._ears: Connection | None = None  # the connection, once it has its settings
        self._sound: deque[bytes] = deque(maxlen=KEPT_FRAMES)
        self._requests = Requests()
        self._in_flight = InFlight()

    # --- the session ------------------------------------------------------------------------------

    def events(self) -> Iterator[bytes]:
        """Open a session and yield its events until it ends. Raises OSError if it can't be had."""
        key = {"Authorization": f"Bearer {self._settings.openai_api_key}"}
        with connect(self._settings.realtime_url, key) as self._connection:
            if self.over.is_set():  # the call has ended meanwhile
                return
            session = self._settings.realtime_session
            self._send("session.update", event_id=SESSION_UPDATE, session=session)
            yield from self._connection.messages()

    def lose(self) -> str:
        """Let go of the session, keep sound for the next, and tell why it ended."""
        self._ears = None
        self._requests = Requests()
        self._in_flight = InFlight()
        connection, self._connection = self._connection, None
        return connection.close_reason if connection else ""

    def append(self, sound: bytes) -> None:
        """Pass on 20 ms of sound, base64 in quotes, or keep it for the next session."""
        self._sound.append(self._format.to_realtime(sound))
        ears = self._ears
        while ears and self._sound:
            audio = self._sound.popleft()
            ears.send(b'{"type": "input_audio_buffer.append", "audio": %b}' % audio)

    def ping(self) -> None:
        """Ask for a sign of life."""
        connection = self._connection
        if connection:
            connection.ping()

    def unanswered(self, now: float) -> float:
        """Return for how many seconds a ping has waited for a sign of life."""
        connection = self._connection
        if connection is None or not connection.open:
            return 0.0
        since = connection.unanswered_since
        return now - since if since else 0.0

    def abort(self) -> None:
        """End the session: `events` ends."""
        connection = self._connection
        if connection:
            connection.abort()

    def end(self) -> None:
        """End the session, and open no other."""
        self.over.set()
        self.abort()

    def _send(self, kind: str, **body: Any) -> None:
        connection = self._connection
        if connection:
            connection.send(json.dumps({"type": kind, **body}).encode())

    # --- what the rules decide --------------------------------------------------------------------

    def say(self, mark: str, text: str) -> None:
        """Have a sentence read aloud."""
        self._in_flight = InFlight(mark, text)
        self._requests.add(mark)
        self._send("response.create", event_id=mark, response=read_aloud(mark, text))

    def stop(self, mark: str) -> None:
        """Fall silent: at once, or as soon as the response's ID is known."""
        if mark != self._in_flight.mark:
            return
        if self._in_flight.response_id:
            self._send("response.cancel", response_id=self._in_flight.response_id)
        self._in_flight = InFlight()

    # --- its events -------------------------------------------------------------------------------

    def on_session_updated(self) -> None:
        """Begin to hear and to speak."""
        self._ears = self._connection
        self._rules.voice_ready()

    def on_speech_started(self, item: str) -> None:
        """Listen."""
        self._rules.caller_speaks(item)

    def on_speech_stopped(self, item: str) -> None:
        """Wait for the words."""
        detection = self._settings.realtime_session["audio"]["input"]["turn_detection"]
        ago = detection.get("silence_duration_ms", 500) / 1000
        self._story.caller_stopped(ago)
        self._rules.caller_stops(item, ago)

    def on_transcript(self, item: str, transcript: str, used: Any) -> None:
        """Take the words."""
        ears = self._settings.realtime_session["audio"]["input"]["transcription"]
        self._story.spends(Usage(ears["model"], EARS, used))
        self._story.caller_said(transcript)
        self._rules.caller_said(item, transcript)

    def on_transcript_failed(self, item: str, reason: str) -> None:
        """Know that there were words."""
        self._story.warn(f"what the caller said could not be transcribed: {reason}")
        self._rules.caller_said(item, None)

    def on_response_created(self, response_id: str, told: str) -> None:
        """Learn the ID of the response in flight; cancel any other."""
        mark = self._requests.begin(told)
        if mark and mark == self._in_flight.mark:
            self._in_flight.response_id = response_id
            self._format.begin_sentence()
        else:  # stopped before its ID was known, or never asked for
            self._send("response.cancel", response_id=response_id)

    def on_audio(self, response_id: str, sound: str) -> None:
        """Pass on the sound of the sentence in flight."""
        if response_id != self._in_flight.response_id:
            return
        mulaw = self._format.to_twilio(sound)
        if self._rules.voice_sound(self._in_flight.mark, milliseconds(mulaw)):
            self._play(mulaw)

    def on_audio_transcript(self, response_id: str, said: str) -> None:
        """Check that what was said is what was asked for."""
        asked = self._in_flight
        if response_id != asked.response_id:
            return
        exactly = same_words(asked.text, said)
        self._story.read_out(exactly)
        if not exactly:
            self._story.warn(f"asked to say {asked.text!r}, said {said!r}")

    def on_response_done(
        self, response_id: str, status: str, reason: str, error: Any, used: Any
    ) -> None:
        """Tell how the sentence ended; what was cancelled has its price, too."""
        self._story.spends(Usage(self._settings.realtime_model, VOICE, used))
        if response_id != self._in_flight.response_id:
            return
        mark = self._in_flight.mark
        self._in_flight = InFlight()
        code = text(error, "code?") or text(error, "type?")
        kind = " ".join(filter(None, (status, reason, code)))
        why = ": ".join(filter(None, (kind, text(error, "message?"))))
        ending = outcome(status, reason, code)
        if ending in (Outcome.FILTERED, Outcome.FAILED):
            self._story.warn(f"not spoken whole: {why}")
        self._rules.voice_ended(mark, ending, why)

    def on_error(self, kind: str, code: str, message: str, param: str, event_id: str) -> None:
        """Tell what was refused; `param` names a field of ours."""
        if code == HARMLESS_CODE:
            return
        code = code or kind
        about = " ".join(filter(None, (code, param)))
        why = f"{message or kind} ({about})"
        refused_session = event_id == SESSION_UPDATE and kind == "invalid_request_error"
        if code in HOPELESS_CODES or refused_session:
            self.end()
            self._rules.voice_hopeless(why)
            return
        self._story.warn(f"Realtime: {why}")
        self._requests.refuse(event_id)
        if event_id == SESSION_UPDATE:
            self.abort()
        elif event_id and event_id == self._in_flight.mark:  # no `response.done` will come
            self._in_flight = InFlight()
            self._rules.voice_ended(event_id, Outcome.FAILED, message)


def read_aloud(mark: str, text: str) -> dict[str, Any]:
    """Return the response that reads a text, out of band: with no history, it answers nothing."""
    cue = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    return {"conversation": "none", "input": [cue], "metadata": {"mark": mark}}


def refusal(refused: Refused) -> str:
    """Say why no session could be had, in OpenAI's own sentence if there is one."""
    try:
        message = json.loads(refused.answer)["error"]["message"]
    except (ValueError, LookupError, TypeError):
        return str(refused)
    return f"HTTP {refused.status} {message}"


def milliseconds(mulaw: str) -> int:
    """Return how long base64 of 8 kHz mulaw plays."""
    return len(mulaw) * 3 // 4 // 8


def outcome(status: str, reason: str, code: str) -> Outcome:
    """Tell what the end of a response means for its sentence."""
    if status == "completed":
        return Outcome.SPOKEN
    if code in HOPELESS_CODES:
        return Outcome.HOPELESS
    if reason == "content_filter":
        return Outcome.FILTERED
    return Outcome.FAILED


EVENTS = {
    "session.updated": Handler(Realtime.on_session_updated),
    "input_audio_buffer.speech_started": Handler(Realtime.on_speech_started, ("item_id",)),
    "input_audio_buffer.speech_stopped": Handler(Realtime.on_speech_stopped, ("item_id",)),
    "conversation.item.input_audio_transcription.completed": Handler(
        Realtime.on_transcript, ("item_id", "transcript"), ("usage",)
    ),
    "conversation.item.input_audio_transcription.failed": Handler(
        Realtime.on_transcript_failed, ("item_id", "error.message?")
    ),
    "response.created": Handler(
        Realtime.on_response_created, ("response.id", "response.metadata.mark?")
    ),
    "response.output_audio.delta": Handler(Realtime.on_audio, ("response_id", "delta")),
    "response.output_audio_transcript.done": Handler(
        Realtime.on_audio_transcript, ("response_id", "transcript")
    ),
    "response.done": Handler(
        Realtime.on_response_done,
        (
            "response.id",
            "response.status?",
            "response.status_details.reason?",
        ),
        ("response.status_details.error", "response.usage"),
    ),
    "error": Handler(
        Realtime.on_error,
        ("error.type?", "error.code?", "error.message?", "error.param?", "error.event_id?"),
    ),
}
