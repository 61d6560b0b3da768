"""The workflow: conversations with the business's agent, and its replies as streamed text."""

import functools
from collections.abc import Iterator
from threading import Lock
from typing import Any

import httpx2
import openai

from utils import log, read_json

NOTE = "[Phone call from {caller} to {called}.]"


class WorkflowError(Exception):
    """The workflow gave no whole reply; the message says why."""


FAILURES = (WorkflowError, openai.OpenAIError, httpx2.HTTPError)  # what a failing workflow raises


class ResponsesWorkflow:
    """Responses on a Conversation; the parameters of every call are the user's own .json file."""

    def __init__(self, client: openai.OpenAI, file: str) -> None:
        """Read the parameters: model, instructions, tools and so on."""
        self.client, self.parameters = client, read_json(file)

    def create(self, about: dict[str, str]) -> str:
        """Begin a Conversation about a call and return its ID."""
        note: Any = {"type": "message", "role": "developer", "content": NOTE.format(**about)}
        return self.client.conversations.create(metadata=about, items=[note], timeout=5).id

    def reply(self, conversation: str, text: str) -> Iterator[str]:
        """Send a message and yield the reply's text, to be read to its end even if unwanted.

        Broken off, it would leave the conversation locked, and the reply stored or not.
        """
        message = {"role": "user", "content": text}
        body = {**self.parameters, "conversation": conversation, "input": [message], "stream": True}
        # Events as plain dicts: models of them would cost as much as all else in a turn.
        raw: Any = {"cast_to": object, "stream": True, "stream_cls": openai.Stream[Any]}
        event: dict[str, Any] = {"type": "nothing"}
        for event in self.client.post("/responses", body=body, **raw):
            if event["type"] == "response.output_text.delta":
                yield event["delta"]
            elif event["type"] == "response.output_text.done":
                yield "\n"
        if event["type"] != "response.completed":
            raise WorkflowError(f"{event['type']}: {event.get('response', event).get('error')}")


class AssistantWorkflow:
    """An Assistants-API thread, for the endpoints that still serve one."""

    def __init__(self, client: openai.OpenAI, assistant_id: str) -> None:
        """Take the assistant's asst_ ID."""
        self.threads, self.assistant_id = client.beta.threads, assistant_id

    def create(self, about: dict[str, str]) -> str:
        """Begin a thread about a call and return its ID."""
        note: Any = {"role": "user", "content": NOTE.format(**about)}
        return self.threads.create(metadata=about, messages=[note], timeout=5).id

    def reply(self, thread: str, text: str) -> Iterator[str]:
        """Send a message and yield the run's text, likewise."""
        self.threads.messages.create(thread, role="user", content=text)
        with self.threads.runs.stream(thread_id=thread, assistant_id=self.assistant_id) as stream:
            yield from stream.text_deltas
        if not (run := stream.current_run) or run.status != "completed":
            raise WorkflowError(f"{run and run.status}: {run and run.last_error}")


class WorkflowClient:
    """The conversations of this process's calls with the workflow, by CallSid."""

    def __init__(self, settings: Any) -> None:
        """Open no connection yet."""
        url, key = settings.openai_base_url, settings.openai_api_key
        if settings.agent_base_url:  # where OpenAI's key must not go
            url, key = settings.agent_base_url, settings.agent_api_key or "none"
        # Connections stay warm between turns; httpx would drop them after 5 s.
        http = openai.DefaultHttpxClient(limits=httpx2.Limits(keepalive_expiry=300))
        client = openai.OpenAI(api_key=key, base_url=url, http_client=http, max_retries=0)
        name = settings.agent_workflow_id
        kind = ResponsesWorkflow if name.endswith(".json") else AssistantWorkflow
        self.workflow = kind(client.with_options(timeout=settings.workflow_timeout), name)
        self.create = functools.lru_cache(1024)(self._create)  # once for a call, however asked
        self.lock = functools.lru_cache(1024)(lambda call_sid: Lock())
        self.calls: dict[str, dict[str, str]] = {}  # those that are streaming here

    def start(self, call_sid: str, caller: str, called: str) -> str:
        """Start a call's conversation, once however often it is asked for; return its ID.

        Returns "" if the workflow can't be reached; the first message will then try again.
        """
        try:
            with self.lock(call_sid):
                return self.create(call_sid, caller, called)
        except openai.OpenAIError as error:
            log.error("[%s] no conversation with the workflow yet: %s", call_sid, error)
            return ""

    def send_message(self, call_sid: str, transcript: str) -> Iterator[str]:
        """Send what the caller said and yield the text of the reply as it is written.

        Raises one of FAILURES when there is no whole reply.
        """
        call = self.calls[call_sid]
        talk = call["conversation"] or self.create(call_sid, call["caller"], call["called"])
        yield from self.workflow.reply(talk, transcript)

    def _create(self, call_sid: str, caller: str, called: str) -> str:
        return self.workflow.create({"call_sid": call_sid, "caller": caller, "called": called})
