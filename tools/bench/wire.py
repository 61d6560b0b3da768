"""What the generator stands on: one thread, non-blocking sockets, timers, WebSocket frames.

The generator shares the machine with what it measures, so all of this must be cheap. Times are
seconds of `time.monotonic()`.
"""

from __future__ import annotations

import heapq
import itertools
import select
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from time import monotonic as now
from typing import NamedTuple

MAX_UNSENT = 8 * 1024 * 1024  # bytes; a peer that reads so little is as good as gone
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Loop:
    """Sockets and timers, served one after the other."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def watch(self, fd: int, handler: Callable[[int], None]) -> None:
        """Call `handler(events)` when the descriptor can be read, or has failed."""
        self._epoll.register(fd, select.EPOLLIN)
        self._handlers[fd] = handler

    def watch_writing(self, fd: int, wanted: bool) -> None:
        """Also call the handler when the descriptor can be written, or no longer."""
        self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def forget(self, fd: int) -> None:
        """Watch the descriptor no longer."""
        if self._handlers.pop(fd, None):
            self._epoll.unregister(fd)

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Call `act` at a time, or as soon as possible after it."""
        heapq.heappush(self._timers, (when, next(self._order), act))

    def pump(self, timeout: float = 0.0, most: int = 512) -> None:
        """Serve `most` sockets that are ready, after waiting `timeout` seconds at most for one."""
        handlers = self._handlers
        for fd, events in self._epoll.poll(timeout, most):
            if handler := handlers.get(fd):
                handler(events)

    def run(self, until: float, finished: Callable[[], bool] = lambda: False) -> None:
        """Serve sockets and timers until a time, or until `finished()` is true."""
        timers = self._timers
        while (moment := now()) < until and not finished():
            while timers and timers[0][0] <= moment:
                heapq.heappop(timers)[2]()
            next_due = min(timers[0][0], until) if timers else until
            self.pump(min(max(next_due - now(), 0.0), 0.05))

    def close(self) -> None:
        """Forget every timer and close what is still watched."""
        self._timers.clear()
        for handler in list(self._handlers.values()):
            if isinstance(owner := getattr(handler, "__self__", None), Connection):
                owner.close()
        self._epoll.close()


class Connection(ABC):
    """One TCP connection, with TLS or without, whose bytes come to `on_data`."""

    def __init__(self, loop: Loop, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.loop = loop
        self.open = True
        self._shaking_hands = tls is not None
        if tls:
            sock = tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self._tls = tls is not None
        self._sock = sock
        self._fd = sock.fileno()
        self._unsent = b""
        loop.watch(self._fd, self._serve)

    @abstractmethod
    def on_data(self, data: bytes) -> None:
        """Take what has arrived."""

    def on_end(self) -> None:  # noqa: B027 - not every side has something left to do
        """Learn that the other side is gone. The connection is closed already."""

    def write(self, data: bytes) -> None:
        """Send now what can be sent, and the rest as soon as it can."""
        if not self.open:
            return
        if self._unsent:
            self._unsent += data
            if len(self._unsent) > MAX_UNSENT:
                self._fail()
            return
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            sent = 0
        except OSError:
            return self._fail()
        if sent < len(data):
            self._unsent = data[sent:]
            self.loop.watch_writing(self._fd, True)

    def close(self) -> None:
        """Close at once. `on_end` isn't called."""
        if self.open:
            self.open = False
            self.loop.forget(self._fd)
            self._sock.close()

    def _serve(self, events: int) -> None:
        if self._shaking_hands and not self._shake_hands():
            return
        if events & select.EPOLLOUT and self._unsent:
            data, self._unsent = self._unsent, b""
            self.loop.watch_writing(self._fd, False)
            self.write(data)
        if not events & ~select.EPOLLOUT:
            return
        while self.open:
            try:
                data = self._sock.recv(262_144)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError:
                return self._fail()
            if not data:
                return self._fail()
            self.on_data(data)
            if not self._tls:  # TLS may hold more than the socket shows
                return

    def _shake_hands(self) -> bool:
        try:
            assert isinstance(self._sock, ssl.SSLSocket)
            self._sock.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            self._fail()
            return False
        self._shaking_hands = False
        return True

    def _fail(self) -> None:
        self.close()
        self.on_end()


def connect(port: int) -> socket.socket:
    """Begin to connect to a port of 127.0.0.1; what is written meanwhile waits."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(("127.0.0.1", port))
    return sock


# --- WebSocket --------------------------------------------------------------------------------


class Frame(NamedTuple):
    """Where one WebSocket frame lies in a buffer: its payload, and its mask, or 0 for none."""

    opcode: int
    mask: int
    start: int
    end: int


def split_frames(data: bytes) -> tuple[list[Frame], int]:
    """Find the whole frames in a buffer; return them, and where the first incomplete one begins.

    Raises ValueError for a message in fragments, which nobody here sends.
    """
    frames, at, size = [], 0, len(data)
    while size - at >= 2:
        first, second = data[at], data[at + 1]
        if not first & 0x80:
            raise ValueError("a WebSocket message in fragments")
        length, start = second & 0x7F, at + 2
        if length >= 126:
            if size < (start := at + (4 if length == 126 else 10)):
                break
            length = int.from_bytes(data[at + 2 : start], "big")
        mask = 0
        if second & 0x80:
            mask, start = start, start + 4
        if start + length > size:
            break
        at = start + length
        frames.append(Frame(first & 0x0F, mask, start, at))
    return frames, at


def unmask(data: bytes, frame: Frame, most: int | None = None) -> bytes:
    """Return a frame's payload in plain, or its first `most` bytes."""
    part = data[frame.start : frame.end if most is None else min(frame.start + most, frame.end)]
    if not frame.mask:
        return part
    size = len(part)
    key = (data[frame.mask : frame.mask + 4] * (size // 4 + 1))[:size]
    plain = int.from_bytes(part, "little") ^ int.from_bytes(key, "little")
    return plain.to_bytes(size, "little")


def server_frame(text: bytes, opcode: int = TEXT) -> bytes:
    """Frame a message as a server does, without a mask."""
    return _header(opcode, len(text), 0) + text


def client_frame(text: bytes, opcode: int = TEXT) -> bytes:
    """Frame a message as a client does; the mask's key is zero, so that the text stays as it is."""
    return _header(opcode, len(text), 0x80) + b"\0\0\0\0" + text


def _header(opcode: int, length: int, masked: int) -> bytes:
    first = bytes([0x80 | opcode])
    if length < 126:
        return first + bytes([masked | length])
    if length < 65536:
        return first + bytes([masked | 126]) + length.to_bytes(2, "big")
    return first + bytes([masked | 127]) + length.to_bytes(8, "big")
