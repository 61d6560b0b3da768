"""Audio that carries words: a small modem, so that what anyone "hears" is what was really played.

A burst is a 40 ms chirp (the marker, by which the listener finds the exact sample) followed by one
20 ms symbol per byte of UTF-8. A symbol is three tones at once: the high nibble, the low nibble and
a pilot that counts symbols modulo eight, so that skipped and repeated frames are noticed too.
All tones are multiples of 50 Hz, hence orthogonal over one symbol, and stay below 2.8 kHz, where
mulaw, resampling and low-pass filters leave them alone.
"""

from __future__ import annotations

import audioop
import codecs
import copy
import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, Protocol

RATE = 8000
SYMBOL = RATE // 50
MARKER = 2 * SYMBOL
HIGH_NIBBLE = range(300, 1100, 50)
LOW_NIBBLE = range(1150, 1950, 50)
PILOT = range(2000, 2800, 100)
LOST = 0xFF  # never a byte of valid UTF-8

_SILENCE_RMS = 100
_MARKER_SCORE = 0.5
_SYMBOL_PURITY = 0.6
_ALIGNED_PURITY = 0.8
_LOOKAHEAD = 3 * SYMBOL + 40


class Ears(Protocol):
    """What turns sound into words."""

    def hear(self, pcm16: bytes, rate: int) -> str:
        """Return the words in mono PCM16 at `rate` Hz. May block."""


class Mouth(Protocol):
    """What turns words into sound."""

    def speak(self, text: str, rate: int) -> bytes:
        """Return `text` as mono PCM16 at `rate` Hz (8000 or 24000). May block."""


class ToneVoice:
    """Speak and hear text as tones; a mouth and ears in one. Stateless and thread-safe."""

    def speak(self, text: str, rate: int = RATE) -> bytes:
        """Return one burst of mono PCM16 at `rate` Hz: 40 ms, then 20 ms per byte of UTF-8."""
        symbols = (_symbol(byte, i % len(PILOT), rate) for i, byte in enumerate(text.encode()))
        return _marker(rate) + b"".join(symbols)

    def hear(self, pcm16: bytes, rate: int = RATE) -> str:
        """Return the text of every burst, joined by one space.

        A burst that was cut off gives what was heard of it; a symbol that was skipped or spoilt
        gives U+FFFD.
        """
        if rate != RATE:
            pcm16, _ = audioop.ratecv(pcm16, 2, 1, rate, RATE, None)
        receiver = ToneReceiver()
        receiver.feed(pcm16)
        return receiver.text()


def mulaw_to_pcm16(mulaw: bytes) -> bytes:
    """Decode G.711 mulaw to PCM16 at the same rate."""
    return audioop.ulaw2lin(mulaw, 2)


def pcm16_to_mulaw(pcm16: bytes) -> bytes:
    """Encode PCM16 as G.711 mulaw at the same rate."""
    return audioop.lin2ulaw(pcm16, 2)


def mixed(one: bytes, other: bytes) -> bytes:
    """Return two sounds at once, G.711 mulaw of the same length."""
    both = audioop.add(mulaw_to_pcm16(one), mulaw_to_pcm16(other), 2)
    return pcm16_to_mulaw(both)


def is_audible(mulaw: bytes) -> bool:
    """Tell sound from silence in G.711 mulaw."""
    return audioop.rms(mulaw_to_pcm16(mulaw), 2) >= _SILENCE_RMS


@dataclass
class Burst:
    """What was received of one burst: its bytes and the sample at which each began."""

    data: bytearray = field(default_factory=bytearray)
    at: array[int] = field(default_factory=lambda: array("q"))

    def text(self, since: int = 0) -> str:
        heard = bytes(byte for byte, at in zip(self.data, self.at, strict=True) if at >= since)
        return codecs.getincrementaldecoder("utf-8")("replace").decode(heard)


class ToneReceiver:
    """Hear a stream of 8 kHz PCM16 as it arrives. Not thread-safe."""

    def __init__(self) -> None:
        self.bursts: list[Burst] = []
        self._pcm = bytearray()
        self._dropped = 0  # samples already forgotten from the front of _pcm
        self._at = 0  # sample to look at next
        self._in_step = False  # whether _at is known to be the edge of a symbol
        self._symbols = 0  # symbols of this burst so far, lost ones too
        self._spoilt = 0  # in a row
        self._level = _SILENCE_RMS  # loudness of the last good symbol

    def feed(self, pcm16: bytes) -> None:
        """Take the next samples, any number of them."""
        self._pcm += pcm16
        end = self._dropped + len(self._pcm) // 2
        while self._at + _LOOKAHEAD <= end:
            self._step()
        forget = self._at - MARKER - self._dropped
        if forget > RATE:
            del self._pcm[: 2 * forget]
            self._dropped += forget

    def text(self, since: int = 0) -> str:
        """Return everything heard so far, or only what began at sample `since` or later."""
        ended = copy.deepcopy(self)
        ended.feed(bytes(2 * _LOOKAHEAD))
        return " ".join(filter(None, (burst.text(since) for burst in ended.bursts)))

    def _slice(self, start: int, samples: int) -> bytes:
        start = 2 * (start - self._dropped)
        return bytes(self._pcm[max(0, start) : start + 2 * samples])

    def _step(self) -> None:
        slot = self._slice(self._at, SYMBOL)
        if audioop.rms(slot, 2) < _SILENCE_RMS:
            self._in_step = False
            self._at += SYMBOL
        elif self._in_step:
            self._take(slot)
        elif not self._start_burst(before=40, after=SYMBOL):
            self._fall_in_step()

    def _take(self, slot: bytes) -> None:
        symbol = _read_symbol(slot)
        if symbol.purity >= _SYMBOL_PURITY:
            self._spoilt = 0
            self._level = audioop.rms(slot, 2)
            self._append(symbol)
        elif self._start_burst(before=SYMBOL // 2, after=SYMBOL):
            return
        elif self._falls_silent(slot):  # cut off within the symbol
            self._in_step = False
        else:
            self._lose(1)
            self._spoilt += 1
            self._in_step = self._spoilt < 2
        self._at += SYMBOL

    def _falls_silent(self, slot: bytes) -> bool:
        quarters = (slot[at : at + SYMBOL // 2] for at in range(0, 2 * SYMBOL, SYMBOL // 2))
        return any(audioop.rms(quarter, 2) < self._level * 0.3 for quarter in quarters)

    def _append(self, symbol: _Symbol) -> None:
        if not self.bursts:
            self.bursts.append(Burst())
        ahead = (symbol.pilot - self._symbols) % len(PILOT)
        if ahead == len(PILOT) - 1 and self._symbols:  # a repeated frame
            return
        self._lose(ahead)
        self._put(symbol.byte)

    def _lose(self, symbols: int) -> None:
        for _ in range(symbols):
            self._put(LOST)

    def _put(self, byte: int) -> None:
        if self.bursts:
            self.bursts[-1].data.append(byte)
            self.bursts[-1].at.append(self._at)
            self._symbols += 1

    def _start_burst(self, before: int, after: int) -> bool:
        """Look for a marker that begins from `before` samples ago to `after` samples ahead."""
        start = max(self._at - before, self._dropped)
        sound = self._slice(start, self._at + after - start + MARKER)
        offset, _ = audioop.findfit(sound, _marker(RATE))
        if _likeness(sound[2 * offset : 2 * (offset + MARKER)], _marker(RATE)) < _MARKER_SCORE:
            return False
        self.bursts.append(Burst())
        self._symbols = self._spoilt = 0
        self._at = start + offset + MARKER
        self._in_step = True
        return True

    def _fall_in_step(self) -> None:
        """Find the edge of a symbol without a marker: after a gap, or in a recording's middle."""

        def purity(at: int) -> float:
            return _read_symbol(self._slice(at, SYMBOL)).purity

        coarse = max(range(self._at, self._at + SYMBOL, 8), key=purity)
        fine = max(range(max(self._dropped, coarse - 7), coarse + 8), key=purity)
        self._in_step = purity(fine) >= _ALIGNED_PURITY
        self._at = fine if self._in_step else self._at + SYMBOL
        self._spoilt = 0


class _Symbol(NamedTuple):
    byte: int
    pilot: int
    purity: float  # share of the sound's energy that is in the symbol's three tones


def _read_symbol(slot: bytes) -> _Symbol:
    loudness = audioop.rms(slot, 2) ** 2
    if not loudness:
        return _Symbol(0, 0, 0.0)
    high, low, pilot = (
        max((_power(slot, hertz), n) for n, hertz in enumerate(band))
        for band in (HIGH_NIBBLE, LOW_NIBBLE, PILOT)
    )
    purity = (high[0] + low[0] + pilot[0]) / loudness
    return _Symbol(high[1] << 4 | low[1], pilot[1], purity)


def _power(slot: bytes, hertz: int) -> float:
    sine, cosine = _probes(hertz)
    return (
        audioop.findfactor(slot, sine) ** 2 + audioop.findfactor(slot, cosine) ** 2
    ) * _PROBE_POWER


def _likeness(sound: bytes, reference: bytes) -> float:
    """Return the squared normalized correlation, 0 to 1."""
    loudness = audioop.rms(sound, 2)
    if not loudness:
        return 0.0
    return float(audioop.findfactor(sound, reference) * audioop.rms(reference, 2) / loudness) ** 2


_PROBE_LEVEL = 10_000
_PROBE_POWER = _PROBE_LEVEL**2 / 2


@lru_cache(None)
def _probes(hertz: int) -> tuple[bytes, bytes]:
    turn = 2 * math.pi * hertz / RATE
    return (
        _samples(SYMBOL, lambda n: _PROBE_LEVEL * math.sin(turn * n)),
        _samples(SYMBOL, lambda n: _PROBE_LEVEL * math.cos(turn * n)),
    )


@lru_cache(None)
def _symbol(byte: int, pilot: int, rate: int) -> bytes:
    tones = _tone(HIGH_NIBBLE[byte >> 4], 6000, rate), _tone(LOW_NIBBLE[byte & 15], 6000, rate)
    return audioop.add(audioop.add(*tones, 2), _tone(PILOT[pilot], 4000, rate), 2)


@lru_cache(None)
def _tone(hertz: int, level: int, rate: int) -> bytes:
    return _samples(rate // 50, lambda n: level * math.sin(2 * math.pi * hertz * n / rate))


@lru_cache(None)
def _marker(rate: int) -> bytes:
    """Return a chirp from 400 to 2600 Hz in 40 ms."""

    def sample(n: int) -> float:
        t = n / rate
        return 9000 * math.sin(2 * math.pi * (400 + 2200 * t / 0.08) * t)

    return _samples(rate // 25, sample)


def _samples(count: int, value: Callable[[int], float]) -> bytes:
    return array("h", (round(value(n)) for n in range(count))).tobytes()
