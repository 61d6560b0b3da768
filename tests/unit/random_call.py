"""A call with a faithful network, voice, workflow and caller, all of which may do as they like.

They run on a clock that the test turns, and check what must hold in every order of events: see
`RandomCall`. What they do next is told by a test.
"""

import heapq
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from conversation import Conversation, Outcome, Port
from lines import Limits, Lines
from speech import ACTIONS
from utils import heard_part, speech_ms

LINES = Lines()
PROMISE = 4.0  # seconds of unexplained silence at most
TICK = 0.2  # seconds: as rarely as the rules allow
LATENCY = 0.05  # of a mark on its way back, seconds
LETTERS = 9  # by which a report of what was heard may be wrong: what is said in 0.6 s
KEY_PAUSE = Limits().keys + 2 * TICK
GIVEN_UP = Limits().transcript + 2 * TICK  # seconds after which a transcript is late
REASONS = (
    "close 1001",
    "no route to host",
    "rate limit",
    "the voice did not start",
    "the voice fell silent",
    "the voice made no sound",
)
CUT_IN = re.compile(re.escape(LINES.cut_in).replace(r"\{\}", "(.*?)"))

SPOKEN_PART = {"fails": 0.0, "empty": 0.0, "hopeless": 0.0, "fails midway": 0.5, "stalls": 0.5}
OUTCOMES = {
    "fails": Outcome.FAILED,
    "fails midway": Outcome.FAILED,
    "filtered": Outcome.FILTERED,
    "hopeless": Outcome.HOPELESS,
}
PIECES = {"long": 6, "fails": 0, "empty": 0}  # of a reply; else 2

Event = Callable[[], None]


class Agenda:
    """A clock that the test turns, and what is to happen when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Event]] = []
        self._order = count()

    def after(self, seconds: float, event: Event) -> None:
        at = self.now + seconds
        heapq.heappush(self._events, (at, next(self._order), event))

    def due(self) -> Iterator[Event]:
        while self._events and self._events[0][0] <= self.now:
            _, _, event = heapq.heappop(self._events)
            yield event


@dataclass
class Buffered:
    """Sound in Twilio's buffer, or a mark behind it."""

    mark: str
    ms: float = 0.0


class BufferedLine:
    """Twilio's buffer, and the caller's ear behind it."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self._buffer: list[Buffered] = []
        self.played: dict[str, float] = defaultdict(float)  # ms by mark
        self.on_mark: Callable[[str], None]

    def add(self, mark: str, ms: float = 0.0) -> None:
        self._buffer.append(Buffered(mark, ms))

    def clear(self) -> None:
        for buffered in self._buffer:
            if not buffered.ms:
                self._return(buffered.mark)
        self._buffer.clear()

    def play(self) -> set[str]:
        """Play for one tick; return the marks of the sentences that sounded."""
        left = TICK * 1000
        sounded = set()
        while self._buffer and left > 0:
            first = self._buffer[0]
            if first.ms:
                part = min(left, first.ms)
                first.ms -= part
                left -= part
                self.played[first.mark] += part
                sounded.add(first.mark)
            else:
                self._return(first.mark)
            if not first.ms:
                self._buffer.pop(0)
        return sounded

    def _return(self, mark: str) -> None:
        self._agenda.after(LATENCY, partial(self.on_mark, mark))


@dataclass
class Attempt:
    """The voice is asked to say a sentence."""

    mark: str
    text: str
    stopped: bool = False
    over: bool = False

    @property
    def in_flight(self) -> bool:
        return not self.stopped and not self.over

    @property
    def whole_ms(self) -> float:
        return speech_ms(self.text)


@dataclass
class Piece:
    """A sentence of a reply that was wanted when it came."""

    turn: int
    text: str
    played: float = 0.0  # the largest part of it that was played in one attempt

    @property
    def heard(self) -> bool:
        return self.played > 0.99

    @property
    def part_heard(self) -> str:
        return heard_part(self.text, self.played)


class RandomVoice:
    """Sessions that come and go, and speak as they are told to."""

    def __init__(self, agenda: Agenda, line: BufferedLine, habit: str) -> None:
        self._agenda = agenda
        self._line = line
        self._habit = habit
        self._session = 0
        self.live = False
        self.troubled = habit != "good"  # something has ever gone wrong
        self.next: list[str] = []  # how the next sentences go
        self.attempts: dict[str, Attempt] = {}
        self.rules: Conversation

    @property
    def in_flight(self) -> bool:
        return any(attempt.in_flight for attempt in self.attempts.values())

    def open(self) -> None:
        self.live = True
        self._session += 1
        self.rules.voice_ready()

    def lose(self) -> None:
        self.live = False
        self.troubled = True
        for attempt in self.attempts.values():
            attempt.over = True
        self.rules.voice_lost("close 1001")

    def say(self, mark: str, text: str) -> None:
        assert self.live, "said to a lost session"
        assert not self.in_flight, "two sentences in flight"
        assert text not in ACTIONS
        attempt = self.attempts[mark] = Attempt(mark, text)
        how = self._habit
        if self.next:
            how = self.next.pop(0)
        self._perform(attempt, how)

    def stop(self, mark: str) -> None:
        attempt = self.attempts[mark]
        assert not attempt.over, "stopped what is over"
        assert not attempt.stopped, "stopped twice"
        attempt.stopped = True

    def _perform(self, attempt: Attempt, how: str) -> None:
        """Make the events of a response. Sound comes twice as fast as it plays."""
        self.troubled |= how != "good"
        if how == "no sound":
            return
        at = 0.2
        left = attempt.whole_ms * SPOKEN_PART.get(how, 1.0)
        while left > 0:
            at += 0.2
            part = min(left, 400)
            self._later(at, partial(self._sound, attempt, part))
            left -= part
        if how != "stalls":
            self._later(at + 0.1, partial(self._end, attempt, how))

    def _later(self, seconds: float, event: Event) -> None:
        session = self._session

        def happen() -> None:
            if self.live and session == self._session:
                event()

        self._agenda.after(seconds, happen)

    def _sound(self, attempt: Attempt, ms: float) -> None:
        passed_on = self.rules.voice_sound(attempt.mark, math.ceil(ms))
        assert passed_on is not attempt.stopped, "sound after its end, or lost"
        if passed_on:
            self._line.add(attempt.mark, ms)

    def _end(self, attempt: Attempt, how: str) -> None:
        attempt.over = True
        outcome = OUTCOMES.get(how, Outcome.SPOKEN)
        reason = "insufficient_quota" if how == "hopeless" else "rate limit"
        self.rules.voice_ended(attempt.mark, outcome, reason)


class RandomWorkflow:
    """Works on one turn at a time, and replies as it is told to."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self.next: list[str] = []  # how the next replies go
        self.busy = 0  # the turn that it works on
        self.waits = 0  # the turn that it was asked for meanwhile
        self.pieces: list[Piece] = []
        self.excused: set[int] = set()  # turns that need not be heard any more
        self.on_piece: Callable[[int, str], None]
        self.rules: Conversation

    @property
    def missed(self) -> list[Piece]:
        return [p for p in self.pieces if not p.heard and p.turn not in self.excused]

    def excuse(self) -> None:
        """Let what the caller has cut, or was apologised for, be unheard."""
        self.excused.add(self.busy)
        self.excused.update(piece.turn for piece in self.pieces)

    def heard_last(self) -> str:
        """Return what was heard of the last reply."""
        last = self.pieces[-1].turn
        parts = [piece.part_heard for piece in self.pieces if piece.turn == last]
        return " ".join(filter(None, parts))

    def hear(self, text: str, part: float) -> None:
        for piece in self.pieces:
            if piece.text == text:
                piece.played = max(piece.played, part)

    def ask(self, turn: int) -> None:
        self.excused.update(range(turn))  # the caller has gone on
        if self.busy:
            self.waits = turn
            return
        self.busy = turn
        how = "short"
        if self.next:
            how = self.next.pop(0)
        at = 7.0 if how == "slow" else 0.3
        for text in self._texts(turn, how):
            at += 0.2
            self._agenda.after(at, partial(self.on_piece, turn, text))
            if how == "gap":
                at += 9.0
        failed = how.startswith("fails") or how == "empty"
        self._agenda.after(at + 0.3, partial(self._end, turn, failed))

    def _texts(self, turn: int, how: str) -> Iterator[str]:
        for number in range(PIECES.get(how, 2)):
            yield f"This is part {number} of what I say to {turn}."
        if how in ACTIONS:
            yield how
            yield "And what follows."

    def _end(self, turn: int, failed: bool) -> None:
        self.busy = 0
        if failed:
            self.rules.reply_failed(turn)
        else:
            self.rules.reply_ended(turn)


@dataclass
class SpokenWords:
    """What the caller has said and keyed, and how much of it the workflow was told."""

    said: list[str] = field(default_factory=list)  # transcripts in time, in order of speech
    said_late: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    pressed: str = ""  # keys but `#`
    keyed: str = ""  # those of which the workflow was told

    @property
    def untold(self) -> list[str]:
        said = self.said + self.said_late
        return [words for words in said if words not in self.asked]

    @property
    def keys_untold(self) -> bool:
        return self.pressed != self.keyed

    def note_message(self, message: str) -> None:
        self.asked += re.findall(r"wi\d+w", message)
        for keys in re.findall(r"pressed ([\d*#]+)", message):
            self.keyed += keys.strip("#")

    def check(self) -> None:
        assert self.pressed.startswith(self.keyed), self
        assert len(self.asked) == len(set(self.asked)), f"asked twice: {self}"
        in_time = [words for words in self.asked if words in self.said]
        in_order = [words for words in self.said if words in self.asked]
        assert in_time == in_order, f"out of order: {self}"


class RandomCaller:
    """Speaks, presses keys, and is transcribed well or badly."""

    def __init__(self, agenda: Agenda, voice: RandomVoice) -> None:
        self._agenda = agenda
        self._voice = voice
        self._items = count(1)
        self.words = SpokenWords()
        self.speaking = ""  # the item
        self.awaited: set[str] = set()  # items whose transcript is on its way
        self.unstopped: set[str] = set()  # items of whose end no session tells
        self.last_sign = -9.0  # when the caller last spoke, or pressed a key
        self.last_key = -9.0
        self.on_words: Callable[[], None]
        self.is_listened_to: Callable[[], bool]
        self.rules: Conversation

    @property
    def pressing(self) -> bool:
        return self._agenda.now < self.last_key + KEY_PAUSE

    @property
    def is_heard(self) -> bool:
        """Whether the caller is speaking, and the session has noticed."""
        return self.speaking in self.awaited

    @property
    def seems_to_speak(self) -> bool:
        """Whether the caller is speaking for all that the line can know."""
        return bool(self.speaking or self.unstopped & self.awaited)

    @property
    def quiet(self) -> bool:
        """Whether nothing is being said, keyed or transcribed."""
        return not self.speaking and not self.awaited and not self.pressing

    def starts(self) -> None:
        self.last_sign = self._agenda.now
        self.be_heard()

    def be_heard(self) -> None:
        """Have the present session hear what the caller is saying."""
        self.speaking = f"i{next(self._items)}"
        if self._voice.live:
            self.awaited.add(self.speaking)
            self.rules.caller_speaks(self.speaking)

    def stops(self, how: str) -> None:
        item = self.speaking
        self.speaking = ""
        self.last_sign = self._agenda.now
        if item not in self.awaited:
            return  # its session was lost
        if how == "unstopped":
            self.unstopped.add(item)
        else:
            self.rules.caller_stops(item)
        if how in ("never", "late"):
            self._agenda.after(GIVEN_UP, partial(self._give_up, item))
        if how == "never":
            return
        words = self._words(item, how)
        if words and how != "late" and self.is_listened_to():
            self.words.said.append(words)
        delay = 6.0 if how == "late" else 0.4
        self._agenda.after(delay, partial(self._transcribed, item, words, how))

    def _words(self, item: str, how: str = "good") -> str | None:
        if how == "failed":
            return None
        if how == "noise":
            return ""
        return f"w{item}w"

    def lose_session(self) -> None:
        if self.awaited:
            self.on_words()
        self.forget_unknown()

    def forget_unknown(self) -> None:
        """Expect nobody to know of words whose transcript hasn't come."""
        lost = [self._words(item) for item in self.awaited]
        self.words.said = [words for words in self.words.said if words not in lost]
        self.awaited.clear()

    def press(self, digits: str) -> None:
        for digit in digits:
            self.words.pressed += digit.strip("#")
            self.last_sign = self.last_key = self._agenda.now
            self.rules.key(digit)

    def _give_up(self, item: str) -> None:
        if item in self.awaited:
            self.awaited.discard(item)
            self.on_words()

    def _transcribed(self, item: str, words: str | None, how: str) -> None:
        if how == "late" and self.is_listened_to():
            self.words.said_late.append(str(words))
        elif how != "late" and item not in self.awaited:
            return  # its session was lost
        self.awaited.discard(item)
        if words != "":
            self.on_words()
        self.rules.caller_said(item, words)
        if how == "twice":
            self.rules.caller_said(item, words)


class RandomCall(Port):
    """All of it together, and what must hold."""

    def __init__(self, limits: Limits, habit: str, refuses: bool) -> None:
        self.agenda = Agenda()
        self.limits = limits
        self.line = BufferedLine(self.agenda)
        self.voice = RandomVoice(self.agenda, self.line, habit)
        self.workflow = RandomWorkflow(self.agenda)
        self.caller = RandomCaller(self.agenda, self.voice)
        self.ends: list[str] = []
        self.open = True
        self.acted = 0  # the last turn with an action
        self.left = 0  # the turn that the caller was asked to go back to
        self.last_sound = 0.0
        self.unowed = 0.0  # when the caller was last owed nothing
        self._refuses = refuses  # to hang up, to transfer, …
        self.rules = Conversation(self, lambda: self.agenda.now, "Hello there.", limits=limits)
        self._connect()

    def _connect(self) -> None:
        self.line.on_mark = self.rules.heard
        self.voice.rules = self.rules
        self.workflow.rules = self.rules
        self.caller.rules = self.rules
        self.workflow.on_piece = self._on_piece
        self.caller.on_words = self.workflow.excuse
        self.caller.is_listened_to = self._listens
        self.agenda.after(0.3, self._open_session)

    @property
    def thinking(self) -> bool:
        """Whether the workflow works on a reply that the caller waits for."""
        return self.workflow.busy not in (0, self.left)

    @property
    def overlong(self) -> bool:
        return self.agenda.now >= self.limits.longest

    # --- the port ---

    def say(self, mark: str, text: str) -> None:
        self._must_be_open()
        if text in (LINES.apology, LINES.say_again):
            self.workflow.excuse()
        if text == LINES.say_again:
            self.left = self.workflow.busy
        assert self.overlong or not self.caller.is_heard, "talks over the caller"
        words = self.caller.words
        untold = words.untold or words.keys_untold
        if text in LINES.fillers:
            assert self.thinking or untold, "a filler for nothing"
        if text.startswith("This is part"):
            assert not untold, "a reply while the caller's words wait"
            assert not text.endswith(f" {self.left}."), "a reply that the caller has left"
        self.voice.say(mark, text)

    def stop(self, mark: str) -> None:
        self.voice.stop(mark)

    def mark(self, mark: str) -> None:
        self.line.add(mark)

    def clear(self) -> None:
        self.line.clear()

    def ask(self, turn: int, message: str) -> None:
        self._must_be_open()
        self._check_report(message)
        self.caller.words.note_message(message)
        self.caller.words.check()
        self.workflow.ask(turn)

    def hang_up(self) -> None:
        if not self.overlong:
            self._check_said("hang up")
        self._end("hang up")

    def transfer(self) -> None:
        self._check_said("transfer")
        self._end("transfer")

    def close(self, reason: str) -> None:
        if reason == "drained":
            self._check_said(reason)
            assert not self.thinking, "closed while the workflow thinks"
            self._end(reason)
        else:
            assert self.ends.pop() == "refused", reason

    def hold(self, reason: str) -> None:
        assert self.voice.troubled, f"on hold for nothing: {reason}"
        assert reason in REASONS
        self._check_told()
        self._end("hold")

    def give_up(self, reason: str) -> None:
        assert reason == "insufficient_quota"
        self._end("give up")

    # --- what must hold ---

    def _listens(self) -> bool:
        """Whether the call goes on, or does so if a transfer fails."""
        return self.open or self.ends[-1] == "transfer"

    def _must_be_open(self) -> None:
        assert self.open, f"something is done after {self.ends}"

    def _end(self, how: str) -> None:
        self._must_be_open()
        self.open = False
        self.ends.append(how)
        if self._refuses and how != "drained":
            self.agenda.after(0.5, partial(self._refuse, how))

    def _refuse(self, how: str) -> None:
        if how == "transfer":
            self.open = True
            self.rules.act_failed()
        else:
            self.ends.append("refused")
            self.rules.act_failed()
            assert self.ends[-1] == how, "not closed"

    def _check_said(self, how: str) -> None:
        """Check that all was said, and that the caller has not spoken up."""
        assert not self.caller.speaking or not self.voice.live, f"{how} while the caller speaks"
        assert not self.caller.awaited, f"{how} before the transcript"
        assert not self.workflow.missed, f"{how} before {self.workflow.missed}"
        *_, last = self.voice.attempts.values()
        assert self.line.played[last.mark] > 0.9 * last.whole_ms, f"{how} before {last}"

    def _check_told(self) -> None:
        """Check that the workflow knows of all that was understood, but for an overlong call."""
        if self.overlong:
            return
        self.caller.forget_unknown()
        words = self.caller.words
        assert not words.untold, f"the workflow never hears {words.untold}"
        assert not words.keys_untold, f"the workflow never hears of {words.pressed}"

    def _check_report(self, message: str) -> None:
        reports = CUT_IN.findall(message)
        assert len(reports) <= 1, message
        if reports and reports[0]:
            heard = self.workflow.heard_last()
            assert abs(len(reports[0]) - len(heard)) <= LETTERS, (reports[0], heard)

    def check(self) -> None:
        """Check what must hold at every moment."""
        assert not self.open or not self.workflow.waits, "asked while it works"
        now = self.agenda.now
        if not self.open or self.caller.seems_to_speak or not self._owes():
            self.unowed = now
        since = max(self.last_sound, self.caller.last_sign, self.unowed)
        assert now - since <= PROMISE, "unexplained silence"
        assert not self.open or now < self.limits.longest + 45, "a call without an end"

    def _owes(self) -> bool:
        unheard = self.workflow.missed or self.voice.in_flight
        return bool(self.thinking or unheard or not self.voice.live)

    # --- what happens ---

    def _on_piece(self, turn: int, text: str) -> None:
        if text in ACTIONS:
            self.acted = turn  # nothing of the reply counts that follows
        if self.open and turn not in (self.left, self.acted):
            self.workflow.pieces.append(Piece(turn, text))
        if not self.caller.quiet:
            self.workflow.excused.add(turn)  # the caller has already gone on
        self.rules.reply_piece(turn, text)

    def lose_session(self, pause: float) -> None:
        self.caller.lose_session()
        self.agenda.after(KEY_PAUSE, self.workflow.excuse)  # when keys are complete
        self.voice.lose()
        for part in (1 / 3, 2 / 3):
            self.agenda.after(part * pause, self._fail_to_open_session)
        self.agenda.after(pause, self._open_session)

    def lose_stream(self) -> None:
        """Have the stream break off: all that was understood must have been told."""
        self.rules.stream_lost()
        self._check_told()
        self.open = False
        self.ends.append("lost")

    def _fail_to_open_session(self) -> None:
        if not self.voice.live:
            self.rules.voice_lost("no route to host")

    def _open_session(self) -> None:
        if not self.voice.live:
            self.voice.open()
            if self.caller.speaking:
                self.caller.be_heard()

    def advance(self, seconds: float) -> None:
        end = self.agenda.now + seconds
        while self.agenda.now < end:
            self.agenda.now += TICK
            for mark in self.line.play():
                self._hear(mark)
            for event in self.agenda.due():
                event()
                self.check()
            self.rules.tick()
            self.check()

    def _hear(self, mark: str) -> None:
        self.last_sound = self.agenda.now
        attempt = self.voice.attempts[mark]
        self.workflow.hear(attempt.text, self.line.played[mark] / attempt.whole_ms)
