"""One call in this process, alone with its two sockets: what falls silent is given up, and more."""

from __future__ import annotations

import json
import math
import re
import select
import socket
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any

import pytest
from websocket import WebSocket, create_connection
from websockets.protocol import Side

import voice_handler
import wire
from call import Call, read_start
from settings import HERE, Settings
from tests.unit.environment import REQUIRED
from tools.app_process import eventually
from tools.simulator.openai_server import OpenAISimulator, RealtimeSession, Reply
from tools.simulator.playback import SILENCE
from tools.simulator.speech import ToneVoice
from tools.simulator.waiting import PATIENCE
from voice_handler import CALLS, VoiceHandler, carry
from wire import Connection
from workflow_client import WorkflowClient

NOT_UNDERSTOOD = "a message was not understood"


class Transfers:
    """Twilio's REST API, which is asked for nothing else here."""

    def __init__(self) -> None:
        self.asked: list[Call] = []

    def transfer(self, call: Call) -> None:
        self.asked.append(call)

    def hang_up(self, call: Call) -> None:
        raise AssertionError(call)

    hold = give_up = hang_up


class SilentCall:
    """A call whose Twilio sends what the test says, and nothing else."""

    def __init__(self, openai: OpenAISimulator, **changes: Any) -> None:
        ours, theirs = socket.socketpair()
        self.openai = openai
        self.line = theirs
        self.twilio = Connection(theirs, Side.CLIENT, 65536)
        theirs.settimeout(PATIENCE)  # or a test would wait for ever for what isn't sent
        values = {**REQUIRED, "openai_base_url": openai.base_url, **changes}
        settings = Settings(**values)
        stream = Connection(ours, Side.SERVER, 65536)
        self.transfers = Transfers()
        carried = (stream, settings, WorkflowClient(settings), self.transfers)
        self._thread = Thread(target=carry, args=carried, daemon=True)
        self._thread.start()
        self.send("start", start={"callSid": "CA1"})
        self.handler = next(iter(eventually(lambda: list(CALLS), "call")))
        self.session = self.session_after(0)

    def send(self, event: str, **body: Any) -> None:
        message = {"event": event, "streamSid": "MZ1", **body}
        self.twilio.send(json.dumps(message).encode())

    def session_after(self, number: int) -> RealtimeSession:
        """Wait for the next session, until it has its settings."""
        sessions = self.openai.sessions
        self.openai.wait_for(lambda _: len(sessions) > number)
        self.openai.wait_for(lambda _: sessions[number].events("session.update"))
        return sessions[number]

    def take_a_frame(self, caplog: pytest.LogCaptureFixture) -> None:
        """Have a frame of sound taken: frames keep the time, and so bring about tick and ping."""
        before = caplog.text.count(NOT_UNDERSTOOD)
        self.send("media", media={"payload": b64encode(SILENCE).decode()})
        self.send("mark")  # without a name, which is logged: the frame before it was taken, too
        eventually(lambda: caplog.text.count(NOT_UNDERSTOOD) > before, "tick")

    def join(self) -> None:
        """Wait until all that Twilio sent has been read."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def end(self) -> None:
        self.session.stall(False)
        self.twilio.abort()
        self.join()
        eventually(lambda: not CALLS, "end of the call")


@pytest.fixture
def openai() -> Iterator[OpenAISimulator]:
    voice = ToneVoice()
    simulator = OpenAISimulator(ears=voice, mouth=voice, api_key=REQUIRED["openai_api_key"])
    with simulator as openai:
        yield openai


@pytest.fixture
def call(openai: OpenAISimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentCall]:
    monkeypatch.setattr(voice_handler, "PING_FRAMES", 1)
    monkeypatch.setattr(voice_handler, "TICK_FRAMES", 1)
    call = SilentCall(openai)
    yield call
    call.end()


def test_all_calls_are_looked_at_each_second_unless_the_process_stood_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[float] = []
    naps = iter([1.0, 6.0, 1.0])
    now = 0.0

    def sleep(_: float) -> None:
        nonlocal now
        now += next(naps)

    monkeypatch.setattr(
        voice_handler, "CALLS", [SimpleNamespace(abort_if_stalled=looked.append)] * 2
    )
    monkeypatch.setattr(voice_handler, "monotonic", lambda: now)
    monkeypatch.setattr(voice_handler, "sleep", sleep)
    with pytest.raises(StopIteration):
        voice_handler.watch()
    assert looked == [1.0, 1.0, 8.0, 8.0]


def test_a_call_is_handed_over_when_its_process_is_to_stop(
    call: SilentCall, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent = map(json.loads, call.twilio.messages())
    greeted = next(message for message in sent if message["event"] == "mark")
    to_stop = Event()
    to_stop.set()
    monkeypatch.setattr(voice_handler, "DRAINING", to_stop)
    call.take_a_frame(caplog)
    assert call.handler.stream.open, "the greeting has not been heard"
    call.send("mark", mark=greeted["mark"])
    assert list(sent) == []
    assert not call.handler.stream.open


@pytest.mark.parametrize(("hangs_up", "told"), [(False, ["1", "2"]), (True, ["1"])])
def test_what_waits_for_a_busy_workflow_is_told_though_the_stream_breaks(
    call: SilentCall, hangs_up: bool, told: list[str]
) -> None:
    rest = Event()
    call.openai.brain.reply = lambda *_: Reply("Well.", rest=rest)
    for key in "1#2#":
        call.send("dtmf", dtmf={"digit": key})
    if hangs_up:
        call.send("stop")
    call.twilio.close()
    call.join()
    rest.set()
    call.end()
    keys = [re.findall("pressed (.)", text) for _, text in call.openai.brain.messages]
    assert keys == [[key] for key in told]


def test_a_call_whose_conversation_began_late_comes_back_to_it_from_a_transfer(
    call: SilentCall,
) -> None:
    call.openai.brain.reply = lambda *_: "[transfer]"
    call.send("dtmf", dtmf={"digit": "#"})
    (transferred,) = eventually(lambda: call.transfers.asked, "transfer")
    assert [transferred.conversation] == list(call.openai.conversations)


def test_a_call_whose_conversation_is_being_replaced_comes_back_to_the_one_it_had(
    call: SilentCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkflowClient, "conversation", lambda *_: "")
    call.handler.call = replace(call.handler.call, conversation="conv_lost")
    call.openai.brain.reply = lambda *_: "[transfer]"
    call.send("dtmf", dtmf={"digit": "#"})
    (transferred,) = eventually(lambda: call.transfers.asked, "transfer")
    assert transferred.conversation == "conv_lost"  # where the workflow is told of the loss


def test_a_stream_that_is_silent_for_ten_seconds_is_given_up(call: SilentCall) -> None:
    stream = call.handler.stream
    call.handler.abort_if_stalled(stream.quiet_since + 9.9)
    assert stream.open
    call.handler.abort_if_stalled(stream.quiet_since + 10.1)
    assert not stream.open


@pytest.fixture
def to_realtime(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """The sockets to Realtime that are opened from now on."""
    opened: list[socket.socket] = []

    def connect(*args: Any, **options: Any) -> WebSocket:
        connection = create_connection(*args, **options)
        assert connection.sock is not None
        opened.append(connection.sock)
        return connection

    monkeypatch.setattr(wire, "create_connection", connect)
    return opened


def are_full(sockets: list[socket.socket]) -> bool:
    """Tell whether whoever sends now has to wait for the other sides."""
    return select.select([], sockets, [], 0)[1] == []


def stands_still(sent: count[int]) -> bool:
    """Tell whether nothing more is sent."""
    before = repr(sent)
    sleep(0.2)
    return repr(sent) == before


def test_a_stream_is_given_up_though_its_reader_waits_to_send_to_realtime(
    to_realtime: list[socket.socket],
    call: SilentCall,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream = call.handler.stream
    monkeypatch.setattr(voice_handler, "PING_FRAMES", math.inf)
    call.take_a_frame(caplog)
    call.session.stall()
    sent = count()

    def talk() -> None:
        while call.twilio.open:
            call.send("media", media={"payload": b64encode(SILENCE * 250).decode()})
            next(sent)

    talker = Thread(target=talk, daemon=True)
    talker.start()
    both = [call.line, *to_realtime]
    eventually(lambda: are_full(both) and stands_still(sent), "full sockets")
    call.handler.abort_if_stalled(stream.quiet_since + 10.1)
    eventually(lambda: not CALLS, "end of the call")
    call.twilio.abort()
    talker.join(PATIENCE)


def test_a_stream_ends_under_the_lock_so_that_nothing_is_asked_behind_its_end(
    openai: OpenAISimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Lock()
    held: list[bool] = []

    class End(Event):
        def set(self) -> None:
            held.append(lock.locked())
            super().set()

    monkeypatch.setattr(voice_handler, "new_lock", lambda: lock)
    monkeypatch.setattr(voice_handler, "Event", End)
    SilentCall(openai).end()
    assert held == [True]


@pytest.mark.parametrize("started", [0, 1])
def test_a_call_for_which_there_are_no_more_threads_leaves_nothing_behind(
    openai: OpenAISimulator, monkeypatch: pytest.MonkeyPatch, started: int
) -> None:
    threads = iter([Thread] * started)

    def thread(**work: Any) -> Thread:
        for kind in threads:
            return kind(**work)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(voice_handler, "Thread", thread)
    settings = Settings.model_validate({**REQUIRED, "openai_base_url": openai.base_url})
    ours, theirs = socket.socketpair()
    stream = Connection(ours, Side.SERVER, 65536)
    call = read_start({"streamSid": "MZ1", "start": {"callSid": "CA1"}})
    handler = VoiceHandler(call, stream, settings, WorkflowClient(settings), Transfers())
    with theirs, pytest.raises(RuntimeError):
        handler.run(iter(()))
    eventually(lambda: not CALLS, "end of the call")
    assert openai.sessions == []


def test_no_answer_is_missed_of_a_session_that_has_ended_with_its_call(
    call: SilentCall, caplog: pytest.LogCaptureFixture
) -> None:
    """The workflow may go on for minutes, and each second the call is looked at."""
    rest = Event()
    call.openai.brain.reply = lambda *_: Reply("Well.", rest=rest)
    call.send("dtmf", dtmf={"digit": "#"})
    call.openai.wait_for(lambda openai: openai.brain.messages)
    call.session.stall()
    call.take_a_frame(caplog)
    call.twilio.close()
    call.join()
    call.handler.abort_if_stalled(monotonic() + 100)
    assert CALLS
    rest.set()
    assert "Realtime doesn't answer" not in caplog.text


def test_the_rest_of_a_reply_is_read_after_a_pause_that_ends_with_the_stream(
    call: SilentCall, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(voice_handler, "SENTENCE_PAUSE", 2 * PATIENCE)
    call.openai.brain.reply = lambda *_: Reply("We have two times left. Nine, or half past three.")

    def marks(words: str) -> list[str]:
        asked = call.session.events("response.create")
        return [event["event_id"] for event in asked if words in str(event)]

    call.send("dtmf", dtmf={"digit": "#"})
    call.openai.wait_for(lambda _: marks("two times"))
    (mark,) = marks("two times")
    spoken = {"name": mark}
    for message in call.twilio.messages():
        if json.loads(message).get("mark") == spoken:
            break
    call.send("mark", mark=spoken)
    call.take_a_frame(caplog)
    assert not marks("half past")
    call.twilio.close()
    call.join()
    eventually(lambda: not CALLS, "end of the reply")


def test_a_reply_that_nobody_wants_any_more_is_read_without_pauses(
    call: SilentCall, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(voice_handler, "SENTENCE_PAUSE", 2 * PATIENCE)
    rest = Event()
    chunks = ["We have two ", "times left. Nine, or half past three. Which one suits you?"]
    call.openai.brain.reply = lambda *_: Reply(chunks, rest=rest)
    call.send("dtmf", dtmf={"digit": "#"})
    call.openai.wait_for(lambda openai: openai.brain.messages)
    call.send("dtmf", dtmf={"digit": "#"})
    call.take_a_frame(caplog)
    rest.set()
    call.openai.wait_for(lambda openai: len(openai.brain.messages) > 1)


def test_a_realtime_that_does_not_answer_for_five_seconds_is_replaced(
    call: SilentCall, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr(wire, "monotonic", lambda: now)
    call.session.stall()

    def is_given_up_after(seconds: float) -> bool:
        call.handler.abort_if_stalled(now + seconds)
        return "Realtime doesn't answer" in caplog.text

    def is_given_up_in_time() -> bool:
        # Each time anew: what came before it stood still may be taken for the answer
        call.take_a_frame(caplog)
        assert not is_given_up_after(4.9)
        return is_given_up_after(5.1)

    eventually(is_given_up_in_time, "end of the session")
    call.session_after(1)
    assert call.handler.stream.open, "the call goes on"


def test_sentences_end_as_they_do_in_the_language_of_the_session(
    openai: OpenAISimulator, tmp_path: Path
) -> None:
    file = tmp_path / "session.json"
    file.write_text((HERE / "realtime_session.json").read_text("utf-8").replace('"en"', '"de"'))
    openai.brain.reply = lambda *_: "Inkl. MwSt. Sind es 40 Euro."
    call = SilentCall(openai, realtime_session=str(file))
    call.send("dtmf", dtmf={"digit": "#"})
    openai.wait_for(lambda _: "Euro" in json.dumps(call.session.events("response.create")))
    said = call.session.events("response.create")[-1]["response"]["input"]
    assert said[0]["content"][0]["text"] == "Inkl. MwSt. Sind es 40 Euro."
    call.end()
