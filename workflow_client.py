"""The workflow: conversations with the business's agent, and its replies as streamed text.

Two kinds answer: the parameters of a Responses call (`ResponsesWorkflow`), and an assistant of the
Assistants API (`AssistantWorkflow`). The rest of the app can't tell which.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar
from zoneinfo import ZoneInfo

import httpx2
import openai

from cost import Usage
from logs import log
from messages import NotUnderstood
from opening import LOST, opening_note
from replies import NO_TOOLS, ResponseReply, RunReply, is_broken
from settings import Settings

RETRY_PAUSES = (0.5, 1, 2)  # seconds
RETRY_AFTER_SECONDS = 5  # the longest pause that a server may ask for; a caller waits for it
START_SECONDS = 5  # the longest for one request, after which no retry begins; Twilio waits 15
WARM_SECONDS = 180  # how long idle connections are kept; Azure forgets them after 240
LONGEST_METADATA = 512  # letters
TURN_SECONDS = 10  # the longest wait for a reply to a call's earlier stream; it may hang
STREAM_SECONDS = 300  # a call whose stream hasn't come by then is forgotten

HOPELESS = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
ACTIVE = ("queued", "in_progress", "requires_action", "cancelling")  # runs that block their thread

T = TypeVar("T")
Request = Callable[[], T]
Retrieve = Callable[[str], object]  # a conversation, by its ID
Streamed = openai.Stream[Any]  # an answer, closed by whoever enters it


class WorkflowError(Exception):
    """The workflow gave no whole reply; the message says why."""


class ConversationLost(WorkflowError):
    """A conversation can't go on: it was deleted, is too long for the model, or broken."""


FAILURES = (WorkflowError, openai.OpenAIError, httpx2.HTTPError)  # what a failing workflow raises


def ignore_usage(_: Usage) -> None:
    """Take no notice of what a reply used."""


@dataclass
class Dialogue:
    """The workflow's side of a call."""

    call_sid: str
    caller: str
    called: str
    about: str  # what else is known of the caller
    since: float
    conversation: str = ""
    restarted: bool = False  # its conversation was lost
    streams: int = 0
    spend: Callable[[Usage], None] = ignore_usage  # is told what each reply used
    starting: threading.Lock = field(default_factory=threading.Lock)
    talking: threading.Lock = field(default_factory=threading.Lock)

    @property
    def metadata(self) -> dict[str, str]:
        """What the conversation is filed under; OpenAI takes values of so many letters."""
        values = {"call_sid": self.call_sid, "caller": self.caller, "called": self.called}
        return {name: value[:LONGEST_METADATA] for name, value in values.items()}

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait, at most TURN_SECONDS, until the reply to the call's other stream is read.

        A call may have two streams for a while. Between a message and its reply, another would be
        refused, or get that reply.
        """
        alone = self.talking.acquire(timeout=TURN_SECONDS)
        try:
            yield
        finally:
            if alone:
                self.talking.release()


class Workflow(Protocol):
    """What each kind of workflow can do."""

    def start(self, dialogue: Dialogue, note: str) -> str:
        """Start a conversation with the opening note in it; return its ID."""

    def send(self, dialogue: Dialogue, text: str) -> Iterator[str]:
        """Send a message to the conversation and yield the reply's text.

        Raises one of FAILURES; ConversationLost only before any text.
        """

    def delete(self, conversation: str) -> None:
        """Delete a conversation."""


# --- asking again -------------------------------------------------------------------------------


def will_pass(error: openai.OpenAIError) -> bool:
    """Tell whether the same request may be answered a moment later.

    A connection refused or reset counts: no byte of an answer had come. A pooled one that a load
    balancer has forgotten shows so. A time-out doesn't count: the caller has waited long enough.
    """
    if isinstance(error, openai.APIStatusError):
        if error.code in HOPELESS or error.type in HOPELESS:
            return False
        is_busy = error.status_code in (408, 409, 429) or error.code == "conversation_locked"
        return is_busy or error.status_code >= 500
    is_timeout = isinstance(error, openai.APITimeoutError)
    return isinstance(error, openai.APIConnectionError) and not is_timeout


@dataclass(frozen=True)
class Patience:
    """How requests that are refused for a moment are made again: after so many seconds each.

    A server that asks for a few seconds more gets them.
    """

    pauses: tuple[float, ...] = RETRY_PAUSES
    # Not a plain default: gevent may replace `time.sleep` after this module is imported
    sleep: Callable[[float], None] = field(default_factory=lambda: time.sleep)

    def ask(
        self,
        call_sid: str,
        request: Request[T],
        passes: Callable[[openai.OpenAIError], bool] = will_pass,
        within: float = math.inf,
    ) -> T:
        """Make a request of a call's, and again while its error passes; not after `within` seconds.

        Raises the last error.
        """
        deadline = time.monotonic() + within
        for number, pause in enumerate(self.pauses, 2):
            try:
                return request()
            except openai.OpenAIError as error:
                wait = max(pause, retry_after(error))
                if not passes(error) or time.monotonic() + wait > deadline:
                    raise
                again = f"retrying the workflow in {wait:.1f} s, attempt {number}"
                log.warning("[%s] %s: %s", call_sid, again, error)
            self.sleep(wait)
        return request()


def retry_after(error: openai.OpenAIError) -> float:
    """Return for how many seconds a server asks to be left alone; 0 if it doesn't, or for long."""
    if not isinstance(error, openai.APIStatusError):
        return 0
    try:
        seconds = float(error.response.headers.get("Retry-After", ""))
    except ValueError:  # none is asked for, or it is a date
        return 0
    return seconds if seconds <= RETRY_AFTER_SECONDS else 0


@contextmanager
def noticing_loss(retrieve: Retrieve, conversation: str) -> Iterator[None]:
    """Tell a conversation that can't go on from other faults; raises ConversationLost."""
    try:
        yield
    except openai.NotFoundError as error:
        if is_broken(error.message):
            raise ConversationLost(error.message) from error
        if is_gone(retrieve, conversation):
            raise ConversationLost("the conversation is gone") from error
        raise
    except openai.BadRequestError as error:
        if is_broken(error.message):
            raise ConversationLost(error.message) from error
        raise


def is_gone(retrieve: Retrieve, conversation: str) -> bool:
    """Tell whether it is the conversation that isn't found, and not a model or an assistant."""
    try:
        retrieve(conversation)
    except openai.NotFoundError:
        return True
    return False


def read(stream: Streamed, reply: ResponseReply | RunReply, dialogue: Dialogue) -> Iterator[str]:
    """Read a streamed answer to its end, yield the reply's text, and tell what it used.

    The SDK's own events cost as much as all else in a turn, and an odd one ends its stream. Here
    one that can't be read is logged and left out.
    """
    for event in httpx2.EventSource(stream.response, max_event_size=None):
        if event.data in ("", "[DONE]"):
            continue
        try:
            piece = reply.take(event.data)
        except NotUnderstood as error:
            log.warning(
                "[%s] skipped an event of the workflow's that can't be read: %s",
                dialogue.call_sid,
                error,
            )
            continue
        if piece:
            yield piece
    dialogue.spend(reply.usage)


# --- the two kinds ---------------------------------------------------------------------------


class ResponsesWorkflow:
    """Responses on a Conversation; `parameters` are those of a Responses call."""

    def __init__(
        self, client: openai.OpenAI, parameters: dict[str, Any], patience: Patience
    ) -> None:
        """Open no connection yet."""
        self._client = client
        self._responses_url = f"{client.base_url}responses"
        self._conversations = client.conversations
        self._parameters = parameters
        self._patience = patience

    def start(self, dialogue: Dialogue, note: str) -> str:
        """Start a Conversation with the opening note in it; return its ID."""
        opening: Any = {"role": "user", "content": note}
        request = partial(
            self._conversations.create,
            items=[opening],
            metadata=dialogue.metadata,
            timeout=START_SECONDS,
        )
        return self._patience.ask(dialogue.call_sid, request, within=START_SECONDS).id

    def send(self, dialogue: Dialogue, text: str) -> Iterator[str]:
        """Send a message to the Conversation and yield the Response's text.

        To be read to its end even if unwanted: broken off, it would leave the Conversation locked,
        and the reply stored or not. A request answered by a 5xx is made again, though a gateway may
        have answered so while OpenAI stores the message: there is no way to ask.
        """
        reply = ResponseReply()
        request = partial(self._respond, dialogue.conversation, text)
        with (
            noticing_loss(self._conversations.retrieve, dialogue.conversation),
            self._patience.ask(dialogue.call_sid, request) as stream,
        ):
            yield from read(stream, reply, dialogue)
        for call_id in reply.tool_calls:
            self._refuse_tool(dialogue, call_id)
        if reply.conversation_is_broken:
            raise ConversationLost(reply.failure)
        if reply.failure:
            raise WorkflowError(reply.failure)

    def delete(self, conversation: str) -> None:
        """Delete a Conversation."""
        self._conversations.delete(conversation)

    def _respond(self, conversation: str, text: str) -> Streamed:
        ours = {"conversation": conversation, "input": text, "stream": True}
        # By its URL: `responses.create` would take half as long again, to look at what isn't given
        # and to join the path to the base URL
        return self._client.post(
            self._responses_url,
            cast_to=object,
            body={**self._parameters, **ours},
            stream=True,
            stream_cls=Streamed,
        )

    def _refuse_tool(self, dialogue: Dialogue, call_id: str) -> None:
        """Answer a call of a tool: left open, it would make the next message an error."""
        output: Any = {"type": "function_call_output", "call_id": call_id, "output": NO_TOOLS}
        create = self._conversations.items.create
        request = partial(create, dialogue.conversation, items=[output])
        self._patience.ask(dialogue.call_sid, request)


class AssistantWorkflow:
    """Runs of an assistant on a thread."""

    def __init__(self, client: openai.OpenAI, assistant_id: str, patience: Patience) -> None:
        """Open no connection yet."""
        self._threads: Any = client.beta.threads
        self._assistant_id = assistant_id
        self._patience = patience

    def start(self, dialogue: Dialogue, note: str) -> str:
        """Start a thread with the opening note in it; return its ID."""
        opening = {"role": "user", "content": note}
        request = partial(
            self._threads.create,
            messages=[opening],
            metadata=dialogue.metadata,
            timeout=START_SECONDS,
        )
        return str(self._patience.ask(dialogue.call_sid, request, within=START_SECONDS).id)

    def send(self, dialogue: Dialogue, text: str) -> Iterator[str]:
        """Send a message to the thread and yield the run's text."""
        reply = RunReply()
        thread = dialogue.conversation
        with noticing_loss(self._threads.retrieve, thread):
            self._ask(dialogue, partial(self._add, thread, text))
            with self._ask(dialogue, partial(self._run, thread)) as stream:
                yield from read(stream, reply, dialogue)
        if reply.asks_for_tools:
            self._end_run(thread)
        if reply.failure:
            raise WorkflowError(reply.failure)

    def delete(self, conversation: str) -> None:
        """Delete a thread."""
        self._threads.delete(conversation)

    def _ask(self, dialogue: Dialogue, request: Request[T]) -> T:
        """Make a request of a thread, and end a run that blocks it.

        It hung, was answered by an error though it had begun, or its process was lost.
        """
        try:
            return self._patience.ask(dialogue.call_sid, request)
        except openai.BadRequestError:
            passes = will_pass_or_end if self._end_run(dialogue.conversation) else will_pass
        return self._patience.ask(dialogue.call_sid, request, passes)

    def _add(self, thread: str, text: str) -> None:
        """Add the caller's message to the thread, unless it is there in spite of an error."""
        try:
            self._threads.messages.create(thread, role="user", content=text)
        except (openai.InternalServerError, openai.APIConnectionError):
            if not self._is_last(thread, text):
                raise

    def _is_last(self, thread: str, text: str) -> bool:
        messages = self._threads.messages.list(thread, limit=1).data
        if not messages or messages[0].role != "user":
            return False
        return bool(messages[0].content[0].text.value == text)

    def _run(self, thread: str) -> Streamed:
        create = self._threads.runs.create
        stream: Streamed = create(thread, assistant_id=self._assistant_id, stream=True)
        return stream

    def _end_run(self, thread: str) -> bool:
        """End the thread's run; return whether there was one that was active."""
        runs = self._threads.runs.list(thread, limit=1).data
        active = [run.id for run in runs if run.status in ACTIVE]
        for run_id in active:
            with suppress(openai.BadRequestError):  # it has just ended
                self._threads.runs.cancel(run_id, thread_id=thread)
        return bool(active)


def will_pass_or_end(error: openai.OpenAIError) -> bool:
    """Tell whether a request may be answered a moment later, when a run has ended."""
    return will_pass(error) or isinstance(error, openai.BadRequestError)


# --- the door -----------------------------------------------------------------------------------


class WorkflowClient:
    """The conversations of calls with the workflow that AGENT_WORKFLOW_ID names.

    May be used by many threads at once; one a process is enough.
    """

    def __init__(
        self,
        settings: Settings,
        pauses: tuple[float, ...] = RETRY_PAUSES,
        clock: Callable[[], float] = time.monotonic,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """Open no connection yet. A test may give `pauses` of its own, in seconds."""
        client = openai_client(settings, transport)
        self._workflow = workflow_of(settings.workflow, client, Patience(pauses))
        self._clock = clock
        self._zone = ZoneInfo(settings.timezone)
        self._dialogues: dict[str, Dialogue] = {}
        self._lock = threading.Lock()

    def start(self, call_sid: str, caller: str, called: str, about: str = "") -> str:
        """Start a call's conversation, once however often it is asked for; return its ID.

        `about` is a sentence on the caller for its opening note. Raises one of FAILURES.
        """
        with self._lock:
            dialogue = self._dialogue(call_sid, caller, called, about)
        return self._ensure_started(dialogue)

    def resume(
        self,
        call_sid: str,
        conversation: str,
        caller: str,
        called: str,
        spend: Callable[[Usage], None] = ignore_usage,
        *,
        about: str = "",
    ) -> None:
        """Learn that a call's stream is here, and its conversation; "" if it isn't started yet.

        `spend` is told what each reply used, by the thread that reads it.
        """
        with self._lock:
            dialogue = self._dialogue(call_sid, caller, called, about)
            if conversation and not dialogue.restarted:  # else it is the one that was lost
                dialogue.conversation = conversation
            dialogue.streams += 1
            dialogue.spend = spend

    def conversation(self, call_sid: str) -> str:
        """Return the ID of a call's conversation as it is now; "" if none could be started yet."""
        dialogue = self._dialogues.get(call_sid)
        return dialogue.conversation if dialogue else ""

    def send_message(self, call_sid: str, transcript: str) -> Iterator[str]:
        """Send what the caller said and yield the text of the reply as it is written.

        If its conversation can't go on, a new one is started and told so: the workflow then has to
        ask again what it knew. Raises one of FAILURES when there is no whole reply.
        """
        dialogue = self._dialogues.get(call_sid)
        if dialogue is None:
            raise WorkflowError("the call was not started, or has ended")
        self._ensure_started(dialogue)
        with dialogue.turn():
            try:
                yield from self._workflow.send(dialogue, transcript)
            except ConversationLost as lost:
                log.warning("[%s] going on in a new conversation: %s", call_sid, lost)
                dialogue.conversation = ""
                dialogue.restarted = True
                self._ensure_started(dialogue)
                yield from self._workflow.send(dialogue, transcript)

    def end(self, call_sid: str) -> None:
        """Learn that a call's stream has ended; forget the call, unless its next one is here."""
        with self._lock:
            dialogue = self._dialogues.get(call_sid)
            if dialogue is None:
                return
            dialogue.streams -= 1
            if dialogue.streams < 1:
                del self._dialogues[call_sid]

    def delete(self, call_sid: str) -> None:
        """Delete the conversation of a call that was only a trial. Raises one of FAILURES."""
        with self._lock:
            dialogue = self._dialogues.pop(call_sid, None)
        if dialogue and dialogue.conversation:
            self._workflow.delete(dialogue.conversation)

    def _ensure_started(self, dialogue: Dialogue) -> str:
        with dialogue.starting:
            if not dialogue.conversation:
                dialogue.conversation = self._workflow.start(dialogue, self._opening(dialogue))
            return dialogue.conversation

    def _opening(self, dialogue: Dialogue) -> str:
        now = datetime.now(self._zone)
        about = dialogue.about
        if dialogue.restarted and LOST not in about:
            about = f"{about} {LOST}".strip()
        return opening_note(dialogue.caller, dialogue.called, about, now)

    def _dialogue(self, call_sid: str, caller: str, called: str, about: str) -> Dialogue:
        self._forget_strays()
        new = Dialogue(call_sid, caller, called, about, self._clock())
        return self._dialogues.setdefault(call_sid, new)

    def _forget_strays(self) -> None:
        """Forget calls that ended before their stream came, or went to another process with it."""
        latest = self._clock() - STREAM_SECONDS
        for dialogue in list(self._dialogues.values()):
            if not dialogue.streams and dialogue.since < latest:
                del self._dialogues[dialogue.call_sid]


def openai_client(settings: Settings, transport: httpx2.BaseTransport | None) -> openai.OpenAI:
    """Make a client of the server that the workflow lives at."""
    seconds = settings.workflow_timeout
    limits = httpx2.Limits(keepalive_expiry=WARM_SECONDS)
    client = openai.OpenAI(
        api_key=settings.workflow_key or "none",
        base_url=settings.workflow_url,
        http_client=openai.DefaultHttpxClient(limits=limits, transport=transport),
        timeout=None if math.isinf(seconds) else seconds,
        max_retries=0,
    )
    # What the SDK tells of the machine in seven headers costs a tenth of each request
    names = [name for name in client.default_headers if name.startswith("X-Stainless-")]
    omitted: Any = dict.fromkeys(names, openai.omit)
    return client.with_options(default_headers=omitted)


def workflow_of(what: Any, client: openai.OpenAI, patience: Patience) -> Workflow:
    """Return the workflow of an assistant's ID, or of a Responses call's parameters."""
    if isinstance(what, str):
        return AssistantWorkflow(client, what, patience)
    return ResponsesWorkflow(client, what, patience)
