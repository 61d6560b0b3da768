"""A bare client of Realtime, which sends what it is told to and keeps all that it sees."""

from __future__ import annotations

import base64
import json
from typing import Any

import websocket

from tools.simulator.openai_server import OpenAISimulator, RealtimeSession
from tools.simulator.speech import ToneVoice, pcm16_to_mulaw
from tools.simulator.waiting import PATIENCE

Json = dict[str, Any]

VOICE = ToneVoice()
SILENCE = b"\xff" * 160
SESSION: Json = {
    "type": "realtime",
    "output_modalities": ["audio"],
    "audio": {
        "input": {
            "format": {"type": "audio/pcmu"},
            "noise_reduction": {"type": "near_field"},
            "transcription": {"model": "gpt-transcribe"},
            "turn_detection": {
                "type": "server_vad",
                "silence_duration_ms": 500,
                "create_response": False,
                "interrupt_response": False,
            },
        },
        "output": {"format": {"type": "audio/pcmu"}, "voice": "marin"},
    },
}


class RealtimeClient:
    """One connection to the stand-in."""

    def __init__(
        self,
        simulator: OpenAISimulator,
        *,
        model: str | None = "gpt-realtime-2.1-mini",
        headers: dict[str, str] | None = None,
        key: str | None = "sk-test",
    ) -> None:
        url = simulator.base_url.replace("http", "ws") + "/realtime"
        auth = {"Authorization": f"Bearer {key}"} if key else {}
        self.simulator = simulator
        self.socket = websocket.create_connection(
            url + (f"?model={model}" if model else ""),
            header={**auth, **(headers or {})},
            timeout=PATIENCE,
        )
        self.seen: list[Json] = []
        self.close_reason = ""

    @property
    def session(self) -> RealtimeSession:
        return self.simulator.sessions[-1]

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def next(self) -> Json:
        event: Json = json.loads(self.socket.recv())
        self.seen.append(event)
        return event

    def until(self, kind: str, **wanted: Any) -> Json:
        """Read events up to one of this type, whose fields have the wanted values."""
        while True:
            event = self.next()
            if event["type"] == kind and all(event[name] == wanted[name] for name in wanted):
                return event

    def kinds(self, *, without: str = "") -> list[str]:
        """List the types of the events seen so far, runs of the same type shortened to one."""
        kinds = [event["type"] for event in self.seen if event["type"] != without]
        return [k for n, k in enumerate(kinds) if n == 0 or kinds[n - 1] != k]

    def configure(self, session: Json = SESSION) -> Json:
        self.send("session.update", session=session)
        return self.until("session.updated")

    def hear(self, mulaw: bytes) -> None:
        for start in range(0, len(mulaw), 160):
            frame = base64.b64encode(mulaw[start : start + 160]).decode()
            self.send("input_audio_buffer.append", audio=frame)

    def hear_words(self, text: str) -> None:
        self.hear(SILENCE * 25 + pcm16_to_mulaw(VOICE.speak(text)) + SILENCE * 30)

    def speak(self, text: str, **parameters: Any) -> None:
        content = [{"type": "input_text", "text": text}]
        response = {
            "conversation": "none",
            "output_modalities": ["audio"],
            "tool_choice": "none",
            "input": [{"type": "message", "role": "user", "content": content}],
            "instructions": "Read the user's text aloud, word for word.",
            "metadata": {"utterance": text[:20]},
            **parameters,
        }
        self.send("response.create", event_id=f"say {text[:20]}", response=response)

    def audio(self, response_id: str) -> bytes:
        return b"".join(
            base64.b64decode(event["delta"])
            for event in self.seen
            if event["type"] == "response.output_audio.delta"
            and event["response_id"] == response_id
        )

    def closed(self) -> int:
        """Read on until the server closes; return the close code."""
        while True:
            opcode, data = self.socket.recv_data()
            assert data is not None
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                self.close_reason = data[2:].decode()
                return int.from_bytes(data[:2], "big")
            self.seen.append(json.loads(data))


def changed(path: str, value: object) -> Json:
    """Return the usual session with one field set (or removed: `...`)."""
    session: Json = json.loads(json.dumps(SESSION))
    *parents, name = path.split(".")
    target = session
    for parent in parents:
        target = target.setdefault(parent, {})
    if value is ...:
        del target[name]
    else:
        target[name] = value
    return session
