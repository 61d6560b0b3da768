"""The app as it is served, in a process of its own, between a phone network and an OpenAI.

Nothing of the app is imported here: a `Service` is started from the command line, set up through
its environment, called by telephone, and watched from outside: what it says on its standard output,
what it sends to the simulators, and which threads and sockets its process has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from tools import log_check
from tools.app_process import (
    COMMANDS,
    ROOT,
    START_SECONDS,
    Process,
    environment,
    eventually,
    serves,
)
from tools.event_check import check_client_events
from tools.log_check import END_OF_CALL, check_lines
from tools.ports import ReservedPort
from tools.process_resources import Resources, held_by, threads_of
from tools.simulator.openai_server import Brain, OpenAISimulator, RealtimeBehaviour, RealtimeSession
from tools.simulator.speech import ToneVoice
from tools.simulator.twilio_network import Call, PhoneNetwork
from tools.simulator.waiting import PATIENCE

if TYPE_CHECKING:  # what it imports is large, and most tests go without
    from tools.certificate import Certificate

__all__ = [
    "COMMANDS",
    "ROOT",
    "Process",
    "Resources",
    "Service",
    "check_client_events",
    "check_lines",
    "environment",
    "eventually",
    "serves",
]

VOICE = ToneVoice()
CALLER, CALLED, COLLEAGUE = "+15552223333", "+15550001111", "+15554445555"
AUTH_TOKEN = "0123456789abcdef0123456789abcdef"
API_KEY = "sk-the-key-of-openai"
AGENT_KEY = "sk-the-key-of-the-agent"
SECRETS = (AUTH_TOKEN, API_KEY, AGENT_KEY)
PUBLIC_URL = "https://voice.example.com"
HARDLY_BEGUN_SECONDS = 1.1  # the app says 1.0, and counts tenths
CUT_IN = re.compile(r'\[The caller cut in\. [^"\]]*"(.*?)"\] ?')


def session_file(folder: Path, **changes: Any) -> Path:
    """Write a session like the shipped one, but that waits for 200 ms of silence only.

    `changes` replace values by dotted path, `**{"audio.output.voice": "ash"}`; `...` removes one.
    """
    session = json.loads((ROOT / "realtime_session.json").read_text("utf-8"))
    session["audio"]["input"]["turn_detection"]["silence_duration_ms"] = 200
    for path, value in changes.items():
        *parents, last = path.split(".")
        target = session
        for name in parents:
            target = target[name]
        if value is ...:
            del target[last]
        else:
            target[last] = value
    file = folder / "session.json"
    file.write_text(json.dumps(session, indent=2), "utf-8")
    return file


class Service:
    """The running app with its two worlds: `network` (Twilio) and `openai`; shared by tests."""

    def __init__(
        self, mode: str, settings: Mapping[str, str], certificate: Certificate | None = None
    ) -> None:
        """Start all of it; with a certificate, OpenAI is spoken to by TLS."""
        self.mode = mode
        self._reserved = ReservedPort()
        self.port, self.url = self._reserved.number, self._reserved.url
        tls = certificate.context if certificate else None
        self.openai = OpenAISimulator(ears=VOICE, mouth=VOICE, api_key=API_KEY, tls=tls).start()
        self.network = PhoneNetwork(
            auth_token=AUTH_TOKEN,
            number=CALLED,
            voice_url=f"{self.url}/voice",
            public_url=settings.get("WEBHOOK_URL", PUBLIC_URL),
        )
        self.network.start()
        trusted = {"SSL_CERT_FILE": str(certificate.file)} if certificate else {}
        self.settings = {**self._own_settings(), **trusted, **settings}
        self.process = Process(COMMANDS[mode], environment(self.settings))
        self._warm: set[int] = set()
        self._before = Resources(0, 0, 0)
        try:
            self.process.wait_until_it_serves(self.url)
            self.begin()
            self._make_first_call()
        except BaseException:
            self.stop()
            raise

    def _own_settings(self) -> dict[str, str]:
        return {
            "TWILIO_ACCOUNT_SID": self.network.account_sid,
            "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
            "TWILIO_PHONE_NUMBER": CALLED,
            "WEBHOOK_URL": PUBLIC_URL,
            "OPENAI_API_KEY": API_KEY,
            "PORT": str(self.port),
            "OPENAI_BASE_URL": self.openai.base_url,
            "TWILIO_API_URL": self.network.api_url,
        }

    def _make_first_call(self) -> None:
        """Let the process open what it opens once and keeps."""
        call = self.network.call()
        call.wait_for("mark_received", START_SECONDS)
        call.hang_up()
        call.wait_ended()
        self.wait_for_log(END_OF_CALL)

    def stop(self) -> None:
        """End the process, then its two worlds."""
        self.process.stop()
        self.network.stop()
        self.openai.stop()
        self._reserved.release()

    # --- around each test -------------------------------------------------------------------

    def begin(self) -> None:
        """Forget the last test: knobs as they were, nothing on record."""
        held = self._resources()
        if self.mode == "gevent":  # its resolver's thread ends after some idle seconds, and returns
            held = held._replace(threads=max(held.threads, self._before.threads))
        self._before = held
        self.openai.forget()
        self.openai.mouth = VOICE
        self.network.forget()
        self._first_line = len(self.process.lines)
        self.tolerated = "nothing"
        self._expected_in_log: list[str] = []
        self.strangers = False  # whether streams are opened that tell of no call

    def end(self) -> None:
        """Hang up, and check what holds whatever a test is about."""
        for call in self.network.placed:
            if not call.ended:
                call.hang_up()
            call.wait_ended()
        for sid in {call.sid for call in self.network.placed if call.events("start")}:
            self.wait_for_log(rf"\[{sid}[^]]*\] {END_OF_CALL}")
        self.check_resources()
        assert self.process.alive, self.process.output
        assert [text for text in self.openai.refusals if self.tolerated not in text] == []
        assert self.network.refusals == [], self.network.refusals
        self.check_log()
        for session in self.openai.sessions:
            check_client_events(session)

    def check_resources(self) -> None:
        """Wait until the process is back to the threads, files and sockets it had before."""

        def is_back() -> bool:
            with suppress(FileNotFoundError):  # a child has just ended
                if threads_of(self.process.pids) > self._before.threads:
                    return False  # so soon there is no need to read the table of all connections
            held = self._resources()
            return all(now <= before for now, before in zip(held, self._before, strict=True))

        try:
            eventually(is_back, "end of what the call had opened", pause=0.1)
        except AssertionError as error:
            raise AssertionError(
                f"before {self._before}, now {self._resources()} (threads, files, connections)"
            ) from error
        eventually(lambda: not any(each.open for each in self.openai.sessions), "closed sessions")

    def check_log(self) -> None:
        """Check that no line tells of trouble, and that nothing secret is in any line."""
        about_a_call = "[" if self.strangers else "[CA"
        check_lines(self.log, about_a_call, self._expected_in_log)
        check_secrecy(self.process.output)

    def held(self) -> Resources:
        """Count what the service holds now, but for warm connections to the workflow."""
        return self._resources()

    @property
    def warm(self) -> set[int]:
        """Ports of the connections to the workflow that were open at the latest count."""
        return self._warm

    def _resources(self) -> Resources:
        """Count what the service's processes hold; warm connections to the workflow excepted."""
        pool = {
            request.peer[1]
            for request in self.openai.requests
            if not request.path.endswith("/realtime")
        }
        try:
            held, self._warm = held_by(self.process.pids, self._warm | pool)
        except (FileNotFoundError, ProcessLookupError):
            # A child has just ended: OpenAI's client runs `uname` once, gunicorn replaces workers
            return self._resources()
        return held

    # --- what tests do and see --------------------------------------------------------------

    def tolerate(self, words: str) -> None:
        """Let this test's service be refused with these words: it may learn what is wrong so."""
        self.tolerated = words

    def expect_log(self, pattern: str) -> None:
        """Let lines with this pattern tell of a bug of ours, or of a message not understood."""
        self._expected_in_log.append(pattern)

    @property
    def brain(self) -> Brain:
        return self.openai.brain

    @property
    def realtime(self) -> RealtimeBehaviour:
        return self.openai.realtime

    @property
    def session(self) -> RealtimeSession:
        """The call's ears and mouth: the latest Realtime session."""
        return self.openai.sessions[-1]

    @property
    def messages(self) -> list[str]:
        """What the workflow was sent, in order."""
        return [text for _, text in self.brain.messages if not text.startswith("[Phone call from")]

    @property
    def log(self) -> list[str]:
        """The lines printed since the test began."""
        return self.process.lines[self._first_line :]

    def wait_for_log(self, pattern: str, timeout: float = PATIENCE) -> str:
        """Return the first line of this test that the pattern is found in."""

        def found() -> str:
            return next((line for line in self.log if re.search(pattern, line)), "")

        return eventually(found, f"line like {pattern!r} in the log", timeout)

    def wait_for_messages(self, count: int, timeout: float = PATIENCE) -> list[str]:
        """Wait until the workflow was sent so many messages, and return them."""
        self.openai.wait_for(lambda _: len(self.messages) >= count, timeout)
        return self.messages

    def upstream(self) -> Any:
        """Return what the service tells of OpenAI and the workflow."""
        return requests.get(f"{self.url}/health/upstream", timeout=PATIENCE).json()

    def call(self, patience: float = PATIENCE) -> Call:
        """Place a call and wait until the caller has heard the greeting to its end."""
        call = self.network.call()
        hear_out(call, self.settings["GREETING"], patience)
        return call


def hear_out(call: Call, words: str, timeout: float = PATIENCE) -> None:
    """Wait until the caller has heard these words and nothing is left to be played."""
    call.wait_for_heard(words, timeout)
    call.wait_until(is_heard_out, timeout, f"end of what was said after {words!r}")


def settle(call: Call) -> None:
    """Wait until the stream is more than hardly begun: lost sooner, it would be greeted anew."""

    def is_settled(call: Call) -> bool:
        frames = call.stream.frames_sent
        return bool(frames) and frames[-1] - frames[0] > HARDLY_BEGUN_SECONDS

    call.wait_until(is_settled, what="passing time")


def is_heard_out(call: Call) -> bool:
    """Tell whether all that was sent to the caller was played, and its mark returned."""
    marks = call.stream.marks
    received = [
        entry.kind for entry in call.timeline if entry.kind in ("media_received", "mark_received")
    ]
    ends_in_mark = received[-1:] == ["mark_received"]
    if not (ends_in_mark and marks):
        return False
    return not call.stream.buffered_ms and marks[-1].played is not None


def check_secrecy(output: str) -> None:
    """Check that neither a key nor a whole phone number was printed."""
    numbers = [number[1:] for number in (CALLER, CALLED, COLLEAGUE)]
    log_check.check_secrecy(output, [*SECRETS, *numbers])
