"""Starting and stopping `python app.py`, with neither a socket nor a signal."""

from __future__ import annotations

import signal
from threading import Event
from unittest.mock import MagicMock

import pytest

import app


def ignore(*_: object) -> None:
    """Take the place of what isn't wanted here."""


def test_calls_are_watched_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Event()
    for name in ("open_log", "settings", "workflow"):
        monkeypatch.setattr(app, name, MagicMock())
    monkeypatch.setattr(app, "READY", Event())
    monkeypatch.setattr(app, "watch", watched.set)
    app.start()
    assert watched.wait(30)
    assert app.READY.is_set()


def test_a_process_that_is_to_stop_waits_for_its_last_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls, to_stop = {"CA1"}, Event()
    happens = iter([to_stop.set, ignore, calls.clear])
    for name in ("start", "settings", "listen", "tell_started"):
        monkeypatch.setattr(app, name, MagicMock())
    monkeypatch.setattr(signal, "signal", ignore)
    monkeypatch.setattr(app, "CALLS", calls)
    monkeypatch.setattr(app, "DRAINING", to_stop)
    monkeypatch.setattr(app, "sleep", lambda _: next(happens)())
    with pytest.raises(SystemExit) as stopped:
        app.serve()
    assert not stopped.value.code
    assert not calls


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_ends_it_at_once_and_another_sigterm_does_not(
    monkeypatch: pytest.MonkeyPatch, first: signal.Signals
) -> None:
    to_stop = Event()
    monkeypatch.setattr(app, "DRAINING", to_stop)
    app.stop(first, None)
    assert to_stop.is_set()
    app.stop(signal.SIGTERM, None)  # as supervisors repeat it
    with pytest.raises(SystemExit) as stopped:
        app.stop(signal.SIGINT, None)
    assert stopped.value.code == 128 + signal.SIGINT
