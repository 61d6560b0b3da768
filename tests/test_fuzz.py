"""It lets nobody in: whatever arrives at the webhook or at either socket, no other call notices.

Each batch of nonsense is thrown at the app beside a call that goes on; when the test is over, the
`service` fixture checks that no error escaped into the log and that nothing was left behind.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.harness import CALLED, CALLER, PUBLIC_URL, Service, eventually, hear_out
from tools.line import BINARY, CLOSE, COMPRESSED, CONTINUED, PING, PONG, TEXT, Line, frame
from tools.log_check import NOT_UNDERSTOOD
from tools.simulator.twilio_network import Call
from tools.simulator.waiting import PATIENCE
from tools.webhook import FORM, post

T = TypeVar("T")
Json = Any
Path_ = tuple[Any, ...]

thorough = pytest.mark.thorough
EXAMPLES = 40
SILENCE = base64.b64encode(b"\xff" * 160).decode()
MARK = re.compile(r"^(\[[^\]]*\] ?)+")


def throw(
    strategy: st.SearchStrategy[T], at: Callable[[T], None], examples: int = EXAMPLES
) -> None:
    """Call `at` with so many examples, the same ones in every run."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(example: T) -> None:
        at(example)

    run()


@contextmanager
def bystander(service: Service) -> Iterator[Call]:
    """Have a call going on meanwhile, and check that it still is afterwards, undisturbed."""
    service.strangers = True
    service.expect_log(NOT_UNDERSTOOD)
    call = service.call()
    call.say("Something odd is going on")
    hear_out(call, "You said: Something odd is going on.")
    yield call
    call.say("It is over now")
    hear_out(call, "You said: It is over now.")
    assert call.heard() == "Hello! You said: Something odd is going on. You said: It is over now."
    assert len(call.streams) == 1


# ---------------------------------------------------------------- nonsense

printable = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=30)
junk: st.SearchStrategy[Json] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    printable,
    st.just("x" * 5000),
    st.just("\ud800"),
    st.just(SILENCE),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(printable, st.none(), max_size=2),
    st.just([[[[[[[[]]]]]]]]),
    st.just({"event": {"type": "start"}, "type": []}),
)


def places(message: Json, at: Path_ = ()) -> Iterator[Path_]:
    """List the path of every value in a message, itself included."""
    yield at
    for key in message if isinstance(message, dict) else ():
        yield from places(message[key], (*at, key))


@st.composite
def mangled(draw: st.DrawFn, message: Json) -> Json:
    """Take a message with one value of the wrong kind, or left out."""
    message = copy.deepcopy(message)
    *parents, last = draw(st.sampled_from([place for place in places(message) if place]))
    target = message
    for key in parents:
        target = target[key]
    if draw(st.integers(0, 4)):
        target[last] = draw(junk)
    else:
        del target[last]
    return message


def any_of(messages: list[Json]) -> st.SearchStrategy[Json]:
    """Draw messages as they should be, mangled ones, and things that are no messages."""
    good = st.sampled_from(messages)
    return st.one_of(good, good.flatmap(mangled), good.flatmap(mangled), junk)


# ---------------------------------------------------------------- the webhook


def assert_answered(answer: requests.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code == 200:
        assert ElementTree.fromstring(answer.text).tag == "Response"


def test_no_form_breaks_the_webhook(service: Service) -> None:
    service.tolerate("/v1/conversations")  # it doesn't take everything as metadata
    known = st.sampled_from(["CallSid", "From", "To", "CallStatus", "Digits", "SpeechResult"])
    forms = st.dictionaries(st.one_of(known, printable.filter(bool)), printable, max_size=6)

    def ask(form: dict[str, str]) -> None:
        assert_answered(post(service, form=form))
        assert_answered(post(service, form={**FORM, **form}))

    with bystander(service):
        throw(forms, ask)


@pytest.mark.thorough("dozens of examples")
def test_no_query_breaks_the_webhook(service: Service) -> None:
    pairs = st.tuples(
        st.one_of(st.sampled_from(["conversation", "attempt"]), printable),
        st.one_of(printable, st.integers().map(str), st.just("9" * 5000)),
    )
    queries = st.lists(pairs, max_size=4).map(
        lambda pairs: "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)
    )

    def ask(query: str) -> None:
        assert_answered(post(service, f"/voice?{query}"))

    with bystander(service):
        throw(queries, ask)


BODY_TYPES = [
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded; charset=utf-16",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "application/json",
    "text/plain; charset=no-such-thing",
    "",
]


@pytest.mark.thorough("dozens of examples")
def test_no_body_breaks_the_webhook(service: Service) -> None:
    def ask(example: tuple[str, str, str, bytes]) -> None:
        path, method, kind, body = example
        signature = service.network.signature(PUBLIC_URL + path, {})
        headers = {"X-Twilio-Signature": signature, "Content-Type": kind}
        answer = requests.request(
            method, service.url + path, data=body, headers=headers, timeout=PATIENCE
        )
        assert answer.status_code < 500, answer.text

    bodies = st.one_of(st.binary(max_size=200), st.just(b"--x\r\n"), st.just(b"a=" + b"x" * 70_000))
    methods = st.sampled_from(["POST", "GET", "PUT", "OPTIONS"])
    paths = st.sampled_from(["/voice", "/voice", "/media-stream", "/health", "/elsewhere"])
    with bystander(service):
        throw(st.tuples(paths, methods, st.sampled_from(BODY_TYPES), bodies), ask, 80)


@pytest.mark.parametrize(
    "path", ["/voice", pytest.param("/media-stream", marks=thorough("dozens of examples"))]
)
def test_nothing_but_the_right_signature_opens_a_door(service: Service, path: str) -> None:
    right = service.network.signature(PUBLIC_URL + path, FORM)
    latin = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
    signatures = st.one_of(
        latin.map(str.strip),
        st.integers(0, len(right)).map(lambda n: right[:n]),
        st.just(f"{right}, {right}"),
        st.just(right.lower()),
    ).filter(lambda signature: signature != right)

    def ask(signature: str) -> None:
        assert post(service, path, signature=signature).status_code in (403, 405)

    with bystander(service):
        asked = len(service.openai.requests)
        throw(signatures, ask)
        assert len(service.openai.requests) == asked


# ---------------------------------------------------------------- Twilio's socket


def text(message: Json) -> bytes:
    return frame(TEXT, json.dumps(message).encode())


def deflated(data: bytes) -> bytes:
    squeeze = zlib.compressobj(1, zlib.DEFLATED, -15)
    return (squeeze.compress(data) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
START = {
    "event": "start",
    "sequenceNumber": "1",
    "start": {
        "accountSid": "AC" + "0" * 32,
        "streamSid": "MZ" + "1" * 32,
        "callSid": "CA" + "9" * 32,
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {
            "conversation": "",
            "caller": CALLER,
            "called": CALLED,
            "attempt": "0",
        },
    },
    "streamSid": "MZ" + "1" * 32,
}
MEDIA = {
    "event": "media",
    "sequenceNumber": "4",
    "media": {"track": "inbound", "chunk": "2", "timestamp": "122", "payload": SILENCE},
    "streamSid": "MZ" + "1" * 32,
}
SID = {"streamSid": "MZ" + "1" * 32}
DTMF = {"event": "dtmf", **SID, "dtmf": {"track": "inbound_track", "digit": "1"}}
MARKED = {"event": "mark", **SID, "mark": {"name": "1"}}
STOP = {"event": "stop", **SID, "stop": {"accountSid": "AC" + "0" * 32, "callSid": "CA" + "9" * 32}}
EVENTS = [CONNECTED, START, MEDIA, DTMF, MARKED, STOP]
BOMB = deflated(bytes(64 << 20))


def in_pieces(message: Json) -> bytes:
    """Cut a message into three frames, with a ping between them."""
    data = json.dumps(message).encode()
    pieces = frame(TEXT, data[:5], last=False) + frame(PING, b"?")
    return pieces + frame(CONTINUED, data[5:9], last=False) + frame(CONTINUED, data[9:])


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(1, id="byte by byte", marks=thorough("every byte is a packet")),
        pytest.param(7, id="in bits"),
        pytest.param(1 << 20, id="all at once", marks=thorough("tests/unit/test_wire tries it")),
    ],
)
@pytest.mark.parametrize("write", [text, in_pieces], ids=["whole", "in pieces"])
def test_messages_are_understood_however_their_frames_come(
    service: Service, write: Callable[[Json], bytes], cut: int
) -> None:
    service.strangers = True
    service.expect_log(NOT_UNDERSTOOD)
    sounds = [base64.b64encode(b"\x7f" * size).decode() for size in (1, 160, 20, 161, 8000)]
    media: list[Json] = [{**MEDIA, "media": {"payload": sound}} for sound in sounds]
    line = Line(service)
    line.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = b"".join(write(message) for message in [CONNECTED, START, *media])
    for at in range(0, len(data), cut):
        line.send(data[at : at + cut])
    service.openai.wait_for(lambda openai: openai.sessions)

    def relayed() -> list[str]:
        line.send(text(media[0]))  # what was kept for the session goes on with the next frame
        appended = service.session.events("input_audio_buffer.append")
        return [event["audio"] for event in appended][: len(sounds)]

    eventually(lambda: len(relayed()) == len(sounds), "all of the sound")
    assert relayed() == sounds
    for _ in range(data.count(frame(PING, b"?"))):
        assert line.wait_for(PONG) == b"?"
    line.close()


SHAPES: dict[str, Callable[[Json], str]] = {
    "as Twilio writes it": lambda message: json.dumps(message, separators=(",", ":")),
    "with spaces": json.dumps,
    "over several lines": lambda message: json.dumps(message, indent=2),
    "in another order": lambda message: json.dumps(dict(reversed(message.items()))),
    "with slashes escaped": lambda message: json.dumps(message).replace("/", r"\/"),
}


@pytest.mark.thorough("dozens of examples")
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_sound_is_relayed_in_whatever_shape_its_message_comes(
    service: Service, shape: Callable[[Json], str]
) -> None:
    service.strangers = True
    service.expect_log(NOT_UNDERSTOOD)
    line = Line(service)
    line.send(text(CONNECTED) + text(START))
    service.openai.wait_for(lambda openai: openai.sessions)

    def relayed() -> list[str]:
        appended = service.session.events("input_audio_buffer.append")
        return [event["audio"] for event in appended]

    def answered() -> bool:
        line.send(text(MEDIA))
        return bool(relayed())

    eventually(answered, "relayed sound")
    sounds = [base64.b64encode(bytes([n]) * 60 + b"\xff" * 100).decode() for n in range(100)]
    for sound in sounds:
        media = {**MEDIA, "media": {"track": "inbound", "payload": sound}}
        line.send(frame(TEXT, shape(media).encode()))
    eventually(lambda: len([s for s in relayed() if s != SILENCE]) == len(sounds), "all of it")
    assert [sound for sound in relayed() if sound != SILENCE] == sounds
    line.close()


@thorough("a stream is given 10 s to start")
@pytest.mark.parametrize("start", [{}, {"start": {}}, {**START, "start": {"callSid": 7}}])
def test_a_stream_that_does_not_really_start_is_given_up(service: Service, start: Json) -> None:
    service.strangers = True
    service.expect_log(NOT_UNDERSTOOD)
    line = Line(service)
    line.send(text(CONNECTED) + text({"event": "start", **start}) * bool(start))
    line.socket.settimeout(PATIENCE)
    while line.socket.recv(1024):
        pass
    assert service.openai.sessions == []
    line.close()


def test_nothing_is_said_after_the_end_of_a_stream(service: Service) -> None:
    service.strangers = True
    service.expect_log(NOT_UNDERSTOOD)
    line = Line(service)
    line.send(text(CONNECTED) + frame(CLOSE, b"\x03\xe8"))
    assert line.wait_for_end() == b""  # werkzeug would add an HTTP response
    line.close()


def test_no_message_is_found_inside_a_frame_that_is_too_long(service: Service) -> None:
    service.strangers = True
    service.expect_log(NOT_UNDERSTOOD)
    line = Line(service)
    # If its size were taken for one of a byte, it would end where a message begins.
    content = (b"x" * 119 + text(START)).ljust(70_000, b"x")
    line.send(text(CONNECTED) + b"\x81\xff" + len(content).to_bytes(8, "big") + bytes(4) + content)
    line.wait_for_end()
    assert service.log == []
    line.close()


def test_binary_frames_are_not_obeyed(service: Service) -> None:
    service.strangers = True
    service.expect_log(NOT_UNDERSTOOD)
    line = Line(service)
    line.send(text(CONNECTED) + frame(BINARY, json.dumps(START).encode()))
    service.wait_for_log("not understood")
    assert service.openai.sessions == []
    line.send(text(START))
    service.openai.wait_for(lambda openai: openai.sessions)
    line.close()


def test_sound_as_long_as_a_message_may_be_is_passed_on(service: Service) -> None:
    service.strangers = True
    line = Line(service)
    line.send(text(CONNECTED) + text(START))
    service.openai.wait_for(lambda openai: openai.sessions)
    sound = b"/" * 65_488

    def relayed() -> bool:
        line.send(text(MEDIA))  # what was kept for the session goes on with the next frame
        appends = service.session.events("input_audio_buffer.append")
        return any(event["audio"] == sound.decode() for event in appends)

    line.send(frame(TEXT, b'{"event":"media","media":{"payload":"' + sound + b'"}}'))
    eventually(relayed, "the sound")
    assert len(service.openai.sessions) == 1
    line.close()


FATAL: dict[str, bytes] = {
    "more than 64 KiB": frame(TEXT, b'"' + b"x" * 70_000 + b'"'),
    "more than 64 KiB in pieces": (
        frame(TEXT, b'"' + b"x" * 40_000, last=False) + frame(CONTINUED, b"x" * 40_000 + b'"')
    ),
    "a claim of 8 EiB": frame(TEXT, b"x" * 70_000, length=(1 << 63) - 1),
    "compressed without leave": frame(TEXT, deflated(b'{"event":"stop"}'), reserved=COMPRESSED),
    "reserved bits": frame(TEXT, b"{}", reserved=3),
    "not masked": frame(TEXT, b"{}", masked=False),
    "no such opcode": frame(5, b"{}"),
    "a piece of nothing": frame(CONTINUED, b"{}"),
    "a text inside a text": frame(TEXT, b"{", last=False) + frame(TEXT, b"{}"),
    "a ping in pieces": frame(PING, b"", last=False),
    "a ping too long": frame(PING, b"x" * 126),
    "a close of one byte": frame(CLOSE, b"\x03"),
    "a close for no such reason": frame(CLOSE, b"\x00\x01"),
    "no frame at all": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize(
    "started",
    [
        pytest.param(False, id="before the start"),
        pytest.param(True, id="in a call", marks=thorough("more than a dozen calls")),
    ],
)
def test_a_frame_that_breaks_the_rules_ends_its_stream_at_once(
    service: Service, started: bool
) -> None:
    endless = []
    with bystander(service):
        for fault, data in FATAL.items():
            line = Line(service)
            assert line.status == 101
            line.send(text(CONNECTED) + text(START) * started + text(MEDIA) + data)
            try:
                line.wait_for_end()
            except AssertionError:
                endless.append(fault)
            line.close()
    assert endless == []


@pytest.mark.thorough("dozens of examples")
@pytest.mark.parametrize("pieces", [1, 40])
def test_a_compressed_bomb_does_not_go_off(service: Service, pieces: int) -> None:
    def peak() -> int:
        status = [Path(f"/proc/{pid}/status").read_text("ascii") for pid in service.process.workers]
        return sum(int(re.findall(r"VmHWM:\s+(\d+)", each)[0]) for each in status)

    size = len(BOMB) // pieces + 1
    parts = [BOMB[at : at + size] for at in range(0, len(BOMB), size)]
    with bystander(service):
        before = peak()
        line = Line(service, Sec_WebSocket_Extensions="permessage-deflate")
        for n, part in enumerate(parts):
            first, last = n == 0, n == len(parts) - 1
            opcode, bits = (TEXT, COMPRESSED) if first else (CONTINUED, 0)
            line.send(frame(opcode, part, last=last, reserved=bits))
        line.wait_for_end()
        line.close()
        assert peak() - before < 32 * 1024, "KiB"


MESSAGES = [
    *("", "null", "[]", "7", '"start"', "{", '{"event"', "NaN", "[" * 20_000, '{"event":"start"}'),
    *('{"event":"_"}', '{"event":"__class__"}', '{"event":"session.updated"}', '{"event":"error"}'),
]


@pytest.mark.thorough("dozens of examples")
def test_no_message_of_a_stream_breaks_anything(service: Service) -> None:
    service.tolerate("")  # what a stranger's stream relays need not be sound
    raw = st.one_of(
        any_of(EVENTS).map(text),
        any_of(EVENTS).map(text),
        any_of(EVENTS).map(text),
        st.sampled_from(MESSAGES).map(lambda message: frame(TEXT, message.encode())),
        st.binary(max_size=50).map(lambda data: frame(BINARY, data)),
        st.sampled_from(EVENTS).map(lambda message: frame(BINARY, json.dumps(message).encode())),
        st.binary(max_size=50).map(lambda data: frame(PING, data)),
        st.binary(max_size=50).map(lambda data: frame(PONG, data)),
        printable.map(
            lambda words: (
                frame(TEXT, words.encode()[:3], last=False)
                + frame(PING, b"?")
                + frame(CONTINUED, words.encode()[3:])
            )
        ),
    )
    ways = st.sampled_from(["close", "leave", "reset"])
    orders = st.tuples(st.booleans(), st.lists(raw, min_size=1, max_size=8), ways)

    def send(example: tuple[bool, list[bytes], str]) -> None:
        started, frames, way = example
        line = Line(service)
        assert line.status == 101
        line.send(text(CONNECTED) + text(START) * started + b"".join(frames))
        line.close(way)

    with bystander(service):
        throw(orders, send, 60)


@pytest.mark.thorough("dozens of examples")
def test_bytes_that_are_no_frames_break_nothing(service: Service) -> None:
    def send(data: bytes) -> None:
        line = Line(service)
        line.send(text(START) + data)
        line.close("leave")

    with bystander(service):
        throw(st.binary(min_size=1, max_size=40), send)


HANDSHAKES: list[dict[str, str | None]] = [
    {"Upgrade": None},
    {"Upgrade": "h2c"},
    {"Connection": None},
    {"Connection": "keep-alive"},
    {"Sec_WebSocket_Key": None},
    {"Sec_WebSocket_Key": "short"},
    {"Sec_WebSocket_Key": "é" * 24},
    {"Sec_WebSocket_Version": None},
    {"Sec_WebSocket_Version": "8"},
    {"Sec_WebSocket_Version": "x"},
    {"Sec_WebSocket_Extensions": "permessage-deflate; client_max_window_bits=99"},
    {"Sec_WebSocket_Extensions": "x; y=; =z,,"},
    {"Sec_WebSocket_Protocol": "a, b"},
    {"Host": None},
    {"Content_Length": "5"},
    {"Content_Length": "-1"},
    {"Transfer_Encoding": "chunked"},
]


@pytest.mark.thorough("dozens of examples")
def test_an_odd_handshake_is_refused_or_served_and_harms_nobody(service: Service) -> None:
    answers = []
    with bystander(service):
        for headers in HANDSHAKES:
            line = Line(service, **headers)
            answers.append((headers, line.status))
            line.close()
    assert [each for each in answers if each[1] != 101 and not 400 <= each[1] < 500] == []


@pytest.mark.thorough("dozens of examples")
def test_connections_that_never_ask_for_anything_harm_nobody(service: Service) -> None:
    starts = [
        b"",
        b"G",
        b"GET /media-stream HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\0" * 99,
    ]
    with bystander(service):
        for data in starts * 3:
            with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as stranger:
                stranger.sendall(data)


# ---------------------------------------------------------------- Realtime's socket

REALTIME_EVENTS: list[Json] = [
    {"type": "session.created", "session": {"type": "realtime"}},
    {"type": "session.updated", "session": {"type": "realtime"}},
    {"type": "input_audio_buffer.speech_started", "audio_start_ms": 5, "item_id": "item_0"},
    {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 9, "item_id": "item_0"},
    {"type": "input_audio_buffer.committed", "item_id": "item_0", "previous_item_id": None},
    {
        "type": "conversation.item.input_audio_transcription.completed",
        "item_id": "item_0",
        "content_index": 0,
        "transcript": "Abracadabra",
    },
    {
        "type": "conversation.item.input_audio_transcription.failed",
        "item_id": "item_0",
        "content_index": 0,
        "error": {"type": "transcription_error", "code": "audio_unintelligible"},
    },
    {"type": "response.created", "response": {"id": "resp_0", "metadata": {"mark": "1"}}},
    {"type": "response.output_audio.delta", "response_id": "resp_0", "delta": SILENCE},
    {"type": "response.output_audio_transcript.done", "response_id": "resp_0", "transcript": "A"},
    {
        "type": "response.done",
        "response": {
            "id": "resp_0",
            "status": "completed",
            "output": [{"content": [{"type": "output_audio", "transcript": "A"}]}],
            "metadata": {"mark": "1"},
        },
    },
    {"type": "error", "event_id": "e", "error": {"type": "server_error", "code": "server_error"}},
    {"type": "error", "error": {"code": "response_cancel_not_active"}},
    {"type": "rate_limits.updated", "rate_limits": []},
    {"type": "response.hologram.delta", "delta": {}},
]
HARMLESS = [event for event in REALTIME_EVENTS if event["type"] not in ("error", "session.created")]


def spoken_to(call: Call) -> None:
    """Check that the call is alive: its caller says something until it is answered."""
    for attempt in range(6):
        call.wait_until(lambda call: call.stream.open, what="stream")
        call.say(f"Is it over {attempt}")
        try:
            call.wait_for_heard(f"Is it over {attempt}.", 8)
        except AssertionError:
            if attempt == 5:
                raise
        else:
            return


@pytest.mark.thorough("dozens of examples")
def test_no_event_of_realtime_breaks_the_call_or_another(service: Service) -> None:
    """Events of a wrong shape, unknown, or that come when nobody expects them."""
    service.tolerate("response_cancel_not_active")  # of responses that never were
    service.expect_log(NOT_UNDERSTOOD)
    service.brain.reply = lambda text, history: f"You said: {MARK.sub('', text)}."
    raw = st.one_of(
        any_of(REALTIME_EVENTS).map(json.dumps),
        any_of(REALTIME_EVENTS).map(json.dumps),
        st.sampled_from(MESSAGES),
        st.binary(max_size=30),
    )
    with bystander(service):
        call = service.call()

        def inject(frames: list[str | bytes]) -> None:
            for each in frames:
                service.session.inject(each)

        throw(st.lists(raw, min_size=1, max_size=4), inject)
        spoken_to(call)


@pytest.mark.thorough("dozens of examples")
def test_a_call_is_not_lost_when_realtime_loses_its_mind(service: Service) -> None:
    """Frames that aren't WebSocket, again and again; each time there is a new session."""
    service.brain.reply = lambda text, history: f"You said: {MARK.sub('', text)}."
    service.tolerate("response_cancel_not_active")
    service.expect_log(NOT_UNDERSTOOD)
    with bystander(service):
        call = service.call()
        for nonsense in (b"\x8f\x00", b"\x88\x01x", b"\x00\x01x"):
            sessions = len(service.openai.sessions)
            service.session.inject_wire(nonsense)
            eventually(lambda: len(service.openai.sessions) > sessions, "a new session", 20)  # noqa: B023
            eventually(lambda: service.session.sent_events("session.updated"), "its configuration")
        spoken_to(call)
