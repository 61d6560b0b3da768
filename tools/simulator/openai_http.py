"""Conversations and Responses over HTTP, and what every endpoint shares: pages, event streams."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from aiohttp import web
from openai.types import conversations as conversation_types
from openai.types.conversations import item_create_params
from openai.types.responses import response_create_params

from tools.simulator import openai_rules as rules
from tools.simulator.openai_brain import SAYS_ALL, Reply, Turn
from tools.simulator.openai_rules import Refusal
from tools.simulator.openai_wire import Json, new_id
from tools.simulator.sockets import reset_connection

if TYPE_CHECKING:
    from tools.simulator.openai_server import OpenAISimulator

T = TypeVar("T", bound=Mapping[str, Any])

MAX_ITEMS = 20
QUERY_FIELDS = {"order", "limit", "after", "before", "include", "include[]", "run_id"}


@dataclass
class Request:
    """One HTTP request (WebSocket handshakes included) as it arrived, and how it was answered."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    peer: tuple[str, int]
    """Address of the client's end: the same for requests that shared a connection."""
    at: float = field(default_factory=time.monotonic)
    status: int = 0
    """What it was answered with; 0 until then."""


class ApiCall:
    """A request being handled: its parsed body, path parameters and query."""

    def __init__(self, http: web.Request, body: Any) -> None:
        self.http = http
        self.ids = http.match_info
        self._body = body

    def body(self, shape: Any) -> Json:
        """Return the body. Raise Refusal unless it has exactly this shape."""
        body = {} if self._body is None else self._body
        rules.check(body, shape)
        rules.check_metadata(body.get("metadata"))
        return dict(body)

    @property
    def wants_stream(self) -> bool:
        return isinstance(self._body, dict) and self._body.get("stream") is True

    def page(self, entries: Iterable[T]) -> Json:
        """Return one page of a list (by default newest first, 20 entries) as the query asks for."""
        query = self.http.query
        for name in query:
            if name not in QUERY_FIELDS:
                raise rules.unknown(name)
        order, limit = query.get("order", "desc"), query.get("limit", "20")
        if order not in ("asc", "desc"):
            raise rules.invalid("order", f"{order!r}. Supported values are: 'asc' and 'desc'.")
        if not limit.isdigit() or not 1 <= int(limit) <= 100:
            raise rules.invalid("limit", "an integer between 1 and 100 is expected.")
        rows = list(entries)
        if order == "desc":
            rows.reverse()
        if after := query.get("after"):
            ids = [row["id"] for row in rows]
            if after not in ids:
                raise rules.invalid("after", f"there is no {after!r} in this list.")
            rows = rows[ids.index(after) + 1 :]
        shown = rows[: int(limit)]
        return {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else "",
            "last_id": shown[-1]["id"] if shown else "",
            "has_more": len(rows) > len(shown),
        }


class EventStream:
    """Server-sent events that go on being produced whether or not the client still reads them."""

    def __init__(self, imitated: bool = False) -> None:
        self._imitated = imitated
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._broken = False
        self.abandoned = asyncio.Event()

    def send(self, event: str, data: Any) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        head = f"event: {event}\ndata: " if not self._imitated else ": still here\r\ndata:"
        self._queue.put_nowait(f"{head}{text}\n\n".encode())

    def end(self) -> None:
        if self._imitated:
            self._queue.put_nowait(b"data: [DONE]\n\n")
        self._queue.put_nowait(None)

    def break_off(self) -> None:
        """Have the connection reset after what was sent so far."""
        self._broken = True
        self.end()

    async def deliver(self, http: web.Request) -> web.StreamResponse:
        """Send the events until they end, the client leaves, or they are broken off."""
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        try:
            await response.prepare(http)
            while (chunk := await self._queue.get()) is not None:
                await response.write(chunk)
            if self._broken:
                self.abandoned.set()
                reset_connection(http.transport)
            else:
                await response.write_eof()
        except asyncio.CancelledError:
            self.abandoned.set()
            raise
        except ConnectionError:  # the client left while an event was on its way
            self.abandoned.set()
        return response


@dataclass
class Conversation:
    """A stored conversation: `items` are the API's own objects, in order."""

    id: str
    metadata: dict[str, str]
    items: list[Json] = field(default_factory=list)
    created_at: int = field(default_factory=lambda: int(time.time()))
    locked: bool = False

    @property
    def texts(self) -> list[tuple[str, str]]:
        """What was said, in order: (role, text) of every message."""
        return [(item["role"], _text_of(item)) for item in self.items if item["type"] == "message"]

    @property
    def unanswered_calls(self) -> set[str]:
        """The function calls whose outputs were never delivered."""
        calls = {item["call_id"] for item in self.items if item["type"] == "function_call"}
        return calls - {
            item["call_id"] for item in self.items if item["type"] == "function_call_output"
        }

    def resource(self) -> Json:
        return {
            "id": self.id,
            "object": "conversation",
            "created_at": self.created_at,
            "metadata": self.metadata,
        }


class Conversations:
    """The /conversations endpoints."""

    def __init__(self, simulator: OpenAISimulator) -> None:
        self.simulator = simulator

    def routes(self) -> list[web.RouteDef]:
        route = self.simulator.route
        one = "/conversations/{conversation}"
        return [
            route("POST", "/conversations", self.create),
            route("GET", one, self.retrieve),
            route("POST", one, self.update),
            route("DELETE", one, self.delete),
            route("GET", f"{one}/items", self.list_items),
            route("POST", f"{one}/items", self.add_items),
        ]

    def find(self, conversation_id: str) -> Conversation:
        """Return a conversation. Raise Refusal (404) if there is none."""
        found = self.simulator.conversations.get(conversation_id)
        if found is None:
            message = f"Conversation with id '{conversation_id}' not found."
            raise Refusal(message, code=None, status=404)
        return found

    async def create(self, call: ApiCall) -> Json:
        body = call.body(conversation_types.ConversationCreateParams)
        items = _at_most_20(body.get("items") or [])
        await self.simulator.brain.create()
        conversation = Conversation(new_id("conv"), body.get("metadata") or {})
        conversation.items += [_stored(item) for item in items]
        self.simulator.conversations[conversation.id] = conversation
        return conversation.resource()

    async def retrieve(self, call: ApiCall) -> Json:
        return self.find(call.ids["conversation"]).resource()

    async def update(self, call: ApiCall) -> Json:
        conversation = self.find(call.ids["conversation"])
        body = call.body(conversation_types.ConversationUpdateParams)
        conversation.metadata = body["metadata"] or {}
        return conversation.resource()

    async def delete(self, call: ApiCall) -> Json:
        conversation = self.find(call.ids["conversation"])
        del self.simulator.conversations[conversation.id]
        return {"id": conversation.id, "object": "conversation.deleted", "deleted": True}

    async def list_items(self, call: ApiCall) -> Json:
        return call.page(self.find(call.ids["conversation"]).items)

    async def add_items(self, call: ApiCall) -> Json:
        conversation = self.find(call.ids["conversation"])
        body = call.body(item_create_params.ItemCreateParams)
        if conversation.locked:
            raise _locked()
        added = [_stored(item) for item in _at_most_20(body["items"])]
        conversation.items += added
        page = {"object": "list", "data": added, "has_more": False}
        return {**page, "first_id": added[0]["id"], "last_id": added[-1]["id"]}


class Responses:
    """The /responses endpoint: replies generated on a conversation, one at a time."""

    def __init__(self, simulator: OpenAISimulator, conversations: Conversations) -> None:
        self.simulator = simulator
        self.conversations = conversations
        self._known: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        route = self.simulator.route
        return [
            route("POST", "/responses", self.create),
            route("POST", "/responses/{response}/cancel", self.cancel),
        ]

    async def create(self, call: ApiCall) -> Json | web.StreamResponse:
        body = call.body(
            response_create_params.ResponseCreateParamsStreaming
            if call.wants_stream
            else response_create_params.ResponseCreateParamsNonStreaming
        )
        _check_parameters(body)
        conversation = self._conversation_of(body)
        given = body.get("input", [])
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        if conversation.locked:
            raise _locked()
        _check_calls(conversation, items)
        history, asked = conversation.texts, [_stored(item) for item in items]
        messages = [_text_of(item) for item in asked if item.get("role") == "user"]
        reply = self.simulator.brain.think(messages[-1] if messages else "", history)
        if reply.status == "http_hang":
            await asyncio.Event().wait()
        turn = Turn(conversation.id, messages[-1] if messages else "", reply)
        self.simulator.brain.messages += [(conversation.id, text) for text in messages]
        self.simulator.brain.turns.append(turn)
        conversation.locked = True
        generation = _Generation(self.simulator, body, conversation, asked, turn)
        self._known.add(generation.response["id"])
        task = self.simulator.spawn(generation.run())
        if call.wants_stream:
            return await generation.stream.deliver(call.http)
        if reply.status == "break":
            generation.stream.abandoned.set()
            reset_connection(call.http.transport)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            generation.stream.abandoned.set()
            raise
        return generation.response

    async def cancel(self, call: ApiCall) -> Json:
        if call.ids["response"] not in self._known:
            message = f"Response with id '{call.ids['response']}' not found."
            raise Refusal(message, code=None, status=404)
        raise Refusal("Cannot cancel a synchronous response.", code=None)

    def _conversation_of(self, body: Json) -> Conversation:
        reference = body.get("conversation")
        if reference is None:
            return Conversation("", {})
        return self.conversations.find(
            reference["id"] if isinstance(reference, dict) else reference
        )


class _Generation:
    """One reply on its way: a task of its own, so that it goes on when the client has left."""

    def __init__(
        self,
        simulator: OpenAISimulator,
        body: Json,
        conversation: Conversation,
        asked: list[Json],
        turn: Turn,
    ) -> None:
        self.stream = EventStream(simulator.brain.imitated)
        self.response = _response(body, conversation)
        self._simulator = simulator
        self._conversation = conversation
        self._asked = asked
        self._turn = turn
        self._sequence = 0

    def _send(self, kind: str, **fields: Any) -> None:
        self.stream.send(kind, {"type": kind, **fields, "sequence_number": self._sequence})
        self._sequence += 1

    async def run(self) -> None:
        reply, turn = self._turn.reply, self._turn
        try:
            self._send("response.created", response=self.response)
            self._send("response.in_progress", response=self.response)
            await asyncio.sleep(reply.first_delay)
            if reply.reasoning:
                self._add_reasoning()
            if reply.commentary:
                await self._say([reply.commentary], "commentary", reply)
            if reply.tool:
                self._call_tool(reply.tool)
            elif reply.status in SAYS_ALL or reply.break_after:
                await self._say(reply.pieces(), "final_answer" if reply.commentary else None, reply)
            await _ENDINGS[reply.status](self)
        finally:
            turn.aborted = self.stream.abandoned.is_set()
            if self.response["status"] in SAYS_ALL and (
                not turn.aborted or self._simulator.brain.store_aborted
            ):
                self._conversation.items += [*self._asked, *map(_kept, self.response["output"])]
            self._conversation.locked = False
            turn.ended, turn.outcome = time.monotonic(), self.response["status"]
            self.stream.end()
            self._simulator.touch()

    # ------------------------------------------------------------ what a reply consists of

    def _open(self, item: Json) -> int:
        self.response["output"].append(item)
        index = len(self.response["output"]) - 1
        self._send("response.output_item.added", output_index=index, item=item)
        return index

    def _add_reasoning(self) -> None:
        item = {"id": new_id("rs"), "type": "reasoning", "summary": []}
        index = self._open(item)
        self._send("response.output_item.done", output_index=index, item=item)

    async def _say(self, pieces: Iterable[str], phase: str | None, reply: Reply) -> None:
        message: Json = {
            "id": new_id("msg"),
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        if phase:
            message["phase"] = phase
        index = self._open(message)
        part: Json = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        where = {"item_id": message["id"], "output_index": index, "content_index": 0}
        self._send("response.content_part.added", **where, part=part)
        message["content"].append(part)
        for piece in pieces:
            if phase != "commentary" and self._turn.first_text is None:
                self._turn.first_text = time.monotonic()
            part["text"] += piece
            self._send("response.output_text.delta", **where, delta=piece, logprobs=[])
            await asyncio.sleep(reply.chunk_delay)
            await reply.may_go_on()
        if reply.status not in SAYS_ALL and phase != "commentary":
            return
        whole = phase == "commentary" or reply.status == "completed"
        self._send("response.output_text.done", **where, text=part["text"], logprobs=[])
        self._send("response.content_part.done", **where, part=part)
        message["status"] = "completed" if whole else "incomplete"
        self._send("response.output_item.done", output_index=index, item=message)

    def _call_tool(self, name: str) -> None:
        item = {
            "id": new_id("fc"),
            "type": "function_call",
            "status": "in_progress",
            "call_id": new_id("call"),
            "name": name,
            "arguments": "",
        }
        index = self._open(item)
        where = {"item_id": item["id"], "output_index": index}
        self._send("response.function_call_arguments.delta", **where, delta="{}")
        self._send("response.function_call_arguments.done", **where, arguments="{}")
        item.update(status="completed", arguments="{}")
        self._send("response.output_item.done", output_index=index, item=item)

    # ------------------------------------------------------------ how it ends

    async def _complete(self) -> None:
        text = sum(len(_text_of(item)) for item in self.response["output"]) // 4
        self.response.update(status="completed", usage=_usage(text), completed_at=int(time.time()))
        self._send("response.completed", response=self.response)

    async def _fail(self) -> None:
        error = {"code": "server_error", "message": "The model failed to generate a response."}
        self.response.update(status="failed", error=error)
        self._send("response.failed", response=self.response)

    async def _stop_short(self) -> None:
        details = {"reason": "max_output_tokens"}
        self.response.update(status="incomplete", incomplete_details=details, usage=_usage(0))
        self._send("response.incomplete", response=self.response)

    async def _report_error(self) -> None:
        self.response["status"] = "failed"
        message = "An error occurred while processing your request."
        error = {"code": "server_error", "message": message, "param": None}
        if self._simulator.brain.imitated:  # not everything that imitates it names a type here
            self.stream.send("error", {"error": error})
        else:
            self._send("error", **error)

    async def _break_off(self) -> None:
        self.stream.break_off()
        await self.stream.abandoned.wait()
        self.response["status"] = "completed"

    async def _hang(self) -> None:
        await self.stream.abandoned.wait()
        self.response["status"] = "cancelled"


_ENDINGS: dict[str, Callable[[_Generation], Any]] = {
    "completed": _Generation._complete,
    "requires_action": _Generation._complete,
    "failed": _Generation._fail,
    "incomplete": _Generation._stop_short,
    "expired": _Generation._fail,
    "error": _Generation._report_error,
    "break": _Generation._break_off,
    "hang": _Generation._hang,
}


def _check_parameters(body: Json) -> None:
    """Refuse what the types of responses.create allow but the API does not."""
    if "model" not in body:
        raise rules.missing("model")
    rules.check_text_model(body["model"])
    if "input" not in body and "conversation" not in body:
        raise rules.missing("input")
    if body.get("conversation") is not None and body.get("previous_response_id") is not None:
        raise Refusal(
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation'.",
            code="mutually_exclusive_parameters",
            param="previous_response_id",
        )
    if body.get("max_output_tokens") is not None and body["max_output_tokens"] < 16:
        raise Refusal(
            "Invalid 'max_output_tokens': integer below minimum value.",
            code="integer_below_min_value",
            param="max_output_tokens",
        )
    for name in ("background", "previous_response_id", "prompt"):
        if body.get(name):
            message = f"'{name}' is real, but this stand-in does not play it."
            raise Refusal(message, code="unsupported_parameter", param=name)


def _check_calls(conversation: Conversation, items: list[Json]) -> None:
    delivered = {item["call_id"] for item in items if item.get("type") == "function_call_output"}
    if lacking := sorted(conversation.unanswered_calls - delivered):
        message = f"No tool output found for function call {lacking[0]}."
        raise Refusal(message, code=None, param="input")
    if strangers := sorted(delivered - conversation.unanswered_calls):
        message = f"No tool call found for function call output with call_id {strangers[0]}."
        raise Refusal(message, code=None, param="input")


def _locked() -> Refusal:
    return Refusal(
        "Another process is currently operating on this conversation."
        " Please retry in a few seconds.",
        code="conversation_locked",
    )


def _at_most_20(items: list[Json]) -> list[Json]:
    if len(items) > MAX_ITEMS:
        message = f"Invalid 'items': array too long, {len(items)} items, maximum {MAX_ITEMS}."
        raise Refusal(message, code="array_above_max_length", param="items")
    return items


def _stored(item: Json) -> Json:
    """Return an input item as the API stores it."""
    if "role" not in item:
        return {"id": new_id("item"), "status": "completed", **item}
    kind = "output_text" if item["role"] == "assistant" else "input_text"
    content = item["content"]
    if isinstance(content, str):
        extras: Json = {"annotations": [], "logprobs": []} if kind == "output_text" else {}
        content = [{"type": kind, "text": content, **extras}]
    message = {"id": new_id("msg"), "type": "message", "status": "completed"}
    return {**message, "role": item["role"], "content": content}


def _kept(item: Json) -> Json:
    return dict(json.loads(json.dumps(item)))


def _text_of(item: Json) -> str:
    return "".join(part.get("text", "") for part in item.get("content") or [])


def _response(body: Json, conversation: Conversation) -> Json:
    return {
        "id": f"resp_{uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": body["model"],
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "conversation": {"id": conversation.id} if conversation.id else None,
        "reasoning": body.get("reasoning") or {"effort": None, "summary": None},
        "service_tier": body.get("service_tier", "auto"),
        "temperature": body.get("temperature", 1.0),
        "text": {"format": {"type": "text"}, **(body.get("text") or {})},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "top_p": body.get("top_p", 1.0),
        "truncation": body.get("truncation", "disabled"),
        "usage": None,
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


def _usage(output_tokens: int) -> Json:
    return {
        "input_tokens": 40,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 40 + output_tokens,
    }
