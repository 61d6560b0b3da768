"""Twilio's playback buffer: what waits to be heard by the caller, and the marks in it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

FRAME = 160  # bytes of mulaw in 20 ms
SILENCE = b"\xff" * FRAME
MAX_BUFFERED = 10 * 60 * 8000  # bytes; Twilio drops what is beyond ten minutes


@dataclass
class Mark:
    """A mark of the app's: `played` is None while it waits, False when `clear` returned it."""

    name: str
    position: int
    played: bool | None = None


class Playback:
    """What waits to be played to the caller, in bytes of 8 kHz mulaw. Has no clock of its own."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self._audio = bytearray()
        self._pending: deque[Mark] = deque()
        self._taken = 0  # bytes handed out to be played
        self._finished = 0  # bytes whose playing is over

    @property
    def buffered_ms(self) -> int:
        return len(self._audio) // 8

    def add(self, audio: bytes) -> int:
        """Append audio; return how many bytes were dropped because ten minutes are waiting."""
        room = max(0, MAX_BUFFERED - len(self._audio))
        self._audio += audio[:room]
        return max(0, len(audio) - room)

    def mark(self, name: str) -> list[Mark]:
        """Append a mark; return it if nothing is left to play before it."""
        mark = Mark(name, self._taken + len(self._audio))
        self.marks.append(mark)
        self._pending.append(mark)
        return self._due()

    def next_frame(self) -> tuple[bytes, list[Mark]]:
        """Return the audio of the next 20 ms (it may be short) and the marks now passed."""
        self._finished = self._taken
        audio = bytes(self._audio[:FRAME])
        del self._audio[:FRAME]
        self._taken += len(audio)
        return audio, self._due()

    def clear(self) -> list[Mark]:
        """Forget everything unplayed; return the marks that waited."""
        self._audio.clear()
        cleared = list(self._pending)
        self._pending.clear()
        for mark in cleared:
            mark.played = False
        return cleared

    def _due(self) -> list[Mark]:
        due = []
        while self._pending and self._pending[0].position <= self._finished:
            mark = self._pending.popleft()
            mark.played = True
            due.append(mark)
        return due
