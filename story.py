"""What the log tells of a call, as a story; each line begins with its `[call_sid ***33]`.

The same goes to `metrics`, and with LOG_FORMAT=json each line has its numbers as fields.
"""

import re
from collections.abc import Callable
from logging import ERROR, INFO, WARNING
from time import monotonic
from typing import Any

import metrics
from call import Call
from cost import Cost, Usage
from hearing import spoken
from logs import log, mask_numbers
from record import GREETING, Heard, Totals, Turn
from speech import HANG_UP, TRANSFER, Kind
from utils import count_words
from witness import Witness


class Story(Witness):
    """The log of one call.

    `warn`, `no_reply` and `bug` may be called by any thread, all else is under the call's lock;
    `begins` comes before any other thread.
    """

    def __init__(
        self, call: Call, cost: Cost, transcripts: bool, clock: Callable[[], float] = monotonic
    ) -> None:
        """Tell of this call; with `transcripts`, also what was said."""
        self._cost = cost
        self._call = call
        self._name = name(call)
        self._transcripts = transcripts
        self._clock = clock
        self._began = clock()
        self._heard = Heard()
        self._turn: Turn | None = None
        self._totals = Totals()
        self._ending = ""  # what was decided
        self._leave = ""  # why the line takes leave
        self._lost = ""  # why Realtime was lost last, if nothing has sounded since

    def warn(self, words: str) -> None:
        """Tell what somebody else did wrong, and the call survives."""
        self._tell("warning", words, WARNING)

    def act_failed(self, words: str) -> None:
        """Tell that the call could not be ended, or put through, as was decided."""
        self._ending = ""
        self._tell("act_failed", words, ERROR)

    def no_reply(self, why: str) -> None:
        """Tell that the workflow has failed."""
        metrics.failed("workflow")
        self._tell("no_reply", f"no reply: {why}", ERROR)

    def bug(self) -> None:
        """Tell of a bug of ours, with the traceback of the exception that is being handled."""
        log.exception("[%s] a bug in this program", self._name)

    def _tell(
        self,
        event: str,
        words: str,
        level: int = INFO,
        **fields: Any,
    ) -> None:
        extra = {"event": event, **fields}
        log.log(level, "[%s] %s", self._name, words, extra=extra)

    # --- from start to end ------------------------------------------------------------------------

    def begins(self) -> None:
        """Tell that a stream has come."""
        metrics.began()
        call = self._call
        resumed = call.attempt > 0 or call.opening in ("bridge", "no_transfer")
        what = "call resumed" if resumed else "call started"
        words = f"{what}: {call.conversation or 'no conversation yet'}"
        event = "resumed" if resumed else "started"
        self._tell(event, words, conversation=call.conversation)

    def ends(self, how: str) -> None:
        """Note what is decided to end it."""
        self._close_turn()
        self._ending = how

    def hangs_up(self) -> None:
        """Note that it is hung up: the line takes leave, or the workflow said so."""
        self.ends(self._leave or HANG_UP)

    def transfers(self) -> None:
        """Tell that the caller is to be put through."""
        self.ends(TRANSFER)
        self._tell("transfer", "transferring the caller to TRANSFER_NUMBER")

    def leaves(self, how: str, why: str) -> None:
        """Tell that the caller is left to Twilio's own voice."""
        self.ends(how)
        self._tell("leaves", f"{how}: {why}", ERROR)

    def gives_up(self, why: str) -> None:
        """Tell that no session with Realtime can be had, now or later."""
        metrics.failed("realtime")
        self.leaves("given up", why)

    def hands_over(self, why: str) -> None:
        """Tell that the stream is closed, for Twilio to come back."""
        self.ends("handed over")
        self._tell("handed_over", f"handed over: {why}")

    def stops(self) -> None:
        """Note that Twilio ends the stream: if nothing was decided, the caller has hung up."""
        self._ending = self._ending or "the caller hung up"

    def ended(self) -> None:
        """Tell all of it in a line; a call that was not served is a warning."""
        self._close_turn()
        how = self._ending or "the stream broke off"
        metrics.ended(how)
        self._tell_totals(how, round(self._clock() - self._began))

    def _tell_totals(self, how: str, seconds: int) -> None:
        totals = self._totals
        parts = filter(None, [how, *totals.parts(), str(self._cost)])
        words = f"ended after {seconds} s: " + ", ".join(parts)
        level = INFO if totals.served else WARNING
        fields = {**vars(totals), "usd": self._cost.usd}
        self._tell("ended", words, level, how=how, seconds=seconds, **fields)

    def spends(self, usage: Usage) -> None:
        """Note what an answer of OpenAI's used."""
        self._cost.add(usage)

    # --- what the caller says ---------------------------------------------------------------------

    def caller_stopped(self, seconds_ago: float) -> None:
        """Note when the last word was said."""
        self._heard.ended_at = self._clock() - seconds_ago

    def caller_said(self, transcript: str) -> None:
        """Note a transcript; one without words is of a noise."""
        words = spoken(transcript)
        if words:
            self._heard.texts.append(words)
        else:
            self._heard.drop_noise()

    def noise(self, seconds: float) -> None:
        """Tell of a sound without words."""
        self._tell("noise", f"a noise of {seconds:.1f} s", seconds=round(seconds, 3))

    def key_pressed(self) -> None:
        """Count a key; which one is nobody's business."""
        self._heard.keys += 1

    def understands(self) -> None:
        """Note when the words, or keys, were complete: the workflow may still be busy."""
        self._heard.known_at = self._clock()

    def not_understood(self) -> None:
        """Tell that the caller spoke, and nothing of it was understood."""
        self._totals.not_understood += 1
        self._heard.drop_noise()
        self._tell("not_understood", "the caller's words could not be made out")

    def prompts(self) -> None:
        """Tell that a silent caller is asked whether they are there."""
        self._tell("prompt", "asking whether the caller is still there")

    def takes_leave(self, why: str) -> None:
        """Tell that the line ends the call by itself."""
        self._leave = why
        self._tell("leave", f"saying goodbye: {why}")

    # --- turns ------------------------------------------------------------------------------------

    def asks(self, turn: int) -> None:
        """Begin a turn: the workflow is asked."""
        self._close_turn()
        self._leave = ""  # the caller has spoken up
        metrics.asked()
        self._totals.turns += 1
        self._turn = Turn(turn, self._heard, self._clock())
        self._tell_words("heard", turn, " ".join(self._heard.texts))
        self._heard = Heard()

    def reply_piece(self, turn: int, text: str) -> None:
        """Note a sentence of a reply, or an action."""
        if self._turn and self._turn.number == turn:
            self._turn.reply(text, self._clock())
            self._tell_words("said", turn, text)

    def sounds(self, kind: Kind) -> None:
        """Note that the first sound of a sentence goes to the caller."""
        self._lost = ""
        if not self._totals.greeted:
            self._greeted()
        if self._turn:
            self._turn.sound(kind, self._clock())

    def apologises(self) -> None:
        """Note that the caller is told that something went wrong."""
        self._totals.apologies += 1
        if self._turn:
            self._turn.apologies += 1

    def cuts_in(self, heard: str) -> None:
        """Note that the caller goes on before the reply is over, and what they heard of it."""
        if self._turn:
            self._turn.cut_in_after = count_words(heard)
            self._close_turn()

    def heard_out(self) -> None:
        """Note that nothing is left to be said, and no answer is owed."""
        self._close_turn()

    def _greeted(self) -> None:
        self._totals.greeted = True
        seconds = self._clock() - self._began
        metrics.took(GREETING, seconds)
        self._tell("greeted", f"greeted after {seconds:.2f} s", seconds=round(seconds, 3))

    def _close_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is None:
            return
        self._totals.add(turn)
        for stage, seconds in turn.stages.items():
            metrics.took(stage, seconds)
        self._tell("turn", str(turn), **turn.fields())

    def _tell_words(self, event: str, turn: int, text: str) -> None:
        if self._transcripts:
            self._tell(event, f"turn {turn} {event}: {text}", turn=turn, text=text)

    # --- the voice --------------------------------------------------------------------------------

    def read_out(self, exactly: bool) -> None:
        """Note whether a sentence was read word for word."""
        self._totals.read += 1
        self._totals.read_exactly += exactly

    def repeats(self, why: str) -> None:
        """Tell that a sentence is said again, since the voice failed."""
        self._totals.repeats += 1
        self._tell("repeat", f"saying a sentence again: {why}")

    def realtime_lost(self, why: str) -> None:
        """Tell that Realtime's session has ended, or that none could be had; why, only once."""
        metrics.failed("realtime")
        self._totals.lost += 1
        if why != self._lost:
            self._lost = why
            self._tell("realtime_lost", f"Realtime is lost: {why}", WARNING)


def name(call: Call) -> str:
    """Return what the lines about a call begin with: its ID, and who calls."""
    digits = re.search(r"\*{3}\d\d", mask_numbers(call.caller))
    return f"{call.sid} {digits[0]}" if digits else call.sid
