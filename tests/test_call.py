"""A phone call works, from the first ring to the last word."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import time
import wave
from pathlib import Path
from threading import Event

import pytest

from tests.conftest import both_kinds, more
from tools.harness import AUTH_TOKEN, Service, hear_out, settle
from tools.simulator.openai_knobs import ResponseFailure
from tools.simulator.openai_server import RealtimeSession, Reply
from tools.simulator.speech import mulaw_to_pcm16
from tools.simulator.twilio_network import Call


@both_kinds
def test_caller_is_greeted_heard_and_answered(service: Service) -> None:
    call = service.call()
    call.say("I need an oil change für 9.30 € ☎")
    hear_out(call, "You said: I need an oil change für 9.30 € ☎.")
    call.say("Thank you")
    hear_out(call, "You said: Thank you.")
    assert service.messages == ["I need an oil change für 9.30 € ☎", "Thank you"]
    assert call.heard() == (
        "Hello! You said: I need an oil change für 9.30 € ☎. You said: Thank you."
    )
    ports = {each.peer[1] for each in service.openai.requests if "realtime" not in each.path}
    assert len(ports - service.warm) <= 1, "connections stay open between turns"


def test_the_session_is_what_the_file_says(service: Service) -> None:
    service.call()
    file = json.loads(Path(service.settings["REALTIME_SESSION"]).read_text("utf-8"))
    assert [update["session"] for update in service.session.events("session.update")] == [file]


def test_nothing_is_sent_or_said_until_the_session_is_configured(service: Service) -> None:
    service.realtime.updated_delay = 0.5
    service.call()
    configured = first_sent(service.session, "session.updated")
    assert first_received(service.session, "input_audio_buffer.append") > configured
    assert first_received(service.session, "response.create") > configured


def test_mulaw_is_relayed_byte_for_byte(service: Service) -> None:
    call = service.call()
    call.say("Every byte counts")
    hear_out(call, "You said: Every byte counts.")
    call.hang_up()
    call.wait_ended()
    said, heard = both_sides(call)
    appends = service.session.events("input_audio_buffer.append")
    relayed = b"".join(base64.b64decode(event["audio"]) for event in appends)
    assert mulaw_to_pcm16(relayed) in said
    deltas = service.session.sent_events("response.output_audio.delta")
    for _, group in itertools.groupby(deltas, key=lambda event: event["response_id"]):
        spoken = b"".join(base64.b64decode(event["delta"]) for event in group)
        assert mulaw_to_pcm16(spoken) in heard


@both_kinds
def test_first_sentence_is_heard_while_the_workflow_still_writes(service: Service) -> None:
    rest = Event()
    words = ["We can do that. And ", "more until the end."]
    service.brain.reply = lambda text, history: Reply(words, rest=rest)
    call = service.call()
    call.say("Can you?")
    call.wait_for_heard("We can do that.")
    assert service.brain.turns[-1].ended is None
    rest.set()
    hear_out(call, "until the end.")
    assert call.heard() == "Hello! " + "".join(words)


def test_sentences_are_spoken_one_at_a_time_each_with_its_mark(service: Service) -> None:
    numbers = ["one", "two", "three", "four", "five"]
    sentences = [f"This is sentence number {number}." for number in numbers]
    service.brain.reply = lambda text, history: " ".join(sentences)
    call = service.call()
    call.say("Go")
    hear_out(call, "number five.")
    assert call.heard() == " ".join(["Hello!", *sentences])
    session = service.session
    happened = sorted(
        [(at, "asked") for at, event in session.received if event["type"] == "response.create"]
        + [(at, "done") for at, event in session.sent if event["type"] == "response.done"]
    )
    assert [what for _, what in happened] == ["asked", "done"] * 6
    kinds = [e.kind for e in call.timeline if e.kind in ("media_received", "mark_received")]
    assert [kind for kind, _ in itertools.groupby(kinds)] == ["media_received", "mark_received"] * 6
    assert all(mark.played for mark in call.stream.marks)


@both_kinds
def test_markup_links_and_citations_are_never_spoken(service: Service) -> None:
    service.brain.reply = lambda text, history: (
        "## Prices\nAn **oil change** costs $4.50【4:0†source】, see [our list]"
        "(https://prices.example/list?a=b). Dr. Smith comes at 9.30 a.m. on Monday:\n"
        "- *brakes*\n- `tyres`\n\nMore at https://more.example/x. Any questions?"
    )
    call = service.call()
    call.say("What does it cost?")
    hear_out(call, "Any questions?")
    assert call.heard() == (
        "Hello! Prices An oil change costs $4.50, see our list."
        " Dr. Smith comes at 9.30 a.m. on Monday: brakes tyres More at. Any questions?"
    )


def test_what_the_model_says_unasked_never_reaches_the_caller(service: Service) -> None:
    call = service.call()
    service.realtime.next_failures = [ResponseFailure("hangs", after_ms=200)]
    service.session.improvise("I just felt like saying something rather long and unhelpful.")
    service.openai.wait_for(lambda _: service.session.responses[-1].over)
    call.say("Hello there")
    hear_out(call, "You said: Hello there.")
    assert call.heard() == "Hello! You said: Hello there."
    improvised = next(response for response in service.session.responses if response.in_default)
    assert improvised.status == "cancelled"


def test_drift_of_the_spoken_words_is_logged(service: Service) -> None:
    call = service.call()
    service.realtime.drift = lambda text: text.replace("You said", "Sure, you say")
    call.say("Hm")
    hear_out(call, "Sure, you say: Hm.")
    line = service.wait_for_log("Sure, you say")
    assert f"[{call.sid} ***33]" in line
    assert "You said: Hm." in line
    assert not any("Hello!" in line for line in service.log)


def test_each_turn_is_timed_in_the_log(service: Service) -> None:
    service.brain.reply = lambda text, history: Reply("So be it. And that is all.", first_delay=0.2)
    call = service.call()
    lasted = []
    for turn in (1, 2):
        began = time.monotonic()
        call.say("Do it")
        service.wait_for_log(f"turn {turn}: ")
        lasted.append(time.monotonic() - began)
    lines = [line for line in service.log if "turn " in line]
    assert len(lines) == 2
    for line, seconds in zip(lines, lasted, strict=True):
        times = re.search(
            r"heard 2 words after (.*) s, workflow (.*) s, voice (.*) s, 2 sentences$", line
        )
        assert times, line
        transcript, workflow, voice = map(float, times.groups())
        assert transcript >= 0.2
        assert workflow >= 0.2
        assert voice > 0
        rounding = 0.015
        assert transcript + workflow + voice < seconds + rounding


def test_calls_at_the_same_time_do_not_mix(service: Service) -> None:
    calls = [service.network.call(caller=f"+1555222333{n}") for n in range(5)]
    for call in calls:
        hear_out(call, "Hello!")
    for n, call in enumerate(calls):
        call.say(f"I am caller {n}")
    for n, call in enumerate(calls):
        hear_out(call, f"You said: I am caller {n}.")
        assert call.heard() == f"Hello! You said: I am caller {n}."
    texts = [conversation.texts for conversation in service.openai.conversations.values()][-5:]
    assert all(len(spoken := text[1:]) == 2 and spoken[0][1][-1] in spoken[1][1] for text in texts)


@both_kinds
@pytest.mark.parametrize("when", ["listening", "speaking", "thinking", "half said"])
def test_caller_hangs_up_at_any_moment_and_nothing_is_left(service: Service, when: str) -> None:
    service.brain.reply = lambda text, history: Reply(
        "A long story. " * 30, first_delay=2.0 if when == "thinking" else 0.02
    )
    call = service.call()
    if when != "listening":
        call.say("Tell me a story")
    if when == "half said":
        service.openai.wait_for(
            lambda _: service.session.sent_events("input_audio_buffer.speech_started")
        )
    if when == "thinking":
        service.wait_for_messages(1)
    if when == "speaking":
        call.wait_for_heard("long story. A")
    call.hang_up()
    call.wait_ended()
    service.wait_for_log(rf"\[{call.sid}[^]]*\] ended after")
    assert service.network.rest_requests == []


@pytest.mark.parametrize("how", ["reset", *more("close")])
def test_a_lost_stream_goes_on_where_it_was(service: Service, how: str) -> None:
    call = service.call()
    call.say("My name is Ada")
    hear_out(call, "You said: My name is Ada.")
    settle(call)
    getattr(call.stream, how)()
    call.wait_for_stream(number=2)
    hear_out(call, "Please go on.")
    call.say("Who am I?")
    call.wait_for_heard("Who am I?.")
    assert call.heard().count("Hello!") == 1
    (conversation,) = {where for where, _ in service.brain.messages}
    spoken = service.openai.conversations[conversation].texts
    assert any("My name is Ada" in text for _, text in spoken)


def test_a_session_that_is_refused_does_not_leave_the_caller_in_silence(service: Service) -> None:
    service.realtime.reject_updates = 1
    call = service.network.call()
    call.wait_for_heard("Hello!")
    assert len(service.openai.sessions) == 2
    assert AUTH_TOKEN not in service.process.output


def first_sent(session: RealtimeSession, kind: str) -> float:
    return next(at for at, event in session.sent if event["type"] == kind)


def first_received(session: RealtimeSession, kind: str) -> float:
    return next(at for at, event in session.received if event["type"] == kind)


def both_sides(call: Call) -> tuple[bytes, bytes]:
    """Return what the caller said and heard, as PCM16."""
    with wave.open(io.BytesIO(call.recording())) as file:
        frames = file.readframes(file.getnframes())
    samples = [frames[n : n + 2] for n in range(0, len(frames), 2)]
    return b"".join(samples[::2]), b"".join(samples[1::2])
