"""The proxies' files keep a process that goes away from being heard: a request asks the other one.

The processes here are stand-ins that go away at the worst moments; how real ones are restarted
while callers talk is tried in `test_survival.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import sleep

import pytest
import requests

from tools.app_process import eventually
from tools.ports import ReservedPort
from tools.proxies import PROXIES, Proxy, program


class Machine(BaseHTTPRequestHandler):
    """A process that answers every request with the host that was asked.

    It lets a connection be used for the next request.
    """

    protocol_version = "HTTP/1.1"
    good_for = 1_000_000  # requests by POST that a connection is good for
    answered = 0

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.answered == self.good_for:
            self.close_connection = True  # as when it ends: without an answer
            return
        self.answered += 1
        self._answer()

    def _answer(self, status: int = 200) -> None:
        host = self.headers.get("Host", "").encode()  # HAProxy asks /health without one
        self.send_response(status)
        self.send_header("Content-Length", str(len(host)))
        self.end_headers()
        self.wfile.write(host)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


class HangsUp(Machine):
    """A process that takes a request and ends."""

    good_for = 0


class HangsUpLater(Machine):
    """A process that ends between two requests of a connection."""

    good_for = 1


class Leaves(HangsUp):
    """A process that has announced its end."""

    def do_GET(self) -> None:
        self._answer(503)


@contextmanager
def listening(kind: type[Machine]) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def stopped() -> Iterator[int]:
    with ReservedPort() as port:
        yield port.number


@contextmanager
def proxied(name: str, machines: tuple[int, int], folder: Path) -> Iterator[str]:
    """Put a proxy before two machines, by their ports. Yield the address of its webhook."""
    if not program(name):
        pytest.skip(f"{name} is not installed")
    proxy = Proxy(name, folder, machines)
    try:
        yield f"{proxy.url}/voice"
    finally:
        proxy.stop()


def send_to(webhook: str) -> int:
    """Ask for TwiML; return the status."""
    return requests.post(webhook, {"CallSid": "CA0"}, timeout=30).status_code


@contextmanager
def before(name: str, bad: int, folder: Path) -> Iterator[Callable[[], int]]:
    """Put a proxy before a machine that goes away and a good one. Yield how to send a webhook."""
    with listening(Machine) as good, proxied(name, (bad, good), folder) as webhook:
        yield lambda: send_to(webhook)


@pytest.mark.thorough("it needs three programs of Debian")
@pytest.mark.parametrize("name", PROXIES)
def test_a_stopped_process_is_passed_over(name: str, tmp_path: Path) -> None:
    with stopped() as bad, before(name, bad, tmp_path) as send:
        assert [send() for _ in range(20)] == [200] * 20


@pytest.mark.thorough("it needs three programs of Debian")
@pytest.mark.parametrize("name", PROXIES)
def test_a_connection_that_was_kept_may_be_closed(name: str, tmp_path: Path) -> None:
    with listening(HangsUpLater) as bad, before(name, bad, tmp_path) as send:
        assert [send() for _ in range(20)] == [200] * 20


@pytest.mark.thorough("it needs three programs of Debian")
@pytest.mark.parametrize("name", PROXIES)
def test_a_process_learns_which_host_was_asked(name: str, tmp_path: Path) -> None:
    """By it the app tells its owner that Twilio asks for another address than WEBHOOK_URL."""
    headers = {"Host": "new.example.com"}
    with (
        listening(Machine) as one,
        listening(Machine) as two,
        proxied(name, (one, two), tmp_path) as webhook,
    ):
        answer = requests.get(webhook, headers=headers, timeout=30)
    assert answer.text == "new.example.com"


@pytest.mark.thorough("it needs three programs of Debian")
@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_a_webhook_is_sent_again_to_the_other_process(name: str, tmp_path: Path) -> None:
    """Not by Caddy, which sends no body twice: it must know from /health whom to ask."""
    with listening(HangsUp) as bad, before(name, bad, tmp_path) as send:
        assert [send() for _ in range(20)] == [200] * 20


@pytest.mark.thorough("it needs three programs of Debian")
@pytest.mark.parametrize("name", ["haproxy", "caddy"])
def test_a_process_that_leaves_is_soon_asked_no_more(name: str, tmp_path: Path) -> None:
    """Not so by nginx, which looks after nobody's health."""
    with listening(Leaves) as bad, before(name, bad, tmp_path) as send:
        eventually(lambda: [send() for _ in range(4)] == [200] * 4, "answers of one process only")
        assert [send() for _ in range(20)] == [200] * 20


class Busy(Machine):
    """A process that takes two seconds to say that it is well."""

    checked = 0

    def do_GET(self) -> None:
        sleep(2)
        self._answer()
        Busy.checked += 1


@pytest.mark.thorough("it needs three programs of Debian")
@pytest.mark.parametrize("name", ["haproxy", "caddy"])
def test_a_process_that_is_busy_for_a_moment_is_still_asked(name: str, tmp_path: Path) -> None:
    Busy.checked = 0
    with (
        stopped() as bad,
        listening(Busy) as good,
        proxied(name, (bad, good), tmp_path) as webhook,
    ):
        eventually(lambda: Busy.checked > 1, "answers to the proxy")
        assert [send_to(webhook) for _ in range(20)] == [200] * 20
