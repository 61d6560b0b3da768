"""What Realtime's events do to a call, each as it may come."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import realtime
from call import Call
from conversation import Conversation
from cost import Cost
from messages import NotUnderstood, dispatch
from realtime import EVENTS, SESSION_UPDATE, Realtime, refusal
from settings import HERE, Settings
from story import Story
from tests.unit.environment import REQUIRED
from tests.unit.noting_port import NotingPort
from utils import Downsampler
from wire import Refused

SETTINGS = Settings(**REQUIRED)  # type: ignore[arg-type]
SOUND = b64encode(bytes(160)).decode()
TRANSCRIPTION = "conversation.item.input_audio_transcription"
HOPELESS = [
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "invalid_api_key",
    "model_not_found",
    "account_deactivated",
    "organization_deactivated",
]

FIRST = {"mark": "1"}  # how OpenAI sends back what the first sentence was asked for with


class Session:
    """A session that takes what it is sent."""

    close_reason = ""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    @property
    def cancelled(self) -> list[str]:
        return [sent["response_id"] for sent in self.sent if sent["type"] == "response.cancel"]

    def send(self, message: bytes) -> None:
        self.sent.append(json.loads(message))

    def messages(self) -> Iterator[bytes]:
        yield b"{}"


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    session = Session()
    monkeypatch.setattr(realtime, "connect", lambda *_: nullcontext(session))
    return session


class VoicedCall:
    """A call of which only Realtime's events are real. It is greeted by "Hello."."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.now = 0.0
        self.port = NotingPort()
        self.played: list[str] = []
        call = Call("CA1", "MZ1", "", "", "conv_1", 0, "greeting")
        story = Story(call, Cost({}), transcripts=False)
        self.rules = Conversation(self.port, lambda: self.now, "Hello.")
        self.realtime = Realtime(settings, self.rules, story, self.played.append)
        self.port.on_say = self.realtime.say
        self.port.on_stop = self.realtime.stop
        self._events: Iterator[bytes] = iter(())
        self.happens("session.updated")

    def connects(self) -> None:
        """Send to a session from now on."""
        self._events = self.realtime.events()
        next(self._events)

    @property
    def decided(self) -> list[str]:
        return [noted[0] for noted in self.port.noted]

    def happens(self, kind: str, **fields: Any) -> None:
        event = json.dumps({"type": kind, **fields}).encode()
        dispatch(event, "type", EVENTS, self.realtime)

    def begins(self, response: str = "r1", metadata: object = FIRST) -> None:
        self.happens("response.created", response={"id": response, "metadata": metadata})

    def sounds(self, sound: str = SOUND, response: str = "r1") -> None:
        self.happens("response.output_audio.delta", response_id=response, delta=sound)

    def ends(self, status: Any, response: str = "r1", **details: Any) -> None:
        ended = {"id": response, "status": status, "status_details": details}
        self.happens("response.done", response=ended)

    def goes_on(self, words: str = "Wait.") -> None:
        """Have the caller cut in, and the workflow reply: its sentence is asked for."""
        self.happens("input_audio_buffer.speech_started", item_id=words)
        transcript = {"item_id": words, "transcript": words}
        self.happens("conversation.item.input_audio_transcription.completed", **transcript)
        turn = self.decided.count("ask")
        self.rules.reply_piece(turn, f"You said: {words}")
        self.rules.reply_ended(turn)

    def waits(self, seconds: float) -> None:
        self.now += seconds
        self.rules.tick()


class NotedConnection:
    """A connection to Realtime of which nothing comes; what goes into it is noted."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def __enter__(self) -> NotedConnection:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def messages(self) -> Iterator[bytes]:
        return iter(())

    def send(self, message: bytes) -> None:
        self.sent.append(json.loads(message))


def test_the_latest_ten_seconds_of_sound_are_kept_for_the_next_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = VoicedCall()
    connection = NotedConnection()
    monkeypatch.setattr(realtime, "connect", lambda *_: connection)
    *kept, last = [b64encode(b"%160d" % n).decode() for n in range(600)]
    for frame in kept:
        call.realtime.append(f'"{frame}"'.encode())
    assert list(call.realtime.events()) == []
    call.happens("session.updated")
    call.realtime.append(f'"{last}"'.encode())
    _, *appended = connection.sent
    ten_seconds = 10 * 50
    assert [event["audio"] for event in appended] == [*kept, last][-ten_seconds:]


def test_a_sentence_is_spoken_and_its_mark_is_asked_for() -> None:
    call = VoicedCall()
    call.begins()
    call.sounds()
    call.ends("completed")
    assert call.played == [SOUND]
    assert call.decided == ["say", "mark"]


def test_half_a_sample_of_a_sentence_that_was_cut_spoils_none_after_it(tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    pcm = '"voice": "marin", "format": {"type": "audio/pcm", "rate": 24000}'
    mulaw = '"format": {"type": "audio/pcmu"},\n      "voice": "marin"'
    file.write_text((HERE / "realtime_session.json").read_text("utf-8").replace(mulaw, pcm))
    call = VoicedCall(Settings.model_validate({**REQUIRED, "realtime_session": str(file)}))
    quiet = b64encode(b"\x10\x00" * 2400).decode()
    call.begins()
    call.sounds(b64encode(bytes(961)).decode())
    call.goes_on()
    call.begins("r2", {"mark": "2"})
    call.sounds(quiet, "r2")
    _, after_the_cut = call.played
    assert b64decode(after_the_cut) == Downsampler(24000)(b64decode(quiet))


@pytest.mark.parametrize("metadata", [None, {}, {"mark": None}, {"mark": ""}, {"id": "7"}, [], "x"])
def test_a_server_that_sends_no_metadata_back_is_let_speak(
    session: Session, metadata: object
) -> None:
    call = VoicedCall()
    call.connects()
    for response in ("r1", "r2"):
        call.begins(response, metadata)
        call.sounds(response=response)
        call.ends("completed", response)
        call.goes_on(response)
    assert call.played == [SOUND, SOUND]
    assert session.cancelled == []


@pytest.mark.parametrize("metadata", [None, {}])
def test_what_was_given_up_before_it_began_is_not_taken_for_what_came_after(
    session: Session, metadata: object
) -> None:
    call = VoicedCall()
    call.connects()
    call.goes_on("Wait.")
    call.goes_on("No.")
    for response in ("late", "later", "wanted"):
        call.begins(response, metadata)
        call.sounds(response=response)
    assert session.cancelled == ["late", "later"]
    assert call.played == [SOUND]


def test_what_was_refused_is_not_waited_for(session: Session) -> None:
    call = VoicedCall()
    call.connects()
    call.happens("error", error={"type": "server_error", "event_id": "1"})
    call.waits(1)
    call.begins(metadata=None)
    call.sounds()
    assert call.played == [SOUND]
    assert session.cancelled == []


def test_what_nobody_asked_for_is_cancelled(session: Session) -> None:
    call = VoicedCall()
    call.connects()
    call.begins("ours", None)
    call.begins("uncalled-for", None)
    call.sounds(response="uncalled-for")
    call.sounds(response="ours")
    assert session.cancelled == ["uncalled-for"]
    assert call.played == [SOUND]


@pytest.mark.parametrize("metadata", [None, {}, {"mark": "2 "}])
def test_a_server_that_sends_metadata_back_is_taken_at_its_word(
    session: Session, metadata: object
) -> None:
    call = VoicedCall()
    call.connects()
    call.begins()
    call.ends("failed")
    call.waits(1)
    for response in ("uncalled-for", "another", "a third"):
        call.begins(response, metadata)
    call.begins("ours", {"mark": "2"})
    call.sounds(response="ours")
    assert session.cancelled == ["uncalled-for", "another", "a third"]
    assert call.played == [SOUND]


def test_a_new_session_knows_nothing_of_what_the_last_was_asked_for(session: Session) -> None:
    call = VoicedCall()
    call.connects()
    call.realtime.lose()
    call.rules.voice_lost("closed")
    call.connects()
    call.happens("session.updated")
    call.waits(1)
    call.begins(metadata=None)
    call.sounds()
    assert call.played == [SOUND]


@pytest.mark.parametrize("status", ["failed", "incomplete", "cancelled", "", None, "unheard of", 7])
def test_a_sentence_that_does_not_end_well_is_said_again(status: Any) -> None:
    call = VoicedCall()
    call.begins()
    call.ends(status, error={"code": 429, "message": None})
    call.waits(1)
    assert call.decided == ["say", "say"]


@pytest.mark.parametrize("code", HOPELESS)
@pytest.mark.parametrize("error", ["code", "type"])
def test_a_response_that_cannot_get_better_ends_the_call(error: str, code: str) -> None:
    call = VoicedCall()
    call.begins()
    call.ends("failed", error={error: code, "message": "No."})
    assert call.decided == ["say", "give_up"]


@pytest.mark.parametrize("code", HOPELESS)
@pytest.mark.parametrize("error", ["code", "type"])
def test_an_error_that_cannot_get_better_ends_the_call(error: str, code: str) -> None:
    call = VoicedCall()
    call.happens("error", error={error: code})
    assert call.decided == ["say", "give_up"]
    assert call.port.noted[-1][1] != "", "the reason is told"


@pytest.mark.parametrize("odd", [{}, {"code": 429}, {"message": ["No."]}, {"param": 0}])
def test_a_refused_response_is_asked_for_again(odd: dict[str, Any]) -> None:
    call = VoicedCall()
    call.happens("error", error={"type": "server_error", "event_id": "1", **odd})
    call.waits(1)
    assert call.decided == ["say", "say"]


def test_speech_ends_before_the_silence_that_tells_of_it() -> None:
    call = VoicedCall()
    call.begins()
    call.sounds()
    call.ends("completed")
    call.waits(1)
    call.rules.heard("1")
    for item in ("i1", "i2"):
        call.happens("input_audio_buffer.speech_started", item_id=item)
        call.waits(1.4)
        call.happens("input_audio_buffer.speech_stopped", item_id=item)
        call.happens(f"{TRANSCRIPTION}.completed", item_id=item, transcript="")
    assert call.decided == ["say", "mark"]


def test_what_is_no_base64_does_not_reach_twilio() -> None:
    call = VoicedCall()
    call.begins()
    with pytest.raises(NotUnderstood, match="no base64"):
        call.sounds("!!!")
    assert call.played == []


@pytest.mark.parametrize(
    ("kind", "decided"), [("invalid_request_error", ["say", "give_up"]), ("server_error", ["say"])]
)
def test_a_session_is_given_up_if_openai_refuses_what_it_says(
    kind: str, decided: list[str]
) -> None:
    call = VoicedCall()
    error = {
        "type": kind,
        "code": "unknown_parameter",
        "message": "Unknown parameter: 'session.foo'.",
        "param": "session.foo",
        "event_id": SESSION_UPDATE,
    }
    call.happens("error", error=error)
    assert call.decided == decided
    assert call.realtime.over.is_set() == (kind == "invalid_request_error")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ('{"error": {"message": "Incorrect API key."}}', "HTTP 401 Incorrect API key."),
        ('{"error": "no"}', 'HTTP 401 {"error": "no"}'),
        ("[]", "HTTP 401 []"),
        ("<html>", "HTTP 401 <html>"),
        ("", "HTTP 401"),
    ],
)
def test_a_refused_handshake_is_told_in_openais_own_sentence(answer: str, told: str) -> None:
    assert refusal(Refused(401, answer)) == told
