"""A port for a process that is about to start: reserved by holding it, not by guessing."""

from __future__ import annotations

import socket


class ReservedPort:
    """Hold a TCP port for a server in another process; a context manager.

    The port is bound but never listens. On Linux a server that sets SO_REUSEADDR, as werkzeug and
    gunicorn do, may bind and listen on it all the same, and again after a restart. The kernel gives
    it to nobody else: neither to a socket bound to port 0 nor to an outgoing connection.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("0.0.0.0", 0))
        self.number: int = self._socket.getsockname()[1]

    @property
    def url(self) -> str:
        """Where the server will answer."""
        return f"http://127.0.0.1:{self.number}"

    def release(self) -> None:
        """Let the kernel give the port to whoever asks next."""
        self._socket.close()

    def __enter__(self) -> ReservedPort:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __str__(self) -> str:
        return str(self.number)
