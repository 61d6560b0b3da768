"""Tests that share a running service keep out of each other's way."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tools.harness import Process, Service
from tools.simulator.loop_thread import LoopThread


def test_what_one_test_made_fail_works_in_the_next(service: Service) -> None:
    service.network.rest_fail_next(50, 500)
    service.begin()  # as before every test: they share a running service
    service.brain.reply = lambda text, history: "Goodbye. [hangup]"
    call = service.call()
    call.say("Bye")
    call.wait_ended()
    assert call.end_reason == "completed by REST"


def test_a_child_that_ends_while_it_is_counted_is_left_out(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, pids = service.held(), service.process.pids
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        gone = child.pid
    lists = iter([[*pids, gone], pids])
    monkeypatch.setattr(Process, "pids", property(lambda process: next(lists, pids)))
    now = service.held()
    assert now.threads <= held.threads  # that of gevent's resolver may have ended meanwhile
    assert now._replace(threads=0) == held._replace(threads=0)
    assert next(lists, None) is None


def test_a_loop_that_is_over_says_nothing_in_later_tests() -> None:
    """asyncio logs whatever is still pending when it is collected: a server's connection, say."""
    loop = LoopThread("loop of a server")
    loop.start()
    cancelled: list[str] = []
    tasks: list[asyncio.Task[None]] = []  # collected sooner, one would say so by itself
    loop.do(lambda: tasks.append(asyncio.ensure_future(_wait_for_ever(cancelled))))
    loop.stop()
    with told_by("asyncio") as told:
        tasks.clear()
        gc.collect()
    assert cancelled == ["cancelled"]
    assert "_wait_for_ever" not in told.getvalue()


@contextmanager
def told_by(logger: str) -> Iterator[io.StringIO]:
    """Keep what a logger is told meanwhile."""
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    logging.getLogger(logger).addHandler(handler)
    yield told
    logging.getLogger(logger).removeHandler(handler)


async def _wait_for_ever(cancelled: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        cancelled.append("cancelled")


@pytest.mark.xdist_group("together")
def test_a_group_of_tests_is_known_to_what_hands_tests_out(
    request: pytest.FixtureRequest, worker_id: str
) -> None:
    """Else each unusual service is started six times, for want of a fitting pytest-xdist."""
    assert worker_id == "master" or request.node.nodeid.endswith("@together")
