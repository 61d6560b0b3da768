"""A strict stand-in for Twilio and the phone network, over real sockets on 127.0.0.1.

`PhoneNetwork` places signed calls to the app's webhook, runs the TwiML it answers as Twilio does,
and serves the REST resource of a call. `Call` is the caller: it speaks, presses keys, listens and
hangs up. Everything happens on one event loop in a daemon thread; all public methods are
synchronous and may be called from any thread.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from twilio.request_validator import RequestValidator

from tools.simulator.loop_thread import LoopThread
from tools.simulator.media_stream import StreamFaults
from tools.simulator.timeline import Entry
from tools.simulator.twilio_call import Call, CallSetup
from tools.simulator.twilio_program import CallOver
from tools.simulator.twilio_rest import RestApi, RestRequest
from tools.simulator.twilio_webhook import WebhookRecord

__all__ = ["Call", "Entry", "PhoneNetwork"]

T = TypeVar("T")


class PhoneNetwork:
    """Twilio, with one phone number and one account; a context manager.

    `voice_url` is where the app really listens (it may be set later, before the first call);
    `public_url` is how the app is known to the world: everything is signed for it, and URLs in
    TwiML must point to it. `port` is the REST API's.
    """

    webhook_timeout = 15.0
    """Seconds for both tries at the webhook together."""
    webhook_attempt_timeout = 15.0
    say_seconds_per_character = 0.02
    """How fast Twilio's own voice speaks."""

    def __init__(
        self,
        *,
        account_sid: str = "AC" + "0" * 32,
        auth_token: str = "simulated-auth-token",
        number: str = "+15550001111",
        voice_url: str = "",
        public_url: str = "https://voice.example.com",
        port: int = 0,
    ) -> None:
        self.account_sid = account_sid
        self.auth_token = auth_token
        self.number = number
        self.voice_url = voice_url
        self.public_url = public_url.rstrip("/")
        self.dial_status = "completed"
        """What becomes of a <Dial>: completed (somebody answers), busy, no-answer or failed."""
        self.calls: dict[str, Call] = {}  # by sid; the latest if two share it
        self.placed: list[Call] = []
        self.webhooks: list[WebhookRecord] = []
        self.refusals: list[str] = []
        self.rest = RestApi(self)
        self.session: aiohttp.ClientSession
        self._port = port
        self._loop = LoopThread("phone network")

    def __enter__(self) -> PhoneNetwork:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the loop and the REST API; `api_url` is known afterwards."""
        self._loop.start()
        self.run(self._open())

    def stop(self) -> None:
        """End every call as if the callers had hung up, and close everything."""
        self.run(self._close())
        self._loop.stop()

    def forget(self) -> None:
        """Forget what happened, and fail no more."""
        for record in (self.calls, self.placed, self.webhooks, self.refusals):
            record.clear()
        self.rest.forget()
        self.dial_status = "completed"

    @property
    def api_url(self) -> str:
        """Where the REST API listens."""
        return self.rest.url

    @property
    def number_resource(self) -> dict[str, Any]:
        """The phone number, as the REST API shows it."""
        return self.rest.account.number

    @property
    def rest_requests(self) -> list[RestRequest]:
        """What the app asked of the REST API."""
        return self.rest.requests

    def rest_fail_next(self, times: int = 1, status: int = 500) -> None:
        """Answer the next REST requests with `status`; 0 drops the connection."""
        self.rest.failures += [status] * times

    def call(
        self,
        *,
        caller: str = "+15552223333",
        call_sid: str | None = None,
        path: str | None = None,
        faults: StreamFaults | None = None,
        **unusual: Any,
    ) -> Call:
        """Place a call and return at once, while it rings.

        `path` replaces the path and query of the voice URL. What else is `unusual` about the call
        are the fields of `CallSetup`: signatures, form, headers and a handset.
        """
        sid = call_sid or "CA" + secrets.token_hex(16)
        voice_url = self.public_url + path if path else self.to_public(self.voice_url)
        setup = CallSetup(sid, caller, voice_url, **unusual)
        call = Call(self, setup, faults or StreamFaults())
        self.calls[call.sid] = call
        self.placed.append(call)
        self.on_loop(lambda: self.spawn(call.live()))
        return call

    # Addresses and signatures

    @property
    def stream_scheme(self) -> str:
        """What the URL of a stream begins with: `wss`, but at an address on this machine."""
        is_local = self.public_url.startswith("http://127.0.0.1:")
        return "ws" if is_local else "wss"

    def signature(self, url: str, fields: dict[str, str]) -> str:
        """Return the X-Twilio-Signature of a request to this public URL."""
        return str(RequestValidator(self.auth_token).compute_signature(url, fields))

    def to_public(self, local: str) -> str:
        """Return the public URL of a local http URL of the app."""
        parts = urlsplit(local)
        return self.public_url + urlunsplit(("", "", parts.path, parts.query, parts.fragment))

    def to_local(self, url: str) -> str | None:
        """Return where to connect for a public https or wss URL; None if it isn't the app's."""
        public, local = urlsplit(self.public_url), urlsplit(self.voice_url)
        parts = urlsplit(url)
        if parts.netloc != public.netloc or not parts.path.startswith(public.path):
            return None
        scheme = "ws" if parts.scheme == self.stream_scheme else "http"
        if local.scheme == "https":
            scheme += "s"
        path = parts.path[len(public.path) :]
        return urlunsplit((scheme, local.netloc, path, parts.query, ""))

    # Between the test's thread and the loop

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 30) -> T:
        """Run a coroutine on the loop and return its result."""
        return self._loop.run(work, timeout)

    def on_loop(self, action: Callable[[], object]) -> None:
        """Run a function on the loop and wait until it is done."""
        self._loop.do(action)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that `stop` waits for; on the loop only."""
        return self._loop.spawn(work)

    async def _open(self) -> None:
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        await self.rest.open(self._port)

    async def _close(self) -> None:
        for call in self.placed:
            call.program.end(CallOver("network stopped"))
        if self._loop.tasks:
            await asyncio.wait(list(self._loop.tasks), timeout=5)
        await self._loop.cancel_tasks()
        await self.session.close()
        await self.rest.close()
