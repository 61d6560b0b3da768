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
    """Return a lock, for `with` alone.

    Under gevent it is a semaphore, which costs half as much as the `Lock` there.
    """
    if not runs_gevent():
        return Lock()
    from gevent.lock import Semaphore  # noqa: PLC0415 - threads go without it

    return Semaphore()
