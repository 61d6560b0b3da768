"""How many calls are on the line: in this process, and in those beside it under gunicorn.

Twilio's webhook and the stream that follows meet whichever process they meet. So a caller is told
that the line is busy only when all processes together have no place left; each writes how many
calls it carries into memory that all of them share.
"""

from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from multiprocessing.sharedctypes import RawArray, RawValue

from wire import Connection

MOST_PROCESSES = 256
UNUSED = -1


class Places:
    """Counts the calls of all processes that come from one gunicorn master."""

    def __init__(self, tallies: MutableSequence[int]) -> None:
        """Count for this process alone; `tallies` is memory that its children share."""
        self._tallies = tallies
        self._mine = 0  # which of the tallies is this process's
        self._streams = set[Connection]()

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
    def taken_by(self, stream: Connection) -> Iterator[None]:
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


PLACES = Places(RawArray("i", [UNUSED] * MOST_PROCESSES))
LEAVING = RawValue("b", False)  # gunicorn's master will soon stop all of them
