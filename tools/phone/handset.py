"""The microphone and the earpiece of the page, at the end of a phone call."""

from __future__ import annotations

from collections.abc import Callable

from tools.simulator.playback import FRAME, SILENCE
from tools.simulator.speech import is_audible, mixed, pcm16_to_mulaw

MOST_WAITING = 50 * FRAME  # what is older is left out
TOO_MUCH = 10 * FRAME  # to wait for a pause in what is said
CUSHION = FRAME // 4  # what may wait for nothing
LOOK_FRAMES = 50  # a second


class JitterBuffer:
    """Sound that comes in bits, when it likes, and is taken 20 ms at a time, on the tick.

    Where some of it has waited for nothing all through a second, as much is left out, in a pause if
    it isn't too much: so what is late once doesn't stay late.
    """

    def __init__(self) -> None:
        self._sound = bytearray()
        self._least = MOST_WAITING  # that was left at any tick of this second
        self._ticks = 0

    def put(self, mulaw: bytes) -> None:
        """Add sound, any length."""
        self._sound += mulaw
        del self._sound[:-MOST_WAITING]

    def take(self) -> bytes:
        """Return the next 20 ms; silence if there isn't as much."""
        frame = SILENCE
        if len(self._sound) >= FRAME:
            frame = bytes(self._sound[:FRAME])
            del self._sound[:FRAME]
        self._catch_up()
        return frame

    def _catch_up(self) -> None:
        self._least = min(self._least, len(self._sound))
        self._ticks += 1
        if self._ticks < LOOK_FRAMES:
            return
        spare = max(0, self._least - CUSHION)
        if spare > TOO_MUCH or not is_audible(bytes(self._sound[:spare])):
            del self._sound[:spare]
            self._ticks = 0
            self._least = MOST_WAITING


class BrowserHandset:
    """Take the page's sound for the phone network, and its sound for the page.

    Runs on the network's loop.
    """

    def __init__(self, play: Callable[[bytes], None]) -> None:
        self.echo: Callable[[bytes], bytes] | None = None  # how the room returns the earpiece
        self.noise: Callable[[], bytes] | None = None  # what else there is to hear
        self.sidetone = False  # whether the earpiece has the microphone, too
        self._play = play
        self._microphone = JitterBuffer()
        self._frame = SILENCE  # what was said last
        self._returned = SILENCE

    def take(self, pcm16: bytes) -> None:
        """Take sound of the microphone, PCM16 at 8 kHz, any length."""
        self._microphone.put(pcm16_to_mulaw(pcm16))

    def speak(self) -> bytes:
        """Return the next 20 ms for the network."""
        frame = self._microphone.take()
        if self.echo:
            frame = mixed(frame, self._returned)
        if self.noise:
            frame = mixed(frame, self.noise())
        self._frame = frame
        return frame

    def hear(self, audio: bytes) -> None:
        """Have the page play 20 ms, and the room return it."""
        self._play(mixed(audio, self._frame) if self.sidetone else audio)
        if self.echo:
            self._returned = self.echo(audio)
