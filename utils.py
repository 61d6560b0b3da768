"""Pure functions and the settings: speakable sentences, G.711 audio, the environment, log lines."""

import base64
import functools
import itertools
import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import audioop  # in the standard library until 3.12, from audioop-lts since
from dotenv import dotenv_values

HERE = Path(__file__).parent

# --- text -------------------------------------------------------------------------------------

BOUNDARY = re.compile(r"\n+|[.!?…]+(?:[\"'”)\]*_]|【[^】]*】)*\s+|[。\uff01\uff1f]+[」』”]*")
NOT_AN_END = re.compile(r"(^\s*\d+|\b([A-Z]|[ap]\.m|[ei]\.[eg]|[MD]rs?|Ms|Prof|St|No|vs))\.$")
CONTROL = re.compile(r"\[\s*(hangup|transfer)\b[^\]]*\]", re.IGNORECASE)
UNSPEAKABLE = {  # markup, and what takes its place
    r"【[^】]*】|\ue200[^\ue201]*\ue201|(?<=\w)\s?\[\d+\]": "",  # citation marks
    r"!?\[([^\]]*)\]\([^)]*\)": r"\1",  # links keep their text
    r"<?(?:https?://|www\.)[^\s>]*[^\s>.,;:!?)]>?": "",
    r"^\s*(?:#+|[-+*•>])\s+|[*`]+|~~|\|+|(?<!\w)_+|_+(?!\w)|^\s*[-=]{3,}": "",
    r"\s+([.,;:!?])|\s*\(\s*\)": r"\1",  # what a removed link leaves behind
    r"\s+": " ",
}


def sentences(chunks: Iterable[str]) -> Iterator[str]:
    """Cut a reply into sentences fit to be spoken, each as soon as it is complete.

    Yields plain text without markdown, links or citation marks; a control marker comes as an item
    of its own, exactly `[hangup]` or `[transfer]`, whatever else stood between its brackets.
    """
    text = ""
    for chunk in itertools.chain(chunks, "\n"):
        text, start = text + chunk, 0
        for boundary in BOUNDARY.finditer(text):
            piece = text[start : boundary.end()]
            if "\n" in boundary[0] or not (_is_open(piece) or NOT_AN_END.search(piece.rstrip())):
                yield from _speakable(piece)
                start = boundary.end()
        text = text[start:]


def _is_open(piece: str) -> bool:
    return piece.count("[") > piece.count("]") or piece.count("【") > piece.count("】")


def _speakable(piece: str) -> Iterator[str]:
    plain = CONTROL.sub("", piece)
    for markup, replacement in UNSPEAKABLE.items():
        plain = re.sub(markup, replacement, plain)
    if re.search(r"\w", plain):
        yield plain.strip()
    yield from (f"[{marker.lower()}]" for marker in CONTROL.findall(piece))


def heard_part(text: str, fraction: float) -> str:
    """Return the words of `text` heard when `fraction` (0 to 1) of its sound has been played."""
    ends = [0, *(word.end() for word in re.finditer(r"\S+", text))]
    return text[: min(ends, key=lambda end: abs(end - fraction * len(text)))]


def same_words(asked: str, said: str) -> bool:
    """Tell whether two texts have the same words, whatever their case and punctuation."""
    return re.findall(r"\w+", asked.lower()) == re.findall(r"\w+", said.lower())


# --- audio ------------------------------------------------------------------------------------

# A Hamming-windowed sinc at 24 kHz that passes speech up to 3.4 kHz; nothing folds back below 4.
_SINC = [math.sin(math.pi * n * 0.3) / (math.pi * n) if n else 0.3 for n in range(-23, 24)]
LOW_PASS = [tap * (0.54 + 0.46 * math.cos(math.pi * n / 23)) for n, tap in enumerate(_SINC, -23)]


def mulaw_to_pcm16(mulaw: bytes, rate: int = 8000, state: dict[str, Any] | None = None) -> bytes:
    """Convert 8 kHz mulaw to little-endian PCM16 at `rate` (8000 or 24000 Hz).

    For a stream, pass the same `state` dict with every chunk, so that chunks join without a click.
    """
    state = {} if state is None else state
    pcm, state["up"] = audioop.ratecv(audioop.ulaw2lin(mulaw, 2), 2, 1, 8000, rate, state.get("up"))
    return pcm


def pcm16_to_mulaw(pcm: bytes, rate: int = 8000, state: dict[str, Any] | None = None) -> bytes:
    """Convert little-endian PCM16 at `rate` (8000 or 24000 Hz) to 8 kHz mulaw.

    24 kHz is low-passed first, which audioop's rate conversion doesn't. `state` as above.
    """
    state = {} if state is None else state
    if rate > 8000:
        past = state.get("past", bytes(4 * len(LOW_PASS) - 4))
        wide, size = past + audioop.lin2lin(pcm, 2, 4), len(pcm) * 2
        state["past"] = wide[size:]
        taps = (audioop.mul(wide[4 * i :][:size], 4, tap) for i, tap in enumerate(LOW_PASS))
        pcm = audioop.lin2lin(functools.reduce(lambda a, b: audioop.add(a, b, 4), taps), 4, 2)
    pcm, state["down"] = audioop.ratecv(pcm, 2, 1, rate, 8000, state.get("down"))
    return audioop.lin2ulaw(pcm, 2)


def transcoder(convert: Callable[..., bytes], session: dict[str, Any]) -> Callable[[str], str]:
    """Return `convert` for base64 audio, one stream's; for a G.711 session there's nothing to do."""
    if session["audio"]["input"]["format"]["type"] == "audio/pcmu":
        return str
    one_stream = functools.partial(convert, rate=24000, state={})
    return lambda audio: base64.b64encode(one_stream(base64.b64decode(audio))).decode()


# --- settings ---------------------------------------------------------------------------------


def read_json(name: str) -> Any:
    """Read a JSON file, relative to this one; raise ValueError if that fails."""
    try:
        return json.loads((HERE / name).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} can't be read: {error}") from error


def _session(name: str) -> Any:
    session = read_json(name)
    try:
        ears, mouth = session["audio"]["input"], session["audio"]["output"]
        for automatic in ("create_response", "interrupt_response"):
            if ears["turn_detection"].get(automatic) is not False:
                raise ValueError(f'turn_detection in {name} must say "{automatic}": false')
        if not ears["transcription"]["model"] or ears["format"] != mouth["format"]:
            raise ValueError(f'"format" must be the same for input and output in {name}')
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"audio.input or audio.output in {name} lacks {error}") from error
    return session


def _workflow(name: str) -> str:
    if not name.startswith("asst_") and not name.endswith(".json"):
        raise ValueError(f"{name} can't be called. {NO_WORKFLOW}")
    return name if name.startswith("asst_") or read_json(name) else ""


def _like(shape: str, example: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not re.fullmatch(shape, value):
            raise ValueError(f"{value!r} must look like {example}")
        return value

    return check


NO_WORKFLOW = (
    "Expected an ID that begins with 'asst', or a .json file such as workflow.json;"
    " wf_ and pmpt_ end on 2026-11-30: see FIX_AUDIO_ISSUE.md"
)
PLACEHOLDER = re.compile(r"^your_|//your-|x{8}$")  # in .env.example: to be filled in
RULES: dict[str, Callable[[str], Any]] = {  # by the end of a variable's name
    "WORKFLOW_ID": _workflow,
    "REALTIME_SESSION": _session,
    "ACCOUNT_SID": _like(r"AC\w+", "ACxxx, from console.twilio.com"),
    "NUMBER": _like(r"(\+[1-9]\d{6,14})?", "+15550001111"),
    "WEBHOOK_URL": _like(r"https://[^/]+|http://127\.0\.0\.1:\d+", "https://voice.example.com"),
    "URL": _like(r"(https?://.+)?", "https://api.example.com/v1"),
    "SECONDS": float,
    "TIMEOUT": float,
    "PORT": int,
}


@functools.cache
def settings() -> Any:
    """Read the settings from the environment and `.env`: an attribute each, in lower case.

    `.env.example` names them all and has their defaults. Raises ValueError with every problem at
    once, each naming its variable and the fix.
    """
    given = {**dotenv_values(HERE / ".env"), **os.environ}
    values: dict[str, Any] = {}
    problems = ["Mend these settings, in the environment or in .env:"]
    for name, default in dotenv_values(HERE / ".env.example").items():
        try:
            value = given.get(name) or default or ""
            if PLACEHOLDER.search(value):
                raise ValueError("missing; .env.example says where to find it")
            rule = next((RULES[end] for end in RULES if name.endswith(end)), str)
            values[name.lower()] = rule(value.strip())
        except ValueError as error:
            problems.append(f"  {name}: {error}")
    if values.get("agent_base_url") and not values["agent_api_key"]:
        problems.append("  AGENT_API_KEY: set it too; OPENAI_API_KEY is not sent to AGENT_BASE_URL")
    if len(problems) > 1:
        raise ValueError("\n".join(problems))
    return SimpleNamespace(**values)


# --- logs -------------------------------------------------------------------------------------


class MaskingFormatter(logging.Formatter):
    """Keep no more than the last two digits of any phone number, in lines and in tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the formatted record, masked."""
        number = r"(?<![\w.])\+?\d([ ().-]{0,2}\d){6,14}(?!\w)"
        return re.sub(number, lambda match: "***" + match[0][-2:], super().format(record))
