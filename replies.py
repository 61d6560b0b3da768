"""Streamed replies of a workflow, read event by event: what is to be said, and how they ended.

One class a kind: `ResponseReply` for Responses, `RunReply` for runs of the Assistants API. Both are
lenient with servers that imitate OpenAI: a field that is not as it should be counts as absent, and
a text is said once by whichever events it comes. Parts of a reply, like a commentary and the
answer, are paragraphs of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from cost import RESPONSE, RUN, Usage
from messages import find, get, parse

NO_TOOLS = "the workflow asked for a tool's output; this service runs no tools"
# What OpenAI says of a conversation that refuses whatever is said next: it is too long, or holds
# half of what belongs together, such as a tool's call without its output
BROKEN = re.compile(
    r"context_length_exceeded|context window|maximum context length"
    r"|No tool (?:output|call) found|without its required|Item with id \S+ not found"
)
# Where an event tells what went wrong: each is a text, or an object with these fields
FAULTS = (
    "error",
    "response.error",
    "response.incomplete_details",
    "last_error",
    "incomplete_details",
)
FAULT_FIELDS = ("code", "message", "reason")
# Of a part: with it, however short, it is said; a tool may be at work before the next begins
END = "\n\n"
# Of a letter beyond U+FFFF: allowed in JSON, but no text
HALF_LETTER = re.compile("[\ud800-\udfff]")

Event = dict[str, Any]  # JSON


def is_broken(fault: str) -> bool:
    """Tell whether a fault is the conversation's own, and every further message will meet it."""
    return bool(BROKEN.search(fault))


# --- events -------------------------------------------------------------------------------------


def list_at(event: Any, path: str) -> list[Any]:
    """Return the list at a dotted path; an empty one if there is none."""
    return get(event, path, [])


def fault_of(event: Event) -> str:
    """Return what an event says went wrong, in a line; "" if nothing did."""
    told = [get(event, "code", ""), get(event, "message", "")]
    for fault in FAULTS:
        told.append(get(event, fault, ""))
        told += [get(event, f"{fault}.{field}", "") for field in FAULT_FIELDS]
    return joined(*told)


def joined(*words: str) -> str:
    """Join what there is of these."""
    return " ".join(filter(None, words))


class Said:
    """The text of a reply so far, by part. The same text may come by several events, or by one."""

    def __init__(self) -> None:
        """Start empty."""
        self._parts: dict[tuple[int, int], str] = {}
        self._part_is_open = False

    def __bool__(self) -> bool:
        """Tell whether there is any text."""
        return bool(self._parts)

    def add(self, part: tuple[int, int], piece: str) -> str:
        """Add to a part; return the piece, in a paragraph of its own if it begins another part."""
        if not piece:
            return ""
        start = "" if part in self._parts else self._end_part()
        self._parts[part] = self._parts.get(part, "") + piece
        self._part_is_open = True
        return start + piece

    def complete(self, part: tuple[int, int], whole: str) -> str:
        """Learn the whole text of a part; return what of it is new, and its end."""
        rest = self.add(part, remainder(whole, self._parts.get(part, "")))
        if whole:
            self._parts[part] = whole
        return rest + self._end_part()

    def _end_part(self) -> str:
        if not self._part_is_open:
            return ""
        self._part_is_open = False
        return END

    def complete_all(self, wholes: Iterable[str]) -> str:
        """Learn the whole text of all parts, in order; return what of it is new."""
        return remainder(END.join(wholes), END.join(self._parts.values()))


def remainder(whole: str, said: str) -> str:
    """Return what a text adds to its beginning, which was said; nothing if it began otherwise."""
    return whole[len(said) :] if whole.startswith(said) else ""


# --- Responses ----------------------------------------------------------------------------------


class ResponseReply:
    """A Response while it is read: its text, the tools that it asks for, and how it ended."""

    def __init__(self) -> None:
        """Start empty."""
        self.tool_calls: set[str] = set()
        self._said = Said()
        self._end: Event = {}

    @property
    def failure(self) -> str:
        """Why it is no whole reply; "" if it is one."""
        if self.tool_calls:
            return NO_TOOLS
        kind = get(self._end, "type", "")
        if kind == "response.completed":
            return ""
        how = joined(kind, fault_of(self._end))
        return f"the reply broke off: {how or 'the stream ended'}"

    @property
    def usage(self) -> Usage:
        """What it used."""
        model = get(self._end, "response.model", "")
        return Usage(model, RESPONSE, find(self._end, "response.usage"))

    @property
    def conversation_is_broken(self) -> bool:
        """Whether nothing was said since the conversation takes no more messages."""
        return not self._said and is_broken(fault_of(self._end))

    def take(self, data: str) -> str:
        """Take the next event, JSON; return the text that it adds. Raises NotUnderstood."""
        event = parse(data)
        handler = self._handlers.get(get(event, "type", ""))
        return HALF_LETTER.sub("", handler(self, event)) if handler else ""

    def _on_delta(self, event: Event) -> str:
        return self._said.add(place(event), get(event, "delta", ""))

    def _on_text_done(self, event: Event) -> str:
        return self._said.complete(place(event), get(event, "text", ""))

    def _on_refusal_done(self, event: Event) -> str:
        return self._said.complete(place(event), get(event, "refusal", ""))

    def _on_part_done(self, event: Event) -> str:
        return self._said.complete(place(event), words(find(event, "part")))

    def _on_item_done(self, event: Event) -> str:
        self._note_tool(find(event, "item"))
        output_index, _ = place(event)
        added = ""
        for content_index, part in enumerate(list_at(event, "item.content")):
            added += self._said.complete((output_index, content_index), words(part))
        return added

    def _on_end(self, event: Event) -> str:
        self._end = event
        output = list_at(event, "response.output")
        for item in output:
            self._note_tool(item)
        texts = [words(part) for item in output for part in list_at(item, "content")]
        # All at once: servers that imitate OpenAI may have counted the parts in another way before
        return self._said.complete_all(filter(None, texts))

    def _on_error(self, event: Event) -> str:
        if fault_of(event):
            self._end = event
        return ""

    def _note_tool(self, item: Any) -> None:
        if get(item, "type", "") == "function_call":
            self.tool_calls.add(get(item, "call_id", ""))

    _handlers: ClassVar[dict[str, Callable[[ResponseReply, Event], str]]] = {
        "response.output_text.delta": _on_delta,
        "response.refusal.delta": _on_delta,
        "response.output_text.done": _on_text_done,
        "response.refusal.done": _on_refusal_done,
        "response.content_part.done": _on_part_done,
        "response.output_item.done": _on_item_done,
        "response.completed": _on_end,
        "response.incomplete": _on_end,
        "response.failed": _on_end,
        "error": _on_error,
        "": _on_error,  # not everything that imitates OpenAI names a type here
    }


def place(event: Event) -> tuple[int, int]:
    """Return which part of a Response an event is about."""
    return get(event, "output_index", 0), get(event, "content_index", 0)


def words(part: Any) -> str:
    """Return what of a part of an item is said: text or a refusal, and no reasoning."""
    kind = get(part, "type", "")
    if kind == "output_text":
        return get(part, "text", "")
    if kind == "refusal":
        return get(part, "refusal", "")
    return ""


# --- Assistants ---------------------------------------------------------------------------------


class RunReply:
    """A run while it is read: its text, and how it ended."""

    def __init__(self) -> None:
        """Start empty."""
        self._said = Said()
        self._messages = 0  # that are complete
        self._end: Event = {}

    @property
    def failure(self) -> str:
        """Why it is no whole reply; "" if it is one."""
        if self.asks_for_tools:
            return NO_TOOLS
        status = get(self._end, "status", "")
        if status == "completed":
            return ""
        how = joined(status, fault_of(self._end))
        return f"the run broke off: {how or 'the stream ended'}"

    @property
    def usage(self) -> Usage:
        """What it used."""
        return Usage(get(self._end, "model", ""), RUN, find(self._end, "usage"))

    @property
    def asks_for_tools(self) -> bool:
        """Whether the run waits for a tool's output."""
        return get(self._end, "status", "") == "requires_action"

    def take(self, data: str) -> str:
        """Take the next event, JSON; return the text that it adds. Raises NotUnderstood."""
        event = parse(data)
        handler = self._handlers.get(get(event, "object", ""))
        return HALF_LETTER.sub("", handler(self, event)) if handler else ""

    def _on_delta(self, event: Event) -> str:
        return self._said.add((self._messages, 0), message_words(find(event, "delta")))

    def _on_message(self, event: Event) -> str:
        if get(event, "status", "") not in ("completed", "incomplete"):
            return ""
        added = self._said.complete((self._messages, 0), message_words(event))
        self._messages += 1
        return added

    def _on_run(self, event: Event) -> str:
        self._end = event
        return ""

    def _on_error(self, event: Event) -> str:
        if fault_of(event):
            self._end = event
        return ""

    _handlers: ClassVar[dict[str, Callable[[RunReply, Event], str]]] = {
        "thread.message.delta": _on_delta,
        "thread.message": _on_message,
        "thread.run": _on_run,
        "": _on_error,
    }


def message_words(message: Any) -> str:
    """Return what is said of a message, or of what is added to one."""
    parts = list_at(message, "content")
    return "".join(get(part, "text.value", "") or get(part, "refusal", "") for part in parts)
