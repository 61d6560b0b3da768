"""The workflow in text: told what it is told in a call, and shown as it would be spoken."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.unit.environment import REQUIRED
from tests.workflow.conftest import KINDS, SHORT, kept_texts, settings_of
from tools.app_process import ROOT, START_SECONDS, environment
from tools.chat import AFTER, Chat
from tools.simulator.openai_server import OpenAISimulator, Reply
from workflow_client import WorkflowClient

pytestmark = pytest.mark.filterwarnings("ignore:The Assistants API is deprecated")
GREETING = "Hello! How can I help you?"


def chat(openai: OpenAISimulator, *typed: str, kind: str = "responses") -> list[str]:
    """Type these lines; return what is shown."""
    settings = settings_of(KINDS[kind], openai_base_url=openai.base_url)
    shown: list[str] = []
    Chat(settings, WorkflowClient(settings, SHORT)).run(typed, shown.append)
    return shown


def told(openai: OpenAISimulator) -> list[str]:
    return [text for role, text in kept_texts(openai) if role == "user"]


def test_each_sentence_is_a_line_as_it_would_be_spoken(openai: OpenAISimulator, kind: str) -> None:
    openai.brain.reply = lambda *_: "We open **at nine** every morning. What else can I do for you?"
    assert chat(openai, "When do you open?", kind=kind) == [
        GREETING,
        "We open at nine every morning.",
        "What else can I do for you?",
    ]


def test_the_workflow_is_told_what_it_is_told_in_a_call(openai: OpenAISimulator) -> None:
    chat(openai, "Hello", "", "  ", "#4711", "# 12")
    note, *rest = told(openai)
    assert note.startswith("[Phone call from anonymous to +15550001111. It is ")
    assert rest == ["Hello", "[The caller pressed 4711 on the keypad.]", "# 12"]


@pytest.mark.parametrize("marker", ["[hangup]", "[transfer]"])
def test_a_marker_is_shown_and_ends_the_chat(openai: OpenAISimulator, marker: str) -> None:
    openai.brain.reply = lambda *_: f"Of course, sir. {marker}"
    shown = chat(openai, "Bye", "Are you there?")
    assert shown == [GREETING, "Of course, sir.", marker, AFTER]
    assert told(openai)[1:] == ["Bye"]


def test_a_failure_is_told_with_its_reason_and_the_chat_goes_on(openai: OpenAISimulator) -> None:
    openai.brain.fail_next(1, "http_401")
    shown = chat(openai, "Hello", "Again")
    assert "something went wrong" in shown[1]
    assert "Incorrect API key" in shown[1]
    assert shown[2:] == ["You said: Again."]


@pytest.mark.parametrize(
    "signs", ["", "  \n ", "👍", "…", "**", "---", "？！", "[1]", "<br>", "🙏🏽 ♥️"]
)
def test_a_reply_without_a_word_is_told(openai: OpenAISimulator, signs: str) -> None:
    openai.brain.reply = lambda *_: Reply(signs)
    assert chat(openai, "Hello")[1].endswith("(no reply: the reply has no words)")


@pytest.mark.thorough("it starts a process")
def test_in_a_terminal_it_needs_nothing_of_twilio_s(openai: OpenAISimulator) -> None:
    given = {"OPENAI_API_KEY": REQUIRED["openai_api_key"], "OPENAI_BASE_URL": openai.base_url}
    done = subprocess.run(
        [sys.executable, "-m", "tools.chat"],
        cwd=ROOT,
        env=environment({**given, "AGENT_WORKFLOW_ID": "workflow.json"}),
        input="Hello\n",
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after = done.stdout.split(GREETING)
    assert f"the real workflow, workflow.json at {openai.base_url}" in before
    assert "> You said: Hello." in after
    assert done.stderr == ""
