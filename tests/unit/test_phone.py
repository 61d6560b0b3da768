"""The parts of the phone in the browser that need neither a browser nor a call."""

from __future__ import annotations

import audioop
import io
from array import array
from typing import Any

import pytest
from PIL import Image

from tools.phone import picture
from tools.phone.agent_words import AgentSentence, AgentWords, heard_words
from tools.phone.breaks import Cafe, Echo
from tools.phone.handset import BrowserHandset, JitterBuffer
from tools.phone.turn_times import Stopwatch, TurnTimes
from tools.phone.watch import messages_in, text_of
from tools.simulator.openai_hearing import RMS_AT_FULL_THRESHOLD
from tools.simulator.phone_sound import wav_file
from tools.simulator.playback import FRAME, SILENCE
from tools.simulator.speech import ToneVoice, mulaw_to_pcm16, pcm16_to_mulaw

VOICE = ToneVoice()
THRESHOLD = RMS_AT_FULL_THRESHOLD / 2  # of the shipped session: what is louder is speech


def response(mark: str, text: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"metadata": {"mark": mark}, "input": [{"content": content}]}


class Shown:
    """What the page shows of the agent's words: their latest state by key."""

    def __init__(self) -> None:
        self.heard: dict[str, tuple[str, str]] = {}
        self.words = AgentWords(self._take)
        self.words.on_stream()

    def _take(self, sentence: AgentSentence) -> None:
        self.heard[sentence.key] = (sentence.state, sentence.heard)

    def say(self, mark: str, text: str, ms: float) -> None:
        self.words.on_asked(response(mark, text))
        self.words.on_sound(ms)
        self.words.on_whole(mark)


def test_a_sentence_is_grey_until_its_mark_comes_back() -> None:
    shown = Shown()
    shown.words.on_asked(response("1", "We open at nine."))
    assert shown.heard == {"1.1": ("coming", "")}
    shown.words.on_sound(400)
    assert shown.heard == {"1.1": ("sounding", "")}
    shown.words.on_whole("1")
    shown.words.on_heard("1")
    assert shown.heard == {"1.1": ("heard", "We open at nine.")}


def test_a_barge_in_cuts_at_the_word_and_strikes_all_that_follows() -> None:
    shown = Shown()
    shown.say("1", "Yes.", 500)
    shown.say("2", "We open at nine.", 1600)
    shown.say("3", "Which day?", 1000)
    shown.words.on_heard("1")
    shown.words.on_cut(1000 + 900)  # still to play: the third, and most of the second
    assert shown.heard == {
        "1.1": ("heard", "Yes."),
        "1.2": ("cut", "We open"),
        "1.3": ("cut", ""),
    }


def test_a_sentence_cut_while_it_is_generated_is_measured_by_its_length() -> None:
    shown = Shown()
    shown.words.on_asked(response("1", "We open at nine, and we close at six."))
    shown.words.on_sound(1000)
    shown.words.on_cut(0)  # all that came was played: it was not the whole
    assert shown.heard == {"1.1": ("cut", "We open at nine,")}


def test_a_sentence_that_fails_without_a_sound_is_struck() -> None:
    shown = Shown()
    shown.words.on_asked(response("1", "We open at nine."))
    shown.words.on_given_up("1")
    assert shown.heard == {"1.1": ("cut", "")}


def test_marks_count_anew_with_each_stream() -> None:
    shown = Shown()
    shown.say("1", "Hello!", 500)
    shown.words.on_cut(500)
    shown.words.on_stream()
    shown.say("1", "We were cut off.", 900)
    shown.words.on_heard("1")
    assert shown.heard == {"1.1": ("cut", ""), "2.1": ("heard", "We were cut off.")}


def test_a_sentence_of_which_all_was_played_when_it_was_cut_is_heard() -> None:
    shown = Shown()
    shown.say("1", "We open at nine.", 1600)
    shown.words.on_cut(20)
    assert shown.heard == {"1.1": ("heard", "We open at nine.")}


@pytest.mark.parametrize(
    ("share", "words"), [(0, ""), (0.2, "We"), (0.5, "We open"), (0.97, "We open at nine.")]
)
def test_what_was_heard_ends_with_a_word(share: float, words: str) -> None:
    assert heard_words("We open at nine.", share) == words


def test_the_times_of_a_turn_begin_with_the_last_word() -> None:
    watch = Stopwatch()
    assert watch.sound_came(1.0) is None  # the greeting
    watch.caller_stopped(5.0)
    watch.transcribed(5.9)
    assert watch.sound_came(7.5) is None  # a filler: no text has come
    watch.text_came(8.0)
    watch.text_came(8.1)
    turn = watch.sound_came(8.3)
    assert str(turn) == (
        "after the last word: transcript 0.9 s, first text 3.0 s, first audio 3.3 s"
    )
    assert watch.sound_came(8.5) is None
    assert watch.turns == [turn]


def test_a_turn_that_the_caller_speaks_into_is_not_timed() -> None:
    watch = Stopwatch()
    watch.caller_stopped(5.0)
    watch.transcribed(5.9)
    watch.text_came(6.2)
    watch.caller_speaks()
    assert watch.sound_came(6.5) is None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"model": "gpt-6-luna", "input": "Hello"}, ["Hello"]),
        ({"input": [{"role": "user", "content": "Hello"}]}, ["Hello"]),
        ({"items": [{"role": "user", "content": "[Phone call.]"}]}, ["[Phone call.]"]),
        ({"messages": [{"role": "user", "content": "[Phone call.]"}]}, ["[Phone call.]"]),
        ({"role": "user", "content": "Hello"}, ["Hello"]),
        ({"items": [{"type": "function_call_output", "output": "no"}]}, []),
        ({}, []),
    ],
)
def test_what_the_workflow_is_told_is_found_in_every_kind_of_request(
    body: dict[str, Any], told: list[str]
) -> None:
    assert messages_in(body) == told


def test_the_text_of_a_reply_is_found_in_every_kind_of_event() -> None:
    assert text_of({"type": "response.output_text.delta", "delta": "It"}) == "It"
    run = {"object": "thread.message.delta", "delta": {"content": [{"text": {"value": "It"}}]}}
    assert text_of(run) == "It"
    assert text_of({"type": "response.created"}) == ""


# --- sound ------------------------------------------------------------------------------------


def loudness(mulaw: bytes) -> int:
    return audioop.rms(mulaw_to_pcm16(mulaw), 2)


def test_the_microphone_is_cut_into_frames_and_silence_fills_the_gaps() -> None:
    handset = BrowserHandset(lambda audio: None)
    sound = VOICE.speak("Hello")[: 2 * 240]
    handset.take(sound)
    assert handset.speak() == pcm16_to_mulaw(sound)[:FRAME]
    assert handset.speak() == SILENCE  # 10 ms aren't enough
    handset.take(sound)
    assert handset.speak() == (pcm16_to_mulaw(sound)[FRAME:] + pcm16_to_mulaw(sound))[:FRAME]


TALK = pcm16_to_mulaw(VOICE.speak("x" * 1000))
FRAMES = [TALK[at : at + FRAME] for at in range(0, 200 * FRAME, FRAME)]


def passed(buffer: JitterBuffer, frames: list[bytes]) -> list[bytes]:
    """Put in a frame a tick; return what is taken at each."""
    taken = []
    for frame in frames:
        buffer.put(frame)
        taken.append(buffer.take())
    return taken


def test_what_is_said_while_the_browser_stood_still_is_heard_and_caught_up_in_a_pause() -> None:
    buffer = JitterBuffer()
    for frame in FRAMES[:3]:
        buffer.put(frame)
    assert passed(buffer, FRAMES[3:150]) == FRAMES[:147]  # all of it, late
    pause = passed(buffer, [SILENCE] * 60)
    assert pause[:3] == FRAMES[147:150]
    assert passed(buffer, [*FRAMES[:1], SILENCE])[1][: FRAME // 4] == FRAMES[0][-FRAME // 4 :]


def test_what_is_too_late_is_caught_up_while_somebody_speaks() -> None:
    buffer = JitterBuffer()
    for frame in FRAMES[:20]:
        buffer.put(frame)
    late = passed(buffer, FRAMES[20:120])
    assert late[:49] == FRAMES[:49]
    buffer.put(FRAMES[0])
    assert buffer.take()[: FRAME // 4] == FRAMES[119][-FRAME // 4 :]


def test_a_browser_that_stood_still_for_long_leaves_most_of_it_out() -> None:
    buffer = JitterBuffer()
    buffer.put(TALK)
    taken = [buffer.take() for _ in range(60)]
    assert taken[0] == TALK[-50 * FRAME :][:FRAME]
    assert taken[50:] == [SILENCE] * 10


def test_the_cafe_is_heard_but_hardly_taken_for_speech() -> None:
    cafe = Cafe()
    levels = [loudness(cafe.next_frame()) for _ in range(200)]
    assert sum(levels) / len(levels) > THRESHOLD / 10
    assert sum(level > THRESHOLD for level in levels) < 5


def test_a_speakerphone_returns_the_agent_a_little_later_and_softer() -> None:
    handset = BrowserHandset(lambda audio: None)
    handset.echo = Echo().returned
    agent = pcm16_to_mulaw(VOICE.speak("Hello"))[2 * FRAME :][:FRAME]
    picked_up = []
    for _ in range(12):
        handset.hear(agent)
        picked_up.append(loudness(handset.speak()))
    assert picked_up[:6] == [0] * 6
    assert 0 < picked_up[-1] < loudness(agent) / 2
    assert picked_up[-1] > THRESHOLD  # or it would break nothing


# --- the picture ------------------------------------------------------------------------------


def test_a_call_is_drawn_with_both_sides_and_the_times_of_its_turns() -> None:
    tone = VOICE.speak("x" * 50)
    left, right = tone + bytes(len(tone)), bytes(len(tone)) + tone
    samples = array("h", bytes(2 * len(left)))
    samples[::2], samples[1::2] = array("h", left), array("h", right)
    png = picture.draw_call(wav_file(samples.tobytes(), 2), [TurnTimes(1.0, 1.2, 1.3, 1.5)], [0.5])
    drawn = Image.open(io.BytesIO(png)).convert("RGB")

    def colours(begin: float, end: float, y: int) -> set[str]:
        """Return the colours from one second to another, so far above (-) or below the middle."""
        columns = range(picture.MARGIN + int(begin * 40), picture.MARGIN + int(end * 40))
        pixels: list[Any] = [drawn.getpixel((x, picture.MIDDLE + y)) for x in columns]
        return {"#{:02x}{:02x}{:02x}".format(*pixel) for pixel in pixels}

    assert picture.CALLER in colours(0.1, 0.9, -20)
    assert picture.AGENT not in colours(0.1, 0.9, 20)
    assert picture.AGENT in colours(1.2, 1.9, 20)
    assert picture.WAIT in colours(1.0, 1.5, -100)
    assert picture.BARGE_IN in colours(0.4, 0.6, 100)
