"""One page and its phone: what the page asks for is done, what happens is shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import WSMsgType, web

from tools.phone.breaks import Breaker
from tools.phone.exchange import Exchange
from tools.phone.handset import BrowserHandset
from tools.phone.keepsakes import KEPT
from tools.phone.tap import Json
from tools.phone.watch import CallWatch
from tools.simulator.speech import mulaw_to_pcm16

FINISH_SECONDS = 1.0
MOST_UNSENT = 500  # messages; a page that doesn't read loses sound
KEYS = set("0123456789*#")


class BadRequest(Exception):
    """The page asks for what makes no sense; the text says what."""


class Operator:
    """Connect one page with the exchange, for as long as its socket is open.

    Runs on the network's loop. Whoever closes the page hangs up.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.watch: CallWatch | None = None
        self._exchange = exchange
        self._outbox: asyncio.Queue[Json | bytes | None] = asyncio.Queue()  # None: no more
        self._sent_all = asyncio.Event()
        self._handset = BrowserHandset(self._play)
        self._breaker = Breaker(exchange, self._handset, self._tell)

    async def serve(self, socket: web.WebSocketResponse) -> None:
        """Serve the page until it is gone."""
        sending = asyncio.create_task(self._send(socket))
        self._show(self._welcome())
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    self._handset.take(message.data)
                elif message.type is WSMsgType.TEXT:
                    self._obey(message.data)
        finally:
            self._leave()
            sending.cancel()

    async def finish(self) -> None:
        """Show what is left to show, if the page reads it."""
        if self.watch:
            self.watch.look()
        self._outbox.put_nowait(None)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._sent_all.wait(), FINISH_SECONDS)

    def _welcome(self) -> Json:
        breakages = [
            {"name": name, "label": each.label, "about": each.about, "stays": each.stays}
            for name, each in self._breaker.available().items()
        ]
        exchange = self._exchange
        return {
            "show": "welcome",
            "number": exchange.network.number,
            "scripted": exchange.scripted,
            "break": breakages,
            "real": exchange.real,
            "simulated": exchange.simulated,
            "kept": list(KEPT),
        }

    def _leave(self) -> None:
        self._breaker.release()
        if self.watch and not self.watch.call.ended:
            self.watch.call.hang_up()

    # --- to the page ----------------------------------------------------------------------------

    def _play(self, audio: bytes) -> None:
        if self._outbox.qsize() < MOST_UNSENT:
            self._outbox.put_nowait(mulaw_to_pcm16(audio))

    def _show(self, entry: Json) -> None:
        self._outbox.put_nowait(entry)

    def _tell(self, what: str) -> None:
        if self.watch:
            self.watch.tell("you", what)

    async def _send(self, socket: web.WebSocketResponse) -> None:
        while (message := await self._outbox.get()) is not None:
            if isinstance(message, bytes):
                await socket.send_bytes(message)
            else:
                await socket.send_json(message)
        self._sent_all.set()

    # --- from the page --------------------------------------------------------------------------

    def _obey(self, text: str) -> None:
        try:
            request = json.loads(text)
            self._requests[request["do"]](self, request)
        except (ValueError, KeyError, TypeError, BadRequest) as error:
            self._show({"show": "trouble", "text": f"The page asked for nonsense: {error!r}"})

    def _call(self, _: Json) -> None:
        if self.watch and not self.watch.call.ended:
            raise BadRequest("a call is under way")
        self.watch = self._exchange.call(self._show, self._handset)
        self._breaker.call = self.watch.call

    def _hang_up(self, _: Json) -> None:
        if self.watch:
            self.watch.call.hang_up()

    def _press(self, request: Json) -> None:
        if not set(request["keys"]) <= KEYS:
            raise BadRequest("there is no such key")
        if self.watch:
            self.watch.call.press(request["keys"])

    def _break(self, request: Json) -> None:
        self._breaker.act(request["what"], bool(request["on"]))

    _requests: dict[str, Callable[[Any, Json], None]] = {  # noqa: RUF012
        "call": _call,
        "hang up": _hang_up,
        "press": _press,
        "break": _break,
    }
