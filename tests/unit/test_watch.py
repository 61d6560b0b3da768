"""What falls silent is given up: a call in this process, looked at as `watch` would, but later."""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from collections.abc import Iterator
from math import inf
from threading import Thread
from time import monotonic
from typing import Any

import pytest
from websockets.protocol import Side

import voice_handler
from call import Call
from settings import Settings
from tests.unit.environment import REQUIRED
from tools.app_process import eventually
from tools.simulator.openai_server import OpenAISimulator, RealtimeSession
from tools.simulator.playback import SILENCE
from tools.simulator.speech import ToneVoice
from voice_handler import CALLS, carry
from wire import Connection
from workflow_client import WorkflowClient


class NoControl:
    """Twilio's REST API, which nobody asks here."""

    def hang_up(self, call: Call) -> None:
        raise AssertionError(call)

    transfer = hold = give_up = hang_up


class SilentCall:
    """A call whose Twilio sends what the test says, and nothing else."""

    def __init__(self, openai: OpenAISimulator) -> None:
        ours, theirs = socket.socketpair()
        self.openai = openai
        self.twilio = Connection(theirs, Side.CLIENT, 65536)
        settings = Settings(**REQUIRED, openai_base_url=openai.base_url)  # type: ignore[arg-type]
        stream = Connection(ours, Side.SERVER, 65536)
        carried = (stream, settings, WorkflowClient(settings), NoControl())
        self._thread = Thread(target=carry, args=carried, daemon=True)
        self._thread.start()
        self.send("start", start={"callSid": "CA1"})
        self.handler = next(iter(eventually(lambda: list(CALLS), "call")))
        self.session = self.session_after(0)

    def send(self, event: str, **body: Any) -> None:
        message = {"event": event, "streamSid": "MZ1", **body}
        self.twilio.send(json.dumps(message).encode())

    def session_after(self, number: int) -> RealtimeSession:
        """Wait for the next session, until it has its settings."""
        sessions = self.openai.sessions
        self.openai.wait_for(lambda _: len(sessions) > number)
        self.openai.wait_for(lambda _: sessions[number].events("session.update"))
        return sessions[number]

    def ask_for_a_sign_of_life(self) -> None:
        """Send a frame of sound: frames keep the time, and so bring about the next ping."""
        self.send("media", media={"payload": b64encode(SILENCE).decode()})

    def end(self) -> None:
        self.session.stall(False)
        self.twilio.abort()
        self._thread.join(10)
        assert not self._thread.is_alive()
        eventually(lambda: not CALLS, "end of the call")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentCall]:
    monkeypatch.setattr(voice_handler, "PING_FRAMES", 1)
    monkeypatch.setattr(voice_handler, "TICK_FRAMES", 1)
    voice = ToneVoice()
    simulator = OpenAISimulator(ears=voice, mouth=voice, api_key=REQUIRED["openai_api_key"])
    with simulator as openai:
        call = SilentCall(openai)
        yield call
        call.end()


def test_a_stream_that_is_silent_for_ten_seconds_is_given_up(call: SilentCall) -> None:
    stream = call.handler.stream
    call.handler.look(stream.quiet_since + 9.9)
    assert stream.open
    call.handler.look(stream.quiet_since + 10.1)
    assert not stream.open


def test_a_realtime_that_does_not_answer_for_five_seconds_is_replaced(
    call: SilentCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Or the stream, too, would be given up if this took some seconds
    monkeypatch.setattr(voice_handler, "STALL_SECONDS", inf)
    call.session.stall()

    def is_replaced_after(seconds: float) -> bool:
        # Each time anew: what came before it stood still may be taken for the answer
        call.ask_for_a_sign_of_life()
        call.handler.look(monotonic() + seconds)
        return len(call.openai.sessions) >= 2

    assert not is_replaced_after(4)
    eventually(lambda: is_replaced_after(6), "new session")
    assert call.handler.stream.open, "the call goes on"
