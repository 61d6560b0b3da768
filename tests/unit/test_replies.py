"""Replies are read event by event: all that is to be said is said once, whatever else comes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages import NotUnderstood
from replies import NO_TOOLS, ResponseReply, RunReply
from utils import sentences

Json = dict[str, Any]
Reply = ResponseReply | RunReply

COMPLETED: Json = {"type": "response.completed", "response": {"output": []}}
RUN_COMPLETED: Json = {"object": "thread.run", "status": "completed"}
FIRST = {"output_index": 0, "content_index": 0}


def read(reply: Reply, *events: Json) -> str:
    """Let a reply take some events; return what is said of it."""
    return "".join(reply.take(json.dumps(event)) for event in events)


def said(*events: Json) -> str:
    return read(ResponseReply(), *events)


def run_said(*events: Json) -> str:
    return read(RunReply(), *events)


def delta(text: Any, output: int = 0, content: int = 0) -> Json:
    place = {"output_index": output, "content_index": content}
    return {"type": "response.output_text.delta", "delta": text, **place}


def text_done(text: Any, output: int = 0) -> Json:
    place = {"output_index": output, "content_index": 0}
    return {"type": "response.output_text.done", "text": text, **place}


def part_done(part: Any, output: int = 0) -> Json:
    place = {"output_index": output, "content_index": 0}
    return {"type": "response.content_part.done", "part": part, **place}


def item_done(item: Any, output: int = 0) -> Json:
    return {"type": "response.output_item.done", "item": item, "output_index": output}


def output_text(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": []}


def message(*texts: str) -> Json:
    return {"type": "message", "role": "assistant", "content": list(map(output_text, texts))}


def completed(*items: Any) -> Json:
    return {"type": "response.completed", "response": {"output": list(items)}}


def run_delta(text: Any) -> Json:
    content = [{"index": 0, "type": "text", "text": {"value": text}}]
    return {"object": "thread.message.delta", "delta": {"content": content}}


def run_message(text: str, status: str = "completed") -> Json:
    content = [{"type": "text", "text": {"value": text, "annotations": []}}]
    return {"object": "thread.message", "status": status, "content": content}


# --- text is said once ---------------------------------------------------------------------------


def test_pieces_are_said_as_they_come() -> None:
    reply = ResponseReply()
    assert read(reply, delta("It is ")) == "It is "
    assert read(reply, delta("nine.")) == "nine."


EVERY_WAY = {
    "by pieces": [delta("It is "), delta("nine.")],
    "when the text is done": [text_done("It is nine.")],
    "when the part is done": [part_done(output_text("It is nine."))],
    "when the item is done": [item_done(message("It is nine."))],
    "at the end": [completed(message("It is nine."))],
}


@pytest.mark.parametrize("way", EVERY_WAY)
def test_a_text_that_comes_only_in_one_way_is_said_once(way: str) -> None:
    assert said(*EVERY_WAY[way]).strip() == "It is nine."


@given(st.sets(st.sampled_from(sorted(EVERY_WAY)), min_size=1))
def test_a_text_that_comes_in_many_ways_is_said_once(ways: set[str]) -> None:
    events = [event for way, events in EVERY_WAY.items() if way in ways for event in events]
    assert said(*events).strip() == "It is nine."


def test_what_lacks_at_the_end_of_a_text_is_said_when_it_is_done() -> None:
    events = [delta("It is "), text_done("It is nine."), completed(message("It is nine."))]
    assert said(*events) == "It is nine.\n\n"


def test_a_piece_lost_on_the_way_is_not_made_up_for_by_saying_all_again() -> None:
    whole = "It is nine."
    events = [delta("It "), delta("nine."), text_done(whole), part_done(output_text(whole))]
    assert said(*events, item_done(message(whole)), completed(message(whole))) == "It nine.\n\n"


def test_refusals_are_said_in_whichever_way_they_come() -> None:
    piece = {"type": "response.refusal.delta", "delta": "I can't ", **FIRST}
    done = {"type": "response.refusal.done", "refusal": "I can't tell.", **FIRST}
    part = {"type": "refusal", "refusal": "I can't tell."}
    item = {"type": "message", "content": [part]}
    for events in ([piece, done], [part_done(part)], [item_done(item)], [completed(item)]):
        assert said(*events).strip() == "I can't tell."


def test_commentary_and_answer_are_paragraphs_of_their_own() -> None:
    commentary, answer = "Let me check", "It is Monday."
    whole = completed(message(commentary), message(answer))
    assert said(whole) == f"{commentary}\n\n{answer}"
    done = [delta(commentary), text_done(commentary), delta(answer, 1), text_done(answer, 1)]
    assert said(*done, whole) == f"{commentary}\n\n{answer}\n\n"


@pytest.mark.parametrize(
    "commentary", ["Let me check", "Sure, I can check that for you. One moment, please.", "OK."]
)
def test_all_of_a_commentary_is_said_before_the_tool_is_waited_for(commentary: str) -> None:
    reply = ResponseReply()

    def pieces() -> Iterator[str]:
        yield read(reply, delta(commentary))
        yield read(reply, text_done(commentary))
        raise TimeoutError  # the tool works

    spoken = sentences(pieces())
    said_before: list[str] = []
    with pytest.raises(TimeoutError):
        said_before.extend(spoken)
    assert " ".join(said_before) == commentary


def test_parts_whose_ends_are_not_told_are_paragraphs_of_their_own() -> None:
    assert said(delta("Let me check"), delta("It is Monday.", 1)) == "Let me check\n\nIt is Monday."


def test_a_part_that_only_the_end_tells_of_is_said_there() -> None:
    events = [delta("Let me check"), completed(message("Let me check"), message("It is Monday."))]
    assert said(*events) == "Let me check\n\nIt is Monday."


def test_parts_that_are_counted_in_another_way_at_the_end_are_not_said_again() -> None:
    reasoning = {"type": "reasoning", "summary": []}
    events = [delta("It is nine."), text_done("It is nine.")]
    assert said(*events, completed(reasoning, message("It is nine."))) == "It is nine.\n\n"


def test_parts_that_are_not_counted_at_all_are_said_once() -> None:
    pieces: list[Json] = []
    for text in ("Let me check", "It is Monday."):
        pieces.append({"type": "response.output_text.delta", "delta": text})
        pieces.append({"type": "response.output_text.done", "text": text})
    whole = completed(message("Let me check"), message("It is Monday."))
    assert said(*pieces, whole) == "Let me check\n\nIt is Monday.\n\n"


def test_reasoning_is_not_said() -> None:
    part = {"type": "reasoning_text", "text": "The caller is rude."}
    item = {"type": "reasoning", "content": [part], "summary": [{"text": "Rude."}]}
    thought = {"type": "response.reasoning_text.delta", "delta": "The caller is rude.", **FIRST}
    events = [thought, part_done(part), item_done(item), delta("Good day!", 1)]
    assert said(*events, completed(item, message("Good day!"))) == "Good day!"


def test_arguments_of_tools_and_code_are_not_said() -> None:
    arguments = {"type": "response.function_call_arguments.delta", "delta": "{}"}
    code = {"type": "response.code_interpreter_call_code.done", "code": "print()"}
    reply = ResponseReply()
    assert read(reply, arguments, code) == ""
    assert "print" not in reply.failure


def test_an_assistant_s_messages_are_said_once_each_in_paragraphs_of_their_own() -> None:
    first = [run_delta("Let me "), run_delta("check"), run_message("Let me check")]
    begun = run_message("", "in_progress")
    assert run_said(begun, *first, begun, run_message("It is Monday.")) == (
        "Let me check\n\nIt is Monday.\n\n"
    )


def test_an_assistant_s_refusal_is_said() -> None:
    refusal = {"content": [{"type": "refusal", "refusal": "I can't tell."}]}
    assert run_said({"object": "thread.message.delta", "delta": refusal}) == "I can't tell."


# --- how a reply ends ----------------------------------------------------------------------------


def test_a_reply_is_whole_once_it_is_completed() -> None:
    reply = ResponseReply()
    read(reply, delta("It is nine."))
    assert reply.failure
    read(reply, COMPLETED, {"type": "response.usage"}, {"unheard": "of"})
    assert reply.failure == ""


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (
            {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "r1"}}},
            "response.incomplete r1",
        ),
        (
            {"type": "response.failed", "response": {"error": {"code": "c1", "message": "m1"}}},
            "response.failed c1 m1",
        ),
        ({"type": "error", "code": "c1", "message": "m1"}, "error c1 m1"),
        ({"type": "error", "error": {"code": "c1", "message": "m1"}}, "error c1 m1"),
        ({"error": {"message": "m1"}}, "m1"),
        ({"error": "overloaded"}, "overloaded"),
        ({"type": "response.created", "response": {"output": None}}, "the stream ended"),
    ],
)
def test_a_reply_that_broke_off_says_why(event: Json, reason: str) -> None:
    reply = ResponseReply()
    read(reply, delta("It is "), event)
    assert reply.failure == f"the reply broke off: {reason}"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (
            {"object": "thread.run", "status": "failed", "last_error": {"code": "c1"}},
            "failed c1",
        ),
        (
            {
                "object": "thread.run",
                "status": "incomplete",
                "incomplete_details": {"reason": "r1"},
            },
            "incomplete r1",
        ),
        ({"object": "thread.run", "status": "expired", "last_error": None}, "expired"),
        ({"error": {"code": "c1", "message": "m1"}}, "c1 m1"),
        ({"object": "thread.message", "status": "in_progress"}, "the stream ended"),
    ],
)
def test_a_run_that_broke_off_says_why(event: Json, reason: str) -> None:
    reply = RunReply()
    read(reply, event)
    assert reply.failure == f"the run broke off: {reason}"


def test_a_run_is_whole_once_it_is_completed() -> None:
    reply = RunReply()
    read(reply, RUN_COMPLETED)
    assert reply.failure == ""


@pytest.mark.parametrize("event", [item_done, completed])
def test_a_reply_that_asks_for_a_tool_is_none_and_tells_the_call_s_id(event: Any) -> None:
    reply = ResponseReply()
    read(reply, event({"type": "function_call", "call_id": "call_1"}), COMPLETED)
    assert reply.tool_calls == {"call_1"}
    assert reply.failure == NO_TOOLS


def test_tools_that_openai_runs_itself_do_not_matter() -> None:
    reply = ResponseReply()
    read(reply, completed({"type": "web_search_call", "id": "ws_1", "status": "completed"}))
    assert reply.tool_calls == set()
    assert reply.failure == ""


def test_a_run_that_asks_for_a_tool_is_no_reply() -> None:
    reply = RunReply()
    read(reply, {"object": "thread.run", "status": "requires_action"})
    assert reply.asks_for_tools
    assert reply.failure == NO_TOOLS


def test_a_conversation_is_broken_only_if_nothing_was_said() -> None:
    end = {"type": "error", "code": "context_length_exceeded"}
    silent, begun = ResponseReply(), ResponseReply()
    read(silent, end)
    read(begun, delta("It is "), end)
    assert silent.conversation_is_broken
    assert not begun.conversation_is_broken


# --- oddities ------------------------------------------------------------------------------------

ODD: st.SearchStrategy[Any] = st.sampled_from([None, True, 7, -1.5, "", "x", [], {}, [None]])
FIELDS = ["type", "delta", "text", "part", "item", "response", "output_index", "error", "content"]
# What tells of an error or speaks is no oddity
TYPES = st.sampled_from(["response.output_item.added", "response.content_part.added", "ping"])


@given(st.dictionaries(st.sampled_from([*FIELDS, "unheard of"]), ODD), TYPES, st.integers(0, 3))
def test_an_odd_event_harms_nothing(odd: Json, kind: str, place: int) -> None:
    whole = "It is nine."
    events = [delta("It is "), delta("nine."), text_done(whole), completed(message(whole))]
    events.insert(place, {**odd, "type": kind})
    reply = ResponseReply()
    assert read(reply, *events) == f"{whole}\n\n"
    assert reply.failure == ""


@given(st.dictionaries(st.sampled_from([*FIELDS[1:], "status"]), ODD))
def test_odd_fields_of_a_known_event_are_left_out(odd: Json) -> None:
    for kind in ("delta", "done"):
        read(ResponseReply(), {**odd, "type": f"response.output_text.{kind}"})
    for kind in ("response.content_part.done", "response.output_item.done", "response.completed"):
        read(ResponseReply(), {**odd, "type": kind})
    for kind in ("thread.message.delta", "thread.message", "thread.run", ""):
        read(RunReply(), {**odd, "object": kind})


@pytest.mark.parametrize("nothing", [None, "", 7, [], {}, True])
def test_a_piece_that_is_no_text_is_left_out(nothing: Any) -> None:
    assert said(delta("It is "), delta(nothing), delta("nine.")) == "It is nine."
    assert run_said(run_delta("It is "), run_delta(nothing), run_delta("nine.")) == "It is nine."


@pytest.mark.parametrize("output", [None, "", {}, [None, 7, "x", {}, {"type": None}]])
def test_a_response_whose_output_is_odd_is_completed_all_the_same(output: Any) -> None:
    reply = ResponseReply()
    read(reply, delta("Good day!"), {"type": "response.completed", "response": {"output": output}})
    assert reply.failure == ""


def test_an_item_that_is_odd_costs_no_other() -> None:
    assert said(completed(None, {"content": None}, message("Good day!"))) == "Good day!"


@pytest.mark.parametrize("line", ["", "{", "[1]", "7", "null", '"text"', "<html>", '{"delta": "'])
def test_a_line_that_is_no_object_is_refused(line: str) -> None:
    for reply in (ResponseReply(), RunReply()):
        with pytest.raises(NotUnderstood):
            reply.take(line)


def test_letters_of_every_kind_come_through() -> None:
    text = "नमस्ते\u2028您好 😀"
    line = '{"type": "response.output_text.delta", "delta": "' + text + '"}'
    assert ResponseReply().take(line) == text
    assert said(delta(text)) == text


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (r"H\ud83di", "Hi"),
        (r"Hi\uDE00", "Hi"),
        (r"\uD83D\uDE00 Hi \ud83d\ude00\ud83d", "😀 Hi 😀"),
        (r"\ud83d\ud83d\ude00 Hi", "😀 Hi"),
        (r"\u00e9\u4f60", "é你"),
    ],
)
def test_half_a_letter_costs_no_other(written: str, text: str) -> None:
    deltas: dict[type[Reply], str] = {
        ResponseReply: '{"type": "response.output_text.delta", "delta": "%s"}',
        RunReply: '{"object": "thread.message.delta",'
        ' "delta": {"content": [{"text": {"value": "%s"}}]}}',
    }
    for kind, event in deltas.items():
        assert kind().take(event % written) == text


def test_what_only_looks_like_half_a_letter_is_left_alone() -> None:
    assert said(delta(r"Type \ud83d now")) == r"Type \ud83d now"
    output = json.dumps({"title": "Deal \ud83d"})  # of a tool: JSON in JSON, cut in mid-letter
    tool = {"type": "mcp_call", "output": output}
    reply = ResponseReply()
    read(reply, delta("It is nine."), completed(tool, message("It is nine.")))
    assert reply.failure == ""
