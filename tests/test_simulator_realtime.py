"""The stand-in for Realtime is as strict as OpenAI, and fails as told."""

from __future__ import annotations

import audioop
import base64
import time
from collections.abc import Iterator
from typing import Any

import pytest
import websocket

from tools.event_check import check_server_events
from tools.realtime_client import SESSION, SILENCE, VOICE, RealtimeClient, changed
from tools.simulator.openai_knobs import (
    CONTENT_FILTERED,
    HANGS,
    QUOTA_USED_UP,
    SILENTLY_COMPLETED,
    TOO_MANY_SESSIONS,
    ResponseFailure,
    SessionClose,
)
from tools.simulator.openai_server import OpenAISimulator
from tools.simulator.speech import mulaw_to_pcm16
from tools.simulator.waiting import CATCH_UP_SECONDS, PATIENCE

Json = dict[str, Any]

TRANSCRIPTION = "conversation.item.input_audio_transcription"


@pytest.fixture
def simulator() -> Iterator[OpenAISimulator]:
    with OpenAISimulator(ears=VOICE, mouth=VOICE) as running:
        yield running
        check_server_events(running)


@pytest.fixture
def line(simulator: OpenAISimulator) -> Iterator[RealtimeClient]:
    line = RealtimeClient(simulator)
    assert line.next()["type"] == "session.created"
    yield line
    line.socket.close()


# ---------------------------------------------------------------- Realtime: who is let in


@pytest.mark.parametrize("key", [None, "sk-wrong"])
def test_a_handshake_without_the_right_key_is_refused_before_the_upgrade(
    simulator: OpenAISimulator, key: str | None
) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
        RealtimeClient(simulator, key=key)
    assert refusal.value.status_code == 401
    assert b"invalid_request_error" in (refusal.value.resp_body or b"")
    assert not simulator.sessions


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"headers": {"OpenAI-Beta": "realtime=v1"}}, "beta_api_shape_disabled"),
        ({"model": None}, "missing_required_parameter"),
        ({"model": "gpt-4o-realtime-preview"}, "model_not_found"),
    ],
)
def test_the_beta_header_and_dead_models_get_an_error_and_close_4000(
    simulator: OpenAISimulator, options: Json, code: str
) -> None:
    line = RealtimeClient(simulator, **options)
    assert line.closed() == 4000
    assert [event["error"]["code"] for event in line.seen] == [code]
    assert code in simulator.refusals[0]


def test_a_session_in_the_shape_of_the_beta_is_thrown_out(line: RealtimeClient) -> None:
    line.send("session.update", session={"input_audio_format": "g711_ulaw"})
    assert line.closed() == 4000
    assert line.seen[-1]["error"]["code"] == "beta_api_shape_disabled"


# ---------------------------------------------------------------- Realtime: the session


def test_the_session_is_24_khz_pcm_until_it_is_configured(line: RealtimeClient) -> None:
    created = line.seen[0]["session"]
    assert created["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert created["audio"]["input"]["turn_detection"]["create_response"] is True
    updated = line.configure()["session"]
    assert updated["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    assert updated["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
        "create_response": False,
        "interrupt_response": False,
    }
    assert updated["model"] == "gpt-realtime-2.1-mini"
    assert not line.simulator.refusals


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("audio.input.foo", 1, "unknown_parameter"),
        ("voice", "marin", "unknown_parameter"),
        ("audio.input.format.rate", 8000, "unknown_parameter"),
        ("audio.input.turn_detection.silence_ms", 1, "unknown_parameter"),
        ("type", ..., "missing_required_parameter"),
        ("type", "transcription", "invalid_value"),
        ("audio.input.format.type", ..., "missing_required_parameter"),
        ("audio.output.format", {"type": "audio/pcm"}, "missing_required_parameter"),
        ("audio.output.format", {"type": "audio/pcm", "rate": 8000}, "invalid_value"),
        ("audio.output.format", "g711_ulaw", "invalid_type"),
        ("audio.output.voice", "nova", "invalid_value"),
        ("audio.output.speed", 2.0, "invalid_value"),
        ("audio.input.format", {"type": "audio/pcm", "rate": 16000}, "invalid_value"),
        ("audio.input.transcription.language", ["en"], "invalid_type"),
        ("audio.input.transcription.languages", [], "invalid_value"),
        ("audio.input.transcription.languages", ["en", "english"], "invalid_value"),
        ("audio.input.transcription", {"model": "whisper-1", "language": "xx"}, "invalid_value"),
        ("audio.input.transcription", {"model": "whisper-1", "languages": ["en"]}, "invalid_value"),
        ("reasoning.effort", "hardly any", "invalid_value"),
        ("output_modalities", ["text", "audio"], "invalid_value"),
        ("max_output_tokens", 0, "invalid_value"),
        ("model", "gpt-realtime", "invalid_value"),
        ("audio.input.transcription.model", "whisper-9", "invalid_value"),
        ("audio.input.transcription.delay", "low", "invalid_value"),
        ("audio.input.noise_reduction.type", "no_field", "invalid_value"),
        ("audio.input.turn_detection.threshold", 1.5, "invalid_value"),
        ("audio.input.turn_detection.threshold", "0.5", "invalid_type"),
        ("audio.input.turn_detection.create_response", 0, "invalid_type"),
        ("audio.input.turn_detection.idle_timeout_ms", 100, "invalid_value"),
        ("audio.input.turn_detection.eagerness", "low", "unknown_parameter"),
    ],
)
def test_a_session_with_one_wrong_field_is_rejected_whole_and_the_field_named(
    line: RealtimeClient, path: str, value: object, code: str
) -> None:
    line.send("session.update", event_id="mine", session=changed(path, value))
    error = line.until("error")["error"]
    named = "session." + path
    assert (error["code"], error["event_id"]) == (code, "mine")
    assert error["param"].startswith(named)
    assert named in line.simulator.refusals[0]
    assert line.session.config == line.seen[0]["session"]


@pytest.mark.parametrize("model", ["gpt-live-transcribe", "gpt-realtime-whisper"])
def test_live_transcription_models_reject_turn_detection(line: RealtimeClient, model: str) -> None:
    session = changed("audio.input.transcription.model", model)
    line.send("session.update", session=session)
    assert line.until("error")["error"]["param"] == "session.audio.input.turn_detection"
    session["audio"]["input"]["turn_detection"] = None
    line.configure(session)


def test_idle_timeout_belongs_to_server_vad_only(line: RealtimeClient) -> None:
    turns = {"type": "semantic_vad", "idle_timeout_ms": 6000}
    line.send("session.update", session=changed("audio.input.turn_detection", turns))
    param = line.until("error")["error"]["param"]
    assert param == "session.audio.input.turn_detection.idle_timeout_ms"


def test_the_voice_is_fixed_once_something_was_said(line: RealtimeClient) -> None:
    line.configure()
    line.configure(changed("audio.output.voice", "cedar"))
    line.speak("Hello.")
    line.until("response.done")
    line.send("session.update", session=SESSION)
    assert line.until("error")["error"]["code"] == "cannot_update_voice"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("not json", "invalid_json"),
        pytest.param("[" * 100_000, "invalid_json", id="deep"),
        ("[]", "invalid_event"),
        ("{}", "missing_required_parameter"),
        ('{"type": "response.dance"}', "invalid_value"),
        ('{"type": "input_audio_buffer.append", "audio": "!!"}', "invalid_value"),
        ('{"type": "input_audio_buffer.append", "audio": 1}', "invalid_type"),
        ('{"type": "input_audio_buffer.append", "audio": "/w==", "x": 1}', "unknown_parameter"),
        ('{"type": "input_audio_buffer.append"}', "missing_required_parameter"),
        ('{"type": "input_audio_buffer.commit"}', "input_audio_buffer_commit_empty"),
        ('{"type": "output_audio_buffer.clear"}', "invalid_value"),
        ('{"type": "response.cancel", "response_id": "r"}', "response_cancel_not_active"),
        ('{"type": "conversation.item.delete", "item_id": "i"}', "item_delete_invalid_item_id"),
        ('{"type": "conversation.item.retrieve", "item_id": "i"}', "item_retrieve_invalid_item_id"),
        (
            '{"type": "conversation.item.truncate", "item_id": "i", "content_index": 0,'
            ' "audio_end_ms": 0}',
            "item_truncate_invalid_item_id",
        ),
    ],
)
def test_a_bad_event_gets_an_error_and_the_session_goes_on(
    line: RealtimeClient, frame: str, code: str
) -> None:
    line.socket.send(frame)
    assert line.until("error")["error"]["code"] == code
    assert len(line.simulator.refusals) == 1
    line.configure()


# ---------------------------------------------------------------- Realtime: hearing


def test_words_become_vad_events_and_a_transcript_in_order(line: RealtimeClient) -> None:
    line.configure()
    line.hear_words("Tuesday at nine, please")
    done = line.until("conversation.item.input_audio_transcription.completed")
    assert done["transcript"] == "Tuesday at nine, please"
    assert line.kinds()[2:] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
    ]
    started, stopped = line.seen[2:4]
    spoken_ms = len(VOICE.speak("Tuesday at nine, please")) // 16
    assert started["audio_start_ms"] == pytest.approx(500 - 300, abs=20)
    assert stopped["audio_end_ms"] == pytest.approx(500 + spoken_ms + 500, abs=20)
    ids = {event.get("item_id") or event["item"]["id"] for event in line.seen[2:]}
    assert len(ids) == 1
    assert not line.simulator.refusals


def test_mulaw_sent_into_an_unconfigured_session_is_noise(line: RealtimeClient) -> None:
    update: Json = {"type": "realtime", "audio": {"input": {}}}
    update["audio"]["input"]["transcription"] = {"model": "gpt-transcribe"}
    line.configure(update)
    for _ in range(3):
        line.hear_words("Can you hear me?")
    line.hear(SILENCE * 200)
    line.until("input_audio_buffer.speech_stopped")
    done = line.until("conversation.item.input_audio_transcription.completed")
    assert "hear" not in done["transcript"]


def test_a_client_that_leaves_automatic_responses_on_hears_the_model_improvise(
    line: RealtimeClient,
) -> None:
    line.configure(changed("audio.input.turn_detection", {"type": "server_vad"}))
    line.hear_words("Hi")
    done = line.until("response.done")["response"]
    assert done["conversation_id"] and done["metadata"] is None
    assert done["output"][0]["content"][0]["transcript"] == "(improvised)"
    assert "conversation.item.added" in line.kinds()


def test_speech_interrupts_a_default_response_but_never_one_out_of_band(
    line: RealtimeClient,
) -> None:
    line.simulator.realtime.speed = 1.0
    line.configure(changed("audio.input.turn_detection.interrupt_response", True))
    line.speak("This goes on whatever the caller says, since it is out-of-band. " * 5)
    spoken = line.until("response.created")["response"]["id"]
    line.session.improvise("This one stops as soon as the caller begins to speak. " * 5)
    line.until("response.created")
    line.hear_words("Stop")
    cut = line.until("response.done")["response"]
    assert (cut["status"], cut["status_details"]["reason"]) == ("cancelled", "turn_detected")
    line.simulator.realtime.speed = 100.0
    assert line.until("response.done")["response"]["id"] == spoken


@pytest.mark.parametrize("eagerness", ["low", "high"])
def test_semantic_turn_detection_finds_turns_too(line: RealtimeClient, eagerness: str) -> None:
    turns = {"type": "semantic_vad", "eagerness": eagerness, "create_response": False}
    line.configure(changed("audio.input.turn_detection", turns))
    line.hear_words("Hello")
    done = line.until("conversation.item.input_audio_transcription.completed")
    assert done["transcript"] == "Hello"


def test_without_turn_detection_the_client_commits(line: RealtimeClient) -> None:
    line.configure(changed("audio.input.turn_detection", None))
    line.hear_words("Hello")
    line.send("input_audio_buffer.commit")
    done = line.until("conversation.item.input_audio_transcription.completed")
    assert done["transcript"] == "Hello"
    line.hear_words("Forget this")
    line.send("input_audio_buffer.clear")
    line.until("input_audio_buffer.cleared")
    line.send("input_audio_buffer.commit")
    assert line.until("error")["error"]["code"] == "input_audio_buffer_commit_empty"


def test_an_idle_timeout_makes_the_model_improvise(line: RealtimeClient) -> None:
    line.configure(changed("audio.input.turn_detection.idle_timeout_ms", 5000))
    line.hear(SILENCE * 251)
    line.until("input_audio_buffer.timeout_triggered", audio_start_ms=0, audio_end_ms=5000)
    assert line.until("response.done")["response"]["status"] == "completed"


def test_transcripts_can_be_scripted_failed_and_delivered_out_of_order(
    line: RealtimeClient,
) -> None:
    line.configure()
    knobs = line.simulator.realtime
    kind = TRANSCRIPTION
    knobs.next_transcripts = ["", "Thank you for watching"]
    for expected in ("", "Thank you for watching"):
        line.hear_words("cough")
        assert line.until(f"{kind}.completed")["transcript"] == expected
    knobs.fail_transcripts = 1
    line.hear_words("lost")
    assert line.until(f"{kind}.failed")["error"]["message"]
    knobs.hold_transcripts = 1
    line.hear_words("first")
    line.hear_words("second")
    assert line.until(f"{kind}.completed")["transcript"] == "second"
    assert line.until(f"{kind}.completed")["transcript"] == "first"


@pytest.mark.parametrize(
    ("transcription", "heard"),
    [
        ({"model": "gpt-transcribe", "languages": ["en", "de"]}, "Good morning"),
        ({"model": "gpt-transcribe", "language": "en"}, "صباح الخير"),
        ({"model": "gpt-transcribe"}, "صباح الخير"),
        ({"model": "whisper-1", "language": "en"}, "Good morning"),
        ({"model": "whisper-1"}, "صباح الخير"),
    ],
)
def test_only_the_field_that_a_model_knows_pins_its_language(
    line: RealtimeClient, transcription: Json, heard: str
) -> None:
    line.configure(changed("audio.input.transcription", transcription))
    line.simulator.realtime.unpinned_transcript = "صباح الخير"
    line.hear_words("Good morning")
    completed = line.until(f"{TRANSCRIPTION}.completed")
    assert completed["transcript"] == heard
    pinned = [{"code": code} for code in transcription.get("languages", [])[:1]]
    assert completed.get("languages", []) == pinned
    assert not line.simulator.refusals


def test_transcripts_are_lost_and_repeated_as_told(line: RealtimeClient) -> None:
    line.configure()
    line.simulator.realtime.lose_transcripts = 1
    line.hear_words("never to be read")
    lost = line.until("input_audio_buffer.committed")["item_id"]
    line.simulator.wait_for(lambda s: not s.realtime.lose_transcripts)
    line.simulator.realtime.repeat_transcripts = 1
    line.hear_words("twice")
    first, second = [line.until(f"{TRANSCRIPTION}.completed") for _ in range(2)]
    assert first["item_id"] == second["item_id"] != lost
    assert first["transcript"] == second["transcript"] == "twice"
    assert first["event_id"] != second["event_id"]


def test_a_transcript_may_come_late(line: RealtimeClient) -> None:
    line.configure()
    line.simulator.realtime.transcript_delay = 0.4
    line.hear_words("slow")
    line.until(f"{TRANSCRIPTION}.completed")
    sent = {event["type"]: at for at, event in line.session.sent}
    assert sent[f"{TRANSCRIPTION}.completed"] - sent["input_audio_buffer.committed"] >= 0.39


def test_what_a_delay_holds_back_comes_when_the_knob_is_turned(line: RealtimeClient) -> None:
    line.configure()
    line.simulator.realtime.transcript_delay = line.simulator.realtime.created_delay = 600
    line.speak("Hello")
    line.hear_words("Hello")
    line.until("input_audio_buffer.committed")
    line.simulator.realtime.created_delay = 0
    line.until("response.done")
    assert f"{TRANSCRIPTION}.completed" not in line.kinds()
    line.simulator.realtime.transcript_delay = 0
    line.until(f"{TRANSCRIPTION}.completed")


def test_the_end_of_speech_may_never_be_noticed(line: RealtimeClient) -> None:
    line.configure()
    line.simulator.realtime.hear_ends = False
    line.hear_words("music on hold")
    line.send("input_audio_buffer.clear")
    line.until("input_audio_buffer.cleared")
    assert "input_audio_buffer.speech_started" in line.kinds()
    assert "input_audio_buffer.speech_stopped" not in line.kinds()
    line.simulator.realtime.hear_ends = True
    line.hear_words("and on")
    line.until("input_audio_buffer.speech_stopped")


# ---------------------------------------------------------------- Realtime: speaking


def test_an_out_of_band_response_reads_its_text_in_exactly_this_order(line: RealtimeClient) -> None:
    line.configure()
    text = "Your appointment is booked for Tuesday at nine."
    line.speak(text)
    created = line.until("response.created")["response"]
    assert created["status"] == "in_progress"
    assert created["metadata"] == {"utterance": text[:20]}
    done = line.until("response.done")["response"]
    assert (done["status"], done["conversation_id"]) == ("completed", None)
    line.until("rate_limits.updated")
    assert line.kinds(without="response.output_audio_transcript.delta")[2:] == [
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    heard = VOICE.hear(mulaw_to_pcm16(line.audio(created["id"])))
    deltas = [e for e in line.seen if e["type"] == "response.output_audio_transcript.delta"]
    assert heard == text == "".join(event["delta"] for event in deltas)
    assert not line.simulator.refusals


def test_pcm_sessions_hear_and_speak_24_khz(line: RealtimeClient) -> None:
    pcm: Json = {"type": "audio/pcm", "rate": 24000}
    session = changed("audio.input.format", pcm)
    session["audio"]["output"]["format"] = pcm
    line.configure(session)
    words = VOICE.speak("Hello", 24000) + bytes(48 * 700)
    line.send("input_audio_buffer.append", audio=base64.b64encode(words).decode())
    done = line.until("conversation.item.input_audio_transcription.completed")
    assert done["transcript"] == "Hello"
    line.speak("Good morning")
    response_id = line.until("response.done")["response"]["id"]
    assert VOICE.hear(line.audio(response_id), 24000) == "Good morning"
    line.speak("Alaw", audio={"output": {"format": {"type": "audio/pcma"}}})
    response_id = line.until("response.done")["response"]["id"]
    assert VOICE.hear(audioop.alaw2lin(line.audio(response_id), 2)) == "Alaw"


def test_out_of_band_responses_run_in_parallel_but_the_default_conversation_takes_one(
    line: RealtimeClient,
) -> None:
    line.configure()
    line.speak("One and only one")
    line.speak("Two at a time")
    done = {line.until("response.done")["response"]["metadata"]["utterance"] for _ in range(2)}
    assert done == {"One and only one", "Two at a time"}
    line.send("response.create")
    line.until("response.created")
    line.send("response.create", event_id="second")
    error = line.until("error")["error"]
    assert error["code"] == "conversation_already_has_active_response"
    assert error["event_id"] == "second"


def test_without_instructions_the_model_answers_instead_of_reading(line: RealtimeClient) -> None:
    line.configure()
    line.speak("Read me", instructions="")
    line.until("response.output_audio_transcript.done", transcript="(improvised)")


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"modalities": ["audio"], "conversation": "none"}, None),
        ({"output_modalities": ["audio", "text"]}, "response.output_modalities"),
        ({"conversation": "default"}, "response.conversation"),
        ({"voice": "marin"}, "response.voice"),
        ({"metadata": {"k": "v" * 513}}, "response.metadata.k"),
        ({"metadata": {"k" * 65: "v"}}, "response.metadata"),
        ({"metadata": {str(n): "v" for n in range(17)}}, "response.metadata"),
        ({"metadata": {"utterance": 1}}, "response.metadata.utterance"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "response.input[0].id"),
        (
            {"input": [{"type": "message", "role": "user", "content": [{"type": "text"}]}]},
            "response.input[0].content[0].type",
        ),
    ],
)
def test_a_response_with_a_wrong_field_gets_an_error_and_nothing_else(
    line: RealtimeClient, parameters: Json, param: str | None
) -> None:
    line.configure()
    line.speak("Hello", **parameters)
    error = line.until("error")["error"]
    assert error["param"] == param
    if param is None:
        assert line.closed() == 4000
    else:
        assert error["event_id"] == "say Hello"
        assert not line.session.responses


def test_cancelling_by_id_stops_the_speech(line: RealtimeClient) -> None:
    line.simulator.realtime.speed = 1.0
    line.simulator.realtime.late_deltas = 2
    line.configure()
    line.speak("A long text of which only the beginning will be spoken, for it is cancelled. " * 5)
    response_id = line.until("response.created")["response"]["id"]
    line.until("response.output_audio.delta")
    line.send("response.cancel")
    error = line.until("error")["error"]
    assert error["code"] == "response_cancel_not_active"
    before = len(line.simulator.refusals)
    line.send("response.cancel", response_id=response_id)
    done = line.until("response.done")["response"]
    assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert done["output"][0]["status"] == "incomplete"
    cancelled = [at for at, e in line.session.received if e["type"] == "response.cancel"][-1]
    deltas = [at for at, e in line.session.sent if e["type"] == "response.output_audio.delta"]
    assert 2 <= len([at for at in deltas if at > cancelled]) <= 3  # one may have been on its way
    line.send("response.cancel", response_id=response_id)
    assert line.until("error")["error"]["code"] == "response_cancel_not_active"
    assert len(line.simulator.refusals) == before, "cancelling what has just ended is no fault"


def test_responses_fail_as_told(line: RealtimeClient) -> None:
    line.configure()
    knobs = line.simulator.realtime
    knobs.reject_responses = 1
    line.speak("Rejected")
    assert line.until("error")["error"]["event_id"] == "say Rejected"
    knobs.next_failures = [
        ResponseFailure(),
        ResponseFailure(after_ms=300),
        ResponseFailure("incomplete", after_ms=300),
    ]
    audible = []
    for status in ("failed", "failed", "incomplete"):
        line.speak("This one does not end well, whatever you do")
        done = line.until("response.done")["response"]
        assert (done["status"], done["status_details"]["type"]) == (status, status)
        audible.append(bool(line.audio(done["id"])))
    assert audible == [False, True, True]
    line.speak("This one does")
    assert line.until("response.done")["response"]["status"] == "completed"
    assert not line.simulator.refusals


@pytest.mark.parametrize(
    ("failure", "details"),
    [
        (
            QUOTA_USED_UP,
            {
                "type": "failed",
                "error": {
                    "type": "insufficient_quota",
                    "code": "insufficient_quota",
                    "message": QUOTA_USED_UP.message,
                },
            },
        ),
        (CONTENT_FILTERED, {"type": "incomplete", "reason": "content_filter"}),
        (
            ResponseFailure("incomplete", after_ms=200, reason="max_output_tokens"),
            {"type": "incomplete", "reason": "max_output_tokens"},
        ),
    ],
)
def test_every_response_may_fail_in_an_open_session(
    line: RealtimeClient, failure: ResponseFailure, details: Json
) -> None:
    line.configure()
    line.simulator.realtime.fail_all = failure
    for _ in range(3):
        line.speak("This is what the caller should hear")
        done = line.until("response.done")["response"]
        assert done["status_details"] == details
        assert bool(line.audio(done["id"])) == bool(failure.after_ms)
    line.simulator.realtime.fail_all = None
    line.speak("Now it works")
    assert line.until("response.done")["response"]["status"] == "completed"


def test_a_response_may_be_completed_without_a_sound(line: RealtimeClient) -> None:
    line.configure()
    line.simulator.realtime.next_failures = [SILENTLY_COMPLETED]
    line.speak("Nobody hears this")
    done = line.until("response.done")["response"]
    assert (done["status"], done["output"], line.audio(done["id"])) == ("completed", [], b"")


@pytest.mark.parametrize("failure", [HANGS, ResponseFailure("hangs", after_ms=300)])
def test_a_response_may_hang_until_it_is_cancelled(
    line: RealtimeClient, failure: ResponseFailure
) -> None:
    line.configure()
    line.simulator.realtime.next_failures = [failure]
    line.speak("This one stops in the middle")
    hanging = line.until("response.created")["response"]["id"]
    line.speak("Another one is spoken meanwhile")
    other = line.until("response.done")["response"]
    assert (other["status"], other["id"] == hanging) == ("completed", False)
    line.send("response.cancel", response_id=hanging)
    done = line.until("response.done")["response"]
    assert (done["id"], done["status"]) == (hanging, "cancelled")
    assert bool(line.audio(hanging)) == bool(failure.after_ms)


def test_a_response_create_may_be_answered_by_nothing_at_all(line: RealtimeClient) -> None:
    line.configure()
    line.simulator.realtime.ignore_responses = 1
    line.speak("Ignored")
    line.speak("Spoken")
    created = line.until("response.created")["response"]
    assert created["metadata"] == {"utterance": "Spoken"}
    line.until("response.done")
    assert len([e for e in line.seen if e["type"] == "response.created"]) == 1


def test_the_wording_can_drift(line: RealtimeClient) -> None:
    line.configure()
    line.simulator.realtime.drift = lambda text: text.replace("I'm", "I am")
    line.speak("I'm here.")
    line.until("response.output_audio_transcript.done", transcript="I am here.")


def test_text_responses_and_items_of_the_default_conversation(line: RealtimeClient) -> None:
    line.configure()
    item = {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Hi"}],
        "id": "first",
    }
    line.send("conversation.item.create", item=item)
    line.until("conversation.item.done")
    line.send("response.create", response={"output_modalities": ["text"]})
    done = line.until("response.done")["response"]
    line.until("response.output_text.done") if not done["output"] else None
    assert done["output"][0]["content"][0] == {"type": "output_text", "text": "(improvised)"}
    line.send("response.create")
    said = line.until("response.done")["response"]["output"][0]["id"]
    cut = {"item_id": said, "content_index": 0}
    line.send("conversation.item.truncate", **cut, audio_end_ms=100)
    line.until("conversation.item.truncated")
    line.send("conversation.item.truncate", **cut, audio_end_ms=99_999)
    assert line.until("error")["error"]["param"] == "audio_end_ms"
    line.send("conversation.item.retrieve", item_id="first")
    line.until("conversation.item.retrieved")
    line.send("conversation.item.delete", item_id="first")
    line.until("conversation.item.deleted")


# ---------------------------------------------------------------- Realtime: faults


def test_audio_need_not_be_remembered(line: RealtimeClient) -> None:
    line.simulator.realtime.keep_audio_events = False
    line.configure()
    line.hear_words("Hello")
    line.speak("Hello yourself")
    line.until("response.done")
    assert line.session.appends > 50
    assert not line.session.events("input_audio_buffer.append")
    assert not line.session.sent_events("response.output_audio.delta")
    assert line.session.sent_events("response.done")


def test_handshakes_are_refused_as_told(simulator: OpenAISimulator) -> None:
    simulator.realtime.refuse_connections = [429, 503]
    for status in (429, 503):
        with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
            RealtimeClient(simulator)
        assert refusal.value.status_code == status
    assert RealtimeClient(simulator).next()["type"] == "session.created"
    assert not simulator.refusals


def test_a_session_expires(simulator: OpenAISimulator) -> None:
    simulator.realtime.session_seconds = 0.05
    line = RealtimeClient(simulator)
    assert line.closed() == 1001
    assert line.seen[-1]["error"]["code"] == "session_expired"
    simulator.wait_for(lambda s: not s.sessions[0].open)


def test_connections_are_closed_reset_and_stalled(simulator: OpenAISimulator) -> None:
    closed, reset, stalled = (
        RealtimeClient(simulator),
        RealtimeClient(simulator),
        RealtimeClient(simulator),
    )
    simulator.wait_for(lambda s: len(s.sessions) == 3)
    first, second, third = simulator.sessions
    first.close(1011, "server_error")
    assert closed.closed() == 1011
    second.abort()
    reset.next()
    with pytest.raises((ConnectionError, websocket.WebSocketException)):
        reset.next()
    stalled.next()
    third.stall()
    stalled.send("session.update", session=SESSION)
    stalled.socket.ping()
    stalled.socket.settimeout(0.2)
    with pytest.raises(websocket.WebSocketTimeoutException):
        stalled.socket.recv_data_frame(control_frame=True)
    third.stall(False)
    stalled.socket.settimeout(PATIENCE)
    stalled.until("session.updated")
    stalled.socket.shutdown()
    simulator.wait_for(lambda s: not any(session.open for session in s.sessions))


def test_a_session_can_accept_and_then_say_nothing(simulator: OpenAISimulator) -> None:
    simulator.realtime.accept_but_stall = True
    line = RealtimeClient(simulator)
    line.socket.settimeout(0.2)
    with pytest.raises(websocket.WebSocketTimeoutException):
        line.next()


def test_a_mute_session_answers_pings_and_nothing_else(simulator: OpenAISimulator) -> None:
    simulator.realtime.mute = True
    line = RealtimeClient(simulator)
    line.send("session.update", session=SESSION)
    line.socket.ping("alive?")
    opcode, frame = line.socket.recv_data_frame(control_frame=True)
    assert (opcode, frame.data) == (websocket.ABNF.OPCODE_PONG, b"alive?")
    assert simulator.sessions[0].events("session.update")


def test_an_update_may_stay_unconfirmed(line: RealtimeClient) -> None:
    line.simulator.realtime.confirm_updates = False
    line.send("session.update", session=SESSION)
    line.send("input_audio_buffer.clear")
    assert line.next()["type"] == "input_audio_buffer.cleared"
    assert line.session.config["audio"]["output"]["voice"] == "marin"


def test_the_model_may_have_been_shut_down(simulator: OpenAISimulator) -> None:
    simulator.realtime.model_is_gone = True
    line = RealtimeClient(simulator)
    assert line.closed() == 4000
    assert line.kinds() == ["error"]
    assert line.seen[0]["error"]["code"] == "model_not_found"
    assert not simulator.refusals


def test_sessions_may_be_closed_with_a_reason_as_soon_as_they_are_open(
    simulator: OpenAISimulator,
) -> None:
    simulator.realtime.close_connections = [SessionClose(1011, "internal error")]
    simulator.realtime.close_all = TOO_MANY_SESSIONS
    for expected in (SessionClose(1011, "internal error"), *[TOO_MANY_SESSIONS] * 2):
        line = RealtimeClient(simulator)
        assert line.closed() == expected.code
        assert line.close_reason == expected.reason


@pytest.mark.parametrize(("model", "accepted"), [("gpt-realtime-2", True), ("gpt-realtime", False)])
def test_only_models_that_reason_take_an_effort(
    simulator: OpenAISimulator, model: str, accepted: bool
) -> None:
    line = RealtimeClient(simulator, model=model)
    line.next()
    line.send("session.update", session={"type": "realtime", "reasoning": {"effort": "minimal"}})
    answer = line.next()
    if accepted:
        assert answer["session"]["reasoning"] == {"effort": "minimal"}
    else:
        assert answer["error"]["param"] == "session.reasoning"


@pytest.mark.parametrize(
    ("knob", "asked", "answered"),
    [
        ("created_delay", "response.create", "response.created"),
        ("first_audio_delay", "response.create", "response.output_audio.delta"),
        ("updated_delay", "session.update", "session.updated"),
    ],
)
def test_each_step_may_take_its_time(
    line: RealtimeClient, knob: str, asked: str, answered: str
) -> None:
    setattr(line.simulator.realtime, knob, 0.3)
    line.configure()
    line.speak("Slowly")
    line.until("response.done")
    since = next(at for at, event in line.session.received if event["type"] == asked)
    then = next(at for at, event in line.session.sent if event["type"] == answered)
    assert then - since >= 0.29


def test_sound_comes_as_much_faster_than_it_plays_as_told(line: RealtimeClient) -> None:
    line.simulator.realtime.speed = 2
    line.configure()
    line.speak("A sentence of about one second")
    response = line.until("response.done")["response"]
    seconds = len(line.audio(response["id"])) / 8000
    (asked,) = [at for at, e in line.session.received if e["type"] == "response.create"]
    last = [at for at, e in line.session.sent if e["type"] == "response.output_audio.delta"][-1]
    longest_piece = 0.4
    assert last - asked >= (seconds - longest_piece) / 2 > 0


def test_what_a_stall_ate_of_the_speech_does_not_come_in_a_burst(line: RealtimeClient) -> None:
    line.simulator.realtime.speed = 1.0
    line.configure()
    line.speak("A sentence of some length, which takes about a second and a half to say out")
    line.until("response.output_audio.delta")
    line.simulator.on_loop(lambda: time.sleep(1))
    line.until("response.done")
    pieces = [
        (at, len(base64.b64decode(event["delta"])) / 8000)
        for at, event in line.session.sent
        if event["type"] == "response.output_audio.delta"
    ]
    before_last = [seconds for _, seconds in pieces[:-1]]
    lost = 1 - before_last[0] - CATCH_UP_SECONDS
    assert sum(before_last) > 1
    assert pieces[-1][0] - pieces[0][0] > sum(before_last) + lost - 0.1


def test_a_connection_may_take_its_time(simulator: OpenAISimulator) -> None:
    simulator.realtime.connect_delay = 0.3
    began = time.monotonic()
    RealtimeClient(simulator)
    assert time.monotonic() - began >= 0.29


def test_every_connection_may_be_refused(simulator: OpenAISimulator) -> None:
    simulator.realtime.refuse_all = 401
    for _ in range(2):
        with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
            RealtimeClient(simulator)
        assert refusal.value.status_code == 401
    simulator.realtime.refuse_all = None
    assert RealtimeClient(simulator).next()["type"] == "session.created"
    assert not simulator.refusals


def test_an_update_may_fail_for_no_fault_of_the_clients(line: RealtimeClient) -> None:
    line.simulator.realtime.reject_updates = 1
    line.send("session.update", event_id="mine", session=SESSION)
    error = line.until("error")["error"]
    assert (error["code"], error["event_id"]) == ("server_error", "mine")
    line.configure()
    assert not line.simulator.refusals


def test_an_update_may_be_refused_for_a_field_of_it(line: RealtimeClient) -> None:
    line.simulator.realtime.refused_field = "session.tracing"
    line.send("session.update", event_id="mine", session=SESSION)
    error = line.until("error")["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "session.tracing")
    assert len(line.simulator.refusals) == 1


def test_bytes_between_the_frames_break_the_framing(line: RealtimeClient) -> None:
    line.session.inject_wire(b"\x8f\x00")
    with pytest.raises(websocket.WebSocketException):
        line.next()


def test_odd_frames_come_in_between(line: RealtimeClient) -> None:
    line.simulator.realtime.chatter = 1
    line.send("session.update", session=SESSION)
    odd: list[bytes] = []
    while len(odd) < 11:
        line.send("input_audio_buffer.clear")
        line.socket.recv()
        odd.append(line.socket.recv_data()[1])
    assert b"not json {" in odd and b"\x00\xff\x00" in odd
    line.session.inject("anything")
    line.socket.send_binary(b"\x00")
    line.session.inject(b"\x00")
    line.session.inject({"type": "made.up"})


EVENT = b'{"type": "input_audio_buffer.clear"}'


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (b"\x81\xfe" + len(EVENT).to_bytes(2, "big") + bytes(4), "2 bytes, more than it needs"),
        (b"\x81\xff" + len(EVENT).to_bytes(8, "big") + bytes(4), "8 bytes, more than it needs"),
        (bytes([0x81, len(EVENT)]), "not masked"),
    ],
)
def test_frames_that_break_the_rules_are_refused(
    line: RealtimeClient, head: bytes, fault: str
) -> None:
    line.configure()
    assert line.socket.sock
    line.socket.sock.sendall(bytes([0x81, 0x80 + len(EVENT)]) + bytes(4) + EVENT)
    line.until("input_audio_buffer.cleared")
    line.socket.sock.sendall(head + EVENT)
    with pytest.raises((OSError, websocket.WebSocketException)):
        line.until("input_audio_buffer.cleared")
    assert fault in line.simulator.refusals.pop()


def test_waiting_in_vain_says_what_happened_instead(line: RealtimeClient) -> None:
    line.configure()
    with pytest.raises(AssertionError, match=r"session\.updated"):
        line.simulator.wait_for(lambda s: s.brain.turns, timeout=0.05)
