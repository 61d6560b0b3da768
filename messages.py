"""JSON messages, passed to the method that takes them by their full names.

A table a peer maps a message's name, as the vendor writes it, to the method and to the fields that
it needs, as dotted paths. What a peer sends is checked here, so a fault in it is told apart from a
bug of ours.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

OPTIONAL = "?"  # ends the path of a field that may be missing, or odd, and then is ""


class NotUnderstood(ValueError):
    """A message is no JSON, or lacks what it needs; the text says what."""


class Handler(NamedTuple):
    """The method that takes a message, and the paths of what it is called with.

    Texts come first, then values of any type, which are passed as they are, None if missing.
    """

    method: Callable[..., None]
    fields: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


def dispatch(raw: bytes, name: str, handlers: Mapping[str, Handler], target: object) -> None:
    """Call the method for a message on `target`; one without a method is of no concern.

    `name` is the field that has the message's name. Raises NotUnderstood.
    """
    message = parse(raw)
    handler = handlers.get(text(message, name))
    if handler:
        texts = [text(message, field) for field in handler.fields]
        values = [find(message, path) for path in handler.values]
        handler.method(target, *texts, *values)


def parse(raw: str | bytes) -> dict[str, Any]:
    """Read a JSON object, in UTF-8. Raises NotUnderstood."""
    try:
        if isinstance(raw, bytes):
            raw = raw.decode()  # json would guess the encoding
        message = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(f"no JSON: {error}") from error
    if not isinstance(message, dict):
        raise NotUnderstood("no JSON object")
    return message


def text(message: Any, path: str) -> str:
    """Return the text at a dotted path. Raises NotUnderstood if there is none.

    What is optional costs no message: servers that imitate OpenAI send numbers as codes.
    """
    value = find(message, path.rstrip(OPTIONAL))
    if isinstance(value, str):
        return value
    if not path.endswith(OPTIONAL):
        raise NotUnderstood(f"no text at {path!r}")
    if isinstance(value, int):
        return str(value)
    return ""


def get(message: Any, path: str, default: T) -> T:
    """Return the value at a dotted path; the default if there is none of the default's type."""
    value = find(message, path)
    return value if isinstance(value, type(default)) else default


def find(message: Any, path: str) -> Any:
    """Return the value at a dotted path; None if there is none."""
    value = message
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
