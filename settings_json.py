"""Files that people edit: their text and JSON, with every mistake told in plain words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# What stands where JSON couldn't be read on, with the character before it, and what to do.
BY_TEXT = {
    r"[^:{\[]?,\s*[}\]]": "remove the comma after the last entry",
    r".[“”„«»‘’]": 'typographic quotation marks; use straight ones, "',
    r".'": 'single quotation marks; use double ones, "',
    r".[\r\n]": r'a text ends here without "; add it, or write a line break as \n',
    r".\t": r"a tab inside a text; write it as \t",
    r".(//|/\*|#)": "a comment; JSON has none, remove it",
    r".(None|True|False)": "JSON has null, true and false, in lower case",
}
# The same by the beginning of Python's message.
BY_MESSAGE = {
    "Unterminated": "a quotation mark is missing",
    "Expecting property name": "a name without quotation marks",
    "Expecting value": "a value is missing, or a text without quotation marks",
    "Expecting ','": 'a comma is missing, or a " inside a text that needs a \\ before it',
    "Expecting ':'": "a colon is missing",
    "Invalid \\": "a backslash inside a text; write two of them",
    "Extra data": "the object has ended before this; remove what follows it",
}


def decode(content: bytes) -> str:
    """Decode a file's UTF-8 or UTF-16; what is neither becomes U+FFFD."""
    is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig", errors="replace")


def unreadable_line(text: str) -> int:
    """Return the number of the first line that could not be decoded; 0 if all could."""
    before, found, _ = text.partition("\ufffd")
    return before.count("\n") + 1 if found else 0


def json_object(path: Path) -> Json:
    """Read the object in a JSON file. ValueError tells, by line, what is wrong with it."""
    try:
        text = decode(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    line = unreadable_line(text)
    if line:
        raise ValueError(f"{path.name}, line {line}: save the file as UTF-8")
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path.name}, line {error.lineno}: {_reason(error)}") from None
    except _Twice as error:
        raise ValueError(f'{path.name}: "{error}" is there twice; remove one of the two') from None
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path.name}: expected an object: names and values in braces")
    return content


class _Twice(Exception):
    """A name stands twice in an object; the text is the name."""


def _once(entries: list[tuple[str, Any]]) -> Json:
    names = set()
    for name, _ in entries:
        if name in names:
            raise _Twice(name)
        names.add(name)
    return dict(entries)


def _reason(error: json.JSONDecodeError) -> str:
    before = " " + error.doc[: error.pos].rstrip()
    around = before[-1] + error.doc[error.pos :]
    for shape, advice in BY_TEXT.items():
        if re.match(shape, around):
            return advice
    for beginning, advice in BY_MESSAGE.items():
        if error.msg.startswith(beginning):
            return advice
    return f"not JSON, from column {error.colno} on"
