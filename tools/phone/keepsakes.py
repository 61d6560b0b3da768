"""What can be kept of a call: its sound, its text, and a picture of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tools.phone import picture
from tools.phone.tap import Json
from tools.phone.watch import CallWatch


class Keepsake(NamedTuple):
    """A file to save."""

    content_type: str
    make: Callable[[CallWatch], bytes]


def wav(watch: CallWatch) -> bytes:
    """Return the recording: caller left, agent right."""
    return watch.call.recording()


def text(watch: CallWatch) -> bytes:
    """Return the conversation, a line an entry."""
    return "".join(f"{_line(entry)}\n" for entry in watch.entries.all).encode()


def png(watch: CallWatch) -> bytes:
    """Return a picture of both sides' sound, with the times of each turn."""
    turns = watch.stopwatch.turns
    return picture.draw_call(watch.call.recording(), turns, watch.barge_ins)


def _line(entry: Json) -> str:
    minutes, seconds = divmod(entry["at"], 60)
    said = entry["text"]
    if entry.get("state") == "cut":
        heard = entry["heard"]
        said = f"{said[:heard]} [not heard: {said[heard:].strip()}]".strip()
    return f"{int(minutes)}:{seconds:04.1f}  {entry['who']:<9} {said}"


KEPT = {
    "call.wav": Keepsake("audio/wav", wav),
    "call.txt": Keepsake("text/plain", text),
}
if picture.AVAILABLE:
    KEPT["call.png"] = Keepsake("image/png", png)
