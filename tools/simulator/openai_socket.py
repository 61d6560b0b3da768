"""The WebSocket of a Realtime session: events out in order, events in one by one, all on record."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import WSMsgType, web

from tools.simulator.openai_knobs import SessionClose
from tools.simulator.openai_rules import Refusal
from tools.simulator.openai_wire import Json, new_id
from tools.simulator.sockets import read_strictly, reset_connection

if TYPE_CHECKING:
    from tools.simulator.openai_server import OpenAISimulator

MAX_FRAME_BYTES = 32 * 1024 * 1024

# What a client must survive: events of tomorrow, and frames that are no events at all.
ODDITIES: tuple[str | bytes, ...] = (
    '{"type":"conversation.mood.updated","event_id":"event_odd","mood":"sunny"}',
    "not json {",
    '{"type":"response.hologram.delta","event_id":"event_odd","response_id":"resp_odd","delta":"AA"}',
    "[]",
    "null",
    '{"event_id":"event_odd"}',
    '{"type":7}',
    '{"type":"response.done"}',
    '{"type":"input_audio_buffer.speech_stopped"}',
    b"\x00\xff\x00",
    '{"type":"error","event_id":"event_odd","error":null}',
)


class _Frame(NamedTuple):
    raw: str | bytes
    event: Json | None = None


class EventSocket:
    """One WebSocket, from handshake to close. On the simulator's loop, but for the faults."""

    def __init__(self, simulator: OpenAISimulator, take: Callable[[str | bytes], None]) -> None:
        """Pass every text or binary message to `take`."""
        self.received: list[tuple[float, Json]] = []
        self.sent: list[tuple[float, Json]] = []
        self.open = False
        self.close_code: int | None = None
        self.transport: asyncio.Transport | None = None
        self._simulator = simulator
        self._take = take
        self._connection = web.WebSocketResponse(
            max_msg_size=MAX_FRAME_BYTES, compress=False, timeout=2.0, autoping=False
        )
        self._outbox: asyncio.Queue[_Frame | SessionClose] = asyncio.Queue()
        self._flowing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._oddities = itertools.cycle(ODDITIES)
        self._emitted = 0

    async def serve(self, request: web.Request, greet: Callable[[], None]) -> web.WebSocketResponse:
        """Complete the handshake, greet the client, and serve the connection to its end."""
        await self._connection.prepare(request)
        assert isinstance(request.transport, asyncio.Transport)
        self.transport = request.transport
        read_strictly(request.protocol, self._refuse_frame, masked=True)
        self.open = True
        if not self._simulator.realtime.accept_but_stall:
            self._flowing.set()
        greet()
        try:
            await self._pump()
        finally:
            self.open = False
            self.close_code = self._connection.close_code
            for task in tuple(self._tasks):
                task.cancel()
            self._simulator.touch()
        return self._connection

    async def _pump(self) -> None:
        """Read and write until either side ends the connection."""
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write())
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            reader.cancel()
            if writer.done() and not writer.exception():
                await asyncio.wait({reader})
                code, reason = writer.result()
                await self._connection.close(code=code, message=reason.encode())
        finally:
            writer.cancel()
            outcomes = await asyncio.gather(reader, writer, return_exceptions=True)
            _raise_bugs(outcomes)

    def _refuse_frame(self, fault: str) -> None:
        self._simulator.refuse("Realtime", Refusal(fault, code=None, status=1002))
        reset_connection(self.transport)

    async def _write(self) -> SessionClose:
        """Send what is queued, in order, until the connection is to be closed."""
        while True:
            frame = await self._outbox.get()
            await self._flowing.wait()
            if isinstance(frame, SessionClose):
                return frame
            if frame.event is not None:  # first: whoever has received it finds it recorded
                self.sent.append((time.monotonic(), frame.event))
            if isinstance(frame.raw, bytes):
                await self._connection.send_bytes(frame.raw)
            else:
                await self._connection.send_str(frame.raw)
            if frame.event is not None:
                self._simulator.touch()

    async def _read(self) -> None:
        """Take messages until the client closes or the connection is lost."""
        while True:
            message = await self._connection.receive()
            await self._flowing.wait()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                self._take(message.data)
            elif message.type is WSMsgType.PING:
                await self._connection.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                return

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that ends with the connection."""
        task = self._simulator.spawn(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def emit(self, kind: str, **fields: Any) -> None:
        """Send one server event."""
        knobs = self._simulator.realtime
        if knobs.mute:
            return
        event = {"type": kind, "event_id": new_id("event"), **fields}
        raw = json.dumps(event)
        is_audio = kind == "response.output_audio.delta"
        # Sessions and items go on changing after this: what is kept is what went over the wire.
        kept = event if is_audio else json.loads(raw)
        keeps = knobs.keep_audio_events or not is_audio
        self._outbox.put_nowait(_Frame(raw, kept if keeps else None))
        self._emitted += 1
        if knobs.chatter and self._emitted % knobs.chatter == 0:
            self._outbox.put_nowait(_Frame(next(self._oddities)))

    def end(self, close: SessionClose) -> None:
        """Close the WebSocket after everything already queued was sent."""
        self._outbox.put_nowait(close)

    # Faults, from any thread

    def abort(self) -> None:
        """Reset the TCP connection."""
        self._simulator.on_loop(lambda: reset_connection(self.transport))

    def stall(self, on: bool) -> None:
        """Stay open, but send and read nothing more, not even pings; or go on."""
        self._simulator.on_loop(self._flowing.clear if on else self._flowing.set)

    def inject(self, frame: Json | str | bytes) -> None:
        """Send a frame of the test's making: an event, any text, or a binary frame."""
        raw = json.dumps(frame) if isinstance(frame, dict) else frame
        self._simulator.on_loop(lambda: self._outbox.put_nowait(_Frame(raw)))

    def inject_wire(self, data: bytes) -> None:
        """Write bytes between the WebSocket frames, so that their framing is broken."""
        assert self.transport is not None
        self._simulator.on_loop(partial(self.transport.write, data))


def _raise_bugs(outcomes: Iterable[Any]) -> None:
    """Let a lost connection pass; anything else that ends one is a bug of the simulator."""
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, ConnectionError):
            raise outcome
