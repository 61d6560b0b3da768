"""Ctrl-C ends `python app.py` as SIGTERM does: calls are handed over, and no traceback is shown."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.conftest import Pool
from tools.harness import Service, hear_out

STORY = "Once there was a car that nobody wanted to buy."


@pytest.fixture
def own(pool: Pool) -> Iterator[Service]:
    """Start an app that a test may end."""
    settings = {
        "AGENT_WORKFLOW_ID": "workflow.json",
        "REALTIME_SESSION": str(pool.session_file({})),
        "FILLER_SECONDS": "60",
        "GREETING": "Hello!",
    }
    service = Service("threads", settings)
    service.begin()
    yield service
    service.stop()
    assert "Traceback" not in service.process.output


def test_an_interrupt_lets_what_is_being_said_be_heard(own: Service) -> None:
    own.brain.reply = lambda *_: STORY
    call = own.call()
    call.say("Tell me a story")
    call.wait_for_heard("Once there")
    own.process.signal(signal.SIGINT)
    hear_out(call, STORY)
    assert own.process.exit_code() == 0
    own.wait_for_log("stopping when the calls have been handed over")


def test_a_second_interrupt_ends_it_at_once(own: Service) -> None:
    own.brain.reply = lambda *_: " ".join([STORY] * 10)
    call = own.call()
    call.say("Tell me a long story")
    call.wait_for_heard("Once there")
    own.process.signal(signal.SIGINT)
    own.wait_for_log("stopping when the calls")
    own.process.signal(signal.SIGINT)
    assert own.process.exit_code(10) == 128 + signal.SIGINT
