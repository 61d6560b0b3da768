"""The log of real calls, line by line; what it says of rarer things is in `unit/test_story.py`."""

from __future__ import annotations

import json
import re
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FAR_AWAY, Pool
from tools.harness import ROOT, Service, eventually, hear_out
from tools.log_check import END_OF_CALL
from tools.simulator.openai_brain import Reply
from tools.simulator.openai_knobs import ResponseFailure
from tools.simulator.waiting import PATIENCE

OWN = pytest.mark.thorough("it starts processes of its own")
SAY_AGAIN = "Could you say it again?"
APOLOGY = "Could you try that again?"
TOKEN = "the-token-of-the-scraper"
TIME = r"\d+\.\d\d s"
AFTER = rf"after {TIME}, workflow {TIME}"
STORY_OF_THE_CALL = [
    r"INFO call started: conv_\w+",
    rf"INFO greeted after {TIME}",
    rf"INFO turn 1: heard 4 words {AFTER}, voice {TIME}, 2 sentences",
    r"INFO a noise of \d\.\d s",
    r"WARNING what the caller said could not be transcribed: .+",
    r"INFO the caller's words could not be made out",
    rf"INFO turn 2: heard 5 keys, workflow {TIME}, voice {TIME}, 1 sentence",
    rf"INFO turn 3: heard 4 words {AFTER} \(filler\), voice {TIME}, \d sentences,"
    r" cut in after \d+ words",
    r"WARNING not spoken whole: failed rate_limit_exceeded: The server had an error .+",
    r"INFO saying a sentence again: failed rate_limit_exceeded: .+",
    rf"INFO turn 4: heard 2 words {AFTER}, voice {TIME}, 1 sentence",
    r"ERROR no reply: .+",
    rf"INFO turn 5: heard 1 word after {TIME}, no reply, 1 apology",
    rf"INFO turn 6: heard 1 word {AFTER}, voice {TIME}, 1 sentence",
    r"INFO ended after \d+ s: \[hangup\], 6 turns, 1 interruption, slowest \d\.\d s, 1 apology,"
    r" 1 not understood, 1 repeat, read 100 % word for word, less than 0\.01 USD",
]


def answers(text: str, history: object) -> Reply:
    """Answer as the workflow of the eventful call does."""
    if "When" in text:
        return Reply("We open at nine. Shall I book?")
    if "pressed" in text:
        return Reply("Thank you.")
    if "story" in text:
        return Reply("A car came to us and made a noise. Nobody knew why. " * 3, first_delay=1.5)
    if "Stop" in text:
        return Reply("All right then.")
    if "Again" in text:
        return Reply(status="failed")
    return Reply("Goodbye. [hangup]")


@pytest.mark.thorough("it takes twelve seconds")
@pytest.mark.settings(FILLER_SECONDS="1.2", FILLER="Let me look.|One moment.")
def test_the_log_of_an_eventful_call_reads_as_a_story(service: Service) -> None:
    service.brain.reply = answers
    call = service.call()
    call.say("When do you open?")
    hear_out(call, "Shall I book?")
    service.realtime.next_transcripts = [""]
    call.say("(cough)")
    service.wait_for_log("a noise")
    service.realtime.fail_transcripts = 1
    call.say("Mumble")
    hear_out(call, SAY_AGAIN)
    call.press("4711#")
    hear_out(call, "Thank you.")
    call.say("Tell me a story")
    call.wait_for_heard("made a noise")
    service.realtime.next_failures = [ResponseFailure(code="rate_limit_exceeded")]
    call.say("Stop it")
    hear_out(call, "All right then.")
    call.say("Again")
    hear_out(call, APOLOGY)
    call.say("Bye")
    call.wait_ended()
    service.wait_for_log(END_OF_CALL)
    stamp = rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d (\w+) \[{call.sid} \*\*\*33\] "
    lines = [re.sub(stamp, r"\1 ", line) for line in service.log]
    assert_eventful(lines)


def assert_eventful(lines: list[str]) -> None:
    assert len(lines) == len(STORY_OF_THE_CALL), "\n".join(lines)
    for line, pattern in zip(lines, STORY_OF_THE_CALL, strict=True):
        assert re.fullmatch(pattern, line), f"{line}\nis not\n{pattern}"


def test_the_eventful_call_that_owners_can_read_is_this_one() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    log = page.split("## The log of an eventful call\n")[1]
    assert_eventful(re.findall(r"^\d\d:\d\d:\d\d (.+)$", log, re.MULTILINE))


@pytest.fixture
def own(pool: Pool) -> Iterator[Callable[..., Service]]:
    """Make a service under gunicorn with these settings."""
    made: list[Service] = []

    def make(**settings: str) -> Service:
        shared = {
            **FAR_AWAY,
            "AGENT_WORKFLOW_ID": "workflow.json",
            "REALTIME_SESSION": str(pool.session_file({})),
            "GREETING": "Hello!",
        }
        made.append(Service("gevent", {**shared, **settings}))
        made[-1].begin()
        return made[-1]

    yield make
    for service in made:
        service.stop()


@OWN
def test_what_was_said_is_logged_only_if_that_is_wanted_and_in_json(
    own: Callable[..., Service],
) -> None:
    service = own(LOG_FORMAT="json", LOG_TRANSCRIPTS="1")
    call = service.call()
    call.say("My number is 555 222 3333")
    hear_out(call, "3333.")
    call.hang_up()
    call.wait_ended()
    service.wait_for_log(rf"{END_OF_CALL}.*{call.sid}")
    lines: list[dict[str, Any]] = [json.loads(line) for line in service.log]
    assert {line["call_sid"] for line in lines} == {call.sid}
    assert {line["caller"] for line in lines} == {"***33"}
    said = {line["event"]: line.get("text") for line in lines}
    assert said["heard"] == "My number is ***33"
    assert said["said"] == "You said: My number is ***33."
    assert (lines[-1]["event"], lines[-1]["how"]) == ("ended", "the caller hung up")
    of_gunicorn = [line for line in service.process.lines if "Booting worker" in line]
    assert json.loads(of_gunicorn[0])["level"] == "INFO"


def numbers(service: Service) -> str:
    asked = urllib.request.Request(
        f"{service.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


@OWN
def test_any_worker_tells_the_numbers_of_all_and_nothing_of_them_is_left(
    own: Callable[..., Service], tmp_path: Path
) -> None:
    service = own(METRICS_TOKEN=TOKEN, WEB_CONCURRENCY="2", TMPDIR=str(tmp_path))
    calls = [service.call() for _ in range(6)]
    for _ in range(10):  # whichever answers
        assert "\nvoice_agent_calls 6.0\n" in numbers(service)
    for call in calls:
        call.hang_up()
        call.wait_ended()
    eventually(lambda: "\nvoice_agent_calls 0.0\n" in numbers(service), "end of all calls")
    ended = 'voice_agent_calls_ended_total{reason="the caller hung up"} 7.0'
    eventually(lambda: ended in numbers(service), "count of all ends, which come after")
    assert list(tmp_path.iterdir())
    service.process.signal(signal.SIGTERM)
    service.process.exit_code()
    assert list(tmp_path.iterdir()) == []
