"""Turn-taking in a phone call, as rules: no socket, no thread, no wall clock, no vendor's event.

What happens goes in by the public methods of `Conversation`; what is decided comes out by a `Port`.
All of it runs under one lock, which the caller of these methods holds. Times are seconds of the
clock that is passed in; sound is measured in milliseconds (ms).

The objects that a conversation is made of: `Hearing` is what the caller says, `Speech` what is said
to them and what they heard of it, `Voice` whether the voice can be used, `Turns` what the workflow
is asked, `Silence` for how long which kind of silence has lasted. After every event, and at every
tick, `_go_on` looks at all of them and does what is due; so the order of events doesn't matter.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from hearing import Caller, Hearing, Stretch
from lines import Limits, Lines
from silence import Silence
from speech import ACTIONS, HANG_UP, TRANSFER, Kind, Sentence, Speech, Voice
from witness import Witness


class Port(Protocol):
    """Carry out what the rules decide. No method may wait for an answer, or call back
    into the rules.

    `hang_up`, `transfer`, `hold` and `give_up` are REST calls, to be made in the background; a
    failure of theirs comes back as `Conversation.act_failed`.
    """

    def say(self, mark: str, text: str) -> None:
        """Have the voice read a sentence; its `voice_…` events bear this mark."""

    def stop(self, mark: str) -> None:
        """Cancel the sentence that is being spoken, or is about to be."""

    def mark(self, mark: str) -> None:
        """Have Twilio send this mark back, as `heard`, when all sound before it was played."""

    def clear(self) -> None:
        """Empty Twilio's buffer."""

    def ask(self, turn: int, message: str) -> None:
        """Ask the workflow; `reply_ended` or `reply_failed` must follow, wanted or not.

        At the end of a stream it may be busy with another turn: the message then has to wait.
        """

    def hang_up(self) -> None:
        """End the call."""

    def transfer(self) -> None:
        """Put the caller through."""

    def close(self, reason: str) -> None:
        """Close the stream: Twilio comes straight back with the same conversation."""

    def hold(self, reason: str) -> None:
        """Have Twilio's own voice ask the caller to hold, and come back with the conversation."""

    def give_up(self, reason: str) -> None:
        """Have Twilio's own voice say that nobody is available, and end the call."""


class Outcome(Enum):
    """How the voice ended a sentence."""

    SPOKEN = auto()
    FAILED = auto()  # may go well next time
    FILTERED = auto()  # this sentence never will
    HOPELESS = auto()  # none ever will: the quota is used up, the key refused


class Phase(Enum):
    """How far the call is."""

    OPEN = auto()
    CLOSING = auto()  # it has lasted too long: says goodbye and listens no more
    TRANSFERRING = auto()
    ENDED = auto()


@dataclass
class Turns:
    """What the workflow is asked. It works on one turn at a time, wanted or not."""

    note: str = ""  # what the next message begins with
    waiting: list[str] = field(default_factory=list)  # go together as the next message
    asked: int = 0  # the number of the last turn
    busy: bool = False  # its reply has not ended
    wanted: bool = False  # its reply is to be said: the caller has not gone on
    may_act: bool = True  # what its reply wants done is done: all its words could be said

    @property
    def thinking(self) -> bool:
        """Whether more of a reply that is wanted is to come."""
        return self.busy and self.wanted

    @property
    def owed(self) -> bool:
        """Whether the caller is owed an answer that has not come."""
        return self.thinking or bool(self.waiting)

    def expects(self, turn: int) -> bool:
        """Whether a reply is still wanted."""
        return self.thinking and turn == self.asked

    def begin(self) -> str:
        """Begin a turn with all that waits; return its message."""
        message = " ".join(filter(None, [self.note, *self.waiting]))
        self.note = ""
        self.waiting.clear()
        self.asked += 1
        self.busy = self.wanted = self.may_act = True
        return message


class Conversation:
    """Decide what one call says, asks and does."""

    def __init__(
        self,
        port: Port,
        clock: Callable[[], float],
        opening: str,
        note: str = "",
        *,
        lines: Lines | None = None,
        limits: Limits | None = None,
        witness: Witness | None = None,
    ) -> None:
        """Begin with an opening; `note` tells the workflow of a line that was lost before."""
        self._port = port
        self._witness = witness or Witness()
        self._clock = clock
        self._lines = lines = lines or Lines()
        self._limits = limits = limits or Limits()
        self._hearing = Hearing(lines, limits)
        self._speech = Speech(limits)
        self._voice = Voice(limits)
        self._turns = Turns(note)
        self._silence = Silence(lines, limits)
        self._closes_at = clock() + limits.longest
        self._phase = Phase.OPEN
        self._draining = False
        self._say(opening)

    # --- the caller -------------------------------------------------------------------------------

    def caller_speaks(self, item: str) -> None:
        """Fall silent and listen: a barge-in, or a false alarm."""
        if self._listens:
            self._let_caller_in()
            self._hearing.begin(item, self._clock())
            self._go_on()

    def caller_stops(self, item: str, ago: float = 0.0) -> None:
        """Wait for the transcript of what ended so many seconds ago."""
        self._hearing.stop(item, self._clock(), ago)
        self._go_on()

    def caller_said(self, item: str, words: str | None) -> None:
        """Take the transcript of an item: "" of a noise, None if it could not be made."""
        if self._listens:
            self._hearing.transcribe(item, words)
            self._go_on()

    def key(self, digit: str) -> None:
        """Take a DTMF key; keys interrupt as speech does."""
        if self._listens:
            self._let_caller_in()
            self._hearing.press(digit, self._clock())
            self._go_on()

    def heard(self, mark: str) -> None:
        """Take a mark back: the caller has heard what was sent before it."""
        if self._speech.hear(mark):
            self._voice.succeed()
            self._silence.break_off()
            self._tell_if_heard_out()
        self._go_on()

    # --- the voice --------------------------------------------------------------------------------

    def voice_ready(self) -> None:
        """Begin to speak."""
        self._voice.begin()
        self._go_on()

    def voice_lost(self, reason: str) -> None:
        """Wait for the next session: what was cut is said again, by us and by the caller."""
        self._lose_voice(reason)
        sentence = self._speech.in_flight
        if sentence:
            self._retry(sentence, reason)
        self._go_on()

    def voice_hopeless(self, reason: str) -> None:
        """Give up: nothing will ever be spoken, in this session or another."""
        self._lose_voice(reason)
        self._requeue_unheard()  # no sentence is in flight any more: there is none to stop
        self._leave(self._port.give_up, reason)

    def voice_sound(self, mark: str, ms: int) -> bool:
        """Tell whether this sound, so many ms, is to be passed on to Twilio."""
        sentence = self._speech.speaking(mark)
        if sentence is None:
            return False
        if not sentence.sent_ms:
            self._witness.sounds(sentence.kind)
        now = self._clock()
        ends_a_silence = not self._speech.sounding(now)
        self._speech.add_sound(sentence, ms, now)
        if ends_a_silence:  # else ticks that meet each short gap would take them for one long one
            self._measure_silence(now)
        return True

    def voice_ended(self, mark: str, outcome: Outcome, reason: str = "") -> None:
        """Wait for what was spoken to be heard; say again, or apologise for, what was not."""
        sentence = self._speech.speaking(mark)
        if sentence is None:
            return
        if outcome is Outcome.HOPELESS:
            self.voice_hopeless(reason)
        elif outcome is Outcome.FILTERED:
            self._replace(sentence, reason)
        elif outcome is Outcome.SPOKEN and sentence.sent_ms:
            sentence.spoken = True
            self._port.mark(mark)
        else:
            self._retry(sentence, reason or "the voice made no sound")
        self._go_on()

    # --- the workflow -----------------------------------------------------------------------------

    def reply_piece(self, turn: int, text: str) -> None:
        """Say a sentence of a reply, or do an action: one action is the last thing done."""
        if not self._turns.expects(turn):
            return
        self._silence.filled = False
        self._speech.drop_fillers()
        if self._turns.may_act or text not in ACTIONS:
            self._speech.add(text, Kind.REPLY)
        self._go_on()

    def wants(self, turn: int) -> bool:
        """Tell whether more of a reply is wanted: the caller has not gone on."""
        return self._turns.expects(turn)

    def reply_ended(self, turn: int) -> None:
        """Ask what waits."""
        self._end_reply(turn, failed=False)

    def reply_failed(self, turn: int) -> None:
        """Apologise, and ask what waits."""
        self._end_reply(turn, failed=True)

    def act_failed(self) -> None:
        """Go on after a failed transfer; close the stream if the call can't be ended otherwise."""
        if self._phase is Phase.TRANSFERRING:
            self._phase = Phase.OPEN
            self._turns.note = self._lines.not_transferred
            self._listen(self._clock())  # to what was said meanwhile
            self._say(self._lines.no_transfer)
            self._go_on()
        else:
            self._port.close("Twilio refused to change the call")

    def caller_hangs_up(self) -> None:
        """Ask nothing more, and say nothing: nobody would hear it."""
        self._end(Phase.ENDED)

    def stream_lost(self) -> None:
        """Ask what only this stream knows."""
        if self._phase is Phase.OPEN:
            self._ask_all()

    # --- time -------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what is due. To be called five times a second at least."""
        self._go_on()

    def drain(self) -> None:
        """Close as soon as nothing is said, heard or thought."""
        self._draining = True
        self._go_on()

    @property
    def _listens(self) -> bool:
        return self._phase in (Phase.OPEN, Phase.TRANSFERRING)

    def _go_on(self) -> None:
        now = self._clock()
        if self._phase is Phase.OPEN and self._hearing.pending:
            self._listen(now)
        self._measure_silence(now)
        for step in (
            self._close_long_call,
            self._end_unbearable_silence,
            self._ask,
            self._break_silence,
            self._speak,
        ):
            if self._phase in (Phase.OPEN, Phase.CLOSING):
                step(now)

    def _listen(self, now: float) -> None:
        self._hearing.expire(now)
        heard = self._hearing.take()
        words = [stretch.words for stretch in heard if stretch.words]
        self._count_wordless(heard)
        if any(part != self._lines.inaudible for part in words):
            self._witness.understands()
            self._abandon_reply()
            self._turns.waiting += words
            self._silence.filled = False
            self._silence.prompted = False
            self._hearing.misunderstood = 0
        elif words or self._spoke_in_vain(heard):
            self._not_understood(words)

    def _count_wordless(self, heard: list[Stretch]) -> None:
        for stretch in heard:
            if stretch.words:
                self._hearing.wordless = 0
                continue
            self._witness.noise(stretch.seconds)
            if stretch.seconds >= self._limits.noise:
                self._hearing.wordless += 1

    def _spoke_in_vain(self, heard: list[Stretch]) -> bool:
        """Whether speech, and no mere noise, had no words again, and the caller hears nothing."""
        is_speech = any(stretch.seconds >= self._limits.noise for stretch in heard)
        is_silent = self._speech.idle and not self._turns.owed
        return is_speech and is_silent and self._hearing.wordless >= self._limits.wordless

    def _not_understood(self, words: list[str]) -> None:
        """Ask the caller to say it again; if that was asked often enough, go on where it was."""
        self._witness.not_understood()
        self._hearing.wordless = 0
        if self._hearing.misunderstood >= self._limits.say_again:
            return
        self._hearing.misunderstood += 1
        self._abandon_reply()
        if self._turns.waiting:
            self._turns.waiting += words  # the workflow may know what to make of them
        else:
            self._say(self._lines.say_again)

    def _measure_silence(self, now: float) -> None:
        self._silence.measure(
            now,
            caller=self._hearing.state,
            sounding=self._speech.sounding(now),
            unsaid=not self._speech.idle,
            unanswered=self._turns.owed,
            ready=self._voice.ready,
        )

    def _close_long_call(self, now: float) -> None:
        if self._phase is Phase.OPEN and now >= self._closes_at:
            self._witness.takes_leave("the call lasted too long")
            self._end(Phase.CLOSING)
            self._say(self._lines.goodbye)
            self._say(HANG_UP)

    def _end_unbearable_silence(self, now: float) -> None:
        if self._silence.unbearable(now):
            self._ask_all()
            self._leave(self._port.hold, self._voice.reason)

    def _ask(self, now: float) -> None:
        if not self._turns.busy:
            self._ask_what_waits()

    def _ask_what_waits(self) -> None:
        if self._turns.waiting:
            message = self._turns.begin()
            self._port.ask(self._turns.asked, message)

    def _ask_all(self) -> None:
        """Ask what waits, and what is known of the caller's words: the next stream begins anew."""
        words = self._hearing.known()
        if words:
            self._abandon_reply()
            self._turns.waiting += words
        self._ask_what_waits()

    def _break_silence(self, now: float) -> None:
        """Bridge the workflow's silence, and the caller's."""
        if not self._speech.idle or self._hearing.state is not Caller.SILENT:
            return
        if self._turns.owed:
            if self._silence.filler_due(now):
                self._speech.add(self._silence.next_filler(), Kind.FILLER)
        elif self._draining:
            self._end(Phase.ENDED)
            self._port.close("drained")
        elif self._silence.prompt_due(now):
            self._prompt()

    def _prompt(self) -> None:
        if self._silence.prompted:
            self._witness.takes_leave("the caller stayed silent")
            self._say(self._lines.goodbye)
            self._say(HANG_UP)
        else:
            self._silence.prompted = True
            self._witness.prompts()
            self._say(self._lines.idle_prompt)

    def _speak(self, now: float) -> None:
        """Say the next thing, or do it, if the line is free."""
        if self._hearing.state is not Caller.SILENT:
            return
        sentence = self._speech.next(now)
        if sentence is None:
            return
        if sentence.acts:
            self._act(sentence.text)
        elif self._voice.usable(now):
            self._speech.begin()
            self._port.say(sentence.mark, sentence.text)

    # --- what several events have in common -------------------------------------------------------

    def _say(self, line: str) -> None:
        self._speech.add(line, Kind.LINE)

    def _apologise(self) -> None:
        self._witness.apologises()
        self._say(self._lines.apology)

    def _let_caller_in(self) -> None:
        """Let the caller speak, or press keys: no silence has lasted until now."""
        self._stop_sound()
        self._silence.break_off()

    def _stop_sound(self) -> None:
        """Stop at once. What was not heard waits: it is said again, or dropped."""
        sentence = self._speech.in_flight
        if self._speech.buffered:
            self._silence.break_off()  # what is cut by choice was sound all the same
        self._requeue_unheard()  # first: it is what silences the line
        if sentence:
            self._port.stop(sentence.mark)

    def _requeue_unheard(self) -> None:
        if self._speech.buffered:
            self._port.clear()
        self._speech.take_back(self._clock())

    def _abandon_reply(self) -> None:
        """Give way for good; the next message tells what the caller heard of the reply."""
        self._stop_sound()
        if self._turns.wanted and (self._turns.busy or self._speech.reply_left):
            heard = self._speech.reply_heard
            self._turns.note = self._lines.cut_in.replace("{}", heard)
            self._witness.cuts_in(heard)
        self._drop_reply()

    def _drop_reply(self) -> None:
        self._turns.wanted = False
        self._speech.drop()

    def _tell_if_heard_out(self) -> None:
        if self._speech.idle and not self._turns.owed:
            self._witness.heard_out()

    def _end_reply(self, turn: int, failed: bool) -> None:
        if self._turns.expects(turn):
            self._speech.drop_fillers()
            if failed:
                self._apologise()
        if turn == self._turns.asked:
            self._turns.busy = False
            self._tell_if_heard_out()
        self._go_on()

    def _retry(self, sentence: Sentence, reason: str) -> None:
        """Say a sentence again."""
        self._witness.repeats(reason)
        self._try_again(sentence, reason)

    def _replace(self, sentence: Sentence, reason: str) -> None:
        """Apologise in place of a sentence, and don't do what a reply wanted done after it."""
        if sentence.kind is Kind.REPLY:
            self._turns.may_act = False
            self._speech.drop_actions()
        sentence.text = self._lines.apology
        sentence.kind = Kind.LINE
        self._witness.apologises()
        self._try_again(sentence, reason)

    def _try_again(self, sentence: Sentence, reason: str) -> None:
        """Try after a pause. What was sent before the sentence plays on, if it can."""
        if sentence.sent_ms:
            self._requeue_unheard()
        else:
            self._speech.retry_last()
        self._voice.fail(reason, self._clock())

    def _lose_voice(self, reason: str) -> None:
        if self._voice.ready:  # else nothing has been heard since the last was lost
            self._hearing.lose_session(self._clock())
        self._voice.lose(reason)

    # --- what ends a call, or its stream ----------------------------------------------------------

    def _act(self, action: str) -> None:
        if action == TRANSFER:
            self._end(Phase.TRANSFERRING)
            self._port.transfer()
        else:
            self._end(Phase.ENDED)
            self._port.hang_up()

    def _leave(self, leave: Callable[[str], None], reason: str) -> None:
        """Leave the caller to Twilio's own voice; a call that was to end anyway is hung up."""
        phase = self._phase
        if phase in (Phase.OPEN, Phase.CLOSING):
            self._end(Phase.ENDED)
        if phase is Phase.CLOSING:
            self._port.hang_up()
        elif phase is Phase.OPEN:
            leave(reason)

    def _end(self, phase: Phase) -> None:
        """Forget all that was going on: late events name what nobody knows."""
        self._phase = phase
        self._hearing.clear()
        self._stop_sound()
        self._drop_reply()
        self._turns.waiting.clear()
