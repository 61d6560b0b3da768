"""The scripted intelligence behind both kinds of workflow: what it answers, how it fails."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tools.simulator.openai_rules import Blameless, Refusal

History = list[tuple[str, str]]

TOKEN_SIZES = (3, 1, 5, 2, 6, 4)

# Statuses that refuse the request instead of starting a reply.
HTTP_FAILURES: dict[str, tuple[int, str, str | None, str]] = {
    "http_401": (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    "http_404": (404, "invalid_request_error", None, "Not found."),
    "http_429": (429, "requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    "http_500": (500, "server_error", None, "The server had an error processing your request."),
    "http_503": (503, "server_error", None, "The engine is currently overloaded."),
}
SAYS_ALL = {"completed", "incomplete"}


@dataclass
class Reply:
    """What the workflow answers to one message, and how. Times in seconds.

    `status`: completed, failed, incomplete, requires_action, error (an `error` event), expired
    (runs only), break (the connection is reset in mid-stream), hang (the stream goes silent for
    good), http_hang (not even response headers), or a key of HTTP_FAILURES.
    `break_after`: so many chunks are sent before it goes wrong (default: none; all if incomplete).
    `rest`: what comes after the first chunk waits until the test sets this.
    """

    chunks: str | Sequence[str] = ""
    first_delay: float = 0.02
    chunk_delay: float = 0.002
    status: str = "completed"
    retry_after: float | None = None
    break_after: int | None = None
    commentary: str | None = None
    reasoning: bool = False
    tool_call: str | None = None
    rest: threading.Event | None = None

    async def may_go_on(self) -> None:
        """Wait until the test lets the rest come."""
        while self.rest and not self.rest.is_set():
            await asyncio.sleep(0.01)

    @property
    def text(self) -> str:
        return "".join(self.chunks)

    @property
    def tool(self) -> str | None:
        """Name the function whose output is demanded, if any."""
        return self.tool_call or ("look_up_order" if self.status == "requires_action" else None)

    def pieces(self) -> Iterator[str]:
        """Cut the text as it will be streamed: as given, or into tokens not aligned with words."""
        pieces = _tokens(self.chunks) if isinstance(self.chunks, str) else list(self.chunks)
        everything = len(pieces) if self.status in SAYS_ALL else 0
        upto = everything if self.break_after is None else self.break_after
        return iter(pieces[:upto])


@dataclass
class Turn:
    """One accepted request for a reply. Times are time.monotonic() seconds."""

    where: str
    text: str
    reply: Reply
    accepted: float = field(default_factory=time.monotonic)
    first_text: float | None = None
    ended: float | None = None
    outcome: str | None = None
    aborted: bool = False


class Brain:
    """Decide what is answered; remember what was asked.

    `reply` gets the message's text and what was stored before it, and returns a Reply or plain
    text. It is called on the simulator's loop: it must not block.
    """

    def __init__(self) -> None:
        self.reply: Callable[[str, History], Reply | str] = lambda text, _: f"You said: {text}."
        self.messages: list[tuple[str, str]] = []
        self.turns: list[Turn] = []
        self.create_delay = 0.0
        self.fail_create: list[int] = []
        """Statuses with which the next creations of conversations or threads fail, one each."""
        self.fail_messages: list[int] = []
        """The same for messages added to threads."""
        self.imitated = False
        """Whether Responses are streamed as other makers do: no names, but comments and [DONE]."""
        self.store_aborted = False
        """Whether a reply whose stream the client abandoned is stored all the same."""
        self.cancel_delay = 0.05
        """How long a run stays `cancelling`."""
        self.action_seconds = 600.0
        """How long a run waits for tool outputs before it expires."""
        self._failures: deque[dict[str, Any]] = deque()

    def fail_next(self, n: int = 1, status: str = "failed", **fields: Any) -> None:
        """Make the next `n` replies end with `status`; `fields` override the rest of Reply."""
        self._failures.extend({"status": status, **fields} for _ in range(n))

    def think(self, text: str, history: History) -> Reply:
        """Return the reply to one message. Raise Blameless if the script says to refuse it."""
        answer = self.reply(text, history)
        reply = answer if isinstance(answer, Reply) else Reply(answer)
        if self._failures:
            reply = replace(reply, **self._failures.popleft())
        if reply.status in HTTP_FAILURES:
            raise _scripted(reply.status, reply.retry_after)
        return reply

    async def create(self) -> None:
        """Take as long as scripted to create something. Raise Blameless if scripted to fail."""
        await asyncio.sleep(self.create_delay)
        _fail_by(self.fail_create)

    def accept_message(self) -> None:
        """Raise Blameless if the next message added to a thread is scripted to be refused."""
        _fail_by(self.fail_messages)


def _fail_by(statuses: list[int]) -> None:
    if statuses:
        raise _scripted(f"http_{statuses.pop(0)}", None)


def _scripted(status: str, retry_after: float | None) -> Refusal:
    code, kind, name, message = HTTP_FAILURES[status]
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    return Blameless(message, code=name, status=code, kind=kind, headers=headers)


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    for size in itertools.cycle(TOKEN_SIZES):
        if position >= len(text):
            break
        tokens.append(text[position : position + size])
        position += size
    return tokens
