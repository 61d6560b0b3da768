"""Speaking as Realtime does it: one response at a time or several, faster than real time."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tools.simulator.openai_hearing import FROM_PCM, RATES
from tools.simulator.openai_wire import Json, halves, new_id, realtime_message

if TYPE_CHECKING:
    from tools.simulator.openai_realtime import RealtimeSession

DELTA_MS = (200, 400, 100, 300)


class RealtimeResponse:
    """One response: its text spoken, in deltas faster than real time, until done or cancelled."""

    def __init__(self, session: RealtimeSession, parameters: Json, text: str) -> None:
        output = session.config["audio"]["output"]
        asked = (parameters.get("audio") or {}).get("output") or {}
        self.session = session
        self.id = new_id("resp")
        self.item_id = new_id("item")
        self.text = text
        self.metadata: dict[str, str] | None = parameters.get("metadata")
        self.in_default = parameters.get("conversation", "auto") == "auto"
        modalities = parameters.get("output_modalities") or session.config["output_modalities"]
        self.modality: str = modalities[0]
        self.format: Json = asked.get("format") or output["format"]
        self.voice: Any = asked.get("voice") or output["voice"]
        self.status = "in_progress"
        self.audio_ms = 0
        self.transcript = ""
        self.started = time.monotonic()
        self._reason: str | None = None
        self._cancelled = asyncio.Event()
        self._failure = session.behaviour.next_failure()

    @property
    def over(self) -> bool:
        return self.status != "in_progress"

    def cancel(self, reason: str) -> None:
        """Stop generating: `client_cancelled` or `turn_detected`."""
        if not self._cancelled.is_set():
            self._reason = reason
            self._cancelled.set()

    async def run(self) -> None:
        knobs, emit = self.session.behaviour, self.session.emit
        await asyncio.sleep(knobs.created_delay)
        emit("response.created", response=self.resource())
        if self._failure and not self._failure.after_ms:
            await self._hang()
            return self._finish(self._final_status(), [])
        item = realtime_message(self.item_id, "assistant", "in_progress", [])
        in_item = {"response_id": self.id, "output_index": 0}
        emit("response.output_item.added", **in_item, item=item)
        if self.in_default:
            self.session.add_item(item, done=False)
        in_part = {**in_item, "item_id": self.item_id, "content_index": 0}
        part = "audio" if self.modality == "audio" else "text"
        emit("response.content_part.added", **in_part, part=self._part(part))
        await (self._speak(in_part) if part == "audio" else self._write(in_part))
        await self._hang()
        emit("response.content_part.done", **in_part, part=self._part(part))
        status = self._final_status()
        item["status"] = "completed" if status == "completed" else "incomplete"
        item["content"] = [self._part(f"output_{part}")]
        emit("response.output_item.done", **in_item, item=item)
        if self.in_default:
            emit("conversation.item.done", item=item)
        self._finish(status, [item])

    async def _hang(self) -> None:
        """Do nothing until the client cancels, if that is how the response is to end."""
        if self._failure and self._failure.status == "hangs":
            await self._cancelled.wait()

    def _final_status(self) -> str:
        if self._cancelled.is_set():
            return "cancelled"
        return self._failure.status if self._failure else "completed"

    def _finish(self, status: str, output: list[Json]) -> None:
        self.status = status
        self.session.emit("response.done", response=self.resource(output))
        limit = {"limit": 40_000, "remaining": 39_000, "reset_seconds": 0.5}
        self.session.emit("rate_limits.updated", rate_limits=[{"name": "tokens", **limit}])

    async def _write(self, where: Json) -> None:
        for piece in halves(self.text):
            self.session.emit("response.output_text.delta", **where, delta=piece)
        self.transcript = self.text
        self.session.emit("response.output_text.done", **where, text=self.text)

    async def _speak(self, where: Json) -> None:
        emit, session = self.session.emit, self.session
        codec = self.format["type"]
        loop = asyncio.get_running_loop()
        speech = loop.run_in_executor(None, session.simulator.mouth.speak, self.text, RATES[codec])
        await self._pause(session.behaviour.first_audio_delay)
        pcm16 = await speech
        bytes_per_ms = RATES[codec] * 2 // 1000
        pieces = list(_deltas(pcm16, bytes_per_ms))
        total_ms = max(1, len(pcm16) // bytes_per_ms)
        late = session.behaviour.late_deltas
        begun, stop_at = loop.time(), self._failure.after_ms if self._failure else None
        for piece in pieces:
            if self._cancelled.is_set() and (late := late - 1) < 0:
                break
            if stop_at is not None and self.audio_ms >= stop_at:
                break
            ms = len(piece) // bytes_per_ms
            upto = len(self.text) * (self.audio_ms + ms) // total_ms
            words = self.text[len(self.transcript) : upto]
            self.transcript += words
            if words:
                emit("response.output_audio_transcript.delta", **where, delta=words)
            self.audio_ms += ms
            encoded = base64.b64encode(FROM_PCM[codec](piece)).decode()
            emit("response.output_audio.delta", **where, delta=encoded)
            due = begun + self.audio_ms / 1000 / session.behaviour.speed
            await self._pause(due - loop.time())
        emit("response.output_audio.done", **where)
        emit("response.output_audio_transcript.done", **where, transcript=self.transcript)

    async def _pause(self, seconds: float) -> None:
        """Wait as long as generating takes, or until cancelled."""
        if self._cancelled.is_set():
            return
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._cancelled.wait(), seconds)

    def _part(self, kind: str) -> Json:
        name = "text" if kind in ("text", "output_text") else "transcript"
        return {"type": kind, name: self.transcript}

    def resource(self, output: list[Json] | None = None) -> Json:
        """Return the response as OpenAI's `realtime.response` object."""
        audio_tokens, text_tokens = self.audio_ms // 50, len(self.transcript) // 4
        spent = audio_tokens + text_tokens
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": self._status_details(),
            "output": output or [],
            "conversation_id": self.session.conversation_id if self.in_default else None,
            "output_modalities": [self.modality],
            "max_output_tokens": "inf",
            "audio": {"output": {"format": self.format, "voice": _voice_name(self.voice)}},
            "usage": {
                "total_tokens": spent + 60,
                "input_tokens": 60,
                "output_tokens": spent,
                "input_token_details": {"text_tokens": 60, "audio_tokens": 0, "cached_tokens": 0},
                "output_token_details": {"text_tokens": text_tokens, "audio_tokens": audio_tokens},
            }
            if self.over
            else None,
            "metadata": self.metadata,
        }

    def _status_details(self) -> Json | None:
        if self.status == "cancelled":
            return {"type": "cancelled", "reason": self._reason}
        failure = self._failure
        if failure and self.status == "incomplete":
            return {"type": "incomplete", "reason": failure.reason}
        if failure and self.status == "failed":
            error = {"type": failure.kind, "code": failure.code, "message": failure.message}
            return {"type": "failed", "error": error}
        return None


def _deltas(pcm16: bytes, bytes_per_ms: int) -> Iterator[bytes]:
    sizes = itertools.cycle(DELTA_MS)
    position = 0
    while position < len(pcm16):
        end = position + next(sizes) * bytes_per_ms
        yield pcm16[position:end]
        position = end


def _voice_name(voice: Any) -> str:
    return str(voice["id"]) if isinstance(voice, dict) else str(voice)
