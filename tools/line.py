"""A media stream byte by byte: what no well-behaved client would send."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

from tools.harness import PUBLIC_URL, Service
from tools.simulator.waiting import PATIENCE

TEXT, BINARY, CONTINUED, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
COMPRESSED = 4  # of the reserved bits


class Line:
    """A stream opened as Twilio opens one, over which anything may be sent."""

    def __init__(self, service: Service, **headers: str | None) -> None:
        signed = PUBLIC_URL.replace("http", "ws") + "/media-stream"
        fields = {
            "Host": "voice.example.com",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "X-Twilio-Signature": service.network.signature(signed, {}),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
        request = "\r\n".join(["GET /media-stream HTTP/1.1", *lines, "", ""])
        self.socket = socket.create_connection(("127.0.0.1", service.port), PATIENCE)
        self.send(request.encode("latin-1"))
        answer = b""
        while b"\r\n\r\n" not in answer and (more := self._receive()):
            answer += more
        head, _, rest = answer.partition(b"\r\n\r\n")
        self.answer, self._unread = head.decode("latin-1"), bytearray(rest)
        self.status = int(self.answer.split()[1]) if answer else 0

    def send(self, data: bytes) -> None:
        """Send bytes; that the app has gone is no error."""
        with suppress(OSError):
            self.socket.sendall(data)

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(65536)
        except ConnectionError:
            return b""

    def wait_for_end(self) -> bytes:
        """Wait until the app has ended the stream: sooner than it would give up a silent one.

        It takes leave with a frame, and then lets go of the connection. Return what came between.
        """
        self.wait_for(CLOSE)
        while more := self._receive():
            self._unread += more
        return bytes(self._unread)

    def wait_for(self, opcode: int) -> bytes | None:
        """Skip frames up to one of `opcode`. Return its content, or None if the stream ended."""
        self.socket.settimeout(9)
        while (content := self._skip_to(opcode)) is None:
            try:
                if not (more := self._receive()):
                    return None
            except TimeoutError as error:
                raise AssertionError(f"no frame {opcode} came, and no end") from error
            self._unread += more
        return content

    def _skip_to(self, opcode: int) -> bytes | None:
        while len(self._unread) >= 2:
            size, head = self._unread[1], 2
            if size >= 126:
                head = 4 if size == 126 else 10
                size = int.from_bytes(self._unread[2:head], "big")
            if len(self._unread) < head + size:
                return None
            kind, content = self._unread[0] & 15, bytes(self._unread[head : head + size])
            del self._unread[: head + size]
            if kind == opcode:
                return content
        return None

    def close(self, how: str = "close") -> None:
        """End the stream: by a `close` frame, a `reset`, or simply by `leave`-ing."""
        if how == "close":
            self.send(frame(CLOSE, b"\x03\xe8"))
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


def frame(
    opcode: int,
    payload: bytes,
    *,
    last: bool = True,
    reserved: int = 0,
    masked: bool = True,
    length: int | None = None,
) -> bytes:
    """Build a WebSocket frame; `length` is what its head claims, if that isn't true."""
    size = len(payload) if length is None else length
    mask_bit = 0x80 * masked
    head = bytes([0x80 * last | reserved << 4 | opcode])
    if size < 126:
        head += bytes([mask_bit | size])
    elif size < 65536:
        head += bytes([mask_bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([mask_bit | 127]) + struct.pack("!Q", size)
    if not masked:
        return head + payload
    key = b"\x01\x02\x03\x04"
    pad = (key * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return head + key + mixed.to_bytes(len(payload), "big")
