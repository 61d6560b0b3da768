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

from pydantic import (
    BaseModel,
    ConfigDict,
    OnErrorOmit,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic import ValidatorFunctionWrapHandler as Validator

from cost import RESPONSE, RUN, Usage

NO_TOOLS = "the workflow asked for a tool's output; this service runs no tools"
# What OpenAI says of a conversation that refuses whatever is said next: it is too long, or holds
# half of what belongs together, such as a tool's call without its output
BROKEN = re.compile(
    r"context_length_exceeded|context window|maximum context length"
    r"|No tool (?:output|call) found|without its required|Item with id \S+ not found"
)
# Of a part: with it, however short, it is said; a tool may be at work before the next begins
END = "\n\n"
# Half of an escaped letter beyond U+FFFF is allowed in JSON, but is no text
LETTER = r"\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w"
HALF_LETTER = r"\\u[dD][89a-fA-F]\w\w"
LETTERS = re.compile(rf"({LETTER})|{HALF_LETTER}")


class Lenient(BaseModel):
    """An object of OpenAI's. A field that isn't as expected counts as absent."""

    model_config = ConfigDict(frozen=True)  # so that defaults needn't be copied

    @field_validator("*", mode="wrap")
    @classmethod
    def _or_default(cls, value: object, validate: Validator, info: ValidationInfo) -> object:
        try:
            return validate(value)
        except ValidationError:
            return cls.model_fields[str(info.field_name)].default


class Problem(Lenient):
    """Why there is no whole reply."""

    code: str = ""
    message: str = ""
    reason: str = ""

    def __str__(self) -> str:
        """Tell it in a line."""
        return joined(self.code, self.message, self.reason)


def is_broken(fault: str) -> bool:
    """Tell whether a fault is the conversation's own, and every further message will meet it."""
    return bool(BROKEN.search(fault))


def whole_letters(data: str) -> str:
    """Leave halves of letters out of JSON."""
    return LETTERS.sub(r"\1", data) if r"\u" in data else data


def joined(*words: object) -> str:
    """Join what there is of these."""
    return " ".join(filter(None, map(str, words)))


class Said:
    """The text of a reply so far, by part. The same text may come by several events, or by one."""

    def __init__(self) -> None:
        """Begin with nothing."""
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


class ContentPart(Lenient):
    """A part of an item: text or a refusal, which are said, or reasoning, which isn't."""

    type: str = ""
    text: str = ""
    refusal: str = ""

    @property
    def words(self) -> str:
        """What of it is said."""
        words = {"output_text": self.text, "refusal": self.refusal}
        return words.get(self.type, "")


class Item(Lenient):
    """An item of a Response: a message, a call of a tool, or something else."""

    type: str = ""
    call_id: str = ""
    content: tuple[OnErrorOmit[ContentPart], ...] = ()


class Response(Lenient):
    """A Response as it ended."""

    model: str = ""
    usage: Any = None
    output: tuple[OnErrorOmit[Item], ...] = ()
    error: Problem = Problem()
    incomplete_details: Problem = Problem()


class ResponseEvent(Lenient):
    """An event of a streamed Response, of whichever type."""

    type: str = ""
    output_index: int = 0
    content_index: int = 0
    delta: str = ""
    text: str = ""
    refusal: str = ""
    part: ContentPart = ContentPart()
    item: Item = Item()
    response: Response = Response()
    code: str = ""
    message: str = ""
    error: Problem | str = ""

    @property
    def place(self) -> tuple[int, int]:
        """Which part of the reply it is about."""
        return self.output_index, self.content_index

    @property
    def fault(self) -> str:
        """Which error it tells of, if any."""
        response = self.response
        itself = joined(self.code, self.message, self.error)
        return joined(itself, response.error, response.incomplete_details)


class ResponseReply:
    """A Response while it is read: its text, the tools that it asks for, and how it ended."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.tool_calls: set[str] = set()
        self._said = Said()
        self._end = ResponseEvent()

    @property
    def failure(self) -> str:
        """Why it is no whole reply; "" if it is one."""
        if self.tool_calls:
            return NO_TOOLS
        if self._end.type == "response.completed":
            return ""
        how = joined(self._end.type, self._end.fault)
        return f"the reply broke off: {how or 'the stream ended'}"

    @property
    def usage(self) -> Usage:
        """What it used."""
        return Usage(self._end.response.model, RESPONSE, self._end.response.usage)

    @property
    def conversation_is_broken(self) -> bool:
        """Whether nothing was said since the conversation takes no more messages."""
        return is_broken(self._end.fault) and not self._said

    def take(self, data: str) -> str:
        """Take the next event, JSON; return the text that it adds. Raises ValidationError."""
        event = ResponseEvent.model_validate_json(whole_letters(data))
        handler = self._handlers.get(event.type)
        return handler(self, event) if handler else ""

    def _on_delta(self, event: ResponseEvent) -> str:
        return self._said.add(event.place, event.delta)

    def _on_text_done(self, event: ResponseEvent) -> str:
        return self._said.complete(event.place, event.text or event.refusal)

    def _on_part_done(self, event: ResponseEvent) -> str:
        return self._said.complete(event.place, event.part.words)

    def _on_item_done(self, event: ResponseEvent) -> str:
        self._note_tool(event.item)
        added = ""
        for index, part in enumerate(event.item.content):
            added += self._said.complete((event.output_index, index), part.words)
        return added

    def _on_end(self, event: ResponseEvent) -> str:
        self._end = event
        output = event.response.output
        for item in output:
            self._note_tool(item)
        texts = [part.words for item in output for part in item.content]
        # All at once: servers that imitate OpenAI may have counted the parts in another way before
        return self._said.complete_all(filter(None, texts))

    def _on_error(self, event: ResponseEvent) -> str:
        if event.fault:
            self._end = event
        return ""

    def _note_tool(self, item: Item) -> None:
        if item.type == "function_call":
            self.tool_calls.add(item.call_id)

    _handlers: ClassVar[dict[str, Callable[[ResponseReply, ResponseEvent], str]]] = {
        "response.output_text.delta": _on_delta,
        "response.refusal.delta": _on_delta,
        "response.output_text.done": _on_text_done,
        "response.refusal.done": _on_text_done,
        "response.content_part.done": _on_part_done,
        "response.output_item.done": _on_item_done,
        "response.completed": _on_end,
        "response.incomplete": _on_end,
        "response.failed": _on_end,
        "error": _on_error,
        "": _on_error,  # not everything that imitates OpenAI names a type here
    }


# --- Assistants ---------------------------------------------------------------------------------


class MessageText(Lenient):
    """The text of a part of a message."""

    value: str = ""


class MessagePart(Lenient):
    """A part of a message: text, or a refusal."""

    text: MessageText = MessageText()
    refusal: str = ""


class Message(Lenient):
    """A message, or what is added to it."""

    content: tuple[OnErrorOmit[MessagePart], ...] = ()

    @property
    def words(self) -> str:
        """What of it is said."""
        return "".join(part.text.value or part.refusal for part in self.content)


class RunEvent(Message):
    """An event of a streamed run: by its `object`, a message's delta, a message, or the run."""

    object: str = ""
    status: str = ""
    model: str = ""
    usage: Any = None
    delta: Message = Message()
    last_error: Problem = Problem()
    incomplete_details: Problem = Problem()
    code: str = ""
    message: str = ""
    error: Problem | str = ""

    @property
    def fault(self) -> str:
        """Which error it tells of, if any."""
        itself = joined(self.code, self.message, self.error)
        return joined(itself, self.last_error, self.incomplete_details)


class RunReply:
    """A run while it is read: its text, and how it ended."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._said = Said()
        self._messages = 0  # that are complete
        self._end = RunEvent()

    @property
    def failure(self) -> str:
        """Why it is no whole reply; "" if it is one."""
        if self.asks_for_tools:
            return NO_TOOLS
        if self._end.status == "completed":
            return ""
        how = joined(self._end.status, self._end.fault)
        return f"the run broke off: {how or 'the stream ended'}"

    @property
    def usage(self) -> Usage:
        """What it used."""
        return Usage(self._end.model, RUN, self._end.usage)

    @property
    def asks_for_tools(self) -> bool:
        """Whether the run waits for a tool's output."""
        return self._end.status == "requires_action"

    def take(self, data: str) -> str:
        """Take the next event, JSON; return the text that it adds. Raises ValidationError."""
        event = RunEvent.model_validate_json(whole_letters(data))
        handler = self._handlers.get(event.object)
        return handler(self, event) if handler else ""

    def _on_delta(self, event: RunEvent) -> str:
        return self._said.add((self._messages, 0), event.delta.words)

    def _on_message(self, event: RunEvent) -> str:
        if event.status not in ("completed", "incomplete"):
            return ""
        added = self._said.complete((self._messages, 0), event.words)
        self._messages += 1
        return added

    def _on_run(self, event: RunEvent) -> str:
        self._end = event
        return ""

    def _on_error(self, event: RunEvent) -> str:
        if event.fault:
            self._end = event
        return ""

    _handlers: ClassVar[dict[str, Callable[[RunReply, RunEvent], str]]] = {
        "thread.message.delta": _on_delta,
        "thread.message": _on_message,
        "thread.run": _on_run,
        "": _on_error,
    }
