"""Small things that every part of the stand-in for OpenAI uses: ids and items."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

Json = dict[str, Any]


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid4().hex[:24]}"


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
