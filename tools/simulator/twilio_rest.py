"""The REST resource of a call, as far as the app may use it."""

from __future__ import annotations

import asyncio
import base64
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from aiohttp import web

from tools.simulator.twilio_program import CallOver

if TYPE_CHECKING:
    from tools.simulator.twilio_call import Call
    from tools.simulator.twilio_network import PhoneNetwork

PATH = "/2010-04-01/Accounts/{account}/Calls/{call}.json"
MAX_TWIML_PARAMETER = 4000
UPDATE_FIELDS = {
    *("Url", "Method", "Status", "FallbackUrl", "FallbackMethod"),
    *("StatusCallback", "StatusCallbackMethod", "Twiml", "TimeLimit"),
}
NOT_FOUND = (404, 20404, "The requested resource was not found")
UNAUTHORISED = (401, 20003, "Authenticate")
FAULTS = {
    401: UNAUTHORISED,
    404: NOT_FOUND,
    429: (429, 20429, "Too Many Requests"),
}
"""Status, code and message of the failures that a test may ask for; else it is 20500."""


@dataclass
class RestRequest:
    """One request of the app to the REST API, and the status it was answered with."""

    method: str
    path: str
    fields: dict[str, str]
    status: int = 0
    at: float = field(default_factory=time.monotonic)


class RestApi:
    """Answers on the network's loop; `failures` and `delay` (seconds) are a test's to set."""

    def __init__(self, network: PhoneNetwork) -> None:
        self.requests: list[RestRequest] = []
        self.failures: list[int] = []
        """Statuses that the next requests are answered with; 0 drops the connection."""
        self.delay = 0.0
        self.url = ""
        self._network = network
        self._runner: web.AppRunner

    async def open(self, port: int) -> None:
        """Listen; `url` is known afterwards."""
        app = web.Application()
        app.router.add_get(PATH, self._handle)
        app.router.add_post(PATH, self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    def forget(self) -> None:
        """Be as new."""
        self.requests.clear()
        self.failures.clear()
        self.delay = 0.0

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        fields = dict(parse_qsl(await request.text(), keep_blank_values=True))
        record = RestRequest(request.method, request.path, fields)
        self.requests.append(record)
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.failures:
            response = self._fail(request, self.failures.pop(0))
        else:
            response = self._answer(request, fields)
        record.status = response.status
        return response

    def _fail(self, request: web.Request, status: int) -> web.Response:
        if not status and request.transport:
            request.transport.abort()
        internal = (status or 500, 20500, "An internal server error occurred")
        return _error(*FAULTS.get(status, internal))

    def _answer(self, request: web.Request, fields: dict[str, str]) -> web.Response:
        credentials = f"{self._network.account_sid}:{self._network.auth_token}".encode()
        basic = "Basic " + base64.b64encode(credentials).decode()
        if request.headers.get("Authorization") != basic:
            self._network.refusals.append("REST: wrong credentials")
            return _error(*UNAUTHORISED)
        call = self._network.calls.get(request.match_info["call"])
        if call is None or request.match_info["account"] != self._network.account_sid:
            return _error(*NOT_FOUND)
        if request.method == "POST":
            return self._update(call, fields)
        return web.json_response(_resource(call))

    def _update(self, call: Call, fields: dict[str, str]) -> web.Response:
        if call.program.ending:
            return _error(*NOT_FOUND)
        if problem := update_problem(call, fields):
            self._network.refusals.append(f"REST: {problem}")
            return _error(400, int(problem[:5]), problem[7:])
        call.note("rest", **fields)
        if "Status" in fields:
            call.program.end(CallOver("completed by REST"))
        elif "Twiml" in fields:
            call.program.take_over(call.program.read(fields["Twiml"]))
        elif "Url" in fields:
            method = fields.get("Method", "POST")
            call.program.take_over(call.program.fetch(fields["Url"], method))
        return web.json_response(_resource(call))


def update_problem(call: Call, fields: dict[str, str]) -> str | None:
    """Return why Twilio would not update a call so, its error code first; None if it would."""
    unknown = fields.keys() - UPDATE_FIELDS
    jumps = fields.keys() & {"Twiml", "Url"}
    unanswered = call.answered_at is None and "Status" not in fields
    problems = {
        f"20001: Unknown parameters {sorted(unknown)}": unknown,
        "20001: Nothing to update": not fields,
        "20001: Invalid status": fields.get("Status", "completed") not in {"completed", "canceled"},
        "21218: Twiml and Url are mutually exclusive": len(jumps) > 1,
        "20001: Twiml is longer than 4000 characters": (
            len(fields.get("Twiml", "")) > MAX_TWIML_PARAMETER
        ),
        "21220: Call is not in-progress. Cannot redirect.": jumps and unanswered,
    }
    return next((problem for problem, present in problems.items() if present), None)


def _error(status: int, code: int, message: str) -> web.Response:
    more = f"https://www.twilio.com/docs/errors/{code}"
    body = {"code": code, "message": message, "more_info": more, "status": status}
    return web.json_response(body, status=status)


def _resource(call: Call) -> dict[str, Any]:
    ending = call.program.ending
    return {
        "sid": call.sid,
        "account_sid": call.account_sid,
        "api_version": "2010-04-01",
        "direction": "inbound",
        "from": call.caller,
        "to": call.network.number,
        "status": ending.status if ending else call.status,
        "uri": f"/2010-04-01/Accounts/{call.account_sid}/Calls/{call.sid}.json",
    }
