"""How a call's stream begins: with what is said, and with what is left of its time."""

from __future__ import annotations

from dataclasses import asdict
from time import time
from typing import Any

import pytest

from begin import begin, lines
from call import Call
from conversation import Conversation
from lines import Lines
from settings import Notes, Settings
from tests.unit.environment import REQUIRED
from tests.unit.noting_port import NotingPort

SETTINGS = Settings(**REQUIRED, greeting="Hello.", bridge="Please go on.", goodbye="Good night.")  # type: ignore[arg-type]


def begun(**call: Any) -> tuple[Conversation, NotingPort]:
    """Return such a call, of which nothing has been heard, and what it decides."""
    port = NotingPort()
    rules = begin(port, lambda: 0.0, Call("CA1", "MZ1", "", "", "conv_1", 1, **call), SETTINGS)
    return rules, port


def said_at_first(**call: Any) -> list[str]:
    """Return what such a call hears within its first second."""
    rules, port = begun(**call)
    rules.tick()
    rules.voice_ready()
    return [noted[2] for noted in port.noted if noted[0] == "say"]


@pytest.mark.parametrize(
    ("opening", "said"),
    [("greeting", "Hello."), ("bridge", "Please go on."), ("anything", "Hello.")],
)
def test_a_stream_begins_with_its_opening(opening: str, said: str) -> None:
    assert said_at_first(opening=opening) == [said]


@pytest.mark.parametrize(
    ("opening", "message"),
    [
        ("greeting", "Hello?"),
        ("bridge", f"{SETTINGS.notes.line_lost} Hello?"),
        ("no_transfer", f"{SETTINGS.notes.not_transferred} Hello?"),
    ],
)
def test_the_workflow_is_told_why_the_caller_is_back(opening: str, message: str) -> None:
    rules, port = begun(opening=opening)
    rules.caller_said("i1", "Hello?")
    assert port.noted == [("ask", "1", message)]


def test_a_call_that_has_come_back_has_no_more_time_than_it_had() -> None:
    assert said_at_first(opening="bridge", since=f"{time() - 3500}") == ["Please go on."]
    assert said_at_first(opening="bridge", since=f"{time() - 3700}") == ["Good night."]


def test_the_rules_are_tried_with_what_the_line_says_by_default() -> None:
    assert lines(Settings.model_validate(REQUIRED)) == Lines()


def test_whatever_the_line_says_is_a_setting() -> None:
    phrases = {
        "idle_prompt": "Hm?",
        "goodbye": "Bye.",
        "say_again": "What?",
        "apology": "Oh.",
        "no_transfer": "No.",
    }
    notes = {
        "cut_in": "Cut {}",
        "keys": "Keys {}",
        "inaudible": "Mumbled",
        "not_transferred": "Failed",
    }
    chosen = {**phrases, "filler": "So.|Well.", "notes": Notes(**notes)}
    said = asdict(lines(SETTINGS.model_copy(update=chosen)))
    assert said == {**phrases, **notes, "fillers": ("So.", "Well.")}
