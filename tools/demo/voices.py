"""The ears and the mouth of a call without keys: real ones where they can be had, and what else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tools.demo.caller import WORDS, recording
from tools.simulator.real_speech import HibariMouth, MoonshineEars, RecordingsByHeart
from tools.simulator.speech import Ears, Mouth, ToneVoice

T = TypeVar("T")

REAL_EARS = "the ears: Moonshine, a speech recogniser, hears the phone sound that the app relayed"
REAL_MOUTH = "the mouth: Hibari, a speech synthesizer, says what the app asks it to"
NO_EARS = (
    "the ears: they know the caller's recordings by their sound and understand no speech. For real"
    " ones, install requirements-demo.txt ({})"
)
NO_MOUTH = (
    "the mouth: it speaks in tones, which only the simulator understands. For a real one, install"
    " requirements-demo.txt ({})"
)

NOT_WANTED = None, "not wanted"


class Voices:
    """Ears and a mouth: Moonshine and Hibari, or what stands in for them.

    Loading the models takes seconds, and using them much of a core; `models` says whether to.
    """

    def __init__(self, models: bool = True) -> None:
        self.real_ears, no_ears = _make(MoonshineEars) if models else NOT_WANTED
        self.real_mouth, no_mouth = _make(HibariMouth) if models else NOT_WANTED
        self.real: list[str] = []
        self.missing: list[str] = []
        self._tell(self.real_ears, REAL_EARS, NO_EARS.format(no_ears))
        self._tell(self.real_mouth, REAL_MOUTH, NO_MOUTH.format(no_mouth))

    def _tell(self, voice: object, real: str, missing: str) -> None:
        if voice:
            self.real.append(real)
        else:
            self.missing.append(missing)

    @property
    def ears(self) -> Ears:
        return self.real_ears or RecordingsByHeart(
            {words: recording(name) for name, words in WORDS.items()}
        )

    @property
    def mouth(self) -> Mouth:
        return self.real_mouth or ToneVoice()


def _make(kind: Callable[[], T]) -> tuple[T | None, str]:
    """Make ears or a mouth; where that can't be, return None and why."""
    try:
        return kind(), ""
    except (ImportError, OSError) as error:
        return None, str(error)
