"""The calls that can be shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tools.app_process import DEFAULTS
from tools.demo.caller import PATIENCE, Caller

FILLER = DEFAULTS["FILLER"].split("|")[0]


@dataclass
class Scenario:
    """One call: what is to be seen in it, how the caller behaves, and what else is special.

    `hears` are the sentences that show it: heard to their end, in this order, nothing between them.
    """

    about: str
    play: Callable[[Caller], None]
    hears: tuple[str, ...]
    settings: dict[str, str] = field(default_factory=dict)
    thinking: float = 0.2  # seconds until the workflow's first word
    cuts_in: bool = False  # whether the workflow is to be told so
    turns: int = 4  # the least there are to be
    ended: str = "completed by REST"  # by the app; else how


def in_turn(*names: str) -> Callable[[Caller], None]:
    def play(caller: Caller) -> None:
        for name in names:
            caller.asks(name)

    return play


def barge_in(caller: Caller) -> None:
    caller.asks("oil-change")
    caller.says("brake-inspection")
    caller.interrupts("tuesday-at-nine", after_sentences=2)
    caller.asks("name-and-car")
    caller.asks("yes-book-it")


def false_alarm(caller: Caller) -> None:
    caller.says("oil-change")
    caller.coughs(after_sentences=1)
    caller.asks("tuesday-at-nine")
    caller.asks("name-and-car")
    caller.asks("yes-book-it")


def goes_on(caller: Caller) -> None:
    caller.says("oil-change")
    caller.goes_on("tuesday-at-nine")
    caller.asks("name-and-car")
    caller.asks("yes-book-it")


def keypad(caller: Caller) -> None:
    caller.asks("cancel-appointment")
    caller.presses("4711#")


def transfer(caller: Caller) -> None:
    caller.asks("oil-change")
    caller.asks("tuesday-at-nine")
    caller.asks("name-and-car")
    caller.says("service-history")
    caller.call.wait_for("dial_answered", PATIENCE)
    caller.call.dialed_party_hangs_up()


def trouble(caller: Caller) -> None:
    caller.is_not_understood("oil-change")
    caller.openai.brain.fail_next()
    caller.asks("oil-change")
    caller.asks("oil-change")
    caller.asks("tuesday-at-nine")
    caller.asks("name-and-car")
    caller.asks("yes-book-it")


SCENARIOS = {
    "booking": Scenario(
        "A caller books an oil change",
        in_turn("oil-change", "thursday-afternoon", "later-one", "name-and-car", "yes-book-it"),
        hears=("It is booked.", "We will see you on Thursday at four.", "Goodbye!"),
    ),
    "barge-in": Scenario(
        "The caller interrupts a long answer; the workflow learns what was heard of it",
        barge_in,
        hears=("Of course.", "Tuesday at nine it is."),
        cuts_in=True,
    ),
    "false-alarm": Scenario(
        "A cough interrupts the agent; what wasn't heard is said again",
        false_alarm,
        hears=("Certainly.", "An oil change takes 45 minutes and costs 59 dollars."),
    ),
    "goes-on": Scenario(
        "The caller adds a sentence before the answer has begun; only the last answer is heard",
        goes_on,
        hears=(DEFAULTS["GREETING"], "Of course.", "Tuesday at nine it is."),
        thinking=1.0,
        cuts_in=True,
    ),
    "slow": Scenario(
        "The workflow is slow, and the silence is bridged",
        in_turn("oil-change", "tuesday-at-nine", "name-and-car", "yes-book-it"),
        hears=(FILLER, "Certainly."),
        thinking=3.0,
    ),
    "keypad": Scenario(
        "The caller keys in a number",
        keypad,
        hears=("Thank you.", "Customer number 4711."),
        turns=2,
    ),
    "transfer": Scenario(
        "The caller is connected with a person",
        transfer,
        hears=("I can't see past visits.", "I am connecting you with a colleague who can."),
        settings={"TRANSFER_NUMBER": "+15550009999"},
        ended="<Hangup>",
    ),
    "silence": Scenario(
        "The caller says no more, is asked once, and the agent takes leave",
        in_turn("oil-change", "tuesday-at-nine"),
        hears=(
            "May I have your name and your car?",
            DEFAULTS["IDLE_PROMPT"],
            DEFAULTS["GOODBYE"],
        ),
        settings={"IDLE_SECONDS": "3"},
        turns=2,
    ),
    "trouble": Scenario(
        "Once the words can't be made out, once the workflow fails; the call goes on",
        trouble,
        hears=(DEFAULTS["GREETING"], DEFAULTS["SAY_AGAIN"], DEFAULTS["APOLOGY"], "Certainly."),
    ),
    "time-is-up": Scenario(
        "The call has lasted as long as it may; the agent takes leave in the middle of an answer",
        in_turn("brake-inspection"),
        hears=(DEFAULTS["GOODBYE"],),
        settings={"MAX_CALL_SECONDS": "10", "IDLE_SECONDS": "0"},
        turns=1,
    ),
}
