"""The Realtime API over WebSocket, in its GA shape, with ears and a mouth but no intelligence.

Everything here runs on the simulator's event loop. The few methods meant for tests (`close`,
`abort`, `stall`, `inject`, `improvise`) may be called from any thread and return when done.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tools.simulator import openai_rules as rules
from tools.simulator.openai_ears import SessionEars
from tools.simulator.openai_hearing import SERVER_VAD, TURN_DETECTION
from tools.simulator.openai_items import ConversationItems
from tools.simulator.openai_knobs import RealtimeBehaviour, SessionClose
from tools.simulator.openai_mouth import IMPROVISED, SessionMouth
from tools.simulator.openai_rules import Blameless, Refusal
from tools.simulator.openai_socket import EventSocket
from tools.simulator.openai_voice import RealtimeResponse
from tools.simulator.openai_wire import Json, new_id

if TYPE_CHECKING:
    from tools.simulator.openai_server import OpenAISimulator


class RealtimeSession:
    """One session, with all that passed over its WebSocket."""

    def __init__(self, simulator: OpenAISimulator, model: str) -> None:
        self.simulator = simulator
        self.id = new_id("sess")
        self.conversation_id = new_id("conv")
        self.config: Json = _default_session(model)
        self.socket = EventSocket(simulator, self._take)
        self.ears = SessionEars(self)
        self.mouth = SessionMouth(self)
        self.items = ConversationItems(self)

    # --- for tests, from any thread ---------------------------------------------------------

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the WebSocket from OpenAI's side, after everything already queued was sent."""
        self.simulator.on_loop(lambda: self.socket.end(SessionClose(code, reason)))

    def abort(self) -> None:
        """Reset the TCP connection."""
        self.socket.abort()

    def stall(self, on: bool = True) -> None:
        """Stay open, but send and read nothing more (not even pings) until stall(False)."""
        self.socket.stall(on)

    def inject(self, frame: Json | str | bytes) -> None:
        """Send the client a frame of the test's making: an event, any text, or a binary frame."""
        self.socket.inject(frame)

    def inject_wire(self, data: bytes) -> None:
        """Write bytes between the WebSocket frames, so that their framing is broken."""
        self.socket.inject_wire(data)

    def improvise(self, text: str = IMPROVISED) -> None:
        """Start a response nobody asked for, in the default conversation."""
        self.simulator.on_loop(lambda: self.mouth.start({}, text))

    def events(self, kind: str) -> list[Json]:
        """List the received events of one type."""
        return [event for _, event in list(self.received) if event.get("type") == kind]

    def sent_events(self, kind: str) -> list[Json]:
        """List the sent events of one type."""
        return [event for _, event in list(self.sent) if event.get("type") == kind]

    @property
    def received(self) -> list[tuple[float, Json]]:
        """The client's events, each with when it came: time.monotonic()."""
        return self.socket.received

    @property
    def sent(self) -> list[tuple[float, Json]]:
        """The server's events, each with when it was sent: time.monotonic()."""
        return self.socket.sent

    @property
    def open(self) -> bool:
        return self.socket.open

    @property
    def close_code(self) -> int | None:
        return self.socket.close_code

    @property
    def transport(self) -> asyncio.Transport | None:
        return self.socket.transport

    @property
    def appends(self) -> int:
        """How many pieces of the caller's sound came."""
        return self.ears.appends

    @property
    def transcripts(self) -> list[str]:
        return self.ears.transcripts

    @property
    def responses(self) -> list[RealtimeResponse]:
        return self.mouth.responses

    # --- the connection ---------------------------------------------------------------------

    @property
    def behaviour(self) -> RealtimeBehaviour:
        return self.simulator.realtime

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Complete the handshake and serve the connection to its end."""
        beta = "realtime=v1" in request.headers.get("OpenAI-Beta", "")

        def greet() -> None:
            self.simulator.sessions.append(self)
            self._greet(beta)

        return await self.socket.serve(request, greet)

    def _greet(self, beta: bool) -> None:
        model = self.config["model"]
        if beta:
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
            self.socket.end(close)

    def _refuse_connection(self, fault: Refusal) -> None:
        self._error(fault, None)
        self.socket.end(SessionClose(4000, f"invalid_request_error.{fault.code}"))

    def _refuse_beta(self) -> None:
        message = (
            "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API."
        )
        self._refuse_connection(Refusal(message, code="beta_api_shape_disabled"))

    async def _expire(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        message = "Your session hit the maximum duration of 60 minutes."
        self.emit("error", error=_error(Refusal(message, code="session_expired"), None))
        self.socket.end(SessionClose(1001, "session_expired"))

    def emit(self, kind: str, **fields: Any) -> None:
        """Send one server event."""
        self.socket.emit(kind, **fields)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that ends with the connection."""
        return self.socket.spawn(work)

    # --- client events ----------------------------------------------------------------------

    def _take(self, message: str | bytes) -> None:
        now = time.monotonic()
        try:
            event = _parsed(message)
        except Refusal as fault:
            return self._error(fault, None)
        audio = _plain_append(event)
        if audio is None or self.behaviour.keep_audio_events:
            self.received.append((now, event))
        self.simulator.touch()
        try:
            if audio is None:
                self._obey(event)
            else:
                self.ears.append(audio)
        except Refusal as fault:
            self._error(fault, event)
        return None

    def _obey(self, event: Any) -> None:
        if isinstance(event, dict) and rules.beta_shaped(event):
            self._refuse_beta()
        else:
            kind = rules.check_client_event(event)
            _HANDLERS[kind](self)(event)

    def _error(self, fault: Refusal, event: object) -> None:
        source = event if isinstance(event, dict) else {}
        self.simulator.refuse(f"realtime {source.get('type', 'connection')}", fault)
        self.emit("error", error=_error(fault, source.get("event_id")))

    def on_update(self, event: Json) -> None:
        if self.behaviour.take("reject_updates"):
            raise rules.server_error()
        if self.behaviour.refused_field:
            raise rules.invalid(self.behaviour.refused_field, "this is not supported here.")
        update = event["session"]
        merged = _merge_session(self.config, update)
        if update.get("model", self.config["model"]) != self.config["model"]:
            raise rules.invalid("session.model", "the model of a session can't be changed.")
        rules.check_session(merged)
        self.mouth.check_voice(merged["audio"]["output"]["voice"], "session")
        self.config = merged
        self.ears.on_configured()
        if self.behaviour.confirm_updates:
            self.spawn(self._confirm_update())

    async def _confirm_update(self) -> None:
        config = self.config
        if self.behaviour.updated_delay:
            await asyncio.sleep(self.behaviour.updated_delay)
        self.emit("session.updated", session=config)


_HANDLERS: dict[str, Callable[[RealtimeSession], Callable[[Json], None]]] = {
    "session.update": lambda session: session.on_update,
    "input_audio_buffer.append": lambda session: session.ears.on_append,
    "input_audio_buffer.commit": lambda session: session.ears.on_commit,
    "input_audio_buffer.clear": lambda session: session.ears.on_clear,
    "output_audio_buffer.clear": lambda session: session.ears.on_output_clear,
    "conversation.item.create": lambda session: session.items.on_create,
    "conversation.item.delete": lambda session: session.items.on_delete,
    "conversation.item.retrieve": lambda session: session.items.on_retrieve,
    "conversation.item.truncate": lambda session: session.items.on_truncate,
    "response.create": lambda session: session.mouth.on_create,
    "response.cancel": lambda session: session.mouth.on_cancel,
}


def _parsed(message: str | bytes) -> Any:
    if isinstance(message, bytes):
        raise Refusal("Binary frames are not supported.", code="invalid_event")
    try:
        return json.loads(message)
    except (ValueError, RecursionError) as error:
        raise Refusal("Could not parse the event as JSON.", code="invalid_json") from error


def _plain_append(event: object) -> str | None:
    """Return the audio of a plainly valid append: the one event that comes 50 times a second."""
    if not isinstance(event, dict) or event.get("type") != "input_audio_buffer.append":
        return None
    audio = event.get("audio")
    named = len(event) == 3 and isinstance(event.get("event_id"), str)
    return audio if isinstance(audio, str) and (len(event) == 2 or named) else None


def _error(fault: Refusal, event_id: str | None) -> Json:
    return {**fault.body(), "event_id": event_id}


def _no_such_model(model: str, kind: type[Refusal]) -> Refusal:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return kind(message, code="model_not_found", param="model")


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
        "audio": {"input": _default_input(), "output": _default_output()},
    }


def _default_input() -> Json:
    return {
        "format": {"type": "audio/pcm", "rate": 24000},
        "transcription": None,
        "noise_reduction": None,
        "turn_detection": dict(SERVER_VAD),
    }


def _default_output() -> Json:
    return {
        "format": {"type": "audio/pcm", "rate": 24000},
        "voice": "alloy",
        "speed": 1.0,
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
