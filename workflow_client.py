"""The workflow: conversations with the business's agent, and its replies as streamed text."""

import json
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from time import sleep
from typing import Any

import httpx2
import openai

NO_TOOLS = "asked for a tool's output; this service runs no tools"


class WorkflowError(Exception):
    """The workflow gave no whole reply; the message says why."""


FAILURES = (WorkflowError, openai.OpenAIError, httpx2.HTTPError)  # what a failing workflow raises


def patiently(ask: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Ask the workflow, and up to three times again, if it is busy, limits the rate or stumbles."""
    for pause in (0.5, 1, 2):
        try:
            return ask(*args, **options)
        except (openai.RateLimitError, openai.InternalServerError, openai.BadRequestError):
            sleep(pause)
    return ask(*args, **options)


def responses_reply(client: Any, parameters: Any, conversation: str, text: str) -> Iterator[str]:
    """Send a message to a Conversation and yield the Response's text; `parameters` are its own.

    To be read to its end even if unwanted: broken off, it would leave the conversation locked, and
    the reply stored or not.
    """
    body = {**parameters, "conversation": conversation, "input": text, "stream": True}
    # The lines as they come: the SDK's events would cost as much as all else in a turn.
    raw: Any = {"cast_to": object, "stream": True, "stream_cls": openai.Stream[Any]}
    lines = patiently(client.post, "/responses", body=body, **raw).response.iter_lines()
    event: dict[str, Any] = {"type": "nothing"}
    for event in (json.loads(line[5:]) for line in lines if line[:5] == "data:" and "{" in line):
        if event.get("type") in ("response.output_text.delta", "response.output_text.done"):
            yield event.get("delta", "\n")
    last = event.get("response", event)
    calls = [item for item in last.get("output", []) if item["type"] == "function_call"]
    for call in calls:  # left unanswered, they would make the next message an error
        answer = {"type": "function_call_output", "call_id": call["call_id"], "output": NO_TOOLS}
        client.conversations.items.create(conversation, items=[answer])
    if calls or event.get("type") != "response.completed":
        raise WorkflowError(NO_TOOLS if calls else f"{event.get('type')} {last.get('error', last)}")


def assistant_reply(client: Any, assistant_id: str, thread: str, text: str) -> Iterator[str]:
    """Send a message to a thread and yield the run's text, likewise. An old run is ended first."""
    threads = client.beta.threads
    send = partial(threads.messages.create, thread, role="user", content=text)
    try:
        patiently(send)
    except openai.BadRequestError:  # a run is still active: it hung, or its process was lost
        for run in threads.runs.list(thread, limit=1).data:
            threads.runs.cancel(run.id, thread_id=thread)
        patiently(send)
    stream = patiently(threads.runs.stream(thread_id=thread, assistant_id=assistant_id).__enter__)
    yield from stream.text_deltas
    if not (run := stream.current_run) or run.status != "completed":
        raise WorkflowError(f"the run ended {run and run.status}: {run and run.last_error}")


class WorkflowClient:
    """The conversations of this process's calls with the workflow, by CallSid."""

    def __init__(self, settings: Any) -> None:
        """Choose by AGENT_WORKFLOW_ID; open no connection yet."""
        url = settings.agent_base_url or settings.openai_base_url
        # OpenAI's key must not go to another host
        key = settings.agent_api_key or (not settings.agent_base_url and settings.openai_api_key)
        # Connections stay warm between turns: httpx would drop them after 5 s
        http = openai.DefaultHttpxClient(limits=httpx2.Limits(keepalive_expiry=300))
        client = openai.OpenAI(api_key=key or "none", base_url=url, http_client=http, max_retries=0)
        client = client.with_options(timeout=settings.workflow_timeout)
        self.own = isinstance(what := settings.agent_workflow_id, dict)
        self.conversations: Any = client.conversations if self.own else client.beta.threads
        self.reply = partial(responses_reply if self.own else assistant_reply, client, what)
        self.calls: dict[str, dict[str, str]] = {}  # stream parameters of the calls that are here

    @lru_cache(1024)  # noqa: B019 - there is one client a process
    def start(self, call_sid: str, caller: str, called: str) -> str:
        """Start a call's conversation, once however often it is asked for; return its ID."""
        about = {"call_sid": call_sid, "caller": caller, "called": called}
        note = {"role": "user", "content": f"[Phone call from {caller} to {called}.]"}
        opening = {"items" if self.own else "messages": [note]}
        return self.conversations.create(metadata=about, **opening, timeout=5).id

    def send_message(self, call_sid: str, transcript: str) -> Iterator[str]:
        """Send what the caller said and yield the text of the reply as it is written.

        Raises one of FAILURES when there is no whole reply.
        """
        call = self.calls[call_sid]
        talk = call["conversation"] or self.start(call_sid, call["caller"], call["called"])
        yield from self.reply(talk, transcript)
