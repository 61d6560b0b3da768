"""A relay between the app and OpenAI that tells what passes, and can hold it up.

The app takes it for OpenAI, and OpenAI, real or simulated, for the app. So the page shows the same
of both, and both can be broken in the same ways.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

Json = dict[str, Any]
Tell = Callable[[str, Json], None]

FROM_APP, FROM_VOICE, FROM_WORKFLOW = "app", "voice", "workflow"
ASKED = "asked"  # what the app has sent to the workflow

PER_HOP = {
    *("host", "connection", "upgrade", "keep-alive", "transfer-encoding", "te", "trailer"),
    *("content-length", "content-encoding", "accept-encoding"),
}
NOT_SENT = {None, 1005, 1006, 1015}
MAX_BODY = 8 * 1024 * 1024


class Tap:
    """Relay HTTP and WebSockets to `target`, an origin. Runs on the loop that opens it.

    `tell` gets each JSON event with where it comes from: FROM_APP and FROM_VOICE are Realtime's two
    directions (without the caller's sound), ASKED and FROM_WORKFLOW those of the workflow.
    """

    def __init__(self, target: str, tell: Tell) -> None:
        self.flowing = asyncio.Event()  # cleared: OpenAI stands still
        self.thinking = 0.0  # seconds by which the workflow is slower than it is
        self.port = 0
        self._target = target
        self._tell = tell
        self._client: aiohttp.ClientSession
        self._runner: web.AppRunner

    async def open(self) -> None:
        """Listen on a free port."""
        self.flowing.set()
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._relay)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """End every connection."""
        await self._runner.cleanup()
        await self._client.close()

    async def _relay(self, request: web.Request) -> web.StreamResponse:
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._relay_session(request)
            return await self._relay_request(request)
        except aiohttp.WSServerHandshakeError as refused:
            return web.Response(status=refused.status, text=refused.message)
        except aiohttp.ClientError as error:
            return web.Response(status=502, text=f"OpenAI can't be reached: {error}")

    def _url(self, request: web.Request) -> str:
        return self._target + request.path_qs

    # --- the voice ------------------------------------------------------------------------------

    async def _relay_session(self, request: web.Request) -> web.StreamResponse:
        await self.flowing.wait()
        headers = {"Authorization": request.headers.get("Authorization", "")}
        async with self._client.ws_connect(
            self._url(request), headers=headers, max_msg_size=0
        ) as voice:
            app = web.WebSocketResponse(max_msg_size=0, compress=False)
            await app.prepare(request)
            ways = {
                asyncio.create_task(self._pump(app, voice, FROM_APP)),
                asyncio.create_task(self._pump(voice, app, FROM_VOICE)),
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
            return app

    async def _pump(self, source: Any, sink: Any, whose: str) -> None:
        """Pass on messages until one side ends, and then how it ended."""
        async for message in source:
            await self.flowing.wait()
            if message.type is aiohttp.WSMsgType.TEXT:
                self._notice(whose, message.data)
                await sink.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await sink.send_bytes(message.data)
        await sink.close(code=_sendable(source.close_code))

    def _notice(self, whose: str, text: str) -> None:
        if "input_audio_buffer.append" not in text[:60]:
            self._tell(whose, _parsed(text))

    # --- the workflow ---------------------------------------------------------------------------

    async def _relay_request(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self._tell(ASKED, _parsed(body))
        await self.flowing.wait()
        await asyncio.sleep(self.thinking)
        sent = {name: text for name, text in request.headers.items() if _passes(name)}
        async with self._client.request(
            request.method,
            self._url(request),
            data=body or None,
            headers={**sent, "Accept-Encoding": "identity"},
            allow_redirects=False,
        ) as answer:
            headers = {name: text for name, text in answer.headers.items() if _passes(name)}
            response = web.StreamResponse(status=answer.status, headers=headers)
            await response.prepare(request)
            await self._pour(answer.content, response)
            await response.write_eof()
            return response

    async def _pour(self, content: aiohttp.StreamReader, response: web.StreamResponse) -> None:
        """Pass on an answer as it comes, and tell the events of a streamed one."""
        line = b""
        async for chunk in content.iter_any():
            await self.flowing.wait()
            await response.write(chunk)
            *lines, line = (line + chunk).split(b"\n")
            for each in lines:
                if each.startswith(b"data:"):
                    self._tell(FROM_WORKFLOW, _parsed(each[5:]))


def origin(url: str) -> str:
    """Return the scheme and the host of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _sendable(code: int | None) -> int:
    """Return a close code to pass on: one that stands for a broken connection can't be sent."""
    return 1011 if code in NOT_SENT else int(code or 1000)


def _passes(header: str) -> bool:
    return header.lower() not in PER_HOP


def _parsed(text: str | bytes) -> Json:
    """Return a JSON object; an empty one of what is none."""
    try:
        event = json.loads(text)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
