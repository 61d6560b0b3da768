"""A strict stand-in for Twilio and the phone network, over real sockets on 127.0.0.1.

`PhoneNetwork` places signed calls to the app's webhook, runs the TwiML it answers as Twilio does,
and serves the REST resource of a call. `Call` is the caller: it speaks, presses keys, listens and
hangs up. Everything happens on one event loop in a daemon thread; all public methods are
synchronous and may be called from any thread.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import itertools
import secrets
import sys
import threading
import time
import traceback
import wave
from array import array
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn, TypeVar
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import aiohttp
from aiohttp import web
from twilio.request_validator import RequestValidator
from yarl import URL

from tools.simulator import twiml
from tools.simulator.media_stream import FRAME, SILENCE, MediaStream, StreamFaults
from tools.simulator.speech import (
    ToneReceiver,
    ToneVoice,
    is_audible,
    mulaw_to_pcm16,
    pcm16_to_mulaw,
)

T = TypeVar("T")

APPLICATION_ERROR = "We are sorry, an application error has occurred. Goodbye."
DIGIT_SECONDS = 0.1
MAX_TWIML_PARAMETER = 4000
MAX_DOCUMENTS = 50  # a call; Twilio has no such bound, a test needs one


class Entry(NamedTuple):
    """One thing that happened in a call, `t` seconds after it was placed."""

    t: float
    kind: str
    detail: dict[str, Any]

    def __str__(self) -> str:
        detail = " ".join(f"{name}={value!r}" for name, value in self.detail.items())
        return f"{self.t:8.3f}  {self.kind:<18} {detail}".rstrip()


class Webhook(NamedTuple):
    """One HTTP request to the app: the public URL, the form, the status (0: no answer)."""

    url: str
    fields: dict[str, str]
    status: int
    seconds: float


class Dialed(NamedTuple):
    number: str
    caller_id: str


@dataclass
class RestRequest:
    """One request of the app to the REST API, and the status it was answered with."""

    method: str
    path: str
    fields: dict[str, str]
    status: int = 0
    at: float = field(default_factory=time.monotonic)


class _CallOver(Exception):
    """The call has come to its end by its own TwiML or by the app's failure."""

    def __init__(self, reason: str, status: str = "completed") -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class _GoTo(Exception):
    """The rest of the document is abandoned for another one."""

    def __init__(self, document: twiml.Document) -> None:
        super().__init__()
        self.document = document


class Call:
    """One phone call, seen from the caller's side.

    What is said or pressed while no stream is open is lost, as in life: `wait_for_stream` first.
    """

    def __init__(
        self,
        network: PhoneNetwork,
        *,
        caller: str,
        sid: str,
        signature: str | None,
        stream_signature: str | None,
        voice_url: str,
        fields: dict[str, str],
        extra_headers: dict[str, str],
        faults: StreamFaults,
    ) -> None:
        self.network = network
        self.account_sid = network.account_sid
        self.caller = caller
        self.sid = sid
        self.signature = signature
        self.stream_signature = stream_signature
        self.fields = fields
        self.extra_headers = extra_headers
        self.faults = faults  # of the next stream
        self.status = "ringing"
        self.end_reason = ""
        self.timeline: list[Entry] = []
        self.streams: list[MediaStream] = []
        self.said: list[str] = []
        self.dialed: Dialed | None = None
        self.started_at = time.monotonic()
        self.answered_at: float | None = None
        self._document_url = voice_url
        self._speech = bytearray()
        self._speaking = False
        self._caller_track = bytearray()
        self._agent_track = bytearray()
        self._playing_since: float | None = None
        self._last_audible_at = 0.0
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._ending: _CallOver | None = None
        self._takeover: Awaitable[twiml.Document] | None = None
        self._program: asyncio.Task[None] | None = None
        self._party_left: asyncio.Event | None = None
        self._receiver = ToneReceiver()
        self._receiver_fed = 0
        self._receiver_lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Call {self.sid} {self.status}>"

    # The caller

    def say(self, speech: bytes | str) -> None:
        """Speak: text as tones, or PCM16 at 8 kHz. Queued after what is still being said."""
        pcm16 = ToneVoice().speak(speech) if isinstance(speech, str) else speech
        mulaw = pcm16_to_mulaw(pcm16)
        padded = mulaw + SILENCE[: -len(mulaw) % FRAME]
        self.network.on_loop(lambda: self._speech.extend(padded))

    def press(self, digits: str) -> None:
        """Press keys, 100 ms apart."""

        def press_all() -> None:
            loop = asyncio.get_running_loop()
            for n, digit in enumerate(digits):
                loop.call_later(n * DIGIT_SECONDS, self._press, digit)

        self.network.on_loop(press_all)

    def hang_up(self) -> None:
        """Hang up; returns before the app can have noticed (`wait_ended`)."""
        self.network.on_loop(lambda: self._end(_CallOver("caller hung up")))

    def dialed_party_hangs_up(self) -> None:
        """Let the party that <Dial> reached hang up: the next verb runs."""
        assert self._party_left, self._dump("nobody was dialled")
        self.network.on_loop(self._party_left.set)

    @property
    def speaking(self) -> bool:
        """Whether the caller is still saying what `say` queued."""
        return bool(self._speech) and not self.ended

    @property
    def quiet_for(self) -> float:
        """Seconds since the caller last heard the agent; 0 before the first time."""
        return time.monotonic() - self._last_audible_at if self._last_audible_at else 0.0

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

    def events(self, kind: str) -> list[Entry]:
        return [entry for entry in self.timeline if entry.kind == kind]

    def heard(self) -> str:
        """Return the words of everything played to the caller so far (Twilio's <Say>: `said`)."""
        return self.heard_since(0)

    def heard_since(self, t: float) -> str:
        """Return the words played from `t` seconds after the call was placed."""
        answered = (self.answered_at or self.started_at) - self.started_at
        with self._receiver_lock:
            new = bytes(self._agent_track[self._receiver_fed :])
            self._receiver_fed += len(new)
            self._receiver.feed(mulaw_to_pcm16(new))
            return self._receiver.text(since=round(max(0.0, t - answered) * 8000))

    def now(self) -> float:
        """Return the seconds since the call was placed, the clock of the timeline."""
        return time.monotonic() - self.started_at

    def recording(self) -> bytes:
        """Return a stereo WAV, 8 kHz: caller left, what the caller hears right."""
        length = min(len(self._caller_track), len(self._agent_track))
        samples = array("h", bytes(4 * length))
        samples[::2] = array("h", mulaw_to_pcm16(bytes(self._caller_track[:length])))
        samples[1::2] = array("h", mulaw_to_pcm16(bytes(self._agent_track[:length])))
        if sys.byteorder == "big":
            samples.byteswap()
        file = io.BytesIO()
        with wave.open(file, "wb") as wav:
            wav.setnchannels(2)
            wav.setsampwidth(2)
            wav.setframerate(8000)
            wav.writeframes(samples.tobytes())
        return file.getvalue()

    def wait_until(self, predicate: Callable[[Call], T], timeout: float = 10, what: str = "") -> T:
        """Block until `predicate(call)` is truthy and return its value.

        :raises AssertionError: after `timeout` seconds, with the timeline.
        """
        deadline = time.monotonic() + timeout
        while not (value := predicate(self)):
            if time.monotonic() > deadline:
                raise AssertionError(self._dump(f"no {what or 'change'} within {timeout} s"))
            with self._changed:
                self._changed.wait(0.02)
        return value

    def wait_for_heard(self, words: str, timeout: float = 10) -> str:
        self.wait_until(lambda call: words in call.heard(), timeout, f"{words!r} heard")
        return self.heard()

    def wait_for(self, kind: str, timeout: float = 10) -> Entry:
        """Block until the timeline has an entry of this kind; return the first."""
        return self.wait_until(lambda call: call.events(kind), timeout, kind)[0]

    def wait_for_stream(self, timeout: float = 10, number: int = 1) -> MediaStream:
        """Block until the call's `number`th stream is open."""
        self.wait_until(
            lambda call: len(call.streams) >= number and call.streams[number - 1].started_at,
            timeout,
            f"stream {number}",
        )
        return self.streams[number - 1]

    def wait_until_silent(self, timeout: float = 10) -> None:
        """Block until the caller has said everything queued."""
        self.wait_until(lambda call: not call.speaking, timeout, "end of the caller's speech")

    def wait_until_agent_is_quiet(self, seconds: float = 1.0, timeout: float = 20) -> None:
        """Block until the agent has spoken and then been quiet for `seconds`."""
        self.wait_until(lambda call: call.quiet_for >= seconds, timeout, "end of the agent's words")

    def wait_ended(self, timeout: float = 10) -> None:
        self.wait_until(lambda call: call.ended, timeout, "end of the call")

    def _dump(self, what: str) -> str:
        entries = _without_repetition(self.timeline)
        heard = f"heard so far: {self.heard()!r}"
        return "\n".join([f"{self.sid}: {what}", *entries, heard, *self.network.refusals])

    # On the network's loop from here on

    def note(self, kind: str, **detail: Any) -> None:
        self.timeline.append(Entry(self.now(), kind, detail))
        with self._changed:
            self._changed.notify_all()

    def refuse(self, text: str) -> None:
        self.network.refusals.append(f"{self.sid}: {text}")
        self.note("refused", text=text)

    def _press(self, digit: str) -> None:
        reached = bool(self.streams) and self.streams[-1].open
        self.note("dtmf", digit=digit, reached=reached)
        if reached:
            self.streams[-1].press(digit)

    def _end(self, over: _CallOver) -> None:
        if not self._ending:
            self._ending = over
            if self._program:
                self._program.cancel()

    @property
    def abandoned(self) -> bool:
        """Whether the TwiML that runs is to be left, because the call ends or goes elsewhere."""
        return self._ending is not None or self._takeover is not None

    def _take_over(self, document: Awaitable[twiml.Document]) -> None:
        """Abandon the current TwiML for another document."""
        self._takeover = document
        if self._program:
            self._program.cancel()

    async def live(self) -> None:
        """Be the call from its first ring to its end."""
        self.note("ringing", caller=self.caller)
        document: Awaitable[twiml.Document] = self._fetch(self._document_url, "POST")
        try:
            while not self._ending:
                self._program = asyncio.create_task(self._perform(document))
                await asyncio.wait([self._program])
                if self._takeover is None:
                    break
                document, self._takeover = self._takeover, None
        finally:
            for waiting in (document, self._takeover):
                if isinstance(waiting, Coroutine):
                    waiting.close()
            over = self._ending or _CallOver("network stopped")
            self._stop_playing()
            self.end_reason, self.status = over.reason, over.status
            self._over.set()
            self.note("completed", reason=over.reason, status=over.status)

    async def _perform(self, source: Awaitable[twiml.Document]) -> None:
        """Run TwiML until the call is over (`_ending` says how) or this task is cancelled."""
        try:
            await self._run_documents(source)
        except _CallOver as over:
            self._ending = self._ending or over
        except Exception:  # a mistake of ours must fail the test, not leave the call hanging
            self.refuse(f"the simulator itself failed: {traceback.format_exc()}")
            self._ending = self._ending or _CallOver("simulator failed", "failed")

    async def _run_documents(self, source: Awaitable[twiml.Document]) -> NoReturn:
        try:
            document = await source
            for _ in range(MAX_DOCUMENTS):
                try:
                    await self._run_verbs(document)
                except _GoTo as go:
                    document = go.document
        except twiml.TwimlError as error:
            self.refuse(str(error))
            await self._application_error(error.code, str(error))
        self.refuse(f"the app redirected the call {MAX_DOCUMENTS} times")
        raise _CallOver("too many redirects")

    async def _application_error(self, code: int, text: str) -> NoReturn:
        self.note("application_error", code=code, text=text)
        self._answer()
        await self._speak(APPLICATION_ERROR)
        raise _CallOver("application error")

    async def _run_verbs(self, document: twiml.Document) -> None:
        for problem in document.problems:
            self.refuse(problem)
        for n, verb in enumerate(document.verbs):
            if verb.name == "Reject":
                if n == 0 and self.answered_at is None:
                    self._reject(verb)
                continue
            self._answer()
            await self._verbs[verb.name](self, verb)
        raise _CallOver("end of TwiML")

    def _answer(self) -> None:
        if self.answered_at is None:
            self.answered_at = time.monotonic()
            self.status = "in-progress"
            self.note("answered")
            self.network.spawn(self._clock())

    async def _clock(self) -> None:
        """Let 20 ms pass at a time, on an absolute schedule, until the call is over."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for n in itertools.count():
            await asyncio.sleep(max(0.0, began + n * 0.02 - loop.time()))
            if self.ended:
                return
            self._tick()

    def _tick(self) -> None:
        frame = self._next_frame()
        stream = self.streams[-1] if self.streams and self.streams[-1].open else None
        audio = stream.tick(frame) if stream else b""
        if audio:
            if is_audible(audio):
                self._last_audible_at = time.monotonic()
            self._playing_since = self._playing_since or self.now()
        else:
            self._stop_playing()
        self._caller_track += frame
        self._agent_track += audio + SILENCE[len(audio) :]

    def _stop_playing(self) -> None:
        if self._playing_since is not None:
            since, self._playing_since = self._playing_since, None
            self.note("played", since=round(since, 3), until=round(self.now(), 3))

    def _next_frame(self) -> bytes:
        frame = bytes(self._speech[:FRAME])
        del self._speech[:FRAME]
        if bool(frame) != self._speaking:
            self._speaking = bool(frame)
            self.note("caller_speaks" if frame else "caller_silent")
        return frame or SILENCE

    # The verbs

    def _reject(self, verb: twiml.Verb) -> None:
        reason = verb.attributes.get("reason", "rejected")
        self.note("reject", reason=reason)
        raise _CallOver(f"rejected: {reason}", "busy" if reason == "busy" else "failed")

    async def _connect(self, verb: twiml.Verb) -> None:
        for noun in verb.children[:1]:
            if problem := twiml.stream_problem(noun):
                self.refuse(problem)
                self.note("stream_error", code=int(problem[:5]), text=problem)
                continue
            parameters = {
                parameter.attributes.get("name", ""): parameter.attributes.get("value", "")
                for parameter in noun.children
            }
            stream = MediaStream(self, noun.attributes["url"], parameters)
            self.streams.append(stream)
            try:
                await stream.run()
            finally:  # shielded: a call can be cancelled twice, a stream must be closed once
                await asyncio.shield(self.network.spawn(stream.leave()))
        await self._follow_action(verb)

    async def _redirect(self, verb: twiml.Verb) -> None:
        url = self._absolute(verb.text)
        self.note("redirect", url=url)
        raise _GoTo(await self._fetch(url, verb.attributes.get("method", "POST")))

    async def _say(self, verb: twiml.Verb) -> None:
        for _ in range(int(verb.attributes.get("loop", 1))):
            await self._speak(verb.text)

    async def _speak(self, text: str) -> None:
        self.said.append(text)
        self.note("say", text=text)
        await asyncio.sleep(len(text) * self.network.say_seconds_per_character)

    async def _pause(self, verb: twiml.Verb) -> None:
        self.note("pause", seconds=int(verb.attributes.get("length", 1)))
        await asyncio.sleep(int(verb.attributes.get("length", 1)))

    async def _hang_up(self, _: twiml.Verb) -> None:
        self.note("hangup")
        raise _CallOver("<Hangup>")

    async def _dial(self, verb: twiml.Verb) -> None:
        number = next((noun.text for noun in verb.children), verb.text)
        caller_id = verb.attributes.get("callerId", self.caller)
        if not _is_phone_number(number):
            self.refuse(f"13224: <Dial> of {number!r}, which is no E.164 number")
            return
        if caller_id not in (self.network.number, self.caller):
            self.refuse(f"13214: <Dial callerId={caller_id!r}> is neither our number nor theirs")
            return
        self.dialed = Dialed(number, caller_id)
        self.status = "dialing"
        self.note("dial", number=number, caller_id=caller_id)
        self._party_left = asyncio.Event()
        outcome = {"DialCallSid": "CA" + secrets.token_hex(16)}
        outcome["DialCallStatus"] = self.network.dial_status
        self.status = "in-progress"
        if self.network.dial_status == "completed":
            self.note("dial_answered")
            answered = time.monotonic()
            await self._party_left.wait()
            outcome["DialCallDuration"] = str(round(time.monotonic() - answered))
        else:
            self.note("dial_failed", status=self.network.dial_status)
        await self._follow_action(verb, **outcome)

    async def _follow_action(self, verb: twiml.Verb, **fields: str) -> None:
        if action := verb.attributes.get("action"):
            url = self._absolute(action)
            raise _GoTo(await self._fetch(url, verb.attributes.get("method", "POST"), **fields))

    def _absolute(self, url: str) -> str:
        """Resolve a URL against its document's; TwiML that came by REST has none."""
        resolved = urljoin(self._document_url, url)
        if not urlsplit(resolved).netloc:
            raise twiml.TwimlError(11100, f"{url!r} is no absolute URL, in TwiML without one")
        return resolved

    async def read_twiml(self, xml: str) -> twiml.Document:
        """Read TwiML that came by REST."""
        self._document_url = ""
        self.note("twiml", xml=xml)
        return twiml.parse(xml.encode())

    _verbs: ClassVar[dict[str, Callable[[Call, twiml.Verb], Awaitable[None]]]] = {
        "Connect": _connect,
        "Redirect": _redirect,
        "Say": _say,
        "Pause": _pause,
        "Hangup": _hang_up,
        "Dial": _dial,
    }

    # The webhook

    def _form(self) -> dict[str, str]:
        return {
            "CallSid": self.sid,
            "AccountSid": self.account_sid,
            "From": self.caller,
            "To": self.network.number,
            "Caller": self.caller,
            "Called": self.network.number,
            "CallStatus": self.status,
            "Direction": "inbound",
            "ApiVersion": "2010-04-01",
            "CallToken": '{"parentCallInfoToken":"simulated"}',
            "StirVerstat": "TN-Validation-Passed-A",
            **{
                f"{party}{place}": value
                for party in ("Caller", "From", "Called", "To")
                for place, value in _PLACES.items()
            },
            "FieldOfTomorrow": "new fields appear without notice",
        }

    async def _fetch(self, url: str, method: str, **fields: str) -> twiml.Document:
        """Ask the app for TwiML as Twilio does; with one more try if it can't be reached.

        :raises _CallOver: after the caller has been told of an application error.
        """
        form = {**self._form(), **fields, **self.fields}
        url = urlunsplit(urlsplit(url)._replace(fragment=""))
        if method == "GET":
            url, form = f"{url}{'&' if '?' in url else '?'}{urlencode(form)}", {}
        deadline = time.monotonic() + self.network.webhook_timeout
        token = secrets.token_hex(16)
        answer = None
        for _ in range(2):
            answer = await self._ask(url, method, form, token, deadline - time.monotonic())
            if answer and answer.status < 500:
                break
            if time.monotonic() >= deadline:
                break
        if answer is None or not 200 <= answer.status < 300:
            said = f"HTTP {answer.status}" if answer else "no answer"
            await self._application_error(11200, f"{url}: {said}")
        self._document_url = url
        self.note("twiml", xml=answer.body.decode("utf-8", "replace"))
        return twiml.parse(answer.body, answer.content_type)

    async def _ask(
        self, url: str, method: str, form: dict[str, str], token: str, seconds: float
    ) -> _Answer | None:
        network = self.network
        headers = {
            "User-Agent": "TwilioProxy/1.1",
            "Accept": "*/*",
            "Cache-Control": "max-age=259200",
            "I-Twilio-Idempotency-Token": token,
            "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
            **self.extra_headers,
        }
        signature = network.signature(url, form) if self.signature == "auto" else self.signature
        if signature is not None:
            headers["X-Twilio-Signature"] = signature
        local = network.to_local(url)
        began = time.monotonic()
        answer = None
        if local is None:
            self.refuse(f"{url} is not at the app's public address")
        else:
            limit = max(0.001, min(seconds, network.webhook_attempt_timeout))
            try:
                async with network.session.request(
                    method,
                    URL(local, encoded=True),
                    data=urlencode(form).encode() or None,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=limit),
                ) as response:
                    body = await response.read()
                    kind = response.headers.get("Content-Type", "")
                    answer = _Answer(response.status, kind, body)
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
                self.note("webhook_failed", url=url, error=repr(error))
        took = time.monotonic() - began
        status = answer.status if answer else 0
        network.webhooks.append(Webhook(url, form, status, took))
        self.note("webhook", url=url, status=status, ms=round(took * 1000))
        return answer


class _Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes


_PLACES = {"City": "SPRINGFIELD", "State": "OR", "Zip": "97477", "Country": "US"}


def _is_phone_number(text: str) -> bool:
    return text.startswith("+") and text[1:].isdigit() and 8 <= len(text) <= 16


def _without_repetition(timeline: list[Entry]) -> list[str]:
    lines: list[str] = []
    for kind, entries in itertools.groupby(timeline, key=lambda entry: entry.kind):
        group = list(entries)
        lines += map(str, group if len(group) <= 3 else [group[0]])
        if len(group) > 3:
            lines.append(f"{'':8}  ... {len(group) - 1} more of {kind}, last at {group[-1].t:.3f}")
    return lines


class PhoneNetwork:
    """Twilio, with one phone number and one account; a context manager.

    `voice_url` is where the app really listens (it may be set later, before the first call);
    `public_url` is how the app is known to the world: everything is signed for it, and URLs in
    TwiML must point to it.
    """

    def __init__(
        self,
        *,
        account_sid: str = "AC" + "0" * 32,
        auth_token: str = "simulated-auth-token",
        number: str = "+15550001111",
        voice_url: str = "",
        public_url: str = "https://voice.example.com",
        port: int = 0,
    ) -> None:
        self.account_sid = account_sid
        self.auth_token = auth_token
        self.number = number
        self.voice_url = voice_url
        self.public_url = public_url.rstrip("/")
        self.calls: dict[str, Call] = {}  # by sid; the latest if two share it
        self.placed: list[Call] = []
        self.webhooks: list[Webhook] = []
        self.rest_requests: list[RestRequest] = []
        self.refusals: list[str] = []
        self.rest_failures: list[int] = []  # what the next requests are answered with
        self.rest_delay = 0.0
        self.dial_status = "completed"
        """What becomes of a <Dial>: completed (somebody answers), busy, no-answer or failed."""
        self.say_seconds_per_character = 0.02
        self.webhook_timeout = 15.0  # for both tries together
        self.webhook_attempt_timeout = 15.0
        self.session: aiohttp.ClientSession
        self.api_url = ""
        self._port = port
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner
        self._validator = RequestValidator(auth_token)

    def __enter__(self) -> PhoneNetwork:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the loop and the REST API; `api_url` is known afterwards."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.run(self._open())

    def stop(self) -> None:
        """End every call as if the callers had hung up, and close everything."""
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def call(
        self,
        *,
        caller: str = "+15552223333",
        call_sid: str | None = None,
        signature: str | None = "auto",
        stream_signature: str | None = "auto",
        path: str | None = None,
        fields: dict[str, str] | None = None,
        extra_headers: dict[str, str] | None = None,
        faults: StreamFaults | None = None,
    ) -> Call:
        """Place a call and return at once, while it rings.

        `signature` (webhook) and `stream_signature` (handshake) are "auto" for the right one, None
        for no header, anything else is sent as it is. `path` replaces the path and query of the
        voice URL, `fields` are added to the form, `extra_headers` to both requests.
        """
        call = Call(
            self,
            caller=caller,
            sid=call_sid or "CA" + secrets.token_hex(16),
            signature=signature,
            stream_signature=stream_signature,
            voice_url=self.public_url + path if path else self.to_public(self.voice_url),
            fields=fields or {},
            extra_headers=extra_headers or {},
            faults=faults or StreamFaults(),
        )
        self.calls[call.sid] = call
        self.placed.append(call)
        self.on_loop(lambda: self.spawn(call.live()))
        return call

    def rest_fail_next(self, times: int = 1, status: int = 500) -> None:
        """Answer the next REST requests with `status`; 0 drops the connection."""
        self.rest_failures += [status] * times

    def signature(self, url: str, fields: dict[str, str]) -> str:
        """Return the X-Twilio-Signature of a request to this public URL."""
        return str(self._validator.compute_signature(url, fields))

    def to_public(self, local: str) -> str:
        """Return the public URL of a local http URL of the app."""
        parts = urlsplit(local)
        return self.public_url + urlunsplit(parts._replace(scheme="", netloc=""))

    def to_local(self, url: str) -> str | None:
        """Return where to connect for a public https or wss URL; None if it isn't the app's."""
        public, local, parts = urlsplit(self.public_url), urlsplit(self.voice_url), urlsplit(url)
        if parts.netloc != public.netloc or not parts.path.startswith(public.path):
            return None
        scheme = "ws" if parts.scheme == "wss" else "http"
        path = parts.path[len(public.path) :]
        return urlunsplit((scheme, local.netloc, path, parts.query, ""))

    # Between the test's thread and the loop

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 30) -> T:
        """Run a coroutine on the loop and return its result."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except FutureTimeoutError as error:
            future.cancel()
            raise AssertionError("the phone network hangs") from error

    def on_loop(self, action: Callable[[], object]) -> None:
        """Run a function on the loop and wait until it is done."""

        async def act() -> None:
            action()

        self.run(act())

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that `stop` waits for; on the loop only."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _open(self) -> None:
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        app = web.Application()
        path = "/2010-04-01/Accounts/{account}/Calls/{call}.json"
        app.router.add_get(path, self._rest)
        app.router.add_post(path, self._rest)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self.api_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _close(self) -> None:
        for call in self.placed:
            call._end(_CallOver("network stopped"))
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=5)
        for task in list(self._tasks):
            task.cancel()
        await self.session.close()
        await self._runner.cleanup()

    # REST

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        fields = dict(parse_qsl(body, keep_blank_values=True))
        record = RestRequest(request.method, request.path, fields)
        self.rest_requests.append(record)
        if self.rest_delay:
            await asyncio.sleep(self.rest_delay)
        if self.rest_failures:
            record.status = self.rest_failures.pop(0)
            if not record.status and request.transport:
                request.transport.abort()
            return _rest_error(record.status or 500, *_rest_fault(record))
        response = self._answer_rest(request, fields)
        record.status = response.status
        return response

    def _answer_rest(self, request: web.Request, fields: dict[str, str]) -> web.Response:
        credentials = f"{self.account_sid}:{self.auth_token}".encode()
        basic = "Basic " + base64.b64encode(credentials).decode()
        if request.headers.get("Authorization") != basic:
            self.refusals.append("REST: wrong credentials")
            return _rest_error(401, 20003, "Authenticate")
        call = self.calls.get(request.match_info["call"])
        known = call and request.match_info["account"] == self.account_sid
        if call is None or not known or (request.method == "POST" and call._ending):
            return _rest_error(404, 20404, f"The requested resource {request.path} was not found")
        if request.method == "POST" and (problem := _update_problem(call, fields)):
            self.refusals.append(f"REST: {problem}")
            return _rest_error(400, int(problem[:5]), problem[7:])
        if request.method == "POST":
            self._update(call, fields)
        return web.json_response(_call_resource(call))

    def _update(self, call: Call, fields: dict[str, str]) -> None:
        call.note("rest", **fields)
        if "Status" in fields:
            call._end(_CallOver("completed by REST"))
        elif "Twiml" in fields:
            call._take_over(call.read_twiml(fields["Twiml"]))
        elif "Url" in fields:
            call._take_over(call._fetch(fields["Url"], fields.get("Method", "POST")))


_UPDATE_FIELDS = {
    *("Url", "Method", "Status", "FallbackUrl", "FallbackMethod"),
    *("StatusCallback", "StatusCallbackMethod", "Twiml", "TimeLimit"),
}


def _update_problem(call: Call, fields: dict[str, str]) -> str | None:
    unknown = fields.keys() - _UPDATE_FIELDS
    jumps = fields.keys() & {"Twiml", "Url"}
    problems = {
        f"20001: Unknown parameters {sorted(unknown)}": unknown,
        "20001: Nothing to update": not fields,
        "20001: Invalid status": fields.get("Status", "completed") not in {"completed", "canceled"},
        "21218: Twiml and Url are mutually exclusive": len(jumps) > 1,
        "20001: Twiml is longer than 4000 characters": (
            len(fields.get("Twiml", "")) > MAX_TWIML_PARAMETER
        ),
        "21220: Call is not in-progress. Cannot redirect.": (
            jumps and "Status" not in fields and call.answered_at is None
        ),
    }
    return next((problem for problem, present in problems.items() if present), None)


def _rest_fault(request: RestRequest) -> tuple[int, str]:
    """Return the code and the words that go with a status that a test asked for."""
    faults = {
        401: (20003, "Authenticate"),
        404: (20404, f"The requested resource {request.path} was not found"),
        429: (20429, "Too Many Requests"),
    }
    return faults.get(request.status, (20500, "An internal server error occurred"))


def _rest_error(status: int, code: int, message: str) -> web.Response:
    more = f"https://www.twilio.com/docs/errors/{code}"
    body = {"code": code, "message": message, "more_info": more, "status": status}
    return web.json_response(body, status=status)


def _call_resource(call: Call) -> dict[str, Any]:
    return {
        "sid": call.sid,
        "account_sid": call.account_sid,
        "api_version": "2010-04-01",
        "direction": "inbound",
        "from": call.caller,
        "to": call.network.number,
        "status": call.status if not call._ending else call._ending.status,
        "uri": f"/2010-04-01/Accounts/{call.account_sid}/Calls/{call.sid}.json",
    }


def add_call(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], None]:
    """Place one call with a caller who speaks in tones, and print its timeline as it grows."""
    parser.add_argument("--voice-url", required=True, help="where the app's /voice really listens")
    parser.add_argument("--public-url", default="https://voice.example.com", help="WEBHOOK_URL")
    parser.add_argument("--auth-token", default="simulated-auth-token", help="TWILIO_AUTH_TOKEN")
    parser.add_argument("--account-sid", default="AC" + "0" * 32, help="TWILIO_ACCOUNT_SID")
    parser.add_argument("--number", default="+15550001111", help="TWILIO_PHONE_NUMBER")
    parser.add_argument("--port", type=int, default=0, help="port of the REST API (TWILIO_API_URL)")
    parser.add_argument("--say", action="append", default=[], help="what the caller says, in turn")
    parser.add_argument(
        "--quiet", type=float, default=2.0, help="seconds that end the agent's turn"
    )
    parser.add_argument(
        "--patience", type=float, default=15.0, help="seconds to wait for an answer"
    )
    parser.add_argument("--record", help="WAV file to write: caller left, agent right")
    return run_call


def run_call(options: argparse.Namespace) -> None:
    """Speak each sentence when the agent has finished, then hang up."""
    with PhoneNetwork(
        account_sid=options.account_sid,
        auth_token=options.auth_token,
        number=options.number,
        voice_url=options.voice_url,
        public_url=options.public_url,
        port=options.port,
    ) as network:
        print("REST API at", network.api_url, flush=True)
        call = network.call()
        printer = threading.Thread(target=_print_timeline, args=(call,), daemon=True)
        printer.start()
        try:
            _wait_for_the_agent(call, options.quiet, options.patience)
            for sentence in options.say:
                call.say(sentence)
                call.wait_until_silent(timeout=60)
                _wait_for_the_agent(call, options.quiet, options.patience)
        finally:
            call.hang_up()
            call.wait_ended()
            printer.join(5)
            print("heard:", call.heard())
            print(*network.refusals, sep="\n")
        if options.record:
            Path(options.record).write_bytes(call.recording())


def _wait_for_the_agent(call: Call, seconds: float, patience: float) -> None:
    """Wait until the agent has spoken since now and finished, or never began."""
    since = call.now() if call.quiet_for else 0.0

    def done(_: Call) -> bool:
        has_spoken = bool(call.quiet_for) and call.now() - call.quiet_for >= since
        finished = call.quiet_for >= seconds if has_spoken else call.now() > since + patience
        return call.ended or finished

    call.wait_until(done, 600, "end of the agent's words")


def _print_timeline(call: Call) -> None:
    seen = 0
    while True:
        over = call.ended
        for entry in call.timeline[seen:]:
            seen += 1
            if entry.kind != "media_received":
                print(entry, flush=True)
        if over:
            return
        call.wait_until(partial(_has_more, seen), 3600)


def _has_more(seen: int, call: Call) -> bool:
    return call.ended or len(call.timeline) > seen
