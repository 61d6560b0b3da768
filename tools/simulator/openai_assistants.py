"""The Assistants API, version 2: threads, messages and streamed runs, while anyone serves it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web
from openai.types.beta import thread_create_params
from openai.types.beta.threads import message_create_params, run_create_params

from tools.simulator import openai_rules as rules
from tools.simulator.openai_brain import SAYS_ALL, Reply, Turn
from tools.simulator.openai_http import ApiCall, EventStream
from tools.simulator.openai_rules import Blameless, Refusal
from tools.simulator.openai_wire import Json, new_id

if TYPE_CHECKING:
    from tools.simulator.openai_server import OpenAISimulator

CITATION = re.compile("【[^】]*】")
HANG_SECONDS = 600.0

# How a reply's status shows in the run.
RUN_STATUS = {"break": "completed", "error": "failed"}


@dataclass
class Thread:
    """A stored thread: messages are the API's own objects, in order."""

    id: str
    metadata: dict[str, str]
    messages: list[Json] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    created_at: int = field(default_factory=lambda: int(time.time()))

    @property
    def texts(self) -> list[tuple[str, str]]:
        """What was said, in order: (role, text) of every message."""
        return [(message["role"], _text_of(message)) for message in self.messages]

    @property
    def active_run(self) -> Run | None:
        return next((run for run in self.runs if not run.over), None)

    def resource(self) -> Json:
        return {
            "id": self.id,
            "object": "thread",
            "created_at": self.created_at,
            "metadata": self.metadata,
            "tool_resources": {},
        }


class Assistants:
    """The /threads endpoints."""

    def __init__(self, simulator: OpenAISimulator) -> None:
        self.simulator = simulator

    def routes(self) -> list[web.RouteDef]:
        route = self.simulator.route
        one = "/threads/{thread}"
        return [
            route("POST", "/threads", self.create),
            route("GET", one, self.retrieve),
            route("DELETE", one, self.delete),
            route("POST", f"{one}/messages", self.add_message),
            route("GET", f"{one}/messages", self.list_messages),
            route("POST", f"{one}/runs", self.run),
            route("GET", f"{one}/runs", self.list_runs),
            route("GET", f"{one}/runs/{{run}}", self.retrieve_run),
            route("POST", f"{one}/runs/{{run}}/cancel", self.cancel_run),
        ]

    def _thread(self, call: ApiCall) -> Thread:
        beta = call.http.headers.get("OpenAI-Beta", "")
        if "assistants=v2" not in beta:
            message = (
                "You must provide the 'OpenAI-Beta' header to access the Assistants API."
                " Please try again by setting the header 'OpenAI-Beta: assistants=v2'."
            )
            raise Refusal(message, code="invalid_beta")
        if "thread" not in call.ids:
            return Thread(new_id("thread"), {})
        thread = self.simulator.threads.get(call.ids["thread"])
        if thread is None:
            raise _not_found("thread", call.ids["thread"])
        return thread

    def _run(self, call: ApiCall) -> Run:
        wanted = call.ids["run"]
        for run in self._thread(call).runs:
            if run.id == wanted:
                return run
        raise _not_found("run", wanted)

    async def create(self, call: ApiCall) -> Json:
        thread = self._thread(call)
        body = call.body(thread_create_params.ThreadCreateParams)
        await self.simulator.brain.create()
        thread.metadata = body.get("metadata") or {}
        thread.messages += [_message(thread, message) for message in body.get("messages", [])]
        self.simulator.threads[thread.id] = thread
        return thread.resource()

    async def retrieve(self, call: ApiCall) -> Json:
        return self._thread(call).resource()

    async def delete(self, call: ApiCall) -> Json:
        thread = self._thread(call)
        del self.simulator.threads[thread.id]
        return {"id": thread.id, "object": "thread.deleted", "deleted": True}

    async def add_message(self, call: ApiCall) -> Json:
        thread = self._thread(call)
        message = call.body(message_create_params.MessageCreateParams)
        if thread.active_run:
            raise Refusal(
                f"Can't add messages to {thread.id} while a run {thread.active_run.id} is active.",
                code=None,
            )
        self.simulator.brain.accept_message()
        return self._accept(thread, message)

    def _accept(self, thread: Thread, message: Json) -> Json:
        stored = _message(thread, message)
        thread.messages.append(stored)
        if message["role"] == "user":
            self.simulator.brain.messages.append((thread.id, _text_of(stored)))
        return stored

    async def list_messages(self, call: ApiCall) -> Json:
        return call.page(self._thread(call).messages)

    async def run(self, call: ApiCall) -> Json | web.StreamResponse:
        thread = self._thread(call)
        body = call.body(
            run_create_params.RunCreateParamsStreaming
            if call.wants_stream
            else run_create_params.RunCreateParamsNonStreaming
        )
        assistant = body["assistant_id"]
        if not assistant.startswith("asst_"):
            message = (
                f"Invalid 'assistant_id': '{assistant}'. Expected an ID that begins with 'asst'."
            )
            raise Refusal(message, code="invalid_value", param="assistant_id")
        if assistant not in self.simulator.assistants:
            raise _not_found("assistant", assistant)
        if body.get("model"):
            rules.check_text_model(body["model"])
        if thread.active_run:
            message = f"Thread {thread.id} already has an active run {thread.active_run.id}."
            raise Refusal(message, code=None)
        for message in body.get("additional_messages") or []:
            self._accept(thread, message)
        asked = [index for index, (role, _) in enumerate(thread.texts) if role == "user"]
        last = asked[-1] if asked else 0
        text = thread.texts[last][1] if asked else ""
        reply = self.simulator.brain.think(text, thread.texts[:last])
        if reply.status == "http_hang":
            await asyncio.Event().wait()
        run = Run(self.simulator, thread, body, Turn(thread.id, text, reply))
        self.simulator.brain.turns.append(run.turn)
        thread.runs.append(run)
        self.simulator.spawn(run.play())
        return await run.stream.deliver(call.http) if call.wants_stream else run.resource()

    async def list_runs(self, call: ApiCall) -> Json:
        return call.page([run.resource() for run in self._thread(call).runs])

    async def retrieve_run(self, call: ApiCall) -> Json:
        return self._run(call).resource()

    async def cancel_run(self, call: ApiCall) -> Json:
        run = self._run(call)
        if run.over or run.status == "cancelling":
            message = f"Cannot cancel run with status '{run.status}'."
            raise Blameless(message, code=None)
        run.cancel()
        return run.resource()


class Run:
    """One run of an assistant on a thread. It goes on whether or not its stream is read."""

    def __init__(self, simulator: OpenAISimulator, thread: Thread, body: Json, turn: Turn) -> None:
        self.id = new_id("run")
        self.status = "queued"
        self.stream = EventStream()
        self.turn = turn
        self._simulator = simulator
        self._thread = thread
        self._body = body
        self._cancelled = asyncio.Event()
        self._created_at = int(time.time())
        self._step: Json | None = None
        self._message: Json | None = None
        self._required_action: Json | None = None

    @property
    def over(self) -> bool:
        return self.status in {"completed", "failed", "cancelled", "expired", "incomplete"}

    def cancel(self) -> None:
        self._show("cancelling")
        self._cancelled.set()

    async def play(self) -> None:
        """Go through the run's whole life, sending its events."""
        reply = self.turn.reply
        try:
            self.stream.send("thread.run.created", self.resource())
            self._show("queued")
            self._show("in_progress")
            await self._pause(reply.first_delay)
            await self._act(reply)
            if reply.status == "hang":
                await self._pause(HANG_SECONDS)
            if self._cancelled.is_set():
                await asyncio.sleep(self._simulator.brain.cancel_delay)
                self._close_step("cancelled")
                self._show("cancelled")
            elif reply.status in ("hang", "expired") or self._required_action:
                self._close_step("expired")
                self._show("expired")
            else:
                status = RUN_STATUS.get(reply.status, reply.status)
                self._close_step(status)
                if reply.status == "error":
                    error = {"type": "server_error", "code": "server_error", "param": None}
                    self.stream.send("error", {**error, "message": "Sorry, something went wrong."})
                self._show(status)
        finally:
            self.turn.aborted = self.stream.abandoned.is_set()
            self.turn.ended, self.turn.outcome = time.monotonic(), self.status
            self._finish_stream()

    async def _act(self, reply: Reply) -> None:
        if self._cancelled.is_set():
            return
        if reply.tool:
            await self._demand(reply.tool)
        elif reply.status in {*SAYS_ALL, "break"} or reply.break_after:
            await self._say(reply)

    def _finish_stream(self) -> None:
        self.stream.send("done", "[DONE]")
        self.stream.end()
        self._simulator.touch()

    def _show(self, status: str) -> None:
        self.status = status
        self.stream.send(f"thread.run.{status}", self.resource())
        self._simulator.touch()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._cancelled.wait(), seconds)

    # ------------------------------------------------------------ what a run does

    async def _say(self, reply: Reply) -> None:
        message = self._message = {
            "id": new_id("msg"),
            "object": "thread.message",
            "created_at": int(time.time()),
            "assistant_id": self._body["assistant_id"],
            "thread_id": self._thread.id,
            "run_id": self.id,
            "status": "in_progress",
            "incomplete_details": None,
            "incomplete_at": None,
            "completed_at": None,
            "role": "assistant",
            "content": [],
            "attachments": [],
            "metadata": {},
        }
        creation = {"message_id": message["id"]}
        self._open_step("message_creation", {"message_creation": creation})
        self.stream.send("thread.message.created", message)
        self.stream.send("thread.message.in_progress", message)
        said = ""
        for piece in reply.pieces():
            self.turn.first_text = self.turn.first_text or time.monotonic()
            before, said = said, said + piece
            self.stream.send("thread.message.delta", _delta(message["id"], before, said))
            await self._pause(reply.chunk_delay)
            await reply.may_go_on()
            if self._cancelled.is_set():
                break
        if reply.status == "break":
            self.stream.break_off()
            await self._pause(reply.chunk_delay * (len(reply.text) - len(said)) / 3)
            said = reply.text
        message["content"] = [_content(said)]

    async def _demand(self, name: str) -> None:
        """Ask for a function's output, and wait for it in vain."""
        function = {"name": name, "arguments": "{}"}
        tool_call = {"id": new_id("call"), "type": "function", "function": function}
        shown = {**tool_call, "function": {**function, "output": None}}
        step = self._open_step("tool_calls", {"tool_calls": []})
        delta = {"step_details": {"type": "tool_calls", "tool_calls": [{"index": 0, **shown}]}}
        update = {"id": step["id"], "object": "thread.run.step.delta", "delta": delta}
        self.stream.send("thread.run.step.delta", update)
        step["step_details"]["tool_calls"].append(shown)
        self._required_action = {
            "type": "submit_tool_outputs",
            "submit_tool_outputs": {"tool_calls": [tool_call]},
        }
        self._show("requires_action")
        self._finish_stream()
        await self._pause(self._simulator.brain.action_seconds)

    def _open_step(self, kind: str, details: Json) -> Json:
        step = self._step = {
            "id": new_id("step"),
            "object": "thread.run.step",
            "created_at": int(time.time()),
            "run_id": self.id,
            "assistant_id": self._body["assistant_id"],
            "thread_id": self._thread.id,
            "type": kind,
            "status": "in_progress",
            "cancelled_at": None,
            "completed_at": None,
            "expired_at": None,
            "failed_at": None,
            "last_error": None,
            "metadata": {},
            "step_details": {"type": kind, **details},
            "usage": None,
        }
        self.stream.send("thread.run.step.created", step)
        self.stream.send("thread.run.step.in_progress", step)
        return step

    def _close_step(self, run_status: str) -> None:
        """End the message and the step in the way the run ends."""
        now = int(time.time())
        if message := self._message:
            whole = run_status == "completed"
            message["status"] = "completed" if whole else "incomplete"
            message["completed_at" if whole else "incomplete_at"] = now
            if not whole:
                message["incomplete_details"] = {"reason": _MESSAGE_REASON[run_status]}
            self._thread.messages.append(message)
            self.stream.send(f"thread.message.{message['status']}", message)
        if step := self._step:
            step["status"] = "completed" if run_status == "incomplete" else run_status
            step[f"{step['status']}_at"] = now
            if step["status"] == "failed":
                step["last_error"] = _LAST_ERROR
            self.stream.send(f"thread.run.step.{step['status']}", step)

    def resource(self) -> Json:
        """Return the run as the API's `thread.run` object."""
        now = int(time.time())
        body, status = self._body, self.status
        return {
            "id": self.id,
            "object": "thread.run",
            "created_at": self._created_at,
            "assistant_id": body["assistant_id"],
            "thread_id": self._thread.id,
            "status": status,
            "started_at": None if status == "queued" else self._created_at,
            "expires_at": None if self.over else self._created_at + 600,
            "cancelled_at": now if status == "cancelled" else None,
            "failed_at": now if status == "failed" else None,
            "completed_at": now if status == "completed" else None,
            "required_action": self._required_action if status == "requires_action" else None,
            "last_error": _LAST_ERROR if status == "failed" else None,
            "incomplete_details": {"reason": "max_completion_tokens"}
            if status == "incomplete"
            else None,
            "model": body.get("model") or "gpt-4o",
            "instructions": body.get("instructions") or "",
            "tools": body.get("tools") or [],
            "metadata": body.get("metadata") or {},
            "temperature": body.get("temperature", 1.0),
            "top_p": body.get("top_p", 1.0),
            "max_completion_tokens": body.get("max_completion_tokens"),
            "max_prompt_tokens": body.get("max_prompt_tokens"),
            "truncation_strategy": {"type": "auto", "last_messages": None},
            "response_format": body.get("response_format", "auto"),
            "tool_choice": body.get("tool_choice", "auto"),
            "parallel_tool_calls": body.get("parallel_tool_calls", True),
            "usage": {"prompt_tokens": 40, "completion_tokens": 20, "total_tokens": 60}
            if self.over
            else None,
        }

    def __getitem__(self, name: str) -> Any:
        return self.resource()[name]


_LAST_ERROR = {"code": "server_error", "message": "Sorry, something went wrong."}
_MESSAGE_REASON = {
    "failed": "run_failed",
    "cancelled": "run_cancelled",
    "expired": "run_expired",
    "incomplete": "max_tokens",
}


def _not_found(what: str, wanted: str) -> Refusal:
    return Refusal(f"No {what} found with id '{wanted}'.", code=None, status=404)


def _message(thread: Thread, message: Json) -> Json:
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    text = "".join(part["text"] for part in parts if part["type"] == "text")
    if not text:
        raise rules.invalid("content", "message content must be non-empty.")
    return {
        "id": new_id("msg"),
        "object": "thread.message",
        "created_at": int(time.time()),
        "assistant_id": None,
        "thread_id": thread.id,
        "run_id": None,
        "status": "completed",
        "role": message["role"],
        "content": [_content(text)],
        "attachments": message.get("attachments") or [],
        "metadata": message.get("metadata") or {},
    }


def _content(text: str) -> Json:
    return {"type": "text", "text": {"value": text, "annotations": list(_citations(text))}}


def _citations(text: str) -> Iterator[Json]:
    for mark in CITATION.finditer(text):
        yield {
            "type": "file_citation",
            "text": mark.group(),
            "start_index": mark.start(),
            "end_index": mark.end(),
            "file_citation": {"file_id": "file_simulated"},
        }


def _delta(message_id: str, before: str, said: str) -> Json:
    """Return the delta that adds to what was said before, with the citations it completes."""
    text: Json = {"value": said[len(before) :]}
    cited = list(enumerate(_citations(said)))
    if fresh := [{"index": n, **mark} for n, mark in cited if mark["end_index"] > len(before)]:
        text["annotations"] = fresh
    content = [{"index": 0, "type": "text", "text": text}]
    return {"id": message_id, "object": "thread.message.delta", "delta": {"content": content}}


def _text_of(message: Json) -> str:
    return "".join(part["text"]["value"] for part in message["content"])
