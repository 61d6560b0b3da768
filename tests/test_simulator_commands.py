"""`python -m tools.simulator serve`: with the settings that it prints, the app's commands work."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from dotenv import dotenv_values

import doctor
from doctor import CHECKS, Finding, State, result
from doctor_examination import Examination
from settings import read_settings, settings
from tools.app_process import ROOT
from tools.simulator import __main__ as simulator_commands
from tools.simulator import serve_command
from tools.simulator.openai_server import OpenAISimulator
from tools.simulator.serve_command import env_lines
from tools.simulator.speech import ToneVoice
from tools.simulator.twilio_network import PhoneNetwork


def as_env(lines: list[str]) -> dict[str, str]:
    file = io.StringIO("\n".join(lines))
    return {name: value or "" for name, value in dotenv_values(stream=file).items()}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the settings that `serve` prints."""
    voice = ToneVoice()
    with OpenAISimulator(ears=voice, mouth=voice) as openai, PhoneNetwork() as network:
        openai.realtime.speed = 1000
        for name, value in as_env(env_lines(openai, network)).items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()
        yield
        settings.cache_clear()
        assert openai.refusals + network.refusals == []


def finding(name: str) -> Finding:
    (check,) = [check for check in CHECKS if check.name == name]
    with Examination() as examination:
        return result(check, examination)


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("check", ["settings", "OPENAI_API_KEY", "voice", "workflow"])
def test_checks_of_openai_are_answered(check: str) -> None:
    assert finding(check).state is State.OK


@pytest.mark.usefixtures("served")
def test_there_is_a_number_to_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--setup", "--yes"]) == 0
    assert "✓ number's webhook: POST http://127.0.0.1:5000/voice" in capsys.readouterr().out


@pytest.mark.thorough("it starts a process")
def test_it_serves_until_it_is_interrupted() -> None:
    command = [sys.executable, "-m", "tools.simulator", "serve"]
    free_ports = ["--openai-port", "0", "--twilio-port", "0"]
    with subprocess.Popen(
        [*command, *free_ports], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout
        head = [process.stdout.readline() for _ in range(10)]
        assert read_settings(ROOT / "nowhere", as_env(head))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


@pytest.mark.parametrize("command", [["serve", "--twilio-port=0", "--openai-port=0"], ["openai"]])
def test_it_may_be_interrupted_while_it_still_prints(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []

    def interrupted_print(*words: object, **_: object) -> None:
        printed.extend(map(str, words))
        if len(printed) == len(words):  # the first time
            raise KeyboardInterrupt

    for module in (simulator_commands, serve_command):
        monkeypatch.setattr(module, "print", interrupted_print, raising=False)
    monkeypatch.setattr("sys.argv", ["simulator", *command])
    before = signal.getsignal(signal.SIGTERM)
    try:
        simulator_commands.main()
    except KeyboardInterrupt:
        pytest.fail("it ended in a traceback")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert printed
