"""A strict stand-in for OpenAI on 127.0.0.1: Realtime, Conversations and Responses, Assistants.

    with OpenAISimulator(ears=voice, mouth=voice) as openai:
        openai.brain.reply = lambda text, history: Reply("It is nine o'clock.")
        ...  # run the app with OPENAI_BASE_URL=openai.base_url and OPENAI_API_KEY=openai.api_key
        openai.wait_for(lambda o: o.brain.messages)
        assert not openai.refusals

Everything is served by one event loop in a daemon thread; what is public here may be used from any
thread.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

from aiohttp import web

from tools.simulator import openai_rules as rules
from tools.simulator.openai_assistants import Assistants, Thread
from tools.simulator.openai_brain import HTTP_FAILURES, Brain, Reply
from tools.simulator.openai_http import Call, Conversation, Conversations, Request, Responses
from tools.simulator.openai_knobs import RealtimeBehaviour, ResponseFailure
from tools.simulator.openai_realtime import RealtimeSession
from tools.simulator.openai_rules import Blameless, Refusal
from tools.simulator.openai_wire import new_id
from tools.simulator.sockets import reset_connection
from tools.simulator.speech import Ears, Mouth

__all__ = [
    "Brain",
    "OpenAISimulator",
    "RealtimeBehaviour",
    "RealtimeSession",
    "Reply",
    "ResponseFailure",
]

T = TypeVar("T")
Handler = Callable[[Call], Awaitable[dict[str, Any] | web.StreamResponse]]

KEEP_ALIVE_SECONDS = 600.0
SERVED_MODELS = (*rules.CURRENT_TEXT_MODELS, *sorted(rules.REALTIME_MODELS))


_ENTRY: ContextVar[Request] = ContextVar("entry")


class OpenAISimulator:
    """Play OpenAI, strictly, on 127.0.0.1. A context manager; `port` 0 picks a free one.

    `realtime` and `brain` hold the knobs; `sessions`, `requests`, `conversations` and `threads`
    what happened; `refusals` what the client did wrong: a normal call's test asserts it's empty.
    """

    def __init__(
        self, *, ears: Ears, mouth: Mouth, api_key: str = "sk-test", port: int = 0
    ) -> None:
        self.ears = ears
        self.mouth = mouth
        self.api_key = api_key
        self.port = port
        self.realtime = RealtimeBehaviour()
        self.brain = Brain()
        self.assistants = {"asst_test"}
        """Ids of the assistants that exist."""
        self.assistants_gone = False
        """Answer 404 to everything under /threads, as OpenAI itself does since 2026-08-26."""
        self.shutdown_dates: dict[str, str] = {}
        """Models whose end is announced, and when: `YYYY-MM-DD`."""
        self.redirect_to = ""
        """Answer every request with a redirect to this origin, `http://host:port`."""
        self.sessions: list[RealtimeSession] = []
        self.requests: list[Request] = []
        self.refusals: list[str] = []
        self.conversations: dict[str, Conversation] = {}
        self.threads: dict[str, Thread] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = threading.Condition()
        self._changes = 0
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    # ------------------------------------------------------------ life

    def start(self) -> OpenAISimulator:
        """Listen. Raise OSError if the port is taken."""
        self._thread = threading.Thread(target=self._run_loop, name="openai-simulator", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def stop(self) -> None:
        """Reset every connection and end the loop's thread."""
        if self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._thread = None

    def __enter__(self) -> OpenAISimulator:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run_loop(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _listen(self) -> None:
        app = web.Application(middlewares=[self._front_door], client_max_size=8 * 1024 * 1024)
        app.on_response_prepare.append(_note_status)
        conversations = Conversations(self)
        app.add_routes(
            [
                *conversations.routes(),
                *Responses(self, conversations).routes(),
                *Assistants(self).routes(),
                self.route("GET", "/models", self._list_models),
                web.get("/v1/realtime", self._open_session),
            ]
        )
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=0.1,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024).start()
        self.port = self._runner.addresses[0][1]

    async def _shut_down(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        for session in self.sessions:
            if session.open:
                reset_connection(session.transport)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self._runner is not None
        await self._runner.cleanup()

    # ------------------------------------------------------------ for tests

    def wait_for(self, predicate: Callable[[OpenAISimulator], T], timeout: float = 10.0) -> T:
        """Block until `predicate(self)` is truthy, return its value. Raise AssertionError else."""
        deadline = time.monotonic() + timeout
        while True:
            before = self._changes
            if value := predicate(self):
                return value
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"Nothing of the kind within {timeout} s.\n{self.dump()}")
            with self._changed:
                if self._changes == before:
                    self._changed.wait(min(left, 0.05))

    def dump(self, events: int = 12) -> str:
        """Describe what happened lately, for a failing test's message."""
        lines = [f"refusals: {self.refusals}", f"messages: {self.brain.messages}"]
        lines += [f"{r.method} {r.path} -> {r.status}" for r in self.requests[-events:]]
        for session in self.sessions[-3:]:
            lines.append(f"session {session.id} open={session.open} appends={session.appends}")
            passed = [(at, "<-", event) for at, event in session.received]
            passed = [entry for entry in passed if not _is_append(entry[2])]
            passed += [(at, "->", event) for at, event in session.sent]
            recent = sorted(passed, key=lambda entry: entry[0])[-events:]
            lines += [f"  {at:.3f} {way} {str(event)[:200]}" for at, way, event in recent]
        return "\n".join(lines)

    # ------------------------------------------------------------ for the parts of the simulator

    def on_loop(self, action: Callable[[], Any]) -> None:
        """Do something on the event loop and wait until it's done, from whichever thread."""
        if threading.current_thread() is self._thread:
            action()
            return
        done: Future[None] = Future()

        def act() -> None:
            try:
                action()
            except Exception as error:  # raised again where the test waits
                done.set_exception(error)
            else:
                done.set_result(None)

        self._loop.call_soon_threadsafe(act)
        done.result(timeout=10)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that ends with the simulator; if it crashes, `refusals` shows it."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.report_bug(error)

    def report_bug(self, error: BaseException) -> None:
        text = "".join(traceback.format_exception(error))
        self.refusals.append(f"BUG IN THE SIMULATOR: {text}")
        self.touch()

    def refuse(self, what: str, fault: Refusal) -> None:
        """Note that the client did something wrong, unless the fault is not its own."""
        if not isinstance(fault, Blameless):
            named = f" [{fault.param}]" if fault.param else ""
            self.refusals.append(f"{what}: {fault.code or fault.status}{named}: {fault.message}")
            self.touch()

    def touch(self) -> None:
        """Wake whoever waits for something to happen."""
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def route(self, method: str, path: str, handler: Handler) -> web.RouteDef:
        """Make a route under /v1 of a handler that returns JSON or its own response."""

        async def handle(http: web.Request) -> web.StreamResponse:
            answer = await handler(Call(http, await _json_body(http)))
            return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)

        return web.route(method, f"/v1{path}", handle)

    # ------------------------------------------------------------ HTTP

    @web.middleware
    async def _front_door(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Log the request, check who asks, and put every error into OpenAI's shape."""
        peer = request.transport.get_extra_info("peername") if request.transport else ("", 0)
        entry = Request(request.method, request.path, request.headers, None, tuple(peer))
        _ENTRY.set(entry)
        self.requests.append(entry)
        self.touch()
        if self.redirect_to:
            elsewhere = {"Location": self.redirect_to + request.path_qs}
            return web.Response(status=307, headers=elsewhere)
        try:
            self._check_key(request)
            entry.body = await _json_body(request)
            if self.assistants_gone and request.path.startswith(("/v1/threads", "/v1/assistants")):
                message = "The Assistants API has been shut down. Please use the Responses API."
                raise Blameless(message, code=None, status=404)
            response = await handler(request)
        except Refusal as fault:
            self.refuse(f"{request.method} {request.path}", fault)
            response = _error_response(fault)
        except web.HTTPException as error:
            stranger = Refusal(
                f"Invalid URL ({request.method} {request.path})", code=None, status=error.status
            )
            self.refuse(f"{request.method} {request.path}", stranger)
            response = _error_response(stranger)
        except Exception as error:  # a bug here must fail the test, not only the request
            self.report_bug(error)
            response = _error_response(Blameless("Simulator failed.", code=None, status=500))
        return response

    def _check_key(self, http: web.Request) -> None:
        given = http.headers.get("Authorization", "")
        if given == f"Bearer {self.api_key}":
            return
        if not given.startswith("Bearer "):
            message = "You didn't provide an API key in an Authorization header."
            raise Refusal(message, code=None, status=401)
        raise Refusal("Incorrect API key provided.", code="invalid_api_key", status=401)

    async def _list_models(self, call: Call) -> dict[str, Any]:
        models = [
            {
                "id": model,
                "object": "model",
                "created": 1_750_000_000,
                "owned_by": "openai",
                "shutdown_date": self.shutdown_dates.get(model),
            }
            for model in SERVED_MODELS
        ]
        return {"object": "list", "data": models}

    async def _open_session(self, http: web.Request) -> web.StreamResponse:
        await asyncio.sleep(self.realtime.connect_delay)
        queue = self.realtime.refuse_connections
        if status := queue.pop(0) if queue else self.realtime.refuse_all:
            known = HTTP_FAILURES.get(f"http_{status}", HTTP_FAILURES["http_503"])
            _, kind, code, message = known
            raise Blameless(message, code=code, status=status, kind=kind)
        if http.headers.get("Upgrade", "").lower() != "websocket":
            raise Refusal("Expected a WebSocket upgrade.", code=None, status=426)
        return await RealtimeSession(self, http.query.get("model", "")).serve(http)


async def _note_status(http: web.Request, response: web.StreamResponse) -> None:
    _ENTRY.get().status = response.status


async def _json_body(http: web.Request) -> Any:
    try:
        return json.loads(await http.read() or b"null")
    except (ValueError, RecursionError) as error:
        message = f"We could not parse the JSON body of your request. ({error})"
        raise Refusal(message, code=None) from error


def _error_response(fault: Refusal) -> web.Response:
    headers = {**fault.headers, "x-request-id": new_id("req")}
    return web.json_response({"error": fault.body()}, status=fault.status, headers=headers)


def _is_append(event: object) -> bool:
    return isinstance(event, dict) and event.get("type") == "input_audio_buffer.append"
