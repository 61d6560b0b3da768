"""The settings: one model that names each variable, with its type, default, check and advice."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from datetime import date
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo

from settings_env import Environment
from settings_files import (
    FromFile,
    SessionFile,
    WorkflowId,
    pinned_languages,
    session_doubts,
    with_secrets,
)
from settings_json import Json, json_object
from settings_reading import Origin, read
from settings_values import (
    OPENAI,
    AccountSid,
    ApiKey,
    AuthToken,
    BaseUrl,
    BearerToken,
    Count,
    Flag,
    HostUrl,
    LogFormat,
    OpenAiKey,
    OpenAiUrl,
    PhoneNumber,
    Phrase,
    Port,
    SayLanguage,
    Seconds,
    TimeZone,
    WebhookUrl,
    Word,
    Workers,
)

HERE = Path(__file__).parent

# --- the settings -----------------------------------------------------------------------------


def _not_this_line(number: str, others: ValidationInfo) -> str:
    if number == others.data.get("twilio_phone_number"):
        raise ValueError("Expected another number than TWILIO_PHONE_NUMBER, which leads here")
    return number


def _one_hole(note: str) -> str:
    if note.count("{}") != 1 or re.search("[{}]", note.replace("{}", "")):
        raise ValueError("expected exactly one {} in it, and no other brace")
    return note


def _no_hole(note: str) -> str:
    if not note.strip() or re.search("[{}]", note):
        raise ValueError("expected a text without braces")
    return note


WithHole = Annotated[str, AfterValidator(_one_hole)]
Note = Annotated[str, AfterValidator(_no_hole)]


class Notes(BaseModel, frozen=True, extra="forbid"):
    """What the workflow is told in square brackets; `{}` is the hole for words, or for keys."""

    cut_in: WithHole
    line_lost: Note = (
        "[The line was lost for a moment. The caller may not have heard your last reply.]"
    )
    keys: WithHole
    inaudible: Note = "[inaudible]"
    not_transferred: Note = "[The caller could not be put through.]"


Dollars = Annotated[float, Field(ge=0)]
Priced = Literal[
    "text in", "text cached", "text written", "text out",
    "audio in", "audio cached", "audio out", "minutes",
]  # fmt: skip


class Prices(BaseModel, frozen=True, extra="forbid"):
    """What models cost: per million tokens, or per minute of sound."""

    about: str = ""
    as_of: date
    models: Mapping[str, Mapping[Priced, Dollars]]


class Settings(BaseModel, frozen=True):
    """The settings, by their variables' names in lower case.

    docs/configuration.md has what each is for. Times are in seconds. What is 0 in the
    environment is `math.inf` here.
    """

    twilio_account_sid: AccountSid = Field(description="the account's SID, from console.twilio.com")
    twilio_auth_token: AuthToken = Field(
        description="the account's auth token, from console.twilio.com", repr=False
    )
    twilio_phone_number: PhoneNumber = Field(description="the number that people call")
    webhook_url: WebhookUrl = Field(description="https:// and the host that Twilio reaches")
    openai_api_key: OpenAiKey = Field(
        description="an API key, from platform.openai.com/api-keys", repr=False
    )
    # No default, so that nobody's callers are answered by the example unawares
    agent_workflow_id: WorkflowId = Field(
        description="what answers, such as workflow.json", examples=["workflow.json"]
    )

    greeting: Phrase = "Hello! How can I help you?"
    filler: Phrase = "One moment, please.|Let me see."
    idle_prompt: Phrase = "Are you still there?"
    goodbye: Phrase = "Thank you for calling. Goodbye!"
    say_again: Phrase = "Sorry, I didn't catch that. Could you say it again?"
    apology: Phrase = "I'm sorry, something went wrong. Could you try that again?"
    no_transfer: Phrase = "I'm sorry, nobody can be reached right now."
    bridge: Phrase = "Sorry, we were cut off for a moment. Please go on."
    unavailable: Phrase = "I'm sorry, we can't take your call right now. Please try again later."
    say_language: SayLanguage = "en-US"

    filler_seconds: Seconds = 1.5
    idle_seconds: Seconds = 15
    max_call_seconds: Seconds = 3600
    workflow_timeout: Seconds = 30
    max_calls: Count = 100
    web_concurrency: Workers = 1

    transfer_number: Annotated[PhoneNumber, AfterValidator(_not_this_line)] = ""
    realtime_model: Word = "gpt-realtime-2.1-mini"
    realtime_session: SessionFile = Field("realtime_session.json", validate_default=True)
    timezone: TimeZone = "UTC"
    notes: Annotated[Notes, FromFile] = Field("notes.json", validate_default=True)

    log_format: LogFormat = "text"
    log_transcripts: Flag = 0
    prices: Annotated[Prices, FromFile] = Field("prices.json", validate_default=True)
    metrics_token: BearerToken = Field("", repr=False)

    port: Port = 5000
    openai_base_url: OpenAiUrl = f"https://{OPENAI}/v1"
    agent_base_url: BaseUrl = ""
    agent_api_key: ApiKey = Field("", repr=False)
    twilio_api_url: HostUrl = "https://api.twilio.com"

    # Not a variable: where the values came from.
    origin: Origin = Origin()

    @property
    def fillers(self) -> tuple[str, ...]:
        """The fillers, to be taken in turn."""
        pieces = [piece.strip() for piece in self.filler.split("|")]
        return tuple(piece for piece in pieces if re.search(r"\w", piece))

    @cached_property
    def workflow(self) -> Json | str:
        """The parameters of a Responses call, or an assistant's ID."""
        name = self.agent_workflow_id
        if not name.endswith(".json"):
            return name
        return with_secrets(json_object(HERE / name))

    @property
    def workflow_url(self) -> str:
        """Where the workflow lives: with the voice, unless it has an address of its own."""
        return self.agent_base_url or self.openai_base_url

    @property
    def workflow_key(self) -> str:
        """The workflow's key; OpenAI's must not go to another host."""
        if self.agent_api_key or self.agent_base_url:
            return self.agent_api_key
        return self.openai_api_key

    @property
    def realtime_url(self) -> str:
        """Where Realtime is: on the same host as the rest of OpenAI."""
        model = quote(self.realtime_model, safe="")
        return f"{websocket_url(self.openai_base_url)}/realtime?model={model}"

    @property
    def realtime_host(self) -> str:
        """The host that Realtime is at, and the variable that names it if it isn't OpenAI's."""
        host = urlsplit(self.openai_base_url).netloc
        return host if host == OPENAI else f"{host}, from OPENAI_BASE_URL"

    @property
    def stream_url(self) -> str:
        """Where Twilio is to open its media stream."""
        return f"{websocket_url(self.webhook_url)}/media-stream"

    @property
    def language(self) -> str:
        """The code of the language of the voice session, such as "en"."""
        return next(iter(pinned_languages(self.realtime_session)), "en")

    @property
    def is_out_of_reach(self) -> bool:
        """Whether WEBHOOK_URL is this machine's own address, which only a stand-in can ask."""
        is_local = self.webhook_url.startswith("http://")  # nothing else is taken without TLS
        return is_local and self.twilio_api_url.endswith(".twilio.com")

    def warnings(self) -> list[str]:
        """Say what is allowed and probably a mistake, a line each, for the banner."""
        return [*self.origin.oddities, *_doubts(self)]


def websocket_url(url: str) -> str:
    """Return the WebSocket address that goes with an HTTP one."""
    return re.sub("^http", "ws", url)


def _doubts(chosen: Settings) -> Iterator[str]:
    if chosen.is_out_of_reach:
        yield "Twilio can't reach WEBHOOK_URL: set the https address of a tunnel, or of a proxy"
    host = urlsplit(chosen.workflow_url).hostname or ""
    if host.endswith((OPENAI, "openai.azure.com")):
        if isinstance(chosen.workflow, str):
            yield (
                "OpenAI ended the Assistants API on 2026-08-26: set AGENT_WORKFLOW_ID=workflow.json"
            )
        if not chosen.workflow_key:
            yield "AGENT_BASE_URL is OpenAI's: set AGENT_API_KEY, since OPENAI_API_KEY isn't used"
    if "[transfer]" in str(chosen.workflow) and not chosen.transfer_number:
        yield "The workflow may say [transfer]: set TRANSFER_NUMBER, or callers hear NO_TRANSFER"
    if not re.fullmatch("[0-9a-fA-F]{32}", chosen.twilio_auth_token):
        yield "TWILIO_AUTH_TOKEN is not 32 hexadecimal digits, as Twilio's tokens are"
    if OPENAI in chosen.openai_base_url and "realtime" not in chosen.realtime_model:
        yield f"REALTIME_MODEL ({chosen.realtime_model}) doesn't look like a Realtime model"
    yield from session_doubts(chosen.realtime_session)
    languages = pinned_languages(chosen.realtime_session)
    if not languages:
        yield 'No language is pinned; set "languages": ["en"] in the session\'s "transcription"'
    elif "en" not in languages and chosen.say_language.startswith("en-"):
        yield f"The voice session's language is {languages[0]}: set SAY_LANGUAGE, too"


@cache
def settings() -> Settings:
    """Return the settings, read once from the environment and `.env`; blank means the default.

    Raises SettingsError with every problem at once, each naming its variable and the fix.
    """
    return read_settings(HERE, os.environ)


def read_settings(folder: Path, environment: Environment) -> Settings:
    """Return the settings in an environment and a folder's `.env`. Raises as `settings` does."""
    return read(Settings, folder, environment)
