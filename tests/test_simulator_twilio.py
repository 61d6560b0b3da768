"""The stand-in for Twilio is as strict and as prompt as the real one.

The app on the other end is a few lines of script in a loop of its own; nothing here touches ours.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import time
import wave
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
from aiohttp import WSMsgType, web
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from tools.app_process import SETTINGS, eventually
from tools.simulator import twiml
from tools.simulator.call_command import add_call
from tools.simulator.loop_thread import LoopThread
from tools.simulator.media_messages import BadMessage, check_message
from tools.simulator.media_stream import StreamFaults
from tools.simulator.playback import Playback
from tools.simulator.speech import ToneVoice, mulaw_to_pcm16, pcm16_to_mulaw
from tools.simulator.twilio_account import number_resource
from tools.simulator.twilio_network import Call, PhoneNetwork
from tools.simulator.waiting import CATCH_UP_SECONDS

PUBLIC = "https://voice.example.com"
CONNECT = (
    '<Connect><Stream url="wss://voice.example.com/media-stream">'
    '<Parameter name="conversation" value="conv_1"/></Stream></Connect>'
)
MINUTE_OF_SILENCE = bytes(60 * 8000 * 2)
FOR_EVER = 600.0  # seconds: longer than any test
voice = ToneVoice()


def response(verbs: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{verbs}</Response>'


class ScriptedApp:
    """A scripted app: `twiml` for each webhook in turn (the last one again and again)."""

    def __init__(self) -> None:
        self.twiml: list[str | int] = [response(CONNECT)]
        self.delay = 0.0
        self.forms: list[dict[str, str]] = []
        self.handshakes: list[dict[str, str]] = []
        self.raw_header_names: list[str] = []
        self.messages: list[dict[str, Any]] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.transports: list[asyncio.Transport] = []
        self.refuse_handshake = 0
        self.url = ""
        self.errors: list[object] = []  # of the streams' framing
        self._loop = LoopThread("scripted app")
        self._loop.start()
        self._loop.run(self._serve())

    def stop(self) -> None:
        self._loop.run(self._runner.cleanup())
        self._loop.stop()

    def send(self, **message: Any) -> None:
        """Send a message on the latest stream."""
        self.send_text(json.dumps({"streamSid": self.stream_sid, **message}))

    def send_text(self, text: str) -> None:
        self._run(self.sockets[-1].send_str(text))

    def send_bytes(self, data: bytes) -> None:
        self._run(self.sockets[-1].send_bytes(data))

    def send_raw(self, data: bytes) -> None:
        """Write bytes past the WebSocket framing."""

        async def write() -> None:
            self.transports[-1].write(data)

        self._run(write())

    def play(self, pcm16: bytes) -> None:
        payload = base64.b64encode(pcm16_to_mulaw(pcm16)).decode()
        self.send(event="media", media={"payload": payload})

    def mark(self, name: str) -> None:
        self.send(event="mark", mark={"name": name})

    def close(self) -> None:
        self._run(self.sockets[-1].close())

    @property
    def stream_sid(self) -> str:
        return next(str(m["streamSid"]) for m in reversed(self.messages) if m["event"] == "start")

    def received(self, event: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["event"] == event]

    def marks(self) -> list[str]:
        return [message["mark"]["name"] for message in self.received("mark")]

    def heard(self) -> str:
        payloads = [base64.b64decode(m["media"]["payload"]) for m in self.received("media")]
        return voice.hear(mulaw_to_pcm16(b"".join(payloads)))

    def _run(self, work: Any) -> None:
        self._loop.run(work)

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/voice", self._voice)
        app.router.add_get("/media-stream", self._media_stream)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _voice(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.forms.append({**form, "_url": str(request.rel_url), "_method": request.method})
        self.forms[-1]["_signature"] = request.headers.get("X-Twilio-Signature", "(none)")
        await asyncio.sleep(self.delay)
        answer = self.twiml.pop(0) if len(self.twiml) > 1 else self.twiml[0]
        if isinstance(answer, int):
            return web.Response(status=answer)
        return web.Response(text=answer, content_type="text/xml")

    async def _media_stream(self, request: web.Request) -> web.StreamResponse:
        self.handshakes.append(dict(request.headers))
        self.raw_header_names = [name.decode() for name, _ in request.raw_headers]
        if self.refuse_handshake:
            return web.Response(status=self.refuse_handshake)
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        self.sockets.append(socket)
        assert isinstance(request.transport, asyncio.Transport)
        self.transports.append(request.transport)
        async for message in socket:
            if message.type is WSMsgType.ERROR:
                self.errors.append(message.data)
            else:
                self.messages.append(json.loads(message.data))
        return socket


@pytest.fixture
def app() -> Iterator[ScriptedApp]:
    app = ScriptedApp()
    yield app
    app.stop()


@pytest.fixture
def network(app: ScriptedApp) -> Iterator[PhoneNetwork]:
    with PhoneNetwork(voice_url=app.url + "/voice", public_url=PUBLIC) as network:
        network.say_seconds_per_character = 0.002
        yield network


@pytest.fixture
def client(network: PhoneNetwork) -> Any:
    client = Client(network.account_sid, network.auth_token)
    client.api.base_url = network.api_url
    return client


def connected(network: PhoneNetwork, app: ScriptedApp, **options: Any) -> Call:
    """Place a call and wait until the app knows of its stream."""
    call = network.call(**options)
    call.wait_until(lambda _: app.received("start"), what="start at the app")
    return call


def test_signature_is_the_one_twilio_documents() -> None:
    network = PhoneNetwork(auth_token="12345")
    fields = {
        "CallSid": "CA1234567890ABCDE",
        "Digits": "1234",
        "From": "+14158675309",
        "Caller": "+14158675309",
        "To": "+18005551212",
    }
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    assert network.signature(url, fields) == "RSOYDt4T1cUTdK1PDd93/VVr8B8="


def test_the_call_is_signed_for_the_public_address(network: PhoneNetwork, app: ScriptedApp) -> None:
    network.call(path="/voice?conversation=c%201&x=%2F").wait_for_stream()
    form = {key: value for key, value in app.forms[0].items() if not key.startswith("_")}
    validator = RequestValidator(network.auth_token)
    url = PUBLIC + "/voice?conversation=c%201&x=%2F"
    assert validator.validate(url, form, app.forms[0]["_signature"])
    assert form["CallStatus"] == "ringing"
    assert form["To"] == network.number
    signature = app.handshakes[0]["x-twilio-signature"]
    assert validator.validate("wss://voice.example.com/media-stream", {}, signature)
    assert "x-twilio-signature" in app.raw_header_names
    assert "Sec-WebSocket-Protocol" not in app.handshakes[0]
    assert app.handshakes[0]["User-Agent"] == "Twilio.TmeWs/1.0"


@pytest.mark.parametrize("signature", [None, "", "wrong"])
def test_signatures_can_be_wrong_on_purpose(
    network: PhoneNetwork, app: ScriptedApp, signature: str | None
) -> None:
    network.call(signature=signature, stream_signature=signature).wait_for_stream()
    assert app.forms[0]["_signature"] == ("(none)" if signature is None else signature)
    assert app.handshakes[0].get("x-twilio-signature") == signature


def test_the_stream_speaks_twilios_protocol(network: PhoneNetwork, app: ScriptedApp) -> None:
    call = connected(network, app)
    stream = call.stream
    call.press("5#")
    call.wait_until(lambda _: len(app.received("media")) > 10, what="media")
    call.hang_up()
    call.wait_until(lambda _: app.received("stop"), what="stop")
    assert app.messages[0] == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    assert app.messages[1] == {
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "accountSid": network.account_sid,
            "streamSid": stream.sid,
            "callSid": call.sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"conversation": "conv_1"},
        },
        "streamSid": stream.sid,
    }
    media = app.received("media")
    assert [int(m["media"]["chunk"]) for m in media] == list(range(1, len(media) + 1))
    assert [int(m["media"]["timestamp"]) for m in media] == [20 * n for n in range(len(media))]
    assert base64.b64decode(media[0]["media"]["payload"]) == b"\xff" * 160
    sequence = [int(m["sequenceNumber"]) for m in app.messages[1:]]
    assert sequence == list(range(1, len(sequence) + 1))
    digits = app.received("dtmf")
    assert [m["dtmf"] for m in digits] == [
        {"track": "inbound_track", "digit": digit} for digit in "5#"
    ]
    assert list(digits[0]) == ["event", "streamSid", "sequenceNumber", "dtmf"]
    assert app.messages[-1]["stop"] == {"accountSid": network.account_sid, "callSid": call.sid}
    call.wait_ended()
    assert (call.status, call.end_reason) == ("completed", "caller hung up")
    assert app.sockets[0].close_code == 1000
    assert network.refusals == []


def test_frames_leave_on_an_absolute_schedule(network: PhoneNetwork, app: ScriptedApp) -> None:
    call = connected(network, app)

    def is_made_up_for() -> bool:
        before = behind(call)
        network.on_loop(lambda: time.sleep(0.1))
        return behind(call) - before < 0.05

    eventually(is_made_up_for, "frames on their schedule again, on a machine that has time")


def test_what_a_stall_ate_is_lost_for_the_caller_too(
    network: PhoneNetwork, app: ScriptedApp
) -> None:
    call = connected(network, app)
    before = behind(call)
    network.on_loop(lambda: time.sleep(1))
    assert behind(call) - before > 1 - CATCH_UP_SECONDS - 0.1


def behind(call: Call) -> float:
    """Tell when the latest of 20 ms a frame began, by the most punctual of the next 20 frames."""
    sent = len(call.frames_sent)
    call.wait_until(lambda _: len(call.frames_sent) >= sent + 20, what="20 frames")
    return min(at - 0.02 * n for n, at in enumerate(call.frames_sent[sent:], sent))


def test_words_reach_the_app_and_come_back(network: PhoneNetwork, app: ScriptedApp) -> None:
    call = connected(network, app)
    call.say("good morning")
    call.wait_until(lambda _: app.heard() == "good morning", what="words at the app")
    app.play(voice.speak("hello caller"))
    call.wait_for_heard("hello caller")
    later = call.now()
    app.play(voice.speak("and"))
    app.play(voice.speak("goodbye"))
    call.wait_for_heard("goodbye")
    assert call.heard() == "hello caller and goodbye"
    assert call.heard_since(later) == "and goodbye"
    call.hang_up()
    call.wait_ended()
    with wave.open(io.BytesIO(call.recording())) as wav:
        assert (wav.getnchannels(), wav.getframerate(), wav.getsampwidth()) == (2, 8000, 2)
        pcm = wav.readframes(wav.getnframes())
    left = b"".join(pcm[n : n + 2] for n in range(0, len(pcm), 4))
    right = b"".join(pcm[n + 2 : n + 4] for n in range(0, len(pcm), 4))
    assert voice.hear(left) == "good morning"
    assert voice.hear(right) == "hello caller and goodbye"


def test_a_mark_returns_when_all_before_it_was_played() -> None:
    playback = Playback()
    playback.add(b"x" * 400)
    assert playback.mark("a") == []
    playback.add(b"y" * 80)
    assert playback.mark("b") == []
    frames = []
    returned: list[str] = []
    for _ in range(4):
        audio, marks = playback.next_frame()
        frames.append(audio)
        returned.append(" ".join(mark.name for mark in marks))
    assert [len(frame) for frame in frames] == [160, 160, 160, 0]
    assert returned == ["", "", "", "a b"]
    assert [mark.name for mark in playback.mark("c")] == ["c"]
    assert [mark.played for mark in playback.marks] == [True, True, True]


def test_clear_returns_what_waits_at_once_and_in_order() -> None:
    playback = Playback()
    playback.add(b"x" * 160)
    playback.mark("a")
    playback.add(b"x" * 1600)
    playback.mark("b")
    playback.mark("c")
    playback.next_frame()
    assert [mark.name for mark in playback.next_frame()[1]] == ["a"]
    assert [mark.name for mark in playback.clear()] == ["b", "c"]
    assert [mark.played for mark in playback.marks] == [True, False, False]
    assert playback.buffered_ms == 0
    assert playback.clear() == []
    playback.add(b"y" * 160)
    assert playback.mark("d") == []
    assert playback.next_frame()[0] == b"y" * 160


def test_more_than_ten_minutes_is_dropped() -> None:
    playback = Playback()
    assert playback.add(bytes(10 * 60 * 8000)) == 0
    assert playback.add(b"x" * 800) == 800
    assert playback.buffered_ms == 600_000


def test_marks_and_clear_over_the_wire(network: PhoneNetwork, app: ScriptedApp) -> None:
    call = connected(network, app)
    stream = call.stream
    app.mark("nothing before")
    call.wait_until(lambda _: app.marks() == ["nothing before"], what="mark")
    app.play(voice.speak("one."))
    app.mark("first")
    app.play(voice.speak("two. " * 200))
    app.mark("second")
    app.mark("third")
    call.wait_for_heard("one. two. two. ")
    call.wait_until(lambda _: app.marks() == ["nothing before", "first"], what="first mark")
    app.send(event="clear")
    call.wait_until(lambda _: len(app.marks()) == 4, what="cleared marks")
    assert app.marks()[2:] == ["second", "third"]
    assert [mark.played for mark in stream.marks] == [True, True, False, False]
    assert [entry.detail["how"] for entry in call.events("mark_sent_back")] == [
        *("played", "played", "cleared", "cleared")
    ]
    so_far = call.heard()
    app.play(voice.speak("three"))
    call.wait_for_heard("three")
    assert call.heard().startswith(so_far[:-2])
    assert call.heard().count("two") < 100
    assert len(call.events("clear")) == 1


GOOD = {"event": "media", "streamSid": "MZ1", "media": {"payload": "////"}}


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "[]",
        "null",
        '"media"',
        "{}",
        '{"event":"media"}',
        '{"event":["media"],"streamSid":"MZ1"}',
        json.dumps({**GOOD, "event": "dtmf"}),
        json.dumps({**GOOD, "streamSid": "MZ2"}),
        json.dumps({**GOOD, "extra": 1}),
        json.dumps({**GOOD, "media": {"payload": "////", "track": "outbound"}}),
        json.dumps({**GOOD, "media": {"payload": ""}}),
        json.dumps({**GOOD, "media": {"payload": 5}}),
        json.dumps({**GOOD, "media": "////"}),
        json.dumps({"event": "mark", "streamSid": "MZ1"}),
        json.dumps({"event": "mark", "streamSid": "MZ1", "mark": {}}),
        json.dumps({"event": "mark", "streamSid": "MZ1", "mark": {"name": ""}}),
        json.dumps({"event": "mark", "streamSid": "MZ1", "mark": {"name": 7}}),
        json.dumps({"event": "clear", "streamSid": "MZ1", "clear": {}}),
        json.dumps({"event": "clear"}),
    ],
)
def test_anything_but_the_three_exact_messages_is_bad(message: str) -> None:
    with pytest.raises(BadMessage):
        check_message(message, "MZ1")


def test_the_three_exact_messages_are_good() -> None:
    assert check_message(json.dumps(GOOD), "MZ1") == ("media", "////")
    assert check_message('{"streamSid":"MZ1","event":"clear"}', "MZ1") == ("clear", "")


@pytest.mark.parametrize(
    "offend",
    [
        lambda app: app.send_text("{"),
        lambda app: app.send_bytes(b"\xff" * 160),
        lambda app: app.send(event="media", media={"payload": "//!//"}),
    ],
)
def test_a_bad_message_is_refused_and_ends_the_stream(
    network: PhoneNetwork, app: ScriptedApp, offend: Callable[[ScriptedApp], None]
) -> None:
    app.twiml = [response(CONNECT + "<Say>after</Say>")]
    call = connected(network, app)
    offend(app)
    call.wait_ended()
    assert len(network.refusals) == 1
    assert call.events("stream_error")[0].detail["code"] == 31951
    assert call.said == ["after"]
    assert app.received("stop") == []


def test_the_app_closing_the_stream_runs_the_next_verb(
    network: PhoneNetwork, app: ScriptedApp
) -> None:
    redirect = '<Redirect method="POST">/voice?conversation=c&amp;attempt=2</Redirect>'
    app.twiml = [response(CONNECT + redirect), response(CONNECT)]
    call = connected(network, app)
    first = call.stream
    app.close()
    second = call.wait_for_stream(number=2)
    assert first.sid != second.sid
    assert (first.closed_by, first.close_code) == ("app", 1000)
    assert app.forms[1]["_url"] == "/voice?conversation=c&attempt=2"
    assert app.forms[1]["CallStatus"] == "in-progress"
    assert app.forms[1]["CallSid"] == call.sid
    validator = RequestValidator(network.auth_token)
    form = {key: value for key, value in app.forms[1].items() if not key.startswith("_")}
    url = PUBLIC + "/voice?conversation=c&attempt=2"
    assert validator.validate(url, form, app.forms[1]["_signature"])
    assert network.refusals == []


def test_a_refused_handshake_runs_the_next_verb(network: PhoneNetwork, app: ScriptedApp) -> None:
    app.refuse_handshake = 403
    app.twiml = [response(CONNECT + "<Say>sorry</Say><Hangup/>")]
    call = network.call()
    call.wait_ended()
    assert call.events("stream_error")[0].detail["code"] == 31920
    assert "403" in call.events("stream_error")[0].detail["text"]
    assert (call.said, call.end_reason) == (["sorry"], "<Hangup>")


@pytest.mark.parametrize(
    ("verbs", "status", "reason", "kinds"),
    [
        ('<Reject reason="busy"/>', "busy", "rejected: busy", ["reject"]),
        ("<Reject/>", "failed", "rejected: rejected", ["reject"]),
        ("<Say>Hi</Say><Hangup/><Say>no</Say>", "completed", "<Hangup>", ["say", "hangup"]),
        ('<Pause length="0"/>', "completed", "end of TwiML", ["pause"]),
        ("", "completed", "end of TwiML", []),
    ],
)
def test_twiml_is_executed(
    network: PhoneNetwork, app: ScriptedApp, verbs: str, status: str, reason: str, kinds: list[str]
) -> None:
    app.twiml = [response(verbs)]
    call = network.call()
    call.wait_ended()
    assert (call.status, call.end_reason) == (status, reason)
    seen = [entry.kind for entry in call.timeline]
    assert [kind for kind in seen if kind in {"reject", "say", "hangup", "pause"}] == kinds
    assert network.refusals == []


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (response("<Connect><Stream/></Connect>"), "12200"),
        (response('<Connect><Stream url="wss://voice.example.com/s" x="1"/></Connect>'), "12200"),
        (response("<Connect/>"), "12200"),
        (response("<Listen/>"), "12200"),
        (response("<Say>a</Say><Reject/>"), "12200"),
        (response('<Reject reason="tired"/>'), "12200"),
        (response('<Say language="German">a</Say>'), "12200"),
        (response('<Connect><Stream url="wss://voice.example.com/s?a=1"/></Connect>'), "31920"),
        (response('<Connect><Stream url="ws://voice.example.com/s"/></Connect>'), "31920"),
        (response('<Connect><Stream url="wss://elsewhere.example/s"/></Connect>'), "elsewhere"),
        (response(CONNECT.replace("conv_1", "x" * 490)), "31943"),
        (response("<Dial>911</Dial>"), "13224"),
        (response('<Dial callerId="+19995550000">+15550009999</Dial>'), "13214"),
        ("<Response><Say>", "12100"),
        ("<Reply/>", "12100"),
        ("", "12100"),
    ],
)
def test_bad_twiml_is_refused(
    network: PhoneNetwork, app: ScriptedApp, document: str, code: str
) -> None:
    app.twiml = [document]
    call = network.call()
    call.wait_ended()
    assert code in " ".join(network.refusals)


def test_content_that_is_not_xml_is_refused() -> None:
    with pytest.raises(twiml.TwimlError, match="12300"):
        twiml.parse(b"<Response/>", "application/json")


@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_webhook_that_answers_with_an_error_is_not_tried_again(
    network: PhoneNetwork, app: ScriptedApp, status: int
) -> None:
    app.twiml = [status, response("<Hangup/>")]
    call = network.call()
    call.wait_ended()
    assert len(app.forms) == 1
    assert call.end_reason == "application error"
    assert call.said


def test_a_silent_webhook_fails_the_call(network: PhoneNetwork, app: ScriptedApp) -> None:
    app.delay = FOR_EVER
    network.webhook_timeout, network.webhook_attempt_timeout = 15.0, 0.2
    call = network.call()
    call.wait_ended()
    assert call.end_reason == "application error"
    assert [webhook.status for webhook in network.webhooks] == [0, 0]
    assert network.webhooks[0].fields == network.webhooks[1].fields


def test_nobody_at_the_webhook_fails_the_call(network: PhoneNetwork) -> None:
    network.voice_url = "http://127.0.0.1:9/voice"
    call = network.call()
    call.wait_ended()
    assert call.end_reason == "application error"
    assert len(network.webhooks) == 2


@pytest.mark.parametrize("code", ["11200", "12100"])
def test_what_fails_is_asked_of_the_number_s_fallback(
    network: PhoneNetwork, app: ScriptedApp, code: str
) -> None:
    network.number_resource["voice_fallback_url"] = f"{PUBLIC}/voice?fallback"
    broken: dict[str, str | int] = {"11200": 404, "12100": "<Response>"}
    again = response("<Redirect>/voice?a=1</Redirect>")
    app.twiml = [again, broken[code], response("<Hangup/>")]
    call = network.call()
    call.wait_ended()
    assert call.end_reason == "<Hangup>"
    fallback = app.forms[-1]
    assert (fallback["_url"], fallback["_method"]) == ("/voice?fallback", "POST")
    assert (fallback["ErrorCode"], fallback["ErrorUrl"]) == (code, f"{PUBLIC}/voice?a=1")
    assert fallback["CallSid"] == call.sid
    validator = RequestValidator(network.auth_token)
    told = network.webhooks[-1]
    assert validator.validate(f"{PUBLIC}/voice?fallback", told.fields, fallback["_signature"])
    assert bool(network.refusals) == (code == "12100"), "what is no TwiML is the app's mistake"


def test_a_fallback_that_fails_too_ends_the_call(network: PhoneNetwork, app: ScriptedApp) -> None:
    network.number_resource["voice_fallback_url"] = f"{PUBLIC}/voice?fallback"
    app.twiml = [404]
    call = network.call()
    call.wait_ended()
    assert call.end_reason == "application error"
    assert [form["_url"] for form in app.forms] == ["/voice", "/voice?fallback"]


def test_twiml_that_came_by_rest_has_no_fallback(
    network: PhoneNetwork, app: ScriptedApp, client: Any
) -> None:
    network.number_resource["voice_fallback_url"] = f"{PUBLIC}/voice?fallback"
    call = connected(network, app)
    app.twiml = [404]
    twiml = response(f"<Redirect>{PUBLIC}/voice?a=1</Redirect>")
    client.calls(call.sid).update(twiml=twiml)
    call.wait_ended()
    assert call.end_reason == "application error"


def test_a_proxy_may_answer_for_the_app(network: PhoneNetwork, app: ScriptedApp) -> None:
    call = network.call(webhook_failures=[503])
    call.wait_ended()
    assert call.end_reason == "application error"
    assert [webhook.status for webhook in network.webhooks] == [503]
    assert app.forms == []


def test_redirect_by_get_carries_the_form_in_the_query(
    network: PhoneNetwork, app: ScriptedApp
) -> None:
    app.twiml = [response('<Redirect method="GET">/voice?a=1</Redirect>'), response("<Hangup/>")]
    call = network.call()
    call.wait_ended()
    assert app.forms[1]["_method"] == "GET"
    signed = PUBLIC + app.forms[1]["_url"]
    assert f"CallSid={call.sid}" in signed
    validator = RequestValidator(network.auth_token)
    assert validator.validate(network.webhooks[1].url, {}, app.forms[1]["_signature"])


def test_endless_redirects_are_refused(network: PhoneNetwork, app: ScriptedApp) -> None:
    app.twiml = [response("<Redirect>/voice</Redirect>")]
    call = network.call()
    call.wait_ended()
    assert call.end_reason == "too many redirects"
    assert network.refusals


def test_rest_completes_a_call(network: PhoneNetwork, app: ScriptedApp, client: Any) -> None:
    app.twiml = [response(CONNECT + "<Say>never</Say>")]
    call = connected(network, app)
    assert client.calls(call.sid).fetch().status == "in-progress"
    assert client.calls(call.sid).update(status="completed").status == "completed"
    call.wait_ended()
    call.wait_until(lambda _: app.received("stop"), what="stop")
    assert call.end_reason == "completed by REST"
    assert call.said == []
    with pytest.raises(TwilioRestException) as caught:
        client.calls(call.sid).update(status="completed")
    assert (caught.value.status, caught.value.code) == (404, 20404)
    assert [request.status for request in network.rest_requests] == [200, 200, 404]
    assert network.refusals == []


def test_rest_hands_a_call_over(network: PhoneNetwork, app: ScriptedApp, client: Any) -> None:
    app.twiml = [response(CONNECT + "<Say>never</Say>")]
    call = connected(network, app)
    stream = call.stream
    dial = f'<Dial callerId="{network.number}">+15550009999</Dial><Say>bye</Say>'
    client.calls(call.sid).update(twiml=response(dial))
    call.wait_for("dial_answered")
    call.wait_until(lambda _: app.received("stop"), what="stop")
    assert stream.closed_by == "network"
    assert call.dialed == ("+15550009999", network.number)
    assert (call.status, call.ended) == ("in-progress", False)
    call.dialed_party_hangs_up()
    call.wait_ended()
    assert (call.said, call.end_reason) == (["bye"], "end of TwiML")
    assert network.refusals == []


@pytest.mark.parametrize("status", ["completed", "busy", "no-answer", "failed"])
def test_the_action_of_a_dial_learns_what_became_of_it(
    network: PhoneNetwork, app: ScriptedApp, client: Any, status: str
) -> None:
    app.twiml = [response(CONNECT), response("<Say>back</Say>")]
    network.dial_status = status
    call = connected(network, app)
    dial = f'<Dial action="{PUBLIC}/voice?dialed=1"><Number>+15550009999</Number></Dial>'
    client.calls(call.sid).update(twiml=response(f"{dial}<Say>never</Say>"))
    call.wait_for("dial")
    if status == "completed":
        call.wait_for("dial_answered")
        call.dialed_party_hangs_up()
    call.wait_ended()
    assert app.forms[1]["_url"] == "/voice?dialed=1"
    assert app.forms[1]["DialCallStatus"] == status
    assert ("DialCallDuration" in app.forms[1]) == (status == "completed")
    assert call.said == ["back"]
    assert network.refusals == []


@pytest.mark.parametrize(
    "verb", ["<Redirect>/voice</Redirect>", '<Dial action="/voice">+15550009999</Dial>']
)
def test_twiml_that_came_by_rest_needs_absolute_urls(
    network: PhoneNetwork, app: ScriptedApp, client: Any, verb: str
) -> None:
    network.dial_status = "busy"
    call = connected(network, app)
    client.calls(call.sid).update(twiml=response(verb))
    call.wait_ended()
    assert call.end_reason == "application error"
    assert "11100: '/voice' is no absolute URL" in network.refusals[0]


def test_twilios_own_voice_asks_to_hold_and_comes_back(
    network: PhoneNetwork, app: ScriptedApp, client: Any
) -> None:
    app.twiml = [response(CONNECT), response("<Hangup/>")]
    call = connected(network, app)
    hold = f"<Say>Please hold.</Say><Redirect>{PUBLIC}/voice?conversation=c</Redirect>"
    client.calls(call.sid).update(twiml=response(hold))
    call.wait_ended()
    said = call.events("say")[0]
    assert said.detail == {"text": "Please hold."}
    assert call.events("rest")[0].t <= said.t <= call.events("redirect")[0].t
    assert app.forms[1]["_url"] == "/voice?conversation=c"
    assert call.end_reason == "<Hangup>"
    assert network.refusals == []


def test_rest_sends_a_call_to_a_url(network: PhoneNetwork, app: ScriptedApp, client: Any) -> None:
    app.twiml = [response(CONNECT), response("<Say>elsewhere</Say>")]
    call = connected(network, app)
    client.calls(call.sid).update(url=PUBLIC + "/voice?again=1")
    call.wait_ended()
    assert call.said == ["elsewhere"]
    assert app.forms[1]["_url"] == "/voice?again=1"


def test_rest_refuses_what_twilio_refuses(
    network: PhoneNetwork, app: ScriptedApp, client: Any
) -> None:
    call = connected(network, app)
    stranger = Client(network.account_sid, "wrong")
    stranger.api.base_url = network.api_url
    attempts: list[tuple[Any, str, dict[str, str], int, int]] = [
        (stranger, call.sid, {"status": "completed"}, 401, 20003),
        (client, "CA" + "f" * 32, {"status": "completed"}, 404, 20404),
        (client, call.sid, {"status": "over"}, 400, 20001),
        (client, call.sid, {}, 400, 20001),
        (client, call.sid, {"twiml": "<Response/>", "url": PUBLIC}, 400, 21218),
    ]
    for who, sid, update, status, code in attempts:
        with pytest.raises(TwilioRestException) as caught:
            who.calls(sid).update(**update)
        assert (caught.value.status, caught.value.code) == (status, code)
    assert not call.ended


@pytest.mark.parametrize(
    ("status", "code"), [(401, 20003), (404, 20404), (429, 20429), (500, 20500)]
)
def test_rest_fails_as_told(
    network: PhoneNetwork, app: ScriptedApp, client: Any, status: int, code: int
) -> None:
    call = connected(network, app)
    network.rest_fail_next(1, status)
    with pytest.raises(TwilioRestException) as caught:
        client.calls(call.sid).update(status="completed")
    assert (caught.value.status, caught.value.code) == (status, code)
    assert not call.ended
    assert network.refusals == []


def test_rest_tells_about_the_account(network: PhoneNetwork, client: Any) -> None:
    account = client.api.v2010.accounts(network.account_sid).fetch()
    assert (account.status, account.type) == ("active", "Full")
    assert account.auth_token == network.auth_token
    with pytest.raises(TwilioRestException) as caught:
        client.api.v2010.accounts("AC" + "9" * 32).fetch()
    assert (caught.value.status, caught.value.code) == (404, 20404)


def test_rest_takes_a_secondary_token_too(network: PhoneNetwork) -> None:
    network.rest.account.secondary_token = "the other one"
    other = Client(network.account_sid, "the other one")
    other.api.base_url = network.api_url
    account = other.api.v2010.accounts(network.account_sid).fetch()
    assert account.auth_token == network.auth_token


def test_rest_finds_the_number_and_changes_where_its_calls_lead(
    network: PhoneNetwork, client: Any
) -> None:
    assert client.incoming_phone_numbers.list(phone_number="+15550009999") == []
    (number,) = client.incoming_phone_numbers.list(phone_number=network.number)
    assert number.capabilities["voice"] is True
    changed = number.update(voice_url=f"{PUBLIC}/voice", voice_method="GET", trunk_sid="TK1")
    assert (changed.voice_url, changed.voice_method) == (f"{PUBLIC}/voice", "GET")
    changed = number.update(voice_application_sid="AP1")
    assert changed.trunk_sid is None, "either a trunk or an application"
    assert client.incoming_phone_numbers(number.sid).fetch().voice_application_sid == "AP1"
    assert client.incoming_phone_numbers(number.sid).update(trunk_sid="TK2").trunk_sid == "TK2"
    assert client.incoming_phone_numbers(number.sid).fetch().voice_application_sid == ""
    assert network.refusals == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"voice_url": "garage"}, 21402),
        ({"voice_url": PUBLIC, "voice_method": "PUT"}, 21403),
        ({"voice_url": "", "voice_fallback_url": PUBLIC}, 21405),
        ({"sms_method": "POST", "voice_url": PUBLIC}, 20001),
    ],
)
def test_rest_refuses_changes_that_twilio_refuses(
    network: PhoneNetwork, client: Any, change: dict[str, str], code: int
) -> None:
    (number,) = client.incoming_phone_numbers.list(phone_number=network.number)
    with pytest.raises(TwilioRestException) as caught:
        number.update(**change)
    assert (caught.value.status, caught.value.code) == (400, code)
    assert network.refusals
    assert network.rest.account.number == number_resource(network.account_sid, network.number)


def test_rest_can_be_slower_than_its_client_waits(network: PhoneNetwork, app: ScriptedApp) -> None:
    call = connected(network, app)
    network.rest.delay = 30
    impatient = Client(
        network.account_sid, network.auth_token, http_client=TwilioHttpClient(timeout=0.2)
    )
    impatient.api.base_url = network.api_url
    with pytest.raises(requests.exceptions.ReadTimeout):
        impatient.calls(call.sid).update(status="completed")
    assert not call.ended


def test_faults_reach_the_app(network: PhoneNetwork, app: ScriptedApp) -> None:
    call = network.call(faults=StreamFaults(start={"customParameters": None}))
    stream = call.wait_for_stream()
    call.wait_until(lambda _: len(app.received("media")) > 2, what="media")
    assert app.received("start")[0]["start"]["customParameters"] is None
    stream.skip_frames(3)
    stream.repeat_frames(2)
    stream.inject('{"event":"surprise","streamSid":"x"}')
    call.wait_until(lambda _: app.received("surprise"), what="injected message")
    enough = len(call.frames_sent) + 8
    call.wait_until(lambda _: len(app.received("media")) > enough, what="media")
    media = [message["media"] for message in app.received("media")]
    timestamps = [int(frame["timestamp"]) for frame in media]
    steps = [after - before for before, after in pairwise(timestamps)]
    assert sorted(set(steps)) == [0, 20, 80]
    assert steps.count(0) == 2
    stream.pause_sending()
    sent = len(call.frames_sent)
    call.wait_until(lambda _: stream.unsent > 5, what="unsent media")
    assert len(app.received("media")) <= sent
    stream.pause_sending(False)
    call.wait_until(lambda _: len(app.received("media")) > sent + 4, what="late media")


def test_a_stream_may_never_start(network: PhoneNetwork, app: ScriptedApp) -> None:
    call = network.call(faults=StreamFaults(without_start=True))
    call.wait_until(lambda _: len(app.received("media")) > 2, what="media")
    assert app.received("start") == []


def test_bytes_between_the_frames_reach_the_app(network: PhoneNetwork, app: ScriptedApp) -> None:
    call = connected(network, app)
    call.stream.inject_raw(b"\xff\xff\xff\xff")
    call.wait_until(lambda _: app.errors, what="error at the app")


def test_stop_may_come_before_start(network: PhoneNetwork, app: ScriptedApp) -> None:
    call = network.call(faults=StreamFaults(stop_before_start=True))
    call.wait_until(lambda _: len(app.messages) > 3, what="messages")
    assert [message["event"] for message in app.messages[:3]] == ["connected", "stop", "start"]


@pytest.mark.parametrize("by_fault", [True, False])
def test_a_mark_may_never_come_back(
    network: PhoneNetwork, app: ScriptedApp, by_fault: bool
) -> None:
    faults = StreamFaults(lost_marks=1) if by_fault else StreamFaults()
    call = connected(network, app, faults=faults)
    if not by_fault:
        call.stream.lose_marks(1)
    app.mark("lost")
    app.mark("found")
    call.wait_until(lambda _: app.marks() == ["found"], what="second mark")
    assert [entry.detail["name"] for entry in call.events("mark_lost")] == ["lost"]


def test_a_stream_may_come_in_another_format(network: PhoneNetwork, app: ScriptedApp) -> None:
    high = {"encoding": "audio/x-l16", "sampleRate": 16000, "channels": 1}
    connected(network, app, faults=StreamFaults(start={"mediaFormat": high}))
    assert app.received("start")[0]["start"]["mediaFormat"] == high


def test_a_server_that_masks_its_frames_is_refused(network: PhoneNetwork, app: ScriptedApp) -> None:
    call = connected(network, app)
    clear = json.dumps({"event": "clear", "streamSid": app.stream_sid}).encode()
    app.send_raw(bytes([0x81, len(clear)]) + clear)
    call.wait_for("clear")
    app.send_raw(bytes([0x81, 0x80 | len(clear)]) + bytes(4) + clear)
    call.wait_for("stream_error")
    assert "a frame is masked" in network.refusals[0]
    assert len(call.events("clear")) == 1


def test_a_reset_breaks_the_stream_and_runs_the_next_verb(
    network: PhoneNetwork, app: ScriptedApp
) -> None:
    app.twiml = [response(CONNECT + "<Say>broken</Say>")]
    call = connected(network, app)
    call.stream.reset()
    call.wait_ended()
    assert call.stream.closed_by == "break"
    assert call.said == ["broken"]
    assert network.refusals == []


def test_a_reader_that_stalls_takes_nothing_from_the_app(
    network: PhoneNetwork, app: ScriptedApp
) -> None:
    call = connected(network, app)
    stream = call.stream
    stream.stall_reading()
    app.mark("unread")
    before = len(app.received("media"))
    call.wait_until(lambda _: len(app.received("media")) > before + 5, what="media")
    assert stream.marks == []
    stream.stall_reading(False)
    call.wait_until(lambda _: app.marks() == ["unread"], what="mark")


def test_calls_end_with_the_network(app: ScriptedApp) -> None:
    with PhoneNetwork(voice_url=app.url + "/voice", public_url=PUBLIC) as network:
        calls = [network.call() for _ in range(5)]
        for call in calls:
            call.wait_for_stream()
    assert all(call.ended for call in calls)
    assert network.refusals == []


def test_two_calls_may_share_an_id(network: PhoneNetwork, app: ScriptedApp) -> None:
    calls = [network.call(call_sid="CA" + "a" * 32) for _ in range(2)]
    for call in calls:
        call.wait_for_stream()
    calls[0].hang_up()
    calls[0].wait_ended()
    assert not calls[1].ended


def test_a_caller_who_hangs_up_during_a_handover_leaves_nothing_open(
    network: PhoneNetwork, app: ScriptedApp, client: Any
) -> None:
    call = connected(network, app)
    client.calls(call.sid).update(twiml=response('<Pause length="60"/>'))
    call.hang_up()
    call.wait_ended()
    call.wait_until(lambda _: app.sockets[-1].closed, what="closed socket")
    assert len(app.received("stop")) == 1


def test_the_caller_notices_when_the_agent_has_finished(
    network: PhoneNetwork, app: ScriptedApp
) -> None:
    call = connected(network, app)
    assert call.quiet_for == 0
    app.play(voice.speak("done") + MINUTE_OF_SILENCE)
    call.wait_for_heard("done")
    call.wait_until_agent_is_quiet(0.2)
    assert call.heard() == "done"
    assert call.stream.buffered_ms > 0  # silence, but played


def test_the_webhook_may_hang_while_the_caller_hangs_up(
    network: PhoneNetwork, app: ScriptedApp
) -> None:
    app.delay = FOR_EVER
    call = network.call()
    call.wait_until(lambda _: app.forms, what="webhook")
    call.hang_up()
    call.wait_ended()
    assert not network.webhooks
    assert call.streams == []


def test_a_public_address_may_have_a_port_and_a_path(app: ScriptedApp) -> None:
    public = "https://edge.example.com:8443/line"
    app.twiml = [response(CONNECT.replace("wss://voice.example.com", "wss" + public[5:]))]
    with PhoneNetwork(voice_url=app.url + "/voice", public_url=public) as network:
        connected(network, app, path="/voice?a=1").hang_up()
        assert network.webhooks[0].url == public + "/voice?a=1"
        assert app.forms[0]["_url"] == "/voice?a=1"


@pytest.mark.parametrize(("stream", "is_opened"), [("ws", True), ("wss", False)])
def test_an_app_at_an_address_on_this_machine_is_streamed_to_without_tls(
    app: ScriptedApp, stream: str, is_opened: bool
) -> None:
    here = f"{stream}://{app.url.removeprefix('http://')}"
    app.twiml = [response(CONNECT.replace("wss://voice.example.com", here))]
    with PhoneNetwork(voice_url=app.url + "/voice", public_url=app.url) as network:
        call = network.call()
        call.wait_for("start" if is_opened else "stream_error")
        call.hang_up()
        call.wait_ended()
        assert bool(network.refusals) != is_opened


def call_from_the_command_line(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    run = add_call(parser)
    run(parser.parse_args(arguments))


def test_one_call_from_the_command_line_is_to_the_app_of_the_owners_settings(
    app: ScriptedApp,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    token, sid, number = "f" * 32, "AC" + "1" * 32, "+15550007777"
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", token)
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", sid)
    monkeypatch.setenv("TWILIO_PHONE_NUMBER", number)
    monkeypatch.setenv("WEBHOOK_URL", PUBLIC)
    monkeypatch.setenv("PORT", app.url.rpartition(":")[2])
    app.twiml = [response("<Say>Hello</Say>")]
    wav = tmp_path / "call.wav"
    call_from_the_command_line("--record", str(wav))
    (asked,) = app.forms
    form = {name: value for name, value in asked.items() if not name.startswith("_")}
    assert RequestValidator(token).validate(f"{PUBLIC}/voice", form, asked["_signature"])
    assert (form["AccountSid"], form["To"]) == (sid, number)
    printed = capsys.readouterr().out
    assert "say" in printed and "Hello" in printed and "end of TwiML" in printed
    assert wav.read_bytes().startswith(b"RIFF")


def test_no_call_from_the_command_line_is_placed_to_an_unknown_app(
    app: ScriptedApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SETTINGS:
        monkeypatch.setenv(name, "")
    with pytest.raises(SystemExit, match=r"Fill in \.env"):
        call_from_the_command_line("--voice-url", f"{app.url}/voice", "--auth-token", "")
    assert app.forms == []
