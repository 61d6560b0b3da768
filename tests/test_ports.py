"""A port that is reserved for a process of the app stays its own, however often it restarts."""

from __future__ import annotations

import socket

import pytest

from tools.app_process import START_SECONDS
from tools.harness import COMMANDS, Process, Service, environment, eventually, serves
from tools.ports import ReservedPort


def listener(port: int) -> socket.socket:
    """Listen as a web server does: it may follow another one at once."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(("0.0.0.0", port))
        server.listen()
    except OSError:
        server.close()
        raise
    return server


def test_one_server_at_a_time_may_listen_on_a_reserved_port() -> None:
    with ReservedPort() as port:
        for _ in range(2):
            with listener(port.number), pytest.raises(OSError, match="Address already in use"):
                listener(port.number)


def test_nobody_else_takes_a_reserved_port() -> None:
    taken = pytest.raises(OSError, match="Address already in use")
    with ReservedPort() as port, socket.socket() as stranger, taken:
        stranger.bind(("127.0.0.1", port.number))


def test_nobody_answers_on_a_reserved_port_before_the_app_does() -> None:
    with ReservedPort() as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port.number), 5)


@pytest.mark.thorough("it starts two processes")
def test_a_restarted_app_has_its_port_again(service: Service, mode: str) -> None:
    with ReservedPort() as port:
        env = environment({**service.settings, "PORT": str(port)})
        for _ in range(2):
            process = Process(COMMANDS[mode], env)
            try:
                eventually(lambda: serves(port.url), f"app\n{process.output}", START_SECONDS)
            finally:
                process.stop()
