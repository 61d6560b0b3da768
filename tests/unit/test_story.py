"""The log of a call as a story: events in, with a clock that the test turns, and lines out."""

from __future__ import annotations

import logging

import pytest

from call import Call
from cost import EARS, Cost, Usage
from speech import HANG_UP, TRANSFER, Kind
from story import Story

SID = "CA" + "7" * 32
CALL = Call(SID, "MZ1", "+15552223333", "+15550001111", "conv_1", 0, "greeting")
QUESTION = "When do you open?"


class ToldCall:
    """A call whose story is told, and whose time passes only by `wait`."""

    def __init__(
        self, caplog: pytest.LogCaptureFixture, call: Call = CALL, transcripts: bool = False
    ) -> None:
        self.now = 100.0
        self.caplog = caplog
        caplog.set_level("INFO")
        cost = Cost({"gpt-transcribe": {"minutes": 0.0045}})
        self.story = Story(call, cost, transcripts, clock=lambda: self.now)

    @property
    def lines(self) -> list[str]:
        """What was told, without the call's name."""
        return [line.partition("] ")[2] for line in self.caplog.messages]

    @property
    def last(self) -> logging.LogRecord:
        return self.caplog.records[-1]

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def greet(self) -> None:
        self.story.begins()
        self.wait(0.9)
        self.story.sounds(Kind.LINE)
        self.caplog.clear()

    def ask(self, turn: int = 1, words: str = QUESTION) -> None:
        """Have the caller say something, and the workflow asked 0.55 s after the last word."""
        self.story.caller_stopped(0.5)
        self.wait(0.05)
        self.story.caller_said(words)
        self.story.asks(turn)

    def reply(self, *texts: str, turn: int = 1) -> None:
        """Have the reply come after 0.9 s, and sound 0.3 s later."""
        self.wait(0.9)
        for text in texts:
            self.story.reply_piece(turn, text)
        self.wait(0.3)
        self.story.sounds(Kind.REPLY)


@pytest.fixture
def call(caplog: pytest.LogCaptureFixture) -> ToldCall:
    call = ToldCall(caplog)
    call.greet()
    return call


# --- the beginning --------------------------------------------------------------------------------


def test_a_call_begins_with_its_conversation_and_its_greeting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    call = ToldCall(caplog)
    call.story.begins()
    call.wait(0.9)
    call.story.sounds(Kind.LINE)
    call.story.sounds(Kind.LINE)
    assert caplog.messages == [
        f"[{SID} ***33] call started: conv_1",
        f"[{SID} ***33] greeted after 0.90 s",
    ]


@pytest.mark.parametrize(
    ("attempt", "opening"),
    [(1, "bridge"), (0, "bridge"), (0, "no_transfer"), pytest.param(1, "greeting", id="ungreeted")],
)
def test_a_call_that_comes_back_is_resumed(
    caplog: pytest.LogCaptureFixture, attempt: int, opening: str
) -> None:
    call = ToldCall(caplog, Call(SID, "MZ1", "anonymous", "", "", attempt, opening))
    call.story.begins()
    assert caplog.messages == [f"[{SID}] call resumed: no conversation yet"]


# --- turns ----------------------------------------------------------------------------------------


def test_a_turn_is_a_line_once_it_was_heard_out(call: ToldCall) -> None:
    call.ask()
    call.reply("At nine.", "Shall I book?")
    assert call.lines == []
    call.story.heard_out()
    assert call.lines == [
        "turn 1: heard 4 words after 0.55 s, workflow 0.90 s, voice 0.30 s, 2 sentences"
    ]


def test_what_is_neither_reply_nor_heard_before_it_is_not_measured_as_its_sound(
    call: ToldCall,
) -> None:
    call.ask()
    call.wait(1.6)
    call.story.sounds(Kind.FILLER)
    call.wait(2)
    call.story.sounds(Kind.FILLER)
    call.reply("At nine.")
    call.story.heard_out()
    assert call.lines[-1] == (
        "turn 1: heard 4 words after 0.55 s, workflow 4.50 s (2 fillers), voice 0.30 s, 1 sentence"
    )


def test_an_apology_is_no_answer(call: ToldCall) -> None:
    call.ask()
    call.wait(1.6)
    call.story.sounds(Kind.FILLER)
    call.wait(4.9)
    call.story.no_reply("the reply has no words")
    call.story.apologises()
    call.story.sounds(Kind.LINE)
    call.story.heard_out()
    call.story.stops()
    call.story.ended()
    assert call.lines == [
        "no reply: the reply has no words",
        "turn 1: heard 4 words after 0.55 s, no reply (filler), 1 apology",
        "ended after 7 s: the caller hung up, 1 turn, none answered, 1 apology",
    ]
    assert call.last.levelname == "WARNING"


@pytest.mark.parametrize(
    ("heard", "told"),
    [("We open at", "cut in after 3 words"), ("", "cut in after no words")],
)
def test_a_barge_in_ends_a_turn_with_what_was_heard(call: ToldCall, heard: str, told: str) -> None:
    call.ask()
    call.reply("We open at nine.")
    call.story.cuts_in(heard)
    assert call.lines[-1].endswith(f"1 sentence, {told}")
    call.story.reply_piece(1, "More of what nobody wants.")
    call.story.ended()
    assert "1 turn, 1 interruption, slowest 1.8 s" in call.lines[-1]


def test_a_caller_who_goes_on_before_any_answer_interrupts_nothing(call: ToldCall) -> None:
    call.ask()
    call.story.cuts_in("")
    call.ask(2)
    call.reply("At nine.", turn=2)
    call.story.ended()
    assert call.lines[0] == "turn 1: heard 4 words after 0.55 s, no reply, cut in after no words"
    assert call.lines[-1].startswith("ended after 2 s: the stream broke off, 2 turns, slowest")


def test_the_next_turn_ends_the_one_before(call: ToldCall) -> None:
    call.ask()
    call.reply("At nine.")
    call.ask(2, "Thanks")
    assert len(call.lines) == 1
    call.story.ended()
    assert call.lines[1] == "turn 2: heard 1 word after 0.55 s, no reply"


def test_keys_are_counted_and_never_told(call: ToldCall) -> None:
    for _ in range(4):
        call.story.key_pressed()
    call.story.asks(1)
    call.reply("Thank you.")
    call.story.heard_out()
    assert call.lines == ["turn 1: heard 4 keys, workflow 0.90 s, voice 0.30 s, 1 sentence"]


def test_words_and_keys_together(call: ToldCall) -> None:
    call.story.key_pressed()
    call.ask()
    call.story.ended()
    assert call.lines[0].startswith("turn 1: heard 4 words and 1 key after 0.55 s")


def test_a_noise_leaves_no_time_behind(call: ToldCall) -> None:
    call.story.caller_stopped(0.5)
    call.story.caller_said(" ")
    call.story.noise(0.42)
    call.wait(30)
    call.story.key_pressed()
    call.story.asks(1)
    call.story.heard_out()
    assert call.lines == ["a noise of 0.4 s", "turn 1: heard 1 key, no reply"]


def test_what_was_not_understood_is_counted(call: ToldCall) -> None:
    call.story.not_understood()
    call.story.not_understood()
    call.story.ended()
    assert call.lines[:2] == ["the caller's words could not be made out"] * 2
    assert ", 2 not understood" in call.lines[-1]


# --- the end --------------------------------------------------------------------------------------


def test_the_last_line_tells_all_of_a_call(call: ToldCall) -> None:
    call.ask()
    call.reply("At nine.")
    call.story.heard_out()
    call.ask(2, "Bye")
    call.reply("Bye.", HANG_UP, turn=2)
    for number in range(50):
        call.story.read_out(number > 0)
    call.story.spends(Usage("gpt-transcribe", EARS, {"type": "duration", "seconds": 800}))
    call.wait(40)
    call.story.hangs_up()
    call.story.stops()
    call.story.ended()
    assert call.lines[-1] == (
        "ended after 43 s: [hangup], 2 turns, slowest 1.8 s, read 98 % word for word, 0.06 USD"
    )
    assert call.last.levelname == "INFO"


def test_a_call_that_was_never_answered_does_not_read_like_a_good_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    call = ToldCall(caplog)
    call.story.begins()
    call.wait(3)
    call.story.gives_up("You exceeded your quota.")
    call.story.ended()
    assert call.lines[1:] == [
        "given up: You exceeded your quota.",
        "ended after 3 s: given up, never greeted, no turns",
    ]
    assert call.last.levelname == "WARNING"


def test_a_turn_that_is_only_done_is_an_answer(call: ToldCall) -> None:
    call.ask()
    call.story.reply_piece(1, TRANSFER)
    call.story.ends(TRANSFER)
    call.story.ended()
    assert "[transfer], 1 turn" in call.lines[-1]
    assert "none answered" not in call.lines[-1]


def test_leave_that_the_line_takes_is_the_reason(call: ToldCall) -> None:
    call.story.prompts()
    call.story.takes_leave("the caller stayed silent")
    call.story.hangs_up()
    call.story.ended()
    assert call.lines == [
        "asking whether the caller is still there",
        "saying goodbye: the caller stayed silent",
        "ended after 1 s: the caller stayed silent, no turns",
    ]


def test_a_caller_who_speaks_up_after_all_is_not_taken_leave_of(call: ToldCall) -> None:
    call.story.takes_leave("the caller stayed silent")
    call.ask()
    call.reply("Bye.", HANG_UP)
    call.story.hangs_up()
    call.story.ended()
    assert ": [hangup], 1 turn" in call.lines[-1]


def test_a_transfer_that_failed_did_not_end_the_call(call: ToldCall) -> None:
    call.story.transfers()
    call.story.act_failed("could not transfer: HTTP 500")
    call.story.stops()
    call.story.ended()
    assert call.lines == [
        "transferring the caller to TRANSFER_NUMBER",
        "could not transfer: HTTP 500",
        "ended after 1 s: the caller hung up, no turns",
    ]


def test_what_the_voice_failed_at_is_told_and_counted(call: ToldCall) -> None:
    call.story.repeats("rate limit")
    call.story.realtime_lost("1011 (internal error) keepalive")
    call.story.hands_over("drained")
    call.story.ended()
    assert call.lines == [
        "saying a sentence again: rate limit",
        "Realtime is lost: 1011 (internal error) keepalive",
        "handed over: drained",
        "ended after 1 s: handed over, no turns, 1 repeat, Realtime lost once",
    ]


def test_what_realtime_fails_at_again_and_again_is_told_once_and_counted(call: ToldCall) -> None:
    for why in ("reset", "refused", "refused", "refused"):
        call.story.realtime_lost(why)
    call.story.ended()
    assert call.lines[:-1] == ["Realtime is lost: reset", "Realtime is lost: refused"]
    assert call.lines[-1].endswith(", Realtime lost 4 times")
    assert vars(call.last)["lost"] == 4


def test_a_session_that_spoke_and_is_lost_is_told_of_again(call: ToldCall) -> None:
    call.story.realtime_lost("reset")
    call.story.sounds(Kind.LINE)
    call.story.realtime_lost("reset")
    assert call.lines == ["Realtime is lost: reset"] * 2


# --- what was said, and fields --------------------------------------------------------------------


def test_what_was_said_is_told_only_if_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    for transcripts in (False, True):
        call = ToldCall(caplog, transcripts=transcripts)
        call.greet()
        call.ask()
        call.reply("At nine.")
    assert call.lines == ["turn 1 heard: When do you open?", "turn 1 said: At nine."]


def test_each_line_has_its_numbers_as_fields(call: ToldCall) -> None:
    call.ask()
    call.reply("We open at nine.")
    call.story.cuts_in("We open")
    fields = vars(call.last)
    assert fields["event"] == "turn"
    assert fields["turn"] == 1
    assert fields["heard_words"] == 4
    stages = ("transcript_seconds", "workflow_seconds", "voice_seconds")
    assert [fields[stage] for stage in stages] == [0.55, 0.9, 0.3]
    assert fields["cut_in_after"] == 2
    call.story.ended()
    fields = vars(call.last)
    assert fields["event"] == "ended"
    assert fields["how"] == "the stream broke off"
    assert (fields["turns"], fields["interruptions"], fields["usd"]) == (1, 1, None)


# --- what is heard while the workflow is busy -----------------------------------------------------


def test_words_that_wait_for_the_workflow_are_told_though_a_mumble_follows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    call = ToldCall(caplog, transcripts=True)
    call.greet()
    call.story.caller_stopped(0.5)
    call.story.caller_said("Wait, also the brakes")
    call.story.not_understood()
    call.story.asks(1)
    assert call.lines[-1] == "turn 1 heard: Wait, also the brakes"


def test_waiting_for_the_workflow_to_end_its_last_reply_is_the_workflows_time(
    call: ToldCall,
) -> None:
    call.story.caller_stopped(0.5)
    call.wait(0.3)
    call.story.caller_said("Wait, also the brakes")
    call.story.understands()
    call.wait(4.0)
    call.story.asks(2)
    call.wait(0.5)
    call.story.reply_piece(2, "Fine.")
    call.story.heard_out()
    assert call.lines[-1] == "turn 2: heard 4 words after 0.80 s, workflow 4.50 s, 1 sentence"


def test_keys_are_known_once_no_more_come(call: ToldCall) -> None:
    call.story.caller_stopped(0.5)
    call.story.caller_said("My number is")
    call.story.key_pressed()
    call.wait(2.0)
    call.story.understands()
    call.story.asks(1)
    call.wait(0.5)
    call.story.reply_piece(1, "Fine.")
    call.story.heard_out()
    told = "turn 1: heard 3 words and 1 key after 2.50 s, workflow 0.50 s, 1 sentence"
    assert call.lines[-1] == told


@pytest.mark.parametrize("noise", ["", " ", "…", "-"])
def test_a_noise_does_not_begin_the_wait_for_what_is_keyed_in_later(
    call: ToldCall, noise: str
) -> None:
    call.story.caller_stopped(0.5)
    call.story.caller_said(noise)
    call.wait(30)
    call.story.key_pressed()
    call.story.asks(1)
    call.story.heard_out()
    assert call.lines[-1] == "turn 1: heard 1 key, no reply"
