"""One run: so many calls at once, for so long, and what was seen of them."""

from __future__ import annotations

import gc
import itertools
import math
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic as now
from typing import Any, NamedTuple

from tools.bench import script
from tools.bench.caller import SETTINGS, FrameClock, LoadCaller, LoadTalk, TalkTurn
from tools.bench.measure import BARE, TREE, App, AppFailed, Held, Meter
from tools.bench.openai import FRAMES_PER_CALL, LoadSession, OpenAI, Speech
from tools.bench.records import Records, percentile
from tools.bench.wire import Loop
from tools.certificate import Certificate

RELAY, CONVERSATION = "relay", "conversation"
PATTERNS = (RELAY, CONVERSATION)
# Seconds measured, by default. A call begins with two turns close together, for the barge-in: it
# takes twenty to come to a turn every five seconds.
SECONDS = {RELAY: 10.0, CONVERSATION: 20.0}
SPREAD = {RELAY: 1.0, CONVERSATION: 3.0}  # seconds within which the calls of a run come in
LEAD = 1.5  # seconds from the last of them to the first frame that counts
TAIL = 0.5  # seconds from the last frame that counts to the first hang-up
GOODBYE = 1.0  # seconds within which all hang up
PATIENCE = 15.0  # seconds for the app to let go of everything
WARM_UP_CALLS, WARM_UP_SECONDS = 3, 5.0


class Load:
    """Calls of one pattern, as long as `run` takes."""

    def __init__(self, loop: Loop, port: int, pattern: str) -> None:
        self.loop, self.port = loop, port
        self.talks_on = pattern == RELAY
        self.clock = FrameClock(loop)
        self.records = Records()
        self.ended: set[int] = set()
        self.why_dropped = ""
        self.callers: dict[int, LoadCaller] = {}
        self.conversations: dict[str, LoadTalk] = {}
        self.sessions: dict[int, LoadSession] = {}
        self._deltas: dict[int, tuple[float, Speech]] = {}
        self._delta_numbers = itertools.count(1)
        self._call_numbers = itertools.count(1)
        self._random = random.Random(20)

    # --- calls ------------------------------------------------------------------------------

    def place_calls(self, count: int, spread: float, in_step: bool) -> list[LoadCaller]:
        """Have so many calls come in within `spread` seconds from now."""
        placed: list[LoadCaller] = []

        def place(slot: int) -> None:
            number = next(self._call_numbers)
            caller = LoadCaller(self, number)
            caller.slot = slot
            self.callers[number] = caller
            placed.append(caller)

        begun = now()
        for _ in range(count):
            slot = 0 if in_step else self._random.randrange(20)
            self.loop.at(begun + self._random.uniform(0, spread), partial(place, slot))
        return placed

    def talk_of(self, call_sid: str) -> LoadTalk:
        """Return what is said in a call."""
        return self.callers[int(call_sid.removeprefix("CA"), 16)].talk

    def hang_up(self, callers: list[LoadCaller], spread: float) -> None:
        """Have the calls hang up within `spread` seconds from now."""
        for index, caller in enumerate(callers):
            self.loop.at(now() + spread * index / len(callers), caller.hang_up)

    # --- what the two ends see --------------------------------------------------------------

    def on_frame(self, session: LoadSession, number: int, moment: float) -> None:
        """Realtime got a frame."""
        call, count = divmod(number, FRAMES_PER_CALL)
        caller, records = self.callers[call], self.records
        sent = caller.sent[count]
        if not session.caller:
            self._introduce(session, caller)
            caller.first_relayed = count
        if sent < records.begin:
            records.uplink_starting.append(moment - sent)
        elif sent <= records.end:
            caller.seen += 1
            records.uplink.append(moment - sent)

    def _introduce(self, session: LoadSession, caller: LoadCaller) -> None:
        session.caller = caller
        self.sessions[caller.number] = session

    def note_delta(self, speech: Speech) -> str:
        """Number a piece of the app's sound that is about to be sent."""
        number, moment = next(self._delta_numbers), now()
        speech.first_audio = speech.first_audio or moment
        self._deltas[number] = moment, speech
        return f"{number:0{script.NUMBER}d}"

    def on_speech(self, speech: Speech) -> None:
        """Realtime was asked to speak: the awaited reply, or something instead."""
        caller = speech.session.caller
        turn = caller.talk.turn if caller else None
        if turn and not turn.begun:
            if speech.text == turn.sentences[0]:
                speech.turn = turn
            else:
                turn.late = True

    def on_delta(self, caller: LoadCaller, number: int, moment: float) -> None:
        """The caller heard a piece of sound begin."""
        sent, speech = self._deltas.pop(number)
        records = self.records
        if not speech.session.caller:
            self._introduce(speech.session, caller)
        first, speech.heard = not speech.heard, True
        if first or self.talks_on:
            records.down.append(moment - sent)
        if not first:
            return
        if not caller.talk.turns:
            spoken = speech.first_audio - speech.created
            records.greeting.append(moment - caller.started - spoken)
        elif (turn := speech.turn) and not turn.begun:
            self._begin_reply(caller, turn, speech, moment)

    def _begin_reply(
        self, caller: LoadCaller, turn: TalkTurn, speech: Speech, moment: float
    ) -> None:
        turn.begun = True
        thought = turn.first_sentence - turn.asked
        spoken = speech.first_audio - speech.created
        self.records.turn.append(moment - turn.said - thought - spoken)
        if turn.number == 0:
            self.loop.at(moment + script.BARGE_IN, caller.talk.barge_in)


# --- one run ----------------------------------------------------------------------------------


class Measured(NamedTuple):
    """What came out of one: metrics, whose names end in their unit, and the samples behind them."""

    metrics: dict[str, float]
    records: Records


def run(
    pattern: str,
    calls: int,
    seconds: float,
    mode: str,
    cores: tuple[int, int],
    port: int,
    certificate: Certificate | None = None,
    tree: Path = TREE,
) -> Measured:
    """Start the app of a checkout, put it under load for so many seconds, and tell how it did.

    Raises AppFailed if the app can't be started, dies, or hangs.
    """
    os.sched_setaffinity(0, {cores[0]})
    loop = Loop()
    load = Load(loop, port, pattern)
    openai = OpenAI(loop, load, certificate.context if certificate else None)
    scheme = "https" if certificate else "http"
    settings = {
        **SETTINGS,
        "PORT": str(port),
        "OPENAI_BASE_URL": f"{scheme}://127.0.0.1:{openai.port}/v1",
        **({"SSL_CERT_FILE": str(certificate.file)} if certificate else {}),
    }
    app = App(mode, cores[1], settings, tree)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        metrics = _measure(load, openai, app, calls, seconds, cores, mode != BARE)
        return Measured(metrics, load.records)
    finally:
        gc.enable()
        gc.unfreeze()
        app.stop()
        openai.close()
        loop.close()


def _measure(
    load: Load,
    openai: OpenAI,
    app: App,
    calls: int,
    seconds: float,
    cores: tuple[int, int],
    answers: bool,
) -> dict[str, float]:
    def live(span: float, finished: Callable[[], bool] = lambda: False) -> None:
        until = now() + span
        while now() < until and not finished():
            load.loop.run(min(until, now() + 0.5), finished)
            app.check()

    def all_gone() -> bool:
        return len(load.ended) >= len(load.callers)

    # A few calls first, so that the process opens what it opens once and keeps.
    load.talks_on, pattern_talks_on = False, load.talks_on
    warm = load.place_calls(WARM_UP_CALLS, 0.2, False)
    live(
        WARM_UP_SECONDS,
        lambda: bool(warm) and all(w.talk.turns if answers else w.first_relayed >= 0 for w in warm),
    )
    live(1.0)
    load.hang_up(warm, 0.1)
    live(0.3)
    live(PATIENCE, all_gone)
    if load.records.dropped or not (load.records.turn if answers else load.records.greeting):
        why = load.why_dropped or "nothing was heard"
        raise AppFailed(f"The first calls failed ({why}). The app said:\n{app.last_lines()}")
    counted = []
    for _ in range(4):  # the least of several counts: a thread may just be ending
        live(0.25)
        counted.append(app.held(openai.idle_ports()))
    before, idle = Held(*map(min, zip(*counted, strict=True))), app.memory()
    load.talks_on = pattern_talks_on

    records = load.records = Records()
    spread = SPREAD[RELAY if load.talks_on else CONVERSATION]
    callers = load.place_calls(calls, spread, load.talks_on)
    live(spread + LEAD)
    records.begin = now()
    meter = Meter(app, cores)
    live(seconds)
    records.end = now()
    used = meter.read()
    memory = app.memory() - idle
    live(TAIL)
    load.hang_up(callers, GOODBYE)
    live(GOODBYE)
    live(PATIENCE, all_gone)

    held = app.held(openai.idle_ports())
    waited = now() + PATIENCE
    while now() < waited and any(a > b for a, b in zip(held, before, strict=True)):
        live(0.25)
        held = app.held(openai.idle_ports())
    for caller in callers:
        expected = sum(
            records.begin <= sent <= records.end
            for sent in itertools.islice(caller.sent, max(caller.first_relayed, 0), None)
        )
        records.lost += expected - caller.seen
    turns = sum(
        records.begin <= turn.said <= records.end
        for caller in callers
        for turn in caller.talk.turns
    )
    return {
        **_latencies(records),
        "cpu_percent_per_call": used.app / calls,
        "cpu_percent": used.app,
        "memory_mb_per_call": memory / calls,
        "idle_memory_mb": idle,
        "left_open_threads": max(0, held.threads - before.threads),
        "left_open_files": max(0, held.files - before.files),
        "left_open_sockets": max(0, held.sockets - before.sockets),
        "kept_workflow_connections": len(openai.idle_ports()),
        "late_replies": records.late,
        "dropped_calls": records.dropped,
        "lost_frames": records.lost,
        "damaged_frames": records.damaged,
        "replies": len(records.turn),
        "turn_every_s": calls * seconds / turns if turns else math.nan,
        "start_s": app.started,
        "generator_cpu_percent": used.generator,
        "generator_lateness_p99_ms": 1000 * percentile(records.lateness, 0.99),
        "others_cpu_percent": used.others,
    }


def _latencies(records: Records) -> dict[str, float]:
    metrics: dict[str, Any] = {}
    for name in ("uplink", "uplink_starting", "down", "clear", "turn", "greeting"):
        values = getattr(records, name)
        for label, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            metrics[f"{name}_{label}_ms"] = 1000 * percentile(values, share)
    return metrics
