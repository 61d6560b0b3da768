"""A call's time, counted by Twilio's frames, with a world's clock that the test turns."""

from __future__ import annotations

import pytest

from frame_clock import FRAME_SECONDS, JITTER_SECONDS, FrameClock
from voice_handler import SOUND


class FrameSource:
    """Frames that come when the test says."""

    def __init__(self) -> None:
        self.world = 1000.0
        self.clock = FrameClock(lambda: self.world)

    def frames(self, count: int, every: float = FRAME_SECONDS) -> None:
        for _ in range(count):
            self.world += every
            self.clock.count()


def test_time_passes_with_the_frames() -> None:
    source = FrameSource()
    source.frames(500)
    assert source.clock() == pytest.approx(10, abs=JITTER_SECONDS)


def test_time_stands_still_without_frames() -> None:
    source = FrameSource()
    source.frames(50)
    before = source.clock()
    source.world += 60
    assert source.clock() == before


def test_frames_that_come_late_all_at_once_are_not_taken_for_silence() -> None:
    source = FrameSource()
    source.frames(500)
    before = source.clock()
    source.world += 6
    source.frames(300, every=0)
    assert source.clock() <= before + JITTER_SECONDS + FRAME_SECONDS


def test_a_little_jitter_costs_no_time() -> None:
    source = FrameSource()
    source.frames(500)
    before = source.clock()
    for _ in range(10):
        source.world += 0.5
        source.frames(25, every=0)
    assert source.clock() == pytest.approx(before + 5, abs=FRAME_SECONDS)


def test_skipped_frames_only_slow_it_down() -> None:
    source = FrameSource()
    source.frames(100, every=2 * FRAME_SECONDS)
    assert source.clock() == pytest.approx(100 * FRAME_SECONDS, abs=FRAME_SECONDS)


def test_sound_is_only_what_bears_its_whole_name() -> None:
    found = SOUND(b'{"event":"media","media":{"payload":"//8="}}')
    assert found
    assert found[1] == b'"//8="'
    assert not SOUND(b'{"event":"media","media":{"no_payload":"//8="}}')
    assert not SOUND(b'{"event":"media","media":{"payload":"no base64"}}')
