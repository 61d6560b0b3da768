"""The items of a Realtime session's default conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.simulator import openai_rules as rules
from tools.simulator.openai_rules import Refusal
from tools.simulator.openai_wire import Json, new_id

if TYPE_CHECKING:
    from tools.simulator.openai_realtime import RealtimeSession


class ConversationItems:
    """What was said in one session, in order."""

    def __init__(self, session: RealtimeSession) -> None:
        self._session = session
        self._items: dict[str, Json] = {}

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._items

    def __getitem__(self, item_id: str) -> Json:
        return self._items[item_id]

    def __len__(self) -> int:
        return len(self._items)

    @property
    def last_id(self) -> str | None:
        return next(reversed(self._items), None)

    def add(self, item: Json, *, done: bool, after: str | None = None) -> None:
        """Add an item at the end, or `after` another one ("root": at the beginning)."""
        order = list(self._items)
        position = len(order)
        if after is not None:
            position = 0 if after == "root" else order.index(after) + 1
        previous = order[position - 1] if position else None
        order.insert(position, item["id"])
        self._items[item["id"]] = item
        self._items = {item_id: self._items[item_id] for item_id in order}
        self._session.emit("conversation.item.added", item=item, previous_item_id=previous)
        if done:
            self._session.emit("conversation.item.done", item=item, previous_item_id=previous)

    def set_transcript(self, item_id: str, words: str) -> None:
        """Fill in what the caller said, if the item is still there."""
        if item_id in self._items:
            self._items[item_id]["content"][0]["transcript"] = words

    def check_references(self, items: list[Json]) -> None:
        """Refuse the input of a response that refers to items which don't exist."""
        for index, item in enumerate(items):
            if item.get("type") == "item_reference" and item["id"] not in self._items:
                raise _unknown(item["id"], f"response.input[{index}].id", "reference")

    def on_create(self, event: Json) -> None:
        item, after = dict(event["item"]), event.get("previous_item_id")
        rules.check_item(item, "item")
        if after not in (None, "root") and after not in self._items:
            raise _unknown(after, "previous_item_id", "create")
        item.setdefault("id", new_id("item"))
        if item["id"] in self._items:
            raise rules.invalid("item.id", f"item {item['id']!r} exists already.")
        item["status"], item["object"] = "completed", "realtime.item"
        self.add(item, done=True, after=after)

    def on_delete(self, event: Json) -> None:
        if self._items.pop(event["item_id"], None) is None:
            raise _unknown(event["item_id"], "item_id", "delete")
        self._session.emit("conversation.item.deleted", item_id=event["item_id"])

    def on_retrieve(self, event: Json) -> None:
        if event["item_id"] not in self._items:
            raise _unknown(event["item_id"], "item_id", "retrieve")
        item = self._items[event["item_id"]]
        self._session.emit("conversation.item.retrieved", item=item)

    def on_truncate(self, event: Json) -> None:
        item = self._items.get(event["item_id"])
        if item is None:
            raise _unknown(event["item_id"], "item_id", "truncate")
        if item.get("role") != "assistant":
            raise rules.invalid("item_id", "only assistant messages can be truncated.")
        if event["content_index"] != 0:
            raise rules.invalid("content_index", "there is no such content part.")
        audio_ms = self._session.mouth.audio_ms_of(event["item_id"])
        if not 0 <= event["audio_end_ms"] <= audio_ms:
            raise rules.invalid("audio_end_ms", f"the audio is {audio_ms} ms long.")
        item["content"][0].pop("transcript", None)
        names = ("item_id", "content_index", "audio_end_ms")
        cut = {name: event[name] for name in names}
        self._session.emit("conversation.item.truncated", **cut)


def _unknown(item_id: object, param: str, verb: str) -> Refusal:
    message = f"Error with item id {item_id!r}: the item does not exist."
    return Refusal(message, code=f"item_{verb}_invalid_item_id", param=param)
