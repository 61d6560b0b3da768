"""One phone call: the caller's stream on one side, OpenAI Realtime, ears and mouth, on the other."""

import itertools
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Queue
from typing import Any

import openai
import simple_websocket
import websocket

import utils
from workflow_client import WorkflowClient, WorkflowError

log = logging.getLogger("voice_agent")
now = time.monotonic
Event = dict[str, Any]
CUT_IN = '[The caller cut in. Of your last reply they had heard: "{}"]'
LINE_LOST = "[The line was lost for a moment. The caller may not have heard your last reply.]"
READ_ALOUD = "Read the user's text aloud, word for word. Add nothing, answer nothing."
GONE = (OSError, websocket.WebSocketException, simple_websocket.ConnectionClosed)
SOCKET: Any = {"redirect_limit": 0, "skip_utf8_validation": True, "enable_multithread": True}


@dataclass(eq=False)
class Utterance:
    """One thing to say; or to do, when all before it has been heard: `[hangup]`, `[transfer]`."""

    text: str
    reply: bool  # the workflow's words, not the service's own
    name: str = ""  # of its response and its mark, new each time it is spoken
    audio_ms: float = 0.0  # sent to Twilio


class VoiceHandler:
    """Carry one call from its stream's `start` to its end.

    Three threads meet here: the request's own reads Twilio (`read_stream`) and, since a frame comes
    every 20 ms, keeps the time; one reads Realtime (`listen`); one reads the workflow (`answer`).
    All they share is touched under the call's one lock. A method `on_…` takes the message or event
    of that name, from either socket.
    """

    def __init__(self, twilio: Any, settings: Any, workflow: WorkflowClient, control: Any) -> None:
        """Take the call's stream; `control(action, call_sid, called)` hangs up or transfers."""
        self.twilio, self.realtime = twilio, websocket.WebSocket()
        self.settings, self.workflow, self.control = settings, workflow, control
        self.encode = utils.transcoder(utils.mulaw_to_pcm16, settings.realtime_session)
        self.decode = utils.transcoder(utils.pcm16_to_mulaw, settings.realtime_session)
        self.lock, self.over = threading.RLock(), threading.Event()
        self.hearing: dict[str, str | None] = {}  # what the caller says now: item -> its words
        self.inbox: Queue[tuple[int, str] | None] = Queue()  # what was said, for the workflow
        self.queue: deque[Utterance] = deque()  # to be spoken
        self.spoken: deque[Utterance] = deque()  # spoken, not yet heard
        self.in_flight: Utterance | None = None  # the last of them, while it is being generated
        self.timers: dict[Callable[[], Any], float] = {}
        self.clock: list[float] = []  # this turn's last word, transcript, first text
        self.call_sid = self.response_id = self.heard = self.cut = self.note = self.digits = ""
        self.turn, self.failures, self.playing_since = 0, 0, 0.0
        self.ready = self.prompted = False
        self.names = map(str, itertools.count(1))
        self.fillers = itertools.cycle(settings.filler.split("|"))

    # --- the two sockets ------------------------------------------------------------------------

    def read_stream(self) -> None:
        """Read Twilio until the stream ends, in the request's thread."""
        with suppress(*GONE):
            while message := self.twilio.receive(timeout=10):  # frames come every 20 ms
                self.dispatch(message, "event")
        self.close()
        self.inbox.put(None)
        self.workflow.calls.pop(self.call_sid, None)
        log.info("[%s] call ended", self.call_sid)

    def listen(self) -> None:
        """Keep a Realtime session while the call lasts; without one, leave the call to Twilio."""
        url = f"ws{self.settings.openai_base_url[4:]}/realtime?model={self.settings.realtime_model}"
        key = {"Authorization": f"Bearer {self.settings.openai_api_key}"}
        while self.failures < 4 and not self.over.wait(self.failures * 0.5):
            try:
                self.realtime = websocket.create_connection(url, 5, header=key, **SOCKET)
                self.realtime.settimeout(None)
                while event := self.realtime.recv():
                    self.dispatch(event, "type")
            except GONE as error:
                log.warning("[%s] no Realtime session: %r", self.call_sid, error)
            with self.lock:
                self.ready, self.failures = False, self.failures + 1
                self.hearing.clear()
                self.interrupt()
        self.close()

    def dispatch(self, raw: str | bytes, kind: str) -> None:
        """Pass a message to the method named after its kind; what is wrong with it ends here."""
        try:
            message = json.loads(raw)
            handle = getattr(self, "on_" + message[kind].replace(".", "_"), None)
            with self.lock:
                if handle:
                    handle(message)
                self.go_on()
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            log.warning("[%s] ignored a message that makes no sense: %r", self.call_sid, error)

    def to_twilio(self, event: str, **body: Any) -> None:
        """Send a message; on a dead socket nothing is sent, and the reader finds out."""
        with suppress(*GONE):
            self.twilio.send(json.dumps({"event": event, "streamSid": self.stream_sid, **body}))

    def to_realtime(self, kind: str, **body: Any) -> None:
        """Send an event, likewise."""
        with suppress(*GONE):
            self.realtime.send(json.dumps({"type": kind, **body}))

    def close(self) -> None:
        """End the stream. Twilio goes on with the TwiML after `<Connect>`."""
        self.over.set()
        self.realtime.abort()
        with suppress(*GONE):
            self.twilio.close()

    # --- the caller's side ----------------------------------------------------------------------

    def on_start(self, message: Event) -> None:
        """Begin the call with a greeting, or go on with one that was cut off."""
        self.stream_sid, start = message["streamSid"], message["start"]
        self.call_sid, self.about = start["callSid"], start["customParameters"]
        self.workflow.calls[self.call_sid] = self.about
        self.note = LINE_LOST if self.about["attempt"] != "0" else ""
        log.info("[%s] call %s", self.call_sid, "resumed" if self.note else "started")
        self.say(self.settings.bridge if self.note else self.settings.greeting)
        self.after(self.settings.max_call_seconds, self.end_longest_call)
        for work in (self.listen, self.answer):
            threading.Thread(target=work, daemon=True).start()

    def on_media(self, message: Event) -> None:
        """Relay 20 ms of the caller's sound, then do what is due."""
        if self.ready:
            audio = self.encode(message["media"]["payload"])
            self.to_realtime("input_audio_buffer.append", audio=audio)
        for act in [act for act, due in self.timers.items() if now() >= due]:
            if self.timers.pop(act, None):
                act()

    def on_dtmf(self, message: Event) -> None:
        """Gather keys until `#` or a pause; they interrupt like speech."""
        self.interrupt()
        self.digits += message["dtmf"]["digit"]
        self.hearing["keypad"], self.clock = None, [now()]
        self.after(0.01 if self.digits.endswith("#") else 2, self.end_number)

    def end_number(self) -> None:
        """Take the keys pressed as one message."""
        digits, self.digits = self.digits.strip("#") or "#", ""
        self.on_words("keypad", f"[The caller pressed {digits} on the keypad.]")

    def on_mark(self, message: Event) -> None:
        """Note what has been heard. A mark that `clear` sent back names nothing in `spoken`."""
        while message["mark"]["name"] in [utterance.name for utterance in self.spoken]:
            heard, self.playing_since = self.spoken.popleft(), now()
            self.heard += f"{heard.text} " * heard.reply

    # --- what Realtime hears --------------------------------------------------------------------

    def on_session_created(self, event: Event) -> None:
        """Configure the new session."""
        self.to_realtime("session.update", session=self.settings.realtime_session)

    def on_session_updated(self, event: Event) -> None:
        """Begin to relay, and to speak."""
        self.ready = True

    def on_input_audio_buffer_speech_started(self, event: Event) -> None:
        """Fall silent and listen."""
        self.interrupt()
        self.hearing[event["item_id"]] = None
        self.after(30, self.settle)

    def on_input_audio_buffer_speech_stopped(self, event: Event) -> None:
        """Wait a little for the words."""
        vad = self.settings.realtime_session["audio"]["input"]["turn_detection"]
        self.clock = [now() - vad.get("silence_duration_ms", 500) / 1000]
        self.after(2.5, self.settle)

    def on_conversation_item_input_audio_transcription_completed(self, event: Event) -> None:
        """Take the words of one stretch of speech."""
        self.on_words(event["item_id"], event["transcript"].strip())

    def on_conversation_item_input_audio_transcription_failed(self, event: Event) -> None:
        """Ask the caller to say it again."""
        log.warning("[%s] transcription failed: %s", self.call_sid, event["error"])
        self.drop_reply()
        self.say(self.settings.say_again)
        self.on_words(event["item_id"], "")

    def on_words(self, item: str, words: str) -> None:
        """Note what a stretch of speech, or of keys, says; act when no more is on its way."""
        self.hearing[item] = words
        if None not in self.hearing.values():
            self.settle()

    def settle(self) -> None:
        """Send on what the caller said; if it was nothing, what was cut short is said again."""
        words = " ".join(filter(None, self.hearing.values()))
        self.hearing.clear()
        self.timers.pop(self.settle, None)
        if words:
            self.clock.append(now())
            self.drop_reply()
            self.inbox.put((self.turn, f"{self.note} {words}".strip()))
            self.note, self.heard, self.prompted = "", "", False
            self.after(self.settings.filler_seconds, self.fill)

    # --- what is said ---------------------------------------------------------------------------

    def say(self, text: str, reply: bool = False) -> None:
        """Have a sentence spoken, or an action done, after all that is to be said before it."""
        self.queue.append(Utterance(text, reply))
        self.go_on()

    def go_on(self) -> None:
        """Say the next thing if the line is free; with nothing left, wait for the caller."""
        if self.queue or self.spoken or self.inbox.unfinished_tasks or self.hearing:
            self.timers.pop(self.prompt, None)
        elif self.prompt not in self.timers:
            self.after(self.settings.idle_seconds, self.prompt)
        if not self.queue or not self.ready or self.in_flight or None in self.hearing.values():
            return
        if (text := self.queue[0].text) in ("[hangup]", "[transfer]"):
            if not self.spoken and self.queue.popleft():
                threading.Thread(target=self.act, args=[text], daemon=True).start()
            return
        self.in_flight = self.queue.popleft()
        self.spoken.append(self.in_flight)
        self.in_flight.name, self.in_flight.audio_ms, self.response_id = next(self.names), 0, ""
        content = [{"type": "input_text", "text": text}]
        response: Event = {"conversation": "none", "instructions": READ_ALOUD}
        response["input"] = [{"type": "message", "role": "user", "content": content}]
        response["metadata"] = {"utterance": self.in_flight.name}
        self.to_realtime("response.create", event_id=self.in_flight.name, response=response)

    def on_response_created(self, event: Event) -> None:
        """Learn the ID of the response in flight; cancel any other."""
        response = event["response"]
        name = (response["metadata"] or {}).get("utterance")
        if self.in_flight and self.in_flight.name == name:
            self.response_id = response["id"]
        else:  # interrupted before its ID was known, or never asked for
            self.to_realtime("response.cancel", response_id=response["id"])

    def on_response_output_audio_delta(self, event: Event) -> None:
        """Relay the sound of the utterance in flight."""
        if self.in_flight and event["response_id"] == self.response_id:
            if not self.in_flight.audio_ms and self.in_flight is self.spoken[0]:
                self.playing_since = now()
            if self.in_flight.reply and len(self.clock) == 3:
                times = [f"{(at - self.clock[0]) * 1000:.0f} ms" for at in (*self.clock[1:], now())]
                log.info("[%s] from last word to transcript, text, audio: %s", self.call_sid, times)
                self.clock = []
            audio = self.decode(event["delta"])
            self.in_flight.audio_ms += len(audio) * 3 / 4 / 8
            self.to_twilio("media", media={"payload": audio})

    def on_response_output_audio_transcript_done(self, event: Event) -> None:
        """Check that what was said is what was asked for."""
        if self.in_flight and event["response_id"] == self.response_id:
            asked, said = self.in_flight.text, event["transcript"]
            if not utils.same_words(asked, said):
                log.warning("[%s] asked to say %r, said %r", self.call_sid, asked, said)

    def on_response_done(self, event: Event) -> None:
        """Ask to be told when the utterance has been heard."""
        if self.in_flight and event["response"]["id"] == self.response_id:
            self.end_utterance(event["response"]["status"])

    def on_error(self, event: Event) -> None:
        """Log what Realtime refused; a refused session can't serve the call."""
        error = event["error"]
        log.warning("[%s] Realtime: %s (%s)", self.call_sid, error["message"], error.get("param"))
        if not self.ready:
            self.close()
        elif self.in_flight and error.get("event_id") == self.in_flight.name:
            self.end_utterance("refused")

    def end_utterance(self, status: str) -> None:
        """Mark the end of the utterance in flight, however it came."""
        if self.in_flight:
            if status != "completed":
                log.error("[%s] not spoken, %s: %r", self.call_sid, status, self.in_flight.text)
            self.to_twilio("mark", mark={"name": self.in_flight.name})
        self.in_flight, self.failures = None, 0

    def interrupt(self) -> None:
        """Fall silent at once. What was not heard waits: it is said again, or dropped."""
        if self.spoken and self.spoken[0].audio_ms:
            self.to_twilio("clear")
            cut, played = self.spoken[0], (now() - self.playing_since) * 1000
            whole = max(cut.audio_ms, len(cut.text) * 65 * (cut is self.in_flight))
            self.cut = utils.heard_part(cut.text, played / whole) if cut.reply else ""
        if self.in_flight and self.response_id:
            self.to_realtime("response.cancel", response_id=self.response_id)
        self.in_flight = None
        self.queue.extendleft(reversed(self.spoken))
        self.spoken.clear()

    def drop_reply(self) -> None:
        """Forget what was still to be said; the next message tells what was heard of it."""
        self.interrupt()
        unheard = " ".join(utterance.text for utterance in self.queue if utterance.reply)
        if self.inbox.unfinished_tasks or unheard != self.cut:
            self.note = CUT_IN.format((self.heard + self.cut).strip())
        self.turn, self.cut = self.turn + 1, ""
        self.queue.clear()
        self.timers.pop(self.fill, None)

    # --- the workflow ---------------------------------------------------------------------------

    def answer(self) -> None:
        """Send every message to the workflow and have its reply spoken; in a thread of its own."""
        for turn, message in iter(self.inbox.get, None):
            try:
                self.speak_reply(turn, self.workflow.send_message(self.call_sid, message))
            except Exception as error:
                known = isinstance(error, WorkflowError | openai.OpenAIError)
                log.error("[%s] no reply: %s", self.call_sid, error, exc_info=not known)
                with self.lock:
                    if turn == self.turn:
                        self.timers.pop(self.fill, None)
                        self.say(self.settings.apology)
            self.inbox.task_done()

    def speak_reply(self, turn: int, reply: Iterator[str]) -> None:
        """Queue a reply sentence by sentence, until the caller has gone on to another turn."""
        text, sentence = next(reply, ""), ""
        with self.lock:
            self.clock += [now()] * (turn == self.turn)
        for sentence in utils.sentences(itertools.chain([text], reply)):
            with self.lock:
                if turn != self.turn:
                    return reply.close()
                self.timers.pop(self.fill, None)
                self.say(sentence, reply=True)
        if not sentence:
            raise WorkflowError("the reply is empty")

    # --- time -----------------------------------------------------------------------------------

    def after(self, seconds: float, act: Callable[[], Any]) -> None:
        """Do something when so much time has passed; 0 seconds, from a setting, mean never."""
        if seconds:
            self.timers[act] = now() + seconds

    def fill(self) -> None:
        """Bridge the workflow's silence."""
        if not self.hearing:
            self.say(next(self.fillers))
        self.after(8, self.fill)

    def prompt(self) -> None:
        """Ask a silent caller whether they are there; the second time, say goodbye."""
        self.say(self.settings.goodbye if self.prompted else self.settings.idle_prompt)
        if self.prompted:
            self.say("[hangup]")
        self.prompted = True

    def end_longest_call(self) -> None:
        """Say goodbye, and hang up even if the caller goes on talking."""
        self.drop_reply()
        self.prompted = True
        self.prompt()
        self.after(20, lambda: self.act("[hangup]"))

    def act(self, action: str) -> None:
        """Hang up or transfer; in a thread of its own, since REST may take seconds."""
        if not self.control(action, self.call_sid, self.about["called"]):
            with self.lock:
                self.close() if action == "[hangup]" else self.say(self.settings.no_transfer)
