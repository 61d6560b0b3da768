"""A connected socket's bytes, in and out: plain or TLS, under threads or under gevent.

Here is what a frame costs, 50 times a second in each direction of every call. So nothing has a
timeout, for which gevent would start a timer each time. And under gevent a reader waits first, by a
watcher that it keeps: gevent's own `recv` tries to read before it waits, in vain where frames come
one by one, and its `poll` makes a watcher for every wait.
"""

import select
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from threading import Lock
from typing import Any

RECEIVE_BYTES = 16 * 1024  # Realtime's events with sound have some 4 KB, and come with others
READ = 1  # an event of gevent's loops

Receive = Callable[[], bytes]  # waits for bytes; returns b"" when no more will come
Wait = Callable[[], object]


class PlainTransport:
    """A socket without TLS. One thread receives; others may send meanwhile, one at a time."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket."""
        sock.settimeout(None)
        self._socket = sock
        self.send = sock.send  # it returns how many bytes were sent; raises OSError

    @contextmanager
    def receiving(self) -> Iterator[Receive]:
        """Give the reader what receives. Calling it raises OSError."""
        receive = partial(self._socket.recv, RECEIVE_BYTES)
        if not runs_gevent():
            yield receive
            return
        with watched(self._socket) as wait:

            def wait_and_receive() -> bytes:
                wait()
                return receive()

            yield wait_and_receive

    def shut_down(self, how: int) -> None:
        """End one direction, or both; who waits here for it is woken. Raises OSError."""
        self._socket.shutdown(how)

    def close(self) -> None:
        """Give the socket back to the system."""
        self._socket.close()


class TlsTransport:
    """A socket with TLS, for the same use.

    Before Python 3.13, reading and writing at once breaks an SSL object. So one is done at a time,
    and whoever must wait for the network does so apart from that.
    """

    def __init__(self, sock: ssl.SSLSocket) -> None:
        """Take over a connected socket."""
        sock.settimeout(0.0)
        self._socket = sock
        self._one_at_a_time = Lock()

    @contextmanager
    def receiving(self) -> Iterator[Receive]:
        """Give the reader what receives. Calling it raises OSError."""
        with until_readable(self._socket) as wait:
            yield partial(self._receive, wait)

    def _receive(self, wait: Wait) -> bytes:
        while True:
            with suppress(ssl.SSLWantReadError), self._one_at_a_time:
                return self._socket.recv(RECEIVE_BYTES)
            wait()

    def send(self, data: bytes) -> int:
        """Wait until some can be sent, and return how many bytes were. Raises OSError."""
        while True:
            with suppress(ssl.SSLWantWriteError), self._one_at_a_time:
                sent = self._socket.send(data)
                if sent:  # gevent's tells by 0 that it must wait
                    return sent
            poll = select.poll()
            poll.register(self._socket, select.POLLOUT)
            poll.poll()

    def shut_down(self, how: int) -> None:
        """End one direction, or both; who waits here for it is woken. Raises OSError."""
        # Its own `shutdown` would pull the SSL object from under its reader
        socket.socket.shutdown(self._socket, how)

    def close(self) -> None:
        """Give the socket back to the system."""
        self._socket.close()


def transport_of(sock: socket.socket) -> PlainTransport | TlsTransport:
    """Take over a connected socket."""
    return TlsTransport(sock) if isinstance(sock, ssl.SSLSocket) else PlainTransport(sock)


# --- waiting --------------------------------------------------------------------------------------


def until_readable(sock: socket.socket) -> AbstractContextManager[Wait]:
    """Give what waits until a socket can be read, or has ended; for one thread at a time."""
    return watched(sock) if runs_gevent() else polled(sock)


def runs_gevent() -> bool:
    """Tell whether gevent has patched this process's sockets."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return bool(monkey and monkey.is_module_patched("socket"))


@contextmanager
def watched(sock: socket.socket) -> Iterator[Wait]:
    """Wait by a watcher of gevent's."""
    from gevent.hub import get_hub  # noqa: PLC0415 - threads go without it

    hub = get_hub()
    watcher = hub.loop.io(sock.fileno(), READ)
    try:
        yield partial(hub.wait, watcher)
    finally:
        watcher.close()


@contextmanager
def polled(sock: socket.socket) -> Iterator[Wait]:
    """Wait as threads do."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    yield poll.poll
