"""Twilio's requests to the app for TwiML: signed, form-encoded, tried again if none is answered.

See https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urldefrag, urlencode

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    from tools.simulator.twilio_call import Call

PLACES = {"City": "SPRINGFIELD", "State": "OR", "Zip": "97477", "Country": "US"}
TRIES = 2


class WebhookRecord(NamedTuple):
    """One HTTP request to the app: the public URL, the form, the status (0: no answer)."""

    url: str
    fields: dict[str, str]
    status: int
    seconds: float


class WebhookAnswer(NamedTuple):
    """What the app answered, at which public URL."""

    url: str
    status: int
    content_type: str
    body: bytes


class WebhookRequest:
    """One document asked for, with one more try if the app can't be reached or fails."""

    def __init__(self, call: Call, url: str, method: str, fields: dict[str, str]) -> None:
        self._call = call
        self._network = call.network
        self._method = method
        self._token = secrets.token_hex(16)
        self._form = {**call_form(call), **fields, **call.setup.fields}
        self.url = urldefrag(url).url
        if method == "GET":
            mark = "&" if "?" in self.url else "?"
            self.url += mark + urlencode(self._form)
            self._form = {}

    async def send(self) -> WebhookAnswer | None:
        """Return the app's answer, whatever its status; None if there is none in time."""
        deadline = time.monotonic() + self._network.webhook_timeout
        answer = None
        for _ in range(TRIES):
            answer = await self._try(deadline - time.monotonic())
            if answer is not None or time.monotonic() >= deadline:
                break
        return answer

    async def _try(self, seconds: float) -> WebhookAnswer | None:
        local = self._network.to_local(self.url)
        began = time.monotonic()
        answer = None
        if local is None:
            self._call.refuse(f"{self.url} is not at the app's public address")
        elif self._call.setup.webhook_failures:
            failure = self._call.setup.webhook_failures.pop(0)
            answer = WebhookAnswer(self.url, failure, "text/plain", b"")
        else:
            limit = max(0.001, min(seconds, self._network.webhook_attempt_timeout))
            answer = await self._ask(local, limit)
        took = time.monotonic() - began
        status = answer.status if answer else 0
        self._network.webhooks.append(WebhookRecord(self.url, self._form, status, took))
        self._call.note("webhook", url=self.url, status=status, ms=round(took * 1000))
        return answer

    async def _ask(self, local: str, seconds: float) -> WebhookAnswer | None:
        try:
            async with self._network.session.request(
                self._method,
                URL(local, encoded=True),
                data=urlencode(self._form).encode() or None,
                headers=self._headers(),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as response:
                body = await response.read()
                kind = response.headers.get("Content-Type", "")
                return WebhookAnswer(self.url, response.status, kind, body)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            self._call.note("webhook_failed", url=self.url, error=repr(error))
            return None

    def _headers(self) -> dict[str, str]:
        headers = {
            "User-Agent": "TwilioProxy/1.1",
            "Accept": "*/*",
            "Cache-Control": "max-age=259200",
            "I-Twilio-Idempotency-Token": self._token,
            "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
            **self._call.setup.extra_headers,
        }
        signature = self._call.setup.signature
        if signature == "auto":
            signature = self._network.signature(self.url, self._form)
        if signature is not None:
            headers["X-Twilio-Signature"] = signature
        return headers


def call_form(call: Call) -> dict[str, str]:
    """Return what Twilio tells of a call with every request."""
    places = {
        f"{party}{place}": value
        for party in ("Caller", "From", "Called", "To")
        for place, value in PLACES.items()
    }
    return {
        "CallSid": call.sid,
        "AccountSid": call.account_sid,
        "From": call.caller,
        "To": call.network.number,
        "Caller": call.caller,
        "Called": call.network.number,
        "CallStatus": call.status,
        "Direction": "inbound",
        "ApiVersion": "2010-04-01",
        "CallToken": '{"parentCallInfoToken":"simulated"}',
        "StirVerstat": "TN-Validation-Passed-A",
        **places,
        "FieldOfTomorrow": "new fields appear without notice",
    }
