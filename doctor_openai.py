"""Checks of OpenAI: the key, the models, the voice, and the workflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from threading import Timer
from time import monotonic

import httpx2
import openai

from doctor_examination import CALL_SID, Examination, Fault, NotApplicable, reason, too_late
from messages import Handler, NotUnderstood, dispatch
from realtime import read_aloud, refusal
from settings import Settings
from utils import same_words
from wire import Connection, Refused, connect
from workflow_client import FAILURES, WorkflowClient, WorkflowError

KEYS = "platform.openai.com/api-keys"
BILLING = "platform.openai.com/settings/organization/billing"
TELLS_NOTHING = "this server doesn't tell about models"
WORKFLOW_SECONDS = 60.0  # in which the workflow must answer if WORKFLOW_TIMEOUT sets no limit

# --- what OpenAI answers --------------------------------------------------------------------------


@contextmanager
def openai_answers(seconds: float) -> Iterator[None]:
    """Tell a failure in words that say what to do; `seconds` is how long was waited at most."""
    try:
        yield
    except (openai.APITimeoutError, httpx2.TimeoutException) as error:
        raise Fault(too_late(seconds)) from error
    except openai.APIConnectionError as error:
        raise Fault(f"can't be reached: {reason(error.__cause__ or error)}") from error
    except openai.APIError as error:
        raise Fault(with_advice(sentence_of(error))) from error


def sentence_of(error: openai.APIError) -> str:
    """Return what OpenAI itself says."""
    if isinstance(error.body, dict) and "message" in error.body:
        return str(error.body["message"])
    return error.message


def with_advice(sentence: str) -> str:
    """Say what to do about a sentence of OpenAI's, where it doesn't say so itself."""
    sentence = " ".join(sentence.split()).rstrip(".")
    if "API key" in sentence:
        return f"{sentence}; keys are at {KEYS}"
    if "quota" in sentence:
        return f"{sentence}; see {BILLING}"
    return sentence


def lacks_permission(error: openai.APIStatusError) -> bool:
    """Tell a restricted key, which may do other things, from a wrong one."""
    return error.status_code in (401, 403) and "Missing scopes" in error.message


# --- key and models -------------------------------------------------------------------------------


def key_is_accepted(examination: Examination) -> str:
    """Ask for something that costs nothing."""
    with openai_answers(examination.seconds):
        try:
            voice_client(examination).models.list()
        except openai.NotFoundError as error:
            raise NotApplicable(TELLS_NOTHING) from error
        except openai.APIStatusError as error:
            if lacks_permission(error):
                return "accepted, though it may not ask about models"
            raise
    return "accepted"


def voice_model_exists(examination: Examination) -> str:
    """Ask about REALTIME_MODEL."""
    name = examination.settings.realtime_model
    return lifetime(examination, voice_client(examination), name, "set another")


def transcription_model_exists(examination: Examination) -> str:
    """Ask about the model that writes down what the caller says."""
    transcription = examination.settings.realtime_session["audio"]["input"]["transcription"]
    name = transcription["model"]
    fix = 'change "transcription" in the session file'
    return lifetime(examination, voice_client(examination), name, fix)


def workflow_model_exists(examination: Examination) -> str:
    """Ask about the model that the workflow's file names."""
    chosen = examination.settings
    if isinstance(chosen.workflow, str):
        raise NotApplicable(f"{chosen.agent_workflow_id} has a model of its own")
    client = client_of(examination, chosen.workflow_url, chosen.workflow_key)
    fix = f'change "model" in {chosen.agent_workflow_id}'
    return lifetime(examination, client, chosen.workflow["model"], fix)


def voice_client(examination: Examination) -> openai.OpenAI:
    """Return a client of the server where Realtime is."""
    chosen = examination.settings
    return client_of(examination, chosen.openai_base_url, chosen.openai_api_key)


def client_of(examination: Examination, url: str, key: str) -> openai.OpenAI:
    """Return a client that waits for so long only, and asks once."""
    key = key or "none"
    return openai.OpenAI(api_key=key, base_url=url, timeout=examination.seconds, max_retries=0)


def lifetime(examination: Examination, client: openai.OpenAI, name: str, fix: str) -> str:
    """Return until when there is a model; `fix` says what to do if there is none."""
    with openai_answers(examination.seconds):
        try:
            model = client.models.retrieve(name)
        except openai.NotFoundError as error:
            if error.code != "model_not_found":
                raise NotApplicable(TELLS_NOTHING) from error
            raise Fault(f"{sentence_of(error)}; {fix}") from error
        except openai.APIStatusError as error:
            if lacks_permission(error):
                raise NotApplicable("the key may not ask about models") from error
            raise
    if not model.shutdown_date:
        return f"{name} is there, and its end is not announced"
    left = days_until(model.shutdown_date)
    if left < 0:
        raise Fault(f"{name} was shut down on {model.shutdown_date}; {fix}")
    days = "1 day" if left == 1 else f"{left} days"
    return f"{name} ends on {model.shutdown_date}, {days} from now; then {fix}"


def days_until(day: str) -> int:
    """Return how many days are left until a day, as YYYY-MM-DD."""
    return (date.fromisoformat(day[:10]) - date.today()).days


# --- the voice ------------------------------------------------------------------------------------


class Trial:
    """A Realtime session with our settings, and what it makes of a sentence."""

    def __init__(self, connection: Connection, sentence: str) -> None:
        """Take over a connection; without a sentence only the settings are tried."""
        self.is_accepted = False
        self.is_over = False
        self.fault = ""
        self.said = ""
        self.first_sound = 0.0  # seconds after it was asked for
        self._connection = connection
        self._sentence = sentence
        self._asked_at = 0.0

    def run(self, chosen: Settings) -> None:
        """Send the settings, and take what comes."""
        self._send("session.update", session=chosen.realtime_session)
        for event in self._connection.messages():
            with suppress(NotUnderstood):  # a call goes on, too
                dispatch(event, "type", EVENTS, self)
            if self.is_over:
                return
        self.fault = self.fault or self._connection.close_reason or "the connection was closed"

    def give_up(self, why: str) -> None:
        """End it; for another thread."""
        self.fault = why
        self._connection.abort()

    def _send(self, kind: str, **body: object) -> None:
        self._connection.send(json.dumps({"type": kind, **body}).encode())

    def on_session_updated(self) -> None:
        """Ask for the sentence."""
        self.is_accepted = True
        self.is_over = not self._sentence
        if self._sentence:
            self._asked_at = monotonic()
            self._send("response.create", response=read_aloud("check", self._sentence))

    def on_audio(self) -> None:
        """Note that there is sound."""
        self.first_sound = self.first_sound or monotonic() - self._asked_at

    def on_audio_transcript(self, said: str) -> None:
        """Note what was said."""
        self.said = said

    def on_response_done(self, status: str, why: str, message: str) -> None:
        """Note how it ended."""
        self.is_over = True
        if status != "completed":
            self.fault = message or why or status

    def on_error(self, message: str, param: str) -> None:
        """Note what was refused; `param` names a field of ours."""
        self.is_over = True
        self.fault = message
        if param.startswith("session."):
            self.fault = f"{message} ({param}: change it in the session file)"


EVENTS = {
    "session.updated": Handler(Trial.on_session_updated),
    "response.output_audio.delta": Handler(Trial.on_audio),
    "response.output_audio_transcript.done": Handler(Trial.on_audio_transcript, ("transcript",)),
    "response.done": Handler(
        Trial.on_response_done,
        (
            "response.status",
            "response.status_details.reason?",
            "response.status_details.error.message?",
        ),
    ),
    "error": Handler(Trial.on_error, ("error.message?", "error.param?")),
}


def read(examination: Examination, sentence: str = "") -> Trial:
    """Open a session with our settings, and have a sentence read."""
    chosen = examination.settings
    key = {"Authorization": f"Bearer {chosen.openai_api_key}"}
    try:
        with connect(chosen.realtime_url, key) as connection:
            trial = Trial(connection, sentence)
            late = Timer(examination.seconds, trial.give_up, [too_late(examination.seconds)])
            late.start()
            try:
                trial.run(chosen)
            finally:
                late.cancel()
    except Refused as error:
        raise Fault(f"refused: {with_advice(refusal(error))}") from error
    except OSError as error:
        raise Fault(f"can't be reached: {reason(error)}") from error
    return trial


def session_is_accepted(examination: Examination) -> str:
    """See whether Realtime takes the session file: it refuses it whole for a single field."""
    trial = read(examination)
    if not trial.is_accepted:
        raise Fault(with_advice(trial.fault))
    return "accepted by Realtime"


def sentence_is_read(examination: Examination) -> str:
    """Have the greeting spoken, and compare the words."""
    greeting = examination.settings.greeting
    trial = read(examination, greeting)
    if trial.fault:
        raise Fault(with_advice(trial.fault))
    if not trial.first_sound:
        raise Fault("a sentence was spoken without sound; try it again")
    if not same_words(greeting, trial.said):
        hint = "try REALTIME_MODEL=gpt-realtime-2.1"
        raise Fault(f"asked to say {greeting!r}, it said {trial.said!r}; {hint}")
    return f"read GREETING word for word, its first sound after {trial.first_sound:.1f} s"


# --- the workflow ---------------------------------------------------------------------------------


def workflow_answers(examination: Examination) -> str:
    """Hold a conversation of one turn, and have it deleted."""
    chosen = examination.settings
    seconds = min(chosen.workflow_timeout, WORKFLOW_SECONDS)
    workflow = WorkflowClient(chosen.model_copy(update={"workflow_timeout": seconds}), pauses=())
    try:
        with openai_answers(seconds):
            took = time_to_first_text(workflow, chosen.twilio_phone_number)
    except (WorkflowError, httpx2.HTTPError) as error:
        raise Fault(reason(error)) from error
    finally:
        with suppress(*FAILURES):
            workflow.delete(CALL_SID)
    return f"replied, its first text after {took:.1f} s"


def time_to_first_text(workflow: WorkflowClient, number: str) -> float:
    """Say hello, hear the reply out, and return after how many seconds its text began."""
    workflow.start(CALL_SID, number, number)
    asked_at = monotonic()
    times = [monotonic() - asked_at for _ in workflow.send_message(CALL_SID, "Hello!")]
    if not times:
        raise WorkflowError("it replied without words")
    return times[0]
