"""The Realtime API over WebSocket, in its GA shape, with ears and a mouth but no intelligence.

Everything here runs on the simulator's event loop. The few methods meant for tests (`close`,
`abort`, `stall`, `inject`, `improvise`) may be called from any thread and return when done.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import itertools
import json
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import WSMsgType, web

from tools.simulator import openai_rules as rules
from tools.simulator.openai_hearing import RATES, SERVER_VAD, TO_PCM, TURN_DETECTION, Listener
from tools.simulator.openai_knobs import SessionClose
from tools.simulator.openai_rules import Blameless, Refusal
from tools.simulator.openai_voice import RealtimeResponse
from tools.simulator.openai_wire import (
    Json,
    halves,
    new_id,
    realtime_message,
)
from tools.simulator.sockets import read_strictly, reset_connection

if TYPE_CHECKING:
    from tools.simulator.openai_server import OpenAISimulator

IMPROVISED = "(improvised)"
MAX_APPEND_BYTES = 15 * 1024 * 1024
MAX_FRAME_BYTES = 32 * 1024 * 1024
MIN_COMMIT_MS = 100

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


class RealtimeSession:
    """One WebSocket connection, from handshake to close, with all that passed over it."""

    def __init__(self, simulator: OpenAISimulator, model: str) -> None:
        self.simulator = simulator
        self.behaviour = simulator.realtime
        self.id = new_id("sess")
        self.received: list[tuple[float, Json]] = []
        self.sent: list[tuple[float, Json]] = []
        self.open = False
        self.close_code: int | None = None
        self.appends = 0
        self.transcripts: list[str] = []
        self.responses: list[RealtimeResponse] = []
        self.items: dict[str, Json] = {}
        self.conversation_id = new_id("conv")
        self.config: Json = _default_session(model)
        self.listener = Listener(RATES["audio/pcm"])
        self._socket = web.WebSocketResponse(
            max_msg_size=MAX_FRAME_BYTES, compress=False, timeout=2.0, autoping=False
        )
        self.transport: asyncio.Transport | None = None
        self._outbox: asyncio.Queue[_Frame | SessionClose] = asyncio.Queue()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._speech_item = ""
        self._speech_ended_ms = 0
        self._transcribed = asyncio.Event()
        self._oddities = itertools.cycle(ODDITIES)
        self._events_sent = 0

    # ------------------------------------------------------------ for tests, from any thread

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the WebSocket from OpenAI's side, after everything already queued was sent."""
        self.simulator.on_loop(lambda: self._outbox.put_nowait(SessionClose(code, reason)))

    def abort(self) -> None:
        """Reset the TCP connection."""
        self.simulator.on_loop(lambda: reset_connection(self.transport))

    def stall(self, on: bool = True) -> None:
        """Stay open, but send and read nothing more (not even pings) until stall(False)."""
        self.simulator.on_loop(self._flowing.clear if on else self._flowing.set)

    def inject(self, frame: Json | str | bytes) -> None:
        """Send the client a frame of the test's making: an event, any text, or a binary frame."""
        raw = json.dumps(frame) if isinstance(frame, dict) else frame
        self.simulator.on_loop(lambda: self._outbox.put_nowait(_Frame(raw)))

    def inject_wire(self, data: bytes) -> None:
        """Write bytes between the WebSocket frames, so that their framing is broken."""
        assert self.transport is not None
        self.simulator.on_loop(partial(self.transport.write, data))

    def improvise(self, text: str = IMPROVISED) -> None:
        """Start a response nobody asked for, in the default conversation."""
        self.simulator.on_loop(lambda: self._start(RealtimeResponse(self, {}, text)))

    def events(self, kind: str) -> list[Json]:
        """List the received events of one type."""
        return [event for _, event in list(self.received) if event.get("type") == kind]

    def sent_events(self, kind: str) -> list[Json]:
        """List the sent events of one type."""
        return [event for _, event in list(self.sent) if event.get("type") == kind]

    # ------------------------------------------------------------ the connection

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Complete the handshake and serve the connection to its end."""
        await self._socket.prepare(request)
        assert isinstance(request.transport, asyncio.Transport)
        self.transport = request.transport
        self._read_strictly(request)
        self.open = True
        self.simulator.sessions.append(self)
        self._greet(request)
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write())
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            reader.cancel()
            if writer.done() and not writer.exception():
                await asyncio.wait({reader})
                code, reason = writer.result()
                await self._socket.close(code=code, message=reason.encode())
        finally:
            self.open = False
            self.close_code = self._socket.close_code
            for task in {reader, writer, *self._tasks}:
                task.cancel()
            _discard_exceptions(await asyncio.gather(reader, writer, return_exceptions=True))
            self.simulator.touch()
        return self._socket

    def _read_strictly(self, request: web.Request) -> None:
        def refuse(fault: str) -> None:
            self.simulator.refuse("Realtime", Refusal(fault, code=None, status=1002))
            reset_connection(self.transport)

        read_strictly(request.protocol, refuse, masked=True)

    def _greet(self, request: web.Request) -> None:
        model = self.config["model"]
        if self.behaviour.accept_but_stall:
            self._flowing.clear()
        if "realtime=v1" in request.headers.get("OpenAI-Beta", ""):
            self._refuse_beta()
        elif not model:
            self._refuse_connection(rules.missing("model"))
        elif self.behaviour.model_is_gone:
            self._refuse_connection(_no_such_model(model, Blameless))
        elif model not in rules.REALTIME_MODELS:
            self._refuse_connection(_no_such_model(model, Refusal))
        else:
            self._welcome()

    def _welcome(self) -> None:
        knobs = self.behaviour
        self.emit("session.created", session=self.config)
        if knobs.session_seconds is not None:
            self.spawn(self._expire(knobs.session_seconds))
        close = knobs.close_connections.pop(0) if knobs.close_connections else knobs.close_all
        if close:
            self._outbox.put_nowait(close)

    def _refuse_connection(self, fault: Refusal) -> None:
        self._error(fault, None)
        self._outbox.put_nowait(SessionClose(4000, f"invalid_request_error.{fault.code}"))

    def _refuse_beta(self) -> None:
        message = (
            "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API."
        )
        self._refuse_connection(Refusal(message, code="beta_api_shape_disabled"))

    async def _expire(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        message = "Your session hit the maximum duration of 60 minutes."
        self.emit("error", error=_error(Refusal(message, code="session_expired"), None))
        self._outbox.put_nowait(SessionClose(1001, "session_expired"))

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
                await self._socket.send_bytes(frame.raw)
            else:
                await self._socket.send_str(frame.raw)
            if frame.event is not None:
                self.simulator.touch()

    async def _read(self) -> None:
        """Take events until the client closes or the connection is lost."""
        while True:
            message = await self._socket.receive()
            await self._flowing.wait()
            if message.type is WSMsgType.TEXT:
                self._take(message.data)
            elif message.type is WSMsgType.BINARY:
                self._error(Refusal("Binary frames are not supported.", code="invalid_event"), None)
            elif message.type is WSMsgType.PING:
                await self._socket.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                return

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.simulator.spawn(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def emit(self, kind: str, **fields: Any) -> None:
        """Send one server event."""
        if self.behaviour.mute:
            return
        event = {"type": kind, "event_id": new_id("event"), **fields}
        raw = json.dumps(event)
        is_audio = kind == "response.output_audio.delta"
        # Sessions and items go on changing after this: what is kept is what went over the wire.
        kept = event if is_audio else json.loads(raw)
        keeps = self.behaviour.keep_audio_events or not is_audio
        self._outbox.put_nowait(_Frame(raw, kept if keeps else None))
        self._events_sent += 1
        if self.behaviour.chatter and self._events_sent % self.behaviour.chatter == 0:
            self._outbox.put_nowait(_Frame(next(self._oddities)))

    # ------------------------------------------------------------ client events

    def _take(self, text: str) -> None:
        now = time.monotonic()
        try:
            event = json.loads(text)
        except (ValueError, RecursionError):
            return self._error(
                Refusal("Could not parse the event as JSON.", code="invalid_json"), None
            )
        audio = _plain_append(event)
        if audio is None or self.behaviour.keep_audio_events:
            self.received.append((now, event))
        self.simulator.touch()
        try:
            if audio is not None:
                return self._append(audio)
            if isinstance(event, dict) and rules.beta_shaped(event):
                return self._refuse_beta()
            kind = rules.check_client_event(event)
            return _HANDLERS[kind](self, event)
        except Refusal as fault:
            return self._error(fault, event)

    def _error(self, fault: Refusal, event: object) -> None:
        source = event if isinstance(event, dict) else {}
        self.simulator.refuse(f"realtime {source.get('type', 'connection')}", fault)
        self.emit("error", error=_error(fault, source.get("event_id")))

    def on_session_update(self, event: Json) -> None:
        if self.behaviour.take("reject_updates"):
            raise _server_error()
        update = event["session"]
        merged = _merge_session(self.config, update)
        if update.get("model", self.config["model"]) != self.config["model"]:
            raise rules.invalid("session.model", "the model of a session can't be changed.")
        rules.check_session(merged)
        if merged["audio"]["output"]["voice"] != self._voice and self._has_spoken:
            raise Refusal(
                "Cannot update a conversation's voice if assistant audio is present.",
                code="cannot_update_voice",
                param="session.audio.output.voice",
            )
        rate = RATES[merged["audio"]["input"]["format"]["type"]]
        if rate != self.listener.rate:
            self.listener = Listener(rate, self.listener.now_ms)
        self.config = merged
        if self.behaviour.confirm_updates:
            self.spawn(self._confirm_update())

    async def _confirm_update(self) -> None:
        config = self.config
        if self.behaviour.updated_delay:
            await asyncio.sleep(self.behaviour.updated_delay)
        self.emit("session.updated", session=config)

    @property
    def _voice(self) -> Any:
        return self.config["audio"]["output"]["voice"]

    @property
    def _has_spoken(self) -> bool:
        return any(response.audio_ms for response in self.responses)

    @property
    def _turns(self) -> Json | None:
        turns: Json | None = self.config["audio"]["input"]["turn_detection"]
        return turns

    def on_append(self, event: Json) -> None:
        self._append(event["audio"])

    def _append(self, audio: str) -> None:
        try:
            data = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError) as fault:
            message = f"expected base64-encoded audio bytes ({fault})."
            raise rules.invalid("audio", message) from fault
        if not data:
            raise rules.invalid("audio", "no audio bytes in it.")
        if len(data) > MAX_APPEND_BYTES:
            raise rules.invalid("audio", "more than 15 MiB.")
        codec = self.config["audio"]["input"]["format"]["type"]
        if codec == "audio/pcm" and len(data) % 2:
            raise rules.invalid("audio", "16-bit PCM has an even number of bytes.")
        self.appends += 1
        turns = self._turns
        for found, ms in self.listener.feed(TO_PCM[codec](data), turns):
            if found == "started":
                self._speech_started(ms)
            elif self.behaviour.hear_ends:
                self._speech_stopped(ms)
        if turns and turns.get("idle_timeout_ms"):
            self._watch_idleness(turns["idle_timeout_ms"])

    def _speech_started(self, ms: int) -> None:
        self._speech_item = new_id("item")
        self.emit("input_audio_buffer.speech_started", audio_start_ms=ms, item_id=self._speech_item)
        active = self._active_response()
        if active and self._turns and self._turns["interrupt_response"]:
            active.cancel("turn_detected")

    def _speech_stopped(self, ms: int) -> None:
        self._speech_ended_ms = ms
        self.emit("input_audio_buffer.speech_stopped", audio_end_ms=ms, item_id=self._speech_item)
        self._commit(self._speech_item)
        if self._turns and self._turns["create_response"]:
            self._respond_by_itself()

    def _watch_idleness(self, timeout_ms: int) -> None:
        now = self.listener.now_ms
        if self.listener.speaking or self._active_response():
            self._speech_ended_ms = now
        elif now - self._speech_ended_ms >= timeout_ms:
            start, self._speech_ended_ms = self._speech_ended_ms, now
            item_id = new_id("item")
            self.emit(
                "input_audio_buffer.timeout_triggered",
                audio_start_ms=start,
                audio_end_ms=now,
                item_id=item_id,
            )
            self._commit(item_id)
            self._respond_by_itself()

    def _respond_by_itself(self) -> None:
        if not self._active_response():
            self._start(RealtimeResponse(self, {}, IMPROVISED))

    def on_commit(self, event: Json) -> None:
        if self.listener.buffered_ms < MIN_COMMIT_MS:
            raise Refusal(
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of"
                f" audio, but buffer only has {self.listener.buffered_ms:.2f}ms of audio.",
                code="input_audio_buffer_commit_empty",
            )
        self._commit(self._speech_item if self.listener.speaking else new_id("item"))

    def on_clear(self, event: Json) -> None:
        self.listener.take()
        self.emit("input_audio_buffer.cleared")

    def on_output_clear(self, event: Json) -> None:
        raise rules.invalid("type", "output_audio_buffer.clear exists on WebRTC and SIP only.")

    def _commit(self, item_id: str) -> None:
        previous = next(reversed(self.items), None)
        recording, rate = self.listener.take(), self.listener.rate
        self.emit("input_audio_buffer.committed", item_id=item_id, previous_item_id=previous)
        part = {"type": "input_audio", "transcript": None}
        self.add_item(realtime_message(item_id, "user", "completed", [part]), done=True)
        config = self.config["audio"]["input"]["transcription"]
        if config:
            self.spawn(self._transcribe(item_id, recording, rate, config))

    async def _transcribe(self, item_id: str, pcm16: bytes, rate: int, config: Json) -> None:
        knobs = self.behaviour
        scripted = knobs.next_transcripts.pop(0) if knobs.next_transcripts else None
        fails, lost = knobs.take("fail_transcripts"), knobs.take("lose_transcripts")
        held, repeated = knobs.take("hold_transcripts"), knobs.take("repeat_transcripts")
        pinned = rules.pinned_languages(config)
        another_is_out = self._transcribed  # taken now: the other may be out before this is heard
        loop = asyncio.get_running_loop()
        heard = await loop.run_in_executor(None, self.simulator.ears.hear, pcm16, rate)
        if not pinned and knobs.unpinned_transcript is not None:
            heard = knobs.unpinned_transcript
        words = heard if scripted is None else scripted
        await asyncio.sleep(knobs.transcript_delay)
        if lost:
            return
        if held:
            await another_is_out.wait()
        kind = "conversation.item.input_audio_transcription"
        where = {"item_id": item_id, "content_index": 0}
        if fails:
            error = {
                "type": "transcription_error",
                "code": "audio_unintelligible",
                "message": "The audio could not be transcribed.",
                "param": None,
            }
            return self.emit(f"{kind}.failed", **where, error=error)
        for piece in halves(words):
            self.emit(f"{kind}.delta", **where, delta=piece)
        if item_id in self.items:
            self.items[item_id]["content"][0]["transcript"] = words
        self.transcripts.append(words)
        extra = {}
        if config["model"] == "gpt-transcribe":
            extra["languages"] = [{"code": code} for code in pinned[:1] if words]
        seconds = len(pcm16) / 2 / rate
        usage = {
            "type": "tokens",
            "input_tokens": int(seconds * 10),
            "output_tokens": len(words) // 4,
            "total_tokens": int(seconds * 10) + len(words) // 4,
            "input_token_details": {"audio_tokens": int(seconds * 10), "text_tokens": 0},
        }
        for _ in range(2 if repeated else 1):
            self.emit(f"{kind}.completed", **where, transcript=words, usage=usage, **extra)
        if not held:
            self._transcribed.set()
            self._transcribed = asyncio.Event()

    # ------------------------------------------------------------ items of the default conversation

    def add_item(self, item: Json, *, done: bool, after: str | None = None) -> None:
        order = list(self.items)
        position = len(order) if after is None else 0 if after == "root" else order.index(after) + 1
        previous = order[position - 1] if position else None
        order.insert(position, item["id"])
        self.items[item["id"]] = item
        self.items = {item_id: self.items[item_id] for item_id in order}
        self.emit("conversation.item.added", item=item, previous_item_id=previous)
        if done:
            self.emit("conversation.item.done", item=item, previous_item_id=previous)

    def on_item_create(self, event: Json) -> None:
        item, after = dict(event["item"]), event.get("previous_item_id")
        rules.check_item(item, "item")
        if after not in (None, "root") and after not in self.items:
            raise _unknown_item(after, "previous_item_id", "create")
        item.setdefault("id", new_id("item"))
        if item["id"] in self.items:
            raise rules.invalid("item.id", f"item {item['id']!r} exists already.")
        item["status"], item["object"] = "completed", "realtime.item"
        self.add_item(item, done=True, after=after)

    def on_item_delete(self, event: Json) -> None:
        if self.items.pop(event["item_id"], None) is None:
            raise _unknown_item(event["item_id"], "item_id", "delete")
        self.emit("conversation.item.deleted", item_id=event["item_id"])

    def on_item_retrieve(self, event: Json) -> None:
        if event["item_id"] not in self.items:
            raise _unknown_item(event["item_id"], "item_id", "retrieve")
        self.emit("conversation.item.retrieved", item=self.items[event["item_id"]])

    def on_item_truncate(self, event: Json) -> None:
        item = self.items.get(event["item_id"])
        if item is None:
            raise _unknown_item(event["item_id"], "item_id", "truncate")
        if item.get("role") != "assistant":
            raise rules.invalid("item_id", "only assistant messages can be truncated.")
        if event["content_index"] != 0:
            raise rules.invalid("content_index", "there is no such content part.")
        audio_ms = next((r.audio_ms for r in self.responses if r.item_id == event["item_id"]), 0)
        if not 0 <= event["audio_end_ms"] <= audio_ms:
            raise rules.invalid("audio_end_ms", f"the audio is {audio_ms} ms long.")
        item["content"][0].pop("transcript", None)
        self.emit(
            "conversation.item.truncated",
            **{name: event[name] for name in ("item_id", "content_index", "audio_end_ms")},
        )

    # ------------------------------------------------------------ responses

    def on_response_create(self, event: Json) -> None:
        parameters = event.get("response", {})
        rules.check_response(parameters)
        self._check_references(parameters.get("input") or [])
        if self.behaviour.take("reject_responses"):
            raise _server_error()
        if self.behaviour.take("ignore_responses"):
            return
        in_default = parameters.get("conversation", "auto") == "auto"
        active = self._active_response()
        if in_default and active:
            raise Refusal(
                f"Conversation already has an active response in progress: {active.id}. Wait until"
                " the response is finished before creating a new one.",
                code="conversation_already_has_active_response",
            )
        asked = (parameters.get("audio") or {}).get("output") or {}
        voice = asked.get("voice", self._voice)
        if voice != self._voice and self._has_spoken:
            raise Refusal(
                "Cannot update a conversation's voice if assistant audio is present.",
                code="cannot_update_voice",
                param="response.audio.output.voice",
            )
        self._start(RealtimeResponse(self, parameters, self._words_for(parameters)))

    def _check_references(self, items: list[Json]) -> None:
        for index, item in enumerate(items):
            if item.get("type") == "item_reference" and item["id"] not in self.items:
                raise _unknown_item(item["id"], f"response.input[{index}].id", "reference")

    def _words_for(self, parameters: Json) -> str:
        """Read the last text of the input aloud if told what to do; anything else is improvised."""
        texts = [
            part["text"]
            for item in parameters.get("input") or []
            for part in item.get("content", [])
            if part.get("type") == "input_text"
        ]
        if not texts or not (parameters.get("instructions") or self.config["instructions"]):
            return IMPROVISED
        drift = self.behaviour.drift
        return drift(texts[-1]) if drift else str(texts[-1])

    def on_response_cancel(self, event: Json) -> None:
        asked = event.get("response_id")
        meant = [r for r in self.responses if (r.id == asked if asked else r.in_default)]
        target = next((response for response in meant if not response.over), None)
        if target is None:
            # One that has just ended is a race; one that never was is a mistake, and so is a cancel
            # without an id when only out-of-band responses exist.
            which = f" with id {asked}" if asked else ""
            raise (Blameless if meant else Refusal)(
                f"Cancellation failed: no active response found{which}.",
                code="response_cancel_not_active",
                param="response_id" if asked else None,
            )
        target.cancel("client_cancelled")

    def _start(self, response: RealtimeResponse) -> None:
        self.responses.append(response)
        self.spawn(response.run())

    def _active_response(self) -> RealtimeResponse | None:
        """Find the response that is writing to the default conversation."""
        return next((r for r in self.responses if r.in_default and not r.over), None)


def _discard_exceptions(outcomes: Iterable[Any]) -> None:
    """Let a lost connection pass; anything else that ends one is a bug of the simulator."""
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, ConnectionError):
            raise outcome


def _plain_append(event: object) -> str | None:
    """Return the audio of a plainly valid append: the one event that comes 50 times a second."""
    if (
        isinstance(event, dict)
        and event.get("type") == "input_audio_buffer.append"
        and isinstance(audio := event.get("audio"), str)
        and (len(event) == 2 or (len(event) == 3 and isinstance(event.get("event_id"), str)))
    ):
        return audio
    return None


def _error(fault: Refusal, event_id: str | None) -> Json:
    return {**fault.body(), "event_id": event_id}


def _server_error() -> Refusal:
    message = "The server had an error while processing your request. Sorry about that!"
    return Blameless(message, code="server_error", kind="server_error")


def _no_such_model(model: str, kind: type[Refusal]) -> Refusal:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return kind(message, code="model_not_found", param="model")


def _unknown_item(item_id: object, param: str, verb: str) -> Refusal:
    message = f"Error with item id {item_id!r}: the item does not exist."
    return Refusal(message, code=f"item_{verb}_invalid_item_id", param=param)


def _default_session(model: str) -> Json:
    return {
        "type": "realtime",
        "model": model,
        "output_modalities": ["audio"],
        "instructions": "",
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "include": None,
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": dict(SERVER_VAD),
            },
            "output": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "voice": "alloy",
                "speed": 1.0,
            },
        },
    }


def _merge_session(current: Json, update: Json) -> Json:
    """Return the session with an update's fields; formats are replaced, the rest is merged."""
    merged = json.loads(json.dumps(current))
    _merge_into(merged, json.loads(json.dumps(update)))  # what was received stays on record
    turns = merged["audio"]["input"]["turn_detection"]
    if turns is not None:
        defaults = TURN_DETECTION[turns["type"]]
        known = {name: value for name, value in turns.items() if name in defaults}
        merged["audio"]["input"]["turn_detection"] = {**defaults, **known}
    noise = merged["audio"]["input"]["noise_reduction"]
    if noise is not None:
        noise.setdefault("strength", 1)
    return dict(merged)


def _merge_into(target: Json, update: Json) -> None:
    for name, value in update.items():
        if name != "format" and isinstance(value, dict) and isinstance(target.get(name), dict):
            _merge_into(target[name], value)
        else:
            target[name] = value


_HANDLERS: dict[str, Callable[[RealtimeSession, Json], None]] = {
    "session.update": RealtimeSession.on_session_update,
    "input_audio_buffer.append": RealtimeSession.on_append,
    "input_audio_buffer.commit": RealtimeSession.on_commit,
    "input_audio_buffer.clear": RealtimeSession.on_clear,
    "output_audio_buffer.clear": RealtimeSession.on_output_clear,
    "conversation.item.create": RealtimeSession.on_item_create,
    "conversation.item.delete": RealtimeSession.on_item_delete,
    "conversation.item.retrieve": RealtimeSession.on_item_retrieve,
    "conversation.item.truncate": RealtimeSession.on_item_truncate,
    "response.create": RealtimeSession.on_response_create,
    "response.cancel": RealtimeSession.on_response_cancel,
}
