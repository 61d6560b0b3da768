"""Real ears and a real mouth for the stand-in of OpenAI Realtime: a recogniser, a synthesizer.

Both carry their models in their wheels (`requirements-demo.txt`), so nothing is downloaded when a
call is made. The packages are loaded when an instance is made, not when this module is imported:
where one of them isn't installed, that raises ImportError (OSError if a library of the system's is
missing), and the other may still work. `RecordingsByHeart` are ears that need nothing installed.
"""

from __future__ import annotations

import audioop
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from tools.simulator.speech import mulaw_to_pcm16, pcm16_to_mulaw

MOUTH_RATE = 24_000
LOUDNESS = 1.3  # makes the synthesizer as loud as the recorded callers
SILENCE_RMS = 100
KNOWN_SAMPLES = 800  # a tenth of a second
LIKENESS = 0.8  # squared correlation, 0 to 1


class MoonshineEars:
    """Ears that know English: Moonshine's tiny model. Thread-safe; one recording at a time."""

    def __init__(self) -> None:
        moonshine: Any = import_module("moonshine_voice")
        self._numpy: Any = import_module("numpy")
        model = Path(moonshine.__file__).parent / "assets" / "tiny-en"
        kind = moonshine.ModelArch.TINY
        self._transcriber: Any = moonshine.Transcriber(model_path=str(model), model_arch=kind)
        self._lock = threading.Lock()

    def hear(self, pcm16: bytes, rate: int) -> str:
        """Return the words in mono PCM16 at `rate` Hz; "" if there are none."""
        # More silence than this before the first word makes Moonshine hear one more.
        speech = pcm16[_sound(pcm16, rate).start :]
        samples = self._numpy.frombuffer(speech, dtype="<i2").astype("float32") / 32768
        with self._lock:
            # What it heard last echoes in its sense of what is speech; silence clears the ears.
            self._transcriber.transcribe_without_streaming([0.0] * (rate // 2), rate)
            heard = self._transcriber.transcribe_without_streaming(samples.tolist(), rate)
        return " ".join(filter(None, (line.text.strip() for line in heard.lines)))


class HibariMouth:
    """A mouth that speaks English: Hibari. Thread-safe; what was said once is remembered."""

    def __init__(self) -> None:
        self._voice: Any = import_module("hibari").Hibari()
        self._numpy: Any = import_module("numpy")
        self._low_pass = _low_pass(self._numpy)
        self._said: dict[str, Any] = {}
        self._lock = threading.Lock()

    def speak(self, text: str, rate: int) -> bytes:
        """Return `text` as mono PCM16 at `rate` Hz (8000 or 24000)."""
        with self._lock:
            if text not in self._said:
                self._said[text] = self._voice(text, seed=0)
            sound = self._said[text]
        if rate != MOUTH_RATE:
            sound = self._numpy.convolve(sound, self._low_pass, "same")[:: MOUTH_RATE // rate]
        loud = (sound * LOUDNESS).clip(-1, 1)
        return bytes((loud * 32767).astype("<i2").tobytes())


class RecordingsByHeart:
    """Ears that understand no speech, but know some recordings by their sound. Stateless."""

    def __init__(self, recordings: dict[str, bytes]) -> None:
        """Take the words of each recording and its PCM16 at 8 kHz."""
        self._known = {words: _loudest_part(pcm16) for words, pcm16 in recordings.items()}

    def hear(self, pcm16: bytes, rate: int) -> str:
        """Return the words of the recording that is in mono PCM16 at `rate` Hz; "" if none is."""
        if rate != 8000:
            pcm16, _ = audioop.ratecv(pcm16, 2, 1, rate, 8000, None)
        pcm16 = pcm16[_sound(pcm16, 8000)]  # audioop finds no fit after a silent start
        if len(pcm16) <= 2 * KNOWN_SAMPLES:
            return ""
        likeness = {words: _likeness(pcm16, part) for words, part in self._known.items()}
        best = max(likeness, key=lambda words: likeness[words])
        return best if likeness[best] > LIKENESS else ""


def _sound(pcm16: bytes, rate: int) -> slice:
    """Return where there is sound, in bytes: from 40 ms before the first to the end of the last."""
    frame = rate // 50 * 2
    places = range(0, len(pcm16), frame)
    loud = [at for at in places if audioop.rms(pcm16[at : at + frame], 2) >= SILENCE_RMS]
    if not loud:
        return slice(0, 0)
    return slice(max(0, loud[0] - 2 * frame), loud[-1] + frame)


def _loudest_part(pcm16: bytes) -> bytes:
    phone_sound = mulaw_to_pcm16(pcm16_to_mulaw(pcm16))
    start = audioop.findmax(phone_sound, KNOWN_SAMPLES)
    return phone_sound[2 * start : 2 * (start + KNOWN_SAMPLES)]


def _likeness(pcm16: bytes, part: bytes) -> float:
    """Return the likeness of `part` and what is most like it in `pcm16`, 0 to 1."""
    start, _ = audioop.findfit(pcm16, part)
    found = pcm16[2 * start : 2 * start + len(part)]
    loudness = audioop.rms(found, 2)
    factor = audioop.findfactor(found, part) if loudness else 0.0
    return float(factor * audioop.rms(part, 2) / max(1, loudness)) ** 2


def _low_pass(numpy: Any) -> Any:
    """Return the taps of a windowed sinc that passes what a phone does, up to 3.4 kHz of 24."""
    n = numpy.arange(-60, 61)
    taps = numpy.sinc(n * 2 * 3600 / MOUTH_RATE) * numpy.blackman(len(n))
    return taps / taps.sum()
