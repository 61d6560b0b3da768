"""The app as it is served, in a process of its own, between a phone network and an OpenAI.

Nothing of the app is imported here: a `Service` is started from the command line, set up through
its environment, called by telephone, and watched from outside: what it says on its standard output,
what it sends to the simulators, and which threads and sockets its process has.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import pydantic
from dotenv import dotenv_values
from openai.types.realtime import RealtimeClientEvent

from tools import log_check
from tools.log_check import check_lines
from tools.ports import ReservedPort
from tools.simulator.openai_server import Brain, OpenAISimulator, RealtimeBehaviour, RealtimeSession
from tools.simulator.speech import ToneVoice
from tools.simulator.twilio_network import Call, PhoneNetwork

T = TypeVar("T")
Json = dict[str, Any]

ROOT = Path(os.environ.get("APP_UNDER_TEST", Path(__file__).parent.parent))
VOICE = ToneVoice()
CALLER, CALLED, COLLEAGUE = "+15552223333", "+15550001111", "+15554445555"
AUTH_TOKEN = "the-auth-token-of-twilio"
API_KEY = "sk-the-key-of-openai"
AGENT_KEY = "sk-the-key-of-the-agent"
SECRETS = (AUTH_TOKEN, API_KEY, AGENT_KEY)
PUBLIC_URL = "https://voice.example.com"
COMMANDS = {
    "threads": [sys.executable, "app.py"],
    "gevent": [sys.executable, "-m", "gunicorn", "app:app"],
}
SETTINGS = tuple(dotenv_values(Path(__file__).parent.parent / ".env.example"))
CUT_IN = re.compile(r'\[The caller cut in\. [^"\]]*"(.*?)"\] ?')


class Resources(NamedTuple):
    """What a process holds, as the kernel tells it."""

    threads: int
    files: int
    connections: int


def eventually(probe: Callable[[], T], what: str, timeout: float = 10) -> T:
    """Return the probe's value as soon as it is truthy; raise AssertionError after `timeout` s."""
    deadline = time.monotonic() + timeout
    while not (value := probe()):
        assert time.monotonic() < deadline, f"no {what} within {timeout} s"
        threading.Event().wait(0.02)
    return value


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


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with every setting in it: blank means default, whatever `.env` says."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "NO_COLOR": "1", **dict.fromkeys(SETTINGS, ""), **given}


class Process:
    """A process of the app, and every line it prints."""

    def __init__(self, command: list[str], env: Mapping[str, str], cwd: Path = ROOT) -> None:
        self.lines: list[str] = []
        self.settings = dict(env)
        self._process = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        self.lines.extend(line.rstrip("\n") for line in self._process.stdout)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pids(self) -> list[int]:
        """The process and its children (gunicorn's workers)."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
        return [pid, *map(int, children)]

    @property
    def workers(self) -> list[int]:
        """The processes that serve: gunicorn's workers, else the process itself."""
        return self.pids[1:] or self.pids

    def signal(self, number: int) -> None:
        """Send the process (gunicorn's master) a signal."""
        os.kill(self._process.pid, number)

    def exit_code(self, timeout: float = 30) -> int:
        """Wait for the process to end by itself; raise TimeoutExpired if it doesn't."""
        code = self._process.wait(timeout)
        self._reader.join(5)
        return code

    def stop(self) -> None:
        """End it at once, with its workers."""
        for pid in reversed(self.pids) if self.alive else []:
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGKILL)
        self.exit_code()


class Service:
    """The running app with its two worlds: `network` (Twilio) and `openai`; shared by tests."""

    def __init__(self, mode: str, settings: Mapping[str, str]) -> None:
        self.mode = mode
        self._reserved = ReservedPort()
        self.port, self.url = self._reserved.number, self._reserved.url
        self.openai = OpenAISimulator(ears=VOICE, mouth=VOICE, api_key=API_KEY).start()
        self.network = PhoneNetwork(
            auth_token=AUTH_TOKEN,
            number=CALLED,
            voice_url=f"{self.url}/voice",
            public_url=settings.get("WEBHOOK_URL", PUBLIC_URL),
        )
        self.network.start()
        self.settings = {
            "TWILIO_ACCOUNT_SID": self.network.account_sid,
            "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
            "TWILIO_PHONE_NUMBER": CALLED,
            "WEBHOOK_URL": PUBLIC_URL,
            "OPENAI_API_KEY": API_KEY,
            "PORT": str(self.port),
            "OPENAI_BASE_URL": self.openai.base_url,
            "TWILIO_API_URL": self.network.api_url,
            **settings,
        }
        self.process = Process(COMMANDS[mode], environment(self.settings))
        self._warm: set[int] = set()
        try:
            eventually(self._is_up, "service", 30)
            self.begin()
            self._make_first_call()
        except BaseException:
            self.stop()
            raise

    def _make_first_call(self) -> None:
        """Let the process open what it opens once and keeps."""
        call = self.call()
        call.hang_up()
        call.wait_ended()
        self.wait_for_log("call ended")

    def _is_up(self) -> bool:
        assert self.process.alive, self.process.output
        return serves(self.url)

    def stop(self) -> None:
        self.process.stop()
        self.network.stop()
        self.openai.stop()
        self._reserved.release()

    # ------------------------------------------------------------ around each test

    def begin(self) -> None:
        """Forget the last test: knobs as they were, nothing on record."""
        self._before = self._resources()
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
            self.wait_for_log(rf"\[{sid}\] call ended")
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
            held = self._resources()
            return all(now <= before for now, before in zip(held, self._before, strict=True))

        try:
            eventually(is_back, "end of what the call had opened", 8)
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
        warm = self._warm | pool
        pids = self.process.pids
        try:
            sockets = {port for pid in pids for port in _ports(pid)}
            files = sum(len(_files(pid)) for pid in pids)
            threads = sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids)
        except (FileNotFoundError, ProcessLookupError):
            # A child has just ended: OpenAI's client runs `uname` once, gunicorn replaces workers
            return self._resources()
        self._warm = warm & sockets
        return Resources(threads, files - len(self._warm), len(sockets - self._warm))

    # ------------------------------------------------------------ what tests do and see

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

    def wait_for_log(self, pattern: str, timeout: float = 10) -> str:
        """Return the first line of this test that the pattern is found in."""

        def found() -> str:
            return next((line for line in self.log if re.search(pattern, line)), "")

        return eventually(found, f"line like {pattern!r} in the log", timeout)

    def wait_for_messages(self, count: int, timeout: float = 10) -> list[str]:
        """Wait until the workflow was sent so many messages, and return them."""
        self.openai.wait_for(lambda _: len(self.messages) >= count, timeout)
        return self.messages

    def call(self, patience: float = 10) -> Call:
        """Place a call and wait until the caller has heard the greeting to its end."""
        call = self.network.call()
        hear_out(call, self.settings["GREETING"], patience)
        return call


def hear_out(call: Call, words: str, timeout: float = 10) -> None:
    """Wait until the caller has heard these words and nothing is left to be played."""
    call.wait_for_heard(words, timeout)
    call.wait_until(is_heard_out, timeout, f"end of what was said after {words!r}")


def is_heard_out(call: Call) -> bool:
    """Tell whether all that was sent to the caller was played, and its mark returned."""
    marks = call.stream.marks
    received = [
        entry.kind for entry in call.timeline if entry.kind in ("media_received", "mark_received")
    ]
    ends_in_mark = received[-1:] == ["mark_received"]
    return ends_in_mark and not call.stream.buffered_ms and marks[-1].played is not None


def check_secrecy(output: str) -> None:
    """Check that neither a key nor a whole phone number was printed."""
    numbers = [number[1:] for number in (CALLER, CALLED, COLLEAGUE)]
    log_check.check_secrecy(output, [*SECRETS, *numbers])


def serves(url: str) -> bool:
    """Tell whether a process of the app answers there, and takes calls."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _files(pid: int) -> list[str]:
    """Name what a process has open, sockets by inode.

    Selectors are left out: werkzeug, which no caller meets in production, leaves the one it looks
    for unread input with to the garbage collector when the socket is closed already.
    """
    names = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            names.append(os.readlink(link))
    return [name for name in names if name != "anon_inode:[eventpoll]"]


def _ports(pid: int) -> list[int]:
    """Return the local ports of a process's TCP connections, in whatever state they are."""
    files = _files(pid)
    rows = [row.split() for row in Path(f"/proc/{pid}/net/tcp").read_text("ascii").splitlines()[1:]]
    listening = "0A"
    return [
        int(row[1].split(":")[1], 16)
        for row in rows
        if row[3] != listening and f"socket:[{row[9]}]" in files
    ]


CLIENT_EVENTS = {
    get_args(event.model_fields["type"].annotation)[0]: event
    for event in get_args(get_args(RealtimeClientEvent)[0])
}


def check_client_events(session: RealtimeSession) -> None:
    """Check everything a session was sent against the SDK's own types: right, and nothing more."""
    appends = session.events("input_audio_buffer.append")
    others = [
        event for _, event in session.received if event["type"] != "input_audio_buffer.append"
    ]
    for event in itertools.chain(appends[:1], others):
        model = CLIENT_EVENTS[event["type"]].model_validate(event, strict=True)
        assert extra_fields(model) == [], event


def extra_fields(value: Any) -> list[str]:
    """List every field, at any depth, that the SDK's types do not know."""
    if isinstance(value, pydantic.BaseModel):
        known = [extra_fields(getattr(value, name)) for name in type(value).model_fields]
        return [*(value.model_extra or {}), *itertools.chain.from_iterable(known)]
    if isinstance(value, list):
        return list(itertools.chain.from_iterable(map(extra_fields, value)))
    return []
