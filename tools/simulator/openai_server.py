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
import ssl
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from aiohttp import web

from tools.simulator import openai_rules as rules
from tools.simulator.loop_thread import LoopThread
from tools.simulator.openai_assistants import Assistants, Thread
from tools.simulator.openai_brain import HTTP_FAILURES, Brain, Reply
from tools.simulator.openai_door import ApiHandler, FrontDoor, api_route, note_status
from tools.simulator.openai_http import ApiCall, Conversation, Conversations, Request, Responses
from tools.simulator.openai_knobs import ModelKnobs, RealtimeBehaviour, ResponseFailure
from tools.simulator.openai_realtime import RealtimeSession
from tools.simulator.openai_record import Record
from tools.simulator.openai_rules import Blameless, Refusal
from tools.simulator.sockets import reset_connection
from tools.simulator.speech import Ears, Mouth
from tools.simulator.waiting import PATIENCE

__all__ = [
    "Brain",
    "OpenAISimulator",
    "RealtimeBehaviour",
    "RealtimeSession",
    "Reply",
    "ResponseFailure",
]

T = TypeVar("T")

KEEP_ALIVE_SECONDS = 600.0
SERVED_MODELS = (
    *rules.CURRENT_TEXT_MODELS,
    *sorted(rules.REALTIME_MODELS),
    *sorted(rules.TRANSCRIPTION_MODELS),
)


class OpenAISimulator:
    """Play OpenAI, strictly, on 127.0.0.1. A context manager; `port` 0 picks a free one.

    `realtime` and `brain` hold the knobs; `sessions`, `requests`, `conversations` and `threads`
    what happened; `refusals` what the client did wrong: a normal call's test asserts it's empty.
    """

    def __init__(
        self,
        *,
        ears: Ears,
        mouth: Mouth,
        api_key: str = "sk-test",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Serve with TLS, as the real one always does, if there is a context."""
        self.ears = ears
        self.mouth = mouth
        self.api_key = api_key
        self.port = port
        self._tls = tls
        self.realtime = RealtimeBehaviour()
        self.brain = Brain()
        self.record = Record()
        self.assistants = {"asst_test"}
        """Ids of the assistants that exist."""
        self.assistants_gone = False
        """Answer 404 to everything under /threads, as OpenAI itself does since 2026-08-26."""
        self.models = ModelKnobs()
        self.redirect_to = ""
        """Answer every request with a redirect to this origin, `http://host:port`."""
        self._loop = LoopThread("stand-in for OpenAI", self.record.report_bug)
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self.port}/v1"

    # --- life -------------------------------------------------------------------------------

    def start(self) -> OpenAISimulator:
        """Listen. Raise OSError if the port is taken."""
        self._loop.start()
        self._loop.run(self._listen())
        return self

    def stop(self) -> None:
        """Reset every connection and end the loop's thread; a second time does nothing."""
        if self._runner is None:
            return
        self._loop.run(self._shut_down(self._runner))
        self._loop.stop()
        self._runner = None

    def __enter__(self) -> OpenAISimulator:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def _listen(self) -> None:
        door = FrontDoor(self)
        app = web.Application(middlewares=[door.let_in], client_max_size=8 * 1024 * 1024)
        app.on_response_prepare.append(note_status)
        app.add_routes(self._routes())
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=0.1,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
        )
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, "127.0.0.1", self.port, backlog=1024, ssl_context=self._tls
        )
        await site.start()
        self.port = self._runner.addresses[0][1]

    def _routes(self) -> list[web.RouteDef]:
        conversations = Conversations(self)
        return [
            *conversations.routes(),
            *Responses(self, conversations).routes(),
            *Assistants(self).routes(),
            self.route("GET", "/models", self._list_models),
            self.route("GET", "/models/{model}", self._retrieve_model),
            web.get("/v1/realtime", self._open_session),
        ]

    async def _shut_down(self, runner: web.AppRunner) -> None:
        for session in self.sessions:
            if session.open:
                reset_connection(session.transport)
        await self._loop.cancel_tasks()
        await runner.cleanup()

    # --- for tests --------------------------------------------------------------------------

    @property
    def sessions(self) -> list[RealtimeSession]:
        return self.record.sessions

    @property
    def requests(self) -> list[Request]:
        return self.record.requests

    @property
    def refusals(self) -> list[str]:
        return self.record.refusals

    @property
    def conversations(self) -> dict[str, Conversation]:
        return self.record.conversations

    @property
    def threads(self) -> dict[str, Thread]:
        return self.record.threads

    def wait_for(self, predicate: Callable[[OpenAISimulator], T], timeout: float = PATIENCE) -> T:
        """Block until `predicate(self)` is truthy, return its value. Raise AssertionError else."""
        value = self.record.wait_for(lambda: predicate(self), timeout)
        if not value:
            raise AssertionError(f"Nothing of the kind within {timeout} s.\n{self.dump()}")
        return value

    def dump(self) -> str:
        """Describe what happened lately, for a failing test's message."""
        return f"messages: {self.brain.messages}\n{self.record.dump()}"

    def forget(self) -> None:
        """Forget what happened, and have every knob as it was at first."""
        self.record.forget()
        self.realtime = RealtimeBehaviour()
        self.brain = Brain()
        self.assistants_gone = False
        self.models = ModelKnobs()
        self.redirect_to = ""

    # --- for the parts of the simulator -----------------------------------------------------

    def on_loop(self, action: Callable[[], Any]) -> None:
        """Do something on the event loop and wait until it's done, from whichever thread."""
        self._loop.do(action)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that ends with the simulator; if it crashes, `refusals` shows it."""
        return self._loop.spawn(work)

    def refuse(self, what: str, fault: Refusal) -> None:
        """Note that the client did something wrong, unless the fault is not its own."""
        self.record.refuse(what, fault)

    def touch(self) -> None:
        """Wake whoever waits for something to happen."""
        self.record.touch()

    def route(self, method: str, path: str, handler: ApiHandler) -> web.RouteDef:
        """Make a route under /v1 of a handler that returns JSON or its own response."""
        return api_route(method, path, handler)

    async def _list_models(self, _: ApiCall) -> dict[str, Any]:
        self._check_scope()
        return {"object": "list", "data": [self._model(model) for model in SERVED_MODELS]}

    async def _retrieve_model(self, call: ApiCall) -> dict[str, Any]:
        self._check_scope()
        model = call.ids["model"]
        if model in SERVED_MODELS:
            return self._model(model)
        message = f"The model '{model}' does not exist"
        raise Refusal(message, code="model_not_found", param="model", status=404)

    def _check_scope(self) -> None:
        if self.models.key_is_restricted:
            message = (
                "You have insufficient permissions for this operation."
                " Missing scopes: api.model.read."
            )
            raise Refusal(message, code=None, status=401)

    def _model(self, model: str) -> dict[str, Any]:
        about = {"id": model, "object": "model", "created": 1_750_000_000, "owned_by": "openai"}
        return {**about, "shutdown_date": self.models.shutdown_dates.get(model)}

    async def _open_session(self, http: web.Request) -> web.StreamResponse:
        await asyncio.sleep(self.realtime.connect_delay)
        queue = self.realtime.refuse_connections
        status = queue.pop(0) if queue else self.realtime.refuse_all
        if status:
            known = HTTP_FAILURES.get(f"http_{status}", HTTP_FAILURES["http_503"])
            _, kind, code, message = known
            raise Blameless(message, code=code, status=status, kind=kind)
        if http.headers.get("Upgrade", "").lower() != "websocket":
            raise Refusal("Expected a WebSocket upgrade.", code=None, status=426)
        return await RealtimeSession(self, http.query.get("model", "")).serve(http)
