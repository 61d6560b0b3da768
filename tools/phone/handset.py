"""The microphone and the earpiece of the page, at the end of a phone call."""

from __future__ import annotations

from collections.abc import Callable

from tools.simulator.playback import FRAME, SILENCE
from tools.simulator.speech import mixed, pcm16_to_mulaw

MOST_WAITING = 3 * FRAME  # of the microphone; what is older is dropped
KEPT = FRAME + FRAME // 2  # of it then


class BrowserHandset:
    """Take the page's sound for the phone network, and its sound for the page.

    The browser's clock and the network's tick apart: sound of the microphone waits here for the
    next tick, and where it waits too long some is dropped. Runs on the network's loop.
    """

    def __init__(self, play: Callable[[bytes], None]) -> None:
        self.echo: Callable[[bytes], bytes] | None = None  # how the room returns the earpiece
        self.noise: Callable[[], bytes] | None = None  # what else there is to hear
        self._play = play
        self._spoken = bytearray()
        self._returned = SILENCE

    def take(self, pcm16: bytes) -> None:
        """Take sound of the microphone, PCM16 at 8 kHz, any length."""
        self._spoken += pcm16_to_mulaw(pcm16)
        if len(self._spoken) > MOST_WAITING:
            del self._spoken[:-KEPT]

    def speak(self) -> bytes:
        """Return the next 20 ms for the network."""
        frame = SILENCE
        if len(self._spoken) >= FRAME:
            frame = bytes(self._spoken[:FRAME])
            del self._spoken[:FRAME]
        if self.echo:
            frame = mixed(frame, self._returned)
        if self.noise:
            frame = mixed(frame, self.noise())
        return frame

    def hear(self, audio: bytes) -> None:
        """Have the page play 20 ms, and the room return it."""
        self._play(audio)
        if self.echo:
            self._returned = self.echo(audio)
