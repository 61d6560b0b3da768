"""What can be done to a call to see it survive: the buttons under "Break it"."""

from __future__ import annotations

import asyncio
import audioop
import os
import signal
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from tools.demo.caller import WORDS, cough, recording
from tools.phone.exchange import Exchange
from tools.phone.handset import BrowserHandset
from tools.simulator.playback import FRAME, SILENCE
from tools.simulator.speech import mulaw_to_pcm16, pcm16_to_mulaw
from tools.simulator.twilio_network import Call

STANDSTILL_SECONDS = 3.0
SLOW_SECONDS = 4.0
CAFE_LOUDNESS = 0.06  # of the voices in it; just under what is taken for speech
ECHO_LOUDNESS = 0.4
ECHO_FRAMES = 6  # 120 ms


class Breakage(NamedTuple):
    """A button: what it says, what it does, and whether it stays down until pressed again."""

    label: str
    about: str
    stays: bool
    act: Callable[[Breaker, bool], None]


class Breaker:
    """Do to the present call what a button says. Runs on the network's loop."""

    def __init__(self, exchange: Exchange, handset: BrowserHandset, tell: Callable[[str], None]):
        self.call: Call | None = None
        self._exchange = exchange
        self._handset = handset
        self._tell = tell
        self._other: Call | None = None

    def available(self) -> dict[str, Breakage]:
        """Return the buttons that this exchange has."""
        buttons = dict(SOUNDS)
        if self._exchange.app:
            buttons |= APP
        if self._exchange.taps:
            buttons |= OPENAI
        return buttons

    def act(self, name: str, on: bool) -> None:
        """Press a button, or let it go."""
        self.available()[name].act(self, on)

    def release(self) -> None:
        """Let go of every button that stays down."""
        for button in self.available().values():
            if button.stays:
                button.act(self, False)

    # --- sounds ---------------------------------------------------------------------------------

    def cough(self, _: bool) -> None:
        if self.call:
            self.call.say(cough())

    def cafe(self, on: bool) -> None:
        self._handset.noise = Cafe().next_frame if on else None

    def echo(self, on: bool) -> None:
        self._handset.echo = Echo().returned if on else None

    def sidetone(self, on: bool) -> None:
        self._handset.sidetone = on

    # --- connections ----------------------------------------------------------------------------

    def drop_stream(self, _: bool) -> None:
        if self.call and self.call.streams and self.call.stream.open:
            self._tell("you reset the media stream's connection")
            self.call.stream.reset()

    def kill_app(self, _: bool) -> None:
        """Kill what serves; gunicorn's master starts another, as in production."""
        assert self._exchange.app
        for pid in self._exchange.app.workers:
            self._tell(f"you killed process {pid} of the app")
            with suppress(ProcessLookupError):  # it has just been killed
                os.kill(pid, signal.SIGKILL)

    def stop_openai(self, _: bool) -> None:
        self._tell(f"you stopped OpenAI for {STANDSTILL_SECONDS:.0f} s")
        loop = asyncio.get_running_loop()
        for tap in self._exchange.taps:
            tap.flowing.clear()
            loop.call_later(STANDSTILL_SECONDS, tap.flowing.set)

    def slow_workflow(self, on: bool) -> None:
        for tap in self._exchange.taps:
            tap.thinking = SLOW_SECONDS if on else 0.0

    def full(self, on: bool) -> None:
        """Have somebody else call: the app is set to take one call at a time."""
        if on:
            self._other = self._exchange.network.call(caller="+15556667777")
            self._tell("somebody else calls: who comes second hears the busy tone")
        elif self._other:
            self._other.hang_up()
            self._other = None


SOUNDS = {
    "cough": Breakage("Cough", "a noise, no words", False, Breaker.cough),
    "cafe": Breakage("Café", "voices around you", True, Breaker.cafe),
    "echo": Breakage("Speakerphone", "your phone returns the agent's voice", True, Breaker.echo),
    "self": Breakage("Hear yourself", "as the agent hears you", True, Breaker.sidetone),
    "drop": Breakage("Drop the stream", "reset its connection", False, Breaker.drop_stream),
}
APP = {
    "kill": Breakage("Kill the app", "SIGKILL, in mid-sentence", False, Breaker.kill_app),
    "full": Breakage("Line is full", "somebody else calls, too", True, Breaker.full),
}
OPENAI = {
    "stop": Breakage("Stop OpenAI", "nothing passes for 3 s", False, Breaker.stop_openai),
    "slow": Breakage("Slow workflow", "4 s more for each reply", True, Breaker.slow_workflow),
}


class Cafe:
    """Other people's voices, all at once and without end."""

    def __init__(self) -> None:
        self._mulaw = pcm16_to_mulaw(_murmur())
        self._at = 0

    def next_frame(self) -> bytes:
        """Return the next 20 ms."""
        frame = self._mulaw[self._at : self._at + FRAME]
        self._at = (self._at + FRAME) % len(self._mulaw)
        return frame


def _murmur() -> bytes:
    """Mix the recorded callers, each beginning elsewhere."""
    voices = [recording(name) for name in WORDS]
    length = min(map(len, voices)) // (2 * FRAME) * 2 * FRAME
    mix = bytes(length)
    for number, voice in enumerate(voices):
        start = number * length // len(voices) // 2 * 2
        turned = voice[start:length] + voice[:start]
        mix = audioop.add(mix, audioop.mul(turned, 2, CAFE_LOUDNESS), 2)
    return mix


class Echo:
    """A speakerphone: the microphone hears the earpiece, a little later and softer."""

    def __init__(self) -> None:
        self._room = deque([SILENCE] * ECHO_FRAMES)

    def returned(self, audio: bytes) -> bytes:
        """Return what the microphone hears while 20 ms are played."""
        softer = audioop.mul(mulaw_to_pcm16(audio), 2, ECHO_LOUDNESS)
        self._room.append(pcm16_to_mulaw(softer))
        return self._room.popleft()
