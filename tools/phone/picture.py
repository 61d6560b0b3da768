"""A call as a picture: both sides' sound on one axis, and the times of each turn. Needs Pillow."""

from __future__ import annotations

import io
import wave
from array import array
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tools.phone.turn_times import TurnTimes

AVAILABLE = find_spec("PIL") is not None
NOT_AVAILABLE = "no picture: for one, install requirements-demo.txt (pillow)"

FRAME = 160  # samples in 20 ms
FRAMES_A_SECOND = 50
MARGIN = 40
HALF = 130  # pixels for each side
MIDDLE = MARGIN + HALF
HEIGHT = 2 * MIDDLE
PIXELS_A_SECOND = 40
LEAST_SECONDS = 20.0
MOST_WIDTH = 6000

PAGE, TEXT, QUIET = "#ffffff", "#1b1f24", "#8a929e"
CALLER, AGENT, WAIT, BARGE_IN = "#0b6bcb", "#0f7b4d", "#ffeec2", "#c02626"


class Picture:
    """The drawing of one recording."""

    def __init__(self, caller: list[float], agent: list[float]) -> None:
        """Take the loudness of both sides, 0 to 1, for each 20 ms."""
        seconds = max(LEAST_SECONDS, len(agent) / FRAMES_A_SECOND)
        width = min(MOST_WIDTH, round(seconds * PIXELS_A_SECOND))
        self._seconds = seconds
        self._scale = width / seconds
        self._levels = {CALLER: caller, AGENT: agent}
        self._image = import_module("PIL.Image").new("RGB", (width + 2 * MARGIN, HEIGHT), PAGE)
        self._pen: Any = import_module("PIL.ImageDraw").Draw(self._image)
        self._font: Any = import_module("PIL.ImageFont").load_default(14)

    def draw(self, turns: list[TurnTimes], barge_ins: list[float]) -> bytes:
        """Return the PNG."""
        for turn in turns:
            self._draw_wait(turn)
        self._draw_axis()
        self._draw_sound(CALLER, -1)
        self._draw_sound(AGENT, 1)
        for turn in turns:
            self._draw_steps(turn)
        for at in barge_ins:
            self._line(self._x(at), MARGIN, self._x(at), HEIGHT - MARGIN, BARGE_IN, width=2)
        file = io.BytesIO()
        self._image.save(file, "PNG")
        return file.getvalue()

    def _x(self, seconds: float) -> float:
        return MARGIN + seconds * self._scale

    def _line(self, x: float, y: float, x2: float, y2: float, colour: str, width: int = 1) -> None:
        self._pen.line((x, y, x2, y2), fill=colour, width=width)

    def _write(self, x: float, y: float, text: str, colour: str = TEXT) -> None:
        self._pen.text((x, y), text, fill=colour, font=self._font, anchor="mm")

    def _draw_axis(self) -> None:
        self._line(MARGIN, MIDDLE, self._x(self._seconds), MIDDLE, QUIET)
        for second in range(0, int(self._seconds) + 1, 5):
            self._line(self._x(second), HEIGHT - 30, self._x(second), HEIGHT - 24, QUIET)
            self._write(self._x(second), HEIGHT - 13, f"{second} s", QUIET)
        self._pen.text((8, 6), "caller, above", fill=CALLER, font=self._font)
        self._pen.text((108, 6), "agent, below", fill=AGENT, font=self._font)

    def _draw_sound(self, colour: str, direction: int) -> None:
        for frame, level in enumerate(self._levels[colour]):
            x = self._x(frame / FRAMES_A_SECOND)
            self._line(x, MIDDLE, x, MIDDLE + direction * level * HALF, colour)

    def _draw_wait(self, turn: TurnTimes) -> None:
        begin, end = self._x(turn.last_word), self._x(turn.first_audio)
        self._pen.rectangle((begin, MARGIN, end, HEIGHT - MARGIN), fill=WAIT)

    def _draw_steps(self, turn: TurnTimes) -> None:
        for _, at in turn.steps:
            self._line(self._x(at), MIDDLE - 8, self._x(at), MIDDLE + 8, TEXT)
        middle = self._x((turn.last_word + turn.first_audio) / 2)
        self._write(middle, MARGIN - 10, f"{turn.first_audio - turn.last_word:.1f} s")


def draw_call(recording: bytes, turns: list[TurnTimes], barge_ins: list[float]) -> bytes:
    """Return a PNG of a stereo recording, a WAV at 8 kHz."""
    with wave.open(io.BytesIO(recording)) as wav:
        samples = array("h", wav.readframes(wav.getnframes()))
    picture = Picture(levels(samples[::2]), levels(samples[1::2]))
    return picture.draw(turns, barge_ins)


def levels(samples: array[int]) -> list[float]:
    """Return the loudness of each 20 ms, 0 to 1, on a scale on which speech fills the room."""
    frames = (samples[at : at + FRAME] for at in range(0, len(samples), FRAME))
    peaks = (max(map(abs, frame)) / 32768 for frame in frames)
    return [min(1.0, (1.5 * peak) ** 0.5) for peak in peaks]
