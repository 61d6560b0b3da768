"""What is said in a call, and how long everything takes that isn't the app's own doing."""

from __future__ import annotations

import base64
import itertools
import random
import re
from collections.abc import Iterator

# --- seconds ----------------------------------------------------------------------------------

SPEECH = 0.7  # how long the caller speaks
TRANSCRIPT = 0.25  # from the end of speech to its transcript
FIRST_TOKEN = 0.35  # what the workflow thinks
TOKEN = 0.015  # between two tokens of its reply
FIRST_AUDIO = 0.15  # from response.create to the first audio
PAUSE = 0.4  # from a reply's end to the caller's next words
BARGE_IN = 0.8  # into the first reply
LATE = 3.0  # a reply that hasn't begun by then, when the caller hangs up, is late

# --- speech -----------------------------------------------------------------------------------

SPEED = 8  # how many times faster than it plays speech is generated
DELTA_MS = (200, 400, 100, 300)  # sound per response.output_audio.delta
MS_PER_LETTER = 45
RELAY_DELTA_MS = 200  # where speech goes on all the time, it comes as fast as it plays

# --- words ------------------------------------------------------------------------------------

GREETING = "Hello! How can I help you?"
QUESTION = "Question {}: could you tell me what you have free on Thursday?"
REPLIES = (
    ("Yes, we have two times left.", "Nine or half past three.", "Which one suits you?"),
    ("An oil change is 59 dollars.", "It takes 45 minutes.", "Shall I book it for you?"),
    ("Sure, that is no problem.", "I have put you down for nine.", "Is there anything else?"),
    ("We open at eight o'clock.", "You can wait in the lounge.", "Coffee is on the house."),
)


def tokens(text: str) -> list[str]:
    """Cut a text as a model writes it: about four letters each, a space before, not behind."""
    return re.findall(r"\s?\S{1,4}", text)


def first_sentence_end(pieces: list[str]) -> int:
    """Return the index of the token that shows the first sentence to be complete."""
    for index, (before, piece) in enumerate(itertools.pairwise(["", *pieces])):
        if before.endswith((".", "!", "?")) and piece[:1].isspace():
            return index
    return len(pieces) - 1


# --- sound ------------------------------------------------------------------------------------

NUMBER = 12  # base64 letters (9 bytes) that number each piece of sound, so that it's found again
_NOISE = base64.b64encode(random.Random(1).randbytes(8 * 1000)).decode()


def sound(ms: int) -> str:
    """Return base64 of so many ms of 8 kHz mulaw, less the NUMBER letters that come before it."""
    whole = base64.b64encode(bytes(8 * ms))
    return _NOISE[: len(whole.rstrip(b"=")) - NUMBER] + "=" * whole.count(b"=")


FRAME = sound(20).encode()
SOUNDS = {ms: sound(ms) for ms in {*DELTA_MS, RELAY_DELTA_MS}}


def deltas(text: str) -> Iterator[int]:
    """Return how a text's sound is cut into deltas, in ms each."""
    left = len(text) * MS_PER_LETTER
    for ms in itertools.cycle(DELTA_MS):
        if left <= 0:
            return
        yield ms
        left -= ms
