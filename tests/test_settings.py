"""The settings as the running app reads and tells them; tests/unit tries each of them alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from settings_env import read_env_file
from tools.app_process import START_SECONDS
from tools.harness import (
    COMMANDS,
    ROOT,
    Process,
    environment,
    eventually,
    serves,
)
from tools.ports import ReservedPort
from tools.simulator.waiting import PATIENCE

TOKEN = "fedcba98" * 4
GOOD = {
    "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
    "TWILIO_AUTH_TOKEN": TOKEN,
    "TWILIO_PHONE_NUMBER": "+15550001111",
    "WEBHOOK_URL": "https://voice.example.com",
    "OPENAI_API_KEY": "sk-the-key",
    "AGENT_WORKFLOW_ID": "workflow.json",
}
MODULES = tuple(path.stem for path in ROOT.glob("*.py") if path.name != "gunicorn.conf.py")


def refusal(command: str = "threads", **settings: str) -> str:
    """Start the app with settings it must not start with; return what it says."""
    reserved = ReservedPort()
    process = Process(COMMANDS[command], environment({**GOOD, "PORT": str(reserved), **settings}))
    try:
        assert process.exit_code() != 0
        assert "Traceback" not in process.output
        assert TOKEN not in process.output
        assert "sk-the-key" not in process.output
        return process.output
    finally:
        process.stop()
        reserved.release()


@contextmanager
def running(
    command: str = "threads", cwd: Path = ROOT, env: Mapping[str, str] | None = None, **changes: str
) -> Iterator[Process]:
    """Start the app with good settings, wait until it serves."""
    reserved = ReservedPort()
    port = str(reserved)
    given = environment({**GOOD, "PORT": port, **changes}) if env is None else {**env, "PORT": port}
    process = Process(COMMANDS[command], given, cwd)
    try:
        process.wait_until_it_serves(reserved.url)
        yield process
    finally:
        process.stop()
        reserved.release()


def copy_of_the_app(folder: Path) -> Path:
    for path in (*ROOT.glob("*.py"), *ROOT.glob("*.json"), ROOT / ".env.example"):
        shutil.copy(path, folder)
    shutil.copytree(ROOT / "templates", folder / "templates")
    return folder


# ---------------------------------------------------------------- importing


def run_python(code: str, cwd: Path) -> str:
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code]
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_needs_no_settings_and_reads_no_env_file(tmp_path: Path) -> None:
    copy_of_the_app(tmp_path)
    os.mkfifo(tmp_path / ".env")  # whoever reads this waits for ever
    assert run_python(f"import {', '.join(MODULES)}; print('imported')", tmp_path) == "imported"


@pytest.mark.thorough("it starts a process")
def test_importing_changes_no_environment_variable(tmp_path: Path) -> None:
    copy_of_the_app(tmp_path)
    (tmp_path / ".env").write_text("GREETING=Servus\n", "utf-8")
    code = f"import os; before = dict(os.environ); import {', '.join(MODULES)}"
    assert run_python(f"{code}; print(before == dict(os.environ))", tmp_path) == "True"


@pytest.mark.thorough("it starts a process")
def test_health_answers_without_any_settings(tmp_path: Path) -> None:
    copy_of_the_app(tmp_path)
    code = "import app; got = app.app.test_client().get('/health'); print(got.status, got.text)"
    status, body = run_python(code, tmp_path).split(" OK ")
    assert (status, json.loads(body)) == ("200", {"status": "healthy"})


# ---------------------------------------------------------------- starting


@pytest.mark.thorough("it starts a process")
@pytest.mark.parametrize("command", ["threads", "gevent"])
@pytest.mark.parametrize("workflow", ["workflow.json", "asst_xxxxx"])
def test_banner(workflow: str, command: str) -> None:
    with running(command, AGENT_WORKFLOW_ID=workflow, WEB_CONCURRENCY="2") as process:
        port = process.settings["PORT"]
        line = "=" * 70
        expected = [
            line,
            "VOICE AGENT SYSTEM STARTED",
            line,
            f"Workflow ID: {workflow}",
            line,
            read_env_file(ROOT / ".env").summary,
            f"Starting server on port {port}...",
            "In Twilio's Console: A call comes in, Webhook, https://voice.example.com/voice,"
            " HTTP POST",
        ]
        eventually(lambda: expected[-1] in process.lines, "banner")
        start = process.lines.index(line)
        assert process.lines[start : start + len(expected)] == expected
        assert process.output.count("STARTED") == 1, "not by each worker"


@pytest.mark.thorough("it starts a process")
@pytest.mark.parametrize("command", ["threads", "gevent"])
def test_an_assistant_at_openai_itself_is_warned_of_at_start(command: str) -> None:
    with running(command, AGENT_WORKFLOW_ID="asst_123") as process:
        eventually(lambda: "2026-08-26" in process.output, "warning")
        assert "workflow.json" in process.output
    with running(
        command,
        AGENT_WORKFLOW_ID="asst_123",
        AGENT_BASE_URL="https://agent.example.com/v1",
        AGENT_API_KEY="sk-agent",
    ) as process:
        eventually(lambda: "asst_123" in process.output, "banner")
        assert "2026-08-26" not in process.output


@pytest.mark.thorough("it starts a process")
def test_settings_come_from_the_env_file_and_real_variables_win(tmp_path: Path) -> None:
    copy_of_the_app(tmp_path)
    lines = [f"{name}='{value}'" for name, value in GOOD.items()]
    (tmp_path / ".env").write_text("\n".join([*lines, "PORT=1"]), "utf-8")
    env = {"PATH": os.environ["PATH"], "AGENT_WORKFLOW_ID": "asst_from_variable"}
    with running(cwd=tmp_path, env=env) as process:
        eventually(lambda: "Starting server" in process.output, "banner")
        assert "Workflow ID: asst_from_variable" in process.lines


def test_gunicorn_runs_as_many_workers_as_the_env_file_says(tmp_path: Path) -> None:
    copy_of_the_app(tmp_path)
    lines = [f"{name}={value}\n" for name, value in GOOD.items()]
    (tmp_path / ".env").write_text("".join([*lines, "WEB_CONCURRENCY=3\n"]), "utf-8")
    code = "import runpy; print(runpy.run_path('gunicorn.conf.py')['workers'])"
    assert run_python(code, tmp_path) == "3"


LOOK_AT_A_CONNECTION = """
import gevent.monkey; gevent.monkey.patch_all()
import gevent, runpy, select, socket
runpy.run_path("gunicorn.conf.py")["post_worker_init"](None)
mine, other = socket.socketpair()
connection = select.poll()
connection.register(mine, select.POLLIN)
gevent.spawn(print, "another call's turn")
print("idle:", connection.poll(0))
other.sendall(b"x")
print("readable:", connection.poll(0) == [(mine.fileno(), select.POLLIN)])
mine.recv(1)
print("after a while:", connection.poll(10))
"""


@pytest.mark.thorough("it starts a process")
def test_production_looks_at_an_idle_connection_without_letting_others_go_first(
    tmp_path: Path,
) -> None:
    # The workflow's HTTP client asks for each of them before every request, its pool locked.
    copy_of_the_app(tmp_path)
    lines = [f"{name}={value}\n" for name, value in GOOD.items()]
    (tmp_path / ".env").write_text("".join(lines), "utf-8")
    said = run_python(LOOK_AT_A_CONNECTION, tmp_path).splitlines()
    assert said[-4:] == ["idle: []", "readable: True", "another call's turn", "after a while: []"]


FIND_WHAT_GEVENT_DID_NOT_REPLACE = """
import runpy, sys
runpy.run_path("gunicorn.conf.py")  # in the master
import gevent.monkey; gevent.monkey.patch_all()  # in a worker
import app

replaced = {}
for module in ("threading", "time", "select", "socket", "queue", "ssl"):
    for name in dir(sys.modules[module]):
        if gevent.monkey.is_object_patched(module, name):
            original = gevent.monkey.get_original(module, name)
            replaced.setdefault(id(original), f"{module}.{name}")
assert "threading.Lock" in replaced.values()
for module in NAMES:
    for name, value in vars(sys.modules.get(module, app)).items():
        if id(value) in replaced:
            print(module, "has the native", replaced[id(value)])
print("looked at", app.__name__)
"""


def test_no_module_of_ours_keeps_what_gevent_replaces_in_production(tmp_path: Path) -> None:
    # One native lock on which two calls meet, and all calls of the process stand still.
    copy_of_the_app(tmp_path)
    lines = [f"{name}={value}\n" for name, value in GOOD.items()]
    (tmp_path / ".env").write_text("".join(lines), "utf-8")
    said = run_python(f"NAMES = {MODULES}{FIND_WHAT_GEVENT_DID_NOT_REPLACE}", tmp_path)
    assert said.splitlines() == ["looked at app"]


# ---------------------------------------------------------------- refusing to start


GUNICORN = COMMANDS["gevent"]
WRONG_WORKERS = {
    "-k sync": "and a sync worker isn't one. Run gunicorn without -k and --threads.",
    "-k gthread --threads 500": "and a gthread worker isn't one.",
    "--preload": "Run gunicorn without --preload.",
}


@pytest.mark.thorough("it starts a process")
@pytest.mark.parametrize("arguments", WRONG_WORKERS)
def test_workers_that_would_leave_callers_in_silence_are_refused(arguments: str) -> None:
    with ReservedPort() as reserved:
        env = environment({**GOOD, "PORT": str(reserved)})
        process = Process([*GUNICORN, *arguments.split()], env)
        assert process.exit_code() != 0
    assert "Traceback" not in process.output
    assert WRONG_WORKERS[arguments] in process.lines[-1]


WRONG_STARTS = {
    "gunicorn from elsewhere": (
        [*GUNICORN, "--chdir", str(ROOT), "--bind", "127.0.0.1:{}"],
        "started wrongly, by gunicorn/.*, one request at a time: calls will fail",
    ),
    "gevent from elsewhere": (
        [*GUNICORN, "-k", "gevent", "--chdir", str(ROOT), "--bind", "127.0.0.1:{}"],
        "started wrongly, by gunicorn/.*, without its configuration: calls will fail",
    ),
    "flask run": (
        [sys.executable, "-m", "flask", "--app", str(ROOT / "app.py"), "run", "--port", "{}"],
        "started wrongly, by Werkzeug/.*, without its configuration: calls will fail",
    ),
}


@pytest.mark.thorough("it starts a process")
@pytest.mark.parametrize("way", WRONG_STARTS)
def test_a_wrong_way_to_start_it_is_told_at_the_first_request(tmp_path: Path, way: str) -> None:
    command, line = WRONG_STARTS[way]
    with ReservedPort() as reserved:
        command = [part.format(reserved) for part in command]
        process = Process(command, environment(GOOD), tmp_path)
        try:
            process.wait_until_it_serves(reserved.url)
            eventually(lambda: re.search(line, process.output), "advice")
            assert serves(reserved.url)
            assert process.output.count("started wrongly") == 1, "once is enough"
        finally:
            process.stop()


@pytest.mark.thorough("it starts a process")
def test_settings_are_checked_however_it_is_started(tmp_path: Path) -> None:
    with ReservedPort() as reserved:
        command = [*GUNICORN, "--chdir", str(ROOT), "--bind", f"127.0.0.1:{reserved}"]
        process = Process(command, environment({**GOOD, "WEBHOOK_URL": "http://"}), tmp_path)
        try:
            eventually(lambda: answers(reserved.url) == 503, "answer", START_SECONDS)
            told = "refused GET /health at .*: Fix these settings, .* WEBHOOK_URL"
            eventually(lambda: re.search(told, process.output), "report")
            assert "Traceback" not in process.output
        finally:
            process.stop()


def answers(url: str) -> int:
    """Return the status of /health; 0 if nobody answers yet."""
    try:
        return requests.get(f"{url}/health", timeout=PATIENCE).status_code
    except requests.RequestException:
        return 0


@pytest.mark.thorough("it starts a process")
def test_gunicorn_may_be_given_its_configuration_from_elsewhere(tmp_path: Path) -> None:
    with ReservedPort() as reserved:
        command = [*GUNICORN, "-c", str(ROOT / "gunicorn.conf.py")]
        process = Process(command, environment({**GOOD, "PORT": str(reserved)}), tmp_path)
        try:
            process.wait_until_it_serves(reserved.url)
            assert "Using worker: gevent" in process.output
            assert "wrongly" not in process.output
        finally:
            process.stop()


@pytest.mark.thorough("it starts a process")
def test_a_port_that_is_taken_is_told_instead_of_the_banner() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        process = Process(COMMANDS["threads"], environment({**GOOD, "PORT": str(port)}))
        assert process.exit_code() != 0
    (line,) = process.lines
    assert line.startswith(f"Cannot listen on port {port}: Address already in use. ")


@pytest.mark.thorough("gunicorn tries again for five seconds")
def test_gunicorn_prints_no_banner_for_a_port_that_is_taken() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = Process(COMMANDS["gevent"], environment({**GOOD, "PORT": port}))
        assert process.exit_code() != 0
    assert port in process.output
    assert "STARTED" not in process.output


@pytest.mark.thorough("it starts a process")
@pytest.mark.parametrize("command", ["threads", "gevent"])
def test_all_problems_are_told_at_once(command: str) -> None:
    output = refusal(command, **dict.fromkeys(GOOD, ""), FILLER_SECONDS="soon")
    for name in (*GOOD, "FILLER_SECONDS"):
        assert f"\n  {name}" in output
    assert "GREETING" not in output


@pytest.mark.thorough("it starts a process")
@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6 here")
@pytest.mark.parametrize("command", ["threads", "gevent"])
def test_it_is_reached_by_ipv4_and_by_ipv6(command: str) -> None:
    with running(command) as process:
        for host in ("127.0.0.1", "[::1]"):
            assert serves(f"http://{host}:{process.settings['PORT']}")
