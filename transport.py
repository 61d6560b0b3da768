"""A connected socket's bytes, in and out: plain or TLS, under threads or under gevent.

What is done here is done 50 times a second for every call, so it has to be cheap. Nothing has a
timeout, for which gevent would start a timer each time. Under gevent a reader keeps its watcher,
which `poll` would make anew for every wait; and if the socket is plain it waits before it reads:
gevent's `recv` tries first, in vain where frames come one by one.
"""

import select
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from threading import Lock

from greenlets import runs_gevent

RECEIVE_BYTES = 16 * 1024  # Realtime's events with sound have some 4 KB, and come with others
READ = 1  # an event of gevent's loops

Receive = Callable[[], bytes]  # waits for bytes; returns b"" when no more will come
Wait = Callable[[], object]


class Transport:
    """A socket that one thread receives from while others send to it, one at a time.

    All that is done with it raises OSError once it has ended.
    """

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket."""
        self._socket = sock

    def shut_down(self, how: int) -> None:
        """End one direction, or both (`socket.SHUT_…`); who waits here for it is woken."""
        # An SSL socket's own `shutdown` would pull the SSL object from under its reader
        socket.socket.shutdown(self._socket, how)

    def close(self) -> None:
        """Give the socket back to the system."""
        self._socket.close()


class PlainTransport(Transport):
    """A socket without TLS."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket."""
        super().__init__(sock)
        sock.settimeout(None)
        self.send = sock.send  # returns how many bytes were sent

    @contextmanager
    def receiving(self) -> Iterator[Receive]:
        """Give the reader a function that receives."""
        receive = partial(self._socket.recv, RECEIVE_BYTES)
        if not runs_gevent():
            yield receive
            return
        with watched(self._socket) as wait:

            def wait_and_receive() -> bytes:
                wait()
                return receive()

            yield wait_and_receive


class TlsTransport(Transport):
    """A socket with TLS, which doesn't wait by itself."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        """Take over a connected socket."""
        super().__init__(sock)
        sock.settimeout(0.0)
        # Greenlets need no lock: none is switched in what doesn't wait
        self._tls = sock if runs_gevent() else OneAtATime(sock)

    @contextmanager
    def receiving(self) -> Iterator[Receive]:
        """Give the reader a function that receives."""
        with until_readable(self._socket) as wait:
            yield partial(self._receive, wait)

    def _receive(self, wait: Wait) -> bytes:
        while True:
            try:
                return self._tls.recv(RECEIVE_BYTES)
            except ssl.SSLWantReadError:
                wait()

    def send(self, data: bytes) -> int:
        """Wait until some can be sent, and return how many bytes were."""
        while True:
            try:
                sent = self._tls.send(data)
            except ssl.SSLWantWriteError:
                sent = 0  # which gevent's returns instead
            if sent:
                return sent
            poll = select.poll()
            poll.register(self._socket, select.POLLOUT)
            poll.poll()


class OneAtATime:
    """Reading and writing by threads: both at once can break an SSL object.

    Nobody waits for the network meanwhile. See https://github.com/python/cpython/issues/143756.
    """

    def __init__(self, sock: ssl.SSLSocket) -> None:
        """Take a socket without a timeout."""
        self._socket = sock
        self._lock = Lock()

    def recv(self, size: int) -> bytes:
        """Raise ssl.SSLWantReadError if there is nothing to read."""
        with self._lock:
            return self._socket.recv(size)

    def send(self, data: bytes) -> int:
        """Raise ssl.SSLWantWriteError if nothing can be sent."""
        with self._lock:
            return self._socket.send(data)


def transport_of(sock: socket.socket) -> PlainTransport | TlsTransport:
    """Take over a connected socket."""
    return TlsTransport(sock) if isinstance(sock, ssl.SSLSocket) else PlainTransport(sock)


# --- waiting --------------------------------------------------------------------------------------


def until_readable(sock: socket.socket) -> AbstractContextManager[Wait]:
    """Give what waits until a socket can be read, or has ended; for one thread at a time."""
    return watched(sock) if runs_gevent() else polled(sock)


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
