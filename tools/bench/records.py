"""What is noted during a run, sample by sample."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field


def samples() -> array[float]:
    """Return room for samples, in seconds."""
    return array("d")


@dataclass
class Records:
    """The samples of one run, in seconds each; frames count if sent from `begin` to `end`."""

    begin: float = math.inf
    end: float = math.inf
    uplink: array[float] = field(default_factory=samples)
    """From a frame sent by Twilio to the same frame seen by Realtime."""
    uplink_starting: array[float] = field(default_factory=samples)
    """The same for frames sent before `begin`, while calls come in."""
    down: array[float] = field(default_factory=samples)
    """From audio sent by Realtime to the same audio at the caller: each reply's first."""
    clear: array[float] = field(default_factory=samples)
    """From speech_started to `clear`."""
    turn: array[float] = field(default_factory=samples)
    """From a transcript to the first audio of its reply, less what the script took."""
    greeting: array[float] = field(default_factory=samples)
    """From `start` to the first audio of the greeting, less what the script took."""
    lateness: array[float] = field(default_factory=samples)
    """How much later than due the generator itself sent a frame."""
    late: int = 0
    """Replies that began with something else than their first sentence, or not at all."""
    dropped: int = 0
    """Calls that the app ended."""
    lost: int = 0
    """Frames that Realtime never saw."""
    damaged: int = 0
    """Frames that came out otherwise than they went in (every 50th is looked at)."""


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share (0 to 1) of the values doesn't exceed; NaN if there are none.

    >>> percentile([4, 1, 3, 2], 0.5)
    2
    """
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
