"""What the phone is connected to: the phone network, the app, and OpenAI behind it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TypeVar

from tools.app_process import COMMANDS, DEFAULTS, Process, environment
from tools.demo.receptionist import Receptionist
from tools.phone.entries import Show
from tools.phone.tap import Json, Tap, Tell, origin
from tools.phone.watch import CallWatch
from tools.ports import ReservedPort
from tools.simulator.openai_server import OpenAISimulator
from tools.simulator.phone_sound import Handset, OnTheHook
from tools.simulator.speech import Ears, Mouth
from tools.simulator.twilio_network import PhoneNetwork

E = TypeVar("E", bound="Exchange")

THINKING = 0.3  # seconds until the scripted receptionist's first word
COLLEAGUE = "+15550009999"
REAL_APP = "the app: gunicorn app:app, a process of its own, over real sockets"
NETWORK = "Twilio and the phone network, as strict as the real ones"
WITHOUT_KEYS = [
    "OpenAI Realtime, around the ears and the mouth",
    "the workflow: a script that books appointments by looking for words",
]
ELSEWHERE = [
    "what the app does by Twilio's REST API, hang up or transfer: the real Twilio gets that, and"
    " knows nothing of this call",
    "the app's log and its words: they stay where it runs",
]


class NotStarted(Exception):
    """There is no app to call; the text says what to do about it."""


class Exchange:
    """The phone network with the app on it, and what can be seen of both; a context manager.

    `watcher` is told what passes between the app and OpenAI. The app takes one call at a time, so
    it is about that call.
    """

    def __init__(self, network: PhoneNetwork) -> None:
        self.watcher: Tell = _nobody_watches
        self.network = network
        self.taps: list[Tap] = []
        self.app: Process | None = None
        self.real: list[str] = []
        self.simulated = [NETWORK]
        self.scripted = False  # whether a script speaks, and the page only listens
        self._open = ExitStack()

    def __enter__(self: E) -> E:
        self._open.enter_context(self.network)
        try:
            self._connect()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _connect(self) -> None:
        """Connect the app to the network. Raises NotStarted."""

    def call(self, show: Show, handset: Handset | None = None) -> CallWatch:
        """Place a call, and watch it: `show` gets what a page is to show of it."""
        call = self.network.call(handset=handset or OnTheHook())
        watch = CallWatch(call, self.app, show)
        self.watcher = watch.take
        self.network.on_loop(lambda: self.network.spawn(watch.keep_looking()))
        return watch

    def _tap_into(self, base_url: str) -> str:
        """Relay an API whose address is `base_url`; return the address for the app."""
        tap = Tap(origin(base_url), self._tell)
        self.network.run(tap.open())
        self._open.callback(lambda: self.network.run(tap.close()))
        self.taps.append(tap)
        return base_url.replace(origin(base_url), f"http://127.0.0.1:{tap.port}", 1)

    def _tell(self, source: str, event: Json) -> None:
        self.watcher(source, event)

    def _start_app(self, settings: Mapping[str, str]) -> None:
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
            "WEB_CONCURRENCY": "1",
        }
        self.real.append(REAL_APP)
        self.app = Process(COMMANDS["gevent"], environment({**settings, **own}))
        self._open.callback(self.app.stop)
        try:
            self.app.wait_until_it_serves(port.url)
        except AssertionError as error:
            raise NotStarted(f"The app did not start. It says:\n{error}") from error


class SimulatedExchange(Exchange):
    """All of it without keys."""

    def __init__(
        self,
        ears: Ears,
        mouth: Mouth,
        thinking: float = THINKING,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Take `thinking` seconds to each reply's first word, and `settings` beyond its own."""
        super().__init__(own_network())
        self.simulated += WITHOUT_KEYS
        self.openai = OpenAISimulator(ears=ears, mouth=mouth)
        self.desk = Receptionist(thinking)
        self._settings = settings or {}

    def _connect(self) -> None:
        openai = self._open.enter_context(self.openai)
        openai.realtime.keep_audio_events = False
        settings = {
            "OPENAI_API_KEY": openai.api_key,
            "OPENAI_BASE_URL": self._tap_into(openai.base_url),
            "AGENT_WORKFLOW_ID": "workflow.json",
            "TRANSFER_NUMBER": COLLEAGUE,
            **self._settings,
        }
        self._start_app(settings)

    def call(self, show: Show, handset: Handset | None = None) -> CallWatch:
        """Place a call, to a receptionist who knows nothing of the calls before."""
        self.desk = Receptionist(self.desk.thinking)
        self.openai.brain.reply = self.desk.reply
        return super().call(show, handset)


class LiveExchange(Exchange):
    """The real OpenAI and the owner's own workflow, by the owner's settings."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__(own_network())
        self.real.append("OpenAI and your workflow, by your settings: this costs money")
        self._settings = settings

    def _connect(self) -> None:
        settings = dict(self._settings)
        openai = settings["OPENAI_BASE_URL"] or DEFAULTS["OPENAI_BASE_URL"]
        settings["OPENAI_BASE_URL"] = self._tap_into(openai)
        if settings["AGENT_BASE_URL"]:
            settings["AGENT_BASE_URL"] = self._tap_into(settings["AGENT_BASE_URL"])
        self._start_app(settings)


class RemoteExchange(Exchange):
    """An app that runs elsewhere, as Twilio would call it.

    What it is asked is signed for its public address: `address` itself if that is https, else the
    owner's WEBHOOK_URL.
    """

    def __init__(self, address: str, settings: Mapping[str, str]) -> None:
        token, number = settings["TWILIO_AUTH_TOKEN"], settings["TWILIO_PHONE_NUMBER"]
        public = address if address.startswith("https://") else settings["WEBHOOK_URL"]
        if not (token and number and public):
            raise NotStarted(
                f"To call {address}, set its TWILIO_AUTH_TOKEN, TWILIO_PHONE_NUMBER and"
                " WEBHOOK_URL in .env, or in the environment."
            )
        network = PhoneNetwork(
            account_sid=settings["TWILIO_ACCOUNT_SID"],
            auth_token=token,
            number=number,
            public_url=public,
            voice_url=f"{address.rstrip('/')}/voice",
        )
        super().__init__(network)
        self.real.append(f"the app at {address}, and all that it uses")
        self.simulated += ELSEWHERE


def own_network() -> PhoneNetwork:
    """Make a network whose signatures nobody else can make."""
    return PhoneNetwork(auth_token=secrets.token_hex(16))


def _nobody_watches(source: str, event: Json) -> None:
    """Let what passes outside a call pass."""
