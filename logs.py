"""The log: its lines can't be forged, and hold no more than two digits of a phone number."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Iterator
from typing import Any

from pythonjsonlogger.json import JsonFormatter

FORMAT = "%(asctime)s %(levelname)s %(message)s"
SECONDS = "%Y-%m-%d %H:%M:%S"

log = logging.getLogger("voice_agent")

# --- phone numbers ----------------------------------------------------------------------------

# A sign for a digit, of any script, also raised, lowered or in a circle; and percent-encoded.
SIGN = r"[\d²³¹⁰⁴-⁹₀-₉①-⑨⓪❶-❾]"
DIGIT = rf"(?:{SIGN}|%3\d)"
# What people and encoders write between two digits: blanks, dashes, brackets, `%20`, `\u2011`,
# `&nbsp;`, one letter as in `5x5`, ...
GAP = (
    r"(?:[^\w\\%\n]|_|%(?!3\d)[0-9A-Fa-f]{2}|\\u[0-9a-f]{4}|\\x[0-9a-f]{2}|\\[nrt]"
    r"|&[a-z]{2,6};|[xX](?=\d))"
)
NUMBER = rf"\+?(?:{DIGIT}{GAP}{{0,20}}){{6,}}{DIGIT}"

MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
YEAR = r"(?:19|20)\d\d"
DAY = r"(?:0?[1-9]|[12]\d|3[01])"
ISO_DATE = rf"{YEAR}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?![-.\d])"
IN_FIGURES = rf"{DAY}[./]{DAY}[./]{YEAR}|{YEAR}/{DAY}/{DAY}"
WITH_NAME = rf"{DAY} {MONTH} {YEAR}|{MONTH} [ ]?{DAY}"
DATE = f"(?:{IN_FIGURES}|{WITH_NAME})"
TIME = r"[0-2]\d:[0-5]\d:[0-5]\d(?![:\d])(?:[.,]\d{1,6})?(?:Z|[ ]?[+-]\d\d:?\d\d)?"
HOUR = r"[0-2]?\d:[0-5]\d(?![:\d])"
OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
PRICE = r"\d{1,3}(?:[.,]\d{3})*(?:[.,]\d\d)?"
# What has as many digits and must stay readable, each as it stands in a log.
MOMENTS = (
    rf"(?<!\d){ISO_DATE}(?:[T ,]{{1,2}}{TIME})?",
    rf"(?<![\w./]){DATE}(?:[T ,]{{1,2}}(?:{TIME}|{HOUR}))?(?![ ./-]?\d)",
    rf"(?<!\d)\d\d/[A-Z][a-z]{{2}}/\d{{4}}[: ]{TIME}",
    rf"(?<![:\d]){TIME}",
)
AMOUNTS = (
    r"(?<![\d.,+-])(?<!\d )\d{1,5}[.,]\d{1,3} (?:ms|s|seconds)\b",
    rf"[$€£¥]{PRICE}(?![-., ]?\d)",
    rf"(?<![\d.,+-])(?<!\d ){PRICE} (?:[$€£¥]|USD|EUR|GBP|dollars|euros|pounds)",
    r"HTTP/\d(?:\.\d)?\"? \d{3} (?:\d{1,9}\b|-)",  # a status and a size
)
# A host's name as clouds and tunnels make them, digits and all: each label has a letter other than
# `x`, the last has no digit. No caller is written like that. What precedes an `@` is no host.
LABEL = r"(?![\dxX-]+\.)[A-Za-z\d-]+"
HOST = rf"(?:{LABEL}\.)+[A-Za-z]{{2,}}(?![\w-])(?!\.[\w-])(?![^/\s?#]*@)"
PORT = r":\d{1,5}\b(?: \(\d{1,7}\))?"  # and the process that listens there
ADDRESSES = (
    r"(?<![\w.])(?<!\+\d )(?<!\+\d\d )(?<!\+\d\d\d )"  # no phone number's country
    rf"(?:{OCTET}\.){{3}}{OCTET}(?!\.?\d)(?::\d{{1,5}}\b)?",
    r"(?<![\w:])(?=[\d:]*[a-f])(?:[\da-f]{1,4}:{1,2}){2,7}[\da-f]{1,4}(?![\w:])",  # IPv6
    rf"\b(?:https?|wss?)://{HOST}(?:{PORT})?",
    rf"(?<= at ){HOST}(?:{PORT})?(?=: )",  # of a request that was refused
    rf"//(?:[A-Za-z][A-Za-z.-]*|\[[\da-f:]*\]){PORT}",
    r"\b0x[0-9a-f]+\b",  # where an object is in memory
)
IDS = (
    r"\b[A-Z]{2}[0-9a-f]{32}\b",  # a SID
    r"(?<![^\W_])(?=\d*[a-f])[0-9a-f]{24,}(?![^\W_])",  # an ID of OpenAI's
    r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b",
)
KEPT = "|".join([*MOMENTS, *AMOUNTS, *ADDRESSES, *IDS])
NUMBERS = re.compile(rf"(?P<kept>{KEPT})|{NUMBER}")
# Most lines have digits only where they begin, which NUMBERS would keep: to see that takes a tenth
# of the time
BEGIN = re.compile(rf"{MOMENTS[0]}(?: [A-Z]+ \[CA[0-9a-f]{{32}}\b)?")
ANY_NUMBER = re.compile(NUMBER)


def mask_numbers(text: str) -> str:
    """Leave no more than the last two digits of any phone number in a text.

    A phone number is seven digits or more, whatever stands between them; a host's name, such as
    `phone-123456789012.example.com`, is none.
    """
    begin = BEGIN.match(text)
    if not ANY_NUMBER.search(text, begin.end() if begin else 0):
        return text
    return NUMBERS.sub(_masked, text)


def _masked(match: re.Match[str]) -> str:
    if match["kept"]:
        return match["kept"]
    digits = re.sub("%3(?=[0-9])|%[0-9A-F]{2}|\\\\u[0-9a-f]{4}|\\\\x[0-9a-f]{2}", "", match[0])
    last_two = re.findall(SIGN, digits)[-2:]
    return "***" + "".join(last_two)


# --- lines ------------------------------------------------------------------------------------

# What would end a line, reorder it, or can't be written: control characters, Unicode's line and
# paragraph separators, changes of direction, lone surrogates.
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
CALL = re.compile(r"\[(?P<call_sid>CA[^\] ]*) ?(?P<caller>[^\]]*)\] ")


class SafeFormatter(logging.Formatter):
    """Format as another formatter does, with numbers masked and every line the log's own."""

    def __init__(self, inner: logging.Formatter) -> None:
        """Wrap the formatter that decides about time, level and the like."""
        super().__init__()
        self.inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and a traceback's below it, each with the call that it belongs to."""
        safe = copy.copy(record)
        safe.msg = _escaped(record.getMessage())
        safe.args = None
        call = CALL.match(safe.msg)
        margin = call[0] if call else "  "
        first, *traceback = self.inner.format(safe).split("\n")
        lines = [first, *(margin + _escaped(line) for line in traceback)]
        return mask_numbers("\n".join(lines))


def _escaped(text: str) -> str:
    return UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


class JsonLines(JsonFormatter):
    """Format each record as one JSON object: time, level, call_sid, caller, message, and more."""

    def __init__(self) -> None:
        """Name the fields that every line has."""
        super().__init__(
            ["asctime", "levelname", "message"],
            datefmt="%Y-%m-%dT%H:%M:%S%z",
            rename_fields={"asctime": "time", "levelname": "level"},
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Take the call out of the message, and mask numbers in all texts."""
        call = CALL.match(log_data["message"])
        if call:
            log_data["message"] = log_data["message"][call.end() :]
            log_data |= call.groupdict()
        return {
            name: mask_numbers(value) if isinstance(value, str) else value
            for name, value in log_data.items()
        }


def open_log(style: str = "text") -> None:
    """Write the app's log to standard error, and make every handler's lines safe, whose ever.

    `style` is "text", or "json" for an object a line.
    """
    logging.basicConfig(format=FORMAT, datefmt=SECONDS)
    logging.getLogger("werkzeug").setLevel("WARNING")
    log.setLevel("INFO")
    for handler in _handlers():
        if style == "json":
            handler.setFormatter(JsonLines())
        elif not isinstance(handler.formatter, SafeFormatter):
            inner = handler.formatter or logging.Formatter(FORMAT, SECONDS)
            handler.setFormatter(SafeFormatter(inner))


def _handlers() -> Iterator[logging.Handler]:
    """Find them all: gunicorn's loggers have handlers of their own."""
    root = logging.getLogger()
    yield from root.handlers
    for logger in root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            yield from logger.handlers
