"""What happened in a call, in order."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """One thing that happened in a call, `t` seconds after it was placed."""

    t: float
    kind: str
    detail: dict[str, Any]

    def __str__(self) -> str:
        detail = " ".join(f"{name}={value!r}" for name, value in self.detail.items())
        return f"{self.t:8.3f}  {self.kind:<18} {detail}".rstrip()


class Timeline:
    """The entries of one call. Written on the network's loop, read from any thread."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.started_at = time.monotonic()
        self._changed = threading.Condition()

    def now(self) -> float:
        """Return the seconds since the call was placed."""
        return time.monotonic() - self.started_at

    def note(self, kind: str, **detail: Any) -> None:
        """Add an entry."""
        self.entries.append(Entry(self.now(), kind, detail))
        with self._changed:
            self._changed.notify_all()

    def of_kind(self, kind: str) -> list[Entry]:
        """Return the entries of one kind."""
        return [entry for entry in self.entries if entry.kind == kind]

    def wait(self, seconds: float) -> None:
        """Block until there is another entry, or so long."""
        with self._changed:
            self._changed.wait(seconds)

    def abridged(self) -> list[str]:
        """Return a line an entry, but for long runs of one kind."""
        lines: list[str] = []
        for kind, run in itertools.groupby(self.entries, key=lambda entry: entry.kind):
            entries = list(run)
            if len(entries) <= 3:
                lines += map(str, entries)
            else:
                more = f"... {len(entries) - 1} more of {kind}, last at {entries[-1].t:.3f}"
                lines += [str(entries[0]), f"{'':8}  {more}"]
        return lines
