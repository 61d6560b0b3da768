"""Wait until a socket can be read, at little cost, under threads and under gevent.

gevent's `recv` tries to read before it waits, in vain where frames come one by one, and its `poll`
makes a watcher for every wait. So a reader's watcher is kept here.
"""

import select
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

READ = 1  # an event of gevent's loops


@contextmanager
def readiness(sock: socket.socket) -> Iterator[Callable[[], object]]:
    """Give what waits until the socket can be read, or has ended; for one thread at a time.

    Under threads it waits for TLS alone: any other socket's `recv` does by itself.
    """
    if runs_gevent():
        with watched(sock) as wait:
            yield wait
    elif isinstance(sock, ssl.SSLSocket):
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        yield poll.poll
    else:
        yield lambda: None


def runs_gevent() -> bool:
    """Tell whether gevent has patched this process's sockets."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return bool(monkey and monkey.is_module_patched("socket"))


@contextmanager
def watched(sock: socket.socket) -> Iterator[Callable[[], object]]:
    """Wait by a watcher of gevent's."""
    import gevent.hub  # noqa: PLC0415 - threads go without it
    import gevent.socket  # noqa: PLC0415

    watcher = gevent.hub.get_hub().loop.io(sock.fileno(), READ)
    try:
        yield partial(gevent.socket.wait, watcher)
    finally:
        watcher.close()
