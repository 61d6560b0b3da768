"""The workflow: conversations with the business's agent, and its replies as streamed text."""

import functools
import logging
from collections.abc import Iterator
from typing import Any

import httpx2
import openai

import utils

log = logging.getLogger("voice_agent")
NOTE = "[Phone call from {caller} to {called}.]"
NO_TOOLS = "it asked for a tool's output, and this service runs no tools"


class WorkflowError(Exception):
    """The workflow gave no whole reply; the message says why."""


class ResponsesWorkflow:
    """Responses on a Conversation; the parameters of every call are the user's own .json file."""

    def __init__(self, client: openai.OpenAI, file: str) -> None:
        """Read the parameters: model, instructions, tools and so on."""
        self.client, self.parameters = client, utils.read_json(file)

    def create(self, about: dict[str, str]) -> str:
        """Begin a Conversation about a call and return its ID."""
        note: Any = {"type": "message", "role": "developer", "content": NOTE.format(**about)}
        return self.client.conversations.create(metadata=about, items=[note], timeout=5).id

    def reply(self, conversation: str, text: str) -> Iterator[str]:
        """Send a message and yield the reply's text. Closed early, it is read to its end.

        Breaking it off would leave the conversation locked, and the reply stored or not.
        """
        body = {**self.parameters, "conversation": conversation, "stream": True}
        body["input"] = [{"role": "user", "content": text}]
        # Events as plain dicts: models of them would cost as much as all else in a turn.
        raw: Any = {"cast_to": object, "stream": True, "stream_cls": openai.Stream[Any]}
        events, event = self.client.post("/responses", body=body, **raw), {"type": "nothing"}
        calls: list[Any] = []
        try:
            for event in events:
                if event["type"] == "response.output_text.delta":
                    yield event["delta"]
                elif event["type"] == "response.output_item.done":
                    yield "\n"
                    if call_id := event["item"].get("call_id"):
                        calls.append({"call_id": call_id, "output": NO_TOOLS})
        finally:
            list(events)
            if calls:  # left unanswered, they would make the next message an error
                answers: Any = [{"type": "function_call_output", **call} for call in calls]
                self.client.conversations.items.create(conversation, items=answers)
        if calls or event["type"] != "response.completed":
            raise WorkflowError(NO_TOOLS if calls else f"the reply ended with {event}")


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
        """Send a message and yield the run's text; a run that is still active is ended first."""
        runs = self.threads.runs
        send = functools.partial(self.threads.messages.create, thread, role="user", content=text)
        try:
            send()
        except openai.BadRequestError:  # the last reply was interrupted, or its process was lost
            for run in runs.list(thread, limit=1).data:
                runs.cancel(run.id, thread_id=thread)
                runs.poll(run.id, thread_id=thread, poll_interval_ms=200)
            send()
        with runs.stream(thread_id=thread, assistant_id=self.assistant_id) as stream:
            yield from stream.text_deltas
        if not stream.current_run or stream.current_run.status != "completed":
            raise WorkflowError(f"the run ended with {stream.current_run}")


class WorkflowClient:
    """The conversations of this process's calls with the workflow, by CallSid."""

    def __init__(self, settings: Any) -> None:
        """Raise ValueError if the workflow's .json file can't be read; open no connection yet."""
        limits = httpx2.Limits(max_connections=None, keepalive_expiry=300)  # warm between turns
        client = openai.OpenAI(
            api_key=settings.agent_api_key or settings.openai_api_key,
            base_url=settings.agent_base_url or settings.openai_base_url,
            timeout=settings.workflow_timeout,
            max_retries=0,  # nothing is said twice to the workflow
            http_client=openai.DefaultHttpxClient(limits=limits),
        )
        kind = (
            ResponsesWorkflow if settings.agent_workflow_id.endswith(".json") else AssistantWorkflow
        )
        self.workflow = kind(client, settings.agent_workflow_id)
        self.create = functools.lru_cache(1024)(self._create)  # once for a call, however asked
        self.calls: dict[str, dict[str, str]] = {}  # those that are streaming here, by CallSid

    def start(self, call_sid: str, caller: str, called: str) -> str:
        """Start a call's conversation, once however often it is asked for; return its ID.

        Returns "" if the workflow can't be reached; the first message will then try again.
        """
        try:
            return self.create(call_sid, caller, called)
        except openai.OpenAIError as error:
            log.error("[%s] no conversation with the workflow yet: %s", call_sid, error)
            return ""

    def send_message(self, call_sid: str, transcript: str) -> Iterator[str]:
        """Send what the caller said and yield the text of the reply as it is written.

        Raises WorkflowError or openai.OpenAIError when there is no whole reply.
        """
        call = self.calls[call_sid]
        start = functools.partial(self.create, call_sid, call["caller"], call["called"])
        yield from self.workflow.reply(call["conversation"] or start(), transcript)

    def _create(self, call_sid: str, caller: str, called: str) -> str:
        return self.workflow.create({"call_sid": call_sid, "caller": caller, "called": called})
