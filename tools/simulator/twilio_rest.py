"""The REST API: a call, an account and its number, as far as the app and its owner may use them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from aiohttp import web

from tools.simulator import twilio_account
from tools.simulator.twilio_account import Account
from tools.simulator.twilio_program import CallOver

if TYPE_CHECKING:
    from tools.simulator.twilio_call import Call
    from tools.simulator.twilio_network import PhoneNetwork

ACCOUNT = "/2010-04-01/Accounts/{account}"
CALL = ACCOUNT + "/Calls/{call}.json"
NUMBERS = ACCOUNT + "/IncomingPhoneNumbers.json"
NUMBER = ACCOUNT + "/IncomingPhoneNumbers/{number}.json"
Answer = Callable[[web.Request, dict[str, str]], web.Response]
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
        self.account = self._new_account(network)
        self._network = network
        self._runner: web.AppRunner

    async def open(self, port: int) -> None:
        """Listen; `url` is known afterwards."""
        app = web.Application()
        for method, path, answer in self._routes():
            app.router.add_route(method, path, partial(self._handle, answer))
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
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
        self.account = self._new_account(self._network)

    def _new_account(self, network: PhoneNetwork) -> Account:
        return Account(network.account_sid, network.auth_token, network.number)

    def _routes(self) -> list[tuple[str, str, Answer]]:
        return [
            ("GET", f"{ACCOUNT}.json", self._show_account),
            ("GET", CALL, self._show_call),
            ("POST", CALL, self._update_call),
            ("GET", NUMBERS, self._list_numbers),
            ("GET", NUMBER, self._show_number),
            ("POST", NUMBER, self._update_number),
        ]

    async def _handle(self, answer: Answer, request: web.Request) -> web.StreamResponse:
        fields = dict(parse_qsl(await request.text(), keep_blank_values=True))
        record = RestRequest(request.method, request.path, fields)
        self.requests.append(record)
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.failures:
            response = self._fail(request, self.failures.pop(0))
        else:
            response = self._let_in(answer, request, fields)
        record.status = response.status
        return response

    def _fail(self, request: web.Request, status: int) -> web.Response:
        if not status and request.transport:
            request.transport.abort()
        internal = (status or 500, 20500, "An internal server error occurred")
        return _error(*FAULTS.get(status, internal))

    def _let_in(self, answer: Answer, request: web.Request, fields: dict[str, str]) -> web.Response:
        if request.headers.get("Authorization") not in self.account.credentials:
            self._network.refusals.append("REST: wrong credentials")
            return _error(*UNAUTHORISED)
        if request.match_info["account"] != self.account.sid:
            return _error(*NOT_FOUND)
        return answer(request, fields)

    def _show_account(self, _: web.Request, __: dict[str, str]) -> web.Response:
        return web.json_response(self.account.resource())

    def _list_numbers(self, request: web.Request, _: dict[str, str]) -> web.Response:
        return web.json_response(self.account.page_of_numbers(request.query))

    def _show_number(self, request: web.Request, _: dict[str, str]) -> web.Response:
        if request.match_info["number"] != twilio_account.SID:
            return _error(*NOT_FOUND)
        return web.json_response(self.account.number)

    def _update_number(self, request: web.Request, fields: dict[str, str]) -> web.Response:
        if problem := self.account.update_problem(fields):
            return self._refuse(problem)
        self.account.update_number(fields)
        return self._show_number(request, fields)

    def _refuse(self, problem: str) -> web.Response:
        self._network.refusals.append(f"REST: {problem}")
        return _error(400, int(problem[:5]), problem[7:])

    def _show_call(self, request: web.Request, _: dict[str, str]) -> web.Response:
        call = self._network.calls.get(request.match_info["call"])
        return web.json_response(_resource(call)) if call else _error(*NOT_FOUND)

    def _update_call(self, request: web.Request, fields: dict[str, str]) -> web.Response:
        call = self._network.calls.get(request.match_info["call"])
        return self._update(call, fields) if call else _error(*NOT_FOUND)

    def _update(self, call: Call, fields: dict[str, str]) -> web.Response:
        if call.program.ending:
            return _error(*NOT_FOUND)
        if problem := update_problem(call, fields):
            return self._refuse(problem)
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
