"""A workflow that fails is apologised for, and the call goes on. All its ways: tests/workflow."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import both_kinds
from tools.harness import Service, hear_out
from tools.simulator.openai_server import Reply

APOLOGY = "I'm sorry, something went wrong. Could you try that again?"
IMPATIENT = pytest.mark.settings(WORKFLOW_TIMEOUT="1")
RUN_LEFT_BEHIND = "while a run"  # how Assistants refuse a message after an unfinished run
FAILURES: dict[str, dict[str, Any]] = {
    "failed": {"status": "failed"},
    "no answer at all": {"status": "http_hang"},
    "blank": {"status": "completed", "chunks": "  \n "},
}


@both_kinds
@IMPATIENT
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_workflow_is_apologised_for_once_and_the_next_turn_works(
    service: Service, failure: str
) -> None:
    service.tolerate(RUN_LEFT_BEHIND)
    service.brain.fail_next(1, **FAILURES[failure])
    call = service.call()
    call.say("First")
    hear_out(call, APOLOGY)
    call.say("Second")
    hear_out(call, "You said: Second.")
    assert call.heard() == f"Hello! {APOLOGY} You said: Second."
    assert f"[{call.sid} ***33]" in service.wait_for_log("no reply")


@both_kinds
@IMPATIENT
def test_what_was_written_before_a_failure_is_said_before_the_apology(
    service: Service,
) -> None:
    service.tolerate(RUN_LEFT_BEHIND)
    service.brain.reply = lambda text, history: Reply(
        ["We open at nine. ", "On Sun", "day we"], status="break", break_after=2, chunk_delay=0.1
    )
    call = service.call()
    call.say("When do you open?")
    hear_out(call, APOLOGY)
    assert call.heard() == f"Hello! We open at nine. {APOLOGY}"  # and not half a sentence
    service.brain.reply = lambda text, history: f"You said: {text}."
    call.say("Again")
    hear_out(call, "You said: Again.")


@both_kinds
def test_caller_cuts_in_on_a_failing_reply_and_hears_no_apology(service: Service) -> None:
    service.brain.reply = lambda text, history: (
        "All right."
        if "Stop" in text
        else Reply(
            "One. Two. Three. Four. Five. Six. Seven. Eight.",
            0.02,
            0.1,
            status="failed",
            break_after=40,
        )
    )
    call = service.call()
    call.say("Count")
    call.wait_for_heard("Two")
    call.say("Stop")
    hear_out(call, "All right.")
    assert "sorry" not in call.heard()
