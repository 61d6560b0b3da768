"""The generator's end of OpenAI: Realtime, Conversations and Responses, quick and unquestioning.

What is sent has the shapes and sizes of the real thing; what is received isn't judged, that is what
`tools/simulator` is for.
"""

from __future__ import annotations

import itertools
import json
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha1
from time import monotonic as now
from typing import TYPE_CHECKING, Any

from tools.bench import script
from tools.bench.wire import CLOSE, PING, PONG, Connection, Loop, server_frame, split_frames, unmask

if TYPE_CHECKING:
    from tools.bench.caller import LoadCaller, TalkTurn
    from tools.bench.load import Load

Json = dict[str, Any]

AUDIO_FIELD = b'"audio": "'
AUDIO_FIELD_TIGHT = b'"audio":"'
HEAD = 72  # bytes of an append that are read every time: its type and its number
CHECK_EVERY = 50  # frames; one in so many is compared whole
FRAMES_PER_CALL = 10**8

_ids = itertools.count(1)


def new_id(prefix: str) -> str:
    """Return an ID of OpenAI's length."""
    return f"{prefix}_{next(_ids):024x}"


class OpenAI:
    """Listens on 127.0.0.1 and serves the app."""

    def __init__(self, loop: Loop, load: Load, tls: ssl.SSLContext | None) -> None:
        self.loop, self.load, self._tls = loop, load, tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self.connections: set[OpenAIConnection] = set()
        loop.watch(self._listener.fileno(), self._accept)

    def _accept(self, _events: int) -> None:
        while True:
            try:
                sock, peer = self._listener.accept()
            except BlockingIOError:
                return
            self.connections.add(OpenAIConnection(self, sock, peer[1], self._tls))

    def idle_ports(self) -> list[int]:
        """Return the app's ports of the connections it keeps open for its next requests."""
        return [each.peer_port for each in self.connections if not each.session]

    def close(self) -> None:
        """Stop listening."""
        self.loop.forget(self._listener.fileno())
        self._listener.close()


class OpenAIConnection(Connection):
    """One connection of the app's: HTTP requests one after the other, or a Realtime session."""

    def __init__(
        self, openai: OpenAI, sock: socket.socket, peer_port: int, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(openai.loop, sock, tls)
        self.openai, self.load, self.peer_port = openai, openai.load, peer_port
        self.session: LoadSession | None = None
        self._received = b""

    def on_end(self) -> None:
        self.openai.connections.discard(self)

    def on_data(self, data: bytes) -> None:
        if self.session:
            return self.session.receive(data)
        self._received += data
        while not self.session:
            head, separator, rest = self._received.partition(b"\r\n\r\n")
            if not separator:
                return
            request, *lines = head.decode("latin-1").split("\r\n")
            fields = (line.partition(":") for line in lines)
            headers = {name.lower(): value.strip() for name, _, value in fields}
            size = int(headers.get("content-length", 0))
            if len(rest) < size:
                return
            self._received = rest[size:]
            self._handle(request, headers, rest[:size])

    def _handle(self, request: str, headers: dict[str, str], body: bytes) -> None:
        method, target, _ = request.split(" ")
        path = target.partition("?")[0].removeprefix("/v1")
        if path == "/realtime":
            self._upgrade(headers["sec-websocket-key"])
        elif (method, path) == ("POST", "/conversations"):
            self._create_conversation(json.loads(body))
        elif (method, path) == ("POST", "/responses"):
            LoadReply(self, json.loads(body))
        else:
            self.answer({"error": {"message": f"There is no {method} {path}."}}, "404 Not Found")

    def answer(self, body: Json, status: str = "200 OK") -> None:
        """Answer a request with JSON."""
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
        self.write(head.encode() + b"\r\n\r\n" + data)

    def _create_conversation(self, body: Json) -> None:
        conversation, about = new_id("conv"), body.get("metadata") or {}
        self.load.conversations[conversation] = self.load.talk_of(about["call_sid"])
        fields = {"object": "conversation", "created_at": 1795300000, "metadata": about}
        self.answer({"id": conversation, **fields})

    def _upgrade(self, key: str) -> None:
        accept = b64encode(sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.write(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        self.session = LoadSession(self)


# --- the workflow -----------------------------------------------------------------------------


class LoadReply:
    """One reply of the workflow, written token by token as server-sent events."""

    def __init__(self, connection: OpenAIConnection, body: Json) -> None:
        self.connection, self.loop, begun = connection, connection.loop, now()
        asked = body["input"]
        self.turn = connection.load.conversations[body["conversation"]].turn_asked(asked, begun)
        self._sequence = itertools.count()
        self._tokens = script.tokens(" ".join(self.turn.sentences))
        self._last_of_first = script.first_sentence_end(self._tokens)
        self._position = 0
        self._message = {"id": new_id("msg"), "type": "message", "role": "assistant"}
        self._response: Json = {
            "id": new_id("resp"),
            "object": "response",
            "created_at": 1795300000,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "parallel_tool_calls": True,
            "store": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "truncation": "disabled",
            "usage": None,
            "metadata": {},
            **{name: body.get(name) for name in ("model", "instructions")},
            "conversation": {"id": body["conversation"]},
            "output": [],
        }
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
        connection.write(head + b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n")
        self._send("response.created", response=self._response)
        self._send("response.in_progress", response=self._response)
        self._due = begun + script.FIRST_TOKEN
        self.loop.at(self._due, self._begin)

    def _send(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "sequence_number": next(self._sequence), **fields}
        data = f"event: {kind}\ndata: {json.dumps(event)}\n\n".encode()
        self.connection.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _begin(self) -> None:
        self._where = {"item_id": self._message["id"], "output_index": 0, "content_index": 0}
        item = {**self._message, "status": "in_progress", "content": []}
        self._send("response.output_item.added", output_index=0, item=item)
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
        self._send("response.content_part.added", **self._where, part=part)
        self._write()

    def _write(self) -> None:
        piece = self._tokens[self._position]
        extra = {"logprobs": [], "obfuscation": "aZ09bY18cX27"[: 12 - len(piece)]}
        if self._position == self._last_of_first:
            self.turn.first_sentence = now()
        self._send("response.output_text.delta", **self._where, delta=piece, **extra)
        self._position += 1
        self._due += script.TOKEN
        more = self._position < len(self._tokens)
        self.loop.at(self._due, self._write if more else self._end)

    def _end(self) -> None:
        text = "".join(self._tokens)
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
        item = {**self._message, "status": "completed", "content": [part]}
        usage = {"input_tokens": 400, "output_tokens": len(self._tokens), "total_tokens": 440}
        self._response.update(status="completed", output=[item], usage=usage)
        self._send("response.output_text.done", **self._where, text=text, logprobs=[])
        self._send("response.content_part.done", **self._where, part=part)
        self._send("response.output_item.done", output_index=0, item=item)
        self._send("response.completed", response=self._response)
        self.connection.write(b"0\r\n\r\n")


# --- Realtime ---------------------------------------------------------------------------------


class LoadSession:
    """One Realtime session: notes when frames come, and speaks what it is asked to."""

    def __init__(self, connection: OpenAIConnection) -> None:
        self.connection, self.loop, self.load = connection, connection.loop, connection.load
        self.speaking: dict[str, Speech] = {}
        self.caller: LoadCaller | None = None  # known from the first sound that passes
        self._received = b""
        self._frames = 0
        self.send("session.created", session={"id": new_id("sess"), "type": "realtime"})

    def send(self, kind: str, **fields: Any) -> None:
        """Send an event."""
        event = {"type": kind, "event_id": new_id("event"), **fields}
        self.connection.write(server_frame(json.dumps(event).encode()))

    def receive(self, data: bytes) -> None:
        """Take frames: nearly all of them are audio, and must cost nothing."""
        moment = now()
        if self._received:
            data = self._received + data
        frames, end = split_frames(data)
        self._received = data[end:]
        for frame in frames:
            if frame.opcode == CLOSE:
                self.connection.write(server_frame(unmask(data, frame), CLOSE))
            elif frame.opcode == PING:
                self.connection.write(server_frame(unmask(data, frame), PONG))
            else:
                head = unmask(data, frame, HEAD)
                at = head.find(AUDIO_FIELD) + len(AUDIO_FIELD)
                if at < len(AUDIO_FIELD):
                    at = head.find(AUDIO_FIELD_TIGHT) + len(AUDIO_FIELD_TIGHT)
                number = head[at : at + script.NUMBER]
                if b"input_audio_buffer.append" in head and number.isdigit():
                    self._frames += 1
                    self.load.on_frame(self, int(number), moment)
                    if self._frames % CHECK_EVERY == 0:
                        whole = unmask(data, frame)[at + script.NUMBER :]
                        sound, _, _ = whole.partition(b'"')
                        self.load.records.damaged += sound != script.FRAME
                else:
                    self._handle(json.loads(unmask(data, frame)), moment)

    def _handle(self, event: Json, moment: float) -> None:
        handlers: dict[str, Callable[[Json, float], None]] = {
            "session.update": self._update,
            "response.create": self._respond,
            "response.cancel": self._cancel,
        }
        handlers[event["type"]](event, moment)

    def _update(self, event: Json, _moment: float) -> None:
        self.send("session.updated", session={"id": new_id("sess"), **event["session"]})

    def _respond(self, event: Json, moment: float) -> None:
        speech = Speech(self, event["response"], moment)
        self.speaking[speech.id] = speech

    def _cancel(self, event: Json, _moment: float) -> None:
        if speech := self.speaking.get(event["response_id"]):
            speech.end("cancelled")
        else:
            problem = {"type": "invalid_request_error", "code": "response_cancel_not_active"}
            message = "Cancellation failed: no active response found."
            self.send("error", error={**problem, "message": message, "param": None})

    # --- what the caller says ---------------------------------------------------------------

    def hear_speech_begin(self, item: str) -> None:
        """Tell that the caller speaks."""
        self.send("input_audio_buffer.speech_started", audio_start_ms=1000, item_id=item)

    def hear_speech_end(self, item: str) -> None:
        """Tell that the caller fell silent."""
        self.send("input_audio_buffer.speech_stopped", audio_end_ms=2000, item_id=item)
        self.send("input_audio_buffer.committed", item_id=item, previous_item_id=None)
        message: Json = {"id": item, "object": "realtime.item", "type": "message", "role": "user"}
        message["content"] = [{"type": "input_audio", "transcript": None}]
        message["status"] = "completed"
        self.send("conversation.item.added", item=message, previous_item_id=None)
        self.send("conversation.item.done", item=message, previous_item_id=None)

    def transcribe(self, item: str, words: str) -> None:
        """Tell what the caller said."""
        kind, where = "conversation.item.input_audio_transcription", {"item_id": item}
        self.send(f"{kind}.delta", **where, content_index=0, delta=words)
        usage = {"type": "duration", "seconds": 1.0}
        self.send(f"{kind}.completed", **where, content_index=0, transcript=words, usage=usage)


class Speech:
    """One response: a sentence spoken in deltas, faster than it plays.

    If the load `talks_on`, the sound doesn't end, and comes as fast as it plays.
    """

    def __init__(self, session: LoadSession, asked: Json, created: float) -> None:
        self.session, self.load, self.created = session, session.load, created
        self.text = asked["input"][0]["content"][0]["text"]
        self.first_audio = 0.0  # when it was sent
        self.heard = False  # it has reached the caller
        self.turn: TalkTurn | None = None
        self.load.on_speech(self)
        endless = itertools.repeat(script.RELAY_DELTA_MS)
        self._deltas = endless if self.load.talks_on else script.deltas(self.text)
        self._speed = 1 if self.load.talks_on else script.SPEED
        self._letters = 0
        self._sent_ms = 0
        self._events = SpeechEvents(session, asked.get("metadata"))
        self._begun = created + script.FIRST_AUDIO
        session.loop.at(self._begun, self._speak)

    @property
    def id(self) -> str:
        """The response's ID."""
        return self._events.id

    def _speak(self) -> None:
        session = self.session
        if self.id not in session.speaking or not session.connection.open:
            return
        ms = next(self._deltas, 0)
        if not ms:
            return self.end("completed")
        upto = self._letters + ms // script.MS_PER_LETTER
        words, self._letters = self.text[self._letters : upto], upto
        number = self.load.note_delta(self)
        self._events.delta(words, number + script.SOUNDS[ms])
        self._sent_ms += ms
        session.loop.at(self._begun + self._sent_ms / 1000 / self._speed, self._speak)

    def end(self, status: str) -> None:
        """Send what ends a response: `completed`, or `cancelled`."""
        del self.session.speaking[self.id]
        said = self.text if status == "completed" else self.text[: self._letters]
        self._events.end(status, said)


class SpeechEvents:
    """What is sent of one response, in the shapes and sizes of the real thing."""

    def __init__(self, session: LoadSession, metadata: Any) -> None:
        self.id = new_id("resp")
        self._session = session
        self._resource = {
            "object": "realtime.response",
            "id": self.id,
            "status": "in_progress",
            "status_details": None,
            "output": [],
            "conversation_id": None,
            "output_modalities": ["audio"],
            "max_output_tokens": "inf",
            "audio": {"output": {"format": {"type": "audio/pcmu"}, "voice": "marin"}},
            "usage": None,
            "metadata": metadata,
        }
        message = {"id": new_id("item"), "object": "realtime.item", "type": "message"}
        self._message = {**message, "role": "assistant", "status": "in_progress", "content": []}
        self._where = {"response_id": self.id, "output_index": 0}
        self._place = {**self._where, "item_id": message["id"], "content_index": 0}
        self._begin()

    def _begin(self) -> None:
        send = self._session.send
        send("response.created", response=self._resource)
        send("response.output_item.added", **self._where, item=self._message)
        part = {"type": "audio", "transcript": ""}
        send("response.content_part.added", **self._place, part=part)

    def delta(self, words: str, sound: str) -> None:
        """Send a piece of sound, and the words in it if there are any."""
        send = self._session.send
        if words:
            send("response.output_audio_transcript.delta", **self._place, delta=words)
        send("response.output_audio.delta", **self._place, delta=sound)

    def end(self, status: str, said: str) -> None:
        """Send what ends a response, `completed` or `cancelled`, of which so much was said."""
        session = self._session
        part = {"type": "audio", "transcript": said}
        session.send("response.output_audio.done", **self._place)
        session.send("response.output_audio_transcript.done", **self._place, transcript=said)
        session.send("response.content_part.done", **self._place, part=part)
        how = "completed" if status == "completed" else "incomplete"
        item = {**self._message, "status": how, "content": [{**part, "type": "output_audio"}]}
        session.send("response.output_item.done", **self._where, item=item)
        usage = {
            "total_tokens": 100,
            "input_tokens": 60,
            "output_tokens": 40,
            "input_token_details": {"text_tokens": 60, "audio_tokens": 0},
            "output_token_details": {"text_tokens": 8, "audio_tokens": 32},
        }
        done = {**self._resource, "status": status, "output": [item], "usage": usage}
        session.send("response.done", response=done)
        limit = {"name": "tokens", "limit": 40_000, "remaining": 39_000, "reset_seconds": 0.5}
        session.send("rate_limits.updated", rate_limits=[limit])
