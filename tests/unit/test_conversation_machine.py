"""Random calls: a faithful network, voice, workflow and caller, and what must hold in every order.

One machine tries everything together, which spreads thin; the narrow ones try one kind of trouble
each. `EXAMPLES` sets the number of calls for each machine.
"""

import heapq
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from conversation import ACTIONS, HANG_UP, TRANSFER, Conversation, Limits, Lines, Outcome, Port
from utils import heard_part, speech_ms

LINES = Lines()
PROMISE = 4.0  # seconds of unexplained silence at most
TICK = 0.1  # seconds
LATENCY = 0.05  # of a mark on its way back, seconds
LETTERS = 9  # by which a report of what was heard may be wrong: what is said in 0.6 s
GIVEN_UP = Limits().transcript + 2 * TICK  # seconds after which a transcript is late
CUT_IN = re.compile(re.escape(LINES.cut_in).replace(r"\{\}", "(.*?)"))

GOOD_VOICE = ["good"]
BAD_VOICE = ["fails", "fails midway", "no answer", "no sound", "stalls", "empty", "filtered"]
REPLIES = ["short", "long", "slow", "gap", "fails", "fails midway", "empty", HANG_UP, TRANSFER]
SPEECH = ["good", "good", "good", "noise", "late", "never", "failed", "twice", "unstopped"]


class Agenda:
    """A clock that the test turns, and what is to happen when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), event))

    def due(self) -> Iterator[Callable[[], None]]:
        while self._events and self._events[0][0] <= self.now:
            yield heapq.heappop(self._events)[2]


class BufferedLine:
    """Twilio's buffer, and the caller's ear behind it."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self._buffer: list[tuple[str, float | None]] = []  # a mark, and ms of sound, or None
        self.played: dict[str, float] = {}  # ms by mark
        self.on_mark: Callable[[str], None]

    def add(self, mark: str, ms: float | None) -> None:
        self._buffer.append((mark, ms))

    def clear(self) -> None:
        cleared = self._buffer
        self._buffer = []
        for mark, ms in cleared:
            if ms is None:
                self._return(mark)

    def play(self) -> list[str]:
        """Play for one tick; return the marks of the sentences that sounded."""
        left = TICK * 1000
        sounded = []
        while self._buffer and (left > 0 or self._buffer[0][1] is None):
            mark, ms = self._buffer.pop(0)
            if ms is None:
                self._return(mark)
                continue
            part = min(left, ms)
            left -= part
            self.played[mark] = self.played.get(mark, 0) + part
            sounded.append(mark)
            if part < ms:
                self._buffer.insert(0, (mark, ms - part))
        return sounded

    def _return(self, mark: str) -> None:
        self._agenda.after(LATENCY, lambda: self.on_mark(mark))


@dataclass
class Attempt:
    """The voice is asked to say a sentence."""

    mark: str
    text: str
    stopped: bool = False
    over: bool = False


@dataclass
class Piece:
    """A sentence of a reply that was wanted when it came."""

    turn: int
    text: str
    played: float = 0.0  # the largest part of it that was played in one attempt

    @property
    def heard(self) -> bool:
        return self.played > 0.99


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
    def in_flight(self) -> list[Attempt]:
        return [a for a in self.attempts.values() if not a.stopped and not a.over]

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
        self._perform(attempt, self.next.pop(0) if self.next else self._habit)

    def stop(self, mark: str) -> None:
        attempt = self.attempts[mark]
        assert not attempt.over, "stopped what is over"
        assert not attempt.stopped, "stopped twice"
        attempt.stopped = True

    def _perform(self, attempt: Attempt, how: str) -> None:
        """Make the events of a response. Sound comes four times as fast as it plays."""
        self.troubled |= how != "good"
        if how == "no answer":
            return
        self._later(0.2, lambda: self._begin(attempt))
        if how == "no sound":
            return
        whole_ms = speech_ms(attempt.text)
        sounds_ms = {"fails": 0, "empty": 0, "fails midway": whole_ms // 2, "stalls": whole_ms // 2}
        left = sounds_ms.get(how, whole_ms)
        at = 0.2
        while left > 0:
            at += 0.1
            part = min(int(left), 400) or 1
            self._later(at, lambda part=part: self._sound(attempt, part))  # type: ignore[misc]
            left -= part
        if how != "stalls":
            self._later(at + 0.1, lambda: self._end(attempt, how))

    def _later(self, seconds: float, event: Callable[[], None]) -> None:
        session = self._session
        self._agenda.after(
            seconds, lambda: event() if self.live and session == self._session else None
        )

    def _begin(self, attempt: Attempt) -> None:
        assert self.rules.voice_began(attempt.mark) is not attempt.stopped

    def _sound(self, attempt: Attempt, ms: int) -> None:
        passed_on = self.rules.voice_sound(attempt.mark, ms)
        assert passed_on is not attempt.stopped, "sound after its end, or lost"
        if passed_on:
            self._line.add(attempt.mark, ms)

    def _end(self, attempt: Attempt, how: str) -> None:
        attempt.over = True
        outcome = Outcome.FAILED if how.startswith("fails") else Outcome.SPOKEN
        if how == "filtered":
            outcome = Outcome.FILTERED
        self.rules.voice_ended(attempt.mark, outcome, "rate limit")


class RandomWorkflow:
    """Works on one turn at a time, and replies as it is told to."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self.next: list[str] = []  # how the next replies go
        self.busy = 0  # the turn that it works on
        self.pieces: list[Piece] = []
        self.on_piece: Callable[[int, str], None]
        self.rules: Conversation

    def ask(self, turn: int) -> None:
        assert not self.busy, "asked while it works"
        self.busy = turn
        how = self.next.pop(0) if self.next else "short"
        texts = [f"This is part {n} of what I say to {turn}." for n in range(self._length(how))]
        if how in ACTIONS:
            texts += [how, "And what follows."]
        at = 7.0 if how == "slow" else 0.3
        for number, text in enumerate(texts):
            at += 9.0 if how == "gap" and number == 1 else 0.2
            self._agenda.after(at, lambda text=text: self.on_piece(turn, text))  # type: ignore[misc]
        self._agenda.after(at + 0.3, lambda: self._end(turn, how.startswith("fails")))

    def _length(self, how: str) -> int:
        return {"long": 6, "fails": 0, "empty": 0}.get(how, 2)

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
        return [words for words in self.said + self.said_late if words not in self.asked]

    def note_message(self, message: str) -> None:
        self.asked += re.findall(r"w\d+w", message)
        for keys in re.findall(r"pressed ([\d*#]+)", message):
            self.keyed += keys.strip("#")

    def check(self) -> None:
        assert self.pressed.startswith(self.keyed), (self.pressed, self.keyed)
        assert len(self.asked) == len(set(self.asked)), f"asked twice: {self.asked}"
        in_time = [words for words in self.asked if words in self.said]
        assert in_time == [words for words in self.said if words in in_time], "out of order"


class RandomCaller:
    """Speaks, presses keys, and is transcribed well or badly."""

    def __init__(self, agenda: Agenda, voice: RandomVoice) -> None:
        self._agenda = agenda
        self._voice = voice
        self._items = count(1)
        self.words = SpokenWords()
        self.speaking = ""  # the item
        self.awaited: set[str] = set()  # items whose transcript is on its way
        self.last_sign = -9.0  # when the caller last spoke, or pressed a key
        self.last_key = -9.0
        self.on_words: Callable[[], None]
        self.is_listened_to: Callable[[], bool]
        self.rules: Conversation

    @property
    def pressing(self) -> bool:
        return self._agenda.now < self.last_key + Limits().keys + 2 * TICK

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
        if how != "unstopped":
            self.rules.caller_stops(item)
        if how in ("never", "late"):
            self._agenda.after(GIVEN_UP, lambda: self._give_up(item))
        if how == "never":
            return
        words = {"noise": "", "failed": None}.get(how, f"w{item[1:]}w")
        if words and how != "late" and self.is_listened_to():
            self.words.said.append(words)
        delay = 6.0 if how == "late" else 0.4
        self._agenda.after(delay, lambda: self._transcribed(item, words, how))

    def lose_session(self) -> None:
        for item in self.awaited:
            words = f"w{item[1:]}w"
            if words in self.words.said:
                self.words.said.remove(words)
        if self.awaited:
            self.on_words()
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
        self.excused: set[int] = set()  # turns that need not be heard any more
        self.left = 0  # the turn that the caller was asked to go back to
        self.last_sound = 0.0
        self.unowed = 0.0  # when the caller was last owed nothing
        self._refuses = refuses  # to hang up, to transfer, …
        self.rules = Conversation(self, lambda: self.agenda.now, "Hello there.", limits=limits)
        self._connect()

    def _connect(self) -> None:
        self.line.on_mark = self.rules.heard
        self.voice.rules = self.workflow.rules = self.caller.rules = self.rules
        self.workflow.on_piece = self._on_piece
        self.caller.on_words = self.excuse
        self.caller.is_listened_to = self._listens
        self.agenda.after(0.3, self._open_session)

    @property
    def overlong(self) -> bool:
        return self.agenda.now >= self.limits.longest

    # --- the port ---

    def say(self, mark: str, text: str) -> None:
        self._must_be_open()
        if text in (LINES.apology, LINES.say_again):
            self.excuse()
        if text == LINES.say_again:
            self.left = self.workflow.busy
        wanted = self.workflow.busy and self.workflow.busy != self.left
        owed = wanted or self.caller.words.untold or self._keys_untold()
        assert text not in LINES.fillers or owed, "a filler for nothing"
        self.voice.say(mark, text)

    def stop(self, mark: str) -> None:
        self.voice.stop(mark)

    def mark(self, mark: str) -> None:
        self.line.add(mark, None)

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
            assert self.workflow.busy in (0, self.left), "closed while the workflow thinks"
            self._end(reason)
        else:
            assert self.ends.pop() == "refused", reason

    def hold(self, reason: str) -> None:
        assert self.voice.troubled, f"on hold for nothing: {reason}"
        assert reason in ("close 1001", "rate limit", "the voice fell silent") or not self.played
        self._end("hold")

    def give_up(self, reason: str) -> None:
        assert reason == "insufficient_quota"
        self._end("give up")

    # --- what must hold ---

    @property
    def played(self) -> bool:
        """Whether a sentence was ever played whole."""
        return any(
            ms > 0.99 * speech_ms(self.voice.attempts[mark].text)
            for mark, ms in self.line.played.items()
        )

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
            self.agenda.after(0.5, lambda: self._refuse(how))

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
        missed = [p for p in self.workflow.pieces if not p.heard and p.turn not in self.excused]
        assert not missed, f"{how} before {missed}"
        *_, last = self.voice.attempts.values()
        assert self.line.played.get(last.mark, 0) > 0.9 * speech_ms(last.text), f"{how}: {last}"

    def _check_report(self, message: str) -> None:
        reports = CUT_IN.findall(message)
        assert len(reports) <= 1, message
        if reports and self.workflow.pieces:
            turn = max(piece.turn for piece in self.workflow.pieces)
            own = [piece for piece in self.workflow.pieces if piece.turn == turn]
            heard = " ".join(filter(None, (heard_part(p.text, p.played) for p in own)))
            off = abs(len(reports[0]) - len(heard))
            assert not reports[0] or off <= LETTERS, (reports[0], own)

    def check(self) -> None:
        """Check what must hold at every moment."""
        assert not self.open or self.agenda.now < self.limits.longest + 45, "a call without an end"
        if not self._owes() or not self.open or self.caller.speaking:
            self.unowed = self.agenda.now
        since = max(self.last_sound, self.caller.last_sign, self.unowed)
        assert self.agenda.now - since <= PROMISE, "unexplained silence"

    def _owes(self) -> bool:
        wanted = self.workflow.busy and self.workflow.busy != self.left
        unheard = any(not p.heard and p.turn not in self.excused for p in self.workflow.pieces)
        return bool(wanted or unheard or self.voice.in_flight or not self.voice.live)

    def _keys_untold(self) -> bool:
        return self.caller.words.pressed != self.caller.words.keyed

    def excuse(self) -> None:
        """Let what the caller has cut, or was apologised for, be unheard."""
        self.excused |= {piece.turn for piece in self.workflow.pieces} | {self.workflow.busy}

    # --- what happens ---

    def _on_piece(self, turn: int, text: str) -> None:
        acted = any(p.turn == turn for p in self.workflow.pieces if p.text == "")
        if self.open and turn != self.left and not acted:
            self.workflow.pieces.append(self._piece(turn, text))
            if not self.caller.quiet:
                self.excused.add(turn)  # the caller has already gone on
        self.rules.reply_piece(turn, text)

    def _piece(self, turn: int, text: str) -> Piece:
        if text in ACTIONS:
            return Piece(turn, "", played=1.0)  # nothing of the reply counts that follows it
        return Piece(turn, text)

    def lose_session(self, pause: float) -> None:
        self.caller.lose_session()
        self.agenda.after(Limits().keys + 2 * TICK, self.excuse)  # when keys are complete
        self.voice.lose()
        self.agenda.after(pause, self._open_session)

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
        text = self.voice.attempts[mark].text
        part = self.line.played[mark] / speech_ms(text)
        for piece in self.workflow.pieces:
            if piece.text == text:
                piece.played = max(piece.played, part)


def own(choices: Callable[[Any], list[Any]]) -> st.SearchStrategy[Any]:
    """Choose from what the machine at work offers."""
    return st.runner().flatmap(lambda calls: st.sampled_from(choices(calls)))


class EveryCall(RuleBasedStateMachine):
    """Everything together."""

    VOICE: ClassVar[list[str]] = GOOD_VOICE * 3 + BAD_VOICE
    REPLIES: ClassVar[list[str]] = REPLIES
    SPEECH: ClassVar[list[str]] = SPEECH
    LONGEST: ClassVar[list[float]] = [40.0, 120.0, 900.0]
    PAUSES: ClassVar[list[int]] = [1, 2, 3, 5, 8, 13, 21, 34, 55, 120]  # tenths of a second
    HAS_KEYS = True
    LOSES_SESSIONS = True
    DRAINS = True
    call: RandomCall

    @initialize(
        habit=own(lambda calls: [*GOOD_VOICE * 3, *calls.VOICE]),
        longest=own(lambda calls: calls.LONGEST),
        refuses=st.booleans(),
        drains=st.sampled_from([False, False, False, True]),
    )
    def begin(self, habit: str, longest: float, refuses: bool, drains: bool) -> None:
        self.call = RandomCall(Limits(longest=longest), habit, refuses)
        self.drains = self.DRAINS and drains

    @rule(tenths=own(lambda calls: calls.PAUSES))
    def time_passes(self, tenths: int) -> None:
        self.call.advance(tenths / 10)

    @rule(how=own(lambda calls: calls.SPEECH), seconds=st.sampled_from([0.2, 0.5, 1.5, 4.0]))
    def caller_speaks(self, how: str, seconds: float) -> None:
        if not self.call.caller.speaking:
            self.call.caller.starts()
            self.call.advance(seconds)
        self.call.caller.stops(how)

    @precondition(lambda self: not self.call.caller.speaking)
    @rule()
    def caller_starts(self) -> None:
        self.call.caller.starts()

    @precondition(lambda self: self.HAS_KEYS)
    @rule(digits=st.from_regex(r"\A([0-9*]{1,3}#?){1,2}\Z"))
    def caller_presses(self, digits: str) -> None:
        if self.call.open:
            self.call.excuse()
            self.call.caller.press(digits)

    @rule(how=own(lambda calls: calls.VOICE), times=st.integers(1, 3))
    def voice_will(self, how: str, times: int) -> None:
        self.call.voice.next = [how] * times

    @rule(how=own(lambda calls: calls.REPLIES))
    def workflow_will(self, how: str) -> None:
        self.call.workflow.next = [how]

    @precondition(lambda self: self.LOSES_SESSIONS)
    @rule(pause=st.sampled_from([0.0, 0.5, 3.0, 9.0]))
    def session_is_lost(self, pause: float) -> None:
        if self.call.voice.live:
            self.call.lose_session(pause)

    @precondition(lambda self: self.drains)
    @rule()
    def process_drains(self) -> None:
        self.call.rules.drain()

    def teardown(self) -> None:
        """Let the caller be silent: all that is owed comes, and the call ends."""
        if not hasattr(self, "call"):
            return
        call = self.call
        call.voice.next, call.workflow.next = [], []
        if call.caller.speaking and call.limits.longest > 40:
            call.caller.stops("good")  # in a short call the caller goes on: it ends all the same
        self._let_it_end()
        if call.ends[-1] in ("hang up", "drained") and not call.overlong:
            assert not call.caller.words.untold, "words never reached the workflow"
            missed = [p for p in call.workflow.pieces if not p.heard]
            assert all(p.turn in call.excused for p in missed), f"never heard: {missed}"

    def _let_it_end(self) -> None:
        call = self.call
        until = call.agenda.now + 150
        while call.open and call.agenda.now < until:
            call.advance(1)
            if not call.open:
                call.advance(20)  # nothing comes after the end; a transfer may be refused
        assert not call.open, "the call does not end"


class SlowAndMumbling(EveryCall):
    """A slow workflow, and a caller who is badly understood."""

    VOICE = GOOD_VOICE
    REPLIES: ClassVar[list[str]] = ["slow", "gap", "short", "fails midway"]
    SPEECH: ClassVar[list[str]] = ["good", "noise", "late", "never", "failed", "twice"]
    LONGEST: ClassVar[list[float]] = [900.0]
    HAS_KEYS = LOSES_SESSIONS = DRAINS = False


class FailingVoice(EveryCall):
    """A voice that fails in every way, and is lost."""

    VOICE: ClassVar[list[str]] = [*GOOD_VOICE, *BAD_VOICE]
    REPLIES: ClassVar[list[str]] = ["short", "long", HANG_UP]
    SPEECH: ClassVar[list[str]] = ["good"]
    HAS_KEYS = DRAINS = False


class BargeIns(EveryCall):
    """A caller who interrupts all the time."""

    VOICE = GOOD_VOICE
    REPLIES: ClassVar[list[str]] = ["long", "short", HANG_UP, TRANSFER]
    SPEECH: ClassVar[list[str]] = ["good", "noise"]
    LONGEST: ClassVar[list[float]] = [900.0]
    PAUSES: ClassVar[list[int]] = [1, 2, 3, 5, 8, 13, 21, 34]
    HAS_KEYS = LOSES_SESSIONS = DRAINS = False


class Keypads(EveryCall):
    """Keys among speech and lost sessions."""

    VOICE = GOOD_VOICE
    REPLIES: ClassVar[list[str]] = ["short", "slow", HANG_UP]
    LONGEST: ClassVar[list[float]] = [900.0]
    DRAINS = False


class Endings(EveryCall):
    """Calls that are drained, last too long, hang up or are put through."""

    VOICE: ClassVar[list[str]] = [*GOOD_VOICE, "fails"]
    REPLIES: ClassVar[list[str]] = ["short", "slow", HANG_UP, TRANSFER]
    SPEECH: ClassVar[list[str]] = ["good", "noise", "failed"]
    LONGEST: ClassVar[list[float]] = [20.0, 40.0, 120.0]
    LOSES_SESSIONS = False


def machine(calls: type[RuleBasedStateMachine], share: float) -> Any:
    """Return the test of a machine, with its share of EXAMPLES."""
    calls.TestCase.settings = settings(
        max_examples=max(1, round(int(os.environ.get("EXAMPLES", "20")) * share)),
        stateful_step_count=40,
        deadline=None,
        report_multiple_bugs=False,
        phases=[Phase.generate] if os.environ.get("QUICK") else list(Phase),
        suppress_health_check=list(HealthCheck),
    )
    return calls.TestCase


TestEveryCall = machine(EveryCall, 2)
TestSlowAndMumbling = machine(SlowAndMumbling, 1)
TestFailingVoice = machine(FailingVoice, 1)
TestBargeIns = machine(BargeIns, 1)
TestKeypads = machine(Keypads, 1)
TestEndings = machine(Endings, 1)
