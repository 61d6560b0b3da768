"""A call's own time, told by the sound that Twilio sends."""

from collections.abc import Callable
from time import monotonic

FRAME_SECONDS = 0.02
JITTER_SECONDS = 1.0


class FrameClock:
    """The time of a call in seconds: Twilio sends a frame of sound every 20 ms, silence or not.

    So it stands still while this process does, or the line: nobody is taken for silent, and no
    mark for missing, because we were late.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        """Begin at 0; `now` is the time of the world, in seconds."""
        self.frames = 0
        self._now = now
        self._counted_until = 0.0

    def count(self) -> None:
        """Count a frame; of frames that come late, all at once, no more than JITTER_SECONDS."""
        now = self._now()
        self._counted_until = max(self._counted_until, now - JITTER_SECONDS)
        if self._counted_until < now:
            self._counted_until += FRAME_SECONDS
            self.frames += 1

    def __call__(self) -> float:
        """Return the time."""
        return self.frames * FRAME_SECONDS
