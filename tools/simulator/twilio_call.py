"""One phone call, as its caller sees it."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tools.simulator.media_stream import MediaStream, StreamFaults
from tools.simulator.phone_sound import CallerVoice, Earpiece, Handset, OnTheHook, stereo_wav
from tools.simulator.speech import ToneVoice, pcm16_to_mulaw
from tools.simulator.timeline import Entry, Timeline
from tools.simulator.twilio_program import CallOver, CallProgram, Dialed
from tools.simulator.waiting import CATCH_UP_SECONDS, PATIENCE

if TYPE_CHECKING:
    from tools.simulator.twilio_network import PhoneNetwork

T = TypeVar("T")

DIGIT_SECONDS = 0.1
FRAME_SECONDS = 0.02


@dataclass(frozen=True)
class CallSetup:
    """Who calls, and what is unusual about it.

    `signature` (of the webhook) and `stream_signature` (of the handshake) are "auto" for the right
    one, None for no header; anything else is sent as it is. `fields` are added to the form,
    `extra_headers` to both requests. `handset` is that of a caller who is really there.
    `webhook_failures` are statuses that a proxy answers to the next requests for TwiML, the app
    being away; a test may add to them.
    """

    sid: str
    caller: str
    voice_url: str
    signature: str | None = "auto"
    stream_signature: str | None = "auto"
    fields: dict[str, str] = field(default_factory=dict)
    extra_headers: dict[str, str] = field(default_factory=dict)
    handset: Handset = field(default_factory=OnTheHook)
    webhook_failures: list[int] = field(default_factory=list)


class Call:
    """One phone call, seen from the caller's side.

    What is said or pressed while no stream is open is lost, as in life: `wait_for_stream` first.
    The methods before "On the network's loop" may be called from any thread.
    """

    def __init__(self, network: PhoneNetwork, setup: CallSetup, faults: StreamFaults) -> None:
        self.network = network
        self.setup = setup
        self.faults = faults  # of the next stream
        self.status = "ringing"
        self.end_reason = ""
        self.streams: list[MediaStream] = []
        self.said: list[str] = []  # by Twilio's own voice
        self.dialed: Dialed | None = None
        self.answered_at: float | None = None  # time.monotonic()
        self.program = CallProgram(self, setup.voice_url)
        self._history = Timeline()
        self._voice = CallerVoice(self._history, setup.handset)
        self._ear = Earpiece(self._history, setup.handset)
        self._over = threading.Event()

    def __repr__(self) -> str:
        return f"<Call {self.sid} {self.status}>"

    @property
    def sid(self) -> str:
        return self.setup.sid

    @property
    def caller(self) -> str:
        return self.setup.caller

    @property
    def account_sid(self) -> str:
        return self.network.account_sid

    # The caller

    def say(self, speech: bytes | str) -> None:
        """Speak: text as tones, or PCM16 at 8 kHz. Queued after what is still being said."""
        pcm16 = ToneVoice().speak(speech) if isinstance(speech, str) else speech
        mulaw = pcm16_to_mulaw(pcm16)
        self.network.on_loop(lambda: self._voice.say(mulaw))

    def press(self, digits: str) -> None:
        """Press keys, 100 ms apart."""

        def press_all() -> None:
            loop = asyncio.get_running_loop()
            for number, digit in enumerate(digits):
                loop.call_later(number * DIGIT_SECONDS, self._press, digit)

        self.network.on_loop(press_all)

    def hang_up(self) -> None:
        """Hang up; returns before the app can have noticed (`wait_ended`)."""
        self.network.on_loop(lambda: self.program.end(CallOver("caller hung up")))

    def dialed_party_hangs_up(self) -> None:
        """Let the party that <Dial> reached hang up: the next verb runs."""
        assert self.program.dialing, self._dump("nobody was dialled")
        self.network.on_loop(self.program.dialed_party_hangs_up)

    @property
    def speaking(self) -> bool:
        """Whether the caller is still saying what `say` queued."""
        return self._voice.pending and not self.ended

    @property
    def quiet_for(self) -> float:
        """Seconds since the caller last heard the agent; 0 before the first time."""
        return self._ear.quiet_for

    # What came of it

    @property
    def ended(self) -> bool:
        return self._over.is_set()

    @property
    def stream(self) -> MediaStream:
        """The current media stream, or the last one."""
        assert self.streams, self._dump("no stream was ever opened")
        return self.streams[-1]

    @property
    def frames_sent(self) -> list[float]:
        """When each of the caller's frames left, over all streams: time.monotonic()."""
        return list(itertools.chain.from_iterable(stream.frames_sent for stream in self.streams))

    @property
    def timeline(self) -> list[Entry]:
        """Everything that happened."""
        return self._history.entries

    @property
    def started_at(self) -> float:
        """When the call was placed: time.monotonic()."""
        return self._history.started_at

    def events(self, kind: str) -> list[Entry]:
        """Return the entries of one kind."""
        return self._history.of_kind(kind)

    def now(self) -> float:
        """Return the seconds since the call was placed, the clock of the timeline."""
        return self._history.now()

    def heard(self) -> str:
        """Return the words of everything played to the caller so far (Twilio's <Say>: `said`)."""
        return self.heard_since(0)

    def heard_since(self, t: float) -> str:
        """Return the words played from `t` seconds after the call was placed."""
        answered = (self.answered_at or self.started_at) - self.started_at
        return self._ear.words(t - answered)

    def recording(self) -> bytes:
        """Return a stereo WAV, 8 kHz: caller left, what the caller hears right."""
        return stereo_wav(bytes(self._voice.track), bytes(self._ear.track))

    # Waiting

    def wait_until(
        self, predicate: Callable[[Call], T], timeout: float = PATIENCE, what: str = ""
    ) -> T:
        """Block until `predicate(call)` is truthy and return its value.

        :raises AssertionError: after `timeout` seconds, with the timeline.
        """
        deadline = time.monotonic() + timeout
        while not (value := predicate(self)):
            if time.monotonic() > deadline:
                raise AssertionError(self._dump(f"no {what or 'change'} within {timeout} s"))
            self._history.wait(FRAME_SECONDS)
        return value

    def wait_for_heard(self, words: str, timeout: float = PATIENCE) -> str:
        """Block until the caller has heard these words; return all that was heard."""
        self.wait_until(lambda call: words in call.heard(), timeout, f"{words!r} heard")
        return self.heard()

    def wait_for(self, kind: str, timeout: float = PATIENCE) -> Entry:
        """Block until the timeline has an entry of this kind; return the first."""
        return self.wait_until(lambda call: call.events(kind), timeout, kind)[0]

    def wait_for_stream(self, timeout: float = PATIENCE, number: int = 1) -> MediaStream:
        """Block until the call's `number`th stream is open."""
        self.wait_until(
            lambda call: len(call.streams) >= number and call.streams[number - 1].started_at,
            timeout,
            f"stream {number}",
        )
        return self.streams[number - 1]

    def wait_until_silent(self, timeout: float = PATIENCE) -> None:
        """Block until the caller has said everything queued."""
        self.wait_until(lambda call: not call.speaking, timeout, "end of the caller's speech")

    def wait_until_agent_is_quiet(self, seconds: float = 1.0, timeout: float = PATIENCE) -> None:
        """Block until the agent has spoken and then been quiet for `seconds`."""
        self.wait_until(lambda call: call.quiet_for >= seconds, timeout, "end of the agent's words")

    def wait_ended(self, timeout: float = PATIENCE) -> None:
        """Block until the call is over."""
        self.wait_until(lambda call: call.ended, timeout, "end of the call")

    def _dump(self, what: str) -> str:
        entries = self._history.abridged()
        heard = f"heard so far: {self.heard()!r}"
        return "\n".join([f"{self.sid}: {what}", *entries, heard, *self.network.refusals])

    # On the network's loop from here on

    async def live(self) -> None:
        """Be the call from its first ring to its end."""
        self.note("ringing", caller=self.caller)
        over = CallOver("network stopped")
        try:
            over = await self.program.run()
        finally:
            self._ear.stop()
            self.end_reason, self.status = over.reason, over.status
            self._over.set()
            self.note("completed", reason=over.reason, status=over.status)

    def answer(self) -> None:
        """Pick up, if that hasn't happened yet: sound flows from here on."""
        if self.answered_at is None:
            self.answered_at = time.monotonic()
            self.status = "in-progress"
            self.note("answered")
            self.network.spawn(self._clock())

    async def _clock(self) -> None:
        """Let 20 ms pass at a time, on an absolute schedule but for stalls, until it is over."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self.ended:
            self._tick()
            due = max(due + FRAME_SECONDS, loop.time() - CATCH_UP_SECONDS)
            await asyncio.sleep(max(0.0, due - loop.time()))

    def _tick(self) -> None:
        frame = self._voice.next_frame()
        stream = self._open_stream()
        self._ear.play(stream.tick(frame) if stream else b"")

    def _open_stream(self) -> MediaStream | None:
        return self.streams[-1] if self.streams and self.streams[-1].open else None

    def _press(self, digit: str) -> None:
        stream = self._open_stream()
        self.note("dtmf", digit=digit, reached=stream is not None)
        if stream:
            stream.press(digit)

    @property
    def abandoned(self) -> bool:
        """Whether the TwiML that runs is to be left, because the call ends or goes elsewhere."""
        return self.program.abandoned

    def note(self, kind: str, **detail: Any) -> None:
        """Add an entry to the timeline."""
        self._history.note(kind, **detail)

    def refuse(self, text: str) -> None:
        """Note what the app did that Twilio wouldn't take."""
        self.network.refusals.append(f"{self.sid}: {text}")
        self.note("refused", text=text)
