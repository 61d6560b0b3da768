"""WebSockets of aiohttp read more strictly than it reads them, and connections cut.

aiohttp has no public way to its transports and frame parsers: whatever is private to it and used
here is used in this file alone.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

import aiohttp

ClientSocket = aiohttp.ClientWebSocketResponse[bool]

MASK_BIT, LENGTH_BITS = 0x80, 0x7F
EXTRA_BYTES = {126: 2, 127: 8}  # of the length, by what its first byte says
LEAST = {0: 0, 2: 126, 8: 65536}  # the length that needs so many extra bytes
KEY_BYTES = 4


class StrictFrames:
    """Hand a peer's WebSocket frames on to aiohttp's `reader`, once their heads are sound.

    aiohttp forgives what RFC 6455 (5.1, 5.2) forbids: a client's frame that is not masked, a
    server's that is, and a length in more bytes than it needs. `complain` is told of the first such
    frame, and nothing is read after.
    """

    def __init__(self, reader: Any, complain: Callable[[str], None], *, masked: bool) -> None:
        self._reader = reader
        self._complain = complain
        self._masked = masked
        self._data = bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Read on, as aiohttp calls it."""
        self._data += data
        fault = self._skip_sound_frames()
        if fault:
            self._complain(fault)
            return True, b""
        done: tuple[bool, bytes] = self._reader.feed_data(data)
        return done

    def _skip_sound_frames(self) -> str:
        """Forget the whole frames that are there; return what is wrong with the next one."""
        while len(self._data) >= 2:
            short = self._data[1] & LENGTH_BITS
            extra = EXTRA_BYTES.get(short, 0)
            head = 2 + extra
            if len(self._data) < head:
                break
            size = int.from_bytes(self._data[2:head], "big") if extra else short
            fault = self._fault(extra, size)
            if fault:
                return fault
            end = head + KEY_BYTES * self._masked + size
            if len(self._data) < end:
                break
            del self._data[:end]
        return ""

    def _fault(self, extra: int, size: int) -> str:
        masked = bool(self._data[1] & MASK_BIT)
        if masked != self._masked:
            return "a frame is masked" if masked else "a frame is not masked"
        if size < LEAST[extra]:
            return f"a length of {size} is written in {extra} bytes, more than it needs"
        return ""


def read_strictly(protocol: Any, complain: Callable[[str], None], *, masked: bool) -> None:
    """Refuse the frames of aiohttp's connection `protocol` that it would forgive."""
    protocol._payload_parser = StrictFrames(protocol._payload_parser, complain, masked=masked)


def transport_of(connection: ClientSocket | None) -> asyncio.Transport:
    """Return a WebSocket's transport. Raise AssertionError if it is gone."""
    assert connection is not None, "the stream is not connected"
    held = connection._response.connection
    assert held is not None, "the stream is closed"
    assert isinstance(held.transport, asyncio.Transport), "the stream is closed"
    return held.transport


def was_redirected(connection: ClientSocket) -> bool:
    """Tell whether aiohttp followed a redirect to open a WebSocket."""
    return bool(connection._response.history)


def reset_connection(transport: asyncio.BaseTransport | None) -> None:
    """Drop a TCP connection with a reset instead of an orderly end."""
    if transport is None or transport.is_closing():
        return
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert isinstance(transport, asyncio.Transport)
    transport.abort()
