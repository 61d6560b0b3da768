"""A workflow that fails is apologised for, and the call goes on. All its ways: tests/workflow.

And it may live elsewhere than the voice.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import FAR_AWAY, Pool, both_kinds, undisturbed
from tools.harness import AGENT_KEY, API_KEY, VOICE, Service, check_secrecy, hear_out, settle
from tools.simulator.openai_server import OpenAISimulator, Reply

thorough = pytest.mark.thorough
APOLOGY = "I'm sorry, something went wrong. Could you try that again?"
RUN_LEFT_BEHIND = "while a run"  # how Assistants refuse a message after an unfinished run
FAILURES: dict[str, dict[str, Any]] = {
    "failed": {"status": "failed"},
    "without a word": {"status": "completed", "chunks": [" \n ", "👍 … ", "---"]},
}
ENDLESS_FAILURES: dict[str, dict[str, Any]] = {
    "no answer at all": {"status": "http_hang"},
    "silent": {"status": "hang"},
}
MORE_FAILURES: dict[str, dict[str, Any]] = {
    "rate limit": {"status": "http_429"},
    "server error": {"status": "http_500"},
    "wrong key": {"status": "http_401"},
    "error event": {"status": "error"},
    "expired": {"status": "expired"},
    "broken off": {"status": "break"},
    "asks for a tool": {"status": "requires_action"},
    "empty": {"status": "completed", "chunks": ""},
}
ANSWERS = {  # to each request for a reply; 200 to one only, if nothing else
    "no answer at all": [0],
    "rate limit": [429] * 4,
    "server error": [500] * 4,
    "wrong key": [401],
}


@undisturbed
@both_kinds
@pytest.mark.parametrize(
    "failures",
    [
        pytest.param(FAILURES, id="some"),
        pytest.param(MORE_FAILURES, id="more", marks=thorough("it takes long")),
        pytest.param(
            ENDLESS_FAILURES,
            id="endless",
            marks=[thorough("it takes long"), pytest.mark.settings(WORKFLOW_TIMEOUT="8")],
        ),
    ],
)
def test_a_failing_workflow_is_apologised_for_once_and_the_next_turn_works(
    service: Service, failures: dict[str, dict[str, Any]]
) -> None:
    service.tolerate(RUN_LEFT_BEHIND)
    call = service.call()
    heard = "Hello!"
    for failure, reply in failures.items():
        answers = ANSWERS.get(failure, [200])
        asked_before = len(asked_for(service))
        service.brain.fail_next(len(answers), **reply)
        call.say(f"First {failure}")
        heard = f"{heard} {APOLOGY}"
        hear_out(call, heard)
        assert asked_for(service)[asked_before:] == answers, failure
        assert service.upstream()["status"] == "failing"
        call.say(f"After {failure}")
        heard = f"{heard} You said: After {failure}."
        hear_out(call, heard)
    assert call.heard() == heard
    why = [line for line in service.log if f"[{call.sid} ***33] no reply: " in line]
    assert len(why) == len(failures)


def asked_for(service: Service) -> list[int]:
    """Return how each request for a reply was answered."""
    posts = [each for each in service.openai.requests if each.method == "POST"]
    return [each.status for each in posts if each.path.endswith(("/responses", "/runs"))]


@both_kinds
def test_what_is_refused_for_a_moment_is_asked_again_and_heard(service: Service) -> None:
    service.brain.fail_next(1, "http_429")
    call = service.call()
    call.say("Hello")
    hear_out(call, "You said: Hello.")
    assert call.heard() == "Hello! You said: Hello."
    assert service.messages == ["Hello"]


@pytest.mark.parametrize("workflow", ["asst_test"], scope="session")
def test_an_assistant_that_is_gone_is_apologised_for_turn_by_turn(
    service: Service, workflow: str
) -> None:
    service.openai.assistants_gone = True
    call = service.call()
    call.say("Hello")
    hear_out(call, f"Hello! {APOLOGY}")
    call.say("Are you there?")
    hear_out(call, f"{APOLOGY} {APOLOGY}")


@pytest.mark.parametrize("workflow", ["asst_test"], scope="session")
def test_a_run_left_behind_by_a_lost_stream_is_ended(service: Service, workflow: str) -> None:
    service.tolerate(RUN_LEFT_BEHIND)
    service.brain.reply = lambda text, history: (
        Reply("Never heard", first_delay=60) if text == "First" else f"You said: {text}."
    )
    call = service.call()
    call.say("First")
    service.openai.wait_for(lambda openai: openai.brain.turns)
    settle(call)
    call.stream.reset()
    call.wait_for_stream(number=2)
    hear_out(call, "Please go on.")
    call.say("Second")
    hear_out(call, "Second.")
    assert "Never heard" not in call.heard()


@both_kinds
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


@thorough("it starts processes of its own")
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
                **FAR_AWAY,
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
