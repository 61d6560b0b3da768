"""The agent's sentences as the page shows them: coming, sounding, heard, or cut at a word."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MS_PER_LETTER = 65  # of a sentence whose sound isn't all there yet
WORD_END = re.compile(r"(?<=\S)(?=\s|$)")

COMING, SOUNDING, HEARD, CUT = "coming", "sounding", "heard", "cut"


@dataclass
class AgentSentence:
    """A sentence that the app has asked for; `heard` is the part of it that was heard."""

    key: str
    text: str
    state: str = COMING
    sent_ms: float = 0.0  # sound that reached the phone network
    whole: bool = False  # that is all of its sound
    heard: str = ""

    @property
    def settled(self) -> bool:
        return self.state in (HEARD, CUT)

    def cut(self, unheard_ms: float) -> None:
        """Note that the last of its sound was never played."""
        length = self.sent_ms
        if not self.whole:
            length = max(length, MS_PER_LETTER * len(self.text))
        played = max(0.0, self.sent_ms - unheard_ms)
        self.heard = heard_words(self.text, played / length if length else 0.0)
        self.state = HEARD if self.heard == self.text else CUT


class AgentWords:
    """What the agent says in one call. `show` gets each sentence whenever it has changed."""

    def __init__(self, show: Callable[[AgentSentence], None]) -> None:
        self._show = show
        self._sentences: list[AgentSentence] = []
        self._stream = 0

    @property
    def waiting(self) -> list[AgentSentence]:
        """The sentences that are to be heard, in order."""
        return [each for each in self._sentences if not each.settled]

    @property
    def sounding(self) -> bool:
        """Whether the caller is hearing one of them."""
        return any(each.state == SOUNDING for each in self._sentences)

    def on_stream(self) -> None:
        """Begin another media stream: its marks are counted anew."""
        self._stream += 1

    def on_asked(self, response: dict[str, Any]) -> None:
        """Take a `response.create` of the app's."""
        (mark,) = response["metadata"].values()
        text = response["input"][-1]["content"][-1]["text"]
        sentence = AgentSentence(self._key(mark), text)
        self._sentences.append(sentence)
        self._show(sentence)

    def on_sound(self, ms: float) -> None:
        """Count sound that has come to the phone network, for the sentence asked for last."""
        for sentence in self.waiting[-1:]:
            sentence.sent_ms += ms
            self._set(sentence, SOUNDING)

    def on_whole(self, mark: str) -> None:
        """Note that all sound of a sentence has come."""
        for sentence in self._named(mark):
            sentence.whole = True

    def on_heard(self, mark: str) -> None:
        """Note that a sentence was heard to its end."""
        for sentence in self._named(mark):
            sentence.heard = sentence.text
            self._set(sentence, HEARD)

    def on_cut(self, unheard_ms: float) -> None:
        """Cut all that isn't heard: the last so many ms of their sound were never played."""
        for sentence in reversed(self.waiting):
            sentence.cut(unheard_ms)
            unheard_ms = max(0.0, unheard_ms - sentence.sent_ms)
            self._show(sentence)

    def on_given_up(self, mark: str) -> None:
        """Cut a sentence that ended without having sounded."""
        for sentence in self._named(mark):
            if not sentence.sent_ms:
                sentence.cut(0)
                self._show(sentence)

    def _key(self, mark: str) -> str:
        return f"{self._stream}.{mark}"

    def _named(self, mark: str) -> list[AgentSentence]:
        return [each for each in self.waiting if each.key == self._key(mark)]

    def _set(self, sentence: AgentSentence, state: str) -> None:
        if sentence.state != state:
            sentence.state = state
            self._show(sentence)


def heard_words(text: str, share: float) -> str:
    """Return what was heard of a text when this share of its sound was: whole words."""
    ends = [0, *(match.start() for match in WORD_END.finditer(text))]
    played = share * len(text)
    return text[: min(ends, key=lambda end: abs(end - played))]
