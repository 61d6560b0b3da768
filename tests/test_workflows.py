"""Both kinds of workflow fail in every way there is: the caller is told, and the call goes on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Pool, both_kinds
from tools.harness import AGENT_KEY, API_KEY, VOICE, Service, hear_out, session_file
from tools.simulator.openai_server import OpenAISimulator, Reply

APOLOGY = "I'm sorry, something went wrong. Could you try that again?"
IMPATIENT = pytest.mark.settings(WORKFLOW_TIMEOUT="1")
RUN_LEFT_BEHIND = "while a run"  # how Assistants refuse a message after an unfinished run
FAILURES: dict[str, dict[str, Any]] = {
    "rate limit": {"status": "http_429"},
    "server error": {"status": "http_500"},
    "wrong key": {"status": "http_401"},
    "failed": {"status": "failed"},
    "error event": {"status": "error"},
    "expired": {"status": "expired"},
    "broken off": {"status": "break"},
    "silent": {"status": "hang"},
    "no answer at all": {"status": "http_hang"},
    "asks for a tool": {"status": "requires_action"},
    "empty": {"status": "completed", "chunks": ""},
    "blank": {"status": "completed", "chunks": "  \n "},
}


@both_kinds
@IMPATIENT
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_workflow_is_apologised_for_once_and_the_next_turn_works(
    service: Service, failure: str
) -> None:
    service.tolerate(RUN_LEFT_BEHIND)
    tries = 4 if failure in ("rate limit", "server error") else 1  # before it is given up
    service.brain.fail_next(tries, **FAILURES[failure])
    call = service.call()
    call.say("First")
    hear_out(call, APOLOGY)
    call.say("Second")
    hear_out(call, "You said: Second.")
    assert call.heard() == f"Hello! {APOLOGY} You said: Second."
    assert service.wait_for_log("no reply").startswith(f"[{call.sid}]")


@both_kinds
@IMPATIENT
@pytest.mark.parametrize("status", ["break", "failed", "hang"])
def test_what_was_written_before_a_failure_is_said_before_the_apology(
    service: Service, status: str
) -> None:
    service.tolerate(RUN_LEFT_BEHIND)
    service.brain.reply = lambda text, history: Reply(
        ["We open at nine. ", "On Sun", "day we"], status=status, break_after=2, chunk_delay=0.1
    )
    call = service.call()
    call.say("When do you open?")
    hear_out(call, APOLOGY)
    assert call.heard().startswith("Hello! We open at nine. ")
    assert call.heard().count(APOLOGY) == 1
    service.brain.reply = lambda text, history: f"You said: {text}."
    call.say("Again")
    hear_out(call, "You said: Again.")


def test_what_was_said_before_a_tool_was_asked_for_is_no_answer(service: Service) -> None:
    service.brain.reply = lambda text, history: (
        f"You said: {text}."
        if text == "Again"
        else Reply("", commentary="Let me look.", status="requires_action")
    )
    call = service.call()
    call.say("What do I owe you?")
    hear_out(call, f"Let me look. {APOLOGY}")
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


def test_commentary_and_answer_are_separate_sentences(service: Service) -> None:
    service.brain.reply = lambda text, history: Reply(
        "It is Monday.", commentary="Let me check", reasoning=True
    )
    call = service.call()
    call.say("When?")
    hear_out(call, "It is Monday.")
    assert call.heard() == "Hello! Let me check It is Monday."


@pytest.mark.parametrize("status", ["completed", "failed", "error"])
def test_streams_of_servers_that_imitate_openai_are_understood(
    service: Service, status: str
) -> None:
    service.brain.imitated = True
    service.brain.reply = lambda text, history: Reply("It is Monday.", status=status)
    call = service.call()
    call.say("When?")
    hear_out(call, "It is Monday." if status == "completed" else APOLOGY)
    if status != "completed":
        assert "Traceback" not in service.wait_for_log("no reply")
        assert "'message'" in service.wait_for_log("no reply")


@both_kinds
def test_a_call_remembers_what_was_said(service: Service) -> None:
    service.brain.reply = lambda text, history: f"That was message {len(history)}."
    call = service.call()
    for turn in range(1, 4):
        call.say("Next")
        call.wait_until(lambda call, n=turn: call.heard().count("That was") == n)  # type: ignore[misc]
        hear_out(call, ".")
    counts = [int(word.strip(".")) for word in call.heard().split() if word.strip(".").isdigit()]
    assert counts == [1, 3, 5]


@pytest.mark.parametrize("workflow", ["asst_test"])
def test_a_run_left_behind_by_another_process_is_ended(service: Service, workflow: str) -> None:
    service.tolerate(RUN_LEFT_BEHIND)
    service.brain.reply = lambda text, history: (
        Reply("Never heard", first_delay=60) if text == "First" else f"You said: {text}."
    )
    call = service.call()
    call.say("First")
    service.openai.wait_for(lambda openai: openai.brain.turns)
    call.stream.reset()
    call.wait_for_stream(number=2)
    hear_out(call, "Please go on.")
    call.say("Second")
    hear_out(call, "Second.", 20)


@pytest.mark.parametrize("workflow", ["asst_test"])
def test_a_message_that_is_refused_for_the_moment_is_sent_again(
    service: Service, workflow: str
) -> None:
    service.brain.fail_messages = [429, 500]
    call = service.call()
    call.say("Hello")
    hear_out(call, "You said: Hello.", 20)
    assert APOLOGY not in call.heard()
    assert [text for _, text in service.brain.messages] == ["Hello"]


@pytest.mark.parametrize("workflow", ["asst_test"])
def test_an_assistant_that_is_gone_is_apologised_for(service: Service, workflow: str) -> None:
    service.openai.assistants_gone = True
    call = service.call()
    call.say("Hello")
    hear_out(call, APOLOGY)
    call.say("Hello")
    hear_out(call, f"{APOLOGY} {APOLOGY}")


@pytest.mark.parametrize("workflow", ["asst_unknown"])
def test_an_assistant_that_does_not_exist_is_apologised_for(
    service: Service, workflow: str
) -> None:
    call = service.call()
    call.say("Hello")
    hear_out(call, APOLOGY)
    service.openai.wait_for(lambda openai: openai.refusals)
    assert "No assistant found" in service.openai.refusals.pop()
    assert service.openai.refusals == []


def test_connections_to_the_workflow_stay_open_between_turns(service: Service) -> None:
    call = service.call()
    for word in ("One", "Two", "Three"):
        call.say(word)
        hear_out(call, f"You said: {word}.")
    peers = {r.peer for r in service.openai.requests if r.path.endswith("/responses")}
    assert len(peers) == 1


@both_kinds
@pytest.mark.parametrize("key", [AGENT_KEY, ""], ids=["a key of its own", "no key"])
def test_the_workflow_may_live_elsewhere_than_the_voice(
    pool: Pool, mode: str, workflow: str, key: str, tmp_path: Any
) -> None:
    with OpenAISimulator(ears=VOICE, mouth=VOICE, api_key=key or "none") as agent:
        service = Service(
            mode,
            {
                "AGENT_WORKFLOW_ID": workflow,
                "AGENT_BASE_URL": agent.base_url,
                "AGENT_API_KEY": key,
                "REALTIME_SESSION": str(session_file(tmp_path)),
                "GREETING": "Hello!",
            },
        )
        try:
            call = service.call()
            call.say("Are you there?")
            hear_out(call, "You said: Are you there?.")
            call.hang_up()
            call.wait_ended()
        finally:
            service.stop()
        assert service.openai.brain.messages == []
        assert agent.sessions == []
        assert service.openai.refusals == agent.refusals == service.network.refusals == []
        keys = {request.headers["Authorization"] for request in service.openai.requests}
        assert keys == {f"Bearer {API_KEY}"}
