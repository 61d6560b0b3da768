"""The generator's end of Twilio: one call, its webhook, its stream, and what the caller hears."""

from __future__ import annotations

import hmac
import html
import json
import re
from base64 import b64encode
from collections import deque
from collections.abc import Mapping
from functools import partial
from time import monotonic as now
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tools.bench import script
from tools.bench.openai import FRAMES_PER_CALL
from tools.bench.wire import CLOSE, PING, PONG, Connection, Loop, client_frame, connect
from tools.bench.wire import split_frames as split

if TYPE_CHECKING:
    from tools.bench.load import Load

PUBLIC_URL = "https://voice.example.com"
AUTH_TOKEN = "0123456789abcdef0123456789abcdef"
ACCOUNT, CALLER, CALLED = "AC" + "0" * 32, "+15552223333", "+15550001111"
SETTINGS = {
    "TWILIO_ACCOUNT_SID": ACCOUNT,
    "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
    "TWILIO_PHONE_NUMBER": CALLED,
    "WEBHOOK_URL": PUBLIC_URL,
    "TWILIO_API_URL": "http://127.0.0.1:9",  # nobody is to be told anything
    "OPENAI_API_KEY": "sk-the-key-of-openai",
    "AGENT_WORKFLOW_ID": "workflow.json",
    "GREETING": script.GREETING,
    "MAX_CALLS": "0",
    "WEB_CONCURRENCY": "1",  # of which gunicorn itself takes no blank
}
"""What the app is told of all this, in its environment."""

FRAME_SECONDS = 0.02
PUMP_EVERY = 16  # frames; between them the generator looks whether anything came
PAYLOAD = b'"payload": "'
HEADERS = [client_frame(bytes(size))[:8] if size > 125 else b"" for size in range(700)]


def signature(url: str, fields: Mapping[str, str]) -> str:
    """Sign a request as Twilio does."""
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return b64encode(hmac.digest(AUTH_TOKEN.encode(), text.encode(), "sha1")).decode()


class FrameClock:
    """Has every call send a frame each 20 ms: all at once, or each in its own millisecond."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._slots: list[list[LoadCaller]] = [[] for _ in range(20)]
        self._begun = now() + 0.1
        for number in range(len(self._slots)):
            self._tick(number, self._begun + number / 1000)

    def join(self, caller: LoadCaller, slot: int) -> None:
        """Begin to send a call's frames, in a slot from 0 to 19."""
        self._slots[slot].append(caller)

    def leave(self, caller: LoadCaller) -> None:
        """Send no more of a call's frames."""
        for slot in self._slots:
            if caller in slot:
                slot.remove(caller)

    def _tick(self, number: int, due: float) -> None:
        for count, caller in enumerate(tuple(self._slots[number])):
            caller.send_frame(due)
            if count % PUMP_EVERY == PUMP_EVERY - 1:
                self._loop.pump(most=PUMP_EVERY // 4)
        following = due + FRAME_SECONDS
        self._loop.at(following, partial(self._tick, number, following))


class VoiceRequest(Connection):
    """Twilio's request to /voice."""

    def __init__(self, caller: LoadCaller, port: int) -> None:
        super().__init__(caller.loop, connect(port))
        self._caller, self._received = caller, b""
        fields = {"CallSid": caller.sid, "From": CALLER, "To": CALLED}
        fields |= {"AccountSid": ACCOUNT, "CallStatus": "ringing", "Direction": "inbound"}
        body = urlencode(fields)
        self.write(
            "POST /voice HTTP/1.1\r\nHost: voice.example.com\r\nConnection: close\r\n"
            "Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n"
            f"X-Twilio-Signature: {signature(PUBLIC_URL + '/voice', fields)}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )

    def on_data(self, data: bytes) -> None:
        self._received += data

    def on_end(self) -> None:
        """Read the TwiML: the app closes the connection behind it."""
        head, _, body = self._received.decode().partition("\r\n\r\n")
        found = re.findall(r'<Parameter name="(.*?)" value="(.*?)"', body)
        if " 200 " not in head.partition("\r\n")[0] or "<Stream" not in body:
            return self._caller.on_dropped(f"/voice answered {self._received[:200]!r}")
        self._caller.open_stream({name: html.unescape(value) for name, value in found})


class Stream(Connection):
    """The media stream's WebSocket."""

    def __init__(self, caller: LoadCaller, port: int, parameters: dict[str, str]) -> None:
        super().__init__(caller.loop, connect(port))
        self._caller = caller
        self._parameters = parameters
        self._received = b""
        self._upgraded = False
        url = PUBLIC_URL.replace("http", "ws", 1) + "/media-stream"
        self.write(
            "GET /media-stream HTTP/1.1\r\nHost: voice.example.com\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"X-Twilio-Signature: {signature(url, {})}\r\n\r\n".encode()
        )

    def on_data(self, data: bytes) -> None:
        if self._caller.over:  # werkzeug writes an HTTP answer behind the end of a stream
            return
        data = self._received + data
        if not self._upgraded:
            head, separator, rest = data.partition(b"\r\n\r\n")
            if not separator or b" 101 " not in head.partition(b"\r\n")[0]:
                self._received = data
                return
            self._upgraded, data = True, rest
            self._caller.on_stream_open(self._parameters)
        moment = now()
        frames, end = split(data)
        self._received = data[end:]
        for frame in frames:
            message = data[frame.start : frame.end]
            if frame.opcode == CLOSE:
                self.write(client_frame(message, CLOSE))
                return self._caller.on_dropped("it closed the stream")
            if frame.opcode == PING:
                self.write(client_frame(message, PONG))
            else:
                self._caller.on_message(message, moment)

    def on_end(self) -> None:
        self._caller.on_dropped(f"the stream ended after {self._received[:200]!r}")


class FrameWriter:
    """Number the messages of one stream, and write its frames as WebSocket messages."""

    def __init__(self, number: int, stream_sid: str) -> None:
        self.sent: list[float] = []  # when each frame was
        self._stream_sid = stream_sid
        self._messages = 1
        self._first = number * FRAMES_PER_CALL
        self._frame = (
            b'{"event":"media","sequenceNumber":"%d","media":{"track":"inbound","chunk":"%d",'
            b'"timestamp":"%d","payload":"%012d' + script.FRAME + b'"},"streamSid":"'
        ) + f'{stream_sid}"}}'.encode()

    def about(self) -> dict[str, str]:
        """Return what each message but a frame says of itself."""
        self._messages += 1
        return {"sequenceNumber": str(self._messages - 1), "streamSid": self._stream_sid}

    def next(self, moment: float) -> bytes:
        """Return the next frame, to be sent at this moment."""
        count = len(self.sent)
        self._messages += 1
        text = self._frame % (self._messages, count + 1, count * 20, self._first + count)
        self.sent.append(moment)
        return HEADERS[len(text)] + text


class Played:
    """When what the caller was sent has been played, and the marks that wait for it."""

    def __init__(self) -> None:
        self.until = 0.0
        self._waiting: deque[str] = deque()

    def add_sound(self, letters: int, moment: float) -> None:
        """Append sound of so many letters of base64."""
        self.until = max(self.until, moment) + letters * 3 // 4 / 8000

    def add_mark(self, name: str) -> None:
        """Have a mark wait until all that was added is played."""
        self._waiting.append(name)

    def take(self, name: str) -> bool:
        """Tell whether a mark still waits, and have it wait no longer."""
        waits = name in self._waiting
        if waits:
            self._waiting.remove(name)
        return waits

    def clear(self, moment: float) -> list[str]:
        """Fall silent; return the marks that waited."""
        self.until = moment
        waited = list(self._waiting)
        self._waiting.clear()
        return waited


class LoadCaller:
    """One call. What the caller does is up to `talk`, if they do more than listen."""

    def __init__(self, load: Load, number: int) -> None:
        self.load, self.loop, self.number = load, load.loop, number
        self.sid = f"CA{number:032x}"
        self.stream_sid = f"MZ{number:032x}"
        self.talk = LoadTalk(self)
        self.slot = 0
        self.over = False
        self.seen = 0  # frames that Realtime got, of those that count
        self.first_relayed = -1  # the first frame that Realtime got
        self.started = 0.0
        self._writer = FrameWriter(number, self.stream_sid)
        self._played = Played()
        self._stream: Stream | None = None
        VoiceRequest(self, load.port)

    @property
    def sent(self) -> list[float]:
        """When each frame was sent."""
        return self._writer.sent

    # --- to the app -------------------------------------------------------------------------

    def open_stream(self, parameters: dict[str, str]) -> None:
        """Follow the TwiML, unless the caller has hung up."""
        if self.over:
            return self.on_dropped("")
        self._stream = Stream(self, self.load.port, parameters)

    def on_stream_open(self, parameters: dict[str, str]) -> None:
        """Begin the stream."""
        self._send({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        start = {
            "accountSid": ACCOUNT,
            "streamSid": self.stream_sid,
            "callSid": self.sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        }
        self.started = now()
        self._send({"event": "start", "start": start, **self._writer.about()})
        self.load.clock.join(self, self.slot)

    def _send(self, message: dict[str, Any]) -> None:
        if self._stream:
            self._stream.write(client_frame(json.dumps(message).encode()))

    def send_frame(self, due: float) -> None:
        """Send 20 ms of sound."""
        moment = now()
        frame = self._writer.next(moment)
        if self._stream:
            self._stream.write(frame)
        if moment >= self.load.records.begin:
            self.load.records.lateness.append(moment - due)

    def hang_up(self) -> None:
        """End the call from the caller's side."""
        if self.over:
            return
        self.talk.end()
        self.over = True
        self.load.clock.leave(self)
        stop = {"accountSid": ACCOUNT, "callSid": self.sid}
        self._send({"event": "stop", "stop": stop, **self._writer.about()})
        if self._stream:
            self._stream.write(client_frame((1000).to_bytes(2, "big"), CLOSE))

    def on_dropped(self, why: str) -> None:
        """Learn that the app has ended the call, or has closed its end after ours."""
        self.load.ended.add(self.number)
        if self.over:
            return
        self.talk.end()
        self.over = True
        self.load.clock.leave(self)
        self.load.records.dropped += 1
        self.load.why_dropped = f"{self.sid}: {why}"

    # --- from the app -----------------------------------------------------------------------

    def on_message(self, message: bytes, moment: float) -> None:
        """Play sound, return marks when they have been played, or fall silent."""
        at = message.find(PAYLOAD) + len(PAYLOAD)
        if at > len(PAYLOAD):
            number = message[at : at + script.NUMBER]
            self._played.add_sound(message.find(b'"', at) - at, moment)
            self.load.on_delta(self, int(number), moment)
            return
        event = json.loads(message)
        if event["event"] == "media":
            payload = event["media"]["payload"]
            self._played.add_sound(len(payload), moment)
            self.load.on_delta(self, int(payload[: script.NUMBER]), moment)
        elif event["event"] == "mark":
            name = event["mark"]["name"]
            self._played.add_mark(name)
            self.loop.at(self._played.until, partial(self._return_mark, name))
        else:
            self.talk.on_clear(moment)
            for name in self._played.clear(moment):
                self._send_mark(name)

    def _return_mark(self, name: str) -> None:
        if not self.over and self._played.take(name):
            self._send_mark(name)
            self.talk.on_heard()

    def _send_mark(self, name: str) -> None:
        self._send({"event": "mark", "mark": {"name": name}, **self._writer.about()})


class TalkTurn:
    """One exchange: the caller's words and the workflow's reply, with the times of both."""

    def __init__(self, number: int, said: float) -> None:
        self.number, self.said = number, said
        self.sentences = script.REPLIES[number % len(script.REPLIES)]
        self.asked = 0.0  # when the workflow was
        self.first_sentence = 0.0  # when it was out of the workflow
        self.begun = False  # the reply's sound has reached the caller
        self.late = False


class LoadTalk:
    """What the caller says: a question after each reply, cutting into the first one."""

    def __init__(self, caller: LoadCaller) -> None:
        self.caller, self.load, self.loop = caller, caller.load, caller.load.loop
        self.turn: TalkTurn | None = None
        self.turns: list[TalkTurn] = []
        self._left = 1  # sentences to be heard until the caller speaks
        self._cut_in = 0.0
        self._item = ""

    def on_heard(self) -> None:
        """Have heard a sentence to its end."""
        self._left -= 1
        if self._left == 0:
            self.loop.at(now() + script.PAUSE, self.speak)

    def speak(self) -> None:
        """Begin to speak."""
        session = self.load.sessions.get(self.caller.number)
        if self.caller.over or self.load.talks_on or not session:
            return
        self._item = f"item_{self.caller.number:010x}{len(self.turns):014x}"
        session.hear_speech_begin(self._item)
        self.loop.at(now() + script.SPEECH, self._fall_silent)

    def barge_in(self) -> None:
        """Begin to speak while the reply is heard."""
        self._left = 0
        self._cut_in = now()
        self.speak()

    def _fall_silent(self) -> None:
        if not self.caller.over:
            self.load.sessions[self.caller.number].hear_speech_end(self._item)
            self.loop.at(now() + script.TRANSCRIPT, self._say)

    def _say(self) -> None:
        if not self.caller.over:
            words = script.QUESTION.format(len(self.turns))
            self.turn = TalkTurn(len(self.turns), now())
            self.turns.append(self.turn)
            self._left = len(self.turn.sentences)
            self.load.sessions[self.caller.number].transcribe(self._item, words)

    def turn_asked(self, message: str, moment: float) -> TalkTurn:
        """Return the turn that a message to the workflow is about."""
        found = re.findall(r"Question (\d+)", message)
        turn = self.turns[int(found[-1])]
        turn.asked = moment
        return turn

    def on_clear(self, moment: float) -> None:
        """Hear silence."""
        if self._cut_in:
            self.load.records.clear.append(moment - self._cut_in)
            self._cut_in = 0.0

    def end(self) -> None:
        """Hang up; what should have been heard long ago was late."""
        if self.turn and not self.turn.begun and now() - self.turn.said > script.LATE:
            self.turn.late = True
        self.load.records.late += sum(turn.late for turn in self.turns)
