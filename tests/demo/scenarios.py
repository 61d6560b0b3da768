"""The calls that can be shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.demo.caller import PATIENCE, Caller


@dataclass
class Scenario:
    """One call: what is to be seen in it, how the caller behaves, and what else is special."""

    about: str
    play: Callable[[Caller], None]
    settings: dict[str, str] = field(default_factory=dict)
    thinking: float = 0.2  # seconds until the workflow's first word
    cuts_in: bool = False  # whether the workflow is to be told so


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


def transfer(caller: Caller) -> None:
    caller.asks("oil-change")
    caller.asks("tuesday-at-nine")
    caller.asks("name-and-car")
    caller.says("service-history")
    caller.call.wait_for("dial_answered", PATIENCE)
    caller.call.dialed_party_hangs_up()


SCENARIOS = {
    "booking": Scenario(
        "A caller books an oil change",
        in_turn("oil-change", "thursday-afternoon", "later-one", "name-and-car", "yes-book-it"),
    ),
    "barge-in": Scenario(
        "The caller interrupts a long answer; the workflow learns what was heard of it",
        barge_in,
        cuts_in=True,
    ),
    "false-alarm": Scenario(
        "A cough interrupts the agent; what wasn't heard is said again", false_alarm
    ),
    "slow": Scenario(
        "The workflow is slow, and the silence is bridged",
        in_turn("oil-change", "tuesday-at-nine", "name-and-car", "yes-book-it"),
        thinking=3.0,
    ),
    "transfer": Scenario(
        "The caller is connected with a person",
        transfer,
        settings={"TRANSFER_NUMBER": "+15550009999"},
    ),
}
