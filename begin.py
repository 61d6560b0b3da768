"""How the rules of one call begin: what the settings and the stream's `start` make of them."""

from collections.abc import Callable
from time import time

from call import Call
from conversation import Conversation, Port
from lines import Limits, Lines
from settings import Settings
from witness import Witness


def begin(
    port: Port,
    clock: Callable[[], float],
    call: Call,
    settings: Settings,
    witness: Witness | None = None,
) -> Conversation:
    """Begin a conversation, or go on with one whose stream was lost, or whose transfer failed."""
    openings = {
        "bridge": (settings.bridge, settings.notes.line_lost),
        "no_transfer": (settings.no_transfer, settings.notes.not_transferred),
    }
    opening, note = openings.get(call.opening, (settings.greeting, ""))
    time_left = max(settings.max_call_seconds - call.age(time()), 0.0)
    limits = Limits(filler=settings.filler_seconds, idle=settings.idle_seconds, longest=time_left)
    return Conversation(
        port,
        clock,
        opening,
        note,
        lines=lines(settings),
        limits=limits,
        witness=witness,
    )


def lines(settings: Settings) -> Lines:
    """Return what the line itself says."""
    return Lines(
        fillers=settings.fillers,
        idle_prompt=settings.idle_prompt,
        goodbye=settings.goodbye,
        say_again=settings.say_again,
        apology=settings.apology,
        no_transfer=settings.no_transfer,
        cut_in=settings.notes.cut_in,
        not_transferred=settings.notes.not_transferred,
        keys=settings.notes.keys,
        inaudible=settings.notes.inaudible,
    )
