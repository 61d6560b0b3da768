"""Twilio's end of one Media Stream: what it sends to the app, and what it does with the answers."""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from tools.simulator.media_messages import CONNECTED, BadMessage, Uplink, check_message
from tools.simulator.media_socket import (
    CONNECTION_REFUSED,
    MediaSocket,
    NoConnection,
    open_socket,
)
from tools.simulator.playback import Mark, Playback

if TYPE_CHECKING:
    from tools.simulator.twilio_call import Call

MAX_UNSENT = 30 * 50  # frames that wait for an app that does not read; then they are skipped

INVALID_MESSAGE = 31951
PROTOCOL_ERROR = 31924
CLOSED_BY_APP = 31921


@dataclass
class StreamFaults:
    """How a stream misbehaves from its first message on."""

    stop_before_start: bool = False
    without_start: bool = False
    start: dict[str, Any] = field(default_factory=dict)  # overrides inside the start message
    pause_sending: bool = False
    lost_marks: int = 0  # how many of the first marks never come back


class MediaStream:
    """One stream of one call. Runs on the network's loop; the fault methods are thread-safe."""

    def __init__(self, call: Call, url: str, parameters: dict[str, str]) -> None:
        self.call = call
        self.url = url
        self.parameters = parameters
        self.sid = "MZ" + secrets.token_hex(16)
        self.open = False
        self.started_at = 0.0  # time.monotonic() of the start message
        self.closed_by = ""  # "app" | "network" | "break"
        self.close_code: int | None = None
        self._playback = Playback()
        self._uplink = Uplink(self.sid)
        self._marks_to_lose = 0
        self._socket: MediaSocket | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def marks(self) -> list[Mark]:
        """Every mark that the app has sent."""
        return self._playback.marks

    @property
    def buffered_ms(self) -> int:
        """How much sound waits to be played."""
        return self._playback.buffered_ms

    @property
    def unsent(self) -> int:
        """How many messages to the app wait: it does not read, or `pause_sending` holds them."""
        return self._socket.unsent if self._socket else 0

    @property
    def frames_sent(self) -> list[float]:
        """When each of the caller's frames left: time.monotonic()."""
        return self._socket.frames_sent if self._socket else []

    # The life of the stream, on the loop

    async def run(self) -> None:
        """Connect, stream, and return when the app's side has ended the stream."""
        try:
            self._socket = await self._connect()
        except NoConnection as error:
            self._fail(error.code, str(error))
            return
        if self.call.abandoned:  # `wait_for` may have swallowed the cancellation
            raise asyncio.CancelledError
        self.open = True
        self.call.note("stream_connected", sid=self.sid, url=self.url)
        self._socket.read_strictly(self._on_broken_frame)
        self._reader = asyncio.create_task(self._read(self._socket))
        self._begin(self._socket)
        await asyncio.wait([self._reader])  # never cancels it: aiohttp would then close rudely
        self.open = False
        self._reader.result()

    async def _connect(self) -> MediaSocket:
        network, setup = self.call.network, self.call.setup
        headers = {"User-Agent": "Twilio.TmeWs/1.0", **setup.extra_headers}
        signature = setup.stream_signature
        if signature == "auto":
            signature = network.signature(self.url, {})
        if signature is not None:
            headers["x-twilio-signature"] = signature
        local = network.to_local(self.url)
        if local is None:
            self.call.refuse(f"<Stream> to {self.url}, which isn't the app's public address")
            text = f"{self.url} is not the app's public address"
            raise NoConnection(CONNECTION_REFUSED, text)
        return MediaSocket(await open_socket(network.session, local, headers))

    def _begin(self, socket: MediaSocket) -> None:
        faults, self.call.faults = self.call.faults, StreamFaults()
        if not faults.pause_sending:
            socket.sending.set()
        self._marks_to_lose = faults.lost_marks
        socket.put(CONNECTED)
        if faults.stop_before_start:
            self._send_stop()
        self.started_at = time.monotonic()
        if not faults.without_start:
            self._send_start(faults.start)

    def _send_start(self, changes: dict[str, Any]) -> None:
        start = {
            "accountSid": self.call.account_sid,
            "streamSid": self.sid,
            "callSid": self.call.sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": self.parameters,
            **changes,
        }
        self._send("start", start=start)
        self.call.note("start", sid=self.sid, parameters=self.parameters)

    def _send_stop(self) -> None:
        stop = {"accountSid": self.call.account_sid, "callSid": self.call.sid}
        self._send("stop", stop=stop)

    async def leave(self) -> None:
        """End the stream from Twilio's side, if it is still there: `stop`, then close."""
        if not self._socket:
            return
        if not self._socket.closed and not self.closed_by:
            self.open, self.closed_by = False, "network"
            self._send_stop()
            await self._socket.flush()
            self.call.note("stream_stopped", sid=self.sid)
        self.open = False
        await self._socket.close()
        if self._reader:
            self._reader.cancel()

    def tick(self, frame: bytes) -> bytes:
        """Send 20 ms of the caller and return 20 ms or less of what the caller hears."""
        audio, marks = self._playback.next_frame()
        self._return(marks)
        if self._socket:
            crowded = self._socket.unsent > MAX_UNSENT
            for message in self._uplink.frames(frame, crowded=crowded):
                self._socket.put(message, is_frame=True)
        return audio

    def press(self, digit: str) -> None:
        """Tell the app of a key."""
        dtmf = {"track": "inbound_track", "digit": digit}
        self._send("dtmf", dtmf=dtmf)

    def _send(self, event: str, **body: Any) -> None:
        if self._socket:
            self._socket.put(self._uplink.event(event, **body))

    # What the app sends

    async def _read(self, socket: MediaSocket) -> None:
        while True:
            kind, data = await socket.receive()
            if kind is aiohttp.WSMsgType.TEXT:
                if not self._take(data):
                    return
            elif kind is aiohttp.WSMsgType.BINARY:
                self._object(INVALID_MESSAGE, f"a binary message of {len(data)} bytes")
                return
            else:
                self._on_end(kind, data)
                return

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

    def _on_broken_frame(self, fault: str) -> None:
        self._object(PROTOCOL_ERROR, fault)

    def _take(self, text: str) -> bool:
        """Do what a message asks; tell whether the stream goes on."""
        if self.closed_by:
            return True  # it may not have seen our `stop` yet
        try:
            event, value = check_message(text, self.sid)
            _HANDLERS[event](self, value)
        except BadMessage as error:
            self._object(INVALID_MESSAGE, f"{error} in {text[:120]!r}")
            return False
        return True

    def on_media(self, payload: str) -> None:
        try:
            audio = base64.b64decode(payload, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadMessage(f"media.payload is not base64: {error}") from error
        dropped = self._playback.add(audio)
        self.call.note("media_received", ms=len(audio) / 8)
        if dropped:
            self.call.note("media_dropped", ms=dropped / 8)

    def on_mark(self, name: str) -> None:
        self.call.note("mark_received", name=name)
        self._return(self._playback.mark(name))

    def on_clear(self, _: str) -> None:
        self.call.note("clear", ms=self.buffered_ms)
        self._return(self._playback.clear())

    def _return(self, marks: list[Mark]) -> None:
        for mark in marks:
            if self._marks_to_lose:
                self._marks_to_lose -= 1
                self.call.note("mark_lost", name=mark.name)
            else:
                self._send("mark", mark={"name": mark.name})
                how = "played" if mark.played else "cleared"
                self.call.note("mark_sent_back", name=mark.name, how=how)

    def _object(self, code: int, text: str) -> None:
        self.closed_by = "network"
        self.call.refuse(f"stream: {text}")
        self._fail(code, text)

    def _fail(self, code: int, text: str) -> None:
        self.call.note("stream_error", code=code, text=text)

    # Faults, from any thread

    def send(self, event: str, **body: Any) -> None:
        """Send the app an event of Twilio's at a time of the test's own."""
        self._on_loop(lambda: self._send(event, **body))

    def inject(self, data: str | bytes) -> None:
        """Send the app one text or binary message of the test's own."""
        socket = self._connected()
        self._on_loop(lambda: socket.put(data))

    def inject_raw(self, data: bytes) -> None:
        """Write bytes to the TCP connection, past the WebSocket framing."""
        socket = self._connected()
        self._on_loop(lambda: socket.transport.write(data))

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        self._on_loop(self._connected().reset)

    def close(self, code: int = 1000) -> None:
        """Close the socket without a `stop`, as a failing media server does."""
        socket = self._connected()

        async def close() -> None:
            self.closed_by = "network"
            await socket.close(code)

        self.call.network.run(close())

    def stall_reading(self, on: bool = True) -> None:
        """Read nothing more from the socket (or go on)."""
        socket = self._connected()
        self._on_loop(lambda: socket.stall_reading(on))

    def pause_sending(self, on: bool = True) -> None:
        """Hold back everything towards the app; when let go, it arrives in one burst."""
        sending = self._connected().sending
        self._on_loop(sending.clear if on else sending.set)

    def skip_frames(self, frames: int) -> None:
        """Leave out the caller's next frames; the timestamps jump."""

        def skip() -> None:
            self._uplink.frames_to_skip += frames

        self._on_loop(skip)

    def repeat_frames(self, frames: int) -> None:
        """Send each of the caller's next frames twice."""

        def repeat() -> None:
            self._uplink.frames_to_repeat += frames

        self._on_loop(repeat)

    def lose_marks(self, count: int = 1) -> None:
        """Never send back the next marks that are due, whether played or cleared."""

        def lose() -> None:
            self._marks_to_lose += count

        self._on_loop(lose)

    def _connected(self) -> MediaSocket:
        assert self._socket, "the stream is not connected"
        return self._socket

    def _on_loop(self, action: Callable[[], None]) -> None:
        self.call.network.on_loop(action)


_HANDLERS: dict[str, Callable[[MediaStream, str], None]] = {
    "media": MediaStream.on_media,
    "mark": MediaStream.on_mark,
    "clear": MediaStream.on_clear,
}
