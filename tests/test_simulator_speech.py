"""Words must survive what the telephone does to sound, and damage must show."""

from __future__ import annotations

import audioop
import random
import time
from itertools import pairwise

import pytest

from tools.simulator.speech import SYMBOL, ToneReceiver, ToneVoice, mulaw_to_pcm16, pcm16_to_mulaw

voice = ToneVoice()
SENTENCE = "I'd like an oil change on Tuesday at 9.30, please: für 49 € 🚗"
SYMBOL_BYTES = 2 * SYMBOL
MARKER_BYTES = 2 * SYMBOL_BYTES


def through_mulaw(pcm: bytes) -> bytes:
    return mulaw_to_pcm16(pcm16_to_mulaw(pcm))


def through_24_khz(pcm: bytes) -> bytes:
    up, _ = audioop.ratecv(pcm, 2, 1, 8000, 24000, None)
    return audioop.ratecv(up, 2, 1, 24000, 8000, None)[0]


@pytest.mark.parametrize("rate", [8000, 24000])
def test_what_is_spoken_is_heard(rate: int) -> None:
    assert voice.hear(voice.speak(SENTENCE, rate), rate) == SENTENCE


def test_every_byte_survives_mulaw_and_resampling() -> None:
    alphabet = "".join(map(chr, range(256)))
    assert voice.hear(through_mulaw(through_24_khz(through_mulaw(voice.speak(alphabet))))) == (
        alphabet
    )


def test_24_khz_speech_is_heard_at_the_phone() -> None:
    phone, _ = audioop.ratecv(voice.speak(SENTENCE, 24000), 2, 1, 24000, 8000, None)
    assert voice.hear(through_mulaw(phone)) == SENTENCE


@pytest.mark.parametrize("samples", [0, 1, 39, 80, 121, 159, 160, 161, 8003])
def test_leading_silence_of_any_length(samples: int) -> None:
    assert voice.hear(bytes(2 * samples) + voice.speak("hello")) == "hello"


@pytest.mark.parametrize("gain", [0.1, 0.5, 1.4])
def test_loudness_does_not_matter(gain: float) -> None:
    assert voice.hear(audioop.mul(voice.speak(SENTENCE), 2, gain)) == SENTENCE


def test_noise_on_the_line() -> None:
    noise = random.Random(1)
    pcm = bytes(16_000) + voice.speak(SENTENCE) + bytes(16_000)
    hiss = b"".join(
        noise.randint(-2000, 2000).to_bytes(2, "little", signed=True) for _ in range(len(pcm) // 2)
    )
    assert voice.hear(audioop.add(pcm, hiss, 2)) == SENTENCE
    assert voice.hear(hiss) == ""


@pytest.mark.parametrize("gap", [0, 100, 3200, 5001])
def test_several_bursts_are_joined_by_a_space(gap: int) -> None:
    assert voice.hear(voice.speak("one") + bytes(2 * gap) + voice.speak("two")) == "one two"


def test_a_burst_cut_short_gives_what_was_heard() -> None:
    pcm = voice.speak("abcdefgh")
    cut = MARKER_BYTES + 3 * SYMBOL_BYTES
    for extra in (0, 60):
        assert voice.hear(pcm[: cut + extra]) == "abc"
        assert voice.hear(pcm[: cut + extra] + bytes(5000)) == "abc"
        assert voice.hear(pcm[: cut + extra] + voice.speak("new")) == "abc new"
    assert voice.hear(pcm[:MARKER_BYTES]) == ""


def test_a_character_cut_short_is_not_heard() -> None:
    assert voice.hear(voice.speak("5 €")[:-SYMBOL_BYTES]) == "5 "


def test_a_skipped_frame_shows() -> None:
    pcm = voice.speak("abcdefgh")
    at = MARKER_BYTES + 2 * SYMBOL_BYTES
    assert voice.hear(pcm[:at] + pcm[at + SYMBOL_BYTES :]) == "ab\ufffddefgh"
    assert voice.hear(pcm[:at] + pcm[at + 3 * SYMBOL_BYTES :]) == "ab\ufffd\ufffd\ufffdfgh"


def test_a_skipped_frame_across_symbols_shows() -> None:
    pcm = voice.speak("abcdefgh")
    at = MARKER_BYTES + 2 * SYMBOL_BYTES + SYMBOL
    assert voice.hear(pcm[:at] + pcm[at + SYMBOL_BYTES :]) == "ab\ufffd\ufffdefgh"


def test_a_frame_of_silence_shows() -> None:
    pcm = voice.speak("abcdefgh")
    at = MARKER_BYTES + 2 * SYMBOL_BYTES
    assert voice.hear(pcm[:at] + bytes(SYMBOL_BYTES) + pcm[at + SYMBOL_BYTES :]) == "ab\ufffddefgh"


def test_a_spoilt_frame_shows() -> None:
    pcm = voice.speak("abcdefgh")
    at = MARKER_BYTES + 2 * SYMBOL_BYTES
    noise = random.Random(2).randbytes(SYMBOL_BYTES)
    assert voice.hear(pcm[:at] + noise + pcm[at + SYMBOL_BYTES :]) == "ab\ufffddefgh"


def test_a_repeated_frame_does_no_harm() -> None:
    pcm = voice.speak("abcdefgh")
    at = MARKER_BYTES + 2 * SYMBOL_BYTES
    assert voice.hear(pcm[:at] + pcm[at - SYMBOL_BYTES : at] + pcm[at:]) == "abcdefgh"


@pytest.mark.parametrize("gap", [0, 37, 160, 1234])
def test_a_gap_between_symbols_does_no_harm(gap: int) -> None:
    pcm = voice.speak("abcdefgh")
    at = MARKER_BYTES + 4 * SYMBOL_BYTES
    assert voice.hear(pcm[:at] + bytes(2 * gap) + pcm[at:]) == "abcdefgh"


def test_a_start_that_was_missed_shows() -> None:
    pcm = voice.speak("abcdefgh")
    assert voice.hear(pcm[MARKER_BYTES + 2 * SYMBOL_BYTES + 50 :]) == "\ufffd\ufffd\ufffddefgh"


def test_listening_as_it_arrives_is_the_same() -> None:
    pcm = bytes(1234) + voice.speak("first one.") + bytes(30_000) + voice.speak("second one.")
    receiver = ToneReceiver()
    heard = []
    for at in range(0, len(pcm), SYMBOL_BYTES):
        receiver.feed(pcm[at : at + SYMBOL_BYTES])
        heard.append(receiver.text())
    assert heard[-1] == "first one. second one."
    assert all(after.startswith(before) for before, after in pairwise(heard))
    assert receiver.text(since=10_000) == "second one."


def test_hearing_is_quick() -> None:
    pcm = voice.speak("x" * 148)  # 3 s
    voice.hear(pcm)
    started = time.thread_time()  # a busy machine takes none of it
    voice.hear(pcm)
    assert time.thread_time() - started < 0.3, "a tenth of the time it takes to say it"
