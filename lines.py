"""What the line itself says, and how long things may take: the configurable part of the rules."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Lines:
    """What the line itself says, and how it words things for the workflow."""

    fillers: tuple[str, ...] = ("One moment, please.", "Let me see.")
    idle_prompt: str = "Are you still there?"
    goodbye: str = "Thank you for calling. Goodbye!"
    say_again: str = "Sorry, I didn't catch that. Could you say it again?"
    apology: str = "I'm sorry, something went wrong. Could you try that again?"
    no_transfer: str = "I'm sorry, nobody can be reached right now."
    cut_in: str = '[The caller cut in. Of what you said last they had heard: "{}"]'
    not_transferred: str = "[The caller could not be put through.]"
    keys: str = "[The caller pressed {} on the keypad.]"
    inaudible: str = "[inaudible]"


@dataclass(frozen=True)
class Limits:
    """How long things may take, in seconds, and how often they are tried.

    The caller is never in unexplained silence for more than 4 s: whatever breaks a silence is due
    by `patience - chance`, and what doesn't sound by `patience` is a hold. The rest is slack: ticks
    come five times a second, so each step may be noticed 0.2 s late.
    """

    filler: float = 1.5  # unanswered silence before a filler
    filler_again: float = 2.0  # and before the next one
    idle: float = 15.0  # the caller's silence before the prompt, and again before the goodbye
    longest: float = 3600.0  # the whole call
    speech: float = 180.0  # the longest stretch: what goes on is a radio, or its end was missed
    transcript: float = 2.3  # from the end of speech to its words
    keys: float = 2.0  # the pause that completes what is keyed in
    patience: float = 3.5  # unanswered silence, or silence without a session, before a hold
    chance: float = 1.2  # that the voice gets even if the silence was long before it was asked
    retry: float = 0.25  # the pause after a failure of the voice, doubled with each in a row
    ahead: float = 3.0  # sound that is left to play when the next sentence is asked for
    say_again: int = 2  # how often in a row the caller is asked to say it again
    noise: float = 1.0  # a sound without words that is shorter is a noise, and no speech
    wordless: int = 2  # how often in a row speech has no words before the caller is asked again
