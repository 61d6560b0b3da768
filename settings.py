"""The settings: one model that names each variable, with its type, default, check and advice."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

import settings_env
from settings_env import Given, Problem
from settings_files import Json, at, json_object, session_faults, session_language, workflow_faults
from settings_values import (
    AccountSid,
    AgentUrl,
    ApiKey,
    AuthToken,
    Count,
    OpenAiKey,
    OpenAiUrl,
    PhoneNumber,
    Port,
    Seconds,
    TwilioUrl,
    WebhookUrl,
    Word,
    is_placeholder,
    kind_of,
)

HERE = Path(__file__).parent


class SettingsError(SystemExit, ValueError):
    """What is wrong with the settings. Uncaught, it ends the program in plain words."""


# --- files ------------------------------------------------------------------------------------


def _refuse(faults: Iterator[str]) -> None:
    lines = list(faults)
    if lines:
        raise ValueError("\n".join(lines))


def _file(name: Any) -> Any:
    return json_object(HERE / name) if isinstance(name, str) else name


def _session(session: Json) -> Json:
    _refuse(session_faults(session))
    return session


def _workflow(name: str) -> str:
    if name.endswith(".json"):
        _refuse(workflow_faults(_file(name)))
    elif not re.fullmatch(r"asst_\w+", name):
        kind = kind_of(name)
        raise ValueError(
            "Set AGENT_WORKFLOW_ID=workflow.json, or another file with your agent"
            + (f" instead of {kind}" if kind else "")
            + ", see FIX_AUDIO_ISSUE.md."
            " (Expected an ID that begins with 'asst', or a .json file)"
        )
    return name


def _with_hole(note: str) -> str:
    if note.count("{}") != 1 or re.search("[{}]", note.replace("{}", "")):
        raise ValueError("Expected exactly one {}, and no other { or }")
    return note


def _without_hole(note: str) -> str:
    if not note.strip() or re.search("[{}]", note):
        raise ValueError("Expected a text without { and }")
    return note


WithHole = Annotated[str, AfterValidator(_with_hole)]
Note = Annotated[str, AfterValidator(_without_hole)]


class Notes(BaseModel, frozen=True, extra="forbid"):
    """What the workflow is told in square brackets; `{}` is the hole for words or keys."""

    cut_in: WithHole
    line_lost: Note = (
        "[The line was lost for a moment. The caller may not have heard your last reply.]"
    )
    keys: WithHole
    inaudible: Note = "[inaudible]"
    not_transferred: Note = "[The caller could not be put through.]"


# --- the settings -----------------------------------------------------------------------------


class Settings(BaseModel, frozen=True):
    """The settings, by their variables' names in lower case. README has what each is for.

    Times are in seconds. What is 0 in the environment is `math.inf` here.
    """

    twilio_account_sid: AccountSid = Field(description="from console.twilio.com")
    twilio_auth_token: AuthToken = Field(description="from console.twilio.com", repr=False)
    twilio_phone_number: PhoneNumber = Field(description="the number people call, +15550001111")
    webhook_url: WebhookUrl = Field(description="https:// and the host that Twilio reaches")
    openai_api_key: OpenAiKey = Field(description="from platform.openai.com/api-keys", repr=False)
    agent_workflow_id: Annotated[Word, AfterValidator(_workflow)] = Field(
        description="what answers: workflow.json, or a file of your own"
    )

    greeting: str = "Hello! How can I help you?"
    filler: str = "One moment, please.|Let me see."
    idle_prompt: str = "Are you still there?"
    goodbye: str = "Thank you for calling. Goodbye!"
    say_again: str = "Sorry, I didn't catch that. Could you say it again?"
    apology: str = "I'm sorry, something went wrong. Could you try that again?"
    no_transfer: str = "I'm sorry, nobody can be reached right now."
    bridge: str = "Sorry, we were cut off for a moment. Please go on."
    unavailable: str = "I'm sorry, we can't take your call right now. Please try again later."

    filler_seconds: Seconds = 1.5
    idle_seconds: Seconds = 15
    max_call_seconds: Seconds = 3600
    workflow_timeout: Seconds = 30
    max_calls: Count = 100

    transfer_number: PhoneNumber = ""
    realtime_model: Word = "gpt-realtime-2.1-mini"
    realtime_session: Annotated[Json, BeforeValidator(_file), AfterValidator(_session)] = Field(
        "realtime_session.json", validate_default=True
    )
    notes: Annotated[Notes, BeforeValidator(_file)] = Field("notes.json", validate_default=True)

    port: Port = 5000
    openai_base_url: OpenAiUrl = "https://api.openai.com/v1"
    agent_base_url: AgentUrl = ""
    agent_api_key: ApiKey = Field("", repr=False)
    twilio_api_url: TwilioUrl = "https://api.twilio.com"

    # Not a variable: what was odd about where the values came from.
    oddities: tuple[str, ...] = ()

    @property
    def fillers(self) -> tuple[str, ...]:
        """The fillers, to be said in turn."""
        pieces = [piece.strip() for piece in self.filler.split("|")]
        return tuple(piece for piece in pieces if piece)

    @cached_property
    def workflow(self) -> Json | str:
        """The parameters of a Responses call, or an assistant's ID."""
        name = self.agent_workflow_id
        return json_object(HERE / name) if name.endswith(".json") else name

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
        return re.sub("^http", "ws", self.openai_base_url) + f"/realtime?model={model}"

    @property
    def stream_url(self) -> str:
        """Where Twilio is to open its media stream."""
        return re.sub("^http", "ws", self.webhook_url) + "/media-stream"

    @property
    def language(self) -> str:
        """The code of the language that callers speak, such as "en"."""
        return session_language(self.realtime_session)

    def warnings(self) -> list[str]:
        """Say what is allowed and probably a mistake, a line each, for the banner."""
        return [*self.oddities, *_doubts(self)]


def _doubts(chosen: Settings) -> Iterator[str]:
    at_openai = urlsplit(chosen.workflow_url).hostname == "api.openai.com"
    if isinstance(chosen.workflow, str):
        if at_openai:
            yield (
                "OpenAI ended the Assistants API on 2026-08-26: set AGENT_WORKFLOW_ID=workflow.json"
            )
    elif "[transfer]" in str(chosen.workflow.get("instructions")) and not chosen.transfer_number:
        yield "The workflow speaks of [transfer]: set TRANSFER_NUMBER, or callers hear NO_TRANSFER"
    transcription = at(chosen.realtime_session, "audio.input.transcription")
    if not transcription.get("languages") and not transcription.get("language"):
        yield 'No language is pinned: say "languages": ["en"] in "transcription"'


# --- reading them -----------------------------------------------------------------------------


@cache
def settings() -> Settings:
    """Return the settings, read once from the environment and `.env`, where blank is the default.

    Raises SettingsError with every problem at once, each naming its variable and the fix.
    """
    return read_settings(HERE, os.environ)


def read_settings(folder: Path, environment: Mapping[str, str]) -> Settings:
    """Return the settings in an environment and a folder's `.env`. Raises as `settings` does."""
    found = settings_env.given(folder, environment, variables())
    problems = list(found.problems)
    values = {name.lower(): value for name, value in _meant(found.values).items()}
    try:
        chosen = Settings.model_validate({**values, "oddities": found.oddities})
    except pydantic.ValidationError as error:
        problems.extend(_problems(error, found))
    if problems:
        raise SettingsError(_report(problems, found))
    return chosen


def variables() -> tuple[str, ...]:
    """Name the variables in their order."""
    return tuple(name.upper() for name in Settings.model_fields if name != "oddities")


def _meant(values: dict[str, str]) -> dict[str, str]:
    """Leave out what only shows where a required value belongs."""
    fields = Settings.model_fields
    return {
        name: value
        for name, value in values.items()
        if not (fields[name.lower()].is_required() and is_placeholder(value))
    }


def _problems(error: pydantic.ValidationError, found: Given) -> Iterator[Problem]:
    for fault in error.errors():
        field, *path = map(str, fault["loc"])
        advice = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "missing" and not path:
            advice = f"Missing: {Settings.model_fields[field].description}"
        where = _shown(field, found.values.get(field.upper(), ""))
        for line in advice.split("\n"):
            yield Problem(where, ": ".join([*path, line]))


def _shown(field: str, value: str) -> str:
    """Name a variable and its value, unless that may be a secret, whatever it was meant for."""
    secret = not Settings.model_fields[field].repr or re.search(r"[\w-]{16,}|@", value)
    if not value or secret or len(value) > 40:
        return field.upper()
    return f"{field.upper()} ({value})"


def _report(problems: list[Problem], found: Given) -> str:
    lines = [f"  {where}: {advice}" for where, advice in problems]
    headline = "Fix these settings, in the environment or in .env:"
    return "\n".join([headline, *lines, found.source, *found.oddities])
