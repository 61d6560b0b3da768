"""The ears of a Realtime session: the caller's sound in, speech and transcripts out."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING, Any, NamedTuple

from tools.simulator import openai_rules as rules
from tools.simulator.openai_hearing import RATES, TO_PCM, SpeechDetector
from tools.simulator.openai_knobs import RealtimeBehaviour
from tools.simulator.openai_rules import Refusal
from tools.simulator.openai_wire import Json, halves, new_id, realtime_message

if TYPE_CHECKING:
    from tools.simulator.openai_realtime import RealtimeSession

MAX_APPEND_BYTES = 15 * 1024 * 1024
MIN_COMMIT_MS = 100
TRANSCRIPTION = "conversation.item.input_audio_transcription"
BILLED_BY_LENGTH = ("gpt-transcribe", "whisper-1")  # the others by tokens
UNINTELLIGIBLE = {
    "type": "transcription_error",
    "code": "audio_unintelligible",
    "message": "The audio could not be transcribed.",
    "param": None,
}


class Recording(NamedTuple):
    """What was said between two commits."""

    pcm16: bytes
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.pcm16) / 2 / self.rate


class _Fate(NamedTuple):
    """What becomes of one transcript, by the knobs."""

    scripted: str | None
    fails: bool
    lost: bool
    repeated: bool
    held: bool

    @classmethod
    def next(cls, knobs: RealtimeBehaviour) -> _Fate:
        return cls(
            scripted=knobs.next_transcripts.pop(0) if knobs.next_transcripts else None,
            fails=knobs.take("fail_transcripts"),
            lost=knobs.take("lose_transcripts"),
            repeated=knobs.take("repeat_transcripts"),
            held=knobs.take("hold_transcripts"),
        )


class SessionEars:
    """What one session hears. Runs on the simulator's loop."""

    def __init__(self, session: RealtimeSession) -> None:
        self.appends = 0
        self.transcripts: list[str] = []
        self.listener = SpeechDetector(RATES["audio/pcm"])
        self._session = session
        self._speech_item = ""
        self._speech_ended_ms = 0
        self._transcribed = asyncio.Event()

    @property
    def _input(self) -> Json:
        config: Json = self._session.config["audio"]["input"]
        return config

    @property
    def turns(self) -> Json | None:
        """How turns are detected, if they are."""
        turns: Json | None = self._input["turn_detection"]
        return turns

    def on_configured(self) -> None:
        """Listen at the configured rate."""
        rate = RATES[self._input["format"]["type"]]
        if rate != self.listener.rate:
            self.listener = SpeechDetector(rate, self.listener.now_ms)

    # --- the caller's sound -----------------------------------------------------------------

    def append(self, audio: str) -> None:
        """Take base64 sound in the configured format. Raise Refusal if it is none."""
        data = self._decoded(audio)
        self.appends += 1
        pcm16 = TO_PCM[self._input["format"]["type"]](data)
        turns = self.turns
        for found, ms in self.listener.feed(pcm16, turns):
            if found == "started":
                self._speech_started(ms)
            elif self._session.behaviour.hear_ends:
                self._speech_stopped(ms)
        if turns and turns.get("idle_timeout_ms"):
            self._watch_idleness(turns["idle_timeout_ms"])

    def _decoded(self, audio: str) -> bytes:
        try:
            data = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError) as fault:
            message = f"expected base64-encoded audio bytes ({fault})."
            raise rules.invalid("audio", message) from fault
        if not data:
            raise rules.invalid("audio", "no audio bytes in it.")
        if len(data) > MAX_APPEND_BYTES:
            raise rules.invalid("audio", "more than 15 MiB.")
        if self._input["format"]["type"] == "audio/pcm" and len(data) % 2:
            raise rules.invalid("audio", "16-bit PCM has an even number of bytes.")
        return data

    def _speech_started(self, ms: int) -> None:
        session = self._session
        self._speech_item = new_id("item")
        item = {"audio_start_ms": ms, "item_id": self._speech_item}
        session.emit("input_audio_buffer.speech_started", **item)
        active = session.mouth.active_response()
        if active and self.turns and self.turns["interrupt_response"]:
            active.cancel("turn_detected")

    def _speech_stopped(self, ms: int) -> None:
        self._speech_ended_ms = ms
        item = {"audio_end_ms": ms, "item_id": self._speech_item}
        self._session.emit("input_audio_buffer.speech_stopped", **item)
        self._commit(self._speech_item)
        if self.turns and self.turns["create_response"]:
            self._session.mouth.respond_by_itself()

    def _watch_idleness(self, timeout_ms: int) -> None:
        now = self.listener.now_ms
        if self.listener.speaking or self._session.mouth.active_response():
            self._speech_ended_ms = now
        elif now - self._speech_ended_ms >= timeout_ms:
            start, self._speech_ended_ms = self._speech_ended_ms, now
            item_id = new_id("item")
            heard = {"audio_start_ms": start, "audio_end_ms": now, "item_id": item_id}
            self._session.emit("input_audio_buffer.timeout_triggered", **heard)
            self._commit(item_id)
            self._session.mouth.respond_by_itself()

    # --- committed by the client ------------------------------------------------------------

    def on_append(self, event: Json) -> None:
        self.append(event["audio"])

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
        self._session.emit("input_audio_buffer.cleared")

    def on_output_clear(self, event: Json) -> None:
        raise rules.invalid("type", "output_audio_buffer.clear exists on WebRTC and SIP only.")

    def _commit(self, item_id: str) -> None:
        session = self._session
        place = {"item_id": item_id, "previous_item_id": session.items.last_id}
        recording = Recording(self.listener.take(), self.listener.rate)
        session.emit("input_audio_buffer.committed", **place)
        part = {"type": "input_audio", "transcript": None}
        session.items.add(realtime_message(item_id, "user", "completed", [part]), done=True)
        if self._input["transcription"]:
            session.spawn(self._transcribe(item_id, recording, self._input["transcription"]))

    # --- transcripts ------------------------------------------------------------------------

    async def _transcribe(self, item_id: str, recording: Recording, config: Json) -> None:
        knobs, emit = self._session.behaviour, self._session.emit
        fate = _Fate.next(knobs)
        another_is_out = self._transcribed  # taken now: the other may be out before this is heard
        words = await self._hear(recording, config, fate)
        await knobs.wait("transcript_delay")
        if fate.held:
            await another_is_out.wait()
        place = {"item_id": item_id, "content_index": 0}
        if fate.fails:
            emit(f"{TRANSCRIPTION}.failed", **place, error=UNINTELLIGIBLE)
        elif not fate.lost:
            for piece in halves(words):
                emit(f"{TRANSCRIPTION}.delta", **place, delta=piece)
            self._session.items.set_transcript(item_id, words)
            self.transcripts.append(words)
            for _ in range(2 if fate.repeated else 1):
                emit(f"{TRANSCRIPTION}.completed", **place, **_completed(words, recording, config))
            self._tell_that_one_is_out(fate)

    def _tell_that_one_is_out(self, fate: _Fate) -> None:
        if not fate.held:
            self._transcribed.set()
            self._transcribed = asyncio.Event()

    async def _hear(self, recording: Recording, config: Json, fate: _Fate) -> str:
        hear = self._session.simulator.ears.hear
        loop = asyncio.get_running_loop()
        words = await loop.run_in_executor(None, hear, recording.pcm16, recording.rate)
        if fate.scripted is not None:
            return fate.scripted
        elsewhere = self._session.behaviour.unpinned_transcript
        if elsewhere is not None and not rules.pinned_languages(config):
            return elsewhere
        return words


def _completed(words: str, recording: Recording, config: Json) -> dict[str, Any]:
    """Return what a transcript comes with."""
    completed: dict[str, Any] = {"transcript": words, "usage": _usage(words, recording, config)}
    if config["model"] == "gpt-transcribe":
        pinned = rules.pinned_languages(config)
        completed["languages"] = [{"code": code} for code in pinned[:1] if words]
    return completed


def _usage(words: str, recording: Recording, config: Json) -> Json:
    """Return what a transcript is billed by: the length of the sound, or tokens."""
    if config["model"] in BILLED_BY_LENGTH:
        return {"type": "duration", "seconds": round(recording.seconds, 2)}
    heard, written = int(recording.seconds * 10), len(words) // 4
    return {
        "type": "tokens",
        "input_tokens": heard,
        "output_tokens": written,
        "total_tokens": heard + written,
        "input_token_details": {"audio_tokens": heard, "text_tokens": 0},
    }
