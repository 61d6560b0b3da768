"""OpenAI as a script, in-process: an answer a request, where its stand-in can't be made to fail."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import httpx2

from tests.workflow.conftest import KINDS, Talk, settings_of
from workflow_client import WorkflowClient

Answer = httpx2.Response | Exception
THREAD = {"id": "thread_1", "object": "thread"}
CONVERSATION = {"id": "conv_1", "object": "conversation"}


class Script(httpx2.BaseTransport):
    """Give these answers, one a request; an exception is raised. `requests` has what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.headers: list[httpx2.Headers] = []
        self._answers = list(answers)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.headers.append(request.headers)
        path = request.url.path.removeprefix("/v1")
        self.requests.append((f"{request.method} {path}", json.loads(request.read() or b"null")))
        assert self._answers, f"nobody expected {self.requests[-1]}"
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def asked(self) -> list[str]:
        """Methods and paths of the requests."""
        return [what for what, _ in self.requests]


class Sent(httpx2.SyncByteStream):
    """A body that comes in these chunks; an exception among them breaks it off."""

    def __init__(self, chunks: Iterable[bytes | Exception]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


def answered(body: Any) -> Answer:
    return httpx2.Response(200, json=body)


def refused(status: int, **error: Any) -> Answer:
    return httpx2.Response(status, json={"error": {"message": "No.", **error}})


def streamed(*chunks: bytes | Exception) -> Answer:
    headers = {"Content-Type": "text/event-stream; charset=utf-8"}
    return httpx2.Response(200, headers=headers, stream=Sent(chunks))


def sent(*events: Any) -> bytes:
    """Write events as a server sends them."""
    return b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events)


def response_said(text: str) -> bytes:
    """Write a whole Response as a server streams it."""
    delta = {"type": "response.output_text.delta", "delta": text}
    return sent(delta, {"type": "response.completed", "response": {"output": []}})


def run_said(text: str) -> bytes:
    """Write a whole run as a server streams it."""
    delta = {"content": [{"type": "text", "text": {"value": text}}]}
    run = {"object": "thread.run", "id": "run_1", "status": "completed"}
    return sent({"object": "thread.message.delta", "delta": delta}, run)


SAID = {"responses": response_said, "assistant": run_said}


def talk_by(script: Script, kind: str = "responses", **settings: Any) -> Talk:
    """Return a talk that was started; only what comes after its start is in the script."""
    talk = Talk(client_of(script, kind, **settings))
    conversation = {"responses": "conv_1", "assistant": "thread_1"}[kind]
    talk.client.resume(talk.call_sid, conversation, "+15552223333", "+15550001111")
    return talk


def client_of(script: Script, kind: str = "responses", **settings: Any) -> WorkflowClient:
    chosen = settings_of(KINDS[kind], **settings)
    return WorkflowClient(chosen, pauses=(0, 0, 0), transport=script)
