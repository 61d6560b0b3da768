"""Who answers: a small script that looks for words, in place of a language model."""

from __future__ import annotations

import re
from typing import NamedTuple

from tools.simulator.openai_brain import History, Reply


class Rule(NamedTuple):
    """What to answer when the words match; groups of the pattern are remembered as facts."""

    pattern: str
    answer: str
    facts: dict[str, str] = {}  # noqa: RUF012


RULES = (
    Rule(r"cancel", "I can do that. Please key in your customer number, and then the hash key."),
    Rule(
        r"pressed (?P<keys>\d+)",
        "Thank you. Customer number {keys}. Your appointment is cancelled. Goodbye! [hangup]",
    ),
    Rule(
        r"name is (?P<first>\w+).*? I drive an? (?P<car>[\w ]+)",
        "Thank you, {first}. That is {a_service} for your {car}, on {slot}. Shall I book it?",
    ),
    Rule(
        r"brake|break",
        "A brake inspection takes thirty minutes and costs 35 dollars. I have Tuesday at nine,"
        " Wednesday at eleven, and Thursday at two. We look at the pads, the discs and the fluid,"
        " and then we tell you what can wait. If something is worn, we call you before we repair"
        " anything. Which day would you like?",
        {"service": "brake inspection", "a_service": "a brake inspection"},
    ),
    Rule(
        r"\boil|change",
        "Certainly. An oil change takes 45 minutes and costs 59 dollars. When would you like to"
        " come?",
        {"service": "oil change", "a_service": "an oil change"},
    ),
    Rule(
        r"history",
        "I can't see past visits. I am connecting you with a colleague who can. [transfer]",
    ),
    Rule(
        r"thursday",
        "On Thursday I have two o'clock and four o'clock. Is two o'clock all right?",
        {"slot": "Thursday at two"},
    ),
    Rule(
        r"later",
        "Four o'clock, then. May I have your name and your car?",
        {"slot": "Thursday at four"},
    ),
    Rule(
        r"tuesday|nine",
        "Tuesday at nine it is. May I have your name and your car?",
        {"slot": "Tuesday at nine"},
    ),
    Rule(r"\byes|book", "It is booked. We will see you on {slot}. Goodbye! [hangup]"),
)
PUZZLED = "I'm sorry, I didn't understand that. Could you say it again?"


class Receptionist:
    """Book appointments by the words that the ears understood."""

    def __init__(self, thinking: float) -> None:
        self.thinking = thinking
        self.facts = {"slot": "Tuesday at nine", "service": "visit", "a_service": "a visit"}
        self.puzzled = self.cut_in = False

    def reply(self, message: str, _: History) -> Reply:
        """Answer one message, after `thinking` seconds, a few letters at a time."""
        note = re.match(r"\[The caller cut in.*?\]", message, re.DOTALL)
        self.cut_in = self.cut_in or note is not None
        words = message[note.end() :] if note else message
        text = ("Of course. " if note else "") + self.answer(words)
        return Reply(text, first_delay=self.thinking, chunk_delay=0.03)

    def answer(self, words: str) -> str:
        for rule in RULES:
            if match := re.search(rule.pattern, words, re.IGNORECASE):
                self.puzzled = False
                self.facts |= rule.facts | match.groupdict()
                return rule.answer.format_map(self.facts)
        self.puzzled = True
        return PUZZLED
