"""The conversation as the page lists it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.phone.tap import Json

Show = Callable[[Json], None]


class Entries:
    """The entries of one call, in order. `show` gets each as it is added, and as it changes."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._by_key: dict[str, Json] = {}

    @property
    def all(self) -> list[Json]:
        """Every entry as it is now."""
        return list(self._by_key.values())

    def put(self, key: str, who: str, text: str, at: float, **more: Any) -> None:
        """Add an entry, `at` seconds into the recording, or change the one that has this key."""
        known = self._by_key.get(key)
        if known:
            at = known["at"]
        entry = {
            "id": key,
            "who": who,
            "text": text,
            "at": round(at, 2),
            **more,
        }
        self._by_key[key] = entry
        self._show({"show": "entry", **entry})

    def tell(self, who: str, text: str, at: float) -> None:
        """Add an entry that stays as it is."""
        number = len(self._by_key)
        self.put(f"{who}-{number}", who, text, at)
