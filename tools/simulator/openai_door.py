"""The front door of the stand-in for OpenAI: who may come in, and errors in OpenAI's shape."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tools.simulator.openai_http import ApiCall, Request
from tools.simulator.openai_rules import Blameless, Refusal
from tools.simulator.openai_wire import new_id

if TYPE_CHECKING:
    from tools.simulator.openai_server import OpenAISimulator

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ApiHandler = Callable[[ApiCall], Awaitable[dict[str, Any] | web.StreamResponse]]

ASSISTANTS = ("/v1/threads", "/v1/assistants")
_ENTRY: ContextVar[Request] = ContextVar("entry")


class FrontDoor:
    """Log each request, check who asks, and put every error into OpenAI's shape."""

    def __init__(self, simulator: OpenAISimulator) -> None:
        self._simulator = simulator

    @web.middleware
    async def let_in(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer one request, as aiohttp's middleware."""
        record = self._simulator.record
        entry = _entry(request)
        record.requests.append(entry)
        record.touch()
        if self._simulator.redirect_to:
            elsewhere = {"Location": self._simulator.redirect_to + request.path_qs}
            return web.Response(status=307, headers=elsewhere)
        try:
            entry.body = await self._check(request)
            return await handler(request)
        except Refusal as fault:
            return self._refuse(entry, fault)
        except web.HTTPException as error:
            text = f"Invalid URL ({request.method} {request.path})"
            return self._refuse(entry, Refusal(text, code=None, status=error.status))
        except Exception as error:  # a bug here must fail the test, not only the request
            record.report_bug(error)
            return _error_response(Blameless("Simulator failed.", code=None, status=500))

    async def _check(self, request: web.Request) -> Any:
        """Return the body of a request that is let in. Raise Refusal for another one."""
        _check_key(request, self._simulator.api_key)
        body = await json_body(request)
        if self._simulator.assistants_gone and request.path.startswith(ASSISTANTS):
            message = "The Assistants API has been shut down. Please use the Responses API."
            raise Blameless(message, code=None, status=404)
        return body

    def _refuse(self, entry: Request, fault: Refusal) -> web.Response:
        self._simulator.record.refuse(f"{entry.method} {entry.path}", fault)
        return _error_response(fault)


def _entry(request: web.Request) -> Request:
    peer = request.transport.get_extra_info("peername") if request.transport else ("", 0)
    entry = Request(request.method, request.path, request.headers, None, tuple(peer))
    _ENTRY.set(entry)
    return entry


async def note_status(_: web.Request, response: web.StreamResponse) -> None:
    """Note how a request is answered, as aiohttp's `on_response_prepare`."""
    _ENTRY.get().status = response.status


def api_route(method: str, path: str, handler: ApiHandler) -> web.RouteDef:
    """Make a route under /v1 of a handler that returns JSON or its own response."""

    async def handle(http: web.Request) -> web.StreamResponse:
        answer = await handler(ApiCall(http, await json_body(http)))
        return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)

    return web.route(method, f"/v1{path}", handle)


async def json_body(http: web.Request) -> Any:
    """Return the body of a request. Raise Refusal if it isn't JSON."""
    try:
        return json.loads(await http.read() or b"null")
    except (ValueError, RecursionError) as error:
        message = f"We could not parse the JSON body of your request. ({error})"
        raise Refusal(message, code=None) from error


def _check_key(http: web.Request, api_key: str) -> None:
    given = http.headers.get("Authorization", "")
    if given == f"Bearer {api_key}":
        return
    if not given.startswith("Bearer "):
        message = "You didn't provide an API key in an Authorization header."
        raise Refusal(message, code=None, status=401)
    raise Refusal("Incorrect API key provided.", code="invalid_api_key", status=401)


def _error_response(fault: Refusal) -> web.Response:
    headers = {**fault.headers, "x-request-id": new_id("req")}
    return web.json_response({"error": fault.body()}, status=fault.status, headers=headers)
