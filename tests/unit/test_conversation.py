"""Each rule of a conversation, with a clock that the test turns and a port that takes notes."""

from typing import Any

import pytest

from conversation import Conversation, Outcome
from lines import Limits, Lines
from speech import HANG_UP, TRANSFER, Kind
from tests.unit.noting_port import NotingPort
from witness import Witness

LINES = Lines()
ENDINGS = ("hang_up", "transfer", "close", "hold", "give_up")


class NotingWitness(Witness):
    """Notes what the rules notice, in order."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, ...]] = []
        self.understood = 0  # times

    def sounds(self, kind: Kind) -> None:
        self.noted.append(("sounds", kind.name))

    def cuts_in(self, heard: str) -> None:
        self.noted.append(("cuts in", heard))

    def heard_out(self) -> None:
        self.noted.append(("heard out",))

    def noise(self, seconds: float) -> None:
        self.noted.append(("noise", f"{seconds:.1f}"))

    def understands(self) -> None:
        self.understood += 1

    def not_understood(self) -> None:
        self.noted.append(("not understood",))

    def apologises(self) -> None:
        self.noted.append(("apologises",))

    def prompts(self) -> None:
        self.noted.append(("prompts",))

    def takes_leave(self, why: str) -> None:
        self.noted.append(("takes leave", why))

    def repeats(self, why: str) -> None:
        self.noted.append(("repeats", why))


class RuledCall:
    """A conversation whose voice does what the test says, and whose time passes only by `wait`."""

    def __init__(self, opening: str = "Hello.", note: str = "", **limits: Any) -> None:
        self.now = 100.0
        self.port = NotingPort()
        self.witness = NotingWitness()
        self.limits = Limits(**limits)
        self.rules = Conversation(
            self.port,
            lambda: self.now,
            opening,
            note,
            lines=LINES,
            limits=self.limits,
            witness=self.witness,
        )

    # --- what was decided since the last `forget` ---

    @property
    def done(self) -> list[tuple[str, ...]]:
        return self.port.noted

    @property
    def noticed(self) -> list[tuple[str, ...]]:
        return self.witness.noted

    @property
    def said(self) -> list[str]:
        return [noted[2] for noted in self.done if noted[0] == "say"]

    @property
    def asked(self) -> list[str]:
        return [noted[2] for noted in self.done if noted[0] == "ask"]

    @property
    def ended(self) -> list[tuple[str, ...]]:
        return [noted for noted in self.done if noted[0] in ENDINGS]

    @property
    def last_mark(self) -> str:
        return [noted[1] for noted in self.done if noted[0] == "say"][-1]

    def forget(self) -> None:
        self.port.noted = []
        self.witness.noted = []

    # --- what happens ---

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(self.now + 0.1, end)
            self.rules.tick()

    def voice_speaks(self, ms: int = 1000) -> str:
        """Have the voice speak, whole, what it was asked for last; return its mark."""
        mark = self.last_mark
        assert self.rules.voice_sound(mark, ms)
        self.rules.voice_ended(mark, Outcome.SPOKEN)
        return mark

    def caller_hears(self, ms: int = 1000) -> None:
        """Have the voice speak what it was asked for last, and Twilio play all of it."""
        mark = self.voice_speaks(ms)
        self.wait(ms / 1000)
        self.rules.heard(mark)

    def voice_fails(self, outcome: Outcome = Outcome.FAILED, reason: str = "rate limit") -> None:
        self.rules.voice_ended(self.last_mark, outcome, reason)

    def caller_says(self, words: str | None, item: str = "i1", seconds: float = 0.0) -> None:
        self.rules.caller_speaks(item)
        self.wait(seconds)
        self.rules.caller_stops(item)
        self.rules.caller_said(item, words)

    def workflow_replies(self, turn: int, *pieces: str) -> None:
        for piece in pieces:
            self.rules.reply_piece(turn, piece)
        self.rules.reply_ended(turn)


def greeted(**limits: Any) -> RuledCall:
    """Return a call whose greeting was heard."""
    call = RuledCall(**limits)
    call.rules.voice_ready()
    call.caller_hears()
    call.forget()
    return call


def told(*pieces: str) -> RuledCall:
    """Return a call whose workflow has replied to turn 1; the voice was asked for the first."""
    call = greeted()
    call.caller_says("Tell me.")
    call.forget()
    call.workflow_replies(1, *pieces)
    return call


# --- the plain turn -------------------------------------------------------------------------------


def test_the_opening_is_said_as_soon_as_the_voice_is_there() -> None:
    call = RuledCall()
    call.wait(1)
    assert call.done == []
    call.rules.voice_ready()
    assert call.done == [("say", "1", "Hello.")]


def test_a_call_without_a_greeting_listens() -> None:
    call = RuledCall(opening="")
    call.rules.voice_ready()
    call.wait(5)
    assert call.done == []
    call.caller_says("Hello?")
    assert call.asked == ["Hello?"]


def test_the_words_go_to_the_workflow_and_the_reply_to_the_voice() -> None:
    call = greeted()
    call.caller_says(" When is it ready? ")
    assert call.done == [("ask", "1", "When is it ready?")]
    call.rules.reply_piece(1, "At three.")
    assert call.said == ["At three."]
    mark = call.voice_speaks()
    assert call.done[-1] == ("mark", mark)


def test_the_first_message_tells_of_a_lost_line() -> None:
    call = RuledCall(note="[The line was lost.]")
    call.rules.voice_ready()
    call.caller_says("Where were we?")
    assert call.asked == ["[The line was lost.] Where were we?"]
    call.workflow_replies(1, "Here.")
    call.caller_hears()
    call.caller_says("Good.", "i2")
    assert call.asked[-1] == "Good."


def test_one_sentence_is_in_flight_at_a_time() -> None:
    call = told("One.", "Two.")
    call.wait(1)
    assert call.said == ["One."]


def test_the_next_sentence_is_asked_for_when_little_is_left_to_play() -> None:
    call = told("One.", "Two.")
    call.voice_speaks(5000)
    call.wait(1.9)
    assert call.said == ["One."]
    call.wait(0.2)
    assert call.said == ["One.", "Two."]


def test_a_reply_of_many_minutes_is_not_sent_ahead() -> None:
    call = told(*["A sentence of ten seconds."] * 50)
    for _ in range(10):
        call.caller_hears(10_000)
    assert len(call.said) == 11


def test_remarks_during_a_slow_turn_go_as_one_message() -> None:
    call = greeted()
    call.caller_says("I have a question.", "i1")
    call.caller_says("It is about my car.", "i2")
    call.caller_says("The red one.", "i3")
    assert call.asked == ["I have a question."]
    call.forget()
    call.workflow_replies(1, "Go on.")
    cut_in = LINES.cut_in.replace("{}", "")
    assert call.done == [("ask", "2", f"{cut_in} It is about my car. The red one.")]


def test_the_reply_to_an_earlier_turn_is_not_said() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.caller_says("No, wait.", "i2")
    call.workflow_replies(1, "It is ready.", HANG_UP)
    call.workflow_replies(2, "I wait.")
    assert call.said == ["I wait."]
    assert call.ended == []


# --- barge-in -------------------------------------------------------------------------------------


def test_a_barge_in_stops_and_clears_and_no_late_sound_passes() -> None:
    call = told("It is ready.")
    mark = call.last_mark
    call.rules.voice_sound(mark, 200)
    call.forget()
    call.rules.caller_speaks("i2")
    assert call.done == [("clear",), ("stop", mark)]  # the line is silent first
    assert not call.rules.voice_sound(mark, 200)
    call.rules.voice_ended(mark, Outcome.FAILED)
    call.rules.heard(mark)
    assert call.done == [("clear",), ("stop", mark)]


def test_a_barge_in_before_any_sound_clears_nothing() -> None:
    call = told("It is ready.")
    mark = call.last_mark
    call.forget()
    call.rules.caller_speaks("i2")
    assert call.done == [("stop", mark)]


def test_the_sound_of_a_sentence_that_was_stopped_is_not_passed_on() -> None:
    call = told("It is ready.")
    stopped = call.last_mark
    call.caller_says("", "i2")
    assert call.last_mark != stopped
    assert not call.rules.voice_sound(stopped, 200)
    call.rules.voice_ended(stopped, Outcome.SPOKEN)
    assert call.rules.voice_sound(call.last_mark, 200)


def test_a_false_alarm_says_again_what_it_cut_and_goes_on() -> None:
    call = told("It is ready.", "Come at three.")
    call.voice_speaks(2000)
    call.wait(1)
    call.forget()
    call.caller_says("", "i2")
    assert call.said == ["It is ready."]
    call.caller_hears()
    assert call.said == ["It is ready.", "Come at three."]


def test_what_was_heard_whole_is_not_said_again_after_a_false_alarm() -> None:
    call = told("It is ready.", "Come at three.")
    call.caller_hears()
    call.voice_speaks()
    call.forget()
    call.caller_says("", "i2")
    assert call.said == ["Come at three."]


def test_what_was_played_to_its_end_is_not_said_again_though_its_mark_is_late() -> None:
    call = told("It is ready.", "Come at three.")
    call.voice_speaks(1000)
    call.wait(1.1)
    call.forget()
    call.caller_says("", "cough")
    assert call.said == ["Come at three."]


def interrupted(call: RuledCall) -> str:
    """Have the caller cut in; return what the workflow is told that they had heard."""
    call.caller_says("Stop.", "i2")
    call.rules.reply_ended(1)
    note, stop = call.asked[-1].rsplit(" ", 1)
    assert stop == "Stop."
    prefix, suffix = LINES.cut_in.split("{}")
    assert note.startswith(prefix)
    assert note.endswith(suffix)
    return note.removeprefix(prefix).removesuffix(suffix)


@pytest.mark.parametrize(
    ("text", "half"),
    [
        ("Your car is ready at three.", "Your car is"),
        ("您的车明天下午三点可以取", "您的车明天下"),
    ],
)
def test_the_cut_sentence_is_reported_in_proportion(text: str, half: str) -> None:
    call = told(text)
    call.voice_speaks(2000)
    call.wait(1)
    assert interrupted(call) == half


def test_whole_sentences_are_reported_by_their_marks() -> None:
    call = told("It is ready.", "Come at three o'clock.")
    call.caller_hears()
    call.voice_speaks(2000)
    call.wait(1)
    assert interrupted(call) == "It is ready. Come at three"


def test_a_lost_mark_is_made_up_for_by_the_next() -> None:
    call = told("It is ready.", "Goodbye.", HANG_UP)
    call.voice_speaks(1000)
    call.caller_hears(1000)
    assert call.ended == [("hang_up",)]


def test_a_mark_of_what_was_taken_back_confirms_nothing() -> None:
    call = told("Goodbye.", HANG_UP)
    cleared = call.voice_speaks(1000)
    call.caller_says("", "cough")
    call.voice_speaks(1000)
    call.rules.heard(cleared)
    assert call.ended == []


def test_a_mark_that_is_a_little_late_takes_no_words_away() -> None:
    call = told("It is ready.", "Come at three o'clock.")
    call.voice_speaks(1000)
    call.voice_speaks(2000)
    call.wait(2)
    assert interrupted(call) == "It is ready. Come at three"


def test_what_was_sent_and_not_played_was_not_heard() -> None:
    call = told("It is ready.", "Come at three.")
    call.voice_speaks(1000)
    call.voice_speaks(1000)
    assert interrupted(call) == ""


def test_a_sentence_still_being_spoken_is_reported_by_an_estimate() -> None:
    call = told("a b c d e f g h i j")  # estimated at 1235 ms
    call.rules.voice_sound(call.last_mark, 600)
    call.wait(0.6)
    assert interrupted(call) == "a b c d e"


def test_a_voice_that_stumbles_has_not_said_more() -> None:
    call = told("Your car is ready at three.")
    call.rules.voice_sound(call.last_mark, 500)
    call.wait(2)
    call.rules.voice_sound(call.last_mark, 1500)
    call.rules.voice_ended(call.last_mark, Outcome.SPOKEN)
    call.wait(0.5)
    assert interrupted(call) == "Your car is"


def test_what_was_heard_before_a_false_alarm_counts() -> None:
    call = told("Your car is ready at three.")
    call.voice_speaks(2000)
    call.wait(1)
    call.caller_says("", "cough")
    assert interrupted(call) == "Your car is"


def test_what_the_line_says_is_not_reported_as_the_reply() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.wait(1.6)
    call.caller_hears()  # the filler
    call.rules.reply_piece(1, "It is ready.")
    call.caller_hears()
    call.wait(1.7)
    call.voice_speaks()  # another
    call.wait(0.5)
    assert interrupted(call) == "It is ready."


def test_a_reply_heard_whole_needs_no_report() -> None:
    call = told("It is ready.")
    call.caller_hears()
    call.caller_says("Thanks.", "i2")
    assert call.asked == ["Thanks."]


def test_each_turn_is_reported_for_itself() -> None:
    call = told("It is ready.")
    call.caller_hears()
    call.caller_says("And the price?", "i1b")
    call.workflow_replies(2, "Ninety dollars.")
    call.voice_speaks(1000)
    call.wait(0.6)
    assert interrupted(call) == "Ninety"


def test_braces_in_a_note_of_the_owner_harm_nobody() -> None:
    port = NotingPort()
    lines = Lines(cut_in='{"heard": "{}"}', keys='{"keys": "{}"}')
    rules = Conversation(port, lambda: 0.0, "", lines=lines)
    for digit in "1#2#":
        rules.key(digit)
    rules.reply_ended(1)
    asked = [noted[2] for noted in port.noted if noted[0] == "ask"]
    assert asked == ['{"keys": "1"}', '{"heard": ""} {"keys": "2"}']


# --- what the caller says -------------------------------------------------------------------------


def test_transcripts_out_of_order_are_put_in_order() -> None:
    call = greeted()
    call.rules.caller_speaks("i1")
    call.rules.caller_stops("i1")
    call.rules.caller_speaks("i2")
    call.rules.caller_stops("i2")
    call.rules.caller_said("i2", "two")
    assert call.asked == []
    call.rules.caller_said("i1", "one")
    assert call.asked == ["one two"]


def test_nothing_is_asked_while_the_caller_goes_on_speaking() -> None:
    call = greeted()
    call.caller_says("one", "i1")
    call.workflow_replies(1, "Go on.")
    call.caller_hears()
    call.forget()
    call.rules.caller_speaks("i2")
    call.rules.caller_stops("i2")
    call.rules.caller_speaks("i3")
    call.rules.caller_said("i2", "two")
    call.wait(10)
    assert call.done == []


@pytest.mark.parametrize("words", ["It is red.", None])
def test_who_speaks_for_a_minute_is_listened_to(words: str | None) -> None:
    call = greeted()
    call.rules.caller_speaks("i1")
    call.wait(61)
    assert call.done == []
    call.rules.caller_stops("i1")
    call.rules.caller_said("i1", words)
    if words:
        assert call.asked == [words]
    else:
        assert call.said == [LINES.say_again]
    assert call.ended == []


def test_a_stop_that_never_comes_is_made_up_for_by_the_next_start() -> None:
    call = greeted()
    call.rules.caller_speaks("i1")
    call.wait(5)
    call.caller_says("two", "i2")
    call.wait(2.4)
    assert call.asked == ["[inaudible] two"]


def test_speech_whose_end_is_never_told_does_not_hold_up_the_answer_for_ever() -> None:
    call = told("It is ready.")
    call.caller_hears()
    call.forget()
    call.rules.caller_speaks("i2")
    call.wait(179)
    assert call.done == []
    call.wait(2)
    assert call.said == [LINES.say_again]
    call.rules.caller_said("i2", "and my keys?")
    assert call.asked == ["and my keys?"], "late words are words all the same"


def test_words_that_come_before_their_speech_are_not_waited_for() -> None:
    call = greeted()
    call.rules.caller_said("i1", "When is it ready?")
    call.rules.caller_speaks("i1")
    call.rules.caller_stops("i1")
    call.wait(10)
    assert call.asked == ["When is it ready?"]
    assert LINES.say_again not in call.said


@pytest.mark.parametrize("signs", ["...", "…", " . ", "?!", "—", "♪"])
def test_a_transcript_of_mere_signs_is_a_noise(signs: str) -> None:
    call = greeted()
    call.caller_says(signs)
    call.wait(5)
    assert call.done == []


def test_a_transcript_that_never_comes_is_asked_for() -> None:
    call = greeted()
    call.rules.caller_speaks("i1")
    call.rules.caller_stops("i1")
    call.wait(2.2)
    assert call.said == []
    call.wait(0.2)
    assert call.said == [LINES.say_again]


def test_a_late_transcript_is_not_lost() -> None:
    call = greeted()
    call.rules.caller_speaks("i1")
    call.rules.caller_stops("i1")
    call.wait(2.4)
    call.caller_hears()
    call.wait(5)
    call.rules.caller_said("i1", "It is red.")
    assert call.asked == ["It is red."]


def test_a_late_transcript_comes_before_what_is_being_said() -> None:
    call = greeted()
    call.rules.caller_speaks("i1")
    call.rules.caller_stops("i1")
    call.wait(2.4)
    call.rules.caller_speaks("i2")
    call.rules.caller_said("i1", "My number is")
    call.rules.caller_stops("i2")
    call.rules.caller_said("i2", "five five five.")
    assert call.asked == ["My number is five five five."]


@pytest.mark.parametrize("words", ["", None])
def test_a_late_transcript_without_words_changes_nothing(words: str | None) -> None:
    call = greeted()
    call.rules.caller_speaks("i1")
    call.rules.caller_stops("i1")
    call.wait(2.4)
    call.rules.caller_said("i1", words)
    assert call.done == [("say", call.last_mark, LINES.say_again)]


def test_a_transcript_that_comes_twice_counts_once() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.rules.caller_said("i1", "Tell me.")
    call.workflow_replies(1, "It is ready.")
    assert call.asked == ["Tell me."]


def test_a_slow_transcript_does_not_resume_what_it_cut() -> None:
    call = told("It is ready.")
    call.voice_speaks()
    call.forget()
    call.rules.caller_speaks("i2")
    call.rules.caller_stops("i2")
    call.wait(2.2)
    assert call.said == []


def test_what_was_understood_goes_on_with_what_was_not() -> None:
    call = greeted()
    call.rules.caller_speaks("i1")
    call.rules.caller_speaks("i2")
    call.rules.caller_said("i1", "My number is")
    call.rules.caller_said("i2", None)
    assert call.asked == ["My number is [inaudible]"]
    assert call.said == []


def test_who_was_understood_while_the_workflow_was_busy_is_not_asked_to_say_it_again() -> None:
    call = greeted()
    call.caller_says("Where is my car?", "i1")
    call.caller_says("The red one.", "i2")
    for item in ("i3", "i4", "noise"):
        call.caller_says(None, item)
    call.workflow_replies(1, "Which one?")
    cut_in = LINES.cut_in.replace("{}", "")
    assert call.asked[1:] == [f"{cut_in} The red one. [inaudible] [inaudible]"]
    assert call.said == []


def test_a_caller_who_is_never_understood_is_asked_twice_and_then_left_in_peace() -> None:
    call = greeted()
    for item in ("i1", "i2"):
        call.caller_says(None, item)
        call.caller_hears()
    assert call.said == [LINES.say_again] * 2
    call.forget()
    for item in ("i3", "i4"):
        call.caller_says(None, item)
    assert call.done == []
    call.wait(15.1)
    assert call.said == [LINES.idle_prompt]


def test_who_was_understood_in_between_is_asked_again() -> None:
    call = greeted()
    for item in ("i1", "i2"):
        call.caller_says(None, item)
    call.caller_says("It is red.", "i3")
    call.workflow_replies(1, "Good.")
    call.forget()
    call.caller_says(None, "i4")
    assert call.said == [LINES.say_again]


def test_more_that_cannot_be_understood_does_not_cut_the_reply() -> None:
    call = told("It is ready.")
    for number in range(2):
        call.caller_says(None, f"n{number}")
    call.caller_says("Once more.", "i2")
    call.workflow_replies(2, "It is ready, I said.")
    call.caller_hears()
    assert call.said[-1] == "It is ready, I said."


# --- keys -----------------------------------------------------------------------------------------


def test_a_hash_completes_the_keys() -> None:
    call = greeted()
    for digit in "12#":
        call.rules.key(digit)
    assert call.asked == ["[The caller pressed 12 on the keypad.]"]


def test_a_hash_alone_is_a_key() -> None:
    call = greeted()
    call.rules.key("#")
    assert call.asked == ["[The caller pressed # on the keypad.]"]


def test_a_pause_completes_the_keys() -> None:
    call = greeted()
    call.rules.key("7")
    call.wait(1.5)
    call.rules.key("8")
    call.wait(1.9)
    assert call.asked == []
    call.wait(0.2)
    assert call.asked == ["[The caller pressed 78 on the keypad.]"]


def test_keys_interrupt() -> None:
    call = told("For the shop press one.")
    mark = call.voice_speaks()
    call.forget()
    call.rules.key("1")
    assert call.done == [("clear",)]
    call.rules.heard(mark)
    call.wait(1.9)
    assert call.said == []


def test_the_pause_after_keys_counts_for_the_filler() -> None:
    call = greeted()
    call.rules.key("1")
    call.wait(2.1)
    assert call.said == [LINES.fillers[0]]


def test_who_presses_keys_for_long_is_not_put_on_hold() -> None:
    call = told("Enter your number.")
    for digit in "123456789":
        call.rules.key(digit)
        call.wait(1)
    assert call.said == ["Enter your number."]
    assert call.ended == []


def test_keys_do_not_settle_speech() -> None:
    call = greeted()
    call.rules.caller_speaks("i1")
    call.rules.key("5")
    call.wait(4)
    assert call.asked == []
    call.rules.caller_stops("i1")
    call.rules.caller_said("i1", "My number is")
    assert call.asked == ["My number is [The caller pressed 5 on the keypad.]"]


def test_speech_does_not_settle_keys() -> None:
    call = greeted()
    call.rules.key("5")
    call.caller_says("and", "i1")
    call.rules.voice_lost("gone")
    call.rules.key("6")
    call.rules.voice_ready()
    assert call.asked == []
    call.wait(2.1)
    assert call.asked == ["[The caller pressed 56 on the keypad.] and"]


# --- fillers --------------------------------------------------------------------------------------


def test_fillers_bridge_the_silence_of_a_slow_workflow_one_at_a_time() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.wait(1.4)
    assert call.said == []
    call.wait(0.2)
    assert call.said == [LINES.fillers[0]]
    call.caller_hears()
    call.wait(1.9)
    assert len(call.said) == 1
    call.wait(0.3)
    assert call.said == list(LINES.fillers)


def test_a_filler_bridges_a_gap_in_a_reply_too() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.rules.reply_piece(1, "Let me check.")
    call.caller_hears()
    call.wait(1.7)
    assert call.said == ["Let me check.", LINES.fillers[0]]


def test_short_gaps_in_a_reply_are_not_bridged() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    pieces = ["Let me check.", "It is", "ready."]
    for piece in pieces:
        call.wait(1.4)
        call.rules.reply_piece(1, piece)
        call.caller_hears()
    assert call.said == pieces


def test_a_filler_after_an_answer_comes_as_soon_as_the_first() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.wait(1.6)
    call.caller_hears()
    call.rules.reply_piece(1, "Let me check.")
    call.caller_hears()
    call.wait(1.7)
    assert call.said == [LINES.fillers[0], "Let me check.", LINES.fillers[1]]


def test_the_first_filler_of_the_next_turn_is_no_second_one() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.wait(1.6)
    call.caller_hears()
    call.caller_says("Please.", "i2")
    call.forget()
    call.wait(1.6)
    assert len(call.said) == 1


def test_no_filler_is_said_while_anything_plays() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.rules.reply_piece(1, "It is ready.")
    call.voice_speaks(6000)
    call.wait(6)
    assert call.said == ["It is ready."]


def test_no_filler_is_said_while_the_caller_goes_on() -> None:
    call = greeted()
    call.caller_says("Is it")
    call.wait(1.4)
    call.rules.caller_speaks("i2")
    call.wait(5)
    call.rules.caller_stops("i2")
    call.wait(1.4)
    call.rules.caller_said("i2", "my old car?")
    call.workflow_replies(1, "Is it what?")
    call.workflow_replies(2, "It is.")
    assert call.said == ["It is."]


def test_no_filler_is_said_for_a_turn_that_the_caller_has_left() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.caller_says(None, "i2")
    call.caller_hears()
    call.wait(10)
    assert call.said == [LINES.say_again]


def test_a_filler_that_waits_gives_way_to_the_answer() -> None:
    call = greeted()
    call.rules.voice_lost("gone")
    call.caller_says("Tell me.")
    call.wait(3)
    call.rules.reply_piece(1, "It is ready.")
    call.rules.voice_ready()
    assert call.said == ["It is ready."]


def test_a_filler_that_waits_is_not_said_when_the_reply_has_ended() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.rules.reply_piece(1, "Let me check.")
    call.caller_hears()
    call.rules.voice_lost("gone")
    call.wait(1.8)
    call.rules.reply_ended(1)
    call.rules.voice_ready()
    assert call.said == ["Let me check."]


def test_a_filler_that_failed_is_tried_again_if_the_workflow_still_thinks() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.wait(1.6)
    call.voice_fails()
    call.wait(0.4)
    assert call.said == [LINES.fillers[0]] * 2


def test_a_filler_that_failed_does_not_come_before_the_answer() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.wait(1.6)
    call.rules.reply_piece(1, "It is ready.")
    call.voice_fails()
    call.wait(1)
    assert call.said == [LINES.fillers[0], "It is ready."]


def test_a_filler_that_was_cut_is_not_resumed() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.wait(1.6)
    call.voice_speaks()
    call.forget()
    call.caller_says("", "cough")
    call.wait(0.5)
    assert call.said == []


def test_time_spent_waiting_for_the_words_counts_for_the_filler() -> None:
    call = greeted()
    call.rules.caller_speaks("i1")
    call.rules.caller_stops("i1")
    call.wait(2)
    call.rules.caller_said("i1", "Tell me.")
    assert call.said == [LINES.fillers[0]]


def test_the_time_that_the_caller_speaks_does_not_count_for_the_filler() -> None:
    call = greeted()
    call.rules.caller_speaks("i1")
    call.wait(30)
    call.rules.caller_stops("i1")
    call.rules.caller_said("i1", "That was my story.")
    call.wait(1.3)
    assert call.said == []


def test_a_line_without_fillers_waits_for_the_answer() -> None:
    call = greeted(filler=float("inf"))
    call.caller_says("Tell me.")
    call.wait(20)
    assert call.done == [("ask", "1", "Tell me.")]
    call.rules.reply_piece(1, "It is ready.")
    call.wait(1.1)
    assert call.ended == []
    call.caller_hears()


def test_an_empty_list_of_fillers_harms_nobody() -> None:
    port = NotingPort()
    clock = iter(range(1000))
    rules = Conversation(port, lambda: next(clock), "", lines=Lines(fillers=()))
    rules.voice_ready()
    rules.key("#")
    for _ in range(8):
        rules.tick()
    assert [noted[0] for noted in port.noted] == ["ask"]


# --- the caller's silence -------------------------------------------------------------------------


def test_a_silent_caller_is_asked_once_and_then_taken_leave_of() -> None:
    call = greeted()
    call.wait(14.9)
    assert call.said == []
    call.wait(0.2)
    assert call.said == [LINES.idle_prompt]
    call.caller_hears()
    call.wait(15.1)
    assert call.said == [LINES.idle_prompt, LINES.goodbye]
    mark = call.voice_speaks()
    call.wait(1)
    assert call.ended == []
    call.rules.heard(mark)
    assert call.ended == [("hang_up",)]


def test_who_answers_the_prompt_is_asked_again_another_time() -> None:
    call = greeted()
    call.wait(15.1)
    call.caller_hears()
    call.caller_says("Yes.")
    call.workflow_replies(1, "Good.")
    call.caller_hears()
    call.forget()
    call.wait(15.1)
    assert call.said == [LINES.idle_prompt]


def test_who_speaks_twice_without_a_word_is_asked_to_say_it_again() -> None:
    call = greeted()
    call.caller_says("", "i1", seconds=1.1)
    call.wait(1)
    assert call.said == []
    call.caller_says("", "i2", seconds=1.1)
    assert call.said == [LINES.say_again]
    assert call.noticed == [("noise", "1.1"), ("noise", "1.1"), ("not understood",)]


@pytest.mark.parametrize("words", ["It is red.", None])
def test_speech_without_words_is_counted_in_a_row(words: str | None) -> None:
    call = greeted()
    call.caller_says("", "i1", seconds=1.5)
    call.caller_says(words, "i2")
    call.workflow_replies(1, "Thank you.")
    call.caller_hears()
    call.forget()
    call.caller_says("", "i3", seconds=1.5)
    assert call.said == []


def test_coughs_between_them_are_neither_speech_nor_words() -> None:
    call = greeted()
    for item, seconds in (("i1", 1.5), ("cough", 0.9), ("i2", 1.5)):
        call.caller_says("", item, seconds)
    assert call.said == [LINES.say_again]


def test_the_silence_that_ended_it_is_not_counted_as_speech() -> None:
    call = greeted()
    for item in ("i1", "i2"):
        call.rules.caller_speaks(item)
        call.wait(1.4)
        call.rules.caller_stops(item, ago=0.5)
        call.rules.caller_said(item, "")
    assert call.said == []
    assert call.noticed == [("noise", "0.9")] * 2


def test_speech_without_words_over_a_reply_has_it_said_again_and_no_more() -> None:
    call = told("It is ready.")
    for item in ("i2", "i3"):
        call.caller_says("", item, seconds=1.5)
    assert call.said == ["It is ready."] * 3
    call.caller_hears()
    call.wait(1)
    call.caller_says("", "a click", seconds=0.2)
    assert call.said == ["It is ready."] * 3


def test_who_plays_the_radio_is_asked_twice_and_then_left_in_peace() -> None:
    call = greeted()
    for number in range(10):
        asked = len(call.said)
        call.caller_says("", f"song {number}", seconds=2)
        if len(call.said) > asked:
            call.caller_hears()
    assert call.said == [LINES.say_again] * 2
    assert call.noticed.count(("not understood",)) == 5


def test_noises_are_silence() -> None:
    call = greeted()
    for second in range(16):
        call.caller_says("", f"bark {second}")
        call.wait(1)
    assert call.said == [LINES.idle_prompt]


def test_a_prompt_does_not_come_while_the_caller_speaks_or_is_awaited() -> None:
    call = greeted()
    call.wait(14)
    call.rules.caller_speaks("i1")
    call.wait(30)
    call.rules.caller_stops("i1")
    call.wait(2)
    assert call.done == []
    call.rules.caller_said("i1", "That was my story.")
    call.wait(1)
    assert LINES.idle_prompt not in call.said


def test_a_slow_workflow_is_not_the_callers_silence() -> None:
    call = greeted(filler=float("inf"))
    call.caller_says("Tell me.")
    call.wait(60)
    assert call.said == []


def test_a_line_may_be_told_never_to_ask() -> None:
    call = greeted(idle=float("inf"))
    call.wait(60)
    assert call.done == []


# --- the longest call -----------------------------------------------------------------------------


@pytest.mark.parametrize("caller", ["silent", "speaking", "waiting for an answer"])
def test_the_longest_call_ends_whatever_the_caller_does(caller: str) -> None:
    call = greeted(longest=10, filler=float("inf"))
    if caller != "silent":
        call.rules.caller_speaks("i1")
    if caller == "waiting for an answer":
        call.rules.caller_said("i1", "Tell me.")
    call.wait(9.1)
    assert call.said == [LINES.goodbye]
    call.caller_hears()
    assert call.ended == [("hang_up",)]


def test_a_call_that_says_its_goodbye_listens_no_more() -> None:
    call = greeted(longest=10)
    call.wait(9.1)
    call.voice_speaks()
    call.forget()
    call.caller_says("But I am not done.")
    call.rules.key("#")
    assert call.done == []


def test_the_longest_call_interrupts_itself() -> None:
    call = greeted(longest=10)
    call.caller_says("Tell me all.")
    call.workflow_replies(1, *["A long story."] * 9)
    call.voice_speaks(20_000)
    call.forget()
    call.wait(9.1)
    assert call.done == [("clear",), ("say", call.last_mark, LINES.goodbye)]


@pytest.mark.parametrize("voice", ["lost", "failing", "silent", "hopeless"])
def test_the_longest_call_ends_without_a_voice_too(voice: str) -> None:
    call = greeted(longest=10)
    call.wait(9.1)
    if voice == "lost":
        call.rules.voice_lost("gone")
    if voice == "hopeless":
        call.rules.voice_hopeless("insufficient_quota")
    for _ in range(40):
        if voice == "failing":
            call.voice_fails()
        call.wait(0.1)
    assert call.ended == [("hang_up",)]


# --- actions --------------------------------------------------------------------------------------


def test_a_hang_up_waits_until_the_words_before_it_were_heard() -> None:
    call = told("Goodbye.", HANG_UP)
    mark = call.voice_speaks()
    call.wait(1)
    assert call.ended == []
    call.rules.heard(mark)
    assert call.ended == [("hang_up",)]


@pytest.mark.parametrize("first", [HANG_UP, TRANSFER])
def test_the_first_action_is_the_last(first: str) -> None:
    call = told("Goodbye.", first, "And more.", HANG_UP, TRANSFER)
    call.caller_hears()
    assert len(call.ended) == 1
    call.forget()
    call.caller_says("Wait!", "i2")
    call.rules.key("#")
    call.workflow_replies(1, "More.")
    call.rules.voice_lost("gone")
    call.rules.voice_ready()
    call.rules.voice_hopeless("quota")
    call.wait(40)
    call.rules.drain()
    assert call.done == []


def test_a_barge_in_cancels_an_action() -> None:
    call = told("Goodbye.", HANG_UP)
    mark = call.voice_speaks()
    call.caller_says("Wait!", "i2")
    call.rules.heard(mark)
    call.wait(1)
    assert call.ended == []
    assert call.asked == [LINES.cut_in.replace("{}", "") + " Wait!"]


def test_a_cough_only_delays_an_action() -> None:
    call = told("Goodbye.", HANG_UP)
    call.voice_speaks()
    call.caller_says("", "i2")
    assert call.ended == []
    call.caller_hears()
    assert call.ended == [("hang_up",)]


def test_an_action_waits_for_a_caller_who_speaks() -> None:
    call = greeted()
    call.caller_says("Bye.")
    call.rules.caller_speaks("i2")
    call.workflow_replies(1, HANG_UP)
    call.wait(2)
    assert call.ended == []
    call.rules.caller_said("i2", "")
    assert call.ended == [("hang_up",)]


def test_a_failed_transfer_is_told_to_caller_and_workflow() -> None:
    call = told(TRANSFER)
    assert call.ended == [("transfer",)]
    call.wait(8)
    call.rules.act_failed()
    assert call.said == [LINES.no_transfer]
    call.caller_hears()
    call.caller_says("Then help me.", "i2")
    assert call.asked == [LINES.not_transferred + " Then help me."]


def test_what_is_said_during_a_failing_transfer_is_not_lost() -> None:
    call = told(TRANSFER)
    call.caller_says("Hello?", "i2")
    call.forget()
    call.wait(5)
    call.rules.act_failed()
    assert call.said == [LINES.no_transfer]
    assert call.asked == [LINES.not_transferred + " Hello?"]


def test_a_call_that_cannot_be_ended_is_closed() -> None:
    call = told(HANG_UP)
    call.forget()
    call.rules.act_failed()
    assert [name for name, *_ in call.ended] == ["close"]


# --- the workflow fails ---------------------------------------------------------------------------


def test_a_failed_reply_is_apologised_for() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.rules.reply_failed(1)
    assert call.said == [LINES.apology]


def test_a_piece_that_comes_after_the_end_of_its_reply_is_not_said() -> None:
    call = told("It is ready.")
    call.caller_hears()
    call.caller_says("And the price?", "i2")
    call.rules.reply_piece(1, "Come at three.")
    assert call.said == ["It is ready."]


def test_a_reply_that_breaks_off_is_said_and_apologised_for() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.rules.reply_piece(1, "It is")
    call.rules.reply_failed(1)
    call.caller_hears()
    assert call.said == ["It is", LINES.apology]


def test_nobody_apologises_for_what_is_not_wanted() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.caller_says("Never mind.", "i2")
    call.rules.reply_failed(1)
    assert call.said == []
    assert call.asked[-1].endswith("Never mind.")


def test_the_end_of_another_turn_ends_nothing() -> None:
    call = told("It is ready.")
    call.caller_says("And the price?", "i2")
    call.rules.reply_ended(1)
    call.caller_says("Quickly.", "i3")
    assert len(call.asked) == 1


# --- the voice fails ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["failed", "no sound", "failed midway"])
@pytest.mark.parametrize("use", ["greeting", "reply", "goodbye"])
def test_what_was_not_spoken_is_said_again(use: str, how: str) -> None:
    call = RuledCall() if use == "greeting" else told("It is ready.", HANG_UP)
    call.rules.voice_ready()
    if how == "failed midway":
        call.rules.voice_sound(call.last_mark, 200)
    call.voice_fails(Outcome.SPOKEN if how == "no sound" else Outcome.FAILED)
    assert len(call.said) == 1
    call.wait(0.3)
    assert len(call.said) == 2
    assert call.said[0] == call.said[1]
    assert call.ended == []
    assert (("clear",) in call.done) is (how == "failed midway")
    call.caller_hears()
    assert call.ended == ([] if use == "greeting" else [("hang_up",)])


def test_a_failure_leaves_what_was_spoken_before_it() -> None:
    call = told("One.", "Two.")
    first = call.voice_speaks(2000)
    call.voice_fails()
    call.wait(2)
    call.rules.heard(first)
    assert call.said == ["One.", "Two.", "Two."]
    assert ("clear",) not in call.done


def test_a_failed_sentence_was_not_heard_whole_however_much_of_it_played() -> None:
    call = told("It is ready.")
    call.rules.voice_sound(call.last_mark, 3000)
    call.wait(3)
    call.voice_fails()
    call.wait(0.3)
    assert call.said == ["It is ready."] * 2


def test_pauses_grow_until_twilios_own_voice_explains() -> None:
    call = told("It is ready.")
    began = call.now
    for _ in range(50):
        if not call.ended:
            call.voice_fails()
            call.wait(0.1)
    assert 3 <= len(call.said) <= 5
    assert call.ended == [("hold", "rate limit")]
    assert call.now - began <= 5.0


def test_a_voice_that_fails_midway_for_ever_ends_in_a_hold() -> None:
    call = told("It is ready.")
    silent_since = call.now
    while not call.ended and call.now < silent_since + 20:
        if call.rules.voice_sound(call.last_mark, 300):
            call.wait(0.2)
            call.voice_fails()
            silent_since += 0.2
        call.wait(0.1)
    assert call.ended == [("hold", "rate limit")]
    assert call.now - silent_since <= 4


def test_short_pauses_between_sessions_do_not_add_up_to_a_hold() -> None:
    call = greeted(idle=float("inf"))
    for _ in range(5):
        call.rules.voice_lost("close 1001")
        call.wait(1)
        call.rules.voice_ready()
        call.wait(1)
    assert call.done == []


def test_short_silences_of_a_caller_do_not_add_up() -> None:
    call = greeted()
    for turn in range(1, 4):
        call.wait(10)
        call.caller_says("Go on.", f"i{turn}")
        call.workflow_replies(turn, "I do.")
        call.caller_hears()
    assert call.said == ["I do."] * 3


def test_a_sentence_that_was_heard_wipes_the_slate() -> None:
    call = told(*["It is ready."] * 8)
    for _ in range(6):
        call.voice_fails()
        call.wait(0.3)
        call.caller_hears()
    assert call.ended == []


@pytest.mark.parametrize("step", ["opening", "not begun", "stalled", "mark missing"])
def test_a_voice_that_hangs_ends_in_a_hold_after_the_patience(step: str) -> None:
    call = RuledCall() if step == "opening" else told("It is ready.")
    sounds_ms = {"stalled": 600, "mark missing": 600}.get(step, 0)
    if sounds_ms:
        call.rules.voice_sound(call.last_mark, sounds_ms)
    if step == "mark missing":
        call.rules.voice_ended(call.last_mark, Outcome.SPOKEN)
    call.wait(sounds_ms / 1000 + 3.4)
    assert call.ended == []
    call.wait(0.3)
    assert [name for name, *_ in call.ended] == ["hold"]


def test_a_hold_tells_the_last_known_reason() -> None:
    call = RuledCall()
    call.rules.voice_lost("no route to host")
    call.wait(3.6)
    assert call.ended == [("hold", "no route to host")]
    call = told("It is ready.", "Come at three.")
    call.voice_fails(reason="rate limit")
    call.wait(0.3)
    call.caller_hears()
    call.wait(3.7)
    assert call.ended == [("hold", "the voice fell silent")]


def test_a_session_that_stays_away_ends_in_a_hold_even_if_nothing_is_to_be_said() -> None:
    call = greeted()
    call.rules.voice_lost("close 1011")
    for _ in range(3):
        call.wait(1)
        call.rules.voice_lost("no route to host")
    assert call.ended == []
    call.wait(0.7)
    assert call.ended == [("hold", "no route to host")]


def test_a_voice_as_slow_as_it_plays_is_not_taken_for_silent() -> None:
    """Open servers may be so; each gap is short, and a tick may meet every one of them."""
    call = told("It is ready.")
    mark = call.last_mark
    for _ in range(300):
        assert call.rules.voice_sound(mark, 200)
        call.now += 0.2
        call.rules.tick()  # as the sound has just run out
        call.now += 0.005
    assert call.ended == []


def test_many_short_silences_of_a_voice_that_owes_the_rest_add_up_to_a_hold() -> None:
    call = told("It is ready.")
    mark = call.last_mark
    began = call.now
    while not call.ended:
        call.rules.voice_sound(mark, 200)
        call.wait(0.5)  # of which 0.3 s are silent
    assert 5 < call.now - began < 10
    assert [name for name, *_ in call.ended] == ["hold"]


def test_what_plays_is_played_before_a_hold() -> None:
    call = told("It is ready.")
    call.voice_speaks(5000)
    call.rules.voice_lost("close 1011")
    call.wait(8.4)
    assert call.ended == []
    call.wait(0.3)
    assert call.ended == [("hold", "close 1011")]


@pytest.mark.parametrize("remarks", [["Two."], ["Two.", "Three."], ["Two.", "Three.", "Four."]])
def test_what_waits_for_a_busy_workflow_is_told_before_a_hold_in_one_message(
    remarks: list[str],
) -> None:
    call = greeted(filler=99.0)
    for number, words in enumerate(["One.", *remarks]):
        call.caller_says(words, f"i{number}")
    call.rules.voice_lost("closed")
    call.wait(9)
    cut_in = LINES.cut_in.replace("{}", "")
    assert call.asked == ["One.", " ".join([cut_in, *remarks])]
    assert [name for name, *_ in call.done][-1] == "hold", "it is told first, and only once"


def test_what_is_keyed_is_told_before_a_hold() -> None:
    call = greeted()
    call.rules.voice_lost("closed")
    for digit in "4711":
        call.rules.key(digit)
        call.wait(0.9)
    assert call.asked == [LINES.keys.replace("{}", "4711")]
    assert [name for name, *_ in call.done] == ["ask", "hold"]


@pytest.mark.parametrize("remarks", [["Two."], ["Two.", "Three."]])
def test_what_waits_is_told_when_the_stream_is_lost(remarks: list[str]) -> None:
    call = greeted()
    for number, words in enumerate(["One.", *remarks]):
        call.caller_says(words, f"i{number}")
    call.rules.stream_lost()
    assert call.asked[1:] == [" ".join([LINES.cut_in.replace("{}", ""), *remarks])]


def test_what_is_understood_when_the_stream_is_lost_is_told_with_what_is_not() -> None:
    call = greeted()
    call.caller_says("One.", "i1")
    call.rules.caller_speaks("i2")
    call.rules.caller_stops("i2")
    call.rules.key("7")
    call.rules.caller_speaks("i3")
    call.rules.caller_said("i2", "My number is")
    call.rules.stream_lost()
    keys = LINES.keys.replace("{}", "7")
    cut_in = LINES.cut_in.replace("{}", "")
    assert call.asked == ["One.", f"{cut_in} My number is {keys} {LINES.inaudible}"]


@pytest.mark.parametrize("understood", ["", None])
def test_nothing_is_told_of_words_that_nobody_understood_when_the_stream_is_lost(
    understood: str | None,
) -> None:
    call = greeted()
    call.rules.caller_speaks("i1")
    call.rules.caller_speaks("i2")
    call.rules.caller_said("i1", understood)
    call.rules.stream_lost()
    assert call.asked == []
    assert call.noticed == []


@pytest.mark.parametrize("action", [HANG_UP, TRANSFER])
def test_nothing_is_told_of_a_stream_that_ends_as_it_should(action: str) -> None:
    call = told(action)
    call.rules.caller_speaks("i2")
    call.rules.caller_said("i2", "Well.")
    call.forget()
    call.rules.stream_lost()
    assert call.done == []


def test_nothing_is_told_of_a_caller_who_hung_up() -> None:
    call = greeted()
    call.caller_says("One.", "i1")
    call.caller_says("Two.", "i2")
    call.rules.caller_speaks("i3")
    call.rules.caller_speaks("i4")
    call.rules.caller_said("i3", "Three.")
    call.rules.caller_hangs_up()
    call.rules.stream_lost()
    assert call.asked == ["One."]


def test_words_are_complete_though_the_workflow_is_busy() -> None:
    call = greeted()
    call.caller_says("One.", "i1")
    call.caller_says("Two.", "i2")
    assert (call.witness.understood, call.asked) == (2, ["One."])


def test_nothing_is_said_to_or_asked_for_a_caller_who_hung_up() -> None:
    call = told("It is ready.")
    call.forget()
    call.rules.caller_hangs_up()
    call.rules.reply_piece(1, "Good-bye.")
    call.rules.reply_ended(1)
    call.caller_says("Thanks, bye.", "i2")
    call.wait(30)
    assert (call.said, call.asked, call.ended) == ([], [], [])


def test_a_stream_that_is_lost_tells_nothing_twice() -> None:
    call = greeted()
    call.caller_says("One.")
    call.rules.stream_lost()
    assert call.asked == ["One."]


def test_a_hold_tells_the_workflow_nothing_if_nothing_waits() -> None:
    call = greeted()
    call.caller_says("One.")
    call.rules.voice_lost("closed")
    call.wait(9)
    assert call.asked == ["One."]
    assert [name for name, *_ in call.ended] == ["hold"]


def test_a_prompt_after_long_silence_gives_the_voice_its_time() -> None:
    call = greeted()
    call.wait(15.1)
    call.wait(3.3)
    assert call.ended == []
    call.wait(0.4)
    assert [name for name, *_ in call.ended] == ["hold"]


def test_late_words_do_not_lengthen_the_silence_of_a_voice_that_hangs() -> None:
    call = greeted()
    call.rules.caller_speaks("i1")
    call.rules.caller_stops("i1")
    call.wait(3.3)
    assert call.said == [LINES.say_again]
    call.rules.caller_said("i1", "It is red.")
    call.wait(0.7)
    assert [name for name, *_ in call.ended] == ["hold"]


def test_silence_begins_with_the_transcript_if_the_end_of_speech_was_not_told() -> None:
    call = greeted()
    call.rules.caller_speaks("i1")
    call.wait(3)
    call.rules.caller_said("i1", "Tell me.")
    call.wait(3.4)
    assert call.said == [LINES.fillers[0]]
    assert call.ended == []
    call.wait(0.3)
    assert [name for name, *_ in call.ended] == ["hold"]


def test_late_words_that_cut_what_sounds_do_not_lead_to_a_hold() -> None:
    call = greeted()
    for item in ("i1", "i2", "i3"):
        call.rules.caller_speaks(item)
        call.rules.caller_stops(item)
    call.wait(2.4)
    for item in ("i1", "i2", "i3"):
        call.voice_speaks(2000)
        call.wait(1)
        call.rules.caller_said(item, "Hello?")
        call.wait(1.6)
    assert call.ended == []


def test_a_silent_caller_is_not_put_on_hold() -> None:
    call = greeted(idle=float("inf"))
    call.wait(100)
    assert call.done == []


def test_who_speaks_while_the_voice_hangs_is_listened_to() -> None:
    call = told("It is ready.")
    call.wait(3)
    call.rules.caller_speaks("i2")
    call.wait(20)
    assert call.ended == []


def test_a_lost_session_leaves_what_plays_and_says_again_what_it_cut() -> None:
    call = told("One.", "Two.")
    mark = call.voice_speaks(2000)
    call.rules.voice_lost("close 1001")
    call.wait(2)
    call.rules.heard(mark)
    assert ("clear",) not in call.done
    assert ("stop", call.last_mark) not in call.done
    call.rules.voice_ready()
    assert call.said == ["One.", "Two.", "Two."]


def test_words_lost_with_a_session_are_asked_for() -> None:
    call = greeted()
    call.rules.caller_speaks("i1")
    call.rules.caller_stops("i1")
    call.rules.voice_lost("close 1001")
    call.rules.voice_ready()
    assert call.said == [LINES.say_again]


def cut_off_while_speaking(failures: int = 0) -> RuledCall:
    """Return a call with its second session: the first was lost while the caller spoke.

    So many tries to have another failed.
    """
    call = greeted()
    call.rules.caller_speaks("i1")
    call.rules.voice_lost("close 1001")
    for _ in range(failures):
        call.wait(0.3)
        call.rules.voice_lost("no route to host")
    call.wait(0.6)
    call.rules.voice_ready()
    return call


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_who_was_speaking_when_a_session_was_lost_may_go_on_in_the_next(failures: int) -> None:
    call = cut_off_while_speaking(failures)
    call.caller_says("for Thursday, please.", "i2", seconds=1)
    call.wait(call.limits.transcript)
    assert LINES.say_again not in call.said
    assert call.asked == [f"{LINES.inaudible} for Thursday, please."]


def test_who_was_speaking_when_a_session_was_lost_and_does_not_go_on_is_asked_to() -> None:
    call = cut_off_while_speaking()
    call.wait(call.limits.transcript)
    assert call.said == [LINES.say_again]


@pytest.mark.parametrize("how", ["response", "session"])
def test_what_cannot_get_better_is_given_up_at_once(how: str) -> None:
    call = told("It is ready.")
    call.forget()
    if how == "response":
        call.rules.voice_ended("2", Outcome.HOPELESS, "insufficient_quota")
    else:
        call.rules.voice_hopeless("insufficient_quota")
    assert call.done == [("give_up", "insufficient_quota")]
    call.wait(10)
    assert len(call.ended) == 1


def test_what_cannot_get_better_does_not_disturb_a_transfer() -> None:
    call = told(TRANSFER)
    call.rules.voice_hopeless("insufficient_quota")
    assert call.ended == [("transfer",)]
    call.rules.act_failed()
    call.wait(3.6)
    assert call.ended == [("transfer",), ("hold", "insufficient_quota")]


@pytest.mark.parametrize("sound_ms", [0, 200])
def test_what_is_filtered_is_apologised_for_and_not_repeated(sound_ms: int) -> None:
    call = told("Bad words.", "Good words.")
    if sound_ms:
        call.rules.voice_sound(call.last_mark, sound_ms)
        call.wait(0.2)
    call.voice_fails(Outcome.FILTERED, "content_filter")
    call.wait(0.3)
    assert call.said == ["Bad words.", LINES.apology]
    call.caller_hears()
    assert call.said[-1] == "Good words."
    call.voice_speaks(1000)
    call.wait(0.6)
    assert interrupted(call) == "Good"


@pytest.mark.parametrize("action", [HANG_UP, TRANSFER])
def test_who_does_not_hear_the_words_before_an_action_is_asked_instead(action: str) -> None:
    call = told("Bad words.", action)
    call.voice_fails(Outcome.FILTERED, "content_filter")
    call.wait(0.3)
    call.caller_hears()
    call.wait(1)
    assert call.said == ["Bad words.", LINES.apology]
    assert call.ended == []


@pytest.mark.parametrize("action", [HANG_UP, TRANSFER])
def test_an_action_that_comes_after_its_words_were_filtered_is_not_done_either(action: str) -> None:
    call = greeted()
    call.caller_says("Bye.")
    call.rules.reply_piece(1, "Bad words.")
    call.voice_fails(Outcome.FILTERED, "content_filter")
    call.workflow_replies(1, action)
    call.wait(0.3)
    call.caller_hears()
    call.wait(1)
    assert call.ended == []
    call.caller_says("I said goodbye.", "i2")
    call.workflow_replies(2, action)
    assert len(call.ended) == 1, "the next reply may act again"


def test_a_call_ends_though_its_goodbye_is_filtered() -> None:
    call = greeted(longest=5)
    call.wait(5)
    call.voice_fails(Outcome.FILTERED, "content_filter")
    call.wait(0.3)
    call.caller_hears()
    assert call.ended == [("hang_up",)]


# --- drain ----------------------------------------------------------------------------------------


def test_a_draining_call_ends_its_turn_first() -> None:
    call = greeted()
    call.rules.caller_speaks("i1")
    call.rules.drain()
    call.rules.caller_stops("i1")
    call.rules.caller_said("i1", "Tell me.")
    call.workflow_replies(1, "It is ready.")
    mark = call.voice_speaks()
    call.wait(1)
    assert call.ended == []
    call.rules.heard(mark)
    assert call.ended == [("close", "drained")]


def test_a_silent_call_drains_at_once() -> None:
    call = greeted()
    call.rules.drain()
    call.rules.drain()
    assert call.ended == [("close", "drained")]


# --- what a witness is told -----------------------------------------------------------------------


def test_a_plain_turn_is_heard_out_when_its_last_mark_comes() -> None:
    call = told("We open at nine.", "Shall I book?")
    call.caller_hears()
    assert call.noticed == [("sounds", "REPLY")]
    call.caller_hears()
    assert call.noticed == [("sounds", "REPLY"), ("sounds", "REPLY"), ("heard out",)]


def test_a_reply_whose_end_comes_late_is_heard_out_then() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.rules.reply_piece(1, "We open at nine.")
    call.caller_hears()
    assert call.noticed == [("sounds", "REPLY")]
    call.rules.reply_ended(1)
    assert call.noticed == [("sounds", "REPLY"), ("heard out",)]


def test_a_sentence_that_comes_in_pieces_of_sound_begins_once() -> None:
    call = told("We open at nine.")
    mark = call.last_mark
    for _ in range(3):
        call.rules.voice_sound(mark, 200)
    assert call.noticed == [("sounds", "REPLY")]


def test_a_barge_in_is_told_with_the_words_that_were_heard() -> None:
    call = told("We open at nine.", "Shall I book?")
    call.caller_hears()
    call.forget()
    call.caller_says("Stop.", "i2")
    assert call.noticed == [("cuts in", "We open at nine.")]


def test_a_noise_is_no_barge_in() -> None:
    call = told("We open at nine.", "Shall I book?")
    call.voice_speaks()
    call.forget()
    call.caller_says("", "i2")
    assert call.noticed == [("noise", "0.0")]


def test_the_end_of_a_call_is_no_barge_in() -> None:
    call = told("Goodbye.", HANG_UP)
    call.caller_hears()
    assert call.ended == [("hang_up",)]
    assert call.noticed == [("sounds", "REPLY")]


def test_a_filler_and_an_apology_do_not_sound_as_the_reply() -> None:
    call = greeted()
    call.caller_says("Tell me.")
    call.wait(1.6)
    call.caller_hears()
    call.rules.reply_failed(1)
    call.caller_hears()
    assert call.noticed == [
        ("sounds", "FILLER"),
        ("apologises",),
        ("sounds", "LINE"),
        ("heard out",),
    ]


def test_each_time_that_nothing_is_understood_is_told() -> None:
    call = greeted()
    for item in ("i1", "i2", "i3"):
        call.caller_says(None, item)
    assert call.noticed == [("not understood",)] * 3


def test_a_silent_caller_is_asked_and_taken_leave_of() -> None:
    call = greeted(idle=5)
    call.wait(5.1)
    assert call.noticed == [("prompts",)]
    call.caller_hears()
    call.wait(5.1)
    assert ("takes leave", "the caller stayed silent") in call.noticed


def test_leave_is_taken_of_a_call_that_lasts_too_long() -> None:
    call = greeted(longest=5)
    call.wait(5)
    assert ("takes leave", "the call lasted too long") in call.noticed


def test_what_is_said_again_is_told_with_the_reason() -> None:
    call = told("We open at nine.")
    call.voice_fails(reason="rate limit")
    assert call.noticed == [("repeats", "rate limit")]


def test_a_sentence_that_is_filtered_is_apologised_for() -> None:
    call = told("We open at nine.")
    call.voice_fails(Outcome.FILTERED)
    assert call.noticed == [("apologises",)]


@pytest.mark.parametrize("how", ["response", "session"])
def test_what_cannot_get_better_is_not_said_again(how: str) -> None:
    call = told("We open at nine.")
    if how == "response":
        call.voice_fails(Outcome.HOPELESS)
    else:
        call.rules.voice_hopeless("insufficient_quota")
    assert call.noticed == []
