"""What the caller says and keys in, until all of it is understood."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import count
from math import inf

from lines import Limits, Lines


class Caller(Enum):
    """The caller, as we hear them. Only SILENT is idle."""

    SILENT = auto()
    SPEAKING = auto()
    AWAITED = auto()  # has spoken, or pressed keys; the transcript, or more keys, may come


@dataclass
class Stretch:
    """What the caller says, or keys in, in one go."""

    began: float = 0.0
    seconds: float = 0.0  # of speech, known once it has ended
    due: float = inf  # when it is given up, or the keys are complete
    speaking: bool = False  # its end has not been heard
    keys: str = ""
    words: str | None = None  # None until they are known, "" if it was a noise

    @property
    def state(self) -> Caller:
        """Tell what the caller does, as far as this stretch goes."""
        if self.words is not None:
            return Caller.SILENT
        if self.speaking:
            return Caller.SPEAKING
        return Caller.AWAITED


class Hearing:
    """Stretches of speech and of keys, in the order in which they began."""

    def __init__(self, lines: Lines, limits: Limits) -> None:
        """Start empty."""
        self.misunderstood = 0  # how often in a row
        self.wordless = 0  # how many times in a row speech, not a mere noise, had no words
        self._lines = lines
        self._limits = limits
        self._stretches: dict[str, Stretch] = {}
        self._transcribed: set[str] = set()  # items; a transcript that comes twice counts once
        self._names = count(1)

    @property
    def pending(self) -> bool:
        """Whether there is anything that has not been taken."""
        return bool(self._stretches)

    @property
    def state(self) -> Caller:
        """Tell what the caller does."""
        if not self._stretches:  # as nearly always; this is asked at every tick
            return Caller.SILENT
        states = {stretch.state for stretch in self._stretches.values()}
        if Caller.SPEAKING in states:
            return Caller.SPEAKING
        if Caller.AWAITED in states:
            return Caller.AWAITED
        return Caller.SILENT

    def begin(self, item: str, now: float) -> None:
        """Hear a stretch of speech begin; whatever was spoken before it has ended."""
        if item in self._transcribed:
            return  # its words came first
        for earlier in self._stretches:
            self.stop(earlier, now)
        stretch = Stretch(now, due=now + self._limits.speech, speaking=True)
        self._stretches.setdefault(item, stretch)

    def stop(self, item: str, now: float, ago: float = 0.0) -> None:
        """Hear that it has ended, so many seconds ago: wait for its transcript."""
        stretch = self._stretches.get(item)
        if stretch and stretch.speaking:
            stretch.speaking = False
            stretch.seconds = max(now - ago - stretch.began, 0.0)
            stretch.due = now + self._limits.transcript

    def transcribe(self, item: str, words: str | None) -> None:
        """Take the words of a stretch: "" of a noise, None if they are unintelligible."""
        if item in self._transcribed:
            return
        self._transcribed.add(item)
        heard = self._lines.inaudible if words is None else spoken(words)
        if item in self._stretches:
            self._stretches[item].words = heard
        elif heard and words is not None:
            # Given up, so spoken before all that is heard now
            self._stretches = {item: Stretch(words=heard), **self._stretches}

    def press(self, digit: str, now: float) -> None:
        """Take a key; `#` or a pause completes them."""
        stretch = next(self._unknown(keys=True), None)
        if stretch is None:
            stretch = Stretch()
            self._stretches[f"keys {next(self._names)}"] = stretch
        stretch.keys += digit
        stretch.due = now if digit == "#" else now + self._limits.keys

    def lose_session(self, now: float) -> None:
        """Give up all speech whose transcript has not come: it never will.

        What is still being said may go on in the next session, and so is waited for.
        """
        for stretch in self._unknown(keys=False):
            if not stretch.speaking:
                stretch.words = self._lines.inaudible
        for item in self._stretches:
            self.stop(item, now)

    def expire(self, now: float) -> None:
        """Give up speech and transcripts that are overdue; complete keys after a pause."""
        for stretch in self._stretches.values():
            if stretch.words is None and now >= stretch.due:
                stretch.words = self._keyed(stretch.keys) if stretch.keys else self._lines.inaudible

    def take(self) -> list[Stretch]:
        """Return all that was heard, in order, unless more words are on their way."""
        if self.state is not Caller.SILENT:
            return []
        heard = list(self._stretches.values())
        self.clear()
        return heard

    def known(self) -> list[str]:
        """Return all words, the last that will be taken; none if nothing was understood."""
        self.expire(inf)
        words = [stretch.words for stretch in self.take() if stretch.words]
        return words if set(words) - {self._lines.inaudible} else []

    def clear(self) -> None:
        """Forget all that was heard."""
        self._stretches.clear()

    def _unknown(self, keys: bool) -> Iterator[Stretch]:
        for stretch in self._stretches.values():
            if stretch.words is None and bool(stretch.keys) is keys:
                yield stretch

    def _keyed(self, keys: str) -> str:
        return self._lines.keys.replace("{}", keys.rstrip("#") or "#")


def spoken(transcript: str) -> str:
    """Return the words of a transcript; of a noise it may be "…", which is none."""
    has_words = any(letter.isalnum() for letter in transcript)
    return transcript.strip() if has_words else ""
