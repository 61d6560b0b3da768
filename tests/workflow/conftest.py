"""Fixtures: a workflow at OpenAI's stand-in, of either kind, and the client that asks it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import workflow_client
from settings import Settings
from tests.unit.environment import REQUIRED
from tools.simulator.openai_server import OpenAISimulator
from tools.simulator.speech import ToneVoice
from tools.simulator.waiting import PATIENCE
from workflow_client import FAILURES, WorkflowClient

SID = "CA" + "1" * 32
CALLER, CALLED = "+15552223333", "+15550001111"
SHORT = (0.01, 0.02, 0.2)  # pauses before a request is made again, in seconds
KINDS = {"responses": "workflow.json", "assistant": "asst_test"}


def settings_of(workflow: str = "workflow.json", **changes: Any) -> Settings:
    """Return settings that are right, for an agent of this kind."""
    return Settings.model_validate({**REQUIRED, "agent_workflow_id": workflow, **changes})


def kept_texts(openai: OpenAISimulator) -> list[tuple[str, str]]:
    """Return what its only conversation keeps: who said what, in order."""
    conversations = [each.texts for each in openai.conversations.values()]
    threads = [each.texts for each in openai.threads.values()]
    (texts,) = conversations + threads
    return texts


class Talk:
    """A call's talk with the workflow, as the line leads it."""

    def __init__(self, client: WorkflowClient, call_sid: str = SID) -> None:
        self.client = client
        self.call_sid = call_sid

    def start(self) -> str:
        return self.client.start(self.call_sid, CALLER, CALLED)

    def say(self, words: str) -> str:
        """Say something, and return the whole reply."""
        return "".join(self.client.send_message(self.call_sid, words)).strip()

    def fail(self, words: str) -> tuple[str, Exception]:
        """Say something, and return what of the reply came before it failed, and the failure."""
        heard = ""
        try:
            for piece in self.client.send_message(self.call_sid, words):
                heard += piece
        except FAILURES as error:
            return heard, error
        raise AssertionError(f"no failure, but {heard!r}")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no start fail because the machine stood still: in life a caller would not wait longer."""
    monkeypatch.setattr(workflow_client, "START_SECONDS", PATIENCE)


@pytest.fixture
def openai() -> Iterator[OpenAISimulator]:
    voice = ToneVoice()
    with OpenAISimulator(ears=voice, mouth=voice, api_key=REQUIRED["openai_api_key"]) as openai:
        openai.brain.cancel_delay = 0
        yield openai


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of workflow; a test about one of them parametrizes it."""
    return str(request.param)


@pytest.fixture
def client(openai: OpenAISimulator, kind: str) -> WorkflowClient:
    settings = settings_of(KINDS[kind], openai_base_url=openai.base_url)
    return WorkflowClient(settings, pauses=SHORT)


@pytest.fixture
def talk(client: WorkflowClient) -> Talk:
    """A call that was started."""
    talk = Talk(client)
    talk.start()
    return talk
