"""Twilio's end of one Media Stream: the socket to the app, the playback buffer, the marks."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import secrets
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from tools.simulator.openai_wire import StrictFrames

if TYPE_CHECKING:
    from tools.simulator.twilio_network import Call

    Socket = aiohttp.ClientWebSocketResponse[bool]

FRAME = 160  # bytes of mulaw in 20 ms
SILENCE = b"\xff" * FRAME
MAX_BUFFERED = 10 * 60 * 8000  # bytes; Twilio drops what is beyond ten minutes
MAX_UNSENT = 30 * 50  # frames that wait for an app that does not read; then they are skipped
HANDSHAKE_SECONDS = 10.0

INVALID_MESSAGE = 31951
PROTOCOL_ERROR = 31924
CLOSED_BY_APP = 31921
HANDSHAKE_REFUSED = 31920
CONNECTION_REFUSED = 31902
CONNECTION_TIMEOUT = 31901


@dataclass
class Mark:
    """A mark of the app's: `played` is None while it waits, False when `clear` returned it."""

    name: str
    position: int
    played: bool | None = None


class Playback:
    """What waits to be played to the caller, in bytes of 8 kHz mulaw. Has no clock of its own."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self._audio = bytearray()
        self._pending: deque[Mark] = deque()
        self._taken = 0  # bytes handed out to be played
        self._finished = 0  # bytes whose playing is over

    @property
    def buffered_ms(self) -> int:
        return len(self._audio) // 8

    def add(self, audio: bytes) -> int:
        """Append audio; return how many bytes were dropped because ten minutes are waiting."""
        room = max(0, MAX_BUFFERED - len(self._audio))
        self._audio += audio[:room]
        return max(0, len(audio) - room)

    def mark(self, name: str) -> list[Mark]:
        """Append a mark; return it if nothing is left to play before it."""
        mark = Mark(name, self._taken + len(self._audio))
        self.marks.append(mark)
        self._pending.append(mark)
        return self._due()

    def next_frame(self) -> tuple[bytes, list[Mark]]:
        """Return the audio of the next 20 ms (it may be short) and the marks now passed."""
        self._finished = self._taken
        audio = bytes(self._audio[:FRAME])
        del self._audio[:FRAME]
        self._taken += len(audio)
        return audio, self._due()

    def clear(self) -> list[Mark]:
        """Forget everything unplayed; return the marks that waited."""
        self._audio.clear()
        cleared = list(self._pending)
        self._pending.clear()
        for mark in cleared:
            mark.played = False
        return cleared

    def _due(self) -> list[Mark]:
        due = []
        while self._pending and self._pending[0].position <= self._finished:
            mark = self._pending.popleft()
            mark.played = True
            due.append(mark)
        return due


@dataclass
class StreamFaults:
    """How a stream misbehaves from its first message on."""

    stop_before_start: bool = False
    without_start: bool = False
    start: dict[str, Any] = field(default_factory=dict)  # overrides inside the start message
    pause_sending: bool = False
    lost_marks: int = 0  # how many of the first marks never come back


class BadMessage(Exception):
    """A message that Twilio does not accept."""


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
    if not inner:
        return event, ""
    body = message[inner]
    if not isinstance(body, dict) or body.keys() != {name}:
        raise BadMessage(f"{event}.{inner} must be an object with {name!r} alone")
    if not isinstance(body[name], str) or not body[name]:
        raise BadMessage(f"{event}.{inner}.{name} must be a string that isn't empty")
    return event, body[name]


@dataclass
class _Outgoing:
    data: str | bytes
    is_frame: bool = False


class MediaStream:
    """One stream of one call. Runs on the network's loop; the fault methods are thread-safe."""

    def __init__(self, call: Call, url: str, parameters: dict[str, str]) -> None:
        self.call = call
        self.url = url
        self.parameters = parameters
        self.sid = "MZ" + secrets.token_hex(16)
        self.name = ""
        self.playback = Playback()
        self.open = False
        self.started_at = 0.0  # time.monotonic() of the start message
        self.frames_sent: list[float] = []  # time.monotonic() of each media message
        self.messages_received = 0
        self.closed_by = ""  # "app" | "network" | "break"
        self.close_code: int | None = None
        self._ws: Socket | None = None
        self._outbox: asyncio.Queue[_Outgoing | None] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._may_send = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._sequence = 0
        self._chunk = 0
        self._ticks = 0
        self._skip = 0
        self._repeat = 0
        self._marks_to_lose = 0
        self._answers: dict[str, Callable[[str], None]] = {
            "media": self._on_media,
            "mark": self._on_mark,
            "clear": self._on_clear,
        }

    @property
    def marks(self) -> list[Mark]:
        return self.playback.marks

    @property
    def buffered_ms(self) -> int:
        return self.playback.buffered_ms

    @property
    def unsent(self) -> int:
        """How many messages to the app wait: it does not read, or `pause_sending` holds them."""
        return self._outbox.qsize()

    # The life of the stream, on the loop

    async def run(self) -> None:
        """Connect, stream, and return when the app's side has ended the stream."""
        self._ws = await self._connect()
        if self.call.abandoned:  # `wait_for` may have swallowed the cancellation
            raise asyncio.CancelledError
        if not self._ws:
            return
        self.open = True
        self._read_strictly()
        self.call.note("stream_connected", sid=self.sid, url=self.url)
        self._writer = asyncio.create_task(self._write(self._ws))
        self._reader = asyncio.create_task(self._read(self._ws))
        self._open_conversation()
        await asyncio.wait([self._reader])  # never cancels it: aiohttp would then close rudely
        self.open = False
        self._reader.result()

    async def leave(self) -> None:
        """End the stream from Twilio's side, if it is still there: `stop`, then close."""
        if not self._ws:
            return
        if not self._ws.closed and not self.closed_by:
            self.open, self.closed_by = False, "network"
            stop = {"accountSid": self.call.account_sid, "callSid": self.call.sid}
            self._send("stop", stop=stop)
            self._outbox.put_nowait(None)
            if self._writer and self._may_send.is_set():
                await asyncio.wait([self._writer], timeout=1.0)
            self.call.note("stream_stopped", sid=self.sid)
        self.open = False
        if self._writer:
            self._writer.cancel()
        await self._ws.close()
        if self._reader:
            self._reader.cancel()

    def tick(self, frame: bytes) -> bytes:
        """Send 20 ms of the caller and return 20 ms or less of what the caller hears."""
        audio, marks = self.playback.next_frame()
        self._return(marks)
        self._send_frame(frame)
        self._ticks += 1
        return audio

    def press(self, digit: str) -> None:
        dtmf = {"track": "inbound_track", "digit": digit}
        self._send("dtmf", dtmf=dtmf)

    async def _connect(self) -> Socket | None:
        network = self.call.network
        headers = {"User-Agent": "Twilio.TmeWs/1.0", **self.call.extra_headers}
        signature = self.call.stream_signature
        if signature == "auto":
            signature = network.signature(self.url, {})
        if signature is not None:
            headers["x-twilio-signature"] = signature
        local = network.to_local(self.url)
        if local is None:
            self._fail(CONNECTION_REFUSED, f"{self.url} is not the app's public address")
            self.call.refuse(f"<Stream> to {self.url}, which isn't the app's public address")
            return None
        try:
            ws = await asyncio.wait_for(
                network.session.ws_connect(
                    URL(local, encoded=True),
                    headers=headers,
                    max_msg_size=0,
                    timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
                ),
                HANDSHAKE_SECONDS,
            )
        except aiohttp.WSServerHandshakeError as error:
            self._fail(HANDSHAKE_REFUSED, f"the app answered HTTP {error.status}")
        except (asyncio.TimeoutError, TimeoutError):
            self._fail(CONNECTION_TIMEOUT, "the app did not answer the handshake")
        except (aiohttp.ClientError, OSError) as error:
            self._fail(CONNECTION_REFUSED, f"no connection: {error}")
        else:
            if not ws._response.history:
                return ws
            self._fail(HANDSHAKE_REFUSED, "the app answered with a redirect")
            await ws.close()
        return None

    def _read_strictly(self) -> None:
        def refuse(fault: str) -> None:
            self._object(PROTOCOL_ERROR, fault)
            self._transport().abort()

        protocol: Any = self._transport().get_protocol()
        protocol._payload_parser = StrictFrames(protocol._payload_parser, refuse, masked=False)

    def _open_conversation(self) -> None:
        faults, self.call.faults = self.call.faults, StreamFaults()
        if not faults.pause_sending:
            self._may_send.set()
        self._marks_to_lose = faults.lost_marks
        self._put('{"event":"connected","protocol":"Call","version":"1.0.0"}')
        if faults.stop_before_start:
            stop = {"accountSid": self.call.account_sid, "callSid": self.call.sid}
            self._send("stop", stop=stop)
        self.started_at = time.monotonic()
        if faults.without_start:
            return
        start = {
            "accountSid": self.call.account_sid,
            "streamSid": self.sid,
            "callSid": self.call.sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": self.parameters,
            **faults.start,
        }
        self._send("start", start=start)
        self.call.note("start", sid=self.sid, parameters=self.parameters)

    async def _write(self, ws: Socket) -> None:
        try:
            while (item := await self._outbox.get()) is not None:
                await self._may_send.wait()
                if item.is_frame:
                    self.frames_sent.append(time.monotonic())
                if isinstance(item.data, str):
                    await ws.send_str(item.data)
                else:
                    await ws.send_bytes(item.data)
        except (aiohttp.ClientError, ConnectionError):
            return  # the reader sees the break too, and says so

    async def _read(self, ws: Socket) -> None:
        while True:
            await self._may_read.wait()
            message = await ws.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                if not self._take(message.data):
                    break
            elif message.type is aiohttp.WSMsgType.BINARY:
                self._object(INVALID_MESSAGE, f"a binary message of {len(message.data)} bytes")
                break
            else:
                self._on_end(message.type, message.data)
                break

    def _on_end(self, kind: aiohttp.WSMsgType, data: Any) -> None:
        if self.closed_by:
            return
        if kind is aiohttp.WSMsgType.CLOSE:
            self.closed_by, self.close_code = "app", data
            self._fail(CLOSED_BY_APP, f"the app closed the socket with {data}")
        elif isinstance(data, aiohttp.WebSocketError):
            self._object(PROTOCOL_ERROR, f"not WebSocket: {data}")
        else:
            self.closed_by = "break"
            self._fail(CLOSED_BY_APP, "the connection broke")

    # What the app sends

    def _take(self, text: str) -> bool:
        if self.closed_by:
            return True  # it may not have seen our `stop` yet
        self.messages_received += 1
        try:
            event, value = check_message(text, self.sid)
            self._answers[event](value)
        except BadMessage as error:
            self._object(INVALID_MESSAGE, f"{error} in {text[:120]!r}")
            return False
        return True

    def _on_media(self, payload: str) -> None:
        try:
            audio = base64.b64decode(payload, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadMessage(f"media.payload is not base64: {error}") from error
        dropped = self.playback.add(audio)
        self.call.note("media_received", ms=len(audio) / 8)
        if dropped:
            self.call.note("media_dropped", ms=dropped / 8)

    def _on_mark(self, name: str) -> None:
        self.call.note("mark_received", name=name)
        self._return(self.playback.mark(name))

    def _on_clear(self, _: str) -> None:
        self.call.note("clear", ms=self.buffered_ms)
        self._return(self.playback.clear())

    # What goes to the app

    def _return(self, marks: list[Mark]) -> None:
        for mark in marks:
            if self._marks_to_lose:
                self._marks_to_lose -= 1
                self.call.note("mark_lost", name=mark.name)
                continue
            self._send("mark", mark={"name": mark.name})
            how = "played" if mark.played else "cleared"
            self.call.note("mark_sent_back", name=mark.name, how=how)

    def _send(self, event: str, **body: Any) -> None:
        """Send an event, its keys in Twilio's own order (which differs from event to event)."""
        self._sequence += 1
        values = {"sequenceNumber": str(self._sequence), "streamSid": self.sid, **body}
        message = {"event": event, **{key: values[key] for key in _KEY_ORDER[event]}}
        self._put(json.dumps(message, separators=(",", ":"), ensure_ascii=False))

    def _send_frame(self, frame: bytes) -> None:
        if self._skip:
            self._skip -= 1
            return
        if self._outbox.qsize() > MAX_UNSENT:
            return
        self._chunk += 1
        payload = binascii.b2a_base64(frame, newline=False).decode()
        copies = 2 if self._repeat else 1
        self._repeat -= copies - 1
        for _ in range(copies):
            self._sequence += 1
            text = (
                f'{{"event":"media","sequenceNumber":"{self._sequence}","media":'
                f'{{"track":"inbound","chunk":"{self._chunk}","timestamp":"{self._ticks * 20}",'
                f'"payload":"{payload}"}},"streamSid":"{self.sid}"}}'
            )
            self._outbox.put_nowait(_Outgoing(text, is_frame=True))

    def _put(self, data: str | bytes) -> None:
        self._outbox.put_nowait(_Outgoing(data))

    def _object(self, code: int, text: str) -> None:
        self.closed_by = "network"
        self.call.refuse(f"stream: {text}")
        self._fail(code, text)

    def _fail(self, code: int, text: str) -> None:
        self.call.note("stream_error", code=code, text=text)

    # Faults, from any thread

    def inject(self, data: str | bytes) -> None:
        """Send the app one text or binary message of the test's own."""
        self._on_loop(lambda: self._put(data))

    def inject_raw(self, data: bytes) -> None:
        """Write bytes to the TCP connection, past the WebSocket framing."""
        self._on_loop(lambda: self._transport().write(data))

    def reset(self) -> None:
        """Break the connection with a TCP reset."""

        def reset() -> None:
            transport = self._transport()
            sock: socket.socket = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()

        self._on_loop(reset)

    def close(self, code: int = 1000) -> None:
        """Close the socket without a `stop`, as a failing media server does."""

        async def close() -> None:
            if self._ws:
                self.closed_by = "network"
                await self._ws.close(code=code)

        self.call.network.run(close())

    def stall_reading(self, on: bool = True) -> None:
        """Read nothing more from the socket (or go on)."""

        def stall() -> None:
            transport = self._transport()
            if on:
                self._may_read.clear()
                transport.pause_reading()
            else:
                self._may_read.set()
                transport.resume_reading()

        self._on_loop(stall)

    def pause_sending(self, on: bool = True) -> None:
        """Hold back everything towards the app; when let go, it arrives in one burst."""
        self._on_loop(self._may_send.clear if on else self._may_send.set)

    def skip_frames(self, frames: int) -> None:
        """Leave out the caller's next frames; the timestamps jump."""

        def skip() -> None:
            self._skip += frames

        self._on_loop(skip)

    def lose_marks(self, count: int = 1) -> None:
        """Never send back the next marks that are due, whether played or cleared."""

        def lose() -> None:
            self._marks_to_lose += count

        self._on_loop(lose)

    def repeat_frames(self, frames: int) -> None:
        """Send each of the caller's next frames twice."""

        def repeat() -> None:
            self._repeat += frames

        self._on_loop(repeat)

    def _on_loop(self, action: Callable[[], None]) -> None:
        async def act() -> None:
            action()

        self.call.network.run(act())

    def _transport(self) -> asyncio.Transport:
        assert self._ws is not None, "the stream is not connected"
        connection = self._ws._response.connection  # aiohttp has no public way
        assert connection is not None, "the stream is closed"
        assert isinstance(connection.transport, asyncio.Transport), "the stream is closed"
        return connection.transport


_KEY_ORDER = {
    "start": ("sequenceNumber", "start", "streamSid"),
    "dtmf": ("streamSid", "sequenceNumber", "dtmf"),
    "mark": ("sequenceNumber", "streamSid", "mark"),
    "stop": ("sequenceNumber", "stop", "streamSid"),
}
