"""Random calls: thousands of events in random orders, and what must hold in all of them.

One machine tries everything together, which spreads thin; the narrow ones try one kind of trouble
each. `EXAMPLES` is the number of calls for a machine, `HYPOTHESIS_PROFILE=random` makes other calls
in every run, and `QUICK` looks for no shorter failure.
"""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from lines import Limits
from speech import HANG_UP, TRANSFER
from tests.unit.random_call import RandomCall

EXAMPLES = int(os.environ.get("EXAMPLES", "12"))
PHASES = [Phase.generate] if os.environ.get("QUICK") else list(Phase)
BAD_VOICE = ("fails", "fails midway", "no sound", "stalls", "empty", "filtered")
SHORT_PAUSES = (0.1, 0.2, 0.3, 0.5, 0.8, 1.3, 2.1, 3.4)  # seconds


def own(choices: Callable[[Any], Any]) -> st.SearchStrategy[Any]:
    """Choose from what the machine at work offers."""
    return st.runner().flatmap(lambda calls: st.sampled_from(choices(calls)))


class EveryCall(RuleBasedStateMachine):
    """Everything together."""

    VOICE: tuple[str, ...] = ("good", "good", "good", *BAD_VOICE)
    REPLIES: tuple[str, ...] = (
        *("short", "long", "slow", "gap", "fails", "fails midway", "empty"),
        *(HANG_UP, TRANSFER),
    )
    SPEECH: tuple[str, ...] = (
        *("good", "good", "good", "noise", "late", "never", "failed", "twice", "unstopped"),
    )
    LONGEST: tuple[float, ...] = (40, 120, 900)  # seconds
    PAUSES: tuple[float, ...] = (*SHORT_PAUSES, 5.5, 12)
    HAS_KEYS = True
    LOSES_SESSIONS = True
    DRAINS = True
    call: RandomCall

    @initialize(
        habit=own(lambda calls: ["good", "good", "good", *calls.VOICE]),
        longest=own(lambda calls: calls.LONGEST),
        refuses=st.booleans(),
        drains=st.sampled_from([False, False, False, True]),
        breaks=st.sampled_from([False, False, False, True]),
    )
    def begin(self, habit: str, longest: float, refuses: bool, drains: bool, breaks: bool) -> None:
        self.call = RandomCall(Limits(longest=longest), habit, refuses)
        self.drains = self.DRAINS and drains
        self.breaks = breaks  # the stream, in the end

    @rule(seconds=own(lambda calls: calls.PAUSES))
    def time_passes(self, seconds: float) -> None:
        self.call.advance(seconds)

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
            self.call.workflow.excuse()
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
        call.voice.next.clear()
        call.workflow.next.clear()
        if call.open and self.breaks:
            call.lose_stream()
            return
        if call.caller.speaking and call.limits.longest > 40:
            call.caller.stops("good")  # in a short call the caller goes on: it ends all the same
        self._let_it_end()
        if call.ends[-1] in ("hang up", "drained") and not call.overlong:
            assert not call.caller.words.untold, "words never reached the workflow"
            assert not call.workflow.missed, f"never heard: {call.workflow.missed}"

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

    VOICE = ("good",)
    REPLIES = ("slow", "gap", "short", "fails midway")
    SPEECH = ("good", "noise", "late", "never", "failed", "twice")
    LONGEST = (900.0,)
    HAS_KEYS = LOSES_SESSIONS = DRAINS = False


class FailingVoice(EveryCall):
    """A voice that fails in every way, and is lost."""

    VOICE = ("good", *BAD_VOICE)
    REPLIES = ("short", "long", HANG_UP)
    SPEECH = ("good",)
    HAS_KEYS = DRAINS = False


class BargeIns(EveryCall):
    """A caller who interrupts all the time."""

    VOICE = ("good",)
    REPLIES = ("long", "short", HANG_UP, TRANSFER)
    SPEECH = ("good", "noise")
    LONGEST = (900.0,)
    PAUSES = SHORT_PAUSES
    HAS_KEYS = LOSES_SESSIONS = DRAINS = False


class Keypads(EveryCall):
    """Keys among speech and lost sessions."""

    VOICE = ("good",)
    REPLIES = ("short", "slow", HANG_UP)
    LONGEST = (900.0,)
    DRAINS = False


class Endings(EveryCall):
    """Calls that are drained, last too long, hang up or are put through."""

    VOICE = ("good", "fails", "hopeless")
    REPLIES = ("short", "slow", HANG_UP, TRANSFER)
    SPEECH = ("good", "noise", "failed")
    LONGEST = (20.0, 40.0, 120.0)
    LOSES_SESSIONS = False


def machine(calls: type[RuleBasedStateMachine], share: int = 1) -> Any:
    """Return the test of a machine, with its share of EXAMPLES."""
    calls.TestCase.settings = settings(
        max_examples=EXAMPLES * share,
        stateful_step_count=40,
        report_multiple_bugs=False,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
    )
    return calls.TestCase


TestEveryCall = machine(EveryCall, 2)
TestSlowAndMumbling = machine(SlowAndMumbling)
TestFailingVoice = machine(FailingVoice)
TestBargeIns = machine(BargeIns)
TestKeypads = machine(Keypads)
TestEndings = machine(Endings)
