"""The two directions of a phone call's sound, in frames of 20 ms of 8 kHz mulaw."""

from __future__ import annotations

import io
import sys
import threading
import time
import wave
from array import array
from typing import Protocol

from tools.simulator.playback import FRAME, SILENCE
from tools.simulator.speech import ToneReceiver, is_audible, mixed, mulaw_to_pcm16
from tools.simulator.timeline import Timeline


class Handset(Protocol):
    """What a person speaks into and listens to, 20 ms at a time. Used on the network's loop."""

    def speak(self) -> bytes:
        """Return the next 20 ms of what is said."""

    def hear(self, audio: bytes) -> None:
        """Take the next 20 ms of what is to be heard, silence included."""


class OnTheHook:
    """The handset of a caller who speaks by `Call.say` alone."""

    def speak(self) -> bytes:
        return SILENCE

    def hear(self, audio: bytes) -> None:
        pass


class CallerVoice:
    """What the caller says: what is queued, over what a handset picks up.

    Runs on the network's loop.
    """

    def __init__(self, timeline: Timeline, handset: Handset) -> None:
        self.track = bytearray()
        self._timeline = timeline
        self._handset = handset
        self._queue = bytearray()
        self._speaking = False

    @property
    def pending(self) -> bool:
        """Whether something queued is still to be said."""
        return bool(self._queue)

    def say(self, mulaw: bytes) -> None:
        """Queue words behind what is still being said."""
        self._queue += mulaw + SILENCE[: -len(mulaw) % FRAME]

    def next_frame(self) -> bytes:
        """Return the next 20 ms, silence if nothing is to be said."""
        queued = bytes(self._queue[:FRAME])
        del self._queue[:FRAME]
        if bool(queued) != self._speaking:
            self._speaking = bool(queued)
            self._timeline.note("caller_speaks" if queued else "caller_silent")
        frame = self._handset.speak()
        if queued:
            frame = mixed(frame, queued)
        self.track += frame
        return frame


class Earpiece:
    """What the caller hears. Fed on the network's loop, asked from any thread."""

    def __init__(self, timeline: Timeline, handset: Handset) -> None:
        self.track = bytearray()
        self._timeline = timeline
        self._handset = handset
        self._playing_since: float | None = None
        self._last_audible_at = 0.0
        self._receiver = ToneReceiver()
        self._received = 0  # bytes of the track that the receiver has had
        self._receiving = threading.Lock()

    @property
    def quiet_for(self) -> float:
        """Seconds since something was last heard; 0 before the first time."""
        return time.monotonic() - self._last_audible_at if self._last_audible_at else 0.0

    def play(self, audio: bytes) -> None:
        """Let 20 ms pass, with this much sound in them."""
        if not audio:
            self.stop()
        elif self._playing_since is None:
            self._playing_since = self._timeline.now()
        if is_audible(audio):
            self._last_audible_at = time.monotonic()
        frame = audio + SILENCE[len(audio) :]
        self.track += frame
        self._handset.hear(frame)

    def stop(self) -> None:
        """Note that playing has come to its end, if something was playing."""
        if self._playing_since is None:
            return
        since, until = round(self._playing_since, 3), round(self._timeline.now(), 3)
        self._playing_since = None
        self._timeline.note("played", since=since, until=until)

    def words(self, since_seconds: float) -> str:
        """Return the words played from so many seconds into the track."""
        with self._receiving:
            new = bytes(self.track[self._received :])
            self._received += len(new)
            self._receiver.feed(mulaw_to_pcm16(new))
            return self._receiver.text(since=round(max(0.0, since_seconds) * 8000))


def stereo_wav(left: bytes, right: bytes) -> bytes:
    """Return a WAV, 8 kHz, of two tracks of mulaw."""
    length = min(len(left), len(right))
    samples = array("h", bytes(4 * length))
    samples[::2] = array("h", mulaw_to_pcm16(left[:length]))
    samples[1::2] = array("h", mulaw_to_pcm16(right[:length]))
    if sys.byteorder == "big":
        samples.byteswap()
    return wav_file(samples.tobytes(), channels=2)


def wav_file(pcm16: bytes, channels: int = 1) -> bytes:
    """Return a WAV, 8 kHz, of PCM16."""
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(channels)
        wav.setsampwidth(2)
        wav.setframerate(8000)
        wav.writeframes(pcm16)
    return file.getvalue()
