"""A WebSocket over a pair of sockets: messages, broken rules, and every way to end."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Event, Protocol, Side

from tools.app_process import START_SECONDS
from tools.simulator.waiting import PATIENCE
from transport import TlsTransport
from wire import Connection, Refused, connect

LIMIT = 1000  # bytes a message
ROOT = Path(__file__).parent.parent.parent


class Peer:
    """The other side of a connection, which sends whatever bytes a test likes."""

    def __init__(self, side: Side) -> None:
        self.socket, other = socket.socketpair()
        self.socket.settimeout(PATIENCE)
        self.masks = side is Side.CLIENT
        self.connection = Connection(
            other, Side.SERVER if side is Side.CLIENT else Side.CLIENT, LIMIT
        )
        self.protocol = Protocol(side)
        self.received: list[Event] = []

    def send(self, opcode: Opcode, data: bytes, *, fin: bool = True) -> None:
        self.socket.sendall(Frame(opcode, data, fin).serialize(mask=self.masks))

    def receive(self) -> Frame:
        """Return the next frame that our side sent; the library checks that it keeps the rules."""
        while not self.received:
            data = self.socket.recv(65536)
            assert data, "the connection has ended"
            self.protocol.receive_data(data)
            self.received += self.protocol.events_received()
        frame = self.received.pop(0)
        assert isinstance(frame, Frame)
        return frame

    def leave(self) -> None:
        self.socket.close()

    def messages(self) -> list[bytes]:
        """Return what our side made of all that was sent, up to the end."""
        self.socket.shutdown(socket.SHUT_WR)
        return list(self.connection.messages())


@pytest.fixture(params=[Side.CLIENT, Side.SERVER], ids=["Twilio", "Realtime"])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    """Twilio is the client of its stream, and Realtime the server of its session."""
    peer = Peer(request.param)
    yield peer
    peer.leave()
    peer.connection.release()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, LIMIT])
def test_a_message_comes_as_it_was_sent(peer: Peer, size: int) -> None:
    peer.send(Opcode.TEXT, b"x" * size)
    peer.send(Opcode.TEXT, b"next")
    assert peer.messages() == [b"x" * size, b"next"]


def test_a_message_in_fragments_is_put_together(peer: Peer) -> None:
    peer.send(Opcode.TEXT, b"one ", fin=False)
    peer.send(Opcode.PING, b"?")
    peer.send(Opcode.CONT, b"two ", fin=False)
    peer.send(Opcode.CONT, b"three")
    peer.send(Opcode.TEXT, b"four")
    assert peer.messages() == [b"one two three", b"four"]


def test_frames_may_come_in_pieces_and_several_at_once(peer: Peer) -> None:
    frames = [Frame(Opcode.TEXT, b"%d" % n).serialize(mask=peer.masks) for n in range(20)]
    stream = b"".join(frames)
    for start in range(0, len(stream), 7):
        peer.socket.sendall(stream[start : start + 7])
    assert peer.messages() == [b"%d" % n for n in range(20)]


def test_a_binary_message_is_an_empty_one(peer: Peer) -> None:
    peer.send(Opcode.BINARY, b'{"event": "mark"}')
    peer.send(Opcode.BINARY, b'{"event": ', fin=False)
    peer.send(Opcode.CONT, b'"mark"}')
    peer.send(Opcode.TEXT, b"text")
    assert peer.messages() == [b"", b"", b"text"]


def test_a_ping_is_answered(peer: Peer) -> None:
    peer.send(Opcode.PING, b"are you there?")
    assert peer.messages() == []
    pong = peer.receive()
    assert (pong.opcode, pong.data) == (Opcode.PONG, b"are you there?")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\x81\x05hello", "incorrect masking"),
        (b"\xc1\x80\x00\x00\x00\x00", "reserved bits must be 0"),
        (b"\x83\x80\x00\x00\x00\x00", "invalid opcode"),
        (b"\x80\x80\x00\x00\x00\x00", "unexpected continuation frame"),
        (b"\x09\x80\x00\x00\x00\x00", "fragmented control frame"),
    ],
)
def test_a_frame_against_the_rules_ends_the_stream_and_says_why(raw: bytes, why: str) -> None:
    peer = Peer(Side.CLIENT)
    peer.socket.sendall(raw)
    peer.send(Opcode.TEXT, b"not read any more")
    assert peer.messages() == []
    assert why in peer.connection.close_reason
    assert Close.parse(peer.receive().data).code == 1002


def test_a_masked_frame_of_a_server_is_against_the_rules() -> None:
    peer = Peer(Side.SERVER)
    peer.socket.sendall(Frame(Opcode.TEXT, b"hello").serialize(mask=True))
    assert peer.messages() == []
    assert "incorrect masking" in peer.connection.close_reason


def test_a_frame_with_an_extended_length_of_nothing_swallows_nothing() -> None:
    peer = Peer(Side.CLIENT)
    peer.socket.sendall(b"\x81\xfe\x00\x00" + bytes(4))
    peer.send(Opcode.TEXT, b"x" * 126)
    assert peer.messages() == [b"", b"x" * 126]


@pytest.mark.parametrize("fragments", [1, 3])
def test_a_message_that_is_too_long_ends_the_stream(peer: Peer, fragments: int) -> None:
    piece = b"x" * (LIMIT // fragments + 1)
    for number in range(fragments):
        last = number == fragments - 1
        peer.send(Opcode.CONT if number else Opcode.TEXT, piece, fin=last)
    assert peer.messages() == []
    assert "exceeds" in peer.connection.close_reason or "over" in peer.connection.close_reason


def test_the_reason_of_a_close_is_kept_and_the_close_answered(peer: Peer) -> None:
    peer.send(Opcode.TEXT, b"before")
    peer.send(Opcode.CLOSE, Close(4429, "rate limited: too many sessions").serialize())
    peer.send(Opcode.TEXT, b"after")
    assert peer.messages() == [b"before"]
    assert "4429" in peer.connection.close_reason
    assert "rate limited: too many sessions" in peer.connection.close_reason
    assert Close.parse(peer.receive().data).code == 4429


def test_what_we_send_arrives_masked_or_not_as_the_rules_want(peer: Peer) -> None:
    sizes = [0, 125, 126, 70_000]

    def send() -> None:
        for size in sizes:
            peer.connection.send(b"x" * size)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    assert [len(peer.receive().data) for _ in sizes] == sizes
    sender.join()


def test_masks_are_fresh_and_unpredictable() -> None:
    peer = Peer(Side.SERVER)
    masks = set()
    for _ in range(50):
        peer.connection.send(b"same")
        masks.add(peer.socket.recv(2 + 4 + 4)[2:6])
    assert len(masks) == 50


def test_two_threads_that_send_at_once_mix_no_frames(peer: Peer) -> None:
    def send(letter: bytes) -> None:
        for _ in range(50):
            peer.connection.send(letter * 5000)

    threads = [threading.Thread(target=send, args=[each], daemon=True) for each in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for _ in range(100):
        data = peer.receive().data
        assert data in (b"a" * 5000, b"b" * 5000)
    for thread in threads:
        thread.join()


def test_leaving_sends_a_close_and_reads_no_more(peer: Peer) -> None:
    reader = reading(peer)
    peer.connection.close()
    assert Close.parse(peer.receive().data).code == 1000
    reader.join(PATIENCE)
    assert not reader.is_alive()
    assert not peer.connection.open


@pytest.mark.parametrize("busy", ["reading", "sending"])
def test_an_abort_wakes_whoever_waits(peer: Peer, busy: str) -> None:
    thread = reading(peer) if busy == "reading" else sending(peer)
    peer.connection.abort()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def reading(peer: Peer) -> threading.Thread:
    """Have a thread read, which has read one message already and waits for more."""
    has_read = threading.Event()

    def read() -> None:
        for _ in peer.connection.messages():
            has_read.set()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    peer.send(Opcode.TEXT, b"Hello")
    assert has_read.wait(PATIENCE)
    return thread


def sending(peer: Peer) -> threading.Thread:
    """Have a thread send far more than is read of it."""
    thread = threading.Thread(target=peer.connection.send, args=[b"x" * 50_000_000], daemon=True)
    thread.start()
    peer.socket.recv(1)
    return thread


def test_sending_to_who_has_left_is_no_error(peer: Peer) -> None:
    peer.leave()
    for _ in range(3):
        peer.connection.send(b"hello?")
        peer.connection.ping()
    assert not peer.connection.open


def test_a_ping_waits_for_any_sign_of_life(peer: Peer) -> None:
    assert peer.connection.unanswered_since is None
    peer.connection.ping()
    first = peer.connection.unanswered_since
    peer.connection.ping()
    assert first is not None
    assert peer.connection.unanswered_since == first  # the oldest counts
    peer.send(Opcode.PONG, b"")
    peer.messages()
    assert peer.connection.unanswered_since is None


# --- opening one ----------------------------------------------------------------------------------


def answer_once(answer: bytes) -> str:
    """Answer one handshake with these bytes; return the address."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = server.accept()
        with client, server:
            client.recv(65536)
            client.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return f"ws://127.0.0.1:{server.getsockname()[1]}/v1/realtime"


def test_a_refused_handshake_tells_its_status_and_words() -> None:
    body = b"invalid_api_key"
    url = answer_once(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 15\r\n\r\n" + body)
    with pytest.raises(Refused) as refused, connect(url, {}):
        pass
    assert refused.value.status == 401
    assert "invalid_api_key" in str(refused.value)


def test_a_redirect_is_not_followed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        place = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/"
        url = answer_once(
            f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        with pytest.raises(OSError), connect(url, {"Authorization": "Bearer secret"}):
            pass
        with pytest.raises(BlockingIOError):  # nobody has come
            elsewhere.accept()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"\x00\xff nonsense\r\n\r\n"])
def test_whoever_speaks_no_websocket_is_an_os_error(answer: bytes) -> None:
    with pytest.raises(OSError), connect(answer_once(answer), {}):
        pass


def test_nobody_there_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(OSError), connect(f"ws://127.0.0.1:{port}/", {}):
        pass


class BusySocket:
    """Stands for a socket with TLS; it takes its time to read, and notes what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.reading = threading.Event()
        self.may_end = threading.Event()

    def settimeout(self, seconds: float) -> None:
        assert seconds == 0.0, "who has the lock must not wait for the network"

    def recv(self, size: int) -> bytes:
        self.reading.set()
        self.may_end.wait(PATIENCE)
        self.done.append("read")
        return b"x"

    def send(self, data: bytes) -> int:
        self.done.append("sent")
        return len(data)

    def fileno(self) -> int:
        return 0  # any; it isn't waited for


def test_threads_read_and_write_a_socket_with_tls_one_at_a_time() -> None:
    busy: Any = BusySocket()
    transport = TlsTransport(busy)
    with transport.receiving() as receive:
        reader = threading.Thread(target=receive)
        writer = threading.Thread(target=transport.send, args=(b"y",))
        reader.start()
        assert busy.reading.wait(PATIENCE)
        writer.start()
        writer.join(0.2)  # in which it would have been sent
        busy.may_end.set()
        reader.join(PATIENCE)
        writer.join(PATIENCE)
    assert busy.done == ["read", "sent"]


@pytest.mark.parametrize("wire", ["plain", "TLS"])
@pytest.mark.parametrize("mode", ["threads", "gevent"])
def test_two_that_send_at_once_more_than_is_read_both_arrive(
    mode: str, wire: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.unit.wire_talk", mode, wire, str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=START_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["arrived"] == [list(range(100)), list(range(100))]
    assert said["left over"] == 0
    # gevent's `recv` would try in vain, so it waits first. With TLS it must be tried, and again
    # when a ticket comes.
    most = 0 if (mode, wire) == ("gevent", "plain") else 5
    assert said["reads"] <= most, "it waits in between"
    assert said["abort"] < PATIENCE, "it learns of it by the abort, and by nothing else"
