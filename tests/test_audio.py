"""G.711 and PCM16 at 8 and 24 kHz: nothing lost that a telephone carries, nothing added."""

from __future__ import annotations

import audioop
import math
from array import array

import pytest

import utils
from tools.simulator.speech import ToneVoice

EVERY_BYTE = bytes(range(256))


def tone(hertz: float, rate: int, seconds: float = 0.5, level: int = 8000) -> bytes:
    samples = (level * math.sin(2 * math.pi * hertz * n / rate) for n in range(int(rate * seconds)))
    return array("h", map(round, samples)).tobytes()


def loudness(pcm: bytes) -> float:
    """Return the level in dB, the first and last 20 ms left out: a filter has to settle."""
    edge = 2 * 160
    return 20 * math.log10(max(1, audioop.rms(pcm[edge:-edge], 2)))


def test_mulaw_decodes_by_the_tables() -> None:
    assert utils.mulaw_to_pcm16(EVERY_BYTE) == audioop.ulaw2lin(EVERY_BYTE, 2)


def test_pcm_encodes_by_the_tables() -> None:
    pcm = array("h", range(-32768, 32768, 7)).tobytes()
    assert utils.pcm16_to_mulaw(pcm) == audioop.lin2ulaw(pcm, 2)


def test_there_and_back_changes_nothing() -> None:
    again = utils.pcm16_to_mulaw(utils.mulaw_to_pcm16(EVERY_BYTE))
    assert utils.mulaw_to_pcm16(again) == utils.mulaw_to_pcm16(EVERY_BYTE)


def test_rates_are_what_they_say() -> None:
    assert len(utils.mulaw_to_pcm16(bytes(8000), 24000)) == pytest.approx(48000, abs=6)
    assert len(utils.pcm16_to_mulaw(bytes(48000), 24000)) == pytest.approx(8000, abs=2)
    assert utils.mulaw_to_pcm16(b"") == utils.pcm16_to_mulaw(b"") == b""
    assert utils.mulaw_to_pcm16(b"", 24000) == utils.pcm16_to_mulaw(b"", 24000) == b""


@pytest.mark.parametrize("hertz", [300, 1000, 2000, 3000])
def test_speech_passes_from_24_khz(hertz: int) -> None:
    heard = audioop.ulaw2lin(utils.pcm16_to_mulaw(tone(hertz, 24000), 24000), 2)
    assert loudness(heard) == pytest.approx(loudness(tone(hertz, 8000)), abs=1)


@pytest.mark.parametrize("hertz", [5000, 6000, 7000, 9000, 11000])
def test_what_a_telephone_cannot_carry_does_not_fold_back(hertz: int) -> None:
    heard = audioop.ulaw2lin(utils.pcm16_to_mulaw(tone(hertz, 24000), 24000), 2)
    assert loudness(heard) < loudness(tone(hertz, 24000)) - 25


@pytest.mark.parametrize("hertz", [300, 1000, 2000])
def test_speech_passes_to_24_khz(hertz: int) -> None:
    mulaw = audioop.lin2ulaw(tone(hertz, 8000), 2)
    assert loudness(utils.mulaw_to_pcm16(mulaw, 24000)) == pytest.approx(
        loudness(tone(hertz, 24000)), abs=2
    )


def test_words_survive_both_conversions() -> None:
    voice = ToneVoice()
    words = "Grüße aus dem Modem, 24 kHz"
    mulaw = utils.pcm16_to_mulaw(bytes(960) + voice.speak(words, 24000) + bytes(9600), 24000)
    assert voice.hear(utils.mulaw_to_pcm16(mulaw)) == words
    assert voice.hear(utils.mulaw_to_pcm16(mulaw, 24000), 24000) == words
