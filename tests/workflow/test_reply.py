"""A message is answered, or the failure says why; what passes is waited for, what doesn't isn't."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai as sdk
import pytest

import cost
import workflow_client
from cost import Cost, Usage
from replies import NO_TOOLS
from settings import HERE
from tests.unit.environment import REQUIRED
from tests.workflow.conftest import CALLED, CALLER, KINDS, SHORT, SID, Talk, kept_texts, settings_of
from tests.workflow.script import (
    CONVERSATION,
    SAID,
    Answer,
    Script,
    answered,
    refused,
    response_said,
    run_said,
    sent,
    streamed,
    talk_by,
)
from tools.simulator.openai_server import OpenAISimulator, Reply
from workflow_client import RETRY_PAUSES, Patience, WorkflowClient

only_assistants = pytest.mark.parametrize("kind", ["assistant"])
only_responses = pytest.mark.parametrize("kind", ["responses"])
pytestmark = pytest.mark.filterwarnings("ignore:The Assistants API is deprecated")
NOTE = f"[Phone call from {CALLER} to {CALLED}. It is "
LOST_NOTE = " What was said in it until now was lost.]"


def asked_for(openai: OpenAISimulator) -> list[int]:
    """Return how each request for a reply was answered."""
    paths = ("/responses", "/runs")
    posts = [each for each in openai.requests if each.method == "POST"]
    return [each.status for each in posts if each.path.endswith(paths)]


def told(openai: OpenAISimulator) -> list[str]:
    """Return what its only conversation keeps of what the caller said, in order."""
    texts = [text for role, text in kept_texts(openai) if role == "user"]
    return [text for text in texts if not text.startswith(NOTE)]


# --- what a reply used ---------------------------------------------------------------------------


def test_what_each_reply_used_is_told_with_its_model(
    client: WorkflowClient, openai: OpenAISimulator, kind: str
) -> None:
    used: list[Usage] = []
    conversation = client.start(SID, CALLER, CALLED)
    client.resume(SID, conversation, CALLER, CALLED, used.append)
    for words in ("One", "Two"):
        assert "".join(client.send_message(SID, words))
    counts = {"responses": cost.RESPONSE, "assistant": cost.RUN}[kind]
    assert [usage.counts for usage in used] == [counts, counts]
    total = Cost({})
    for usage in used:
        assert usage.model
        total.add(usage)
    spent = {price: amount for (_, price), amount in total.used.items()}
    assert spent["text in"] == 80
    assert spent["text out"] > 0


# --- replies -------------------------------------------------------------------------------------


def test_a_reply_is_told_while_it_is_written(openai: OpenAISimulator, talk: Talk) -> None:
    openai.brain.reply = lambda text, _: Reply(["We open ", "at"], status="hang", break_after=1)
    assert next(talk.client.send_message(SID, "When do you open?")) == "We open "


def test_a_call_remembers_what_was_said(openai: OpenAISimulator, talk: Talk) -> None:
    openai.brain.reply = lambda text, history: f"That was message {len(history)}."
    assert [talk.say("Next") for _ in range(3)] == [f"That was message {n}." for n in (1, 3, 5)]
    assert openai.refusals == []


@pytest.mark.parametrize("end", ["", "/"])
def test_a_gateway_that_has_openais_url_in_its_own_is_asked_there(end: str) -> None:
    gateway = f"https://gateway.example.com/https://api.openai.com/v1{end}"
    script = Script(streamed(response_said("Good day!")))
    assert talk_by(script, openai_base_url=gateway).say("Hello!") == "Good day!"
    assert script.asked == ["POST /https://api.openai.com/v1/responses"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_request_tells_what_machine_it_comes_from(kind: str) -> None:
    answers = {"responses": [], "assistant": [answered({"id": "msg_1"})]}
    script = Script(*answers[kind], streamed(SAID[kind]("Good day!")))
    assert talk_by(script, kind).say("Hello!") == "Good day!"
    for headers in script.headers:
        assert headers["Authorization"].startswith("Bearer ")
        telling = {name for name in headers if name.startswith("x-stainless-")}
        assert telling <= {"x-stainless-retry-count", "x-stainless-read-timeout"}


def test_connections_stay_open_between_turns_however_long_the_caller_talks(
    openai: OpenAISimulator, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, client = time.monotonic, threading.current_thread()
    passed = 0  # seconds, for the client only

    def later() -> float:
        return now() + (passed if threading.current_thread() is client else 0)

    monkeypatch.setattr(time, "monotonic", later)
    for _ in range(4):
        talk.say("Let me think.")
        passed += 60
    assert len({request.peer for request in openai.requests}) == 1


@only_responses
@pytest.mark.parametrize("imitated", [False, True])
def test_commentary_and_answer_are_paragraphs_of_their_own(
    openai: OpenAISimulator, talk: Talk, imitated: bool
) -> None:
    openai.brain.imitated = imitated
    openai.brain.reply = lambda *_: Reply("It is Monday.", commentary="Let me see", reasoning=True)
    assert talk.say("When?") == "Let me see\n\nIt is Monday."


def test_many_calls_talk_at_once_and_each_gets_its_own_replies(
    openai: OpenAISimulator, client: WorkflowClient
) -> None:
    openai.brain.reply = lambda text, history: f"{text}, after {len(history)}."

    def call(number: int) -> list[str]:
        talk = Talk(client, f"CA{number}")
        talk.start()
        return [talk.say(f"{number} says {turn}") for turn in range(3)]

    with ThreadPoolExecutor(20) as pool:
        heard = list(pool.map(call, range(20)))
    expected = [[f"{n} says {turn}, after {1 + 2 * turn}." for turn in range(3)] for n in range(20)]
    assert heard == expected
    assert openai.refusals == []


def test_a_workflow_may_be_given_all_the_time_that_it_wants(
    openai: OpenAISimulator, kind: str
) -> None:
    where = {"openai_base_url": openai.base_url, "workflow_timeout": "0"}
    talk = Talk(WorkflowClient(settings_of(KINDS[kind], **where), SHORT))
    talk.start()
    assert talk.say("Hello") == "You said: Hello."


# --- failures ------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[str, str]] = {
    "failed": ("failed", "server_error"),
    "error": ("error", "server_error"),
    "incomplete": ("incomplete", "max_(output|completion)_tokens"),
    "expired": ("expired", "expired|server_error"),
    "asks for a tool": ("requires_action", NO_TOOLS),
    "broken off": ("break", "reset by peer"),
    "wrong key": ("http_401", "Incorrect API key"),
    "not found": ("http_404", "Not found"),
}


@pytest.mark.parametrize("failure", BROKEN)
def test_a_failure_is_not_asked_for_again_says_why_and_the_next_turn_is_answered(
    openai: OpenAISimulator, talk: Talk, failure: str
) -> None:
    status, reason = BROKEN[failure]
    openai.brain.fail_next(1, status, chunks="")
    heard, error = talk.fail("First")
    assert heard.strip() == ""
    assert re.search(reason, str(error))
    assert len(asked_for(openai)) == 1
    assert talk.say("Second") == "You said: Second."
    assert told(openai).count("Second") == 1


@pytest.mark.parametrize("status", ["break", "failed", "error", "incomplete"])
def test_what_was_written_before_a_failure_is_told(
    openai: OpenAISimulator, talk: Talk, status: str
) -> None:
    openai.brain.fail_next(1, status, chunks=["We open at nine. ", "On Sun", "day"], break_after=2)
    heard, _ = talk.fail("When do you open?")
    assert heard.strip() == "We open at nine. On Sun"
    assert len(asked_for(openai)) == 1
    assert talk.say("Again") == "You said: Again."
    messages = [text for _, text in openai.brain.messages if not text.startswith(NOTE)]
    assert messages == ["When do you open?", "Again"]


@only_responses
def test_what_was_said_before_a_tool_was_asked_for_is_no_reply(
    openai: OpenAISimulator, talk: Talk
) -> None:
    openai.brain.fail_next(1, "requires_action", chunks="", commentary="Let me look.")
    heard, error = talk.fail("What do I owe you?")
    assert heard == "Let me look.\n\n"
    assert str(error) == NO_TOOLS
    assert talk.say("Again") == "You said: Again."


@only_assistants
def test_a_run_that_asks_for_a_tool_is_not_left_waiting_for_it(
    openai: OpenAISimulator, talk: Talk
) -> None:
    openai.brain.fail_next(1, "requires_action", chunks="")
    talk.fail("What do I owe you?")
    (thread,) = openai.threads.values()
    openai.wait_for(lambda _: thread.runs[0].status == "cancelled")


@pytest.mark.parametrize("text", ["", "  \n "])
def test_a_reply_without_a_word_is_no_failure(
    openai: OpenAISimulator, talk: Talk, text: str
) -> None:
    openai.brain.reply = lambda *_: Reply(text)
    assert talk.say("Hello") == ""


def test_servers_that_imitate_openai_tell_their_errors_too(openai: OpenAISimulator) -> None:
    chosen = settings_of(openai_base_url=openai.base_url)
    talk = Talk(WorkflowClient(chosen, SHORT))
    talk.start()
    openai.brain.imitated = True
    openai.brain.fail_next(1, "error")
    assert "An error occurred" in str(talk.fail("Hello")[1])


SILENCE = httpx2.ReadTimeout("timed out")


def test_a_workflow_that_does_not_answer_at_all_is_waited_for_once(kind: str) -> None:
    script = Script(SILENCE, *[answered({"data": []})] * (kind == "assistant"))
    heard, error = talk_by(script, kind).fail("Hello")
    assert heard == ""
    assert isinstance(error, sdk.APITimeoutError)
    assert len([what for what in script.asked if what.startswith("POST")]) == 1


def test_a_workflow_that_falls_silent_in_mid_reply_is_given_up(kind: str) -> None:
    reply = SAID[kind]("We open at nine.").split(b"\n\n")[0] + b"\n\n"
    message = [answered({"id": "msg_1"})] if kind == "assistant" else []
    heard, error = talk_by(Script(*message, streamed(reply, SILENCE)), kind).fail("Hello")
    assert heard == "We open at nine."
    assert isinstance(error, httpx2.ReadTimeout)


WORDS = ["We open at nine. ", "On Sunday, too."]
LONG = 10.0  # seconds, but not as long as a client waits that isn't told WORKFLOW_TIMEOUT
SILENT_STREAMS: dict[str, tuple[Reply, str]] = {
    "before its first word": (Reply(WORDS, first_delay=LONG), ""),
    "after its first words": (Reply(WORDS, first_delay=0, chunk_delay=LONG), WORDS[0]),
}


@pytest.mark.parametrize("silent", SILENT_STREAMS)
def test_a_stream_that_falls_silent_is_ended_by_workflow_timeout(
    openai: OpenAISimulator, kind: str, silent: str
) -> None:
    reply, written = SILENT_STREAMS[silent]
    openai.brain.reply = lambda *_: reply
    where = {"openai_base_url": openai.base_url, "workflow_timeout": "1"}
    talk = Talk(WorkflowClient(settings_of(KINDS[kind], **where), SHORT))
    talk.start()
    for _ in range(10):  # where the machine stands still, that may be what takes the second
        earlier = len(asked_for(openai))
        heard, error = talk.fail("When do you open?")
        is_late = isinstance(error, sdk.APITimeoutError) or len(heard) < len(written)
        if not is_late:
            break
    assert heard == written
    assert isinstance(error, httpx2.ReadTimeout), "so the headers had come"
    assert asked_for(openai)[earlier:] == [200]


def test_an_answer_that_is_no_stream_is_a_failure_in_plain_words() -> None:
    page = httpx2.Response(200, text="<html>Hello</html>", headers={"Content-Type": "text/html"})
    assert "text/html" in str(talk_by(Script(page)).fail("Hello")[1])


# --- what passes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("times", [1, 3])
def test_what_is_refused_for_a_moment_is_asked_again_and_told_once(
    openai: OpenAISimulator,
    talk: Talk,
    caplog: pytest.LogCaptureFixture,
    status: int,
    times: int,
) -> None:
    openai.brain.fail_next(times, f"http_{status}")
    assert talk.say("First") == "You said: First."
    for number, line in enumerate(caplog.messages, 2):
        again = rf"retrying the workflow in 0\.\d s, attempt {number}"
        assert re.match(rf"\[{talk.call_sid}\] {again}: Error code: {status} - ", line)
    assert len(caplog.messages) == times
    assert talk.say("Second") == "You said: Second."
    assert asked_for(openai) == [*[status] * times, 200, 200]
    assert told(openai) == ["First", "Second"]


def test_what_goes_on_being_refused_is_given_up_after_four_tries(
    openai: OpenAISimulator, talk: Talk
) -> None:
    openai.brain.fail_next(4, "http_500")
    assert isinstance(talk.fail("First")[1], sdk.InternalServerError)
    assert asked_for(openai) == [500] * 4


def test_the_pauses_grow() -> None:
    assert list(RETRY_PAUSES) == sorted(RETRY_PAUSES)
    assert 3 <= sum(RETRY_PAUSES) <= 4


PASSING: dict[str, Answer] = {
    "locked": refused(400, code="conversation_locked"),
    "conflict": refused(409),
    "request timed out": refused(408),
    "rate limit": refused(429, code="rate_limit_exceeded", type="requests"),
    "bad gateway": httpx2.Response(502, text="<html>Bad gateway</html>"),
    "overloaded": refused(529),
    "connection refused": httpx2.ConnectError("[Errno 111] Connection refused"),
    "connection reset": httpx2.ReadError("[Errno 104] Connection reset by peer"),
    "connection closed": httpx2.RemoteProtocolError("Server disconnected"),
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_is_not_told_to_the_caller(fault: str) -> None:
    script = Script(PASSING[fault], streamed(response_said("Good day!")))
    assert talk_by(script).say("Hello") == "Good day!"
    assert script.asked == ["POST /responses"] * 2
    assert script.requests[0] == script.requests[1]


@pytest.mark.parametrize(
    ("status", "told", "waited"),
    [
        (429, "2", 2),
        (503, "4.5", 4.5),
        (429, "5", 5),
        (429, "0", 0.5),
        (429, "-3", 0.5),
        (503, "60", 0.5),
        (503, "nan", 0.5),
        (503, "inf", 0.5),
        (429, "Sat, 28 Nov 2026 10:32:07 GMT", 0.5),
        (429, "", 0.5),
    ],
)
def test_a_server_that_asks_for_a_few_seconds_gets_them(
    status: int, told: str, waited: float
) -> None:
    slept: list[float] = []
    refusal = httpx2.Response(status, headers={"Retry-After": told}, json={})
    script = Script(refusal, answered(CONVERSATION))
    client = sdk.OpenAI(api_key="none", max_retries=0, http_client=httpx2.Client(transport=script))
    Patience(RETRY_PAUSES, slept.append).ask("CA1", client.conversations.create)
    assert slept == [waited]


LASTING: dict[str, Answer] = {
    "bad request": refused(400, code="invalid_value"),
    "wrong key": refused(401, code="invalid_api_key"),
    "not permitted": refused(403),
    "unprocessable": refused(422),
    "quota": refused(429, code="insufficient_quota", type="insufficient_quota"),
    "quota by its type": refused(429, code=None, type="insufficient_quota"),
    "not paid": refused(429, code="billing_not_active"),
    "a code that is no text": refused(400, code=17),
}


@pytest.mark.parametrize("fault", LASTING)
def test_a_fault_that_lasts_is_told_at_once(fault: str) -> None:
    script = Script(LASTING[fault])
    assert isinstance(talk_by(script).fail("Hello")[1], sdk.APIStatusError)
    assert script.asked == ["POST /responses"]


def test_a_connection_that_was_forgotten_meanwhile_costs_no_turn() -> None:
    """A load balancer forgets it while nobody speaks, and resets it at its next use."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=forget_a_connection, args=[listener], daemon=True)
        server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        client = WorkflowClient(settings_of(openai_base_url=url), SHORT)
        client.resume(SID, "conv_1", CALLER, CALLED)
        assert [Talk(client).say(words) for words in ("One", "Two")] == ["Good day!"] * 2
        server.join()


def forget_a_connection(listener: socket.socket) -> None:
    """Answer a request, reset the connection at its next one, and answer that on another."""
    with listener.accept()[0] as first:
        answer_one(first)
        first.recv(1)
        reset_when_closed = struct.pack("ii", 1, 0)
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_when_closed)
    with listener.accept()[0] as second:
        answer_one(second)


def answer_one(connection: socket.socket) -> None:
    request = b""
    while not request.endswith(b"}"):
        more = connection.recv(65536)
        assert more, "the client has left"
        request += more
    body = response_said("Good day!")
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}"
    connection.sendall(f"{head}\r\n\r\n".encode() + body)


# --- conversations that can't go on --------------------------------------------------------------


def test_a_conversation_that_was_deleted_is_replaced(
    openai: OpenAISimulator, talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    talk.say("My name is Ada")
    openai.conversations.clear()
    openai.threads.clear()
    assert talk.say("Hello") == "You said: Hello."
    note, hello = [text for role, text in kept_texts(openai) if role == "user"]
    assert note.startswith(NOTE)
    assert note.endswith(LOST_NOTE)
    assert hello == "Hello"
    assert talk.say("Again") == "You said: Again."
    assert len(openai.conversations) + len(openai.threads) == 1
    assert caplog.messages == [f"[{SID}] going on in a new conversation: the conversation is gone"]


TOO_LONG = {"code": "context_length_exceeded", "message": "Your input exceeds the context window."}
OPEN_CALL = {
    "code": None,
    "message": "No tool output found for function call call_1.",
    "param": "input",
}
TORN = {"message": "Item 'msg_1' of type 'message' was provided without its required 'reasoning'."}
EXPIRED = {"message": "Item with id 'rs_1' not found."}
FAILED = {"type": "response.failed", "response": {"error": TOO_LONG}}
BROKEN_CONVERSATIONS: dict[str, Answer] = {
    "too long": refused(400, **TOO_LONG),
    "too long, without a code": refused(400, message=TOO_LONG["message"]),
    "too long, told in the stream": streamed(sent({"type": "error", **TOO_LONG})),
    "too long, told at its end": streamed(sent(FAILED)),
    "a tool's call without output": refused(400, **OPEN_CALL),
    "the same, told in the stream": streamed(sent({"type": "error", **OPEN_CALL})),
    "a message without its reasoning": refused(400, **TORN),
    "an item that is gone": refused(404, **EXPIRED),
}


@pytest.mark.parametrize("fault", BROKEN_CONVERSATIONS)
def test_a_conversation_that_is_broken_is_replaced_and_the_new_one_told(fault: str) -> None:
    new = {**CONVERSATION, "id": "conv_2"}
    said = [streamed(response_said(text)) for text in ("Good day!", "Nine.")]
    script = Script(BROKEN_CONVERSATIONS[fault], answered(new), *said)
    talk = talk_by(script)
    assert [talk.say("Hello"), talk.say("When?")] == ["Good day!", "Nine."]
    assert script.asked == ["POST /responses", "POST /conversations", *["POST /responses"] * 2]
    (opening,) = script.requests[1][1]["items"]
    assert opening["content"].startswith(NOTE)
    assert opening["content"].endswith(LOST_NOTE)
    asked = [(body["conversation"], body["input"]) for _, body in script.requests[2:]]
    assert asked == [("conv_2", "Hello"), ("conv_2", "When?")]


def test_the_call_s_next_stream_keeps_the_conversation_that_replaced_its_first() -> None:
    """Twilio comes back with the first; the old stream may still be reading a reply."""
    new = {**CONVERSATION, "id": "conv_2"}
    script = Script(refused(400, **TOO_LONG), answered(new), streamed(response_said("Hi.")))
    talk = talk_by(script)
    first = talk.client.conversation(SID)
    talk.say("Hello")
    talk.client.resume(SID, first, CALLER, CALLED)
    assert talk.client.conversation(SID) == "conv_2"


def test_a_conversation_is_replaced_only_once_a_turn() -> None:
    script = Script(refused(400, **TOO_LONG), answered(CONVERSATION), refused(400, **TOO_LONG))
    assert "context window" in str(talk_by(script).fail("Hello")[1])


def test_a_conversation_that_has_answered_in_part_is_kept() -> None:
    begun = {"type": "response.output_text.delta", "delta": "It is "}
    script = Script(streamed(sent(begun, FAILED)), streamed(response_said("Nine.")))
    talk = talk_by(script)
    assert talk.fail("When?")[0] == "It is "
    assert talk.say("When?") == "Nine."
    assert script.asked == ["POST /responses"] * 2


def test_a_conversation_that_is_there_is_kept_though_a_model_is_not() -> None:
    script = Script(refused(404, code="model_not_found"), answered(CONVERSATION))
    assert isinstance(talk_by(script).fail("Hello")[1], sdk.NotFoundError)
    assert script.asked == ["POST /responses", "GET /conversations/conv_1"]


@only_assistants
def test_an_assistants_api_that_is_gone_is_a_failure(openai: OpenAISimulator, talk: Talk) -> None:
    openai.assistants_gone = True
    for words in ("Hello", "Are you there?"):
        assert isinstance(talk.fail(words)[1], sdk.NotFoundError)


@only_assistants
def test_an_assistant_that_does_not_exist_is_a_failure(openai: OpenAISimulator, talk: Talk) -> None:
    openai.assistants.clear()
    thread = talk.start()
    assert "No assistant found" in str(talk.fail("Hello")[1])
    assert list(openai.threads) == [thread]


# --- runs that are in the way --------------------------------------------------------------------


def test_two_streams_of_a_call_are_answered_one_after_another(
    openai: OpenAISimulator, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow_client, "TURN_SECONDS", 60)
    openai.brain.reply = lambda text, _: Reply(f"You said: {text}.", chunk_delay=0.02)
    said = ["One", "Two", "Three"]
    with ThreadPoolExecutor(len(said)) as streams:
        assert list(streams.map(talk.say, said)) == [f"You said: {words}." for words in said]
    assert openai.refusals == []


@only_assistants
def test_a_reply_that_hangs_does_not_hold_up_the_calls_next_stream(
    openai: OpenAISimulator, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow_client, "TURN_SECONDS", 0)
    openai.brain.reply = lambda *_: Reply(["It hangs.", "So."], status="hang", break_after=1)
    hanging = talk.client.send_message(SID, "One")
    assert next(hanging)
    openai.brain.reply = lambda text, _: f"You said: {text}."
    assert talk.say("Two") == "You said: Two."


@only_assistants
def test_a_run_left_behind_by_another_process_is_ended(
    openai: OpenAISimulator, client: WorkflowClient, talk: Talk
) -> None:
    openai.brain.fail_next(1, "hang", chunks=["Let me ", "see"], break_after=1)
    next(client.send_message(SID, "First"))
    assert talk.say("Second") == "You said: Second."
    (thread,) = openai.threads.values()
    assert [run.status for run in thread.runs] == ["cancelled", "completed"]
    assert told(openai) == ["First", "Second"]


@only_assistants
@pytest.mark.parametrize("statuses", [[429], [500], [429, 500, 503]])
def test_a_message_that_is_refused_for_a_moment_is_told_once(
    openai: OpenAISimulator, talk: Talk, statuses: list[int]
) -> None:
    openai.brain.fail_messages = list(statuses)
    assert talk.say("Hello") == "You said: Hello."
    assert told(openai) == ["Hello"]


ADD, RUN = "POST /threads/thread_1/messages", "POST /threads/thread_1/runs"
ADDED = answered({"id": "msg_1"})


def newest(role: str, *texts: str) -> Answer:
    """List the newest message of a thread."""
    content = [{"type": "text", "text": {"value": text, "annotations": []}} for text in texts]
    return answered({"data": [{"id": "msg_1", "role": role, "content": content}]})


STORED = newest("user", "Hello")
RUNNING = answered({"data": [{"id": "run_1", "status": "in_progress"}]})
IDLE = answered({"data": [{"id": "run_1", "status": "completed"}]})


@pytest.mark.parametrize("fault", ["bad gateway", "connection reset"])
def test_a_message_that_was_stored_in_spite_of_an_error_is_not_told_twice(fault: str) -> None:
    script = Script(PASSING[fault], STORED, streamed(run_said("Good day!")))
    assert talk_by(script, "assistant").say("Hello") == "Good day!"
    assert [what for what in script.asked if what.startswith("POST")] == [ADD, RUN]


@pytest.mark.parametrize(
    "last", [STORED, newest("assistant", "Goodbye"), newest("assistant"), answered({"data": []})]
)
def test_another_message_that_was_stored_before_is_not_taken_for_this_one(last: Answer) -> None:
    script = Script(refused(502), last, ADDED, streamed(run_said("Good day!")))
    assert talk_by(script, "assistant").say("Goodbye") == "Good day!"
    assert [what for what in script.asked if what.startswith("POST")] == [ADD, ADD, RUN]


def test_a_run_that_began_in_spite_of_an_error_is_replaced() -> None:
    blocked, cancelled = refused(400), answered({"id": "run_1", "status": "cancelling"})
    said = streamed(run_said("Good day!"))
    script = Script(ADDED, refused(502), blocked, RUNNING, cancelled, blocked, said)
    assert talk_by(script, "assistant").say("Hello") == "Good day!"
    assert script.asked.count(ADD) == 1
    assert script.asked.count(f"{RUN}/run_1/cancel") == 1


@pytest.mark.parametrize("found", [[IDLE], [RUNNING, refused(400)]])
def test_a_run_that_ends_before_it_is_ended_costs_no_turn(found: list[Answer]) -> None:
    script = Script(refused(400), *found, ADDED, streamed(run_said("Good day!")))
    assert talk_by(script, "assistant").say("Hello") == "Good day!"


def test_a_message_that_the_api_will_never_take_is_not_sent_four_times() -> None:
    script = Script(refused(400), IDLE, refused(400))
    assert isinstance(talk_by(script, "assistant").fail("Hello")[1], sdk.BadRequestError)


# --- odd streams ---------------------------------------------------------------------------------

DELTA = '{"type": "response.output_text.delta", "delta": "%s"}'
END = 'data: {"type": "response.completed"}\n\n'


def heard_of(stream: str | bytes, size: int = 7) -> str:
    """Return what is heard of a stream that comes in chunks of so many bytes."""
    data = stream if isinstance(stream, bytes) else stream.encode()
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    return talk_by(Script(streamed(*chunks))).say("Hello")


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("field", ["data: ", "data:"])
def test_lines_end_at_cr_and_lf_only_however_they_come(size: int, end: str, field: str) -> None:
    text = "नमस्ते\u2028您\u2029好\x85\x0b\x0c 😀."
    escaped = text.replace("\x0b", "\\u000b").replace("\x0c", "\\u000c")
    events = ["event: some", ": still here", f"{field}{DELTA % escaped}", "", "id: 7", "retry: 5"]
    stream = end.join([*events, "", f'{field}{{"type": "response.completed"}}', "", ""])
    assert heard_of(stream, size) == text


def test_an_event_may_be_written_on_several_lines() -> None:
    first, second = (DELTA % "Good day!").split(", ")
    assert heard_of(f"data: {first},\ndata: {second}\n\n{END}") == "Good day!"


@pytest.mark.parametrize(
    "odd",
    [
        "data: {",
        "data: <html>",
        "data",
        "data:",
        "nonsense",
        "data: 7",
        "data: []",
        "\ufeffdata: {}",
    ],
)
def test_an_odd_line_harms_no_other(odd: str) -> None:
    good = [f"data: {DELTA % text}\n\n" for text in ("Good ", "day!")]
    assert heard_of(f"{good[0]}{odd}\n\n{good[1]}{END}") == "Good day!"


def test_bytes_that_are_no_text_harm_only_their_event() -> None:
    good = [f"data: {DELTA % text}\n\n".encode() for text in ("Good ", "day!")]
    assert heard_of(good[0] + b"data: \xff\xfe\n\n" + good[1] + END.encode()) == "Good day!"


def test_an_odd_line_is_logged_with_its_call_and_without_what_was_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard_of(f'data: {{"delta": "My PIN is 1234\n\n{END}')
    (line,) = caplog.messages
    assert line.startswith(f"[{SID}] ")
    assert "can't be read" in line
    assert "PIN" not in line


def test_signs_of_life_and_done_are_no_odd_lines(caplog: pytest.LogCaptureFixture) -> None:
    heard_of(f": ping\n\ndata: {DELTA % 'Hello'}\n\n{END}data: [DONE]\n\n")
    assert caplog.messages == []


def test_a_reply_that_is_left_alone_frees_its_connection(
    openai: OpenAISimulator, talk: Talk
) -> None:
    openai.brain.fail_next(1, "hang", chunks=["Let me ", "see"], break_after=1)
    reply = talk.client.send_message(SID, "First")
    next(reply)
    reply.close()  # type: ignore[attr-defined]
    openai.wait_for(lambda openai: openai.brain.turns[0].aborted or openai.threads)


# --- greenlets -----------------------------------------------------------------------------------

GREENLETS = """
import sys
from gevent import monkey, pool
monkey.patch_all()
from settings import Settings
from workflow_client import WorkflowClient
client = WorkflowClient(Settings.model_validate_json(sys.argv[1]))
def call(number):
    client.start(f"CA{number}", "+15552223333", "+15550001111")
    return "".join(client.send_message(f"CA{number}", f"I am {number}")).strip()
heard = pool.Pool(8).map(call, range(8))
print(heard == [f"You said: I am {number}." for number in range(8)])
"""


@pytest.mark.thorough("it starts a process; calls of the fast tier are greenlets, too")
def test_calls_may_be_greenlets(openai: OpenAISimulator, kind: str) -> None:
    openai.brain.create_delay = 0.05  # so that they meet
    where = {"agent_workflow_id": KINDS[kind], "openai_base_url": openai.base_url}
    script = [sys.executable, "-c", GREENLETS, json.dumps({**REQUIRED, **where})]
    done = subprocess.run(script, cwd=HERE, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr
