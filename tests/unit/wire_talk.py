"""Two connections that talk to each other, in a process of their own.

    python -m tests.unit.wire_talk {threads,gevent} {plain,TLS} FOLDER

Prints as JSON what arrived, and how long it took until a reader knew that it was aborted.
"""

import sys

if sys.argv[1] == "gevent":
    import gevent.monkey

    gevent.monkey.patch_all()

import json
import socket
import ssl
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any

from websockets.protocol import Side

from tools.certificate import Certificate
from transport import PlainTransport, TlsTransport
from wire import Connection

MESSAGES, BYTES = 100, 100_000  # more than the kernel takes on behalf of a side that is busy
LIMIT = 2 * BYTES
MOMENT = 0.2  # seconds, in which who ought to wait could show that it does not


def sockets(certificate: Certificate | None) -> tuple[socket.socket, socket.socket]:
    """Connect two over TCP; return the client's and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        client: socket.socket = socket.create_connection(door.getsockname())
        server, _ = door.accept()
    if certificate:
        tls = Thread(target=lambda: wrapped.append(serve(certificate, server)))
        wrapped: list[socket.socket] = []
        tls.start()
        trusting = ssl.create_default_context(cafile=certificate.file)
        client = trusting.wrap_socket(client, server_hostname="127.0.0.1")
        tls.join()
        (server,) = wrapped
    return client, server


def pair(certificate: Certificate | None) -> tuple[Connection, Connection]:
    """Connect two."""
    client, server = sockets(certificate)
    return Connection(client, Side.CLIENT, LIMIT), Connection(server, Side.SERVER, LIMIT)


def serve(certificate: Certificate, sock: socket.socket) -> socket.socket:
    """Shake hands as a server."""
    return certificate.context.wrap_socket(sock, server_side=True)


def numbered(number: int) -> bytes:
    """Make a long message."""
    return b"%d " % number + b"x" * BYTES


def exchange(both: tuple[Connection, Connection]) -> list[list[int]]:
    """Have each send all its messages, while it reads the other's; return their numbers."""
    arrived: list[list[int]] = [[], []]

    def read(side: int) -> None:
        for message in both[side].messages():
            number = int(message.split()[0])
            assert message == numbered(number)
            arrived[side].append(number)
            if len(arrived[side]) == MESSAGES:
                return

    def write(side: int) -> None:
        for number in range(MESSAGES):
            both[side].send(numbered(number))

    threads = [Thread(target=work, args=(side,)) for work in (read, write) for side in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return arrived


def abort(connection: Connection, other: Connection) -> float:
    """Abort a connection that somebody reads; return after how many seconds the reader knew."""
    has_read = Event()
    ended: list[float] = []

    def read() -> None:
        for _ in connection.messages():
            has_read.set()
        ended.append(monotonic())

    reader = Thread(target=read)
    reader.start()
    other.send(b"Hello")
    has_read.wait()
    sleep(MOMENT)  # it waits for more by now
    aborted = monotonic()
    connection.abort()
    reader.join()
    return ended[0] - aborted


class CountingSocket:
    """A socket that counts how often it is read."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.reads = 0

    def recv(self, size: int) -> bytes:
        self.reads += 1
        return self._socket.recv(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


def reads_while_waiting(client: socket.socket, server: socket.socket) -> int:
    """Return how often a socket is read before there is anything."""
    counting: Any = CountingSocket(server)
    kind = TlsTransport if isinstance(server, ssl.SSLSocket) else PlainTransport
    transport = kind(counting)
    begun = Event()
    received: list[bytes] = []

    def read() -> None:
        with transport.receiving() as receive:
            begun.set()
            received.append(receive())

    reader = Thread(target=read)
    reader.start()
    begun.wait()
    reader.join(MOMENT)
    reads = counting.reads
    assert reader.is_alive()
    client.sendall(b"now")
    reader.join()
    assert received == [b"now"]
    return reads


def main() -> None:
    """Talk."""
    _, _, wire, folder = sys.argv
    certificate = Certificate(Path(folder)) if wire == "TLS" else None
    arrived = exchange(pair(certificate))
    idle, other = pair(certificate)
    seconds = abort(idle, other)
    idle.release()
    left_over = list(other.messages())
    told = {"arrived": arrived, "abort": seconds, "left over": len(left_over)}
    print(json.dumps({**told, "reads": reads_while_waiting(*sockets(certificate))}))


if __name__ == "__main__":
    main()
