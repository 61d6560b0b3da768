"""A thousand calls in quick succession, ended in every way there is: `python -m tools.soak`.

Prints what the app holds after every hundred calls: threads, sockets, open files and memory. Exits
with 1 if it holds more after the last than after the first hundred. The app gets one malloc arena:
with one for each of its threads glibc keeps much of what was freed, and memory would tell nothing.
"""

from __future__ import annotations

import argparse
import itertools
import re
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tools.harness import (
    COLLEAGUE,
    Resources,
    Service,
    check_secrecy,
    eventually,
    session_file,
)
from tools.line import Line
from tools.log_check import check_lines
from tools.simulator.openai_server import Reply
from tools.simulator.twilio_network import Call
from tools.webhook import FORM, post

SETTLING = 20.0  # seconds until all is closed that a hundred calls had opened
KIB_A_CALL = 4.0  # growth of memory after the first hundred calls that is put down to the heap
HEAP = 2048  # KiB that an allocator may come to hold at any time
SETTINGS = {
    "AGENT_WORKFLOW_ID": "workflow.json",
    "GREETING": "Hello! How can I help you today?",
    "FILLER_SECONDS": "60",
    "TRANSFER_NUMBER": COLLEAGUE,
    "MAX_CALLS": "100",
    "MALLOC_ARENA_MAX": "1",
}
ANSWERS: dict[str, Reply | str] = {
    "Bye": "Goodbye. [hangup]",
    "Boss": "One moment. [transfer]",
    "Wait": Reply("At last.", first_delay=0.5),
}


class Row(NamedTuple):
    """What the app holds after so many calls; memory in KiB."""

    calls: int
    seconds: float
    held: Resources
    memory: int

    def __str__(self) -> str:
        threads, files, connections = self.held
        memory = f"{self.memory / 1024:10.1f}"
        return f"{self.calls:7}{threads:9}{connections:9}{files:7}{memory}{self.seconds:10.0f}"


HEADER = "  calls  threads  sockets  files  memory MiB   seconds"


# ---------------------------------------------------------------- every way to end a call


def speaking(call: Call) -> Call:
    """Wait until the greeting has begun to arrive."""
    call.wait_until(lambda call: call.ended or call.events("media_received"), 20, "greeting")
    return call


def say_until(call: Call, words: str, done: Callable[[Call], object]) -> None:
    """Say words again and again, since another call's accident may befall this one, too."""
    for patience in (5, 5, 10, 20):
        call.wait_until(lambda call: call.ended or call.stream.open, 20, "stream")
        call.say(words)
        with suppress(AssertionError):
            call.wait_until(done, patience)
            return
    call.wait_until(done, 0.1, f"answer to {words!r}")


def hung_up_while_it_rings(service: Service) -> None:
    service.network.call().hang_up()


def hung_up_as_the_stream_opens(service: Service) -> None:
    call = service.network.call()
    call.wait_until(lambda call: call.streams, 20, "stream")
    call.hang_up()


def hung_up_at_the_start(service: Service) -> None:
    call = service.network.call()
    call.wait_for("start", 20)
    call.hang_up()


def hung_up_in_mid_sentence(service: Service) -> None:
    speaking(service.network.call()).hang_up()


def hung_up_while_the_caller_speaks(service: Service) -> None:
    call = speaking(service.network.call())
    call.say("I would like to")
    call.wait_for("caller_speaks")
    call.hang_up()


def hung_up_while_the_workflow_thinks(service: Service) -> None:
    call = speaking(service.network.call())
    call.say("Wait")
    with suppress(AssertionError):
        call.wait_until(lambda _: any(text == "Wait" for _, text in service.brain.messages), 5)
    call.hang_up()


def hung_up_after_an_answer(service: Service) -> None:
    call = speaking(service.network.call())
    say_until(call, "Hello", lambda call: "said: Hello" in call.heard())
    call.hang_up()


def ended_by_the_workflow(service: Service) -> None:
    say_until(speaking(service.network.call()), "Bye", lambda call: call.ended)


def transferred(service: Service) -> None:
    call = speaking(service.network.call())
    say_until(call, "Boss", lambda call: call.events("dial_answered"))
    call.dialed_party_hangs_up()
    call.wait_ended(20)


def reset_in_mid_sentence(service: Service) -> None:
    call = speaking(service.network.call())
    call.stream.reset()
    call.hang_up()


def closed_and_resumed(service: Service) -> None:
    call = speaking(service.network.call())
    call.stream.close()
    call.wait_for_stream(20, number=2)
    call.hang_up()


def broken_in_mid_sentence(service: Service) -> None:
    call = speaking(service.network.call())
    call.stream.inject_raw(b"\xff\xff\xff\xff")
    call.wait_until(lambda call: not call.streams[0].open, 20, "end of the stream")
    call.hang_up()


def lost_by_realtime(service: Service) -> None:
    call = speaking(service.network.call())
    for session in [each for each in service.openai.sessions if each.open][-1:]:
        session.abort()  # whosever it is
    call.hang_up()


def left_in_mid_handshake(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), 10) as stranger:
        stranger.sendall(b"GET /media-stream HTTP/1.1\r\nHost: x\r\nUpgrade: websoc")


def left_after_the_handshake(service: Service) -> None:
    Line(service).close("reset")


def never_streamed(service: Service) -> None:
    post(service, form={**FORM, "CallSid": f"CA{time.monotonic_ns():032x}"})


def signed_by_a_stranger(service: Service) -> None:
    service.network.call(signature="wrong").hang_up()


WAYS: list[Callable[[Service], None]] = [
    hung_up_in_mid_sentence,
    hung_up_while_it_rings,
    hung_up_as_the_stream_opens,
    hung_up_at_the_start,
    hung_up_while_the_caller_speaks,
    hung_up_while_the_workflow_thinks,
    hung_up_after_an_answer,
    ended_by_the_workflow,
    transferred,
    reset_in_mid_sentence,
    closed_and_resumed,
    broken_in_mid_sentence,
    lost_by_realtime,
    left_in_mid_handshake,
    left_after_the_handshake,
    never_streamed,
    signed_by_a_stranger,
]


# ---------------------------------------------------------------- the soak


class Soak:
    """One service, and rounds of calls to it."""

    def __init__(self, mode: str, folder: Path, at_once: int) -> None:
        self.service = Service(mode, {**SETTINGS, "REALTIME_SESSION": str(session_file(folder))})
        self.ways = itertools.cycle(WAYS)
        self.at_once = at_once
        self.rows: list[Row] = []
        self.failures: list[str] = []
        self._began = time.monotonic()
        self._forget()
        self._note(0)

    def round(self, calls: int) -> Row:
        """Place so many calls, some at once, wait until they are over, and return what is held."""
        with ThreadPoolExecutor(self.at_once) as pool:
            list(pool.map(self._call, itertools.islice(self.ways, calls)))
        for call in self.service.network.placed:
            call.hang_up()
            call.wait_ended(30)
        self._settle()
        self.failures += self.service.network.refusals + self.service.openai.refusals
        self._forget()
        return self._note(self.rows[-1].calls + calls)

    def verdict(self) -> list[str]:
        """Say what grew after the first round, and what else went wrong; nothing if all is well."""
        first, last = self.rows[1], self.rows[-1]
        names = zip(Resources._fields, first.held, last.held, strict=True)
        grown = [f"{name}: {before}, then {now}" for name, before, now in names if now > before]
        memory = last.memory - first.memory
        if memory > HEAP + KIB_A_CALL * (last.calls - first.calls):
            grown.append(f"memory: {memory} KiB more after {last.calls - first.calls} more calls")
        return [*grown, *self.failures]

    def stop(self) -> None:
        """Check the log, then end everything."""
        lines = self.service.process.lines
        self.service.stop()
        try:
            check_lines(lines, "[")
            check_secrecy("\n".join(lines))
        except AssertionError:
            odd = [n for n, line in enumerate(lines) if "Traceback" in line] or [len(lines)]
            self.failures.append(
                "in the log: " + "\n".join(lines[max(0, odd[0] - 2) : odd[0] + 30])
            )

    def _call(self, way: Callable[[Service], None]) -> None:
        try:
            way(self.service)
        except AssertionError as error:
            self.failures.append(f"{way.__name__}: {str(error)[:2000]}")

    def _settle(self) -> None:
        """Wait until no more is held than before; that it isn't, the next row will tell."""
        wanted = self.rows[min(1, len(self.rows) - 1)].held

        def is_back() -> bool:
            held = self.service.held()
            return all(now <= before for now, before in zip(held, wanted, strict=True))

        with suppress(AssertionError):
            eventually(is_back, "end", SETTLING if len(self.rows) > 1 else 5)

    def _forget(self) -> None:
        """Empty the simulators' records, which would grow instead of the app."""
        self.service.begin()
        self.service.openai.realtime.keep_audio_events = False
        self.service.openai.brain.reply = lambda text, history: ANSWERS.get(text, "You said: Hello")

    def _note(self, calls: int) -> Row:
        memory = sum(map(resident, self.service.process.workers))
        row = Row(calls, time.monotonic() - self._began, self.service.held(), memory)
        self.warm = len(self.service.warm)
        self.rows.append(row)
        return row


def resident(pid: int) -> int:
    """Return a process's memory, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kib)


def soak(mode: str, calls: int, *, step: int = 100, at_once: int = 20) -> Soak:
    """Make so many calls under one mode, printing a row every `step`; return how it went."""
    with tempfile.TemporaryDirectory() as folder:
        run = Soak(mode, Path(folder), at_once)
        try:
            print(f"{mode}: {calls} calls, {at_once} at once\n{HEADER}\n{run.rows[0]}", flush=True)
            for _ in range(0, calls, step):
                print(run.round(step), flush=True)
        finally:
            run.stop()
    print(f"(and {run.warm} connections to the workflow, kept for the next turns)")
    for problem in run.verdict():
        print(problem)
    print(f"{mode}: {'something is left behind' if run.verdict() else 'nothing is left behind'}\n")
    return run


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=1000, help="in each mode")
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--mode", action="append", choices=["gevent", "threads"])
    options = parser.parse_args(None if arguments is None else list(arguments))
    modes = options.mode or ["gevent", "threads"]
    runs = [soak(mode, options.calls, at_once=options.at_once) for mode in modes]
    return 1 if any(run.verdict() for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
