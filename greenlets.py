"""What is done otherwise where gevent runs."""

import sys
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any


def runs_gevent() -> bool:
    """Tell whether gevent has patched this process's sockets."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return bool(monkey and monkey.is_module_patched("socket"))


def new_lock() -> AbstractContextManager[object]:
    """Return a lock for what is done all the time: gevent's `Lock` costs twice as much as this."""
    if not runs_gevent():
        return Lock()
    from gevent.lock import Semaphore  # noqa: PLC0415 - threads go without it

    return Semaphore()
