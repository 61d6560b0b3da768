"""Small things that every part of the stand-in for OpenAI uses: ids, items, connections cut."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any
from uuid import uuid4

Json = dict[str, Any]


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid4().hex[:24]}"


def reset_connection(transport: asyncio.BaseTransport | None) -> None:
    """Drop a TCP connection with a reset instead of an orderly end."""
    if transport is None or transport.is_closing():
        return
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert isinstance(transport, asyncio.Transport)
    transport.abort()


class StrictFrames:
    """Hand a peer's WebSocket frames on to aiohttp's `reader`, once their heads are sound.

    aiohttp forgives what RFC 6455 (5.1, 5.2) forbids: a client's frame that is not masked, a
    server's that is, and a length in more bytes than it needs. `complain` is told of the first such
    frame, and nothing is read after.
    """

    def __init__(self, reader: Any, complain: Callable[[str], None], *, masked: bool) -> None:
        self._reader, self._complain, self._data = reader, complain, bytearray()
        self._masked = masked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Read on, as aiohttp calls it."""
        self._data += data
        while len(self._data) >= 2:
            short = self._data[1] & 127
            extra = {126: 2, 127: 8}.get(short, 0)
            if len(self._data) < 2 + extra:
                break
            size = int.from_bytes(self._data[2 : 2 + extra], "big") if extra else short
            if fault := self._fault(extra, size):
                self._complain(fault)
                return True, b""
            end = 2 + extra + 4 * self._masked + size
            if len(self._data) < end:
                break
            del self._data[:end]
        done: tuple[bool, bytes] = self._reader.feed_data(data)
        return done

    def _fault(self, extra: int, size: int) -> str:
        masked = bool(self._data[1] & 128)
        if masked != self._masked:
            return "a frame is masked" if masked else "a frame is not masked"
        if size < {0: 0, 2: 126, 8: 65536}[extra]:
            return f"a length of {size} is written in {extra} bytes, more than it needs"
        return ""


def realtime_message(item_id: str, role: str, status: str, content: list[Json]) -> Json:
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "role": role,
        "status": status,
        "content": content,
    }


def halves(text: str) -> list[str]:
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]
