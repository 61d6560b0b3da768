"""8 kHz mulaw and PCM16: nothing lost that a telephone carries, nothing added, no seam heard."""

from __future__ import annotations

import audioop
import itertools
import math
import subprocess
import sys
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import utils
from tools.simulator.speech import ToneVoice
from utils import RATES, Downsampler, Upsampler

EVERY_BYTE = bytes(range(256))
LEVEL = 8000
HIGHER_RATES = [rate for rate in RATES if rate > 8000]


def tone(hertz: float, rate: int, seconds: float = 0.5, level: int = LEVEL) -> bytes:
    step = 2 * math.pi * hertz / rate
    samples = (level * math.sin(step * n) for n in range(int(rate * seconds)))
    return array("h", map(round, samples)).tobytes()


def gain(pcm: bytes, rate: int) -> float:
    """Return by how many dB `pcm` is louder than a tone; its first 50 ms let the filter settle."""
    settled = pcm[2 * rate // 20 :]
    return 20 * math.log10(max(1, audioop.rms(settled, 2)) * math.sqrt(2) / LEVEL)


def image(pcm: bytes, rate: int, hertz: float) -> float:
    """Return how loud one tone is in `pcm`, in dB of the tone that was put in."""
    samples = array("h", pcm)[rate // 20 :]
    angles = [2 * math.pi * hertz / rate * n for n in range(len(samples))]
    cosine = sum(sample * math.cos(angle) for sample, angle in zip(samples, angles, strict=True))
    sine = sum(sample * math.sin(angle) for sample, angle in zip(samples, angles, strict=True))
    amplitude = 2 * math.hypot(cosine, sine) / len(samples)
    return 20 * math.log10(max(amplitude, 0.01) / LEVEL)


def lowered(pcm: bytes, rate: int) -> bytes:
    return audioop.ulaw2lin(Downsampler(rate)(pcm), 2)


def raised(pcm: bytes, rate: int) -> bytes:
    return Upsampler(rate)(audioop.lin2ulaw(pcm, 2))


def pieces(sound: bytes, sizes: list[int]) -> list[bytes]:
    cut: list[bytes] = []
    while sound:
        size = sizes[len(cut) % len(sizes)]
        cut.append(sound[:size])
        sound = sound[size:]
    return cut


sizes = st.lists(st.integers(1, 700), min_size=1, max_size=5)


def test_mulaw_decodes_by_the_tables() -> None:
    assert Upsampler(8000)(EVERY_BYTE) == audioop.ulaw2lin(EVERY_BYTE, 2)


def test_pcm_encodes_by_the_tables() -> None:
    pcm = array("h", range(-32768, 32768)).tobytes()
    assert Downsampler(8000)(pcm) == audioop.lin2ulaw(pcm, 2)


def test_mulaw_is_what_it_was_after_going_there_and_back_at_8_khz() -> None:
    again = Downsampler(8000)(Upsampler(8000)(EVERY_BYTE))
    # 0x7F is a negative zero: it comes back as the positive one
    assert again == EVERY_BYTE.replace(b"\x7f", b"\xff")


@pytest.mark.parametrize("rate", RATES)
def test_a_second_stays_a_second(rate: int) -> None:
    assert len(Upsampler(rate)(bytes(8000))) == 2 * rate
    assert len(Downsampler(rate)(bytes(2 * rate))) == 8000


@pytest.mark.parametrize("rate", RATES)
def test_nothing_in_is_nothing_out(rate: int) -> None:
    assert Upsampler(rate)(b"") == b""
    assert Downsampler(rate)(b"") == b""


@pytest.mark.parametrize("rate", RATES)
def test_silence_stays_silent(rate: int) -> None:
    assert Upsampler(rate)(b"\xff" * 400) == bytes(2 * 400 * rate // 8000)
    assert Downsampler(rate)(bytes(2 * 400 * rate // 8000)) == b"\xff" * 400


@pytest.mark.parametrize("rate", HIGHER_RATES)
@pytest.mark.parametrize("hertz", [100, 300, 1000, 2000, 3000, 3400])
def test_speech_passes_as_loud_as_it_was(rate: int, hertz: int) -> None:
    assert gain(lowered(tone(hertz, rate), rate), 8000) == pytest.approx(0, abs=0.3)
    assert gain(raised(tone(hertz, 8000), rate), rate) == pytest.approx(0, abs=0.3)


@pytest.mark.parametrize("rate", HIGHER_RATES)
@pytest.mark.parametrize("hertz", [4600, 5000, 6000, 7000, 7900, 9000, 11_000])
def test_what_a_telephone_cannot_carry_does_not_fold_back(rate: int, hertz: int) -> None:
    if hertz < rate / 2:
        assert gain(lowered(tone(hertz, rate), rate), 8000) < -45


@pytest.mark.parametrize("rate", HIGHER_RATES)
@pytest.mark.parametrize("hertz", [300, 1000, 3000, 3400])
def test_no_image_of_a_tone_is_heard_above_it(rate: int, hertz: int) -> None:
    assert image(raised(tone(hertz, 8000), rate), rate, 8000 - hertz) < -45


@pytest.mark.parametrize("rate", RATES)
def test_the_loudest_sound_is_not_torn(rate: int) -> None:
    loud = 32_767
    down = audioop.ulaw2lin(Downsampler(rate)(tone(1000, rate, level=loud)), 2)
    up = Upsampler(rate)(audioop.lin2ulaw(tone(1000, 8000, level=loud), 2))
    for pcm, pace in ((down, 8000), (up, rate)):
        samples = array("h", pcm)[pace // 20 :]
        steepest = max(abs(b - a) for a, b in itertools.pairwise(samples))
        assert steepest < 1.2 * loud * 2 * math.pi * 1000 / pace


@pytest.mark.parametrize("rate", RATES)
@settings(max_examples=10)
@given(sound=st.binary(max_size=2000), sizes=sizes)
def test_no_seam_is_heard_where_mulaw_is_cut(rate: int, sound: bytes, sizes: list[int]) -> None:
    convert = Upsampler(rate)
    assert b"".join(map(convert, pieces(sound, sizes))) == Upsampler(rate)(sound)


@pytest.mark.parametrize("rate", RATES)
@settings(max_examples=10)
@given(sound=st.binary(max_size=4000), sizes=sizes)
def test_no_seam_is_heard_where_pcm_is_cut(rate: int, sound: bytes, sizes: list[int]) -> None:
    convert = Downsampler(rate)
    assert b"".join(map(convert, pieces(sound, sizes))) == Downsampler(rate)(sound)


@pytest.mark.parametrize("rate", RATES)
def test_two_calls_do_not_hear_each_other(rate: int) -> None:
    ours, theirs = Downsampler(rate), Downsampler(rate)
    sound = tone(1000, rate, 0.1)
    heard = b""
    for piece in pieces(sound, [960]):
        heard += ours(piece)
        theirs(tone(400, rate, 0.02))
    assert heard == Downsampler(rate)(sound)


@pytest.mark.parametrize("rate", RATES)
def test_words_survive_both_conversions(rate: int) -> None:
    voice = ToneVoice()
    words = "Grüße aus dem Modem"
    mulaw = Downsampler(rate)(voice.speak(words, rate) + bytes(rate // 5))
    assert voice.hear(audioop.ulaw2lin(mulaw, 2)) == words
    assert voice.hear(Upsampler(rate)(mulaw), rate) == words


@pytest.mark.parametrize("rate", [0, 11_025, 44_100, 48_000])
def test_another_rate_is_refused_by_name(rate: int) -> None:
    for converter in (Upsampler, Downsampler):
        with pytest.raises(ValueError, match=str(rate)):
            converter(rate)


def test_the_deprecation_of_audioop_is_not_shown_to_users() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", "import utils"],
        cwd=Path(utils.__file__).parent,
        capture_output=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, b"")
