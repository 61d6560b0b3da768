"""What the phone is connected to: the phone network, the app, and OpenAI behind it."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from typing import Any

from tools.app_process import COMMANDS, Process, environment
from tools.demo.receptionist import Receptionist
from tools.phone.tap import Json, Tap, Tell, origin
from tools.ports import ReservedPort
from tools.simulator.openai_server import OpenAISimulator
from tools.simulator.speech import Ears, Mouth
from tools.simulator.twilio_network import Call, PhoneNetwork

THINKING = 0.3  # seconds until the scripted receptionist's first word
COLLEAGUE = "+15550009999"
REAL_APP = "the app: gunicorn app:app, a process of its own, over real sockets"
SIMULATED = [
    "Twilio and the phone network, as strict as the real ones",
    "OpenAI Realtime, around the ears and the mouth",
    "the workflow: a script that books appointments by looking for words",
]


class Exchange:
    """The phone network with the app on it, and what can be seen of both.

    A context manager. `watcher` is told what passes the tap; the app takes one call at a time, so
    it is about that call.
    """

    def __init__(self) -> None:
        self.watcher: Tell = _nobody_watches
        self.network = PhoneNetwork(auth_token=secrets.token_hex(16))
        self.tap: Tap | None = None
        self.app: Process | None = None
        self.real: list[str] = []
        self.simulated: list[str] = []
        self._open = ExitStack()

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def call(self, **how: Any) -> Call:
        """Place a call."""
        return self.network.call(**how)

    def tap_into(self, base_url: str) -> str:
        """Relay an API whose address is `base_url`; return the address for the app."""
        tap = Tap(origin(base_url), self._tell)
        self.network.run(tap.open())
        self._open.callback(lambda: self.network.run(tap.close()))
        self.tap = tap
        return base_url.replace(origin(base_url), f"http://127.0.0.1:{tap.port}", 1)

    def _tell(self, source: str, event: Json) -> None:
        self.watcher(source, event)

    def start_app(self, settings: dict[str, str]) -> None:
        """Run the app with these settings, as it is run in production, on the phone network."""
        network = self.network
        port = self._open.enter_context(ReservedPort())
        network.voice_url = f"{port.url}/voice"
        own = {
            "PORT": str(port),
            "TWILIO_ACCOUNT_SID": network.account_sid,
            "TWILIO_AUTH_TOKEN": network.auth_token,
            "TWILIO_PHONE_NUMBER": network.number,
            "TWILIO_API_URL": network.api_url,
            "WEBHOOK_URL": network.public_url,
            "MAX_CALLS": "1",
        }
        self.app = Process(COMMANDS["gevent"], environment({**settings, **own}))
        self._open.callback(self.app.stop)
        self.app.wait_until_it_serves(port.url)


class SimulatedExchange(Exchange):
    """All of it without keys."""

    def __init__(self, ears: Ears, mouth: Mouth) -> None:
        super().__init__()
        self._openai = OpenAISimulator(ears=ears, mouth=mouth)
        self.real = [REAL_APP]
        self.simulated = list(SIMULATED)

    def __enter__(self) -> SimulatedExchange:
        self._open.enter_context(self.network)
        openai = self._open.enter_context(self._openai)
        openai.realtime.keep_audio_events = False
        settings = {
            "OPENAI_API_KEY": openai.api_key,
            "OPENAI_BASE_URL": self.tap_into(openai.base_url),
            "AGENT_WORKFLOW_ID": "workflow.json",
            "TRANSFER_NUMBER": COLLEAGUE,
        }
        self.start_app(settings)
        return self

    def call(self, **how: Any) -> Call:
        """Place a call, to a receptionist who knows nothing of the calls before."""
        self._openai.brain.reply = Receptionist(THINKING).reply
        return super().call(**how)


def _nobody_watches(source: str, event: Json) -> None:
    """Let what passes outside a call pass."""
