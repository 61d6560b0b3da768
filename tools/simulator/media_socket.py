"""Twilio's WebSocket to the app: its handshake, its two directions, and how to disturb each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from tools.simulator.sockets import (
    ClientSocket,
    read_strictly,
    reset_connection,
    transport_of,
    was_redirected,
)

HANDSHAKE_SECONDS = 10.0
LEAVE_SECONDS = 1.0  # for what is still to be sent

HANDSHAKE_REFUSED = 31920
CONNECTION_REFUSED = 31902
CONNECTION_TIMEOUT = 31901


class NoConnection(Exception):
    """The WebSocket could not be opened; `code` is Twilio's error code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


async def open_socket(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str]
) -> ClientSocket:
    """Open a WebSocket as Twilio does. Raise NoConnection."""
    timeout = aiohttp.ClientWSTimeout(ws_close=2.0)
    opening = session.ws_connect(
        URL(url, encoded=True), headers=headers, max_msg_size=0, timeout=timeout
    )
    try:
        connection = await asyncio.wait_for(opening, HANDSHAKE_SECONDS)
    except aiohttp.WSServerHandshakeError as error:
        raise NoConnection(HANDSHAKE_REFUSED, f"the app answered HTTP {error.status}") from error
    except (asyncio.TimeoutError, TimeoutError) as error:
        text = "the app did not answer the handshake"
        raise NoConnection(CONNECTION_TIMEOUT, text) from error
    except (aiohttp.ClientError, OSError) as error:
        raise NoConnection(CONNECTION_REFUSED, f"no connection: {error}") from error
    if was_redirected(connection):
        await connection.close()
        raise NoConnection(HANDSHAKE_REFUSED, "the app answered with a redirect")
    return connection


@dataclass
class _Outgoing:
    data: str | bytes
    is_frame: bool = False


class MediaSocket:
    """One WebSocket that is open. Runs on the network's loop."""

    def __init__(self, connection: ClientSocket) -> None:
        self.frames_sent: list[float] = []  # time.monotonic() of each media message
        self.sending = asyncio.Event()
        self._connection = connection
        self._outbox: asyncio.Queue[_Outgoing | None] = asyncio.Queue()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._writer = asyncio.create_task(self._write())

    @property
    def unsent(self) -> int:
        """How many messages wait to be sent."""
        return self._outbox.qsize()

    def put(self, data: str | bytes, *, is_frame: bool = False) -> None:
        """Send a message, as soon as `sending` is set."""
        self._outbox.put_nowait(_Outgoing(data, is_frame))

    async def _write(self) -> None:
        try:
            while (item := await self._outbox.get()) is not None:
                await self.sending.wait()
                if item.is_frame:
                    self.frames_sent.append(time.monotonic())
                if isinstance(item.data, str):
                    await self._connection.send_str(item.data)
                else:
                    await self._connection.send_bytes(item.data)
        except (aiohttp.ClientError, ConnectionError):
            return  # the reader sees the break too, and says so

    async def receive(self) -> tuple[aiohttp.WSMsgType, Any]:
        """Return the type and the data of the next message, the end included."""
        await self._may_read.wait()
        message = await self._connection.receive()
        return message.type, message.data

    def read_strictly(self, complain: Callable[[str], None]) -> None:
        """Refuse frames that break RFC 6455, and cut the connection then."""

        def refuse(fault: str) -> None:
            complain(fault)
            self.transport.abort()

        read_strictly(self.transport.get_protocol(), refuse, masked=False)

    async def flush(self) -> None:
        """Send what is queued, unless sending is held back; then send no more."""
        self._outbox.put_nowait(None)
        if self.sending.is_set():
            await asyncio.wait([self._writer], timeout=LEAVE_SECONDS)

    async def close(self, code: int = 1000) -> None:
        """Close the WebSocket, whatever is unsent."""
        self._writer.cancel()
        await self._connection.close(code=code)

    @property
    def closed(self) -> bool:
        return bool(self._connection.closed)

    # Faults

    @property
    def transport(self) -> asyncio.Transport:
        """The TCP connection. Raise AssertionError if it is gone."""
        return transport_of(self._connection)

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        reset_connection(self.transport)

    def stall_reading(self, on: bool) -> None:
        """Read nothing more from the connection, or go on."""
        if on:
            self._may_read.clear()
            self.transport.pause_reading()
        else:
            self._may_read.set()
            self.transport.resume_reading()
