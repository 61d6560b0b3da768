"""The opening note: what the workflow is told of a call before its first words."""

import re
from collections.abc import Mapping
from datetime import datetime

LOST = "What was said in it until now was lost."  # of a call whose conversation can't go on
# Letters: Twilio carries less than 500 in a stream's <Parameter>
LONGEST = 32  # of a fact
LONGEST_ADDRESS = 300
# A caller may choose their name: nothing that could end the note, or look like another one
UNSAFE = re.compile(r"[^\w ,.'&+-]")
PLACE = ("FromCity", "FromState", "FromCountry")


def opening_note(caller: str, called: str, about: str, now: datetime) -> str:
    """Return the note; `now` is in the zone that the workflow is to think in."""
    day = f"{now:%A}, {now.day} {now:%B %Y}"
    time = f"{now:%H:%M} ({now.tzinfo})"
    note = f"Phone call from {caller} to {called}. It is {day}, {time}. {about}"
    return f"[{note.strip()}]"


def about_caller(form: Mapping[str, str]) -> str:
    """Say what Twilio's webhook tells of the caller beyond their number; "" if nothing.

    See https://www.twilio.com/docs/voice/twiml#request-parameters for its fields.
    """
    place = [fact(form, name) for name in PLACE]
    facts = {
        "name": fact(form, "CallerName"),
        "number registered in": ", ".join(filter(None, place)),
        "forwarded from": fact(form, "ForwardedFrom"),
        "caller ID check": fact(form, "StirVerstat"),
    }
    known = [f"{what} {value}" for what, value in facts.items() if value]
    if not known:
        return ""
    return f"Of the caller: {'; '.join(known)}."


def fact(form: Mapping[str, str], name: str) -> str:
    """Return a field of the webhook, fit for a note."""
    value = form.get(name, "")
    return UNSAFE.sub("", value).strip()[:LONGEST]


def address(form: Mapping[str, str], name: str) -> str:
    """Return who calls, or is called: a number, or a SIP address of whatever its owner chose."""
    return only_printable(form.get(name, ""))[:LONGEST_ADDRESS]


def only_printable(text: str) -> str:
    """Leave out what XML, and so TwiML, can't hold."""
    return "".join(filter(str.isprintable, text))
