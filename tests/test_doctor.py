"""`python app.py --check` and `--setup`, in-process: each line of the report fails once."""

from __future__ import annotations

import io
import json
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from werkzeug.serving import make_server

import app
import doctor
from commands import app_command
from doctor import CHECKS, Check, Finding, State, findings, result
from doctor_address import port_is_ours
from doctor_examination import Examination
from settings import settings
from tools.app_process import ROOT, START_SECONDS, environment, eventually, running, serves
from tools.harness import AUTH_TOKEN, CALLED, session_file
from tools.ports import ReservedPort
from tools.simulator.openai_brain import Reply
from tools.simulator.openai_knobs import (
    CONTENT_FILTERED,
    HANGS,
    QUOTA_USED_UP,
    SILENTLY_COMPLETED,
    TOO_MANY_SESSIONS,
)
from tools.simulator.openai_server import OpenAISimulator
from tools.simulator.speech import ToneVoice
from tools.simulator.tunnel import Meddling, Tunnel
from tools.simulator.twilio_account import Account
from tools.simulator.twilio_network import PhoneNetwork

pytestmark = pytest.mark.xdist_group("doctor")  # they share the simulators

API_KEY = "sk-proj-" + "A1b2" * 10
LINES = [check.name for check in CHECKS]
PATIENT = 20.0  # seconds: for what answers, however busy the machine is
IMPATIENT = 0.3  # for what never does


class World(NamedTuple):
    """All that the app depends on, between the tests' own ends."""

    openai: OpenAISimulator
    network: PhoneNetwork
    tunnel: Tunnel
    port: ReservedPort

    @property
    def account(self) -> Account:
        return self.network.rest.account

    @property
    def webhook(self) -> str:
        return f"{self.tunnel.url}/voice"

    def environment(self) -> dict[str, str]:
        return {
            "TWILIO_ACCOUNT_SID": self.network.account_sid,
            "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
            "TWILIO_PHONE_NUMBER": CALLED,
            "TWILIO_API_URL": self.network.api_url,
            "WEBHOOK_URL": self.tunnel.url,
            "OPENAI_API_KEY": API_KEY,
            "OPENAI_BASE_URL": self.openai.base_url,
            "AGENT_WORKFLOW_ID": "workflow.json",
            "GREETING": "Hello!",
            "PORT": str(self.port),
        }


@pytest.fixture(scope="module")
def places() -> Iterator[World]:
    voice = ToneVoice()
    with (
        ReservedPort() as port,
        OpenAISimulator(ears=voice, mouth=voice, api_key=API_KEY) as openai,
        PhoneNetwork(auth_token=AUTH_TOKEN, number=CALLED) as network,
        Tunnel(port.number) as tunnel,
    ):
        yield World(openai, network, tunnel, port)


def clear_caches() -> None:
    for cached in (settings, app.workflow, app.twilio_calls):
        cached.cache_clear()


@pytest.fixture
def world(places: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The world as it should be: everything is well."""
    for name, value in places.environment().items():
        monkeypatch.setenv(name, value)
    clear_caches()
    places.openai.forget()
    places.openai.realtime.speed = 1000
    places.network.forget()
    places.account.number["voice_url"] = places.webhook
    places.tunnel.does = Meddling()
    places.tunnel.target = places.port.number
    yield places
    clear_caches()


def chain(name: str) -> list[Check]:
    """Return a check and those that it needs, in their order."""
    wanted = {name}
    for check in reversed(CHECKS):
        if check.name in wanted:
            wanted.add(check.needs)
    return [check for check in CHECKS if check.name in wanted]


def finding(name: str, seconds: float = PATIENT) -> Finding:
    """Return what one check finds within so many seconds; those that it needs must be well."""
    *others, last = chain(name)
    with Examination(PATIENT) as examination:
        before = list(findings(examination, others))
        assert [each for each in before if each.state is State.FAILED] == []
        examination.seconds = seconds
        return result(last, examination)


@contextmanager
def served(port: int) -> Iterator[None]:
    """Run the app on a port."""
    app.READY.set()  # else the first request takes this for a wrong start, and says so
    server = make_server("0.0.0.0", port, app.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


# --- all is well ----------------------------------------------------------------------------------


def test_all_is_well(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--check"]) == 0
    cost, *lines, end = capsys.readouterr().out.splitlines()
    assert "no call is placed" in cost
    assert end == "All is well."
    assert [line.partition(":")[0] for line in lines if line[0] != " "] == [
        f"✓ {name}" for name in LINES
    ]
    assert world.openai.refusals == []
    assert world.network.refusals == []
    assert world.openai.conversations == {}, "the trial's conversation was left at OpenAI"


def test_the_app_is_asked_where_it_runs_already(world: World) -> None:
    with served(world.port.number):
        assert finding("PORT").words == f"the app runs on {world.port}"
        assert finding("POST /voice").state is State.OK
    assert not serves(world.port.url)


@pytest.mark.parametrize(
    ("does", "told"),
    [
        (Meddling(answer=403), "refuses our signature: restart it with these settings"),
        (Meddling(answer=404), "answers HTTP 404; its log may tell why"),
        (Meddling(answer=500), "answers HTTP 500; its log may tell why"),
        (Meddling(answer=503), "answers HTTP 503; its log may tell why"),
        (Meddling(swallow=True), "no answer within 2 s from the app on"),
    ],
    ids=["403", "404", "500", "503", "hangs"],
)
def test_a_running_app_that_does_not_serve_calls_is_told_of(
    world: World, monkeypatch: pytest.MonkeyPatch, does: Meddling, told: str
) -> None:
    """The tunnel is what runs on PORT: it passes on all but the webhook."""
    monkeypatch.setenv("PORT", world.tunnel.url.rpartition(":")[2])
    world.tunnel.does = replace(does, only="/voice")
    with served(world.port.number):
        found = finding("PORT", seconds=2)
    assert found.state is State.FAILED
    assert told in found.words


@pytest.mark.parametrize(("days", "told"), [(0, "0 days"), (1, "1 day"), (53, "53 days")])
def test_the_end_of_a_model_is_told_before_it_comes(world: World, days: int, told: str) -> None:
    end = past(-days)
    world.openai.models.shutdown_dates["gpt-realtime-2.1-mini"] = end
    found = finding("REALTIME_MODEL")
    assert found.state is State.OK
    assert f"ends on {end}, {told} from now" in found.words


def test_a_trial_account_is_told_of(world: World) -> None:
    world.account.kind = "Trial"
    found = finding("Twilio account")
    assert (found.state, found.words[:16]) == (State.OK, "active; a trial:")


def test_the_time_outs_in_the_fragment_of_a_webhook_are_the_owners(world: World) -> None:
    world.account.number["voice_url"] += "#rt=5000"
    assert finding("number's webhook").state is State.OK


@pytest.mark.filterwarnings("ignore:The Assistants API is deprecated")
def test_an_assistant_is_asked_and_its_thread_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_WORKFLOW_ID", "asst_test")
    assert finding("workflow's model").state is State.SKIPPED
    assert finding("workflow").state is State.OK
    assert [text for _, text in world.openai.brain.messages] == ["Hello!"]
    assert world.openai.threads == {}


def test_a_restricted_key_is_no_fault(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.openai.models.key_is_restricted = True
    assert doctor.main(["--check"]) == 0
    report = capsys.readouterr().out
    assert "✓ OPENAI_API_KEY: accepted, though it may not ask about models" in report
    assert "– REALTIME_MODEL: the key may not ask about models" in report
    assert "✓ voice session" in report


@pytest.mark.parametrize("line", ["POST /voice", "/media-stream"])
def test_a_proxy_that_asks_for_another_host_is_no_fault(world: World, line: str) -> None:
    world.tunnel.does = Meddling(
        set_headers={"Host": "app.internal:8080", "X-Forwarded-Proto": "http"}
    )
    assert finding(line).state is State.OK


@pytest.mark.parametrize(
    ("line", "path"),
    [("OPENAI_API_KEY", "/v1/models"), ("REALTIME_MODEL", "/v1/models/gpt-realtime-2.1-mini")],
)
def test_a_server_that_tells_nothing_about_models_is_no_fault(
    world: World, monkeypatch: pytest.MonkeyPatch, line: str, path: str
) -> None:
    with Tunnel(world.openai.port) as proxy:
        proxy.does = Meddling(only=path, answer=404)
        monkeypatch.setenv("OPENAI_BASE_URL", f"{proxy.url}/v1")
        found = finding(line)
    assert (found.state, found.words) == (State.SKIPPED, "this server doesn't tell about models")


def test_a_refusal_of_the_voice_is_told_whole_whatever_it_quotes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({"error": {"message": 'The project "phone" may not do this.'}})
    with Tunnel(world.openai.port) as proxy:
        proxy.does = Meddling(upgrades=403, body=body)
        monkeypatch.setenv("OPENAI_BASE_URL", f"{proxy.url}/v1")
        found = finding("voice session")
    assert found.state is State.FAILED
    assert found.words == 'refused: HTTP 403 The project "phone" may not do this'


# --- each line fails ------------------------------------------------------------------------------


class Fault(NamedTuple):
    """Something that is wrong, the line that tells of it, and what the line says."""

    line: str
    says: str
    cause: Callable[[World], object] = lambda world: None
    seconds: float = PATIENT
    environment: dict[str, str] = {}  # noqa: RUF012 - never changed


NOBODYS = ReservedPort()  # held, so that no other test's server gets it


def nowhere() -> str:
    """Return an address that nothing listens at."""
    return NOBODYS.url


def past(days: int) -> str:
    return (date.today() - timedelta(days)).isoformat()


def let(target: str, **values: object) -> Callable[[World], None]:
    """Return what sets attributes of a part of the world, named by its dotted path."""

    def change(world: World) -> None:
        part: object = world
        for name in target.split("."):
            part = getattr(part, name)
        for name, value in values.items():
            setattr(part, name, value)

    return change


def say(reply: Reply) -> Callable[[World], None]:
    return let("openai.brain", reply=lambda text, history: reply)


def meddle(**what: object) -> Callable[[World], None]:
    return let("tunnel.does", **what)


def number(**values: object) -> Callable[[World], None]:
    return lambda world: world.account.number.update(values)


VOICE = "openai.realtime"
FAULTS = [
    Fault("settings", "OPENAI_API_KEY: Missing", environment={"OPENAI_API_KEY": ""}),
    Fault(
        "OPENAI_API_KEY",
        "Incorrect API key provided; keys are at platform.openai.com",
        environment={"OPENAI_API_KEY": "sk-wrong"},
    ),
    Fault(
        "OPENAI_API_KEY",
        "can't be reached: Connection refused",
        environment={"OPENAI_BASE_URL": f"{nowhere()}/v1"},
    ),
    Fault(
        "OPENAI_API_KEY",
        "no answer within 0.3 s",
        meddle(swallow=True),
        IMPATIENT,
        environment={"OPENAI_BASE_URL": "TUNNEL/v1"},
    ),
    Fault(
        "REALTIME_MODEL",
        "The model 'gpt-realtime-9' does not exist; set another",
        environment={"REALTIME_MODEL": "gpt-realtime-9"},
    ),
    Fault(
        "REALTIME_MODEL",
        "was shut down on",
        let("openai.models", shutdown_dates={"gpt-realtime-2.1-mini": past(3)}),
    ),
    Fault(
        "transcription model",
        "gpt-transcribe was shut down on",
        let("openai.models", shutdown_dates={"gpt-transcribe": past(1)}),
    ),
    Fault("voice session", "refused: ", let(VOICE, refuse_all=403)),
    Fault(
        "voice session", "does not exist or you do not have access", let(VOICE, model_is_gone=True)
    ),
    Fault(
        "voice session",
        "too many concurrent sessions",
        let(VOICE, close_all=TOO_MANY_SESSIONS),
    ),
    Fault("voice session", "no answer within 0.3 s", let(VOICE, mute=True), IMPATIENT),
    Fault("voice session", "no answer within 0.3 s", let(VOICE, confirm_updates=False), IMPATIENT),
    Fault(
        "voice",
        "quota, please check your plan and billing details; see platform.openai.com",
        let(VOICE, fail_all=QUOTA_USED_UP),
    ),
    Fault("voice", "content_filter", let(VOICE, fail_all=CONTENT_FILTERED)),
    Fault("voice", "without sound", let(VOICE, fail_all=SILENTLY_COMPLETED)),
    Fault(
        "voice",
        "no answer within 0.3 s",
        let(VOICE, fail_all=HANGS),
        IMPATIENT,
    ),
    Fault(
        "voice",
        "asked to say 'Hello!', it said 'Hello! How are you?'; try REALTIME_MODEL=",
        let(VOICE, drift=lambda text: "Hello! How are you?"),
    ),
    Fault(
        "workflow's model",
        "gpt-6-luna was shut down on",
        let("openai.models", shutdown_dates={"gpt-6-luna": past(1)}),
    ),
    Fault("workflow", "Rate limit", lambda world: world.openai.brain.fail_create.append(429)),
    Fault("workflow", "The model failed to generate", say(Reply("", status="failed"))),
    Fault("workflow", "it replied without words", say(Reply(""))),
    Fault(
        "workflow's model",
        "Incorrect API key",
        environment={"AGENT_BASE_URL": "OPENAI", "AGENT_API_KEY": "sk-wrong"},
    ),
    Fault(
        "workflow",
        "no answer within 1 s",
        say(Reply("", status="http_hang")),
        environment={"WORKFLOW_TIMEOUT": "1"},
    ),
    Fault(
        "workflow",
        "no answer within 1 s",
        say(Reply("late", first_delay=60)),
        environment={"WORKFLOW_TIMEOUT": "1"},
    ),
    Fault(
        "Twilio account",
        "Twilio refuses the credentials; copy TWILIO_ACCOUNT_SID and",
        let("account", auth_token="f" * 32),
    ),
    Fault("Twilio account", "HTTP 500: ", lambda world: world.network.rest_fail_next()),
    Fault(
        "Twilio account",
        "TWILIO_API_URL can't be reached: Connection refused",
        environment={"TWILIO_API_URL": nowhere()},
    ),
    Fault(
        "Twilio account",
        "TWILIO_API_URL doesn't answer as Twilio does",
        meddle(answer=200, body="<p>Welcome</p>"),
        environment={"TWILIO_API_URL": "TUNNEL"},
    ),
    Fault("Twilio account", "no answer within 0.3 s", let("network.rest", delay=30), IMPATIENT),
    Fault("Twilio account", "it is suspended", let("account", status="suspended")),
    Fault(
        "Twilio account",
        "is not the primary one",
        let("account", auth_token="f" * 32, secondary_token=AUTH_TOKEN),
    ),
    Fault("TWILIO_PHONE_NUMBER", "the account doesn't own it", number(phone_number="+15550002222")),
    Fault("TWILIO_PHONE_NUMBER", "it can't take calls", number(capabilities={"voice": False})),
    Fault("number's webhook", "GET http", number(voice_method="GET")),
    Fault(
        "number's webhook",
        "POST https://old.example.com/voice, not to POST http",
        number(voice_url="https://old.example.com/voice"),
    ),
    Fault("number's webhook", "calls lead to nothing", number(voice_url="")),
    Fault("number's webhook", f"`{app_command('--setup')}` changes it", number(voice_url="")),
    Fault("number's webhook", "the SIP trunk TK1", number(trunk_sid="TK1")),
    Fault("number's webhook", "the TwiML app AP1", number(voice_application_sid="AP1")),
    Fault("PORT", "another program listens on", environment={"PORT": "TUNNEL_PORT"}),
    Fault(
        "WEBHOOK_URL",
        "Twilio can't reach this address; set the https address of a tunnel",
        environment={"TWILIO_API_URL": "https://api.twilio.com"},
    ),
    Fault(
        "WEBHOOK_URL",
        "can't be reached: Connection refused; is the tunnel running",
        environment={"WEBHOOK_URL": nowhere()},
    ),
    Fault("WEBHOOK_URL", "no answer within 0.3 s; is the tunnel", meddle(swallow=True), IMPATIENT),
    Fault("WEBHOOK_URL", "HTTP 502: tunnel or proxy can't reach the app", meddle(answer=502)),
    Fault(
        "WEBHOOK_URL",
        "HTTP 200 from something other than this app",
        meddle(answer=200, body="Welcome to nginx!"),
    ),
    Fault(
        "WEBHOOK_URL",
        "redirects to https://www.example.com/health",
        meddle(answer=301, location="https://www.example.com/health"),
    ),
    Fault(
        "POST /voice",
        "HTTP 403: X-Twilio-Signature, path, query or form arrive changed",
        meddle(drop_headers=("x-twilio-signature",)),
    ),
    Fault(
        "POST /voice", "HTTP 404: X-Twilio-Signature, path", meddle(only="/voice", prefix="/app")
    ),
    Fault("POST /voice", "HTTP 500; the app's log", meddle(only="/voice", answer=500)),
    Fault("POST /voice", "something in between", meddle(only="/voice", answer=200, body="Hi!")),
    Fault("POST /voice", "no answer within 0.3 s", meddle(only="/voice", swallow=True), IMPATIENT),
    Fault(
        "/media-stream",
        "HTTP 403: X-Twilio-Signature is dropped from upgrades",
        meddle(drop_headers=("x-twilio-signature",)),
    ),
    Fault(
        "/media-stream",
        "HTTP 400: the tunnel, or the proxy, must forward WebSocket upgrades",
        meddle(drop_headers=("upgrade",)),
    ),
    Fault(
        "/media-stream", "HTTP 404: the tunnel, or the proxy, must forward", meddle(upgrades=404)
    ),
    Fault("/media-stream", "HTTP 503: the app is draining", meddle(upgrades=503)),
    Fault(
        "/media-stream",
        "no upgrade to a WebSocket: ",
        meddle(only="/media-stream", swallow=True),
        IMPATIENT,
    ),
]


def causes() -> Iterator[Any]:
    """Yield the faults; of each line only the first belongs to the fast tier."""
    lines: set[str] = set()
    for fault in FAULTS:
        marks = [pytest.mark.thorough("its line fails in the fast tier")]
        yield pytest.param(
            fault,
            id=f"{fault.line}: {fault.says}",
            marks=marks if fault.line in lines else (),
        )
        lines.add(fault.line)


@pytest.mark.parametrize("fault", list(causes()))
def test_a_line_fails_and_says_what_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    for name, value in fault.environment.items():
        with_port = value.replace("TUNNEL_PORT", world.tunnel.url.rpartition(":")[2])
        with_url = with_port.replace("TUNNEL", world.tunnel.url)
        monkeypatch.setenv(name, with_url.replace("OPENAI", world.openai.base_url))
    fault.cause(world)
    found = finding(fault.line, fault.seconds)
    assert found.state is State.FAILED
    assert fault.says in found.words
    assert AUTH_TOKEN not in found.words
    assert API_KEY not in found.words
    world.openai.wait_for(lambda openai: not openai.conversations)  # WORKFLOW_TIMEOUT may be short


def test_every_line_of_the_report_fails_once() -> None:
    assert [line for line in LINES if line not in {fault.line for fault in FAULTS}] == []


@pytest.mark.thorough("it waits for two seconds")
def test_a_stream_that_is_upgraded_but_passes_no_frames_is_told_of(world: World) -> None:
    world.tunnel.does = Meddling(mute=True)

    def is_told() -> bool:
        found = finding("/media-stream", seconds=2)
        assert found.state is State.FAILED
        return "upgraded, but frames don't get through" in found.words

    eventually(is_told, "upgrade within two seconds, on a machine that has time")


def test_a_field_that_realtime_refuses_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = session_file(tmp_path, **{"audio.input.noise_reduction": {"type": "loud"}})
    monkeypatch.setenv("REALTIME_SESSION", str(file))
    found = finding("voice session")
    assert found.state is State.FAILED
    assert "session.audio.input.noise_reduction.type: change it in the session file" in found.words


def test_a_tunnel_of_yesterdays_leads_to_another_process(world: World) -> None:
    with ReservedPort() as other, served(other.number):
        world.tunnel.target = other.number
        found = finding("WEBHOOK_URL")
    assert found.state is State.FAILED
    assert found.words == (
        "leads to another process of this app; run this where the app runs, or restart the tunnel"
    )


def test_a_port_that_cannot_be_listened_on_is_told_of(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(socket.socket()) as held:
        held.bind(("0.0.0.0", 0))
        port = held.getsockname()[1]
        monkeypatch.setenv("PORT", str(port))
        found = finding("PORT")
    assert (found.state, found.words) == (
        State.FAILED,
        f"Cannot listen on port {port}: Address already in use."
        " Set PORT to another one, or end what listens there",
    )


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6 here")
def test_for_the_checks_the_app_listens_as_it_does_for_calls(world: World) -> None:
    with Examination(PATIENT) as examination:
        port_is_ours(examination)
        for host in ("127.0.0.1", "[::1]"):
            assert serves(f"http://{host}:{world.port}")


def fail_account(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.account.auth_token = "f" * 32


def fail_number(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.account.number["capabilities"] = {"voice": False}


def fail_webhook(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.account.number["voice_url"] = ""


def fail_settings(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "none")


@pytest.mark.parametrize(
    ("fail", "told"),
    [
        (fail_webhook, []),
        (fail_number, ["  1 more check waits for this."]),
        (fail_account, ["  2 more checks wait for this."]),
        (fail_settings, ["  14 more checks wait for this."]),
    ],
)
def test_what_waits_for_a_failed_line_is_counted_below_it(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fail: Callable[[World, pytest.MonkeyPatch], None],
    told: list[str],
) -> None:
    fail(world, monkeypatch)
    assert doctor.main(["--check"]) == 1
    report = capsys.readouterr().out
    lines = report.splitlines()
    assert lines[-1] == "1 of 15 checks failed."
    assert [line for line in lines if "wait" in line] == told
    assert "skipped, needs" not in report
    waiting = int(told[0].split()[0]) if told else 0
    assert len([line for line in lines if line[0] in "✓✗–"]) == len(LINES) - waiting


def test_a_secret_is_not_shown_though_a_server_repeats_it(world: World) -> None:
    world.tunnel.does = Meddling(answer=301, location=f"https://example.com/{API_KEY}")
    assert "redirects to https://example.com/[secret];" in finding("WEBHOOK_URL").words


def test_what_is_asked_as_twilio_asks_begins_no_call(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "watch", lambda: None)  # it would outlive the test
    app.READY.clear()  # as in a process that has just begun
    finding("POST /voice")
    finding("/media-stream")
    assert world.openai.requests == []
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


# --- for scripts ----------------------------------------------------------------------------------


def test_the_report_can_be_had_as_json(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.account.number["capabilities"] = {"voice": False}
    assert doctor.main(["--check", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    states = {check["name"]: check["state"] for check in report["checks"]}
    assert list(states) == LINES
    assert [name for name, state in states.items() if state == "failed"] == ["TWILIO_PHONE_NUMBER"]
    assert states["number's webhook"] == "skipped"
    assert report["checks"][LINES.index("number's webhook")]["words"] == (
        "skipped, needs TWILIO_PHONE_NUMBER"
    )
    assert states["voice"] == "ok"


@pytest.mark.parametrize(
    "arguments",
    [["--chekc"], ["--json"], ["--yes"], ["--check", "--yes"], ["--setup", "--json"], ["serve"]],
)
def test_arguments_that_make_no_sense_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        doctor.main(arguments)
    assert ended.value.code == 2
    assert f"usage: {app_command()} [-h] (--check | --setup)" in capsys.readouterr().err


# --- setting up -----------------------------------------------------------------------------------


def set_up(monkeypatch: pytest.MonkeyPatch, *arguments: str, answer: str | None = None) -> int:
    """Run `--setup` and type an answer; None for nothing at all."""
    monkeypatch.setattr("sys.stdin", io.StringIO("" if answer is None else f"{answer}\n"))
    return doctor.main(["--setup", *arguments])


@pytest.mark.parametrize("answer", ["y", "Yes", "--yes"])
def test_setup_has_calls_lead_here(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
) -> None:
    number = world.account.number
    number.update(voice_url="https://old.example.com/voice", voice_method="GET")
    arguments = [answer] if answer == "--yes" else []
    assert set_up(monkeypatch, *arguments, answer=answer) == 0
    report = capsys.readouterr().out
    assert "now lead to\n  GET https://old.example.com/voice\n" in report
    assert f"would lead to\n  POST {world.webhook}" in report
    assert f"✓ number's webhook: POST {world.webhook}" in report
    assert (number["voice_url"], number["voice_method"]) == (world.webhook, "POST")
    assert (number["voice_fallback_url"], number["voice_fallback_method"]) == (
        world.webhook,
        "POST",
    )


@pytest.mark.parametrize("answer", ["n", "", "yes please", None])
def test_setup_changes_nothing_without_a_yes(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str | None,
) -> None:
    before = dict(world.account.number, voice_url="https://old.example.com/voice")
    world.account.number.update(before)
    assert set_up(monkeypatch, answer=answer) == 1
    assert world.account.number == before
    assert [request.method for request in world.network.rest_requests] == ["GET", "GET"]
    assert capsys.readouterr().out.endswith("Nothing was changed.\n")


def test_setup_has_nothing_to_do_twice(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set_up(monkeypatch, answer="y") == 0, "there was no fallback"
    assert set_up(monkeypatch) == 0
    assert "Nothing to change" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("before", "after"),
    [("https://old.example.com/voice", "ours"), ("https://chosen.example.com/sorry", "kept")],
)
def test_setup_replaces_a_fallback_only_if_it_was_the_old_address(
    world: World, monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    number = world.account.number
    number.update(voice_url="https://old.example.com/voice", voice_fallback_url=before)
    assert set_up(monkeypatch, "--yes") == 0
    assert number["voice_fallback_url"] == (world.webhook if after == "ours" else before)


@pytest.mark.parametrize(
    "overrules", [{"trunk_sid": "TK" + "1" * 32}, {"voice_application_sid": "AP" + "1" * 32}]
)
def test_setup_removes_what_would_overrule_the_webhook(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overrules: dict[str, str],
) -> None:
    world.account.number.update(overrules)
    assert set_up(monkeypatch, "--yes") == 0
    (sid,) = overrules.values()
    assert f" {sid}\n" in capsys.readouterr().out, "what is given up is shown"
    assert finding("number's webhook").state is State.OK


def test_setup_stops_at_credentials_that_twilio_refuses(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.account.auth_token = "f" * 32
    assert set_up(monkeypatch, "--yes") == 1
    assert "✗ Twilio account: Twilio refuses" in capsys.readouterr().out


def test_setup_sends_no_calls_to_where_twilio_cannot_reach(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TWILIO_API_URL", "https://api.twilio.com")  # WEBHOOK_URL is local here
    assert set_up(monkeypatch, "--yes") == 1
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert last_line.startswith("✗ WEBHOOK_URL: Twilio can't reach this address")


# --- through the public door ----------------------------------------------------------------------


@pytest.mark.thorough("it starts processes")
@pytest.mark.parametrize("mode", ["threads", "gevent"])
def test_a_running_app_is_checked_from_the_command_line(world: World, mode: str) -> None:
    env = environment(world.environment())
    with running(world.port.url, world.environment(), mode):
        done = check(env)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"✓ PORT: the app runs on {world.port}\n" in done.stdout
        stale = check({**env, "TWILIO_AUTH_TOKEN": "f" * 32})
        assert "restart it with these settings" in stale.stdout


def check(env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "app.py", "--check"]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
