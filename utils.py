"""Pure functions and the settings: speakable sentences, G.711 audio, the environment, the log."""

import audioop  # in the standard library until 3.12, from audioop-lts since
import itertools
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache, reduce
from math import sin
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

HERE = Path(__file__).parent
log = logging.getLogger("voice_agent")

# --- text -------------------------------------------------------------------------------------

# A full stop ends no sentence in "Dr.", "a.m.", "J." and the like, nor in the "1." before an item.
NO_END = r"(?<!\b[A-Z]\.)(?<!(?:\n\d|\b(?:Dr|Mr|Ms|St|No|vs))\.)(?<!\b(?:Mrs|[ap]\.m|e\.g|i\.e)\.)"
END = rf"(?=\n)|(?<=[。！？])|(?<=[.!?…])(?<!\n\d\d\.){NO_END}[\"'”’)\]*_]*(?:\[\d+\])*[^\S\n]+"
CONTROL = re.compile(r"\[\s*(hangup|transfer)\b[^\]]*\]", re.IGNORECASE)
# Links, whose text remains, and citation marks
LINK = r"!?\[([^\[\]]*)\]\([^)]*\)|【[^】]*】|\ue200[^\ue201]*\ue201"
# Addresses and what is left around them; footnotes only here, once the text is cut: what a citation
# leaves behind may look like one
URL = r"<?(?:https?://|www\.)[^\s>]*[^\s>.,;:!?)]>?|\(\)|\[\d+\]"
MARKUP = rf"{URL}|^\s*(?:#+|[-+*•>])\s+|[*`|]+|~~|(?<!\w)_+|_+(?!\w)|^\s*[-=]{{3,}}"


def sentences(chunks: Iterable[str]) -> Iterator[str]:
    """Cut a reply into sentences fit to be spoken, each as soon as it is complete.

    Yields plain text without markdown, links or citation marks; a control marker comes as an item
    of its own, exactly `[hangup]` or `[transfer]`, whatever else stood between its brackets.
    """
    text = "\n"
    for chunk in itertools.chain(chunks, "\n"):
        *pieces, text = re.split(END, re.sub(LINK, r"\1", text + chunk))
        for piece in pieces:
            plain = " ".join(re.sub(MARKUP, "", CONTROL.sub("", piece)).split())
            if re.search(r"\w", plain):
                yield re.sub(r"\s+(?=[.,;:!?])", "", plain)
            yield from (f"[{marker.lower()}]" for marker in CONTROL.findall(piece))


def heard_part(text: str, fraction: float) -> str:
    """Return the words of `text` heard when `fraction` (0 to 1) of its sound has been played."""
    ends = [0, *(word.end() for word in re.finditer(r"\S+", text))]
    return text[: min(ends, key=lambda end: abs(end - fraction * len(text)))]


def same_words(asked: str, said: str) -> bool:
    """Tell whether two texts have the same words, whatever their case and punctuation."""
    return re.findall(r"\w+", asked.lower()) == re.findall(r"\w+", said.lower())


# --- audio ------------------------------------------------------------------------------------

# A message of Twilio's with a frame of sound, as it is written most often
MEDIA = re.compile(rb'{"event": ?"media".*"payload": ?("[A-Za-z0-9+/=]*")').match

# A Lanczos-windowed sinc at 24 kHz that passes speech up to 3.4 kHz; nothing folds back below 4.
LOW_PASS = [sin(n / 1.06) * sin(n / 7.64) * 2.43 / n**2 if n else 0.3 for n in range(-23, 24)]


def mulaw_to_pcm16(mulaw: bytes, rate: int = 8000) -> bytes:
    """Convert 8 kHz mulaw to little-endian PCM16 at `rate` (8000 or 24000 Hz)."""
    return audioop.ratecv(audioop.ulaw2lin(mulaw, 2), 2, 1, 8000, rate, None)[0]


def pcm16_to_mulaw(pcm: bytes, rate: int = 8000) -> bytes:
    """Convert little-endian PCM16 at `rate` (8000 or 24000 Hz) to 8 kHz mulaw.

    24 kHz is low-passed first, which audioop's rate conversion doesn't.
    """
    if rate > 8000:
        wide = bytes(4 * len(LOW_PASS) - 4) + audioop.lin2lin(pcm, 2, 4)
        taps = (audioop.mul(wide[4 * i :][: 2 * len(pcm)], 4, by) for i, by in enumerate(LOW_PASS))
        pcm = audioop.lin2lin(reduce(lambda a, b: audioop.add(a, b, 4), taps), 4, 2)
    return audioop.lin2ulaw(audioop.ratecv(pcm, 2, 1, rate, 8000, None)[0], 2)


# --- settings ---------------------------------------------------------------------------------

RULES = json.loads((HERE / "settings_rules.json").read_text("utf-8"))


def _checked(name: str, value: str, default: str) -> Any:
    content = json.loads((HERE / value).read_text("utf-8")) if value.endswith(".json") else value
    text = json.dumps(content, sort_keys=True).strip('"')
    for rule in RULES:
        if re.search(rule["variable"], name) and not re.search(rule["shape"], text):
            raise ValueError(rule["advice"])
    # 0 means never
    return (json.loads(value) or 1e6) if default.replace(".", "").isdigit() else content


class SettingsError(SystemExit, ValueError):
    """What is wrong with the settings. Uncaught, it ends the program in plain words."""


@cache
def settings() -> Any:
    """Read the settings from the environment and `.env`: an attribute each, in lower case.

    A number is a number, and a .json file what it holds; `given` has them as they were written.

    `.env.example` names them all and has their defaults. Raises SettingsError with every problem at
    once, each naming its variable and the fix.
    """
    given = {**dotenv_values(HERE / ".env"), **os.environ}
    values, problems = {}, ["Mend these settings, in the environment or in .env:"]
    for name, default in dotenv_values(HERE / ".env.example").items():
        value = (given.get(name) or default or "").strip().rstrip("/")
        try:
            values[name.lower()] = _checked(name, value, default or "")
        except (OSError, ValueError) as error:
            problems.append(f"  {name} ({value}): {error}")
    if len(problems) > 1:
        raise SettingsError("\n".join(problems))
    return type("Settings", (), {"given": given, **values})


def mask_numbers(record: logging.LogRecord) -> bool:
    """Leave no more than the last two digits of any phone number in a line of the log."""
    # But no date
    number = r"(?<![\w.])(?!\d{4}-\d\d-\d\d\b)\+?(\d[ ().-]{0,2}){5,13}(\d[ ().-]{0,2}\d)(?!\w)"
    record.msg, record.args = re.sub(number, r"***\2", record.getMessage()), ()
    return True


log.addFilter(mask_numbers)
