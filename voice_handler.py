"""One phone call: the caller's stream on one side, OpenAI Realtime on the other."""

import json
from collections import Counter, deque
from contextlib import suppress
from itertools import count, cycle, takewhile
from queue import Queue
from threading import Event, Lock, Thread
from time import monotonic as now
from typing import Any

from websocket import ABNF, WebSocket, WebSocketException, create_connection
from wsproto import events, utilities

from utils import MEDIA, heard_part, log, same_words, sentences
from workflow_client import FAILURES, WorkflowClient, WorkflowError

# How a dead socket shows. RuntimeError is the base of simple-websocket's ConnectionClosed, and an
# AssertionError gevent's, when two send at once.
GONE = (OSError, RuntimeError, AssertionError, WebSocketException, utilities.ProtocolError)
DRAINING = Event()  # this process is to stop: it hands its calls over
SAFE: Any = {"redirect_limit": 0, "skip_utf8_validation": True}


class VoiceHandler:
    """Carry one call from its stream's `start` to its end.

    Three threads meet here: the request's own reads Twilio (`read_stream`) and, since a frame comes
    every 20 ms, keeps the time; one reads Realtime (`listen`); one reads the workflow (`answer`).
    All they share is touched under the call's one lock. A method `on_…` takes the message of that
    name, or the event whose name ends so, from either socket. A lost Realtime session is replaced.
    When the stream is lost the call isn't saved here: Twilio follows the TwiML back to `/voice`, to
    whichever process answers, and there the conversation goes on.
    """

    def __init__(self, twilio: Any, settings: Any, workflow: WorkflowClient, control: Any) -> None:
        """Take the call's stream; `control(action, call_sid, called)` hangs up or transfers."""
        self.twilio, self.realtime, self.notes = twilio, WebSocket(), settings.notes
        self.settings, self.workflow, self.control, self.lock = settings, workflow, control, Lock()
        # What the caller says now: item -> its words; what is to be done: method -> when it is due
        self.hearing, self.timers = dict[str, str | None](), dict[Any, float]()
        # What was said, for the workflow; what is to be spoken; the names of marks
        self.inbox, self.queue, self.names = Queue[tuple[int, str] | None](), deque[str](), count(1)
        # Sound on its way to Realtime, as JSON strings: 10 s of it at most
        self.sound, self.ending = deque[bytes](maxlen=500), [settings.goodbye, "[hangup]"]
        # By mark: what was spoken but not yet heard, and how many ms of it were sent to Twilio;
        # `clock`: when this turn's last word was said, its transcript came, and the first text
        self.spoken, self.audio_ms, self.clock = dict[str, str](), Counter[str](), list[float]()
        self.call_sid = self.in_flight = self.response_id = self.heard = self.cut = self.keys = ""
        self.turn, self.playing_since, self.fillers = 0, 0.0, cycle(settings.filler.split("|"))
        self.ready, self.prompted, self.over, self.next_look = False, False, False, 0.0

    # --- the two sockets ------------------------------------------------------------------------

    def read_stream(self) -> None:
        """Read Twilio until the stream ends, in the request's thread.

        A text in one frame, as every message of Twilio's is, is taken out of it here (RFC 6455,
        5.2); simple-websocket, which has all other frames, would make a call a third dearer.
        Sound takes a short cut, past the call's lock; five times a second it goes the long way,
        which keeps the time: that makes a call a tenth cheaper.
        """
        self.twilio.sock.settimeout(10)  # Twilio sends a frame every 20 ms, and reads as it plays
        self.reader = self.twilio.sock.dup()
        # ValueError: no UTF-8
        with suppress(ValueError, *GONE), self.reader, self.reader.makefile("rb", 2048) as rx:
            # What is not masked, or longer than 64 KiB, ends the stream.
            while self.twilio.connected and len(head := rx.read(2)) == 2 and 127 < head[1] < 255:
                long = rx.read(2) if head[1] == 254 else b""
                text = ABNF.mask(rx.read(4), rx.read(int.from_bytes(long, "big") or head[1] - 128))
                if head[0] == 0x81 and self.twilio.incoming_message is None:
                    sound = now() < self.next_look and MEDIA(text)
                    self.relay(self.realtime, sound[1]) if sound else self.dispatch(text.decode())
                else:
                    self.twilio.ws.receive_data(head + long + bytes(4) + text)
                    self.twilio.connected = self.twilio._handle_events()
                while self.twilio.input_buffer:
                    self.dispatch(str(self.twilio.input_buffer.pop()))  # bytes: no JSON
            self.twilio.sock.shutdown(1)  # so that werkzeug adds no HTTP response
        self.close()
        self.inbox.put(None)
        log.info("[%s] call ended", self.call_sid)

    def listen(self) -> None:
        """Keep a Realtime session: what was cut when one was lost is said again by the next.

        When three have been replaced the stream ends, and Twilio comes back with the conversation.
        """
        url = f"ws{self.settings.openai_base_url[4:]}/realtime?model={self.settings.realtime_model}"
        key = {"Authorization": f"Bearer {self.settings.openai_api_key}"}
        for pause in takewhile(lambda _: self.twilio.connected, (0, 0.5, 1, 2)):
            try:
                with self.lock:
                    self.interrupt()
                    self.ready, lost = False, self.notes["inaudible"]
                    self.hearing = {item: words or lost for item, words in self.hearing.items()}
                    self.settle() if not self.keys else None  # more digits may come
                DRAINING.wait(pause)  # a process that is to stop doesn't wait
                # Nothing pings while Twilio is silent, and so Realtime is, too.
                self.twilio.sock.shutdown(2) if now() > self.next_look + 10 else None
                self.realtime = create_connection(url, 5, header=key, **SAFE)
                self.to_realtime("session.update", session=self.settings.realtime_session)
                while self.twilio.connected and (event := self.realtime.recv()):
                    self.dispatch(event, "type")
            except (ValueError, *GONE) as error:
                if self.twilio.connected:
                    log.warning("[%s] Realtime is gone: %r", self.call_sid, error)
            self.realtime.shutdown()
        self.close()

    def dispatch(self, raw: str | bytes, kind: str = "event") -> None:
        """Pass a message to the method named after its kind; what is wrong with it ends here."""
        try:
            message = json.loads(raw)
            with self.lock:
                # What has no method is of no concern here, and `bool` does nothing
                getattr(self, "on_" + "_".join(message[kind].split(".")[-2:]), bool)(message)
                self.go_on()
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            log.warning("[%s] ignored a message that makes no sense: %r", self.call_sid, error)

    def to_twilio(self, event: str, **body: Any) -> None:
        """Send Twilio a whole message (the library's own `send` may stop half-way).

        With half a message out nothing more can be said: that ends the stream.
        """
        text = json.dumps({"event": event, "streamSid": self.stream_sid, **body})
        with suppress(*GONE):
            return self.twilio.sock.sendall(self.twilio.ws.send(events.TextMessage(text)))
        self.twilio.sock.shutdown(2)

    def to_realtime(self, kind: str, **body: Any) -> None:
        """Send Realtime an event; into a dead socket nothing is sent, and its reader finds out."""
        with suppress(*GONE):
            self.realtime.send(json.dumps({"type": kind, **body}))

    def close(self) -> None:
        """End the stream. Twilio goes on with the TwiML after `<Connect>`."""
        with suppress(*GONE):
            self.twilio.close() or self.twilio.sock.shutdown(0)  # which ends `read_stream`
        self.realtime.abort()

    # --- the caller's side ----------------------------------------------------------------------

    def on_start(self, message: Any) -> None:
        """Begin the call with a greeting, or go on with one that was cut off."""
        self.on_start = lambda message: None  # type: ignore[method-assign]  # once is enough
        self.stream_sid, start, self.next_look = message["streamSid"], message["start"], now()
        self.call_sid, self.about = start["callSid"], start["customParameters"]
        self.note = self.notes["line_lost"] if self.about["attempt"] != "0" else ""
        log.info("[%s] call %s", self.call_sid, "resumed" if self.note else "started")
        self.queue.append(self.settings.bridge if self.note else self.settings.greeting)
        self.timers |= {self.end: now() + self.settings.max_call_seconds, self.ping: now()}
        self.workflow.calls[self.call_sid] = self.about
        for work in (self.listen, self.answer):
            Thread(target=work, daemon=True).start()
        # gevent would start a timer for every frame. From here on `listen` minds silence.
        self.reader.settimeout(None if self.twilio.mode == "gunicorn" else 10)

    def on_media(self, message: Any) -> None:
        """Relay sound, in whatever shape it comes, and do what is due."""
        self.next_look = now() + 0.2
        self.relay(self.realtime, json.dumps(message["media"]["payload"]).encode())
        for act in [act for act, due in self.timers.items() if now() >= due]:
            self.timers.pop(act, None) and act()

    def relay(self, realtime: WebSocket, sound: bytes) -> None:
        """Relay 20 ms of the caller's sound, base64 in quotes, or keep it for the next session.

        The session is taken before it is known to be ready: none gets sound before its settings.
        The frame is made here, too, with a mask of zeros: websocket-client's way would be a fifth
        of what a call costs.
        """
        self.sound.append(sound)
        while self.ready and self.sound and not self.over:
            # With 80 letters of sound, or spaces, the text's length takes two bytes
            text = b'{"type": "input_audio_buffer.append", "audio": %80b}' % self.sound.popleft()
            # Longer than a frame, or the session just ended
            with suppress(*GONE, OverflowError, AttributeError), realtime.lock:
                frame = b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text
                while frame:
                    frame = frame[realtime.sock.send(frame) :]  # type: ignore[union-attr]

    def on_dtmf(self, message: Any) -> None:
        """Gather keys until `#` or a pause; they interrupt like speech."""
        self.on_input_audio_buffer_speech_started({"item_id": "keys"})
        self.keys += message["dtmf"]["digit"]
        self.timers[self.settle] = now() + 2 * ("#" not in self.keys)

    def on_mark(self, message: Any) -> None:
        """Note what has been heard. A mark that `clear` sent back names nothing in `spoken`."""
        while message["mark"]["name"] in self.spoken:
            self.heard += self.spoken.pop(next(iter(self.spoken))) + " "
            self.playing_since = now()

    # --- what Realtime hears --------------------------------------------------------------------

    def on_session_updated(self, event: Any) -> None:
        """Begin to relay, and to speak."""
        self.ready = True

    def on_input_audio_buffer_speech_started(self, event: Any) -> None:
        """Fall silent and listen."""
        self.interrupt()
        self.hearing[event["item_id"]], self.clock = None, []
        self.timers[self.settle] = now() + 30

    def on_input_audio_buffer_speech_stopped(self, event: Any) -> None:
        """Wait a little for the words."""
        vad = self.settings.realtime_session["audio"]["input"]["turn_detection"]
        self.clock = [now() - vad.get("silence_duration_ms", 500) / 1000]
        self.timers[self.settle] = now() + 2.5

    def on_input_audio_transcription_completed(self, event: Any) -> None:
        """Take the words of one stretch of speech; act when no more is on its way."""
        self.hearing[event["item_id"]] = event.get("transcript", self.notes["inaudible"]).strip()
        if None not in self.hearing.values():
            self.settle()

    on_input_audio_transcription_failed = on_input_audio_transcription_completed

    def settle(self) -> None:
        """Send on what the caller said, or pressed; after a mere noise, say again what it cut."""
        self.hearing["keys"] = self.keys and self.notes["keys"].format(self.keys.rstrip("#") or "#")
        words = "" if self.over else " ".join(filter(None, self.hearing.values()))
        self.hearing.clear()
        if self.notes["inaudible"] in words:
            self.drop_reply()
            self.queue.append(self.settings.say_again)
        elif words:
            self.drop_reply()
            self.inbox.put((self.turn, f"{self.note} {words}".strip()))
            self.note, self.prompted = "", False
            self.clock.append(now())
            self.timers[self.fill] = now() + self.settings.filler_seconds
        self.cut = self.keys = ""

    def drop_reply(self) -> None:
        """Forget what was still to be said; the next message tells what was heard of it."""
        self.interrupt()
        if self.turn and (self.inbox.unfinished_tasks or " ".join(self.queue) != self.cut):
            self.note = self.notes["cut_in"].format((self.heard + self.cut).strip())
        self.turn, self.heard, self.queue = self.turn + 1, "", deque()

    # --- what is said ---------------------------------------------------------------------------

    def go_on(self) -> None:
        """Say the next thing, or do it, if the line is free; when all is said, wait for words."""
        if self.queue or self.spoken or self.hearing or self.inbox.unfinished_tasks:
            self.timers[self.prompt] = now() + self.settings.idle_seconds
        elif DRAINING.is_set():
            self.close()
        if self.queue and self.ready and not self.in_flight and not self.hearing:
            marker = self.queue[0] in ("[hangup]", "[transfer]")
            if not (marker and self.spoken):
                (self.act if marker else self.speak)(self.queue.popleft())

    def speak(self, text: str) -> None:
        """Have Realtime read a sentence aloud, out of band: with no history, it answers nothing."""
        self.in_flight, self.response_id = str(next(self.names)), ""
        self.spoken[self.in_flight] = text
        cue = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        response = {"conversation": "none", "input": [cue], "metadata": {"mark": self.in_flight}}
        self.to_realtime("response.create", event_id=self.in_flight, response=response)

    def on_response_created(self, event: Any) -> None:
        """Learn the ID of the response in flight; cancel any other."""
        if (event["response"].get("metadata") or {}).get("mark") == self.in_flight:
            self.response_id = event["response"]["id"]
        else:  # interrupted before its ID was known, or never asked for
            self.to_realtime("response.cancel", response_id=event["response"]["id"])

    def on_output_audio_delta(self, event: Any) -> None:
        """Relay the sound of the sentence in flight."""
        if event["response_id"] == self.response_id:
            if not self.audio_ms[self.in_flight] and len(self.spoken) == 1:
                self.playing_since = now()
            if len(self.clock) == 3:
                times = [f"{(at - self.clock[0]) * 1000:.0f} ms" for at in (*self.clock[1:], now())]
                log.info("[%s] transcript %s, first text %s, first audio %s", self.call_sid, *times)
                self.clock = []
            self.audio_ms[self.in_flight] += len(event["delta"]) * 3 // 4 // 8
            self.to_twilio("media", media={"payload": event["delta"]})

    def on_output_audio_transcript_done(self, event: Any) -> None:
        """Check that what was said is what was asked for."""
        asked, said = self.spoken.get(self.in_flight, ""), event["transcript"]
        if event["response_id"] == self.response_id and not same_words(asked, said):
            log.warning("[%s] asked to say %r, said %r", self.call_sid, asked, said)

    def on_response_done(self, event: Any) -> None:
        """Ask to be told when the sentence has been heard."""
        if event["response"]["id"] == self.response_id:
            if event["response"]["status"] != "completed":
                log.error("[%s] not spoken whole: %s", self.call_sid, event["response"])
            self.to_twilio("mark", mark={"name": self.in_flight})
            self.in_flight = self.response_id = ""

    def on_error(self, event: Any) -> None:
        """End a session that refuses what it must not; cancelling too late is no harm."""
        log.warning("[%s] Realtime: %s", self.call_sid, event["error"])
        event["error"].get("code") == "response_cancel_not_active" or self.realtime.abort()

    def interrupt(self) -> None:
        """Fall silent at once. What was not heard waits: it is said again, or dropped."""
        mark, text = next(iter(self.spoken.items()), ("", ""))
        if sent := self.audio_ms[mark]:
            self.to_twilio("clear")
            whole = max(sent, len(text) * 65) if mark == self.in_flight else sent
            self.cut = heard_part(text, (now() - self.playing_since) * 1000 / whole)
        if self.response_id:
            self.to_realtime("response.cancel", response_id=self.response_id)
        self.queue.extendleft(reversed(self.spoken.values()))
        self.spoken, self.in_flight, self.response_id = {}, "", ""

    # --- the workflow ---------------------------------------------------------------------------

    def answer(self) -> None:
        """Send every message to the workflow and have its reply spoken; in a thread of its own."""
        for turn, message in iter(self.inbox.get, None):
            sentence, self.workflow.calls[self.call_sid] = "", self.about
            try:
                for sentence in sentences(self.workflow.send_message(self.call_sid, message)):
                    self.reply(turn, sentence)
                if not sentence:
                    raise WorkflowError("it is empty")
            except Exception as error:
                bug = not isinstance(error, FAILURES)
                log.error("[%s] no reply: %s", self.call_sid, error, exc_info=bug)
                self.reply(turn, self.settings.apology)
            self.inbox.task_done()
        self.workflow.calls.pop(self.call_sid, None)

    def reply(self, turn: int, sentence: str) -> None:
        """Say a sentence of a turn's reply, unless the caller has gone on to another turn."""
        with self.lock:
            if turn == self.turn:
                self.clock += [now()] * (len(self.clock) == 2)
                self.timers.pop(self.fill, None)
                self.queue.append(sentence)
                self.go_on()

    # --- time -----------------------------------------------------------------------------------

    def ping(self) -> None:
        """Have Realtime show that it lives: a session that is silent for 5 s is lost."""
        self.timers[self.ping] = now() + 2
        with suppress(*GONE):
            self.realtime.ping()

    def fill(self) -> None:
        """Bridge the workflow's silence."""
        self.queue.append(next(self.fillers))
        self.timers[self.fill] = now() + 8

    def prompt(self) -> None:
        """Ask a silent caller once, then say goodbye."""
        self.queue += self.ending if self.prompted else [self.settings.idle_prompt]
        self.prompted = True

    def end(self) -> None:
        """Say goodbye to a call that has lasted too long, and listen no more."""
        self.drop_reply()
        self.hearing, self.over, self.queue = {}, True, deque(self.ending)

    def act(self, action: str) -> None:
        """Hang up or transfer."""
        try:
            if action == "[hangup]" or self.settings.transfer_number:
                return self.control(action, self.call_sid, self.about["called"])
        except OSError as error:
            log.error("[%s] %s failed: %s", self.call_sid, action, error)
        self.close() if action == "[hangup]" else self.queue.append(self.settings.no_transfer)
