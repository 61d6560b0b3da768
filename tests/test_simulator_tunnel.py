"""The stand-in for a tunnel passes requests on as they are, and does wrong what it is told to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
import websocket

from tools.ports import ReservedPort
from tools.simulator.openai_server import OpenAISimulator
from tools.simulator.speech import ToneVoice
from tools.simulator.tunnel import Meddling, Tunnel
from tools.simulator.waiting import PATIENCE

KEY = {"Authorization": "Bearer sk-test"}


@pytest.fixture(scope="module")
def behind() -> Iterator[OpenAISimulator]:
    """What the tunnel leads to: any server that has WebSockets, too, and notes what it is asked."""
    with OpenAISimulator(ears=ToneVoice(), mouth=ToneVoice()) as server:
        yield server


@pytest.fixture
def tunnel(behind: OpenAISimulator) -> Iterator[Tunnel]:
    behind.forget()
    with Tunnel(behind.port) as tunnel:
        yield tunnel


def ask(tunnel: Tunnel, path: str = "/v1/models", timeout: float = PATIENCE) -> requests.Response:
    return requests.get(tunnel.url + path, headers=KEY, timeout=timeout, allow_redirects=False)


def connect(tunnel: Tunnel, timeout: float = PATIENCE) -> websocket.WebSocket:
    url = tunnel.url.replace("http", "ws") + "/v1/realtime?model=gpt-realtime-2.1-mini"
    return websocket.create_connection(url, timeout, header=KEY)


def test_it_passes_on_what_it_gets(behind: OpenAISimulator, tunnel: Tunnel) -> None:
    assert ask(tunnel).json()["object"] == "list"
    assert behind.requests[-1].headers["Host"] == tunnel.url.removeprefix("http://")
    assert "session.created" in connect(tunnel).recv()


def test_it_may_drop_and_set_headers(behind: OpenAISimulator, tunnel: Tunnel) -> None:
    tunnel.does = Meddling(drop_headers=("authorization",), set_headers={"Host": "app.internal"})
    assert ask(tunnel).status_code == 401
    assert behind.requests[-1].headers["Host"] == "app.internal"


def test_it_may_ask_for_another_path(behind: OpenAISimulator, tunnel: Tunnel) -> None:
    tunnel.does = Meddling(prefix="/app")
    assert ask(tunnel).status_code == 404
    assert behind.requests[-1].path == "/app/v1/models"


def test_it_may_meddle_with_one_path_only(tunnel: Tunnel) -> None:
    tunnel.does = Meddling(only="/v1/models", answer=500)
    assert ask(tunnel, "/v1/models?limit=1").status_code == 500
    assert ask(tunnel, "/v1/conversations/conv_1").status_code == 404


def test_it_may_answer_itself(behind: OpenAISimulator, tunnel: Tunnel) -> None:
    tunnel.does = Meddling(answer=302, location="https://example.com/", body="elsewhere")
    answer = ask(tunnel)
    assert (answer.status_code, answer.text) == (302, "elsewhere")
    assert answer.headers["Location"] == "https://example.com/"
    assert behind.requests == []


def test_it_may_refuse_upgrades_only(tunnel: Tunnel) -> None:
    tunnel.does = Meddling(upgrades=426)
    assert ask(tunnel).ok
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        connect(tunnel)
    assert refused.value.status_code == 426


def test_it_may_swallow_requests(tunnel: Tunnel) -> None:
    tunnel.does = Meddling(swallow=True)
    with pytest.raises(requests.ReadTimeout):
        ask(tunnel, timeout=0.2)


def test_it_may_upgrade_and_pass_no_frame(tunnel: Tunnel) -> None:
    tunnel.does = Meddling(mute=True)
    connection = connect(tunnel)
    connection.settimeout(0.2)
    with pytest.raises(websocket.WebSocketTimeoutException):
        connection.recv()


def test_it_says_so_if_nobody_is_there() -> None:
    with ReservedPort() as unused, Tunnel(unused.number) as tunnel:
        assert ask(tunnel).status_code == 502
