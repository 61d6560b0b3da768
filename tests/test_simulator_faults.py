"""Faults of the simulators that survival is tested with: several machines, redirects elsewhere."""

from __future__ import annotations

import http.server
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from tools.harness import VOICE, eventually
from tools.simulator.load_balancer import LoadBalancer
from tools.simulator.openai_server import OpenAISimulator


class Machine(http.server.BaseHTTPRequestHandler):
    """Answer with the machine's own port; `well` decides about its health."""

    well = True

    def do_GET(self) -> None:
        body = str(self.connection.getsockname()[1]).encode()
        self.send_response(200 if type(self).well or self.path != "/health" else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def machine() -> Iterator[tuple[int, type[Machine]]]:
    kind = type("OneMachine", (Machine,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], kind
        server.shutdown()


@pytest.fixture
def balancer() -> Iterator[LoadBalancer]:
    balancer = LoadBalancer().start()
    yield balancer
    balancer.stop()


def answering(balancer: LoadBalancer) -> int:
    return int(requests.get(f"http://127.0.0.1:{balancer.port}/", timeout=5).text)


def test_machines_take_turns_whoever_asks(balancer: LoadBalancer) -> None:
    with machine() as (one, _), machine() as (two, _):
        balancer.machines += [one, two]
        eventually(lambda: balancer.healthy == {one, two}, "health")
        turns = [answering(balancer) for _ in range(4)]
        assert turns in ([one, two] * 2, [two, one] * 2)
        assert balancer.carried == turns


def test_a_machine_that_is_not_well_gets_no_more_connections(balancer: LoadBalancer) -> None:
    with machine() as (one, kind), machine() as (two, _):
        balancer.machines += [one, two]
        eventually(lambda: balancer.healthy == {one, two}, "health")
        kind.well = False
        eventually(lambda: balancer.healthy == {two}, "its absence")
        assert {answering(balancer) for _ in range(3)} == {two}
        kind.well = True
        eventually(lambda: balancer.healthy == {one, two}, "its return")


def test_without_a_machine_the_answer_is_503(balancer: LoadBalancer) -> None:
    url = f"http://127.0.0.1:{balancer.port}/"
    assert requests.get(url, timeout=5).status_code == 503
    with machine() as (port, _):
        balancer.machines.append(port)
        eventually(lambda: balancer.healthy, "health")
        assert answering(balancer) == port
    eventually(lambda: not balancer.healthy, "its absence")
    assert requests.get(url, timeout=5).status_code == 503


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def test_requests_can_be_redirected_to_another_host() -> None:
    with OpenAISimulator(ears=VOICE, mouth=VOICE) as openai:
        openai.redirect_to = "http://127.0.0.1:9"
        opener = urllib.request.build_opener(NoRedirect)
        with pytest.raises(urllib.error.HTTPError) as answer:
            opener.open(f"{openai.base_url}/realtime?model=x", timeout=5)
        assert answer.value.code == 307
        assert answer.value.headers["Location"] == "http://127.0.0.1:9/v1/realtime?model=x"
        assert [request.status for request in openai.requests] == [307]
        assert openai.refusals == []
