"""Messages of a peer reach the method that takes them, and no other."""

from __future__ import annotations

from typing import Any

import pytest

import realtime
import voice_handler
from messages import Handler, NotUnderstood, dispatch


class Listener:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def on_mark(self, name: str) -> None:
        self.told.append(("mark", name))

    def on_done(self, response_id: str, reason: str) -> None:
        self.told.append(("done", response_id, reason))

    def on_usage(self, name: str, used: Any) -> None:
        self.told.append((name, used))

    def on_bug(self) -> None:
        raise KeyError("ours")


HANDLERS = {
    "mark": Handler(Listener.on_mark, ("mark.name",)),
    "response.done": Handler(Listener.on_done, ("response.id", "response.details.reason?")),
    "usage": Handler(Listener.on_usage, ("name",), ("response.usage",)),
    "bug": Handler(Listener.on_bug),
}


def told(raw: bytes) -> list[tuple[Any, ...]]:
    listener = Listener()
    dispatch(raw, "event", HANDLERS, listener)
    return listener.told


def test_a_message_reaches_its_method_with_the_texts_it_needs() -> None:
    assert told(b'{"event": "mark", "mark": {"name": "7"}}') == [("mark", "7")]


@pytest.mark.parametrize(
    ("response", "used"),
    [
        (b'{"usage": {"input_tokens": 7}}', {"input_tokens": 7}),
        (b'{"usage": [7]}', [7]),
        (b"{}", None),
        (b"7", None),
    ],
)
def test_a_value_of_any_type_is_passed_as_it_is_and_may_be_missing(
    response: bytes, used: object
) -> None:
    raw = b'{"event": "usage", "name": "n", "response": %b}' % response
    assert told(raw) == [("n", used)]


@pytest.mark.parametrize(
    "details", [b"", b', "details": null', b', "details": {}', b', "details": {"reason": null}']
)
def test_an_optional_text_may_be_missing_at_any_depth(details: bytes) -> None:
    raw = b'{"event": "response.done", "response": {"id": "r"%b}}' % details
    assert told(raw) == [("done", "r", "")]


@pytest.mark.parametrize(
    ("odd", "read"), [(b"429", "429"), (b"[]", ""), (b'{"a": "b"}', ""), (b"1.5", "")]
)
def test_an_optional_text_that_is_none_costs_no_message(odd: bytes, read: str) -> None:
    raw = b'{"event": "response.done", "response": {"id": "r", "details": {"reason": %b}}}' % odd
    assert told(raw) == [("done", "r", read)]


@pytest.mark.parametrize("name", [b"other", b"done", b"response", b"__init__", b""])
def test_a_message_that_nobody_takes_is_of_no_concern(name: bytes) -> None:
    assert told(b'{"event": "%b", "mark": {"name": "7"}}' % name) == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json {",
        b"\xff\xfe",
        '{"event": "mark", "mark": {"name": "7"}}'.encode("utf-16"),
        '{"event": "mark", "mark": {"name": "7"}}'.encode("utf-8-sig"),
        b"[]",
        b"null",
        b"7",
        b"[" * 100_000,
        b"{}",
        b'{"event": 7}',
        b'{"event": null}',
        b'{"event": ["mark"]}',
        b'{"event": "mark"}',
        b'{"event": "mark", "mark": null}',
        b'{"event": "mark", "mark": "7"}',
        b'{"event": "mark", "mark": {"name": 7}}',
        b'{"event": "mark", "mark": {"name": null}}',
        b'{"event": "response.done", "response": {"id": 7, "details": {"reason": "x"}}}',
    ],
)
def test_what_makes_no_sense_is_told_apart_from_a_bug(raw: bytes) -> None:
    with pytest.raises(NotUnderstood):
        told(raw)


def test_a_bug_of_ours_is_not_taken_for_a_message_that_makes_no_sense() -> None:
    with pytest.raises(KeyError, match="ours"):
        told(b'{"event": "bug"}')


def test_the_names_of_the_two_peers_are_apart() -> None:
    assert not set(voice_handler.MESSAGES) & set(realtime.EVENTS)
