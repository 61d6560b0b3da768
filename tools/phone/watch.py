"""What can be seen of a call from outside, for the page."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable

from tools.app_process import Process
from tools.phone.agent_words import AgentSentence, AgentWords
from tools.phone.entries import Entries, Show
from tools.phone.tap import ASKED, FROM_APP, FROM_VOICE, FROM_WORKFLOW, Json
from tools.phone.turn_times import Stopwatch
from tools.simulator.twilio_network import Call

LOOK_SECONDS = 0.04
LAST_LINE_SECONDS = 0.5
SILENCE_MS = 500  # after the last word, until a turn has ended
SPEECH = "input_audio_buffer.speech"
TRANSCRIPT = "conversation.item.input_audio_transcription"

# What is told of the phone network, by the kind of entry in its timeline
ON_THE_PHONE = {
    "answered": "the app answers the call",
    "stream_error": "the stream is lost: {text}",
    "redirect": "Twilio asks the app how to go on",
    "dial": "Twilio dials {number}",
    "dial_answered": "a colleague answers, who is silent here: hang up when you like",
    "dial_failed": "nobody answers: {status}",
    "reject": "the app refuses the call: {reason}",
    "application_error": "an application error: {text}",
    "refused": "Twilio would not take this: {text}",
    "completed": "the call is over: {reason}",
}


class CallWatch:
    """Watch one call: the phone network's timeline, the app's log, and what passes the tap.

    `show` gets what the page is to show. Runs on the network's loop.
    """

    def __init__(self, call: Call, app: Process | None, show: Show) -> None:
        self.call = call
        self.entries = Entries(show)
        self.stopwatch = Stopwatch()
        self.barge_ins: list[float] = []  # seconds into the recording
        self._moment = 0.0  # when what is being told of happened, in the same seconds
        self._app = app
        self._show = show
        self._agent = AgentWords(self._show_sentence)
        self._partial: dict[str, str] = {}  # what is understood so far, by item
        self._silence_ms = SILENCE_MS
        self._seen_entries = 0
        self._seen_lines = len(app.lines) if app else 0
        self._cut_in_at: float | None = None

    async def keep_looking(self) -> None:
        """Look until the call is over and the app's last line about it has come, or may have."""
        while not self.call.ended:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)
        self.look()
        await asyncio.sleep(LAST_LINE_SECONDS)
        self.look()

    def tell(self, who: str, what: str) -> None:
        """Show what somebody does now."""
        self._set_moment(time.monotonic())
        self._tell(who, what)

    def _set_moment(self, monotonic: float) -> None:
        answered = self.call.answered_at or monotonic
        self._moment = max(0.0, monotonic - answered)

    def _tell(self, who: str, what: str) -> None:
        self.entries.tell(who, what, self._moment)

    def _show_sentence(self, sentence: AgentSentence) -> None:
        self.entries.put(
            f"agent-{sentence.key}",
            "agent",
            sentence.text,
            self._moment,
            state=sentence.state,
            heard=len(sentence.heard),
        )

    def _show_words(self, item: str, text: str, state: str) -> None:
        self.entries.put(f"caller-{item}", "caller", text, self._moment, state=state)

    def _show_speech(self, on: bool) -> None:
        self._show({"show": "speaks", "on": on})

    # --- the phone network and the log --------------------------------------------------------

    def look(self) -> None:
        """Take what is new in the timeline and in the log."""
        entries = self.call.timeline[self._seen_entries :]
        self._seen_entries += len(entries)
        for entry in entries:
            self._set_moment(self.call.started_at + entry.t)
            self._take_entry(entry.kind, entry.detail)
        lines = self._app.lines[self._seen_lines :] if self._app else []
        self._seen_lines += len(lines)
        for line in lines:
            self._show_line(line)

    def _show_line(self, line: str) -> None:
        """Show a line of the log, unless it is about another call."""
        about = re.search(r"\[(CA\w+).*?\] ", line)
        if about is None:
            self._show({"show": "log", "text": line})
        elif about[1] == self.call.sid:
            self._show({"show": "log", "text": line.replace(about[0], "")})

    def _take_entry(self, kind: str, detail: Json) -> None:
        handle = PHONE_EVENTS.get(kind)
        if handle:
            handle(self, detail)
        if kind in ON_THE_PHONE:
            self._tell("phone", ON_THE_PHONE[kind].format_map(detail))

    def on_answered(self, _: Json) -> None:
        self._show({"show": "call", "state": "talking"})

    def on_start(self, _: Json) -> None:
        self._agent.on_stream()

    def on_media_received(self, detail: Json) -> None:
        self._agent.on_sound(detail["ms"])
        turn = self.stopwatch.sound_came(self._moment)
        if turn:
            self._show({"show": "turn", "last_word": turn.last_word, "steps": turn.steps})
            self._tell("times", str(turn))

    def on_mark_received(self, detail: Json) -> None:
        self._agent.on_whole(detail["name"])

    def on_mark_sent_back(self, detail: Json) -> None:
        if detail["how"] == "played":
            self._agent.on_heard(detail["name"])

    def on_clear(self, detail: Json) -> None:
        self._agent.on_cut(detail["ms"])
        began = self._cut_in_at
        if began is None:
            return
        self._cut_in_at = None
        self.barge_ins.append(began)
        self._show({"show": "barge-in", "at": began})
        ms = round(1000 * (self._moment - began))
        self._tell("times", f"barge-in: silent {ms} ms after speech was noticed")

    def on_stream_ended(self, _: Json) -> None:
        self._agent.on_cut(self.call.stream.buffered_ms)
        self._show_speech(False)

    def on_dtmf(self, detail: Json) -> None:
        self._tell("caller", f"presses {detail['digit']}")

    def on_rest(self, detail: Json) -> None:
        what = "hang up" if "Status" in detail else "do something else with the call"
        self._tell("phone", f"the app has Twilio {what}")

    def on_say(self, detail: Json) -> None:
        self._tell("twilio", detail["text"])

    def on_completed(self, detail: Json) -> None:
        self._agent.on_cut(0)
        self._show({"show": "call", "state": "over", "why": detail["reason"]})

    # --- what passes between the app and OpenAI -----------------------------------------------

    def take(self, source: str, event: Json) -> None:
        """Take what has passed the tap, after all that the phone network has noted before."""
        self.look()
        self._set_moment(time.monotonic())
        kind = "" if source in (ASKED, FROM_WORKFLOW) else event.get("type", "")
        handle = TAP_EVENTS.get((source, kind))
        if handle:
            handle(self, event)

    def on_asked(self, body: Json) -> None:
        for text in messages_in(body):
            self._tell("workflow", text)

    def on_reply(self, event: Json) -> None:
        if text_of(event):
            self.stopwatch.text_came(self._moment)

    def on_session_update(self, event: Json) -> None:
        turns = event["session"]["audio"]["input"].get("turn_detection") or {}
        self._silence_ms = turns.get("silence_duration_ms", SILENCE_MS)

    def on_response_create(self, event: Json) -> None:
        self._agent.on_asked(event["response"])

    def on_response_done(self, event: Json) -> None:
        response = event["response"]
        if response["status"] != "completed" and response.get("metadata"):
            (mark,) = response["metadata"].values()
            self._agent.on_given_up(mark)

    def on_speech_started(self, event: Json) -> None:
        self.stopwatch.caller_speaks()
        self._cut_in_at = self._moment if self._agent.sounding else None
        self._show_speech(True)
        self._show_words(event["item_id"], "…", "speaking")

    def on_speech_stopped(self, event: Json) -> None:
        self.stopwatch.caller_stopped(self._moment - self._silence_ms / 1000)
        self._show_speech(False)
        self._show_words(event["item_id"], "…", "awaited")

    def on_words(self, event: Json) -> None:
        item = event["item_id"]
        words = self._partial.get(item, "") + event["delta"]
        self._partial[item] = words
        self._show_words(item, words, "awaited")

    def on_transcript(self, event: Json) -> None:
        self.stopwatch.transcribed(self._moment)
        item, text = event["item_id"], event["transcript"]
        if text.strip():
            self._show_words(item, text, "said")
        else:
            self._show_words(item, "(a noise without words)", "noise")

    def on_no_transcript(self, event: Json) -> None:
        self._show_words(event["item_id"], "(not understood)", "noise")


PHONE_EVENTS: dict[str, Callable[[CallWatch, Json], None]] = {
    "answered": CallWatch.on_answered,
    "start": CallWatch.on_start,
    "media_received": CallWatch.on_media_received,
    "mark_received": CallWatch.on_mark_received,
    "mark_sent_back": CallWatch.on_mark_sent_back,
    "clear": CallWatch.on_clear,
    "stream_error": CallWatch.on_stream_ended,
    "stream_stopped": CallWatch.on_stream_ended,
    "dtmf": CallWatch.on_dtmf,
    "rest": CallWatch.on_rest,
    "say": CallWatch.on_say,
    "completed": CallWatch.on_completed,
}
TAP_EVENTS: dict[tuple[str, str], Callable[[CallWatch, Json], None]] = {
    (ASKED, ""): CallWatch.on_asked,
    (FROM_WORKFLOW, ""): CallWatch.on_reply,
    (FROM_APP, "session.update"): CallWatch.on_session_update,
    (FROM_APP, "response.create"): CallWatch.on_response_create,
    (FROM_VOICE, "response.done"): CallWatch.on_response_done,
    (FROM_VOICE, f"{SPEECH}_started"): CallWatch.on_speech_started,
    (FROM_VOICE, f"{SPEECH}_stopped"): CallWatch.on_speech_stopped,
    (FROM_VOICE, f"{TRANSCRIPT}.delta"): CallWatch.on_words,
    (FROM_VOICE, f"{TRANSCRIPT}.completed"): CallWatch.on_transcript,
    (FROM_VOICE, f"{TRANSCRIPT}.failed"): CallWatch.on_no_transcript,
}


def messages_in(body: Json) -> list[str]:
    """Return what a request tells the workflow, of whichever kind it is."""
    told = body.get("input") or body.get("items") or body.get("messages") or [body]
    if isinstance(told, str):
        return [told]
    texts = [each.get("content") for each in told]
    return [text for text in texts if isinstance(text, str)]


def text_of(event: Json) -> str:
    """Return the text that an event of a streamed reply brings."""
    delta = event.get("delta", "")
    if isinstance(delta, dict):  # of an Assistants-compatible endpoint
        parts = delta.get("content") or []
        return "".join(part.get("text", {}).get("value", "") for part in parts)
    return str(delta)
