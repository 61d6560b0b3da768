"""A workflow that fails is apologised for, and the call goes on. All its ways: tests/workflow.

And it may live elsewhere than the voice.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Pool, both_kinds
from tools.harness import AGENT_KEY, API_KEY, VOICE, Service, check_secrecy, hear_out
from tools.simulator.openai_server import OpenAISimulator, Reply

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


@pytest.mark.thorough("it starts processes of its own")
@pytest.mark.parametrize(
    ("workflow", "key"),
    [("workflow.json", AGENT_KEY), ("asst_test", "")],
    ids=["Responses, with a key of its own", "an assistant, without a key"],
    scope="session",
)
def test_the_workflow_may_live_elsewhere_than_the_voice(
    pool: Pool, workflow: str, key: str
) -> None:
    sent = key or "none"  # OpenAI's client can't go without
    with OpenAISimulator(ears=VOICE, mouth=VOICE, api_key=sent) as agent:
        agent.brain.reply = lambda text, history: "The agent is here."
        service = Service(
            "gevent",
            {
                "AGENT_WORKFLOW_ID": workflow,
                "AGENT_BASE_URL": agent.base_url,
                "AGENT_API_KEY": key,
                "REALTIME_SESSION": str(pool.session_file({})),
                "GREETING": "Hello!",
            },
        )
        try:
            call = service.call()
            call.say("Who is there?")
            hear_out(call, "The agent is here.")
            call.hang_up()
            call.wait_ended()
        finally:
            service.stop()
        check_secrecy(service.process.output)
        assert agent.refusals == service.openai.refusals == service.network.refusals == []
        assert agent.sessions == []
        assert {request.path for request in service.openai.requests} == {"/v1/realtime"}
        assert keys_sent_to(agent) == {f"Bearer {sent}"}
        assert keys_sent_to(service.openai) == {f"Bearer {API_KEY}"}


def keys_sent_to(server: OpenAISimulator) -> set[str]:
    return {request.headers["Authorization"] for request in server.requests}
