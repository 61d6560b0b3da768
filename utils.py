"""Text and sound, as pure functions: sentences fit to be spoken, and 8 kHz mulaw to and from PCM16.

What is about text stands in rooms of its own: `text.py` cuts a streamed reply into sentences, by
`grammar.py` and `markup.py`; `words.py` counts words. Others import all of it from here.
"""

import math
import warnings
from array import array
from itertools import chain
from typing import TypeAlias

from text import sentences
from words import count_words, heard_part, same_words, speech_ms

with warnings.catch_warnings():
    # Deprecated in Python 3.11 and 3.12, and a package of its own, audioop-lts, from 3.13 on
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

__all__ = [
    "Downsampler",
    "Upsampler",
    "count_words",
    "heard_part",
    "same_words",
    "sentences",
    "speech_ms",
]

Samples: TypeAlias = "array[int]"
Taps: TypeAlias = list[float]

TELEPHONE = 8000  # Hz
RATES = (8000, 16_000, 24_000)  # Hz
REACH = 12  # samples at 8 kHz that the low-pass sees on either side, so 1.5 ms of delay


class Upsampler:
    """Convert a stream of 8 kHz mulaw to PCM16.

    Call it with mulaw in chunks of any size: it returns little-endian PCM16 at `rate` (8000, 16000
    or 24000 Hz), 2 bytes a sample, as long as the chunk. Raises ValueError for any other rate.
    """

    def __init__(self, rate: int) -> None:
        """Begin a stream, with silence before it."""
        factor = _factor(rate)
        self._phases = _phases(factor)
        self._before = _silence(len(self._phases[0]) - 1)

    def __call__(self, mulaw: bytes) -> bytes:
        """Return the next stretch of PCM16."""
        pcm = audioop.ulaw2lin(mulaw, 2)
        samples = self._before + _wide(pcm)
        self._before = samples[len(mulaw) :]
        phases = [_filtered(samples, taps) for taps in self._phases]
        moments = zip(*phases, strict=True)
        raised = array("h", chain.from_iterable(moments))
        return raised.tobytes()


class Downsampler:
    """Convert a stream of PCM16 to 8 kHz mulaw, without what 8 kHz can't carry.

    Call it with little-endian PCM16 at `rate` (8000, 16000 or 24000 Hz) in chunks of any size, odd
    ones, too: it returns mulaw, 1 byte a sample. Raises ValueError for any other rate.
    """

    def __init__(self, rate: int) -> None:
        """Begin a stream, with silence before it."""
        self._factor = _factor(rate)
        self._taps = _low_pass(self._factor)
        self._before = _silence(len(self._taps) - self._factor)
        self._half = b""  # a sample

    def __call__(self, pcm: bytes) -> bytes:
        """Return the mulaw that is complete; what is left over waits for the next chunk."""
        pcm = self._half + pcm
        whole = len(pcm) & ~1
        self._half = pcm[whole:]
        samples = self._before + _wide(pcm[:whole])
        lowered = _filtered(samples, self._taps, self._factor)
        used = len(lowered) * self._factor
        self._before = samples[used:]
        return audioop.lin2ulaw(lowered, 2)


def _factor(rate: int) -> int:
    if rate not in RATES:
        raise ValueError(f"PCM16 at {rate} Hz: expected one of {RATES}")
    return rate // TELEPHONE


def _low_pass(factor: int) -> Taps:
    """Return a Hamming-windowed sinc: of `factor` times 8 kHz, 3.4 kHz passes, 4.6 kHz doesn't."""
    if factor == 1:
        return [1.0]
    reach = REACH * factor
    places = range(-reach, reach + 1)
    return [_tap(place / factor) / factor for place in places]


def _tap(place: float) -> float:
    if place == 0:
        return 1.0
    angle = math.pi * place
    sinc = math.sin(angle) / angle
    window = 0.54 + 0.46 * math.cos(angle / REACH)
    return sinc * window


def _phases(factor: int) -> list[Taps]:
    """Return the taps for each of the `factor` samples that one becomes.

    Zeros between the samples would be filtered along: they are left out, and so the rest is louder.
    """
    taps = [tap * factor for tap in _low_pass(factor)]
    missing = factor - 1
    taps += [0.0] * missing
    taps.reverse()
    firsts = reversed(range(factor))
    return [taps[first::factor] for first in firsts]


def _silence(count: int) -> Samples:
    return array("i", bytes(4 * count))


def _wide(pcm: bytes) -> Samples:
    """Return PCM16 as 32-bit samples at half level: a sum on its way may be louder than its end."""
    full = audioop.lin2lin(pcm, 2, 4)
    return array("i", audioop.mul(full, 4, 0.5))


def _filtered(samples: Samples, taps: Taps, step: int = 1) -> Samples:
    """Return PCM16, each sample a sum by `taps` that begins `step` after the one before."""
    spare = len(samples) - len(taps)
    count = spare // step + 1
    length = count * step
    total = bytes(4 * count)
    for first, tap in enumerate(taps):
        part = samples[first : first + length : step]
        weighed = audioop.mul(part, 4, tap)
        total = audioop.add(total, weighed, 4)
    full = audioop.mul(total, 4, 2)
    return array("h", audioop.lin2lin(full, 4, 2))
