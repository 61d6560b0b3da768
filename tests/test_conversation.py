"""It talks like a person: interruptions, silences, and ways to end a call."""

from __future__ import annotations

import re

import pytest

from tests.conftest import both_kinds, more
from tools.harness import (
    CALLED,
    COLLEAGUE,
    CUT_IN,
    VOICE,
    Service,
    hear_out,
    is_heard_out,
)
from tools.simulator.openai_server import Reply
from tools.simulator.twilio_network import Call

FOR_EVER = 600.0  # seconds: longer than any test
APOLOGY = "I'm sorry, something went wrong. Could you try that again?"
STORY = (
    "Once upon a time a car came to us. It made a noise nobody could explain. So we took the"
    " whole engine apart on a rainy afternoon and looked at every single piece of it for hours"
    " and hours. In the end it was a coin. The owner laughed."
)
FIRST, SECOND, THIRD = (
    "Once upon a time a car came to us.",
    "It made a noise nobody could explain.",
    "So we took the whole engine apart on a rainy afternoon and looked at every single piece of"
    " it for hours and hours.",
)


LATER_WORDS = [
    pytest.param(words, marks=pytest.mark.thorough("it takes eight seconds"))
    for words in ("noise nobody", "whole engine")
]


class DrawlingMouth:
    """Say every letter three times, which takes as long as a person takes to say a word."""

    def speak(self, text: str, rate: int) -> bytes:
        return VOICE.speak("".join(letter * 3 for letter in text), rate)


def heard_of_last_reply(message: str) -> str:
    note = CUT_IN.match(message)
    assert note, message
    return note[1]


def assert_same_to_a_word(told: str, heard: str) -> None:
    """Check what the workflow was told against what the caller heard: one word or 10 symbols."""
    words = abs(len(told.split()) - len(heard.split()))
    assert words <= 1 or abs(len(told) - len(heard)) <= 10, (told, heard)
    shorter = min(len(told), len(heard)) - 10
    assert told[:shorter] == heard[:shorter]


def answered_turn(call: Call, words: str, answer: str) -> None:
    call.say(words)
    hear_out(call, answer)


# ---------------------------------------------------------------- barge-in


@both_kinds
def test_caller_interrupts_and_the_workflow_learns_what_was_heard(service: Service) -> None:
    service.realtime.speed = 50
    service.brain.reply = lambda text, history: "I will." if "Stop" in text else STORY
    call = service.call()
    call.say("Tell me a story")
    call.wait_for_heard("engine apart")
    call.say("Stop that")
    call.wait_for("clear")
    heard = call.heard().removeprefix("Hello! ")
    hear_out(call, "I will.")
    assert call.heard() == f"Hello! {heard} I will."  # nothing of what was queued
    message = service.messages[-1]
    assert message.endswith("] Stop that")
    told = heard_of_last_reply(message)
    assert told.startswith(f"{FIRST} {SECOND} ")
    assert_same_to_a_word(told, heard)


@pytest.mark.parametrize("words_first", ["a car came", *LATER_WORDS])
def test_the_workflow_is_told_to_the_word_even_while_the_sentence_is_generated(
    service: Service, words_first: str
) -> None:
    service.openai.mouth = DrawlingMouth()
    service.realtime.speed = 1.5
    service.realtime.late_deltas = 3
    service.brain.reply = lambda text, history: "I will." if "Stop" in text else STORY
    call = service.network.call()
    call.wait_for_heard("".join(letter * 3 for letter in "Hello!"))
    call.wait_until(is_heard_out, what="end of the greeting")
    call.say("Tell me a story")
    call.wait_for_heard("".join(letter * 3 for letter in words_first))
    call.say("Stop that")
    call.wait_for("clear")
    interrupted = next(
        r for r in service.session.responses if r.status in ("in_progress", "cancelled")
    )
    heard = undrawled(call.heard()).removeprefix("Hello! ")
    told = heard_of_last_reply(service.wait_for_messages(2)[-1])
    assert_same_to_a_word(told, heard)
    hear_out(call, "III   wwwiiillllll...")
    assert undrawled(call.heard()) == f"Hello! {heard} I will."  # late deltas were not relayed
    assert interrupted.status == "cancelled"


def undrawled(text: str) -> str:
    """Undo what DrawlingMouth does; a letter that was cut off counts if it was heard at all."""
    bursts = re.split(r"(?<=[^ ]) (?=[^ ])", text)
    return " ".join(" ".join(burst[::3] for burst in bursts).split())


def test_caller_interrupts_before_the_response_has_an_id(service: Service) -> None:
    service.brain.reply = lambda text, history: "I will." if "Wait" in text else STORY
    call = service.call()
    service.realtime.created_delay = FOR_EVER
    call.say("Tell me a story")
    service.openai.wait_for(lambda _: len(service.session.events("response.create")) == 2)
    call.say("Wait")
    service.openai.wait_for(
        lambda _: len(service.session.sent_events("input_audio_buffer.speech_started")) == 2
    )
    service.realtime.created_delay = 0.0
    hear_out(call, "I will.")
    service.openai.wait_for(lambda _: service.session.responses[1].over)
    assert call.heard() == "Hello! I will."
    assert service.session.responses[1].status == "cancelled"
    cancelled = [event["response_id"] for event in service.session.events("response.cancel")]
    assert cancelled == [service.session.responses[1].id]
    assert heard_of_last_reply(service.messages[-1]) == ""


def test_caller_interrupts_the_greeting(service: Service) -> None:
    call = service.network.call()
    service.openai.mouth = DrawlingMouth()
    call.wait_for_heard("HHH")
    call.say("An oil change please")
    call.wait_for("clear")
    service.openai.mouth = VOICE
    hear_out(call, "An oil change please.")
    (message,) = service.messages
    assert message.endswith("An oil change please")


def test_nothing_is_cleared_or_noted_when_nothing_is_being_said(service: Service) -> None:
    call = service.call()
    for words in ("One", "Two", "Three"):
        answered_turn(call, words, f"You said: {words}.")
    assert service.messages == ["One", "Two", "Three"]
    assert not call.events("clear")
    assert not service.session.events("response.cancel")


@pytest.mark.thorough("tests/unit turns the clock; here it takes seconds")
def test_a_cut_off_reply_is_noted_once(service: Service) -> None:
    service.realtime.speed = 50
    service.brain.reply = lambda text, history: STORY if "story" in text else "All right."
    call = service.call()
    call.say("Tell me a story")
    call.wait_for_heard("noise")
    answered_turn(call, "Stop that", "All right.")
    answered_turn(call, "Good", "All right. All right.")
    assert service.messages[-1] == "Good"


# ---------------------------------------------------------------- false alarms


@both_kinds
def test_after_a_cough_the_cut_sentence_is_said_again_from_its_start(service: Service) -> None:
    service.brain.reply = lambda text, history: STORY
    call = service.call()
    call.say("Tell me a story")
    call.wait_for_heard("engine apart")
    service.realtime.next_transcripts = [""]
    call.say("(cough)")
    call.wait_for("clear")
    cut = call.heard().removeprefix(f"Hello! {FIRST} {SECOND} ")
    assert THIRD.startswith(cut[:-1])
    hear_out(call, "The owner laughed.")
    assert call.heard() == f"Hello! {FIRST} {SECOND} {cut} {STORY[STORY.index(THIRD) :]}"
    assert service.messages == ["Tell me a story"]


def test_a_cough_in_silence_is_nothing(service: Service) -> None:
    call = service.call()
    service.realtime.next_transcripts = [""]
    call.say("(cough)")
    service.openai.wait_for(lambda _: service.session.transcripts == [""])
    answered_turn(call, "Sorry", "You said: Sorry.")
    assert service.messages == ["Sorry"]
    assert call.heard() == "Hello! You said: Sorry."


# ---------------------------------------------------------------- the caller goes on


@pytest.mark.thorough("tests/unit turns the clock; here it takes seconds")
@both_kinds
def test_caller_goes_on_before_the_answer_has_begun(service: Service) -> None:
    service.brain.reply = lambda text, history: Reply(f"So, {text}.", first_delay=1.0)
    call = service.call()
    call.say("I need an oil change")
    service.wait_for_messages(1)
    call.say("and new tyres")
    hear_out(call, "and new tyres.")
    assert len(service.messages) == 2
    assert service.messages[0] == "I need an oil change"
    assert service.messages[1].endswith("and new tyres")
    assert call.heard().count("So, ") == 1
    answered_turn(call, "Thanks", "So, Thanks.")
    assert len(service.messages) == 3


@pytest.mark.thorough("tests/unit turns the clock; here it takes seconds")
@both_kinds
def test_caller_goes_on_again_and_again(service: Service) -> None:
    service.brain.reply = lambda text, history: Reply(f"So, {text}.", first_delay=0.8)
    call = service.call()
    words = ["I need", "an oil change", "and brakes", "tomorrow"]
    for n, part in enumerate(words, 1):
        call.say(part)
        service.openai.wait_for(lambda _, n=n: len(service.session.transcripts) == n)  # type: ignore[misc]
    hear_out(call, "tomorrow.")
    said = " ".join(CUT_IN.sub("", message) for message in service.messages)
    assert said == "I need an oil change and brakes tomorrow"
    assert call.heard().count("So, ") == 1


@pytest.mark.parametrize("comes_last", [False, *more(True)])
def test_two_stretches_of_speech_become_one_message_in_their_order(
    service: Service, comes_last: bool
) -> None:
    call = service.call()
    service.realtime.hold_transcripts = int(comes_last)
    service.realtime.transcript_delay = FOR_EVER
    say_in_two_stretches(service, call, "I need an oil change", "and new tyres")
    service.realtime.transcript_delay = 0.05
    hear_out(call, "You said: I need an oil change and new tyres.")
    assert service.messages == ["I need an oil change and new tyres"]


def say_in_two_stretches(service: Service, call: Call, first: str, second: str) -> None:
    """Say something, pause, and begin to say something else."""
    call.say(first)
    service.openai.wait_for(
        lambda _: service.session.sent_events("input_audio_buffer.speech_stopped")
    )
    call.say(second)
    service.openai.wait_for(
        lambda _: len(service.session.sent_events("input_audio_buffer.speech_started")) == 2
    )


# ---------------------------------------------------------------- no dead air


@pytest.mark.thorough("tests/unit turns the clock; here it takes seconds")
@pytest.mark.settings(FILLER_SECONDS="0")
def test_no_filler_at_all_if_its_seconds_are_0(service: Service) -> None:
    service.brain.reply = lambda text, history: Reply("It is.", first_delay=2.0)
    call = service.call()
    answered_turn(call, "Is it", "It is.")
    assert call.heard() == "Hello! It is."


@pytest.mark.thorough("tests/unit turns the clock; here it takes seconds")
@pytest.mark.settings(FILLER_SECONDS="1.2", FILLER="Let me look.|One moment.")
def test_a_slow_workflow_is_bridged_by_fillers_in_turn(service: Service) -> None:
    service.brain.reply = lambda text, history: Reply(
        f"It is {text}.", first_delay=2.6 if "slow" in text else 0.02
    )
    call = service.call()
    before = len(call.heard())
    answered_turn(call, "slow one", "It is slow one.")
    answered_turn(call, "fast one", "It is fast one.")
    answered_turn(call, "slow two", "It is slow two.")
    fillers = sorted(["Let me look.", "One moment."])
    heard = call.heard()[before:].strip()
    first, second = re.fullmatch(
        r"(.*) It is slow one\. It is fast one\. (.*) It is slow two\.", heard
    ).groups()  # type: ignore[union-attr]
    assert sorted([first, second]) == fillers
    assert service.messages == ["slow one", "fast one", "slow two"]


PATIENCE = pytest.mark.settings(
    IDLE_SECONDS="1", IDLE_PROMPT="Are you there?", GOODBYE="Thank you. Goodbye!"
)


@PATIENCE
def test_a_silent_caller_is_asked_once_and_then_the_call_ends(service: Service) -> None:
    call = service.call()
    call.wait_ended()
    assert call.heard() == "Hello! Are you there? Thank you. Goodbye!"
    assert call.end_reason == "completed by REST"
    assert service.messages == []


@pytest.mark.thorough("tests/unit turns the clock; here it takes seconds")
@PATIENCE
def test_a_caller_who_answers_the_question_is_asked_again_another_time(service: Service) -> None:
    call = service.call()
    hear_out(call, "Are you there?")
    answered_turn(call, "Yes", "You said: Yes.")
    hear_out(call, "You said: Yes. Are you there?")
    answered_turn(call, "Still", "You said: Still.")
    assert not call.ended
    assert "Goodbye" not in call.heard()


@pytest.mark.thorough("tests/unit turns the clock; here it takes seconds")
@PATIENCE
def test_silence_while_the_agent_thinks_or_speaks_is_not_idleness(service: Service) -> None:
    service.brain.reply = lambda text, history: Reply(THIRD, first_delay=2.5)
    call = service.call()
    answered_turn(call, "Tell me", THIRD)
    assert call.heard() == f"Hello! {THIRD}"


@pytest.mark.thorough("tests/unit turns the clock; here it takes seconds")
@pytest.mark.settings(MAX_CALL_SECONDS="2", GOODBYE="Time is up. Goodbye!")
@pytest.mark.parametrize("doing", ["listening", "speaking", "thinking", "hearing"])
def test_the_longest_call_ends_with_a_goodbye(service: Service, doing: str) -> None:
    service.brain.reply = lambda text, history: Reply(
        STORY * 3, first_delay=4 if doing == "thinking" else 0.02
    )
    call = service.call()
    if doing != "listening":
        call.say("Tell me a story" + " and another" * (30 * (doing == "hearing")))
    call.wait_ended()
    assert call.heard().endswith("Time is up. Goodbye!")
    assert call.end_reason == "completed by REST"


# ---------------------------------------------------------------- ending and handing over


@both_kinds
@pytest.mark.parametrize(
    "chunks",
    [
        ["Good", "bye now. [han", "gup]"],
        ["Goodbye now.", " ", "[", "h", "angup", "]"],
        ["Goodbye now.[hangup]\n"],
    ],
    ids=str,
)
def test_workflow_hangs_up_after_its_last_word_was_heard(
    service: Service, chunks: list[str]
) -> None:
    service.brain.reply = lambda text, history: Reply(chunks, chunk_delay=0.05)
    call = service.call()
    call.say("Bye")
    call.wait_ended()
    assert call.heard() == "Hello! Goodbye now."
    assert call.end_reason == "completed by REST"
    assert all(mark.played for mark in call.stream.marks)
    kinds = [entry.kind for entry in call.timeline]
    assert kinds.count("rest") == 1
    assert kinds.index("rest") > max(n for n, kind in enumerate(kinds) if kind == "mark_sent_back")


@both_kinds
def test_caller_who_cuts_in_on_the_goodbye_keeps_the_call(service: Service) -> None:
    service.realtime.speed = 50
    goodbye = "Thank you very much for calling us today, goodbye and have a nice weekend."
    service.brain.reply = lambda text, history: (
        f"{goodbye} [hangup]" if text == "Bye" else "Of course."
    )
    call = service.call()
    call.say("Bye")
    call.wait_for_heard("very much")
    answered_turn(call, "Wait a moment", "Of course.")
    answered_turn(call, "Fine", "Of course. Of course.")
    assert not call.ended
    assert service.network.rest_requests == []


@pytest.mark.parametrize("marker", ["[transfer]", "[transfer: +19995550000]", "[ Transfer +1999 ]"])
def test_workflow_transfers_to_the_configured_number_only(service: Service, marker: str) -> None:
    service.brain.reply = lambda text, history: f"I am connecting you. {marker}"
    call = service.call()
    call.say("A person please")
    dial = call.wait_for("dial")
    assert dial.detail == {"number": COLLEAGUE, "caller_id": CALLED}
    assert call.heard() == "Hello! I am connecting you."
    assert all(mark.played for mark in call.stream.marks)
    service.wait_for_log(rf"{call.sid}.*transferring the caller to TRANSFER_NUMBER$")
    service.wait_for_log(f"{call.sid}.*ended after")
    assert not call.ended
    assert [set(request.fields) for request in service.network.rest_requests] == [{"Twiml"}]


@pytest.mark.thorough("tests/unit has the rule; here it wants a service of its own")
@pytest.mark.settings(TRANSFER_NUMBER="", NO_TRANSFER="Nobody is here.")
def test_without_a_transfer_number_the_caller_is_told_and_the_call_goes_on(
    service: Service,
) -> None:
    service.brain.reply = lambda text, history: (
        "I am connecting you. [transfer]" if "person" in text else "Well then."
    )
    call = service.call()
    answered_turn(call, "A person please", "I am connecting you. Nobody is here.")
    answered_turn(call, "Pity", "Well then.")
    assert service.network.rest_requests == []


@pytest.mark.thorough("tests/unit turns the clock; here it takes seconds")
@pytest.mark.parametrize("status", [500, 401, 0])
def test_a_failed_transfer_is_told_and_the_call_goes_on(service: Service, status: int) -> None:
    service.network.rest_fail_next(1 if status == 401 else 3, status)
    service.brain.reply = lambda text, history: (
        "I am connecting you. [transfer]" if "person" in text else "Well then."
    )
    call = service.call()
    answered_turn(call, "A person please", "nobody can be reached right now.")
    answered_turn(call, "Pity", "Well then.")
    service.wait_for_log(rf"\[{call.sid}[^]]*\] could not transfer: ")
    assert service.messages[-1] == "[The caller could not be put through.] Pity"


@pytest.mark.parametrize("status", [500, *more(0)])
def test_a_transfer_that_stumbles_is_tried_again(service: Service, status: int) -> None:
    service.network.rest_fail_next(1, status)
    service.brain.reply = lambda text, history: "I am connecting you. [transfer]"
    call = service.call()
    call.say("A person please")
    assert call.wait_for("dial").detail == {"number": COLLEAGUE, "caller_id": CALLED}


@pytest.mark.parametrize("status", [401, 500])
def test_a_failed_hang_up_is_logged_and_ends_the_call_all_the_same(
    service: Service, status: int
) -> None:
    service.network.rest_fail_next(50, status)
    service.brain.reply = lambda text, history: "Goodbye. [hangup]"
    call = service.call()
    call.say("Bye")
    call.wait_ended()
    assert call.end_reason == "<Hangup>"
    assert call.heard() == "Hello! Goodbye."
    assert call.said == []
    assert len(call.streams) == 1
    service.wait_for_log(rf"\[{call.sid}[^]]*\] could not hang up: ")


# ---------------------------------------------------------------- keypad


@pytest.mark.parametrize("keys", ["123#", "123"])
def test_keys_reach_the_workflow_as_one_message(service: Service, keys: str) -> None:
    call = service.call()
    call.press(keys)
    hear_out(call, "You said: [The caller pressed 123 on the keypad.].")
    assert service.messages == ["[The caller pressed 123 on the keypad.]"]
    assert call.heard().count("You said") == 1


@pytest.mark.thorough("tests/unit turns the clock; here it takes seconds")
def test_the_first_key_interrupts_and_the_others_still_count(service: Service) -> None:
    service.realtime.speed = 50
    service.brain.reply = lambda text, history: "Noted." if "keypad" in text else STORY
    call = service.call()
    call.say("Tell me a story")
    call.wait_for_heard("noise")
    call.press("4")
    call.wait_for("clear")
    call.press("2#")
    hear_out(call, "Noted.")
    assert service.messages[-1].endswith("[The caller pressed 42 on the keypad.]")


def test_keys_interrupt_like_speech(service: Service) -> None:
    service.realtime.speed = 50
    service.brain.reply = lambda text, history: "Noted." if "keypad" in text else STORY
    call = service.call()
    call.say("Tell me a story")
    call.wait_for_heard("noise")
    call.press("42#")
    call.wait_for("clear")
    heard = call.heard().removeprefix("Hello! ")
    hear_out(call, "Noted.")
    assert call.heard() == f"Hello! {heard} Noted."
    message = service.messages[-1]
    assert message.endswith("[The caller pressed 42 on the keypad.]")
    assert_same_to_a_word(heard_of_last_reply(message), heard)


# ---------------------------------------------------------------- failing ears


def test_no_words_are_lost_when_half_of_them_could_not_be_transcribed(service: Service) -> None:
    call = service.call()
    service.realtime.transcript_delay = FOR_EVER
    service.realtime.fail_transcripts = 1
    say_in_two_stretches(service, call, "An oil change please", "and new tyres")
    service.realtime.transcript_delay = 0.05
    hear_out(call, "You said: ")
    assert service.messages == ["[inaudible] and new tyres"]


def test_caller_is_asked_to_say_again_what_could_not_be_transcribed(service: Service) -> None:
    call = service.call()
    service.realtime.fail_transcripts = 1
    answered_turn(call, "Mumble", "Could you say it again?")
    answered_turn(call, "Hello", "You said: Hello.")
    assert service.messages == ["Hello"]


# ---------------------------------------------------------------- every phrase is a setting


GERMAN = pytest.mark.settings(
    GREETING="Grüß Gott!",
    FILLER="Moment bitte.",
    FILLER_SECONDS="0.4",
    IDLE_PROMPT="Sind Sie noch da?",
    IDLE_SECONDS="1",
    GOODBYE="Auf Wiederhören!",
    APOLOGY="Das ging schief.",
    SAY_AGAIN="Wie bitte?",
    NO_TRANSFER="Niemand ist da.",
    BRIDGE="Da sind wir wieder.",
    UNAVAILABLE="Später & <bald> wieder.",
    TRANSFER_NUMBER="",
)


@pytest.mark.thorough("tests/unit tries each phrase; this takes nine seconds")
@GERMAN
def test_every_phrase_the_caller_hears_is_a_setting(service: Service) -> None:
    service.brain.reply = lambda text, history: (
        "[transfer]" if text == "Chef" else Reply(f"{text}.", first_delay=1.0)
    )
    call = service.call()
    answered_turn(call, "Hallo", "Moment bitte. Hallo.")
    service.realtime.fail_transcripts = 1
    answered_turn(call, "Hm", "Wie bitte?")
    service.brain.fail_next(1, "failed")
    answered_turn(call, "Oh", "Das ging schief.")
    answered_turn(call, "Chef", "Niemand ist da.")
    call.stream.reset()
    call.wait_for_heard("Da sind wir wieder.")
    call.wait_ended()
    assert call.heard().endswith("Da sind wir wieder. Sind Sie noch da? Auf Wiederhören!")


@pytest.mark.thorough("tests/unit/test_webhook.py has the TwiML; here it takes seconds")
@GERMAN
def test_the_last_words_of_the_safety_net_are_a_setting(service: Service) -> None:
    call = service.network.call(stream_signature="wrong")
    call.wait_ended()
    assert call.said == ["Moment bitte.", "Später & <bald> wieder."]
    assert call.end_reason == "<Hangup>"
