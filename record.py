"""What is kept of a call while it lasts, for its log: what was heard, its turns, and totals."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from speech import ACTIONS, Kind
from utils import count_words

# What a caller waits for, one after another
GREETING = "greeting"
TRANSCRIPT = "transcript"
WORKFLOW = "workflow"
VOICE = "voice"


@dataclass
class Heard:
    """What the caller has said, or keyed in, since the workflow was asked last."""

    texts: list[str] = field(default_factory=list)
    keys: int = 0
    ended_at: float | None = None  # the last word
    known_at: float | None = None  # since when all of it could be asked

    @property
    def words(self) -> int:
        """How many words."""
        return sum(map(count_words, self.texts))

    def drop_noise(self) -> None:
        """Forget the end of a sound that had no words."""
        if not self.texts:
            self.ended_at = None

    def __str__(self) -> str:
        """Tell how much, never which keys."""
        parts = [counted(self.words, "word")] if self.words or not self.keys else []
        if self.keys:
            parts.append(counted(self.keys, "key"))
        return " and ".join(parts)


@dataclass
class Turn:
    """One message to the workflow, and what became of the reply."""

    number: int
    heard: Heard
    asked_at: float
    text_at: float | None = None  # its first text
    sound_at: float | None = None  # its first sound; a filler or an apology is none
    sentences: int = 0
    fillers: int = 0
    apologies: int = 0
    cut_in_after: int | None = None  # words that were heard

    @property
    def stages(self) -> dict[str, float]:
        """How many seconds each stage took, as far as it came.

        A message that waits until the workflow has written its last reply waits for the workflow.
        """
        known_at = self.asked_at if self.heard.known_at is None else self.heard.known_at
        times = {
            TRANSCRIPT: (self.heard.ended_at, known_at),
            WORKFLOW: (known_at, self.text_at),
            VOICE: (self.text_at, self.sound_at),
        }
        return {
            stage: until - since
            for stage, (since, until) in times.items()
            if since is not None and until is not None
        }

    @property
    def seconds(self) -> float:
        """How long the caller waited for the reply's first sound."""
        return sum(self.stages.values())

    @property
    def answered(self) -> bool:
        """Whether the caller got a reply: heard it begin, or saw it done."""
        is_only_done = self.text_at is not None and not self.sentences
        return is_only_done or self.sound_at is not None

    def reply(self, text: str, now: float) -> None:
        """Take a sentence of the reply, or an action."""
        if self.text_at is None:
            self.text_at = now
        if text not in ACTIONS:
            self.sentences += 1

    def sound(self, kind: Kind, now: float) -> None:
        """Take the first sound of a sentence."""
        if kind is Kind.FILLER:
            self.fillers += 1
        elif kind is Kind.REPLY and self.sound_at is None:
            self.sound_at = now

    def __str__(self) -> str:
        """Tell all of it in a line."""
        return f"turn {self.number}: " + ", ".join(self._parts())

    def _parts(self) -> Iterator[str]:
        stages = self.stages
        after = f" after {stages[TRANSCRIPT]:.2f} s" if TRANSCRIPT in stages else ""
        yield f"heard {self.heard}{after}"
        workflow = f"workflow {stages[WORKFLOW]:.2f} s" if WORKFLOW in stages else "no reply"
        if self.fillers == 1:
            workflow += " (filler)"
        elif self.fillers:
            workflow += f" ({self.fillers} fillers)"
        yield workflow
        if VOICE in stages:
            yield f"voice {stages[VOICE]:.2f} s"
        if self.sentences:
            yield counted(self.sentences, "sentence")
        if self.apologies:
            yield counted(self.apologies, "apology", "apologies")
        if self.cut_in_after is not None:
            yield f"cut in after {counted(self.cut_in_after, 'word')}"

    def fields(self) -> dict[str, Any]:
        """Return the same for JSON."""
        stages = {f"{stage}_seconds": round(took, 3) for stage, took in self.stages.items()}
        return {
            "turn": self.number,
            "heard_words": self.heard.words,
            "heard_keys": self.heard.keys,
            **stages,
            "fillers": self.fillers,
            "sentences": self.sentences,
            "apologies": self.apologies,
            "cut_in_after": self.cut_in_after,
        }


@dataclass
class Totals:
    """What a call's last line tells."""

    greeted: bool = False
    turns: int = 0
    answered: int = 0
    interruptions: int = 0
    slowest: float = 0.0  # seconds
    apologies: int = 0
    not_understood: int = 0
    repeats: int = 0
    lost: int = 0  # sessions with Realtime, or tries to have one
    read: int = 0  # sentences
    read_exactly: int = 0

    def add(self, turn: Turn) -> None:
        """Count a turn that is over."""
        self.answered += turn.answered
        if turn.sound_at is not None:
            self.interruptions += turn.cut_in_after is not None
            self.slowest = max(self.slowest, turn.seconds)

    @property
    def served(self) -> bool:
        """Whether the caller was greeted, and answered if they said something."""
        return self.greeted and (self.answered > 0 or not self.turns)

    def parts(self) -> Iterator[str]:
        """Tell what there is to tell."""
        if not self.greeted:
            yield "never greeted"
        yield counted(self.turns, "turn")
        if self.turns and not self.answered:
            yield "none answered"
        if self.interruptions:
            yield counted(self.interruptions, "interruption")
        if self.slowest:
            yield f"slowest {self.slowest:.1f} s"
        if self.apologies:
            yield counted(self.apologies, "apology", "apologies")
        if self.not_understood:
            yield f"{self.not_understood} not understood"
        if self.repeats:
            yield counted(self.repeats, "repeat")
        if self.lost:
            yield f"Realtime lost {times(self.lost)}"
        if self.read:
            yield f"read {100 * self.read_exactly // self.read} % word for word"


def times(number: int) -> str:
    """Return how often something happened."""
    return "once" if number == 1 else f"{number} times"


def counted(number: int, one: str, several: str = "") -> str:
    """Return a number with its noun."""
    noun = one if number == 1 else several or f"{one}s"
    return f"{number or 'no'} {noun}"
