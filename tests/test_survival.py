"""It never drops a caller: whatever fails behind the line, the conversation goes on.

And what it must refuse it refuses, without harm to the calls it has.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket

from tests.conftest import FAR_AWAY, Pool, both_kinds, more, undisturbed
from tools.app_process import START_SECONDS
from tools.harness import (
    API_KEY,
    COLLEAGUE,
    COMMANDS,
    PUBLIC_URL,
    ROOT,
    SECRETS,
    VOICE,
    Process,
    Service,
    check_client_events,
    check_secrecy,
    environment,
    eventually,
    hear_out,
    serves,
    settle,
)
from tools.log_check import NOT_UNDERSTOOD, check_lines
from tools.ports import ReservedPort
from tools.process_resources import tcp_ports
from tools.proxies import PROXIES, Proxy, program
from tools.simulator.media_stream import StreamFaults
from tools.simulator.openai_knobs import QUOTA_USED_UP, TOO_MANY_SESSIONS
from tools.simulator.openai_server import OpenAISimulator, RealtimeSession, Reply
from tools.simulator.twilio_network import Call
from tools.simulator.waiting import PATIENCE
from tools.webhook import FORM, UNAVAILABLE, element, parameters, post
from upstream import CAUSES

thorough = pytest.mark.thorough
FOR_EVER = 600.0  # seconds: longer than any test
APOLOGY = "I'm sorry, something went wrong. Could you try that again?"
BRIDGE = "Please go on."
FIRST, SECOND = "Once upon a time a car came to us.", "It made a noise nobody could explain."
LONG_SPEECH = "I need an oil change and four new tyres for my old blue car this very week"
REST = "In the end it was a coin. The owner laughed."
STORY = f"{FIRST} {SECOND} {REST}"
NOTES = re.compile(r"^(\[[^\]]*\] ?)+")  # what the line itself tells the workflow
BUSY = {"workflow.json": "conversation_locked", "asst_test": "while a run"}


def tells_stories(text: str, history: list[tuple[str, str]]) -> str:
    """Tell a story, or who is calling, if that was said before; else repeat what is said."""
    if "story" in text:
        return STORY
    if "Who am I" in text:
        return "You are Ada." if any("Ada" in said for _, said in history) else "I don't know."
    return f"You said: {NOTES.sub('', text)}."


def told(service: Service) -> list[str]:
    """What the callers said, as the workflow was told."""
    return [said for _, text in service.brain.messages if (said := NOTES.sub("", text))]


def introduce(service: Service, call: Call) -> None:
    service.brain.reply = tells_stories
    call.say("My name is Ada")
    hear_out(call, "You said: My name is Ada.")


def assert_known_as_before(service: Service, call: Call) -> None:
    """Check that the same conversation goes on, and that the caller was greeted only once."""
    call.say("Who am I?")
    hear_out(call, "You are Ada.")
    assert call.heard().count("Hello!") == 1
    assert len(told(service)) == len(set(told(service))), "said twice to the workflow"


# ---------------------------------------------------------------- Realtime fails


def expire(session: RealtimeSession) -> None:
    message = "Your session hit the maximum duration of 60 minutes."
    error = {"type": "invalid_request_error", "code": "session_expired", "message": message}
    nothing = {"param": None, "event_id": None}
    session.inject({"type": "error", "event_id": "event_1", "error": {**error, **nothing}})
    session.close(1001, "session_expired")


LOSSES: dict[str, Callable[[RealtimeSession], None]] = {
    "reset": RealtimeSession.abort,
    "expired": expire,
    "garbled": lambda session: session.inject_wire(b"\x8f\x00"),
}


@pytest.mark.parametrize("loss", ["reset", *more("expired", "garbled")])
def test_a_sentence_cut_by_the_loss_of_realtime_is_said_again_on_the_same_stream(
    service: Service, loss: str
) -> None:
    call = service.call()
    introduce(service, call)
    service.realtime.speed = 1.2
    call.say("Tell me a story")
    call.wait_for_heard("a noise")
    LOSSES[loss](service.session)
    hear_out(call, REST)
    heard = call.heard()
    assert heard.count(FIRST) == 1
    assert heard.count("It made a noise") == 2
    assert heard.endswith(f" {SECOND} {REST}")
    assert_known_as_before(service, call)
    assert len(call.streams) == 1
    first, second = service.openai.sessions
    assert first.events("session.update")[0] == second.events("session.update")[0]


def test_a_message_that_is_no_text_costs_nothing(service: Service) -> None:
    service.expect_log(NOT_UNDERSTOOD)
    call = service.call()
    service.session.inject_wire(b"\x81\x01\xff")
    call.stream.inject_raw(b"\x81\x81\0\0\0\0\xff")  # Twilio's are masked
    eventually(lambda: len(re.findall(NOT_UNDERSTOOD, "\n".join(service.log))) == 2, "two lines")
    call.say("Hello")
    hear_out(call, "You said: Hello.")
    assert len(service.openai.sessions) == len(call.streams) == 1


@pytest.mark.thorough("it takes long")
def test_the_greeting_is_heard_though_realtime_refuses_at_first(service: Service) -> None:
    service.realtime.refuse_connections = [503, 429, 500]
    call = service.call(patience=20)
    call.say("Hello")
    hear_out(call, "You said: Hello.")
    assert call.heard() == "Hello! You said: Hello."
    assert len(call.streams) == 1
    tries = [each.at for each in service.openai.requests if each.path.endswith("/realtime")]
    pauses = [after - before for before, after in itertools.pairwise(tries)]
    assert len(pauses) == 3
    assert pauses == sorted(pauses)


def test_the_log_tells_why_a_session_was_closed_and_where_it_was_had(service: Service) -> None:
    service.realtime.close_connections = [TOO_MANY_SESSIONS]
    service.call()
    lost = service.wait_for_log("Realtime is lost")
    why = f"{TOO_MANY_SESSIONS.code} (private use) {TOO_MANY_SESSIONS.reason}"
    host = f"127.0.0.1:{service.openai.port}, from OPENAI_BASE_URL"
    assert lost.endswith(f"Realtime is lost: {why} ({host})")


@pytest.mark.parametrize(
    ("refusals", "words"),
    [
        ([503], "I need an oil change"),
        pytest.param([503, 503], "I need an oil change", marks=thorough("it is a long gap")),
        pytest.param([], LONG_SPEECH, marks=thorough("the caller talks for long")),
    ],
    ids=["short gap", "longer gap", "speech outlasts the gap"],
)
def test_what_the_caller_says_in_the_gap_is_understood(
    service: Service, refusals: list[int], words: str
) -> None:
    call = service.call()
    service.realtime.refuse_connections = refusals
    service.session.abort()
    eventually(lambda: not service.session.open, "loss of the session")
    call.say(words)
    hear_out(call, f"You said: {words}.")
    assert told(service) == [words]
    assert len(call.streams) == 1


@pytest.mark.thorough("it takes long")
def test_sound_of_the_gap_waits_until_the_new_session_is_configured(service: Service) -> None:
    call = service.call()
    service.realtime.refuse_connections = [503]
    service.realtime.updated_delay = 0.5
    service.session.abort()
    service.openai.wait_for(lambda _: len(service.openai.sessions) == 2)
    call.say("Here I am")
    hear_out(call, "You said: Here I am.")
    session = service.session
    configured = next(at for at, e in session.sent if e["type"] == "session.updated")
    assert [e["type"] for at, e in session.received if at < configured] == ["session.update"]


def test_digits_before_and_after_the_gap_are_one_message(service: Service) -> None:
    call = service.call()
    hear_out(call, "Hello!")
    call.press("12")
    service.session.abort()
    service.openai.wait_for(lambda openai: len(openai.sessions) == 2)
    call.press("34#")
    hear_out(call, "You said: [The caller pressed 1234 on the keypad.].")
    assert service.messages == ["[The caller pressed 1234 on the keypad.]"]


def test_a_reply_that_comes_in_the_gap_is_heard_once(service: Service) -> None:
    rest = threading.Event()
    words = ["It is nine", " o'clock."]
    service.brain.reply = lambda text, history: Reply(words, rest=rest)
    call = service.call()
    call.say("What time is it?")
    service.wait_for_messages(1)
    service.realtime.refuse_all = 503
    service.session.abort()
    eventually(lambda: not service.session.open, "loss of the session")
    rest.set()
    service.openai.wait_for(lambda openai: openai.brain.turns[-1].ended)
    service.realtime.refuse_all = None
    hear_out(call, "It is nine o'clock.")
    assert call.heard() == "Hello! It is nine o'clock."
    assert told(service) == ["What time is it?"]


@pytest.mark.thorough("it takes long")
def test_a_goodbye_that_was_cut_is_said_again_before_the_line_is_hung_up(service: Service) -> None:
    service.realtime.speed = 1.2
    goodbye = "Thank you very much for your call and goodbye."
    service.brain.reply = lambda text, history: f"{goodbye} [hangup]"
    call = service.call()
    call.say("Bye")
    call.wait_for_heard("very much")
    service.session.abort()
    call.wait_ended()
    assert call.heard().endswith(goodbye)
    assert call.end_reason == "completed by REST"


def test_realtime_is_lost_while_the_caller_speaks_and_hears_what_comes_next(
    service: Service,
) -> None:
    call = service.call()
    call.say("I would like to have the winter tyres on my car")
    service.openai.wait_for(
        lambda _: service.session.sent_events("input_audio_buffer.speech_started")
    )
    service.session.abort()
    call.wait_until_silent()
    service.openai.wait_for(lambda _: len(service.openai.sessions) == 2)
    call.say("Hello again")
    hear_out(call, "Hello again.")
    assert len(call.streams) == 1


@pytest.mark.thorough("tests/unit has the rule; here it takes seconds")
def test_words_lost_with_their_session_are_asked_for_again(service: Service) -> None:
    service.realtime.transcript_delay = FOR_EVER
    call = service.call()
    call.say("I need an oil change")
    service.openai.wait_for(
        lambda _: service.session.sent_events("input_audio_buffer.speech_stopped")
    )
    service.session.abort()
    eventually(lambda: not service.session.open, "loss of the session")
    service.realtime.transcript_delay = 0.05
    hear_out(call, "Could you say it again?")
    call.say("An oil change")
    hear_out(call, "You said: An oil change.")
    assert told(service) == ["An oil change"]


@pytest.mark.thorough("it takes long")
def test_a_caller_whose_words_never_come_through_is_asked_to_say_them_again(
    service: Service,
) -> None:
    service.realtime.next_transcripts = ["", ""]
    call = service.call()
    call.say(LONG_SPEECH)
    service.wait_for_log("a noise of ")
    call.say(LONG_SPEECH)
    hear_out(call, "Could you say it again?")
    call.say("An oil change")
    hear_out(call, "You said: An oil change.")
    call.hang_up()
    assert ", 1 not understood" in service.wait_for_log("ended after")


@pytest.mark.thorough("it takes long")
def test_sessions_that_go_silent_are_replaced_and_a_quiet_one_is_not(service: Service) -> None:
    quiet = service.call()
    call = service.call()
    stalled = service.session
    service.realtime.accept_but_stall = True
    late = service.network.call()
    service.openai.wait_for(lambda _: len(service.openai.sessions) == 3)
    silent_from_the_start = service.session
    service.realtime.accept_but_stall = False
    stalled.stall()
    service.openai.wait_for(lambda _: len(service.openai.sessions) == 5)
    hear_out(late, "Hello!")
    assert late.said == ["One moment, please."]
    for n, each in enumerate((quiet, call, late)):
        each.say(f"Are you there {n}")
        hear_out(each, f"You said: Are you there {n}.")
        assert len(each.streams) == (2 if each is late else 1)
    assert len(service.openai.sessions) == 5
    for session in (stalled, silent_from_the_start):
        session.stall(False)


@pytest.mark.thorough("it takes long")
def test_events_unknown_and_malformed_between_all_others_change_nothing(service: Service) -> None:
    service.realtime.chatter = 1
    service.expect_log(NOT_UNDERSTOOD)
    call = service.call()
    introduce(service, call)
    call.say("Tell me a story")
    hear_out(call, STORY)
    assert call.heard() == f"Hello! You said: My name is Ada. {STORY}"
    assert len(service.openai.sessions) == len(call.streams) == 1


@pytest.mark.thorough("it takes seconds, and a service of its own")
def test_realtime_comes_back_after_the_stream_was_given_up(service: Service) -> None:
    call = service.call()
    introduce(service, call)
    service.realtime.refuse_all = 503
    service.session.abort()
    call.wait_for_stream(number=2)
    service.realtime.refuse_all = None
    hear_out(call, BRIDGE)
    assert_known_as_before(service, call)


@undisturbed
@pytest.mark.thorough("it takes long")
def test_realtime_stays_away_and_the_caller_hears_why(service: Service) -> None:
    call = service.call()
    service.realtime.refuse_all = 503
    service.session.abort()
    call.wait_ended(60)
    *holds, last = call.said
    assert last == UNAVAILABLE
    assert set(holds) == {"One moment, please."}
    assert len(holds) <= len(call.streams)
    assert call.heard() == "Hello!"
    assert call.end_reason == "<Hangup>"
    assert 2 <= len(call.streams) <= 5
    assert service.upstream() == {"status": "failing", "voice": "it fails, or can't be reached"}
    service.realtime.refuse_all = None
    service.call()
    assert service.upstream() == {"status": "healthy"}


def lines_about(service: Service, call: Call) -> list[str]:
    """What the log says of a call that was turned away, without stamps, IDs and what varies."""
    service.wait_for_log(rf"\[{call.sid}\] turned away: ")
    lines = [line.split("] ", 1)[1] for line in service.log if f"[{call.sid}" in line]
    return [re.sub(r"conv_\w+|\d+ s|\d+ times", "…", line) for line in lines]


@pytest.mark.thorough("it takes long")
def test_a_realtime_that_never_says_a_word_is_told_to_caller_and_owner(service: Service) -> None:
    service.realtime.mute = True
    call = service.network.call()
    call.wait_ended(60)
    assert call.said == ["One moment, please."] * 4 + [UNAVAILABLE]
    held = [
        f"on hold: the voice did not start (127.0.0.1:{service.openai.port}, from OPENAI_BASE_URL)",
        "ended after …: on hold, never greeted, no turns",
    ]
    resumed = ["call resumed: …", *held] * 3
    turned_away = "turned away: it was on hold … in a row"
    assert lines_about(service, call) == ["call started: …", *held, *resumed, turned_away]


def refuse_the_session(service: Service) -> None:
    service.realtime.refused_field = "session.audio.input.noise_reduction.type"
    service.tolerate(service.realtime.refused_field)


HOPELESS: dict[str, Callable[[Service], object]] = {
    "the API key is refused": lambda service: setattr(service.realtime, "refuse_all", 401),
    "the model or the agent does not exist": lambda service: setattr(
        service.realtime, "model_is_gone", True
    ),
    "the quota is used up": lambda service: setattr(service.realtime, "fail_all", QUOTA_USED_UP),
    "the voice session is refused": refuse_the_session,
}
FIRST_FAULT, *OTHER_FAULTS = HOPELESS


@undisturbed
@pytest.mark.parametrize("fault", [FIRST_FAULT, *more(*OTHER_FAULTS)])
def test_what_cannot_get_better_is_told_at_once(service: Service, fault: str) -> None:
    HOPELESS[fault](service)
    call = service.network.call()
    call.wait_ended()
    assert call.said == [UNAVAILABLE]
    assert len(call.streams) == 1
    tries = [each for each in service.openai.requests if each.path.endswith("/realtime")]
    assert len(tries) == 1
    assert len(service.network.rest_requests) == 1
    given_up = service.wait_for_log(rf"\[{call.sid}[^]]*\] given up: ")
    (remedy,) = [cause.remedy for cause in CAUSES if cause.words == fault]
    assert remedy in given_up
    assert not [line for line in service.log if call.sid in line and "Realtime" in line]
    assert service.upstream() == {"status": "failing", "voice": fault}


@pytest.mark.thorough("it takes long")
def test_a_failing_realtime_session_harms_no_other_call(service: Service) -> None:
    other = service.call()
    call = service.call()
    service.realtime.refuse_all = 503
    service.session.abort()
    other.say("Can you hear me?")
    hear_out(other, "You said: Can you hear me?.")
    service.realtime.refuse_all = None
    call.say("And me?")
    hear_out(call, "You said: And me?.")


# ---------------------------------------------------------------- the workflow fails


def replies_asked_for(service: Service) -> list[int]:
    """Status of each request for a reply."""
    return [
        each.status
        for each in service.openai.requests
        if each.method == "POST" and each.path.endswith(("/responses", "/runs"))
    ]


@pytest.mark.thorough("it takes long")
def test_a_rate_limited_call_does_not_slow_the_others(service: Service) -> None:
    service.brain.reply = lambda text, history: (
        Reply(status="http_429") if "Ada" in text else f"You said: {NOTES.sub('', text)}."
    )
    limited, other = service.call(), service.call()
    limited.say("My name is Ada")
    service.openai.wait_for(lambda _: replies_asked_for(service))
    other.say("My name is Bob")
    hear_out(other, "You said: My name is Bob.")
    assert limited.heard() == "Hello!"
    hear_out(limited, APOLOGY)


# ---------------------------------------------------------------- Twilio fails


@pytest.mark.thorough("it takes long")
def test_a_stream_that_stalls_is_given_up_and_the_call_goes_on(service: Service) -> None:
    call = service.call()
    introduce(service, call)
    call.stream.pause_sending()
    call.wait_for_stream(number=2)
    ended = service.wait_for_log(rf"\[{call.sid}[^]]*\] ended after")
    lost = re.search(r"Realtime lost (\d+) times", ended)
    assert lost is None or int(lost[1]) <= 2, "it was to be noticed before Realtime is given up"
    hear_out(call, BRIDGE)
    assert_known_as_before(service, call)


@pytest.mark.thorough("it takes long")
def test_a_stream_that_stalls_ends_though_realtime_is_gone_too(service: Service) -> None:
    call = service.call()
    introduce(service, call)
    service.realtime.refuse_connections = [503] * 20
    call.stream.pause_sending()
    call.stream.stall_reading()
    service.session.abort()
    service.wait_for_log(rf"\[{call.sid}[^]]*\] ended after")
    service.realtime.refuse_connections = []
    call.stream.stall_reading(False)
    call.wait_for_stream(number=2)
    hear_out(call, BRIDGE)


@pytest.mark.thorough("it takes long")
def test_a_gap_of_some_seconds_does_not_end_the_stream(service: Service) -> None:
    call = service.call()
    introduce(service, call)
    call.stream.pause_sending()
    time.sleep(3)
    call.stream.pause_sending(False)
    call.say("Are you there?")
    hear_out(call, "You said: Are you there?.")
    assert len(call.streams) == len(service.openai.sessions) == 1


def test_words_held_up_on_their_way_are_heard_when_they_come(service: Service) -> None:
    call = service.call()
    call.stream.pause_sending()
    call.say("Sorry I am late")
    call.wait_until_silent()
    eventually(lambda: call.stream.unsent > 100, "queue of frames")
    call.stream.pause_sending(False)
    hear_out(call, "You said: Sorry I am late.")
    assert len(call.streams) == 1


@pytest.mark.thorough("it takes long")
def test_frames_repeated_and_skipped_do_no_harm(service: Service) -> None:
    call = service.call()
    call.say("This is a bad line, is it not")
    call.stream.repeat_frames(10)
    call.stream.skip_frames(5)
    service.openai.wait_for(lambda _: service.session.transcripts)
    call.say("Is the line any better now?")
    hear_out(call, "Is the line any better now?.")
    assert len(call.streams) == len(service.openai.sessions) == 1


def test_a_caller_whose_line_reads_too_slowly_is_told_all_and_no_other_waits(
    service: Service,
) -> None:
    service.brain.reply = tells_stories
    slow, other = service.call(), service.call()
    slow.stream.stall_reading()
    slow.say("Tell me a story")
    service.wait_for_messages(1)
    other.say("Are you there?")
    hear_out(other, "You said: Are you there?.")
    slow.stream.stall_reading(False)
    hear_out(slow, STORY)
    assert slow.heard() == f"Hello! {STORY}"
    assert len(slow.streams) == 1


class TirelessMouth:
    """Take twenty minutes to say anything: more than the network's buffers hold."""

    def speak(self, text: str, rate: int) -> bytes:
        return bytes(2 * rate * 1200)


@pytest.mark.thorough("it takes long")
def test_a_line_that_takes_nothing_any_more_is_given_up_and_no_other_waits(
    service: Service,
) -> None:
    service.brain.reply = tells_stories
    stuck, other = service.call(), service.call()
    service.realtime.speed, service.openai.mouth = 10_000, TirelessMouth()
    stuck.stream.stall_reading()
    stuck.say("Tell me a story")
    service.wait_for_log(rf"\[{stuck.sid}[^]]*\] ended after", 40)
    service.realtime.speed, service.openai.mouth = 8, VOICE
    other.say("Are you there?")
    hear_out(other, "You said: Are you there?.")
    stuck.stream.stall_reading(False)
    stuck.wait_for_stream(number=2)
    assert len(other.streams) == 1


def test_a_stop_before_the_start_does_not_cost_the_call(service: Service) -> None:
    call = service.network.call(faults=StreamFaults(stop_before_start=True))
    call.wait_until(lambda call: "Hello!" in call.heard() or BRIDGE in call.heard())
    call.say("Hello")
    hear_out(call, "You said: Hello.")


def test_a_second_start_is_ignored(service: Service) -> None:
    call = service.call()
    stream = call.stream
    stream.send("start", start={"callSid": call.sid, "customParameters": stream.parameters})
    call.say("Hello")
    hear_out(call, "You said: Hello.")
    assert call.heard() == "Hello! You said: Hello."
    assert len(service.openai.sessions) == len(call.streams) == 1
    assert told(service) == ["Hello"]


@pytest.mark.thorough("it takes seconds, and a service of its own")
@both_kinds
def test_two_calls_that_share_an_id_do_not_disturb_each_other(service: Service) -> None:
    sid = "CA" + "8" * 32
    calls = [service.network.call(call_sid=sid, caller=f"+1555222333{n}") for n in range(2)]
    for call in calls:
        hear_out(call, "Hello!")
    for n, call in enumerate(calls):
        call.say(f"I am caller {n}")
    for n, call in enumerate(calls):
        hear_out(call, f"You said: I am caller {n}.")
        assert call.heard() == f"Hello! You said: I am caller {n}."
    calls[0].hang_up()
    calls[0].wait_ended()
    service.wait_for_log(rf"\[{sid}[^]]*\] ended after")
    calls[1].say("Still here")
    hear_out(calls[1], "You said: Still here.")


# ---------------------------------------------------------------- processes go


@pytest.fixture
def own(pool: Pool, workflow: str) -> Iterator[Callable[..., Service]]:
    """Make services that a test may kill."""
    made: list[Service] = []

    def make(mode: str, **settings: str) -> Service:
        service = Service(
            mode,
            {
                **FAR_AWAY,
                "AGENT_WORKFLOW_ID": workflow,
                "REALTIME_SESSION": str(pool.session_file({})),
                "TRANSFER_NUMBER": COLLEAGUE,
                "GREETING": "Hello!",
                **settings,
            },
        )
        made.append(service)
        service.begin()
        return service

    yield make
    try:
        for service in made:
            end(service)
    finally:
        for service in made:
            service.stop()


def end(service: Service) -> None:
    """Hang up, and check what holds even where processes were killed."""
    for call in service.network.placed:
        call.hang_up()
    for call in service.network.placed:
        call.wait_ended()
    assert service.network.refusals == []
    assert [text for text in service.openai.refusals if service.tolerated not in text] == []
    check_lines(service.log)
    check_secrecy(service.process.output)
    for session in service.openai.sessions:
        check_client_events(session)


def worker_of(service: Service, session: RealtimeSession) -> int:
    """Return the process that holds this Realtime session."""
    assert session.transport
    port = session.transport.get_extra_info("peername")[1]
    return next(pid for pid in service.process.workers if port in tcp_ports(pid))


def call_beside(service: Service, worker: int) -> Call:
    """Place a call that another worker takes."""
    for _ in range(20):
        call = service.call()
        if worker_of(service, service.session) != worker:
            return call
        call.hang_up()
    raise AssertionError("one worker takes all the calls")


@pytest.mark.thorough("it takes long")
def test_an_openai_that_nobody_can_reach_leaves_few_lines(own: Callable[..., Service]) -> None:
    service = own("gevent")
    call = service.call()
    service.openai.stop()
    call.wait_ended(60)
    assert call.said[-1] == UNAVAILABLE
    why = f"[Errno 111] Connection refused (127.0.0.1:{service.openai.port}, from OPENAI_BASE_URL)"
    of_a_stream = [
        "call resumed: …",
        f"Realtime is lost: {why}",
        f"on hold: {why}",
        "ended after …: on hold, never greeted, no turns, Realtime lost …",
    ]
    lines = lines_about(service, call)
    after_the_first = lines.index("call resumed: …")
    assert after_the_first <= 6
    assert lines[after_the_first:-1] == of_a_stream * 3


@pytest.mark.thorough("how soon a process starts depends on how busy the machine is")
@both_kinds
def test_a_worker_is_killed_in_mid_sentence(own: Callable[..., Service], workflow: str) -> None:
    service = own("gevent", WEB_CONCURRENCY="2")
    call = service.call()
    worker = worker_of(service, service.session)
    introduce(service, call)
    other = call_beside(service, worker)
    call.say("Tell me a story")
    call.wait_for_heard("a noise")
    os.kill(worker, signal.SIGKILL)
    call.wait_for_stream(number=2)
    hear_out(call, BRIDGE)
    assert_known_as_before(service, call)
    other.say("Are you there?")
    hear_out(other, "You said: Are you there?.")
    assert len(other.streams) == 1
    eventually(lambda: len(service.process.workers) == 2, "new worker")


@pytest.mark.thorough("how soon a process starts depends on how busy the machine is")
@both_kinds
def test_a_worker_is_killed_while_the_workflow_writes(
    own: Callable[..., Service], workflow: str
) -> None:
    service = own("gevent", WEB_CONCURRENCY="2")
    service.tolerate(BUSY[workflow])  # until the lost reply is written
    call = service.call()
    introduce(service, call)
    service.brain.reply = lambda text, history: (
        Reply("Ten. Nine. Eight. Seven. Six. Five.", chunk_delay=0.5)
        if "count" in text
        else tells_stories(text, history)
    )
    call.say("Please count")
    call.wait_for_heard("Ten.")
    os.kill(worker_of(service, service.session), signal.SIGKILL)
    call.wait_for_stream(number=2)
    hear_out(call, BRIDGE)
    assert_known_as_before(service, call)
    assert APOLOGY not in call.heard()


@pytest.mark.thorough("how soon a process starts depends on how busy the machine is")
def test_the_only_worker_is_killed_and_its_successor_goes_on(own: Callable[..., Service]) -> None:
    service = own("gevent")
    call = service.call()
    introduce(service, call)
    call.say("Tell me a story")
    call.wait_for_heard("a noise")
    (worker,) = service.process.workers
    os.kill(worker, signal.SIGKILL)
    call.wait_for_stream(number=2)
    hear_out(call, BRIDGE)
    assert_known_as_before(service, call)


@pytest.mark.thorough("how soon a process starts depends on how busy the machine is")
def test_a_reload_lets_the_story_be_told_and_hands_the_call_over(
    own: Callable[..., Service],
) -> None:
    service = own("gevent", WEB_CONCURRENCY="2")
    call = service.call()
    introduce(service, call)
    before = call.heard()
    workers = set(service.process.workers)
    call.say("Tell me a story")
    call.wait_for_heard("a noise")
    service.process.signal(signal.SIGHUP)
    call.wait_for_stream(number=2)
    hear_out(call, BRIDGE)
    assert call.heard().startswith(f"{before} {STORY} ")
    assert_known_as_before(service, call)
    eventually(lambda: workers.isdisjoint(service.process.workers), "end of the old workers", 30)


@pytest.mark.thorough("how soon a process starts depends on how busy the machine is")
def test_a_reload_with_bad_settings_leaves_the_old_workers_running(
    own: Callable[..., Service], tmp_path: Path
) -> None:
    session = tmp_path / "session.json"
    session.write_text((ROOT / "realtime_session.json").read_text("utf-8"), "utf-8")
    service = own("gevent", REALTIME_SESSION=str(session))
    call = service.call()
    good = session.read_text("utf-8")
    session.write_text('{"type": "realtime",', "utf-8")
    service.process.signal(signal.SIGHUP)
    service.wait_for_log("Not reloaded")
    call.say("Are you there?")
    hear_out(call, "You said: Are you there?.")
    session.write_text(good, "utf-8")
    restart_by_reload(service)


class Fleet:
    """Two places for processes that share a number behind a proxy, each on a port of its own."""

    def __init__(self, service: Service, proxy: str, folder: Path) -> None:
        self.service = service
        self.second = ReservedPort()
        self.running = {service.port: service.process}
        self.started = [service.process]
        self.proxy = Proxy(proxy, folder, (service.port, self.second.number))
        self.proxy.wait_until_it_sends_to(service.port)
        service.network.voice_url = f"{self.proxy.url}/voice"

    def add(self) -> None:
        """Start the second process, and wait until it is sent callers."""
        self._start(self.second.number)

    def restart(self, port: int) -> None:
        """Stop a process as a deploy does, then start it anew in its place."""
        self.running[port].signal(signal.SIGTERM)
        assert self.running[port].exit_code(45) == 0
        self._start(port)

    def _start(self, port: int) -> None:
        settings = {**self.service.settings, "PORT": str(port)}
        process = Process(COMMANDS[self.service.mode], environment(settings))
        self.running[port] = process
        self.started.append(process)
        eventually(lambda: serves(f"http://127.0.0.1:{port}"), "one more process", START_SECONDS)
        self.proxy.wait_until_it_sends_to(port)

    def stop(self) -> None:
        for process in self.started:
            process.stop()
        self.proxy.stop()
        self.second.release()
        for process in self.started:
            check_lines(process.lines)
            check_secrecy(process.output)


@pytest.fixture
def proxy() -> str:
    return "haproxy"


@pytest.fixture
def fleet(own: Callable[..., Service], mode: str, proxy: str, tmp_path: Path) -> Iterator[Fleet]:
    """One process behind a proxy, and a place for another one."""
    if not program(proxy):
        pytest.skip(f"{proxy} is not installed")
    fleet = Fleet(own(mode), proxy, tmp_path)
    yield fleet
    for call in fleet.service.network.placed:
        call.hang_up()
    fleet.stop()


@pytest.mark.thorough("how soon a process starts depends on how busy the machine is")
@pytest.mark.parametrize("when", ["saying", "thinking", "hearing"])
def test_a_stopped_process_finishes_what_is_in_the_air_and_hands_over(
    fleet: Fleet, when: str
) -> None:
    service = fleet.service
    call = service.call()
    introduce(service, call)
    before, old = call.heard(), service.process
    fleet.add()
    service.brain.reply = lambda text, history: Reply(
        tells_stories(text, history), first_delay=1.5 if when == "thinking" else 0.02
    )
    call.say("Tell me a very long story about a car")
    if when == "saying":
        call.wait_for_heard("a noise")
    elif when == "thinking":
        service.wait_for_messages(2)
    elif when == "hearing":
        service.openai.wait_for(
            lambda _: len(service.session.sent_events("input_audio_buffer.speech_started")) == 2
        )
        heard = service.session.appends + 5  # by then the app knows of it
        service.openai.wait_for(lambda _: service.session.appends > heard)
    old.signal(signal.SIGTERM)
    call.wait_for_stream(number=2)
    hear_out(call, BRIDGE)
    assert call.heard().startswith(f"{before} {STORY} ")
    assert call.heard().endswith(BRIDGE)
    assert_known_as_before(service, call)
    assert old.exit_code(45) == 0
    assert len(call.streams) == 2


@pytest.mark.thorough("how soon a process starts depends on how busy the machine is")
def test_a_process_that_is_to_stop_takes_no_new_calls(own: Callable[..., Service]) -> None:
    """Under gunicorn nobody can ask it any more: a stopped worker doesn't listen."""
    service = own("threads")
    service.brain.reply = tells_stories
    call = service.call()
    call.say("Tell me a story")
    call.wait_for_heard("a noise")
    service.process.signal(signal.SIGTERM)

    def health() -> requests.Response:
        return requests.get(f"{service.url}/health", timeout=PATIENCE)

    eventually(lambda: health().status_code == 503, "draining")
    assert health().json() == {"status": "draining"}
    fresh = post(service)
    assert fresh.status_code == 200
    assert element(fresh.text, "Reject").attrib == {"reason": "busy"}
    resumed = post(service, "/voice?conversation=conv_1&attempt=1")
    assert parameters(resumed.text)["conversation"] == "conv_1"
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        open_stream(service)
    assert refused.value.status_code == 503
    hear_out(call, STORY)
    assert service.process.exit_code() == 0


@pytest.mark.thorough("how soon a process stops depends on how busy the machine is")
def test_a_stop_is_announced_while_callers_are_still_let_in(own: Callable[..., Service]) -> None:
    """A proxy must have the time to ask another machine: what waits at a closing door is lost."""
    service = own("gevent")
    service.process.signal(signal.SIGTERM)
    states: list[int] = []
    answers: list[str] = []
    with pytest.raises(requests.ConnectionError):
        while True:
            states.append(requests.get(f"{service.url}/health", timeout=PATIENCE).status_code)
            answers.append(post(service).text)
    assert states[-1] == 503
    assert all("<Stream" in answer for answer in answers)
    assert service.process.exit_code() == 0


@pytest.mark.thorough("how soon a process starts depends on how busy the machine is")
def test_a_process_without_calls_stops_at_once(own: Callable[..., Service], mode: str) -> None:
    service = own(mode)
    service.process.signal(signal.SIGTERM)
    assert service.process.exit_code() == 0


class Talker:
    """A caller who talks on and on, and says again what was not answered."""

    def __init__(self, service: Service, number: int) -> None:
        self.number, self.problem = number, ""
        self.call = service.network.call(caller=f"+1555222333{number}")
        self.answered = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(60)

    @property
    def _may_speak(self) -> bool:
        return self.call.stream.open and self.call.quiet_for > 0.3

    def _talk(self) -> None:
        try:
            self.call.wait_for_heard("Hello!")
            while not self._over.is_set():
                self._ask(f"Caller {self.number} asks {self.answered}")
                self.answered += 1
        except AssertionError as error:
            self.problem = str(error)

    def _ask(self, words: str) -> None:
        for again in ("", " again", " and again"):
            self.call.wait_until(lambda call: call.ended or self._may_speak, what="pause")
            self.call.say(words + again)
            try:
                self.call.wait_for_heard(f"{words}{again}.", 8)
            except AssertionError:
                assert not self.call.ended, f"{self.call.sid} is over: {self.call.end_reason}"
            else:
                return
        raise AssertionError(f"caller {self.number} is not answered: {self.call.heard()}")


def restart_by_reload(service: Service) -> None:
    workers = set(service.process.workers)
    service.process.signal(signal.SIGHUP)
    eventually(lambda: workers.isdisjoint(service.process.workers), "end of the old workers", 45)


@contextmanager
def in_conversation(service: Service) -> Iterator[None]:
    """Have eight callers talk all the while, and check that they are heard out and none is lost."""
    service.brain.reply = lambda text, history: f"You said: {NOTES.sub('', text)}."
    talkers = [Talker(service, number) for number in range(8)]
    try:
        wait_for_answers(talkers)
        yield
        wait_for_answers(talkers)
        for talker in talkers:
            talker.stop()
            check_uninterrupted(service, talker)
    finally:
        for talker in talkers:
            talker.stop()
            talker.call.hang_up()


def wait_for_answers(talkers: list[Talker]) -> None:
    """Wait until each caller has been answered once more, or has a problem."""
    before = [talker.answered for talker in talkers]

    def is_answered() -> bool:
        pairs = zip(talkers, before, strict=True)
        return all(talker.problem or talker.answered > count for talker, count in pairs)

    eventually(is_answered, "answers", 60)


@pytest.mark.thorough("how soon a process starts depends on how busy the machine is")
def test_a_reload_under_load_ends_no_call(own: Callable[..., Service]) -> None:
    service = own("gevent", WEB_CONCURRENCY="2")
    with in_conversation(service):
        restart_by_reload(service)


@pytest.mark.thorough("how soon a process starts depends on how busy the machine is")
@pytest.mark.parametrize(
    ("mode", "proxy"),
    [*(("gevent", proxy) for proxy in PROXIES), ("threads", "haproxy")],
    scope="session",
)
def test_a_rolling_restart_under_load_behind_a_real_proxy_ends_no_call(fleet: Fleet) -> None:
    fleet.add()
    with in_conversation(fleet.service):
        for port in list(fleet.running):
            fleet.restart(port)


def check_uninterrupted(service: Service, talker: Talker) -> None:
    """Check that the call was handed over, and that it is the same conversation still."""
    call = talker.call
    assert not talker.problem
    assert not call.ended
    assert call.said == []
    assert len(call.streams) >= 2
    assert call.heard().count("Hello!") == 1
    asked = f"Caller {talker.number} asks"
    told_so = [(where, text) for where, text in service.brain.messages if asked in text]
    assert len({where for where, _ in told_so}) == 1
    assert len(told_so) == len(set(told_so)), "said twice to the workflow"


# ---------------------------------------------------------------- what is refused


def open_stream(service: Service) -> websocket.WebSocket:
    """Connect to the stream's address as Twilio does."""
    signature = service.network.signature(PUBLIC_URL.replace("http", "ws") + "/media-stream", {})
    return websocket.create_connection(
        f"ws://127.0.0.1:{service.port}/media-stream",
        timeout=PATIENCE,
        header=[f"x-twilio-signature: {signature}"],
    )


def wait_for_room(service: Service) -> None:
    """Wait until a call that is over is over for the workflow's thread, too."""
    eventually(lambda: "<Reject" not in post(service).text, "room for a call")


@pytest.mark.settings(MAX_CALLS="2")
def test_more_calls_than_allowed_are_told_that_the_line_is_busy(service: Service) -> None:
    calls = [service.call() for _ in range(2)]
    asked = len(service.openai.requests)
    third = service.network.call()
    third.wait_ended()
    assert third.status == "busy"
    assert third.streams == []
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        open_stream(service)
    assert refused.value.status_code == 503
    assert len(service.openai.requests) == asked
    for n, call in enumerate(calls):
        call.say(f"I am caller {n}")
        hear_out(call, f"You said: I am caller {n}.")
    calls[0].hang_up()
    wait_for_room(service)
    fourth = service.call()
    fourth.say("At last")
    hear_out(fourth, "You said: At last.")


@pytest.mark.thorough("it starts a process with two workers")
def test_workers_share_their_places(own: Callable[..., Service]) -> None:
    """Whichever of them the webhook meets, and whichever the stream."""
    service = own("gevent", WEB_CONCURRENCY="2", MAX_CALLS="3")
    service.brain.reply = tells_stories
    calls = [service.call() for _ in range(6)]
    assert all(len(call.streams) == 1 for call in calls)
    seventh = service.network.call()
    seventh.wait_ended()
    assert seventh.status == "busy"
    for n, call in enumerate(calls):
        call.say(f"I am caller {n}")
        hear_out(call, f"You said: I am caller {n}.")
    workers = [worker_of(service, session) for session in service.openai.sessions]
    os.kill(workers[0], signal.SIGKILL)
    for call, worker in zip(calls, workers, strict=True):
        if worker == workers[0]:
            hear_out(call, BRIDGE)
    for n, call in enumerate(calls):
        call.say(f"I am still caller {n}")
        hear_out(call, f"You said: I am still caller {n}.")


@pytest.mark.thorough("it takes seconds, and a service of its own")
@pytest.mark.settings(MAX_CALLS="1")
def test_a_call_that_comes_back_to_a_full_process_is_not_told_that_it_is_busy(
    service: Service,
) -> None:
    call = service.call()
    resumed = post(service, "/voice?conversation=conv_1&attempt=1")
    assert parameters(resumed.text)["conversation"] == "conv_1"
    settle(call)
    call.stream.reset()
    hear_out(call, BRIDGE)  # at once or, if its old stream still took the place, a second later
    assert element(post(service).text, "Reject").attrib == {"reason": "busy"}


@pytest.mark.thorough("it takes long")
@pytest.mark.settings(MAX_CALLS="1")
def test_calls_that_end_in_any_way_make_room_for_others(service: Service) -> None:
    service.strangers = True  # a stream may end before it tells of its call
    ways: list[Callable[[Call], Any]] = [
        Call.hang_up,
        lambda call: call.stream.reset(),
        lambda call: call.stream.close(),
        lambda call: call.stream.inject_raw(b"\xff\xff\xff\xff"),
    ]
    for way in ways:
        call = service.call()
        way(call)
        call.hang_up()
        wait_for_room(service)
    service.call()


@pytest.mark.thorough("it takes long")
def test_the_keys_are_never_sent_to_a_host_that_was_not_configured(service: Service) -> None:
    service.tolerate("")
    with OpenAISimulator(ears=VOICE, mouth=VOICE, api_key="sk-of-somebody-else") as stranger:
        service.openai.redirect_to = f"http://127.0.0.1:{stranger.port}"
        call = service.network.call()
        service.openai.wait_for(
            lambda openai: [r for r in openai.requests if r.path.endswith("/realtime")], 20
        )
        service.openai.redirect_to = ""
        hear_out(call, "Hello!")
        service.openai.redirect_to = f"http://127.0.0.1:{stranger.port}"
        call.say("Anybody there?")
        hear_out(call, APOLOGY)
        service.openai.redirect_to = ""
        asked = list(service.openai.requests)
        service.openai.requests.extend(stranger.requests)  # to know the connections that stay warm
        assert stranger.sessions == []
        for request in stranger.requests:
            assert not any(secret in str(request.headers) for secret in SECRETS)
        keys = {request.headers["Authorization"] for request in asked}
        assert keys == {f"Bearer {API_KEY}"}


@pytest.mark.thorough("it takes long")
@pytest.mark.settings(WEBHOOK_URL="https://voice.example.com:8443")
def test_signatures_hold_for_an_address_with_a_port(service: Service) -> None:
    call = service.call()
    call.say("Hello")
    hear_out(call, "You said: Hello.")
    for address, status in [
        ("https://voice.example.com:8443", 200),
        ("https://voice.example.com:8444", 403),
        ("http://voice.example.com:8443", 403),
        ("https://evil.example:8443", 403),
    ]:
        signature = service.network.signature(f"{address}/voice", FORM)
        assert post(service, signature=signature).status_code == status, address


def test_one_call_signed_wrong_harms_no_other(service: Service) -> None:
    call = service.call()
    for signature in (None, "", "wrong"):
        stranger = service.network.call(signature=signature)
        stranger.wait_ended()
        assert stranger.streams == []
    call.say("Who was that?")
    hear_out(call, "You said: Who was that?.")
