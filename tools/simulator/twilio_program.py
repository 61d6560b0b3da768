"""The TwiML of a call, run as Twilio runs it: from the first ring to the call's end."""

from __future__ import annotations

import asyncio
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, ClassVar, NamedTuple, NoReturn
from urllib.parse import urljoin, urlsplit

from tools.simulator import twiml
from tools.simulator.media_stream import MediaStream
from tools.simulator.twilio_webhook import WebhookRequest

if TYPE_CHECKING:
    from tools.simulator.twilio_call import Call

APPLICATION_ERROR = "We are sorry, an application error has occurred. Goodbye."
MAX_DOCUMENTS = 50  # a call; Twilio has no such bound, a test needs one
NO_DOCUMENT = 11200  # Twilio's code for an answer that fails, or doesn't come


class Dialed(NamedTuple):
    number: str
    caller_id: str


class CallOver(Exception):
    """The call has come to its end; `status` is Twilio's word for how."""

    def __init__(self, reason: str, status: str = "completed") -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class _GoTo(Exception):
    """The rest of the document is abandoned for another one."""

    def __init__(self, document: twiml.Document) -> None:
        super().__init__()
        self.document = document


class CallProgram:
    """What happens in one call. Runs on the network's loop."""

    def __init__(self, call: Call, voice_url: str) -> None:
        self.ending: CallOver | None = None
        self._call = call
        self._network = call.network
        self._document_url = voice_url
        self._fallback_url = self._network.number_resource["voice_fallback_url"]
        self._takeover: Awaitable[twiml.Document] | None = None
        self._task: asyncio.Task[None] | None = None
        self._party_left: asyncio.Event | None = None

    @property
    def abandoned(self) -> bool:
        """Whether the TwiML that runs is to be left, because the call ends or goes elsewhere."""
        return self.ending is not None or self._takeover is not None

    @property
    def dialing(self) -> bool:
        """Whether somebody was dialled."""
        return self._party_left is not None

    def end(self, over: CallOver) -> None:
        """End the call from outside its TwiML; the first reason stands."""
        if not self.ending:
            self.ending = over
            self._leave_document()

    def take_over(self, document: Awaitable[twiml.Document]) -> None:
        """Abandon the current TwiML for another document.

        By REST: whether the number's fallback counts afterwards isn't documented, so it doesn't.
        """
        self._takeover = document
        self._fallback_url = ""
        self._leave_document()

    def _leave_document(self) -> None:
        if self._task:
            self._task.cancel()

    def dialed_party_hangs_up(self) -> None:
        """Let the party that <Dial> reached hang up."""
        if self._party_left:
            self._party_left.set()

    # --- documents --------------------------------------------------------------------------

    async def run(self) -> CallOver:
        """Be the call from its first ring to its end, and return how it ended."""
        document: Awaitable[twiml.Document] = self.fetch(self._document_url, "POST")
        try:
            while not self.ending:
                self._task = asyncio.create_task(self._perform(document))
                await asyncio.wait([self._task])
                if self._takeover is None:
                    break
                document, self._takeover = self._takeover, None
        finally:
            for waiting in (document, self._takeover):
                if isinstance(waiting, Coroutine):
                    waiting.close()
        return self.ending or CallOver("network stopped")

    async def _perform(self, source: Awaitable[twiml.Document]) -> None:
        """Run TwiML until the call is over (`ending` says how) or this task is cancelled."""
        try:
            await self._run_documents(source)
        except CallOver as over:
            self.ending = self.ending or over
        except Exception:  # a mistake of ours must fail the test, not leave the call hanging
            self._call.refuse(f"the simulator itself failed: {traceback.format_exc()}")
            self.ending = self.ending or CallOver("simulator failed", "failed")

    async def _run_documents(self, source: Awaitable[twiml.Document]) -> NoReturn:
        try:
            document = await self._or_fallback(source)
            for _ in range(MAX_DOCUMENTS):
                document = await self._or_fallback(self._next(document))
        except twiml.TwimlError as error:
            self._refuse_unusable(error)
            await self._application_error(error)
        self._call.refuse(f"the app redirected the call {MAX_DOCUMENTS} times")
        raise CallOver("too many redirects")

    async def _or_fallback(self, source: Awaitable[twiml.Document]) -> twiml.Document:
        """Return a document, or what the number's fallback has instead."""
        try:
            return await source
        except twiml.TwimlError as error:
            if not self._fallback_url:
                raise
            self._refuse_unusable(error)
            failed = {"ErrorCode": str(error.code), "ErrorUrl": self._document_url}
        method = self._network.number_resource["voice_fallback_method"]
        return await self.fetch(self._fallback_url, method, **failed)

    async def _next(self, document: twiml.Document) -> twiml.Document:
        """Run a document, and return the one that it leads to."""
        try:
            await self._run_verbs(document)
        except _GoTo as go:
            return go.document

    def _refuse_unusable(self, error: twiml.TwimlError) -> None:
        """Note what was answered though it is no TwiML; no answer is no mistake of the app's."""
        if error.code != NO_DOCUMENT:
            self._call.refuse(str(error))

    async def _run_verbs(self, document: twiml.Document) -> NoReturn:
        for problem in document.problems:
            self._call.refuse(problem)
        for number, verb in enumerate(document.verbs):
            if verb.name == "Reject":
                if number == 0 and self._call.answered_at is None:
                    self._reject(verb)
            else:
                self._call.answer()
                await self._verbs[verb.name](self, verb)
        raise CallOver("end of TwiML")

    async def _application_error(self, error: twiml.TwimlError) -> NoReturn:
        self._call.note("application_error", code=error.code, text=str(error))
        self._call.answer()
        await self._speak(APPLICATION_ERROR)
        raise CallOver("application error")

    async def fetch(self, url: str, method: str, **fields: str) -> twiml.Document:
        """Ask the app for TwiML.

        :raises TwimlError: if it has none.
        """
        request = WebhookRequest(self._call, url, method, fields)
        self._document_url = request.url
        answer = await request.send()
        if answer is None or not 200 <= answer.status < 300:
            said = f"HTTP {answer.status}" if answer else "no answer"
            raise twiml.TwimlError(NO_DOCUMENT, f"{request.url}: {said}")
        self._call.note("twiml", xml=answer.body.decode("utf-8", "replace"))
        return twiml.parse(answer.body, answer.content_type)

    async def read(self, xml: str) -> twiml.Document:
        """Read TwiML that came by REST: it has no address, so its URLs must be absolute."""
        self._document_url = ""
        self._call.note("twiml", xml=xml)
        return twiml.parse(xml.encode())

    def _absolute(self, url: str) -> str:
        resolved = urljoin(self._document_url, url)
        if not urlsplit(resolved).netloc:
            raise twiml.TwimlError(11100, f"{url!r} is no absolute URL, in TwiML without one")
        return resolved

    # --- verbs ------------------------------------------------------------------------------

    def _reject(self, verb: twiml.Verb) -> NoReturn:
        reason = verb.attributes.get("reason", "rejected")
        self._call.note("reject", reason=reason)
        raise CallOver(f"rejected: {reason}", "busy" if reason == "busy" else "failed")

    async def _connect(self, verb: twiml.Verb) -> None:
        for noun in verb.children[:1]:
            if problem := twiml.stream_problem(noun, self._network.stream_scheme):
                self._call.refuse(problem)
                self._call.note("stream_error", code=int(problem[:5]), text=problem)
            else:
                await self._stream(noun)
        await self._follow_action(verb)

    async def _stream(self, noun: twiml.Verb) -> None:
        parameters = {
            parameter.attributes.get("name", ""): parameter.attributes.get("value", "")
            for parameter in noun.children
        }
        stream = MediaStream(self._call, noun.attributes["url"], parameters)
        self._call.streams.append(stream)
        try:
            await stream.run()
        finally:  # shielded: a call can be cancelled twice, a stream must be closed once
            await asyncio.shield(self._network.spawn(stream.leave()))

    async def _redirect(self, verb: twiml.Verb) -> NoReturn:
        url = self._absolute(verb.text)
        self._call.note("redirect", url=url)
        raise _GoTo(await self.fetch(url, verb.attributes.get("method", "POST")))

    async def _say(self, verb: twiml.Verb) -> None:
        for _ in range(int(verb.attributes.get("loop", 1))):
            await self._speak(verb.text)

    async def _speak(self, text: str) -> None:
        self._call.said.append(text)
        self._call.note("say", text=text)
        await asyncio.sleep(len(text) * self._network.say_seconds_per_character)

    async def _pause(self, verb: twiml.Verb) -> None:
        seconds = int(verb.attributes.get("length", 1))
        self._call.note("pause", seconds=seconds)
        await asyncio.sleep(seconds)

    async def _hang_up(self, _: twiml.Verb) -> NoReturn:
        self._call.note("hangup")
        raise CallOver("<Hangup>")

    async def _dial(self, verb: twiml.Verb) -> None:
        number = next((noun.text for noun in verb.children), verb.text)
        caller_id = verb.attributes.get("callerId", self._call.caller)
        if not _is_phone_number(number):
            self._call.refuse(f"13224: <Dial> of {number!r}, which is no E.164 number")
        elif caller_id not in (self._network.number, self._call.caller):
            text = f"<Dial callerId={caller_id!r}> is neither our number nor theirs"
            self._call.refuse(f"13214: {text}")
        else:
            outcome = await self._ring(Dialed(number, caller_id))
            await self._follow_action(verb, **outcome)

    async def _ring(self, dialed: Dialed) -> dict[str, str]:
        """Dial somebody, and return what Twilio tells of it when it is over."""
        status = self._network.dial_status
        outcome = {"DialCallSid": "CA" + secrets.token_hex(16), "DialCallStatus": status}
        self._call.dialed = dialed
        self._call.note("dial", number=dialed.number, caller_id=dialed.caller_id)
        self._party_left = asyncio.Event()
        if status == "completed":
            self._call.note("dial_answered")
            answered = time.monotonic()
            await self._party_left.wait()
            outcome["DialCallDuration"] = str(round(time.monotonic() - answered))
        else:
            self._call.note("dial_failed", status=status)
        return outcome

    async def _follow_action(self, verb: twiml.Verb, **fields: str) -> None:
        if action := verb.attributes.get("action"):
            url = self._absolute(action)
            raise _GoTo(await self.fetch(url, verb.attributes.get("method", "POST"), **fields))

    _verbs: ClassVar[dict[str, Callable[[CallProgram, twiml.Verb], Awaitable[None]]]] = {
        "Connect": _connect,
        "Redirect": _redirect,
        "Say": _say,
        "Pause": _pause,
        "Hangup": _hang_up,
        "Dial": _dial,
    }


def _is_phone_number(text: str) -> bool:
    return text.startswith("+") and text[1:].isdigit() and 8 <= len(text) <= 16
