"""Processes that come from this one, as gunicorn's workers come from its master."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import get_context


def in_a_fork(act: Callable[[], None]) -> None:
    """Do something in such a process, and wait for its end."""
    child = get_context("fork").Process(target=act)
    child.start()
    child.join()
    assert child.exitcode == 0
