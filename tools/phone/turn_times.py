"""The times of a turn, taken from outside: last word, transcript, first text, first audio."""

from __future__ import annotations

from dataclasses import dataclass

STEPS = ("transcript", "first text", "first audio")


@dataclass
class TurnTimes:
    """When each step of one turn came, in seconds of the recording; 0: not yet."""

    last_word: float
    transcript: float = 0.0
    first_text: float = 0.0
    first_audio: float = 0.0

    @property
    def steps(self) -> list[tuple[str, float]]:
        """Name each step and when it came."""
        times = (self.transcript, self.first_text, self.first_audio)
        return list(zip(STEPS, times, strict=True))

    def __str__(self) -> str:
        told = [f"{name} {at - self.last_word:.1f} s" for name, at in self.steps]
        return "after the last word: " + ", ".join(told)


class Stopwatch:
    """Take the times of one turn after another."""

    def __init__(self) -> None:
        self.turns: list[TurnTimes] = []
        self._turn: TurnTimes | None = None

    def caller_speaks(self) -> None:
        """Forget a turn that has no answer yet."""
        self._turn = None

    def caller_stopped(self, last_word: float) -> None:
        """Begin a turn."""
        self._turn = TurnTimes(last_word)

    def transcribed(self, at: float) -> None:
        if self._turn and not self._turn.transcript:
            self._turn.transcript = at

    def text_came(self, at: float) -> None:
        if self._turn and self._turn.transcript and not self._turn.first_text:
            self._turn.first_text = at

    def sound_came(self, at: float) -> TurnTimes | None:
        """Return the turn, if this is the first sound of its answer."""
        turn = self._turn
        if turn is None or not turn.first_text:
            return None
        turn.first_audio = at
        self.turns.append(turn)
        self._turn = None
        return turn
