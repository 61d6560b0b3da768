"""Small things that every part of the stand-in for OpenAI uses: ids, items, connections cut."""

from __future__ import annotations

import asyncio
import socket
import struct
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
