"""Who calls: a script that speaks in recordings, and listens."""

from __future__ import annotations

import audioop
import math
import random
import time
import wave
from array import array
from pathlib import Path

from tools.demo.notes import Notes
from tools.demo.receptionist import Receptionist
from tools.simulator.openai_brain import Turn
from tools.simulator.openai_server import OpenAISimulator
from tools.simulator.twilio_network import Call

AUDIO = Path(__file__).parent.parent / "audio"
FRAME = 320  # bytes of PCM16 in 20 ms
QUIET = 120  # RMS; the end of a breath
PATIENCE = 40.0  # seconds for anything that the script waits for
WORDS = {
    "oil-change": "I need an oil change.",
    "brake-inspection": "How much is a brake inspection?",
    "thursday-afternoon": "Can I book for next Thursday afternoon?",
    "later-one": "No, the later one is better.",
    "tuesday-at-nine": "Tuesday at nine works.",
    "name-and-car": "My name is John Smith and I drive a Honda Civic.",
    "service-history": "What is my service history?",
    "yes-book-it": "Yes, please book it.",
    "cancel-appointment": "I would like to cancel my appointment.",
}


def recording(name: str) -> bytes:
    """Read the sound of one of the WORDS, PCM16 at 8 kHz, up to 100 ms after the last word."""
    with wave.open(str(AUDIO / f"{name}.wav")) as wav:
        sound = wav.readframes(wav.getnframes())
    places = range(0, len(sound), FRAME)
    end = max(at for at in places if audioop.rms(sound[at : at + FRAME], 2) > QUIET)
    return sound[: end + 6 * FRAME]


def cough() -> bytes:
    """Make the noise of a cough: loud enough to be taken for speech, and no word in it."""
    noise, level, samples = random.Random(1), 0.0, array("h")
    for seconds, loudness in ((0.12, 12000), (0.08, 0), (0.18, 9000)):
        length = int(seconds * 8000)
        for n in range(length):
            level = 0.6 * level + 0.4 * noise.uniform(-1, 1)
            samples.append(int(loudness * level * math.exp(-3 * n / length) * min(1, n / 80)))
    return samples.tobytes()


class Caller:
    """Somebody who speaks in recordings, and listens before speaking (most of the time)."""

    def __init__(self, call: Call, openai: OpenAISimulator, desk: Receptionist, notes: Notes):
        self.call, self.openai, self.desk, self.notes = call, openai, desk, notes
        self.messages = 0  # what the workflow should have been told by now

    def asks(self, name: str) -> None:
        """Say something and listen to the answer; once more if it wasn't understood."""
        for _ in range(2):
            self.says(name)
            self.listens()
            if not self.desk.puzzled:
                return

    def says(self, name: str) -> None:
        self._utter(recording(name), WORDS[name])
        self.messages += 1

    def listens(self) -> None:
        """Wait until the workflow has answered everything, and all of it has been heard."""
        self.call.wait_until(lambda _: self._agent_has_finished(), PATIENCE, "end of the answer")

    def interrupts(self, name: str, after_sentences: int) -> None:
        """Cut in, in the middle of the sentence that follows the first ones of the answer."""
        self._hears(after_sentences, and_seconds=1.5)
        self.says(name)
        self.listens()

    def coughs(self, after_sentences: int) -> None:
        """Cough in the middle of a sentence, and hear it again."""
        self._hears(after_sentences, and_seconds=1.0)
        self._utters_what_no_workflow_gets(cough(), "(coughs)")

    def is_not_understood(self, name: str) -> None:
        """Say something that can't be transcribed, and listen to what the agent says to that."""
        self.openai.realtime.fail_transcripts = 1
        self._utters_what_no_workflow_gets(recording(name), WORDS[name])

    def goes_on(self, name: str) -> None:
        """Say something more when the workflow has just begun to think about the last thing."""
        self.call.wait_until(lambda _: self._is_answered(), PATIENCE, "message to the workflow")
        self.says(name)
        self.listens()

    def presses(self, keys: str) -> None:
        """Press keys and listen to the answer."""
        self.call.press(keys)
        self.notes.caller(f"(presses {keys})")
        self.messages += 1
        self.listens()

    def _utters_what_no_workflow_gets(self, sound: bytes, words: str) -> None:
        before = len(self.notes.utterances())
        self._utter(sound, words)
        self.call.wait_until(
            lambda _: len(self.notes.utterances()) > before, PATIENCE, "word of the agent"
        )
        self.listens()

    def _utter(self, sound: bytes, words: str) -> None:
        self.call.say(sound)
        self.call.wait_until_silent()
        self.notes.caller(words)

    def _hears(self, sentences: int, and_seconds: float) -> None:
        """Wait until so much of the answer has been heard; fail if it's over before."""
        self.call.wait_until(lambda _: self._is_answered(), PATIENCE, "answer")
        since = self._answered()[-1].accepted
        reply = [u for u in self.notes.utterances() if u.asked_at > since]

        def played(_: Call) -> bool:
            reply[:] = [u for u in self.notes.utterances() if u.asked_at > since]
            return len(reply) > sentences and reply[sentences - 1].name in self.notes.settled()

        self.call.wait_until(played, PATIENCE, f"{sentences} sentences of the answer")
        until = self.call.now() + and_seconds
        self.call.wait_until(lambda call: call.now() >= until, PATIENCE)

    def _answered(self) -> list[Turn]:
        return list(self.openai.brain.turns)

    def _is_answered(self) -> bool:
        """Tell whether the workflow has got everything, and begun to answer."""
        return len(self._answered()) >= self.messages

    def _agent_has_finished(self) -> bool:
        turns = self._answered()
        if self.call.ended or not self._is_answered():
            return self.call.ended
        last = turns[-1] if turns else None
        if last and (last.ended is None or time.monotonic() < last.ended + 0.3):
            return False
        since = last.accepted if last else 0.0
        reply = {said.name for said in self.notes.utterances() if said.asked_at > since}
        return bool(reply) and reply <= self.notes.settled() and self.call.quiet_for > 0.8
