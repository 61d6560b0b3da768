"""Processes that come from this one, as gunicorn's workers come from its master."""

from __future__ import annotations

import os
from collections.abc import Callable


def in_a_fork(act: Callable[[], None]) -> None:
    """Do something in such a process, and wait for its end.

    It does nothing else there: other threads' locks would stay locked for ever.
    """
    child = os.fork()
    if child == 0:
        failed = 1
        try:
            act()
            failed = 0
        finally:
            os._exit(failed)
    _, status = os.waitpid(child, 0)
    assert status == 0
