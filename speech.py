"""What is said to the caller, and what of it the caller has heard."""

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from itertools import count

from lines import Limits
from utils import heard_part, speech_ms

HANG_UP, TRANSFER = ACTIONS = ("[hangup]", "[transfer]")


class Kind(Enum):
    """Whose words a sentence has."""

    REPLY = auto()  # the workflow's
    LINE = auto()  # the line's own
    FILLER = auto()  # the line's own, to bridge the workflow's silence


@dataclass
class Sentence:
    """A sentence on its way to the caller's ear, or an action at its place among them."""

    text: str
    kind: Kind
    mark: str = ""  # of this attempt to say it
    sent_ms: int = 0  # sound that went to Twilio in this attempt
    spoken: bool = False  # all of its sound went to Twilio
    heard: str = ""  # how much of it the caller has heard, in any attempt

    @property
    def acts(self) -> bool:
        """Whether this is an action."""
        return self.text in ACTIONS

    @property
    def length_ms(self) -> float:
        """The length of its sound; an estimate until it is spoken."""
        if self.spoken:
            return self.sent_ms
        return max(self.sent_ms, speech_ms(self.text))

    def note_heard(self, ms: float) -> None:
        """Note that so much of this attempt was played before it was cut."""
        heard = heard_part(self.text, min(ms, self.sent_ms) / self.length_ms)
        self.heard = max(self.heard, heard, key=len)

    def again(self) -> "Sentence":
        """Return the same sentence for another attempt."""
        return Sentence(self.text, self.kind, heard=self.heard)


class Speech:
    """Sentences wait, are spoken one at a time, are played, and are heard."""

    def __init__(self, limits: Limits) -> None:
        """Start empty."""
        self._ahead_ms = limits.ahead * 1000
        self._waiting = deque[Sentence]()
        self._sent = deque[Sentence]()  # the voice was asked for it, its mark has not come back
        self._heard_whole: list[str] = []  # sentences of the present reply
        self._playing_until = 0.0
        self._marks = count(1)

    @property
    def idle(self) -> bool:
        """Whether nothing is to be said and nothing to be heard."""
        return not self._waiting and not self._sent

    @property
    def in_flight(self) -> Sentence | None:
        """The sentence that the voice is speaking."""
        if self._sent and not self._sent[-1].spoken:
            return self._sent[-1]
        return None

    @property
    def buffered(self) -> bool:
        """Whether Twilio may have sound that the caller has not heard."""
        return any(sentence.sent_ms for sentence in self._sent)

    @property
    def reply_left(self) -> bool:
        """Whether some of the reply waits to be said, or done."""
        return any(sentence.kind is Kind.REPLY for sentence in self._waiting)

    @property
    def reply_heard(self) -> str:
        """The words of the reply that the caller has heard."""
        parts = [s.heard for s in self._waiting if s.kind is Kind.REPLY and s.heard]
        return " ".join(self._heard_whole + parts)

    def sounding(self, now: float) -> bool:
        """Whether the caller is hearing something."""
        return self._playing_until > now

    def add(self, text: str, kind: Kind) -> None:
        """Say this, or do it, after everything else; an empty text is nothing to say."""
        if text:
            self._waiting.append(Sentence(text, kind))

    def drop(self) -> None:
        """Forget the reply, and all that waits."""
        self._waiting.clear()
        self._heard_whole.clear()

    def drop_fillers(self) -> None:
        """Forget fillers that the answer has overtaken."""
        self._waiting = deque(s for s in self._waiting if s.kind is not Kind.FILLER)

    def drop_actions(self) -> None:
        """Forget what was to be done."""
        self._waiting = deque(s for s in self._waiting if not s.acts)

    def next(self, now: float) -> Sentence | None:
        """Return what is to be said, or done, now; an action waits for all words before it."""
        if not self._waiting or self.in_flight:
            return None
        if self._waiting[0].acts and self._sent:
            return None
        if self._left_ms(now) > self._ahead_ms:
            return None
        return self._waiting[0]

    def begin(self) -> Sentence:
        """Take the next sentence as asked for, under a mark of its own."""
        sentence = self._waiting.popleft()
        sentence.mark = str(next(self._marks))
        self._sent.append(sentence)
        return sentence

    def speaking(self, mark: str) -> Sentence | None:
        """Return the sentence in flight if this is its mark: others were stopped."""
        sentence = self.in_flight
        if sentence and sentence.mark == mark:
            return sentence
        return None

    def add_sound(self, sentence: Sentence, ms: int, now: float) -> None:
        """Note that so much sound went to Twilio, which plays it after all that it has."""
        self._playing_until = max(self._playing_until, now) + ms / 1000
        sentence.sent_ms += ms

    def hear(self, mark: str) -> bool:
        """Count all up to a mark as heard; tell whether the mark is known, or was taken back."""
        marks = [sentence.mark for sentence in self._sent]
        if mark not in marks:
            return False
        for _ in range(marks.index(mark) + 1):
            self._count_as_heard(self._sent.popleft())
        return True

    def retry_last(self) -> None:
        """Have the sentence in flight, of which no sound was sent, wait again."""
        sentence = self._sent.pop()
        overtaken = sentence.kind is Kind.FILLER and self._waiting
        if not overtaken:
            self._waiting.appendleft(sentence.again())

    def take_back(self, now: float) -> None:
        """Have all that was not heard wait again; the sound of it must be cleared."""
        played_ms = sum(sentence.sent_ms for sentence in self._sent) - self._left_ms(now)
        self._playing_until = now
        for sentence in self._sent:
            sentence.note_heard(max(played_ms, 0))
            played_ms -= sentence.sent_ms
        while self._sent and self._heard_to_its_end(self._sent[0]):
            self._count_as_heard(self._sent.popleft())
        # A filler is never resumed: the next one comes when it is needed
        cut = [sentence.again() for sentence in self._sent if sentence.kind is not Kind.FILLER]
        self._waiting.extendleft(reversed(cut))
        self._sent.clear()

    def _heard_to_its_end(self, sentence: Sentence) -> bool:
        return sentence.spoken and sentence.heard == sentence.text

    def _count_as_heard(self, sentence: Sentence) -> None:
        if sentence.kind is Kind.REPLY:
            self._heard_whole.append(sentence.text)

    def _left_ms(self, now: float) -> float:
        return max(self._playing_until - now, 0) * 1000


class Voice:
    """Whether the voice can be asked to speak, and why not."""

    def __init__(self, limits: Limits) -> None:
        """Wait for the first session."""
        self.ready = False
        self.reason = "the voice did not start"  # the last that is known
        self._first_pause = limits.retry
        self._pause = limits.retry
        self._retry_at = 0.0

    def begin(self) -> None:
        """Use a session that is ready."""
        self.ready = True

    def lose(self, reason: str) -> None:
        """Wait for the next session."""
        self.ready = False
        self.reason = reason

    def usable(self, now: float) -> bool:
        """Whether a sentence may be asked for."""
        return self.ready and now >= self._retry_at

    def fail(self, reason: str, now: float) -> None:
        """Pause after a failure, twice as long with each in a row."""
        self.reason = reason
        self._retry_at = now + self._pause
        self._pause *= 2

    def succeed(self) -> None:
        """Note that a sentence was heard."""
        self.reason = "the voice fell silent"
        self._pause = self._first_pause
