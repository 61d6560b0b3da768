"""What is shown of a call, and kept of it for the transcript."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import threading
import time
from typing import Any, NamedTuple, TypeVar

from tools.app_process import Process
from tools.simulator.openai_brain import Turn
from tools.simulator.openai_server import OpenAISimulator
from tools.simulator.twilio_network import Call, Entry

T = TypeVar("T")

COLOURS = {"agent": "\033[36m", "caller": "\033[33m", "app log": "\033[2m", "!": "\033[31m"}
PLAIN = "\033[0m"
WIDTH = 100


class Page:
    """The screen, and what is kept of it for the transcript file."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._colourful = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
        self._lock = threading.Lock()

    def write(self, text: str = "") -> None:
        with self._lock:
            self.lines.append(text)
            print(text, flush=True)

    def entry(self, who: str, what: str, at: float | None = None) -> None:
        """Write what somebody said or did, `at` seconds into the recording."""
        clock = "" if at is None else f"{int(at) // 60}:{at % 60:04.1f}"
        head = f"{clock:>6}  {who:<10}  "
        body = textwrap.wrap(what, self._width - len(head)) or [""]
        lines = [(" " * len(head) if n else head) + line for n, line in enumerate(body)]
        colour = COLOURS.get(who, "") if self._colourful else ""
        with self._lock:
            self.lines += lines
            print(*(colour + line + PLAIN * bool(colour) for line in lines), sep="\n", flush=True)


def _name(response: dict[str, Any]) -> str:
    """Return the name that the app gave an utterance: the one value in its metadata."""
    return str(next(iter(response["metadata"].values())))


class Utterance(NamedTuple):
    """A sentence that the app had spoken; its name is the name of its mark as well."""

    name: str
    text: str
    asked_at: float  # time.monotonic()


class Notes:
    """Write down a call while it happens, from everything that can be seen of it from outside."""

    def __init__(self, page: Page, call: Call, openai: OpenAISimulator, app: Process) -> None:
        self.page = page
        self.call = call
        self.openai = openai
        self.app = app
        self.heard: list[str] = []  # the agent's sentences, heard to their end
        self._seen = {"events": 0, "turns": 0, "lines": 0}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Notes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(5)
        self._look()

    def at(self, monotonic: float) -> float:
        """Return the place in the recording of a moment on the monotonic clock."""
        return max(0.0, monotonic - (self.call.answered_at or monotonic))

    def utterances(self) -> list[Utterance]:
        """List what the app has had spoken so far."""
        return [
            Utterance(
                _name(event["response"]),
                event["response"]["input"][-1]["content"][-1]["text"],
                at,
            )
            for session in self.openai.sessions
            for at, event in list(session.received)
            if event.get("type") == "response.create"
        ]

    def settled(self) -> set[str]:
        """Name the utterances that were heard, cleared, or cancelled before they had a mark."""
        marks = {entry.detail["name"] for entry in self.call.events("mark_sent_back")}
        over = (
            event["response"]
            for session in self.openai.sessions
            for event in session.sent_events("response.done")
        )
        cancelled = {
            _name(response)
            for response in over
            if response["metadata"] and response["status"] != "completed"
        }
        return marks | cancelled

    def spoke_before_the_end_of(self, turn: Turn) -> bool:
        """Tell whether a reply was on the line while the workflow was still writing it."""
        sounds = (self.call.started_at + event.t for event in self.call.events("media_received"))
        begun, ended = turn.first_text or turn.accepted, turn.ended or turn.accepted
        return any(begun < at < ended for at in sounds)

    def caller(self, what: str) -> None:
        self.page.entry("caller", what, self.at(time.monotonic()))

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self._look()

    def _look(self) -> None:
        for event in self._new("events", self.call.timeline):
            if handle := getattr(self, f"on_{event.kind}", None):
                handle(self.at(self.call.started_at + event.t), event)
        for turn in self._new("turns", self.openai.brain.turns):
            self.page.entry("", f"the workflow gets: {turn.text}")
        for line in self._new("lines", self.app.lines):
            if self.call.sid in line:
                self.page.entry("app log", line.partition("] ")[2])

    def _new(self, kind: str, things: list[T]) -> list[T]:
        new = things[self._seen[kind] :]
        self._seen[kind] += len(new)
        return new

    # What the phone network sees; by the kind of entry in its timeline

    def on_answered(self, at: float, _: Entry) -> None:
        self.page.entry("phone", "the app answers the call", at)

    def on_mark_sent_back(self, at: float, event: Entry) -> None:
        text = next(said.text for said in self.utterances() if said.name == event.detail["name"])
        if event.detail["how"] == "played":
            self.heard.append(text)
            self.page.entry("agent", text, at)
        else:
            self.page.entry("phone", f"unheard, or cut short: {text}", at)

    def on_clear(self, at: float, event: Entry) -> None:
        unheard = event.detail["ms"] / 1000
        self.page.entry("phone", f"the agent falls silent, with {unheard:.1f} s still to play", at)

    def on_rest(self, at: float, event: Entry) -> None:
        what = "hang up" if "Status" in event.detail else "transfer the call"
        self.page.entry("phone", f"the app has Twilio {what}", at)

    def on_dial(self, at: float, event: Entry) -> None:
        self.page.entry("phone", f"Twilio dials {event.detail['number']}", at)

    def on_dial_answered(self, at: float, _: Entry) -> None:
        self.page.entry("phone", "somebody answers", at)

    def on_dial_failed(self, at: float, event: Entry) -> None:
        self.page.entry("phone", f"nobody answers: {event.detail['status']}", at)

    def on_say(self, at: float, event: Entry) -> None:
        self.page.entry("phone", f"Twilio's own voice: {event.detail['text']}", at)

    def on_stream_error(self, at: float, event: Entry) -> None:
        self.page.entry("!", f"stream error {event.detail['code']}: {event.detail['text']}", at)

    def on_completed(self, at: float, event: Entry) -> None:
        self.page.entry("phone", f"the call is over: {event.detail['reason']}", at)
