"""The stand-in for OpenAI's HTTP is as strict as OpenAI: tests come at it as a client would."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.beta import AssistantStreamEvent
from openai.types.responses import ResponseStreamEvent

from tools.event_check import check_server_events, classes_of, extra_fields
from tools.realtime_client import RealtimeClient
from tools.simulator.openai_server import OpenAISimulator, Reply
from tools.simulator.speech import ToneVoice
from tools.simulator.waiting import PATIENCE

Json = dict[str, Any]

VOICE = ToneVoice()
WORKFLOW: Json = {"model": "gpt-6-luna", "instructions": "Be brief."}
RESPONSE_CLASSES = classes_of(ResponseStreamEvent, "type")
ASSISTANT_CLASSES = classes_of(AssistantStreamEvent, "event")


@pytest.fixture
def simulator() -> Iterator[OpenAISimulator]:
    with OpenAISimulator(ears=VOICE, mouth=VOICE) as running:
        yield running
        check_server_events(running)


@pytest.fixture
def sdk(simulator: OpenAISimulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=simulator.base_url, api_key="sk-test", max_retries=0, timeout=PATIENCE
    ) as client:
        yield client


# ---------------------------------------------------------------- HTTP: what all endpoints share


def fetch(simulator: OpenAISimulator, path: str, body: object = None, **headers: str) -> Json:
    data = None if body is None else json.dumps(body).encode()
    given = {"Authorization": "Bearer sk-test", "Content-Type": "application/json", **headers}
    request = urllib.request.Request(simulator.base_url + path, data, given)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return {"status": response.status, **json.load(response)}
    except urllib.error.HTTPError as error:
        return {"status": error.code, **json.load(error)}


def test_models_tell_when_they_will_be_shut_down(
    simulator: OpenAISimulator, sdk: openai.OpenAI
) -> None:
    simulator.models.shutdown_dates["gpt-realtime"] = "2027-01-20"
    dates = {model.id: model.shutdown_date for model in sdk.models.list()}
    assert dates["gpt-realtime"] == "2027-01-20"
    assert dates["gpt-6-luna"] is None


def test_one_model_can_be_asked_about(simulator: OpenAISimulator, sdk: openai.OpenAI) -> None:
    simulator.models.shutdown_dates["gpt-6-luna"] = "2028-02-01"
    assert sdk.models.retrieve("gpt-6-luna").shutdown_date == "2028-02-01"
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.models.retrieve("gpt-3")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_restricted_key_may_not_ask_about_models(
    simulator: OpenAISimulator, sdk: openai.OpenAI
) -> None:
    simulator.models.key_is_restricted = True
    for ask in (sdk.models.list, lambda: sdk.models.retrieve("gpt-6-luna")):
        with pytest.raises(openai.AuthenticationError, match="Missing scopes"):
            ask()
    assert sdk.conversations.create().id


def test_errors_have_openais_shape(simulator: OpenAISimulator) -> None:
    wrong = fetch(simulator, "/models", Authorization="Bearer sk-wrong")
    assert (wrong["status"], wrong["error"]["code"]) == (401, "invalid_api_key")
    nowhere = fetch(simulator, "/chat/completions", {})
    assert nowhere["status"] == 404
    assert set(nowhere["error"]) == {"message", "type", "param", "code"}
    assert fetch(simulator, "/models")["data"]
    assert [request.status for request in simulator.requests] == [401, 404, 200]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/conversations", {"name": "x"}, "name"),
        ("/conversations", {"metadata": {"k": 1}}, "metadata.k"),
        ("/conversations", {"items": [{"role": "user", "content": "x"}] * 21}, "items"),
        ("/responses", {"input": "x"}, "model"),
        ("/responses", {"model": "gpt-6-luna"}, "input"),
        ("/responses", {"model": "gpt-3.5-turbo", "input": "x"}, "model"),
        ("/responses", {**WORKFLOW, "input": "x", "thread": "t"}, "thread"),
        ("/responses", {**WORKFLOW, "input": "x", "stream": "yes"}, "stream"),
        ("/responses", {**WORKFLOW, "input": [{"role": "user", "text": "x"}]}, "input[0].text"),
        (
            "/responses",
            {**WORKFLOW, "input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
            "input[0].content[0].type",
        ),
        ("/responses", {**WORKFLOW, "input": "x", "tools": [{"type": "magic"}]}, "tools[0].type"),
        ("/responses", {**WORKFLOW, "input": "x", "max_output_tokens": 5}, "max_output_tokens"),
    ],
)
def test_a_wrong_field_is_a_400_that_names_it(
    simulator: OpenAISimulator, path: str, body: Json, param: str
) -> None:
    answer = fetch(simulator, path, body)
    assert (answer["status"], answer["error"]["param"]) == (400, param)
    assert len(simulator.refusals) == 1


def test_creations_can_be_slow_and_fail(simulator: OpenAISimulator, sdk: openai.OpenAI) -> None:
    simulator.brain.fail_create = [500, 429]
    with pytest.raises(openai.InternalServerError):
        sdk.conversations.create()
    with pytest.raises(openai.RateLimitError):
        sdk.beta.threads.create()
    simulator.brain.create_delay = 0.1
    begun = time.monotonic()
    sdk.conversations.create()
    assert time.monotonic() - begun >= 0.1
    assert not simulator.refusals


def test_messages_can_be_refused_and_are_not_stored_then(
    simulator: OpenAISimulator, sdk: openai.OpenAI
) -> None:
    thread = sdk.beta.threads.create().id
    simulator.brain.fail_messages = [429, 500]
    for error in (openai.RateLimitError, openai.InternalServerError):
        with pytest.raises(error):
            sdk.beta.threads.messages.create(thread, role="user", content="Hello")
    sdk.beta.threads.messages.create(thread, role="user", content="Hello")
    assert len(sdk.beta.threads.messages.list(thread).data) == 1
    assert not simulator.refusals


# ---------------------------------------------------------------- Conversations and Responses


def ask(sdk: openai.OpenAI, conversation: str, text: str) -> list[Any]:
    """Stream a reply to its end, checking every event; return the events."""
    with sdk.responses.create(
        **WORKFLOW,
        conversation=conversation,
        input=[{"role": "user", "content": text}],
        stream=True,
    ) as stream:
        events = list(stream)
    for number, event in enumerate(events):
        assert event.sequence_number == number
        assert type(event) is RESPONSE_CLASSES[event.type]
        assert extra_fields(event) == [], event.type
    return events


def text_of(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def test_a_reply_streams_in_order_and_is_stored(
    simulator: OpenAISimulator, sdk: openai.OpenAI
) -> None:
    conversation = sdk.conversations.create(metadata={"call": "CA1"})
    events = ask(sdk, conversation.id, "Is Tuesday free?")
    assert text_of(events) == "You said: Is Tuesday free?."
    kinds = [event.type for event in events if event.type != "response.output_text.delta"]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    stored = simulator.conversations[conversation.id]
    assert stored.texts == [
        ("user", "Is Tuesday free?"),
        ("assistant", "You said: Is Tuesday free?."),
    ]
    items = sdk.conversations.items.list(conversation.id, order="asc", limit=1)
    assert [item.type for item in items] == ["message", "message"]
    assert sdk.conversations.retrieve(conversation.id).metadata == {"call": "CA1"}
    assert simulator.brain.messages == [(conversation.id, "Is Tuesday free?")]
    assert simulator.brain.turns[0].outcome == "completed"
    plain = sdk.responses.create(**WORKFLOW, conversation=conversation.id, input="And Monday?")
    assert plain.output_text == "You said: And Monday?."
    assert not simulator.refusals


def test_the_brain_knows_the_conversation_so_far(
    simulator: OpenAISimulator, sdk: openai.OpenAI
) -> None:
    simulator.brain.reply = lambda text, history: Reply(f"{len(history)} before {text}")
    conversation = sdk.conversations.create(items=[{"role": "developer", "content": "Hi"}]).id
    assert text_of(ask(sdk, conversation, "this")) == "1 before this"
    assert text_of(ask(sdk, conversation, "that")) == "3 before that"


def test_conversations_are_updated_and_deleted(
    simulator: OpenAISimulator, sdk: openai.OpenAI
) -> None:
    conversation = sdk.conversations.create().id
    sdk.conversations.update(conversation, metadata={"a": "b"})
    sdk.conversations.items.create(conversation, items=[{"role": "user", "content": "Hi"}])
    assert simulator.conversations[conversation].texts == [("user", "Hi")]
    sdk.conversations.delete(conversation)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.create(**WORKFLOW, conversation=conversation, input="x")


def test_two_replies_at_once_on_one_conversation_are_refused(
    simulator: OpenAISimulator, sdk: openai.OpenAI
) -> None:
    rest = threading.Event()
    simulator.brain.reply = lambda *_: Reply("Slowly.", rest=rest)
    conversation = sdk.conversations.create().id
    first = sdk.responses.create(**WORKFLOW, conversation=conversation, input="1", stream=True)
    with pytest.raises(openai.BadRequestError) as refusal:
        sdk.responses.create(**WORKFLOW, conversation=conversation, input="2", stream=True)
    assert refusal.value.code == "conversation_locked"
    rest.set()
    assert text_of(list(first)) == "Slowly."
    assert "conversation_locked" in simulator.refusals[0]


@pytest.mark.parametrize("stored", [True, False])
def test_an_abandoned_stream_keeps_the_conversation_locked_until_its_reply_would_be_complete(
    simulator: OpenAISimulator, sdk: openai.OpenAI, stored: bool
) -> None:
    simulator.brain.store_aborted = stored
    rest = threading.Event()
    simulator.brain.reply = lambda *_: Reply("Half heard.", rest=rest)
    conversation = sdk.conversations.create().id
    with sdk.responses.create(
        **WORKFLOW, conversation=conversation, input="Hello", stream=True
    ) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                break
    with pytest.raises(openai.BadRequestError):
        sdk.responses.create(**WORKFLOW, conversation=conversation, input="2", stream=True)
    rest.set()
    simulator.wait_for(lambda s: s.brain.turns[0].ended)
    assert simulator.brain.turns[0].aborted
    expected = [("user", "Hello"), ("assistant", "Half heard.")] if stored else []
    assert simulator.conversations[conversation].texts == expected


def test_reasoning_and_commentary_come_before_the_answer(
    simulator: OpenAISimulator, sdk: openai.OpenAI
) -> None:
    simulator.brain.reply = lambda *_: Reply("Yes.", commentary="Let me see.", reasoning=True)
    events = ask(sdk, sdk.conversations.create().id, "Hello")
    output = events[-1].response.output
    assert [item.type for item in output] == ["reasoning", "message", "message"]
    assert [item.phase for item in output[1:]] == ["commentary", "final_answer"]


def test_a_function_call_blocks_the_conversation_until_its_output_is_there(
    simulator: OpenAISimulator, sdk: openai.OpenAI
) -> None:
    simulator.brain.reply = lambda text, _: Reply(tool_call="look_up" if text == "Order?" else None)
    conversation = sdk.conversations.create().id
    events = ask(sdk, conversation, "Order?")
    (call,) = events[-1].response.output
    assert (call.type, call.name, text_of(events)) == ("function_call", "look_up", "")
    with pytest.raises(openai.BadRequestError, match="No tool output found for function call"):
        ask(sdk, conversation, "Hello?")
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "{}"}
    sdk.responses.create(**WORKFLOW, conversation=conversation, input=[output])


@pytest.mark.parametrize(
    ("status", "last"),
    [
        ("failed", "response.failed"),
        ("incomplete", "response.incomplete"),
        ("error", "error"),
    ],
)
def test_replies_end_badly_as_told(
    simulator: OpenAISimulator, sdk: openai.OpenAI, status: str, last: str
) -> None:
    simulator.brain.fail_next(1, status, break_after=2)
    conversation = sdk.conversations.create().id
    events = ask(sdk, conversation, "Hello")
    assert (events[-1].type, text_of(events)) == (last, "You ")
    assert text_of(ask(sdk, conversation, "Again")) == "You said: Again."


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("http_401", openai.AuthenticationError),
        ("http_404", openai.NotFoundError),
        ("http_429", openai.RateLimitError),
        ("http_500", openai.InternalServerError),
    ],
)
def test_requests_fail_as_told_and_nothing_is_stored(
    simulator: OpenAISimulator, sdk: openai.OpenAI, status: str, error: type[openai.APIStatusError]
) -> None:
    simulator.brain.fail_next(1, status, retry_after=0.5)
    conversation = sdk.conversations.create().id
    with pytest.raises(error) as refusal:
        ask(sdk, conversation, "Hello")
    assert refusal.value.response.headers["retry-after"] == "0.5"
    assert not simulator.conversations[conversation].items
    assert not simulator.brain.messages and not simulator.refusals


def test_streams_break_and_hang_as_told(simulator: OpenAISimulator, sdk: openai.OpenAI) -> None:
    conversation = sdk.conversations.create().id
    simulator.brain.fail_next(1, "break", break_after=3)
    with pytest.raises(openai.APIConnectionError):
        ask(sdk, conversation, "Hello")
    simulator.brain.fail_next(1, "hang", break_after=1)
    with pytest.raises(openai.APIConnectionError):
        sdk.with_options(timeout=0.2).responses.create(
            **WORKFLOW, conversation=conversation, input="Hello"
        )
    simulator.brain.fail_next(1, "http_hang")
    with pytest.raises(openai.APITimeoutError):
        ask(sdk.with_options(timeout=0.2), conversation, "Hello")
    simulator.wait_for(lambda s: not s.conversations[conversation].locked)
    assert text_of(ask(sdk, conversation, "Again")) == "You said: Again."


# ---------------------------------------------------------------- Assistants


pytestmark = pytest.mark.filterwarnings("ignore:The Assistants API:DeprecationWarning")


@pytest.fixture
def thread(sdk: openai.OpenAI) -> str:
    return sdk.beta.threads.create(metadata={"call": "CA1"}).id


def run(sdk: openai.OpenAI, thread: str, text: str) -> list[Any]:
    """Post a message and stream a run to its end, checking every event; return the events."""
    sdk.beta.threads.messages.create(thread, role="user", content=text)
    with sdk.beta.threads.runs.create(
        thread_id=thread, assistant_id="asst_test", stream=True
    ) as stream:
        events = list(stream)
    for event in events:
        assert type(event) is ASSISTANT_CLASSES[event.event]
        assert extra_fields(event) == [], event.event
    return events


def test_a_run_streams_through_the_sdk(
    simulator: OpenAISimulator, sdk: openai.OpenAI, thread: str
) -> None:
    sdk.beta.threads.messages.create(thread, role="user", content="Is Tuesday free?")
    with sdk.beta.threads.runs.stream(thread_id=thread, assistant_id="asst_test") as stream:
        assert "".join(stream.text_deltas) == "You said: Is Tuesday free?."
    assert simulator.threads[thread].texts == [
        ("user", "Is Tuesday free?"),
        ("assistant", "You said: Is Tuesday free?."),
    ]
    events = run(sdk, thread, "And Monday?")
    kinds = [event.event for event in events if event.event != "thread.message.delta"]
    assert kinds == [
        "thread.run.created",
        "thread.run.queued",
        "thread.run.in_progress",
        "thread.run.step.created",
        "thread.run.step.in_progress",
        "thread.message.created",
        "thread.message.in_progress",
        "thread.message.completed",
        "thread.run.step.completed",
        "thread.run.completed",
    ]
    listed = sdk.beta.threads.runs.list(thread, limit=1, order="desc").data
    assert [r.status for r in listed] == ["completed"]
    assert len(sdk.beta.threads.messages.list(thread).data) == 4
    assert simulator.brain.messages == [(thread, "Is Tuesday free?"), (thread, "And Monday?")]
    assert not simulator.refusals


def test_the_event_stream_ends_with_done(simulator: OpenAISimulator, thread: str) -> None:
    head = {"Authorization": "Bearer sk-test", "OpenAI-Beta": "assistants=v2"}
    for path, body in (
        ("messages", {"role": "user", "content": "Hello"}),
        ("runs", {"assistant_id": "asst_test", "stream": True}),
    ):
        url = f"{simulator.base_url}/threads/{thread}/{path}"
        request = urllib.request.Request(url, json.dumps(body).encode(), head)
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            raw = response.read().decode()
    assert raw.startswith("event: thread.run.created\ndata: {")
    assert raw.endswith("event: done\ndata: [DONE]\n\n")


def test_citations_come_with_their_marks(
    simulator: OpenAISimulator, sdk: openai.OpenAI, thread: str
) -> None:
    simulator.brain.reply = lambda *_: "We open at nine【4:0†hours】."
    run(sdk, thread, "When?")
    (message,) = [m for m in simulator.threads[thread].messages if m["role"] == "assistant"]
    (annotation,) = message["content"][0]["text"]["annotations"]
    assert annotation["text"] == "【4:0†hours】"


def test_the_assistants_api_wants_its_header_and_known_ids(
    simulator: OpenAISimulator, sdk: openai.OpenAI, thread: str
) -> None:
    assert fetch(simulator, "/threads", {})["error"]["code"] == "invalid_beta"
    with pytest.raises(openai.NotFoundError, match="No assistant found"):
        sdk.beta.threads.runs.create(thread_id=thread, assistant_id="asst_other")
    with pytest.raises(openai.BadRequestError, match="Expected an ID that begins with 'asst'"):
        sdk.beta.threads.runs.create(thread_id=thread, assistant_id="wf_1")
    with pytest.raises(openai.NotFoundError):
        sdk.beta.threads.messages.create("thread_other", role="user", content="Hi")
    simulator.assistants_gone = True
    with pytest.raises(openai.NotFoundError):
        sdk.beta.threads.create()


def test_an_active_run_blocks_its_thread_until_it_is_cancelled(
    simulator: OpenAISimulator, sdk: openai.OpenAI, thread: str
) -> None:
    simulator.brain.fail_next(1, "hang", break_after=2)
    sdk.beta.threads.messages.create(thread, role="user", content="Hello")
    with sdk.beta.threads.runs.stream(thread_id=thread, assistant_id="asst_test") as stream:
        assert next(iter(stream.text_deltas)) == "You"
    with pytest.raises(openai.BadRequestError, match=r"while a run run_.* is active"):
        sdk.beta.threads.messages.create(thread, role="user", content="Hello?")
    with pytest.raises(openai.BadRequestError, match="already has an active run"):
        sdk.beta.threads.runs.create(thread_id=thread, assistant_id="asst_test")
    (active,) = sdk.beta.threads.runs.list(thread).data
    assert active.status == "in_progress"
    assert sdk.beta.threads.runs.cancel(active.id, thread_id=thread).status == "cancelling"
    simulator.wait_for(lambda s: s.threads[thread].runs[0].over)
    assert sdk.beta.threads.runs.retrieve(active.id, thread_id=thread).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="Cannot cancel run"):
        sdk.beta.threads.runs.cancel(active.id, thread_id=thread)
    assert len(run(sdk, thread, "Hello again")) > 10


def test_a_run_goes_on_when_its_reader_has_left(
    simulator: OpenAISimulator, sdk: openai.OpenAI, thread: str
) -> None:
    rest = threading.Event()
    simulator.brain.reply = lambda *_: Reply("Nobody reads this.", rest=rest)
    sdk.beta.threads.messages.create(thread, role="user", content="Hello")
    with sdk.beta.threads.runs.stream(thread_id=thread, assistant_id="asst_test") as stream:
        next(iter(stream.text_deltas))
    assert simulator.threads[thread].active_run
    rest.set()
    simulator.wait_for(lambda s: not s.threads[thread].active_run)
    assert simulator.threads[thread].texts[-1] == ("assistant", "Nobody reads this.")


def test_a_run_that_demands_tool_outputs_stays_active(
    simulator: OpenAISimulator, sdk: openai.OpenAI, thread: str
) -> None:
    simulator.brain.fail_next(1, "requires_action")
    events = run(sdk, thread, "Where is my order?")
    last = events[-1]
    assert last.event == "thread.run.requires_action"
    assert last.data.required_action.submit_tool_outputs.tool_calls[0].function.name
    with pytest.raises(openai.BadRequestError, match="is active"):
        sdk.beta.threads.messages.create(thread, role="user", content="Hello?")
    sdk.beta.threads.runs.cancel(last.data.id, thread_id=thread)
    simulator.wait_for(lambda s: not s.threads[thread].active_run)


@pytest.mark.parametrize("status", ["failed", "expired", "incomplete"])
def test_runs_end_badly_as_told(
    simulator: OpenAISimulator, sdk: openai.OpenAI, thread: str, status: str
) -> None:
    simulator.brain.fail_next(1, status, break_after=2)
    assert run(sdk, thread, "Hello")[-1].event == f"thread.run.{status}"
    assert run(sdk, thread, "Again")[-1].event == "thread.run.completed"


def test_a_run_survives_its_broken_stream(
    simulator: OpenAISimulator, sdk: openai.OpenAI, thread: str
) -> None:
    simulator.brain.fail_next(1, "break", break_after=2)
    with pytest.raises(openai.APIConnectionError):
        run(sdk, thread, "Hello")
    simulator.wait_for(lambda s: not s.threads[thread].active_run)
    assert simulator.threads[thread].texts[-1] == ("assistant", "You said: Hello.")


# ---------------------------------------------------------------- as a process, and under load


@pytest.mark.thorough("it starts a process")
def test_it_runs_as_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "tools.simulator", "openai", "--port", "0"]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        with openai.OpenAI(base_url=base_url, api_key="sk-test") as client:
            assert client.conversations.create().id.startswith("conv_")
        process.terminate()
        assert process.wait(60) == 0


def test_nothing_is_left_when_it_stops() -> None:
    before = set(threading.enumerate())
    with OpenAISimulator(ears=VOICE, mouth=VOICE) as simulator:
        line = RealtimeClient(simulator)
        line.configure()
        line.speak("Interrupted by the end of the world")
        line.until("response.created")
        port = simulator.port
    assert set(threading.enumerate()) <= before, "others may have ended meanwhile"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
