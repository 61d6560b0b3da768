"""A tunnel or a proxy: what stands between the world and the app, and what it may do wrong."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from tools.simulator.loop_thread import LoopThread

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

END_OF_HEAD = b"\r\n\r\n"


@dataclass
class Meddling:
    """What a tunnel does to the requests that it passes on; a test may change it at any time."""

    only: str = ""
    """The path to which alone it does so; "" for all."""
    drop_headers: tuple[str, ...] = ()
    """Names in lower case."""
    set_headers: dict[str, str] = field(default_factory=dict)
    """Such as the Host that it asks for."""
    prefix: str = ""
    """What it puts before every path."""
    answer: int = 0
    """A status that it answers itself, and passes nothing on."""
    body: str = ""
    location: str = ""
    """Of that answer."""
    upgrades: int = 0
    """A status that it answers to upgrades, and passes other requests on."""
    swallow: bool = False
    """Take requests, and never answer."""
    mute: bool = False
    """Pass upgrades on, and their answer, but no frame."""


class Tunnel:
    """Lead requests to `target`, a port of this machine. A context manager.

    A connection carries one request, or one WebSocket.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.does = Meddling()
        self.url = ""
        self._loop = LoopThread("tunnel")

    def __enter__(self) -> Tunnel:
        self._loop.start()
        self._loop.run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.do(self._server.close)
        self._loop.stop()

    # On the loop from here on

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._loop.spawn(self._carry(reader, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = _Head(await reader.readuntil(END_OF_HEAD))
            does = self.does if self.does.only in ("", head.path) else Meddling()
            status = does.answer or (does.upgrades if head.upgrades else 0)
            if does.swallow:
                await reader.read()
            elif status:
                writer.write(own_answer(status, does))
            else:
                await self._pass_on(head, does, reader, writer)
        writer.close()

    async def _pass_on(
        self,
        head: _Head,
        does: Meddling,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        try:
            far = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.write(own_answer(502, does))
            return
        far[1].write(head.rewritten(does))
        if head.upgrades and does.mute:
            writer.write(await far[0].readuntil(END_OF_HEAD))
            await reader.read()
            far[1].close()
        else:
            await join((reader, writer), far)


async def join(near: Streams, far: Streams) -> None:
    """Pass on what either side sends, until one of them ends; then so does the other."""
    ways = [_pour(near[0], far[1]), _pour(far[0], near[1])]
    pouring = [asyncio.create_task(way) for way in ways]
    try:
        await asyncio.wait(pouring, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in pouring:
            way.cancel()
        await asyncio.gather(*pouring, return_exceptions=True)
        for _, writer in (near, far):
            writer.close()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


def own_answer(status: int, does: Meddling) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "Connection: close"]
    if does.location:
        lines.append(f"Location: {does.location}")
    body = does.body.encode()
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + END_OF_HEAD + body


class _Head:
    """The head of a request."""

    def __init__(self, raw: bytes) -> None:
        first, *headers = raw.decode("latin-1").strip().split("\r\n")
        self._method, self._target, self._version = first.split(" ")
        self._headers = [header.split(": ", 1) for header in headers]
        self.path = self._target.partition("?")[0]
        self.upgrades = any(name.lower() == "upgrade" for name, _ in self._headers)

    def rewritten(self, does: Meddling) -> bytes:
        replaced = {name.lower() for name in does.set_headers} | set(does.drop_headers)
        kept = [(name, value) for name, value in self._headers if name.lower() not in replaced]
        if not self.upgrades:
            kept = [(name, value) for name, value in kept if name.lower() != "connection"]
            kept.append(("Connection", "close"))
        first = f"{self._method} {does.prefix}{self._target} {self._version}"
        lines = [first, *(f"{name}: {value}" for name, value in (*kept, *does.set_headers.items()))]
        return "\r\n".join(lines).encode("latin-1") + END_OF_HEAD
