"""How many calls are on the line, and which are over: in all of gunicorn's processes together.

Twilio's webhook and the stream that follows meet whichever process they meet. So a caller is told
that the line is busy only when all processes together have no place left; each writes how many
calls it carries into memory that all of them share. Likewise, a call that one process failed to
hang up is recognised by whichever process it comes back to.
"""

from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from hashlib import sha256
from multiprocessing.sharedctypes import RawArray, RawValue
from typing import Protocol

MOST_PROCESSES = 256
UNUSED = -1
REMEMBERED = 1024  # calls


class Stream(Protocol):
    """A call's stream. This module is imported before gevent patches, so `wire` must not be."""

    @property
    def open(self) -> bool:
        """Whether it takes a place."""


class Places:
    """Counts the calls of all processes that come from one gunicorn master."""

    def __init__(self, tallies: MutableSequence[int]) -> None:
        """Count for this process alone; `tallies` is memory that its children share."""
        self._tallies = tallies
        self._mine = 0  # which of the tallies is this process's
        self._streams = set[Stream]()

    # --- in gunicorn's master ---------------------------------------------------------------------

    def open_tally(self) -> int:
        """Return the number of a tally for a process that is to be forked."""
        number = list(self._tallies).index(UNUSED)
        self._tallies[number] = 0
        return number

    def close_tally(self, number: int) -> None:
        """Forget a process that has ended, however it did, and the calls it had."""
        self._tallies[number] = UNUSED

    # --- in a process that serves -----------------------------------------------------------------

    def use_tally(self, number: int) -> None:
        """Count here the calls of this process."""
        self._mine = number

    @contextmanager
    def taken_by(self, stream: Stream) -> Iterator[None]:
        """Take a place for as long as the stream is open."""
        self._streams.add(stream)
        self._tell()
        try:
            yield
        finally:
            self._streams.discard(stream)
            self._tell()

    def are_taken(self, most: float) -> bool:
        """Tell whether there are `most` calls a process, all processes together."""
        self._tell()
        tallies = [tally for tally in self._tallies if tally != UNUSED]
        return sum(tallies) >= most * len(tallies)

    def _tell(self) -> None:
        self._tallies[self._mine] = sum(stream.open for stream in self._streams.copy())


class Finished:
    """Calls that are over, though Twilio may not know.

    Each has a slot by its ID, so that no lock is needed; a later call may take the slot over.
    """

    def __init__(self, slots: MutableSequence[int]) -> None:
        """Start empty; `slots` is memory that processes share, 64 bits each."""
        self._slots = slots

    def add(self, call_sid: str) -> None:
        """Remember a call."""
        number = short_hash(call_sid)
        self._slots[number % len(self._slots)] = number

    def __contains__(self, call_sid: str) -> bool:
        """Tell whether a call is over."""
        number = short_hash(call_sid)
        return self._slots[number % len(self._slots)] == number


def short_hash(text: str) -> int:
    """Return 64 bits, the same in every process."""
    return int.from_bytes(sha256(text.encode(errors="replace")).digest()[:8], "big")


PLACES = Places(RawArray("i", [UNUSED] * MOST_PROCESSES))
VOICE_FAILURE = RawArray("d", 2)  # see `upstream`
WORKFLOW_FAILURE = RawArray("d", 2)
FINISHED = Finished(RawArray("Q", REMEMBERED))
LEAVING = RawValue("b", False)  # gunicorn's master will soon stop all of them
