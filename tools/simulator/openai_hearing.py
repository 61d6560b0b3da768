"""Hearing as Realtime does it: G.711 or PCM in, and where in it somebody speaks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # from 3.13 on it is audioop-lts
    import audioop

WINDOW_MS = 20
ONSET_WINDOWS = 2
RMS_AT_FULL_THRESHOLD = 1000

# By the codec's name on the wire: samples a second, and how it becomes PCM16 and back.
RATES = {"audio/pcm": 24_000, "audio/pcmu": 8_000, "audio/pcma": 8_000}
TO_PCM: dict[str, Callable[[bytes], bytes]] = {
    "audio/pcm": bytes,
    "audio/pcmu": lambda data: audioop.ulaw2lin(data, 2),
    "audio/pcma": lambda data: audioop.alaw2lin(data, 2),
}
FROM_PCM: dict[str, Callable[[bytes], bytes]] = {
    "audio/pcm": bytes,
    "audio/pcmu": lambda data: audioop.lin2ulaw(data, 2),
    "audio/pcma": lambda data: audioop.lin2alaw(data, 2),
}

SERVER_VAD: dict[str, Any] = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
    "idle_timeout_ms": None,
    "create_response": True,
    "interrupt_response": True,
}
SEMANTIC_VAD: dict[str, Any] = {
    "type": "semantic_vad",
    "eagerness": "auto",
    "create_response": True,
    "interrupt_response": True,
}
TURN_DETECTION = {"server_vad": SERVER_VAD, "semantic_vad": SEMANTIC_VAD}
SEMANTIC_SILENCE_MS = {"low": 600, "medium": 450, "auto": 450, "high": 300}


class SpeechDetector:
    """Find speech in the audio that arrives. Time is counted in samples, never by the clock."""

    def __init__(self, rate: int, now_ms: int = 0) -> None:
        self.rate = rate
        self.now_ms = now_ms
        self.buffer = bytearray()
        self.speaking = False
        self.quiet_ms = 0
        self._loud_windows = 0
        self._window = bytearray()
        self._window_bytes = self.bytes_of(WINDOW_MS)

    def bytes_of(self, ms: int) -> int:
        return self.rate * 2 * ms // 1000

    @property
    def buffered_ms(self) -> float:
        return (len(self.buffer) + len(self._window)) * 500 / self.rate

    def take(self) -> bytes:
        """Empty the buffer and return what was in it."""
        recording = bytes(self.buffer + self._window)
        self.buffer.clear()
        self._window.clear()
        self.speaking = False
        self._loud_windows = self.quiet_ms = 0
        return recording

    def feed(self, pcm16: bytes, turns: Mapping[str, Any] | None) -> Iterator[tuple[str, int]]:
        """Add audio; yield ("started", ms) and ("stopped", ms) as speech begins and ends in it."""
        self._window += pcm16
        while len(self._window) >= self._window_bytes:
            window = bytes(self._window[: self._window_bytes])
            del self._window[: self._window_bytes]
            self.buffer += window
            self.now_ms += WINDOW_MS
            if turns is not None:
                yield from self._judge(window, turns)

    def _judge(self, window: bytes, turns: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
        loud = audioop.rms(window, 2) >= turns.get("threshold", 0.5) * RMS_AT_FULL_THRESHOLD
        self.quiet_ms = 0 if loud else self.quiet_ms + WINDOW_MS
        if self.speaking:
            if self.quiet_ms >= _silence_ms(turns):
                yield "stopped", self.now_ms
            return
        self._loud_windows = self._loud_windows + 1 if loud else 0
        keep = turns.get("prefix_padding_ms", 300) + max(1, self._loud_windows) * WINDOW_MS
        del self.buffer[: max(0, len(self.buffer) - self.bytes_of(keep))]
        if self._loud_windows >= ONSET_WINDOWS:
            self.speaking = True
            yield "started", self.now_ms - len(self.buffer) * 500 // self.rate


def _silence_ms(turns: Mapping[str, Any]) -> int:
    if turns["type"] == "server_vad":
        return int(turns["silence_duration_ms"])
    return SEMANTIC_SILENCE_MS[turns["eagerness"]]
