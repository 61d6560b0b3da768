"""A call's conversation is started once, whoever asks for it, and forgotten with the call."""

from __future__ import annotations

import weakref
from concurrent.futures import ThreadPoolExecutor

import openai as sdk
import pytest

from tests.workflow.conftest import CALLED, CALLER, KINDS, SHORT, SID, Talk, kept_texts, settings_of
from tests.workflow.script import (
    CONVERSATION,
    THREAD,
    Script,
    answered,
    client_of,
    refused,
    response_said,
    streamed,
)
from tools.simulator.openai_server import OpenAISimulator
from workflow_client import (
    FAILURES,
    RETRY_PAUSES,
    STREAM_SECONDS,
    Patience,
    WorkflowClient,
    WorkflowError,
)

pytestmark = pytest.mark.filterwarnings("ignore:The Assistants API is deprecated")
NOTE = f"[Phone call from {CALLER} to {CALLED}. It is "
STARTED = {"responses": answered(CONVERSATION), "assistant": answered(THREAD)}


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_conversation_begins_with_a_note_about_the_call(
    openai: OpenAISimulator, client: WorkflowClient
) -> None:
    started = Talk(client).start()
    kept = openai.conversations.get(started) or openai.threads[started]
    ((role, note),) = kept.texts
    assert role == "user"
    assert note.startswith(NOTE)
    assert note.endswith(" (UTC).]")
    assert kept.metadata == {"call_sid": SID, "caller": CALLER, "called": CALLED}
    assert openai.refusals == []


def test_who_calls_under_a_very_long_name_has_a_conversation(
    openai: OpenAISimulator, client: WorkflowClient
) -> None:
    address = f"sip:{'x' * 600}@example.com"
    started = client.start(SID, address, CALLED)
    kept = openai.conversations.get(started) or openai.threads[started]
    ((_, note),) = kept.texts
    assert note.startswith(f"[Phone call from {address} to {CALLED}. ")
    assert openai.refusals == []


def test_the_note_tells_the_time_where_the_owner_is(openai: OpenAISimulator, kind: str) -> None:
    where = {"openai_base_url": openai.base_url, "timezone": "Asia/Tokyo"}
    Talk(WorkflowClient(settings_of(KINDS[kind], **where), SHORT)).start()
    ((_, note),) = kept_texts(openai)
    assert note.endswith(" (Asia/Tokyo).]")


@pytest.mark.parametrize("moment", ["before its stream", "with its first message"])
def test_what_is_known_of_the_caller_is_told_whenever_the_conversation_starts(
    openai: OpenAISimulator, client: WorkflowClient, moment: str
) -> None:
    about = "Of the caller: name Ada Byron."
    if moment == "before its stream":
        client.start(SID, CALLER, CALLED, about)
    client.resume(SID, "", CALLER, CALLED, about=about)
    Talk(client).say("Hello")
    note, *_ = [text for _, text in kept_texts(openai)]
    assert note.startswith(NOTE)
    assert note.endswith(f" {about}]")


def test_a_call_that_is_asked_for_twice_has_one_conversation(
    openai: OpenAISimulator, client: WorkflowClient
) -> None:
    assert Talk(client).start() == Talk(client).start()
    assert len(openai.requests) == 1


def test_a_call_that_is_asked_for_eight_times_at_once_has_one_conversation(
    openai: OpenAISimulator, client: WorkflowClient
) -> None:
    openai.brain.create_delay = 0.05
    with ThreadPoolExecutor(8) as pool:
        started = list(pool.map(lambda _: Talk(client).start(), range(8)))
    assert len(set(started)) == 1
    assert len(openai.requests) == 1


def test_calls_that_start_at_once_do_not_wait_for_each_other(
    openai: OpenAISimulator, client: WorkflowClient
) -> None:
    openai.brain.create_delay = 600
    with ThreadPoolExecutor(2) as pool:
        starts = [pool.submit(Talk(client, f"CA{number}").start) for number in range(2)]
        openai.wait_for(lambda openai: len(openai.requests) == 2)
        assert not any(start.done() for start in starts)
        openai.stop()  # frees them


def test_a_call_that_has_ended_starts_anew(client: WorkflowClient) -> None:
    talk = Talk(client)
    first = talk.start()
    client.end(SID)
    assert talk.start() != first


@pytest.mark.parametrize("statuses", [[429], [500, 503], [429, 500, 503]])
def test_a_start_that_is_refused_for_a_moment_is_made_again(
    openai: OpenAISimulator, client: WorkflowClient, statuses: list[int]
) -> None:
    openai.brain.fail_create = list(statuses)
    assert Talk(client).start()
    assert [request.status for request in openai.requests] == [*statuses, 200]


def test_a_start_that_goes_on_being_refused_fails_and_may_be_asked_for_again(
    openai: OpenAISimulator, client: WorkflowClient
) -> None:
    openai.brain.fail_create = [503] * 4
    with pytest.raises(FAILURES):
        Talk(client).start()
    assert openai.brain.fail_create == []
    assert Talk(client).start()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_start_that_is_refused_for_good_is_made_once(kind: str, status: int) -> None:
    script = Script(refused(status))
    with pytest.raises(FAILURES):
        Talk(client_of(script, kind)).start()
    assert len(script.asked) == 1


def test_nobody_waits_for_a_start_for_longer_than_twilio_does() -> None:
    tries = []

    def refuse() -> None:
        tries.append(1)
        raise sdk.APIConnectionError(request=None)  # type: ignore[arg-type]

    with pytest.raises(sdk.APIConnectionError):
        Patience(RETRY_PAUSES).ask("CA1", refuse, within=0)
    assert len(tries) == 1


def test_a_message_may_follow_a_start_before_the_stream_is_here(talk: Talk) -> None:
    assert talk.say("Hello") == "You said: Hello."


def test_a_stream_that_brings_no_conversation_starts_one_with_its_first_message(
    openai: OpenAISimulator, client: WorkflowClient
) -> None:
    client.resume(SID, "", CALLER, CALLED)
    assert openai.requests == []
    talk = Talk(client)
    assert [talk.say("Hello"), talk.say("Again")] == ["You said: Hello.", "You said: Again."]
    note, *said = [text for role, text in kept_texts(openai) if role == "user"]
    assert note.startswith(NOTE)
    assert said == ["Hello", "Again"]


def test_a_stream_in_another_process_goes_on_with_the_conversation(
    openai: OpenAISimulator, client: WorkflowClient, talk: Talk, kind: str
) -> None:
    talk.say("Hello")
    here = WorkflowClient(settings_of(KINDS[kind], openai_base_url=openai.base_url), SHORT)
    here.resume(SID, talk.start(), CALLER, CALLED)
    assert Talk(here).say("Again") == "You said: Again."
    assert len(openai.conversations) + len(openai.threads) == 1


def test_the_stream_s_conversation_counts_and_not_one_that_was_started_here(
    openai: OpenAISimulator, client: WorkflowClient
) -> None:
    """As when Twilio asked two processes for its instructions."""
    wanted = Talk(client, "another call").start()
    talk = Talk(client)
    talk.start()
    client.resume(SID, wanted, CALLER, CALLED)
    talk.say("Hello")
    assert [where for where, text in openai.brain.messages if text == "Hello"] == [wanted]


def test_a_newer_conversation_counts_though_an_older_stream_is_still_here(
    client: WorkflowClient,
) -> None:
    """As when another process has replaced it meanwhile."""
    client.resume(SID, "", CALLER, CALLED)
    for conversation in ("conv_1", "conv_2"):
        client.resume(SID, conversation, CALLER, CALLED)
        assert client.conversation(SID) == conversation


def test_a_call_that_is_unknown_or_has_ended_gets_no_reply(client: WorkflowClient) -> None:
    talk = Talk(client)
    with pytest.raises(WorkflowError, match="not started"):
        talk.say("Hello")
    client.resume(SID, "conv_1", CALLER, CALLED)
    client.end(SID)
    with pytest.raises(WorkflowError, match="ended"):
        talk.say("Hello")


def test_ending_a_call_twice_or_one_that_never_was_does_no_harm(client: WorkflowClient) -> None:
    client.end(SID)
    Talk(client).start()
    client.end(SID)
    client.end(SID)


def test_a_stream_that_is_back_before_the_old_one_has_ended_keeps_the_call() -> None:
    client = client_of(Script(streamed(response_said("Good day!"))))
    client.resume(SID, "conv_1", CALLER, CALLED)
    client.resume(SID, "conv_1", CALLER, CALLED)
    client.end(SID)  # the old stream
    assert Talk(client).say("Hello") == "Good day!"
    client.end(SID)
    with pytest.raises(WorkflowError):
        Talk(client).say("Hello")


def test_a_reply_that_is_on_its_way_when_the_call_ends_can_be_read_to_its_end(talk: Talk) -> None:
    reply = talk.client.send_message(SID, "Hello")
    heard = next(reply)
    talk.client.end(SID)
    assert heard + "".join(reply) == "You said: Hello.\n\n"


class Number(str):
    """A number that tells whether anything still holds it."""

    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("kind", KINDS)
def test_no_number_is_remembered_once_its_call_has_ended(kind: str) -> None:
    client = client_of(Script(STARTED[kind]), kind)
    caller = Number(CALLER)
    remembered = weakref.ref(caller)
    client.start(SID, caller, CALLED)
    del caller
    assert remembered()
    client.end(SID)
    assert remembered() is None


def test_calls_whose_stream_never_came_are_forgotten_when_another_starts() -> None:
    clock, script = Clock(), Script(*[STARTED["responses"]] * 3)
    client = WorkflowClient(settings_of(), SHORT, clock, script)
    callers = {sid: Number(CALLER) for sid in ("stray", "on the line", "waiting")}
    remembered = {sid: weakref.ref(caller) for sid, caller in callers.items()}
    client.start("stray", callers.pop("stray"), CALLED)
    client.resume("on the line", "conv_2", callers.pop("on the line"), CALLED)
    clock.now += STREAM_SECONDS - 1
    client.start("waiting", callers.pop("waiting"), CALLED)
    assert remembered["stray"]()
    clock.now += 2
    client.start("new", CALLER, CALLED)
    assert {sid for sid, caller in remembered.items() if caller()} == {"on the line", "waiting"}


@pytest.mark.parametrize("key", ["an-agent-s-own-key", ""])
def test_openai_s_key_never_goes_to_an_agent_that_lives_elsewhere(kind: str, key: str) -> None:
    with OpenAISimulator(ears=None, mouth=None, api_key=key or "none") as elsewhere:  # type: ignore[arg-type]
        own = {"agent_api_key": key} if key else {}
        where = {"agent_base_url": elsewhere.base_url, **own}
        talk = Talk(WorkflowClient(settings_of(KINDS[kind], **where), SHORT))
        talk.start()
        assert talk.say("Hello") == "You said: Hello."
        assert elsewhere.refusals == []
