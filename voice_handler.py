"""One phone call: its threads, its lock, and its two sockets."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, repeat
from queue import SimpleQueue
from threading import Event, Thread, Timer
from time import monotonic, sleep
from typing import Any

from begin import begin
from call import Call, CallControl, find_start
from cost import Cost, Usage
from frame_clock import FrameClock
from greenlets import new_lock
from messages import Handler, NotUnderstood, dispatch
from realtime import EVENTS, HOPELESS_STATUSES, Realtime, refusal
from settings import Settings
from story import Story
from upstream import VOICE, WORKFLOW, with_remedy
from utils import sentences
from wire import Connection, Refused
from workflow_client import FAILURES, WorkflowClient, WorkflowError

DRAINING = Event()  # this process is to stop: it hands its calls over
CALLS: set["VoiceHandler"] = set()  # of this process, each until its workflow's last reply is read

START_SECONDS = 10.0  # in which a stream must tell which call it carries
STALL_SECONDS = 10.0  # Twilio sends 50 frames a second: one that is silent for so long is gone
UNANSWERED_SECONDS = 5.0  # Realtime answers pings: one that doesn't for so long is gone
TICK_FRAMES = 10  # how often the rules look at the clock
PING_FRAMES = 100
WATCH_SECONDS = 1.0
ACT_SECONDS = 8.0  # in which Twilio ends a stream that it was told to end
SENTENCE_PAUSE = 0.1  # seconds
RECONNECT_PAUSES = (0.0, 0.3, 0.6)  # seconds before each try to open a Realtime session
LAST_RECONNECT_PAUSE = 1.0

# A message of Twilio's with a frame of sound, as it is written most often. The sound goes to
# Realtime as it stands, base64 in quotes, and past the lock.
MEDIA = (b'{"event":"media"', b'{"event": "media"')
SOUND = re.compile(rb'"payload": ?("[A-Za-z0-9+/=]*")').search


class VoiceHandler:
    """Carry one call from its stream's `start` to its end.

    Three threads meet here: the request's own reads Twilio, and since a frame comes every 20 ms
    it keeps the time (`run`); one reads Realtime (`_listen`); one reads the workflow (`_answer`).
    Each REST call has another, and the process has one that looks after all calls (`watch`). The
    rules of the conversation are touched under the call's one lock. They decide, and this class
    does, as their `conversation.Port`.

    When the stream is lost the call isn't saved here: Twilio follows the TwiML back to `/voice`, to
    whichever process answers, and there the conversation goes on.
    """

    def __init__(
        self,
        call: Call,
        stream: Connection,
        settings: Settings,
        workflow: WorkflowClient,
        control: CallControl,
    ) -> None:
        """Begin with the opening; nothing runs yet."""
        self.call = call
        self.stream = stream
        self._stream_sid = json.dumps(call.stream_sid).encode()
        self._settings = settings
        self._workflow = workflow
        self._control = control
        cost = Cost(settings.prices.models)
        self._story = Story(call, cost, bool(settings.log_transcripts))
        self._lock = new_lock()
        self._clock = FrameClock()
        self._ended = Event()
        # For the workflow: turns and messages
        self._inbox: SimpleQueue[tuple[int, str] | None] = SimpleQueue()
        self._rules = begin(self, self._clock, call, settings, self._story)
        self._realtime = Realtime(settings, self._rules, self._story, self._play)
        self._next_tick = 0  # in frames

    # --- the three threads ------------------------------------------------------------------------

    def run(self, messages: Iterator[bytes]) -> None:
        """Read Twilio's messages until the stream ends, and keep the time."""
        self._story.begins()
        try:
            for work in (self._answer, self._listen):
                Thread(target=work, daemon=True).start()
            for message in messages:
                self._take(message)
        finally:
            self._safely(self._lose_stream)
            self._realtime.end()
            self._inbox.put(None)  # which ends `_answer`
            with self._lock:  # what was under way has its line before
                self._story.ended()

    def _listen(self) -> None:
        """Keep a Realtime session; when to give up is for the rules to decide."""
        for pause in chain(RECONNECT_PAUSES, repeat(LAST_RECONNECT_PAUSE)):
            if self._realtime.over.wait(pause):
                return
            try:
                for event in self._realtime.events():
                    self._dispatch(event, "type", EVENTS, self._realtime)
            except Refused as error:
                self._safely(self._lose_realtime, refusal(error), error.status in HOPELESS_STATUSES)
            except OSError as error:
                self._safely(self._lose_realtime, str(error))
            else:
                self._safely(self._lose_realtime, "the connection was closed")

    def _answer(self) -> None:
        """Send every message to the workflow, and have its reply spoken."""
        CALLS.add(self)
        call = self.call
        self._workflow.resume(
            call.sid, call.conversation, call.caller, call.called, self._spend, about=call.about
        )
        try:
            for turn, message in iter(self._inbox.get, None):
                self._take_turn(turn, message)
        finally:
            self._workflow.end(call.sid)
            CALLS.discard(self)

    def _take_turn(self, turn: int, message: str) -> None:
        try:
            self._speak_reply(turn, message)
        except FAILURES as error:
            WORKFLOW.fail(str(error))
            self._story.no_reply(str(error))
            self._safely(self._rules.reply_failed, turn)
        except Exception:  # noqa: BLE001 - a bug is told, and the call goes on
            self._story.bug()
            self._safely(self._rules.reply_failed, turn)
        else:
            WORKFLOW.succeed()
            self._safely(self._rules.reply_ended, turn)

    def _speak_reply(self, turn: int, message: str) -> None:
        reply = self._workflow.send_message(self.call.sid, message)
        answered = False
        for sentence in sentences(reply, self._settings.language):
            answered = True
            self._safely(self._story.reply_piece, turn, sentence)
            self._safely(self._rules.reply_piece, turn, sentence)
            self._pause(turn)
        if not answered:  # it is empty, or "👍", of which the caller would hear nothing
            raise WorkflowError("the reply has no words")

    def _pause(self, turn: int) -> None:
        """Let more of a reply be written, with a sentence of it to be spoken first.

        What comes meanwhile is read in one go; else each word would wake the process. A reply that
        nobody wants any more is read on: the next message waits for its end.
        """
        with self._lock:
            wanted = self._rules.wants(turn)
        if wanted:
            self._ended.wait(SENTENCE_PAUSE)

    def _spend(self, usage: Usage) -> None:
        self._safely(self._story.spends, usage)

    def _lose_stream(self) -> None:
        """Ask what waits, and nothing after it."""
        try:
            self._rules.stream_lost()
        finally:
            self._ended.set()

    def _tick(self) -> None:
        self._safely(self._rules.drain if DRAINING.is_set() else self._rules.tick)
        if self._clock.frames % PING_FRAMES < TICK_FRAMES:
            self._realtime.ping()

    def abort_if_stalled(self, now: float) -> None:
        """End what has fallen silent; `watch` calls this for every call."""
        if not self._ended.is_set() and now - self.stream.quiet_since > STALL_SECONDS:
            self._story.warn("the stream has stalled")
            self.stream.abort()
            self._realtime.end()  # whoever reads the stream may be waiting to send there
        if self._realtime.unanswered(now) > UNANSWERED_SECONDS:
            self._story.warn("Realtime doesn't answer any more")
            self._realtime.abort()

    def _lose_realtime(self, reason: str, hopeless: bool = False) -> None:
        why = self._realtime.lose() or reason
        if self._realtime.over.is_set():  # it was given up, and that has been told
            return
        if hopeless:
            self._realtime.end()
            self._rules.voice_hopeless(why)
        else:
            self._story.realtime_lost(self._with_host(why))
            self._rules.voice_lost(why)

    def _with_host(self, reason: str) -> str:
        return f"{reason} ({self._settings.realtime_host})"

    # --- messages ---------------------------------------------------------------------------------

    def _take(self, message: bytes) -> None:
        sound = SOUND(message) if message.startswith(MEDIA) else None
        if sound:
            try:
                self._relay(sound[1])
            except NotUnderstood as error:
                self._story.warn(f"sound was not understood: {error}")
        else:
            self._dispatch(message, "event", MESSAGES, self)
        if self._clock.frames >= self._next_tick:
            self._next_tick = self._clock.frames + TICK_FRAMES
            self._tick()

    def _relay(self, sound: bytes) -> None:
        """Pass on 20 ms of sound, base64 in quotes; a frame is a tick of the call's clock."""
        self._clock.count()
        self._realtime.append(sound)

    def _dispatch(
        self, raw: bytes, name: str, handlers: dict[str, Handler], target: object
    ) -> None:
        self._safely(dispatch, raw, name, handlers, target)

    def _safely(self, work: Callable[..., None], *args: Any) -> None:
        """Do something under the lock, unless the stream has ended.

        What is wrong with it ends here: a bug shows as a traceback, and the call goes on.
        """
        with self._lock:
            if self._ended.is_set():
                return
            try:
                work(*args)
            except NotUnderstood as error:
                self._story.warn(f"a message was not understood: {error}")
            except Exception:  # noqa: BLE001 - a bug is told, and the call goes on
                self._story.bug()

    def on_media(self, payload: str) -> None:
        """Relay sound in a message of an unusual shape."""
        self._relay(json.dumps(payload).encode())

    def on_dtmf(self, digit: str) -> None:
        """Take a key."""
        self._story.key_pressed()
        self._rules.key(digit)

    def on_mark(self, name: str) -> None:
        """Note what has been heard."""
        begun = self.call.begun()
        if self.call != begun:  # these are the first words on this stream
            VOICE.succeed()
        self.call = begun
        self._rules.heard(name)

    def on_stop(self) -> None:
        """Learn that the call, or its stream, has ended on Twilio's side."""
        self._story.stops()
        self._rules.caller_hangs_up()

    # --- what the rules decide (conversation.Port) ------------------------------------------------

    def say(self, mark: str, text: str) -> None:
        """Have a sentence spoken."""
        self._realtime.say(mark, text)

    def stop(self, mark: str) -> None:
        """Stop a sentence."""
        self._realtime.stop(mark)

    def mark(self, mark: str) -> None:
        """Have Twilio tell when what was sent so far has been heard."""
        self._send("mark", mark={"name": mark})

    def clear(self) -> None:
        """Stop what Twilio plays."""
        self._send("clear")

    def ask(self, turn: int, message: str) -> None:
        """Send the workflow what the caller said."""
        self._story.asks(turn)
        self._inbox.put((turn, message))

    def hang_up(self) -> None:
        """End the call."""
        self._story.hangs_up()
        self._start_act(self._control.hang_up, "hang up")

    def transfer(self) -> None:
        """Connect the caller to a person."""
        self._story.transfers()
        self._start_act(self._control.transfer, "transfer")

    def hold(self, reason: str) -> None:
        """Have Twilio's own voice ask for patience, and another stream opened."""
        VOICE.fail(reason)
        self._story.leaves("on hold", self._with_host(reason))
        self._start_act(self._control.hold, "hold")

    def give_up(self, reason: str) -> None:
        """Have Twilio's own voice say UNAVAILABLE, and the call ended."""
        VOICE.fail(reason)
        self._story.gives_up(with_remedy(self._with_host(reason)))
        self._start_act(self._control.give_up, "give up")

    def close(self, reason: str) -> None:
        """Close the stream: Twilio comes back with the conversation."""
        self._story.hands_over(reason)
        self.stream.close()

    def _play(self, sound: str) -> None:
        media = b'{"event": "media", "streamSid": %b, "media": {"payload": "%b"}}'
        self.stream.send(media % (self._stream_sid, sound.encode()))

    def _send(self, event: str, **body: Any) -> None:
        message = {"event": event, "streamSid": self.call.stream_sid, **body}
        self.stream.send(json.dumps(message).encode())

    def _start_act(self, action: Callable[[Call], None], name: str) -> None:
        """Do what takes Twilio's REST API some time, in a thread of its own."""
        # It may have been started, or replaced, since the stream began; or is being so just now
        conversation = self._workflow.conversation(self.call.sid) or self.call.conversation
        call = replace(self.call, conversation=conversation)
        Thread(target=self._act_on_call, args=(action, call, name), daemon=True).start()

    def _act_on_call(self, action: Callable[[Call], None], call: Call, name: str) -> None:
        try:
            action(call)
        except OSError as error:
            self._tell_act_failed(f"could not {name}: {error}")
        except Exception:  # noqa: BLE001 - a bug is told, and the call goes on
            self._story.bug()
        else:
            if self._ended.wait(ACT_SECONDS):
                return
            self._tell_act_failed(f"Twilio did not {name}")
        self._safely(self._rules.act_failed)

    def _tell_act_failed(self, words: str) -> None:
        with self._lock:
            self._story.act_failed(words)


MESSAGES = {
    "media": Handler(VoiceHandler.on_media, ("media.payload",)),
    "dtmf": Handler(VoiceHandler.on_dtmf, ("dtmf.digit",)),
    "mark": Handler(VoiceHandler.on_mark, ("mark.name",)),
    "stop": Handler(VoiceHandler.on_stop),
}


def carry(
    stream: Connection, settings: Settings, workflow: WorkflowClient, control: CallControl
) -> None:
    """Carry the call whose stream this is."""
    messages = stream.messages()
    late = Timer(START_SECONDS, stream.abort)
    late.start()
    call = find_start(messages)
    late.cancel()
    if call:
        VoiceHandler(call, stream, settings, workflow, control).run(messages)
    stream.close()


def watch() -> None:
    """Look at every call, for ever; one thread a process.

    After a moment in which the whole process stood still nobody is to blame: all get another look.
    """
    while True:
        began = monotonic()
        sleep(WATCH_SECONDS)
        now = monotonic()
        if now < began + 2 * WATCH_SECONDS:
            for call in list(CALLS):
                call.abort_if_stalled(now)
