"""Streamed replies of a workflow, read event by event: what is to be said, and how it ended.

One class a kind: `ResponseReply` for Responses, `RunReply` for runs of the Assistants API. Servers
that imitate OpenAI are read leniently, and text is said once by whichever events it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic import ValidatorFunctionWrapHandler as Validator


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
        """Say it in a line."""
        return " ".join(filter(None, [self.code, self.message, self.reason]))


class Event(Lenient):
    """An event of a streamed answer. An error is told in one of these ways."""

    code: str = ""
    message: str = ""
    error: Problem | str = ""

    @property
    def fault(self) -> str:
        """What error it tells of, if any."""
        told = [self.code, self.message, str(self.error)]
        return " ".join(filter(None, told))


class Said:
    """The text of a reply so far, by part. The same text may come by several events, or by one."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._parts: dict[object, str] = {}

    def __bool__(self) -> bool:
        """Tell whether there is any text."""
        return bool(self._parts)

    def add(self, part: object, piece: str) -> str:
        """Add to a part; return the piece."""
        self._parts[part] = self._parts.get(part, "") + piece
        return piece

    def complete(self, part: object, whole: str) -> str:
        """Learn the whole text of a part; return what of it is new, as lines."""
        if not whole:
            return ""
        rest = remainder(whole, self._parts.get(part, ""))
        self._parts[part] = whole
        return f"{rest}\n" if rest else ""

    def complete_all(self, wholes: Iterable[str]) -> str:
        """Learn the text of all parts; return what of it is new, as lines."""
        return remainder("\n".join(wholes), "\n".join(self._parts.values()))


def remainder(whole: str, said: str) -> str:
    """Return what a text adds to its beginning, which was said; nothing if it began otherwise."""
    return whole[len(said) :] if whole.startswith(said) else ""


# --- Responses ----------------------------------------------------------------------------------


class ContentPart(Lenient):
    """A part of an item: text, or a refusal, which are to be said; or reasoning, which isn't."""

    type: str = ""
    text: str = ""
    refusal: str = ""

    @property
    def words(self) -> str:
        """What of it is to be said."""
        words = {"output_text": self.text, "refusal": self.refusal}
        return words.get(self.type, "")


class Item(Lenient):
    """An item of a Response: a message, a call of a tool, or something else."""

    type: str = ""
    call_id: str = ""
    content: tuple[ContentPart, ...] = ()


class Response(Lenient):
    """A Response as it ended."""

    output: tuple[Item, ...] = ()
    error: Problem = Problem()
    incomplete_details: Problem = Problem()


class ResponseEvent(Event):
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

    @property
    def place(self) -> tuple[int, int]:
        """Which part of the reply it is about."""
        return self.output_index, self.content_index

    @property
    def why(self) -> str:
        """Why the reply ended so."""
        problems = [self.fault, self.response.error, self.response.incomplete_details]
        return " ".join(filter(None, map(str, problems)))


class ResponseReply:
    """A Response while it is read: its text, the tools that it asks for, and how it ended."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.said = Said()
        self.tool_calls: set[str] = set()
        self.end = ResponseEvent()

    def take(self, event: ResponseEvent) -> str:
        """Take the next event; return the text that it adds to the reply."""
        if event.fault:  # not everything that imitates OpenAI gives its errors a type
            self.end = event
        take = self._handlers.get(event.type)
        return take(self, event) if take else ""

    def _on_delta(self, event: ResponseEvent) -> str:
        return self.said.add(event.place, event.delta)

    def _on_text_done(self, event: ResponseEvent) -> str:
        # The line break tells a commentary, which a tool's work follows, from the answer
        return self.said.complete(event.place, event.text or event.refusal) or "\n"

    def _on_part_done(self, event: ResponseEvent) -> str:
        return self.said.complete(event.place, event.part.words)

    def _on_item_done(self, event: ResponseEvent) -> str:
        self._note_tool(event.item)
        parts = enumerate(event.item.content)
        return "".join(
            self.said.complete((event.output_index, index), part.words) for index, part in parts
        )

    def _on_end(self, event: ResponseEvent) -> str:
        self.end = event
        for item in event.response.output:
            self._note_tool(item)
        parts = [part.words for item in event.response.output for part in item.content]
        # All at once, since servers that imitate OpenAI may have counted the parts in another way
        return self.said.complete_all(filter(None, parts))

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
    }


# --- Assistants ---------------------------------------------------------------------------------


class MessageText(Lenient):
    """The text of a part of a message."""

    value: str = ""


class MessagePart(Lenient):
    """A part of a message: text, or a refusal."""

    text: MessageText = MessageText()
    refusal: str = ""


class MessageDelta(Lenient):
    """What is added to a message."""

    content: tuple[MessagePart, ...] = ()


class RunEvent(Event):
    """An event of a streamed run: by its `object`, a message's delta, a message, or the run."""

    object: str = ""
    id: str = ""
    status: str = ""
    delta: MessageDelta = MessageDelta()
    content: tuple[MessagePart, ...] = ()
    last_error: Problem = Problem()
    incomplete_details: Problem = Problem()

    @property
    def why(self) -> str:
        """Why the run ended so."""
        problems = [self.last_error, self.incomplete_details]
        return " ".join(filter(None, map(str, problems)))


class RunReply:
    """A run while it is read: its text, and how it ended."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.run = RunEvent()
        self.fault = ""
        self._said = Said()
        self._messages = 0  # that are complete

    def take(self, event: RunEvent) -> str:
        """Take the next event; return the text that it adds to the reply."""
        self.fault = event.fault or self.fault
        take = self._handlers.get(event.object)
        return take(self, event) if take else ""

    def _on_delta(self, event: RunEvent) -> str:
        return self._said.add(self._messages, words_of(event.delta.content))

    def _on_message(self, event: RunEvent) -> str:
        if event.status not in ("completed", "incomplete"):
            return ""
        rest = self._said.complete(self._messages, words_of(event.content))
        self._messages += 1
        return rest or "\n"

    def _on_run(self, event: RunEvent) -> str:
        self.run = event
        return ""

    _handlers: ClassVar[dict[str, Callable[[RunReply, RunEvent], str]]] = {
        "thread.message.delta": _on_delta,
        "thread.message": _on_message,
        "thread.run": _on_run,
    }


def words_of(content: Iterable[MessagePart]) -> str:
    """Return what of a message is to be said."""
    return "".join(part.text.value or part.refusal for part in content)
