"""Signals: Ctrl-C lets calls be handed over, and bad settings are refused at every reload."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from tools.app_process import eventually
from tools.harness import Service, hear_out, session_file
from tools.simulator.openai_server import Reply

pytestmark = pytest.mark.thorough("each test starts a process of its own")
STORY = "Once there was a car that nobody wanted to buy."
Start = Callable[[str], Service]


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """A session file that a test may spoil."""
    return session_file(tmp_path)


@pytest.fixture
def start(session: Path) -> Iterator[Start]:
    """Start an app that a test may end."""
    started: list[Service] = []

    def start(mode: str) -> Service:
        settings = {
            "AGENT_WORKFLOW_ID": "workflow.json",
            "REALTIME_SESSION": str(session),
            "FILLER_SECONDS": "60",
            "GREETING": "Hello!",
        }
        service = Service(mode, settings)
        started.append(service)
        service.begin()
        return service

    yield start
    for service in started:
        service.stop()
        assert "Traceback" not in service.process.output


def test_an_interrupt_lets_what_is_being_said_be_heard(start: Start) -> None:
    service = start("threads")
    service.brain.reply = lambda *_: STORY
    call = service.call()
    call.say("Tell me a story")
    call.wait_for_heard("Once there")
    service.process.signal(signal.SIGINT)
    hear_out(call, STORY)
    assert service.process.exit_code() == 0
    service.wait_for_log("stopping when the calls are handed over")


def test_a_second_interrupt_ends_it_at_once(start: Start) -> None:
    service = start("threads")
    rest = Event()
    service.brain.reply = lambda *_: Reply(
        [f"{STORY} And", " so on."], rest=rest
    )  # a story without an end
    call = service.call()
    call.say("Tell me a long story")
    call.wait_for_heard("Once there")
    service.process.signal(signal.SIGINT)
    service.wait_for_log("stopping when the calls")
    service.process.signal(signal.SIGINT)
    assert service.process.exit_code() == 128 + signal.SIGINT
    rest.set()


def test_a_second_reload_refuses_bad_settings_as_the_first_does(
    start: Start, session: Path
) -> None:
    service = start("gevent")
    old = set(service.process.workers)
    service.process.signal(signal.SIGHUP)
    eventually(lambda: old.isdisjoint(service.process.workers), "end of the old worker", 30)
    session.write_text('{"type": "realtime",', "utf-8")
    service.process.signal(signal.SIGHUP)
    service.wait_for_log("Not reloaded")
    assert service.process.alive
    service.call()
