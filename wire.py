"""WebSockets: bytes to messages and back, cheaply, and how a dead connection shows.

A call has two: Twilio's media stream, which comes to us, and OpenAI Realtime, which we open. The
rules of RFC 6455 are kept by the sans-I/O part of the `websockets` library.
"""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from time import monotonic

from websocket import WebSocketBadStatusException, WebSocketException, create_connection
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import SEND_EOF, Protocol, Side, State

from greenlets import new_lock
from transport import transport_of

CONNECT_SECONDS = 5.0
MAX_STREAM_MESSAGE = 64 * 1024  # bytes; one of Twilio's with 20 ms of sound has some 400
MAX_EVENT = 4 * 1024 * 1024  # bytes; Realtime's longest have some 100 KB


class Refused(OSError):
    """The server refused the handshake with an HTTP `status`."""

    def __init__(self, status: int, answer: str) -> None:
        """Keep the status and what the server said."""
        super().__init__(f"HTTP {status} {answer}".strip())
        self.status = status
        self.answer = answer


class Connection:
    """A WebSocket whose handshake is done.

    One thread reads `messages`; everything else is for any thread. Whoever keeps the time watches
    `quiet_since` and `unanswered_since`, and calls `abort`, which wakes every thread that waits
    here.
    """

    def __init__(self, sock: socket.socket, side: Side, max_size: int) -> None:
        """Take over a connected socket; a message of more than `max_size` bytes ends it."""
        self.open = True
        self.quiet_since = monotonic()
        self.unanswered_since: float | None = None  # the oldest ping without a sign of life since
        self._transport = transport_of(sock)
        self._protocol = Protocol(side, max_size=max_size)
        self._mask = side is Side.CLIENT
        self._sending = new_lock()  # a frame is sent whole
        self._fragments: list[bytes] = []
        self._is_text = False  # the message in fragments

    # --- receiving --------------------------------------------------------------------------------

    def messages(self) -> Iterator[bytes]:
        """Yield each text message, in UTF-8, until the connection ends, for whatever reason.

        A binary message, which neither Twilio nor Realtime sends, is yielded as an empty one.
        """
        # Reset by the other side, or aborted by another thread
        with suppress(OSError), self._transport.receiving() as receive:
            while self.open and (data := receive()):
                self.quiet_since = monotonic()
                self.unanswered_since = None
                yield from self._parse(data)
                if self._protocol.state is not State.OPEN:
                    break
        self.abort()

    @property
    def close_reason(self) -> str:
        """Why it ended: what the other side gave as its reason, or did wrong; "" if unknown."""
        broken = self._protocol.parser_exc
        if isinstance(broken, ProtocolError | PayloadTooBig):
            return str(broken)
        return str(self._protocol.close_rcvd or "")

    def _parse(self, data: bytes) -> list[bytes]:
        self._protocol.receive_data(data)
        for answer in self._protocol.data_to_send():  # to a ping, a close, or a broken rule
            self._answer(answer)
        messages = []
        for frame in self._protocol.events_received():
            assert isinstance(frame, Frame)  # handshakes are done
            if frame.opcode is Opcode.TEXT and frame.fin:
                messages.append(bytes(frame.data))
            elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                messages += self._join(frame)
        return messages

    def _answer(self, data: bytes) -> None:
        if data != SEND_EOF:
            self._write(data)
            return
        with self._sending:
            self._shut_down(socket.SHUT_WR)

    def _join(self, frame: Frame) -> list[bytes]:
        if frame.opcode is not Opcode.CONT:
            self._fragments = []
            self._is_text = frame.opcode is Opcode.TEXT
        self._fragments.append(bytes(frame.data))
        if not frame.fin:
            return []
        return [b"".join(self._fragments) if self._is_text else b""]

    # --- sending ----------------------------------------------------------------------------------

    def send(self, message: bytes) -> None:
        """Send a text, in UTF-8; into a dead connection nothing is sent, and its reader ends."""
        self._write(Frame(Opcode.TEXT, message).serialize(mask=self._mask))

    def ping(self) -> None:
        """Ask for a sign of life."""
        if self.unanswered_since is None:
            self.unanswered_since = monotonic()
        self._write(Frame(Opcode.PING, b"").serialize(mask=self._mask))

    def _write(self, data: bytes) -> None:
        try:
            with self._sending:
                sent = self._transport.send(data)
                while sent < len(data):  # gevent's `sendall` costs twice as much as one `send`
                    sent += self._transport.send(data[sent:])
        except OSError:  # perhaps with half a frame sent: nothing more can be said
            self.abort()

    # --- ending -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Take leave, and read no more."""
        if not self.open:
            return
        self.open = False
        leave = Close(CloseCode.NORMAL_CLOSURE, "").serialize()
        self._write(Frame(Opcode.CLOSE, leave).serialize(mask=self._mask))
        self._shut_down(socket.SHUT_RD)

    def abort(self) -> None:
        """End it at once."""
        self.open = False
        self._shut_down(socket.SHUT_RDWR)

    def release(self) -> None:
        """End it, and give the socket back to the system."""
        self.abort()
        with self._sending:
            self._transport.close()

    def _shut_down(self, how: int) -> None:
        with suppress(OSError):  # it is down already
            self._transport.shut_down(how)


@contextmanager
def connect(url: str, headers: Mapping[str, str]) -> Iterator[Connection]:
    """Open a WebSocket, and release it in the end.

    Raises Refused for a handshake that was answered by an HTTP status, and OSError for any other
    way not to be connected.
    """
    connection = Connection(_shake_hands(url, headers), Side.CLIENT, MAX_EVENT)
    try:
        yield connection
    finally:
        connection.release()


def _shake_hands(url: str, headers: Mapping[str, str]) -> socket.socket:
    try:
        # A redirect would carry the key to wherever it leads.
        opened = create_connection(url, CONNECT_SECONDS, header=headers, redirect_limit=0)
    except WebSocketBadStatusException as error:
        answer = error.resp_body or b""
        raise Refused(error.status_code, answer[:500].decode(errors="replace")) from error
    except (WebSocketException, ValueError) as error:
        raise OSError(str(error)) from error
    assert opened.sock is not None
    return opened.sock
