"""What happened at the stand-in for OpenAI, and a way to wait for it."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from tools.simulator.openai_rules import Blameless, Refusal

if TYPE_CHECKING:
    from tools.simulator.openai_assistants import Thread
    from tools.simulator.openai_http import Conversation, Request
    from tools.simulator.openai_realtime import RealtimeSession

T = TypeVar("T")


class Record:
    """Everything on record. Written on the simulator's loop, read from any thread."""

    def __init__(self) -> None:
        self.sessions: list[RealtimeSession] = []
        self.requests: list[Request] = []
        self.refusals: list[str] = []
        self.conversations: dict[str, Conversation] = {}
        self.threads: dict[str, Thread] = {}
        self._changed = threading.Condition()
        self._changes = 0

    def forget(self) -> None:
        """Forget what happened; conversations and threads are kept, as OpenAI keeps them."""
        for record in (self.sessions, self.requests, self.refusals):
            record.clear()

    def refuse(self, what: str, fault: Refusal) -> None:
        """Note that the client did something wrong, unless the fault is not its own."""
        if not isinstance(fault, Blameless):
            named = f" [{fault.param}]" if fault.param else ""
            self.refusals.append(f"{what}: {fault.code or fault.status}{named}: {fault.message}")
            self.touch()

    def report_bug(self, error: BaseException) -> None:
        """Note a bug of the simulator, so that the test fails."""
        text = "".join(traceback.format_exception(error))
        self.refusals.append(f"BUG IN THE SIMULATOR: {text}")
        self.touch()

    def touch(self) -> None:
        """Wake whoever waits for something to happen."""
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def wait_for(self, probe: Callable[[], T], timeout: float) -> T | None:
        """Block until the probe's value is truthy and return it; None after so many seconds."""
        deadline = time.monotonic() + timeout
        while True:
            before = self._changes
            value = probe()
            left = deadline - time.monotonic()
            if value or left <= 0:
                return value or None
            with self._changed:
                if self._changes == before:
                    self._changed.wait(min(left, 0.05))

    def dump(self, events: int = 12) -> str:
        """Describe what happened lately, for a failing test's message."""
        lines = [f"refusals: {self.refusals}"]
        lines += [f"{r.method} {r.path} -> {r.status}" for r in self.requests[-events:]]
        for session in self.sessions[-3:]:
            lines.append(f"session {session.id} open={session.open} appends={session.appends}")
            lines += _recent(session, events)
        return "\n".join(lines)


def _recent(session: RealtimeSession, events: int) -> list[str]:
    passed = [(at, "<-", event) for at, event in session.received if not _is_append(event)]
    passed += [(at, "->", event) for at, event in session.sent]
    recent = sorted(passed, key=lambda entry: entry[0])[-events:]
    return [f"  {at:.3f} {way} {str(event)[:200]}" for at, way, event in recent]


def _is_append(event: object) -> bool:
    return isinstance(event, dict) and event.get("type") == "input_audio_buffer.append"
