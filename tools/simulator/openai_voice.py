"""Speaking as Realtime does it: one response at a time or several, faster than real time."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from tools.simulator.openai_hearing import FROM_PCM, RATES
from tools.simulator.openai_knobs import ResponseFailure
from tools.simulator.openai_wire import Json, halves, new_id, realtime_message
from tools.simulator.waiting import CATCH_UP_SECONDS

if TYPE_CHECKING:
    from tools.simulator.openai_realtime import RealtimeSession

DELTA_MS = (200, 400, 100, 300)
RATE_LIMIT = {"name": "tokens", "limit": 40_000, "remaining": 39_000, "reset_seconds": 0.5}


class _Asked(NamedTuple):
    """What a response.create and its session say about a response."""

    metadata: dict[str, str] | None
    in_default: bool
    modality: str
    format: Json
    voice: str

    @classmethod
    def read(cls, parameters: Json, config: Json) -> _Asked:
        """Read the parameters, with the session's own where they say nothing."""
        output = config["audio"]["output"]
        asked = (parameters.get("audio") or {}).get("output") or {}
        voice = asked.get("voice") or output["voice"]
        modalities = parameters.get("output_modalities") or config["output_modalities"]
        return cls(
            metadata=parameters.get("metadata"),
            in_default=parameters.get("conversation", "auto") == "auto",
            modality=modalities[0],
            format=asked.get("format") or output["format"],
            voice=str(voice["id"]) if isinstance(voice, dict) else str(voice),
        )


class RealtimeResponse:
    """One response: its text spoken, in deltas faster than real time, until done or cancelled."""

    def __init__(self, session: RealtimeSession, parameters: Json, text: str) -> None:
        self.id = new_id("resp")
        self.item_id = new_id("item")
        self.text = text
        self.status = "in_progress"
        self.audio_ms = 0
        self._transcript = ""
        self._session = session
        self._asked = _Asked.read(parameters, session.config)
        self._failure = session.behaviour.next_failure()
        self._cancelled = asyncio.Event()
        self._why_cancelled: str | None = None

    @property
    def in_default(self) -> bool:
        """Whether it writes to the session's default conversation."""
        return self._asked.in_default

    @property
    def over(self) -> bool:
        return self.status != "in_progress"

    def cancel(self, reason: str) -> None:
        """Stop generating: `client_cancelled` or `turn_detected`."""
        if not self._cancelled.is_set():
            self._why_cancelled = reason
            self._cancelled.set()

    # --- from created to done ---------------------------------------------------------------

    async def run(self) -> None:
        """Generate it all."""
        await self._session.behaviour.wait("created_delay")
        self._session.emit("response.created", response=self.resource())
        output: list[Json] = []
        if not (self._failure and self._failure.after_ms == 0):
            output.append(await self._generate_item())
        else:
            await self._hang()
        self._finish(output)

    async def _generate_item(self) -> Json:
        emit = self._session.emit
        item = realtime_message(self.item_id, "assistant", "in_progress", [])
        place = {"response_id": self.id, "output_index": 0}
        emit("response.output_item.added", **place, item=item)
        if self.in_default:
            self._session.items.add(item, done=False)
        await self._generate_part({**place, "item_id": self.item_id, "content_index": 0})
        item["status"] = "completed" if self._final_status() == "completed" else "incomplete"
        item["content"] = [self._part(f"output_{self._asked.modality}")]
        emit("response.output_item.done", **place, item=item)
        if self.in_default:
            emit("conversation.item.done", item=item)
        return item

    async def _generate_part(self, place: Json) -> None:
        kind = self._asked.modality
        self._session.emit("response.content_part.added", **place, part=self._part(kind))
        if kind == "audio":
            await self._speak(place)
        else:
            self._write(place)
        await self._hang()
        self._session.emit("response.content_part.done", **place, part=self._part(kind))

    async def _hang(self) -> None:
        """Do nothing until the client cancels, if that is how the response is to end."""
        if self._failure and self._failure.status == "hangs":
            await self._cancelled.wait()

    def _final_status(self) -> str:
        if self._cancelled.is_set():
            return "cancelled"
        return self._failure.status if self._failure else "completed"

    def _finish(self, output: list[Json]) -> None:
        self.status = self._final_status()
        self._session.emit("response.done", response=self.resource(output))
        self._session.emit("rate_limits.updated", rate_limits=[RATE_LIMIT])

    # --- its content ------------------------------------------------------------------------

    def _write(self, place: Json) -> None:
        for piece in halves(self.text):
            self._session.emit("response.output_text.delta", **place, delta=piece)
        self._transcript = self.text
        self._session.emit("response.output_text.done", **place, text=self.text)

    async def _speak(self, place: Json) -> None:
        emit, loop = self._session.emit, asyncio.get_running_loop()
        sound = await self._synthesise()
        due = loop.time()
        for piece in self._pieces(sound):
            self._emit_piece(piece, len(sound), place)
            due += self._ms(len(piece)) / 1000 / self._session.behaviour.speed
            await self._pause(due - loop.time())
            due = max(due, loop.time() - CATCH_UP_SECONDS)
        emit("response.output_audio.done", **place)
        emit("response.output_audio_transcript.done", **place, transcript=self._transcript)

    async def _synthesise(self) -> bytes:
        """Return the sound of the whole text, PCM16, no sooner than the first of it may come."""
        speak = self._session.simulator.mouth.speak
        loop = asyncio.get_running_loop()
        speech = loop.run_in_executor(None, speak, self.text, self._rate)
        await self._pause(self._session.behaviour.first_audio_delay)
        return await speech

    @property
    def _rate(self) -> int:
        return RATES[self._asked.format["type"]]

    def _ms(self, pcm16: int) -> int:
        """Return how long so many bytes of sound are."""
        return pcm16 * 1000 // (self._rate * 2)

    def _pieces(self, sound: bytes) -> Iterator[bytes]:
        """Cut the sound into deltas, up to where a failure or a cancel ends it."""
        late = self._session.behaviour.late_deltas
        position = 0
        for ms in itertools.cycle(DELTA_MS):
            if position >= len(sound) or self._has_failed():
                return
            if self._cancelled.is_set():
                if late == 0:
                    return
                late -= 1
            end = position + ms * self._rate * 2 // 1000
            yield sound[position:end]
            position = end

    def _has_failed(self) -> bool:
        return self._failure is not None and self.audio_ms >= self._failure.after_ms

    def _emit_piece(self, piece: bytes, whole: int, place: Json) -> None:
        """Send a piece of sound, and the words that are in it."""
        emit = self._session.emit
        self.audio_ms += self._ms(len(piece))
        upto = len(self.text) * self.audio_ms // max(1, self._ms(whole))
        words = self.text[len(self._transcript) : upto]
        self._transcript += words
        if words:
            emit("response.output_audio_transcript.delta", **place, delta=words)
        encode = FROM_PCM[self._asked.format["type"]]
        encoded = base64.b64encode(encode(piece)).decode()
        emit("response.output_audio.delta", **place, delta=encoded)

    async def _pause(self, seconds: float) -> None:
        """Wait as long as generating takes, or until cancelled."""
        if self._cancelled.is_set():
            return
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._cancelled.wait(), seconds)

    # --- as OpenAI shows it -----------------------------------------------------------------

    def _part(self, kind: str) -> Json:
        name = "text" if kind in ("text", "output_text") else "transcript"
        return {"type": kind, name: self._transcript}

    def resource(self, output: list[Json] | None = None) -> Json:
        """Return the response as OpenAI's `realtime.response` object."""
        conversation = self._session.conversation_id if self.in_default else None
        sound = {"format": self._asked.format, "voice": self._asked.voice}
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": self._status_details(),
            "output": output or [],
            "conversation_id": conversation,
            "output_modalities": [self._asked.modality],
            "max_output_tokens": "inf",
            "audio": {"output": sound},
            "usage": self._usage() if self.over else None,
            "metadata": self._asked.metadata,
        }

    def _usage(self) -> Json:
        audio, text = self.audio_ms // 50, len(self._transcript) // 4
        return {
            "total_tokens": audio + text + 60,
            "input_tokens": 60,
            "output_tokens": audio + text,
            "input_token_details": {
                "text_tokens": 60,
                "audio_tokens": 0,
                "image_tokens": 0,
                "cached_tokens": 0,
                "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
            },
            "output_token_details": {"text_tokens": text, "audio_tokens": audio},
        }

    def _status_details(self) -> Json | None:
        if self.status == "cancelled":
            return {"type": "cancelled", "reason": self._why_cancelled}
        return _details(self.status, self._failure) if self._failure else None


def _details(status: str, failure: ResponseFailure) -> Json | None:
    if status == "incomplete":
        return {"type": "incomplete", "reason": failure.reason}
    if status == "failed":
        error = {"type": failure.kind, "code": failure.code, "message": failure.message}
        return {"type": "failed", "error": error}
    return None
