"""Text and sound, as pure functions: sentences fit to be spoken, and 8 kHz mulaw to and from PCM16.

What concerns text stands in `text.py` and is imported here, so that others need to know one door.
"""

import math
import warnings
from array import array
from collections.abc import Iterable

from text import heard_part, same_words, sentences, speech_ms

with warnings.catch_warnings():
    # Deprecated in Python 3.11 and 3.12, and a package of its own, audioop-lts, from 3.13 on
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

__all__ = ["Downsampler", "Upsampler", "heard_part", "same_words", "sentences", "speech_ms"]

MULAW_RATE = 8000  # Hz
RATES = (8000, 16_000, 24_000)  # Hz, of PCM16
REACH = 12  # samples at 8 kHz on either side that the low-pass looks at: 1.5 ms of delay


class Upsampler:
    """Convert a stream of 8 kHz mulaw to PCM16.

    Call it with mulaw bytes in chunks of any size; it returns little-endian PCM16 at `rate`
    (8000, 16000 or 24000 Hz). Raises ValueError for any other rate.
    """

    def __init__(self, rate: int) -> None:
        """Begin a stream with silence before it."""
        self._factor = _factor(rate)
        self._taps = _low_pass(self._factor)
        self._history = bytes(2 * (len(self._taps) // self._factor))

    def __call__(self, mulaw: bytes) -> bytes:
        """Return the next stretch of PCM16: 2 bytes a sample, `rate` / 8000 samples a byte."""
        if self._factor == 1:
            return audioop.ulaw2lin(mulaw, 2)
        pcm = self._history + audioop.ulaw2lin(mulaw, 2)
        self._history = pcm[2 * len(mulaw) :]
        samples = _wide(pcm)
        raised = array("h", bytes(2 * len(mulaw) * self._factor))
        for phase in range(self._factor):
            raised[phase :: self._factor] = self._phase(samples, phase, len(mulaw))
        return raised.tobytes()

    def _phase(self, samples: "array[int]", phase: int, count: int) -> "array[int]":
        """Return every `factor`-th sample of the result, `count` of them."""
        taps = self._taps[phase :: self._factor]
        newest = len(samples) - count
        delayed = (samples[newest - n : newest - n + count] for n in range(len(taps)))
        # Only one sample in `factor` is there to fill the filter
        return _weighted_sum(delayed, [tap * self._factor for tap in taps], count)


class Downsampler:
    """Convert a stream of PCM16 to 8 kHz mulaw.

    Call it with little-endian PCM16 at `rate` (8000, 16000 or 24000 Hz) in chunks of any size,
    odd ones, too; it returns mulaw, a byte a sample. What 8 kHz can't carry is filtered out.
    Raises ValueError for any other rate.
    """

    def __init__(self, rate: int) -> None:
        """Begin a stream with silence before it."""
        self._factor = _factor(rate)
        self._taps = _low_pass(self._factor)
        self._held = bytes(2 * (len(self._taps) - self._factor))

    def __call__(self, pcm: bytes) -> bytes:
        """Return the mulaw that is complete; what is left over waits for the next chunk."""
        held = self._held + pcm
        count = (len(held) // 2 - len(self._taps)) // self._factor + 1
        used = 2 * count * self._factor
        self._held = held[used:]
        samples = _wide(held[: len(held) // 2 * 2])
        shifted = (
            samples[n : n + count * self._factor : self._factor] for n in range(len(self._taps))
        )
        return audioop.lin2ulaw(_weighted_sum(shifted, self._taps, count), 2)


def _factor(rate: int) -> int:
    if rate not in RATES:
        raise ValueError(f"PCM16 at {rate} Hz: expected one of {RATES}")
    return rate // MULAW_RATE


def _low_pass(factor: int) -> list[float]:
    """Return a Hamming-windowed sinc at `factor` times 8 kHz: 3.4 kHz pass, 4.6 kHz don't."""
    if factor == 1:
        return [1.0]
    reach = REACH * factor
    return [_sinc(n / factor) / factor * _hamming(n / reach) for n in range(-reach, reach + 1)]


def _sinc(x: float) -> float:
    return math.sin(math.pi * x) / (math.pi * x) if x else 1.0


def _hamming(x: float) -> float:
    return 0.54 + 0.46 * math.cos(math.pi * x)


def _wide(pcm: bytes) -> "array[int]":
    """Return PCM16 as 32-bit samples at half level: sums on the way may be louder than the end."""
    return array("i", audioop.mul(audioop.lin2lin(pcm, 2, 4), 4, 0.5))


def _weighted_sum(parts: "Iterable[array[int]]", weights: list[float], count: int) -> "array[int]":
    """Return the sum of `count` samples each as PCM16, at full level again."""
    total = bytes(4 * count)
    for part, weight in zip(parts, weights, strict=True):
        total = audioop.add(total, audioop.mul(part, 4, weight), 4)
    return array("h", audioop.lin2lin(audioop.mul(total, 4, 2), 4, 2))
