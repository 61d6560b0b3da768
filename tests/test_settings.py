"""The settings: read from the environment and .env, all problems told at once, before serving."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tools.harness import (
    COMMANDS,
    ROOT,
    Process,
    environment,
    eventually,
    session_file,
)
from tools.ports import ReservedPort

REQUIRED = (
    "TWILIO_ACCOUNT_SID",
    "TWILIO_AUTH_TOKEN",
    "TWILIO_PHONE_NUMBER",
    "WEBHOOK_URL",
    "OPENAI_API_KEY",
    "AGENT_WORKFLOW_ID",
)
GOOD = {
    "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
    "TWILIO_AUTH_TOKEN": "the-token",
    "TWILIO_PHONE_NUMBER": "+15550001111",
    "WEBHOOK_URL": "https://voice.example.com",
    "OPENAI_API_KEY": "sk-the-key",
    "AGENT_WORKFLOW_ID": "workflow.json",
}
MODULES = ("app", "voice_handler", "workflow_client", "utils")
DATA = (
    ".env.example",
    "notes.json",
    "realtime_session.json",
    "settings_rules.json",
    "workflow.json",
)
NEEDED = (*(f"{name}.py" for name in MODULES), *DATA)


def refusal(command: str = "threads", **settings: str) -> str:
    """Start the app with settings it must not start with; return what it says."""
    reserved = ReservedPort()
    process = Process(COMMANDS[command], environment({**GOOD, "PORT": str(reserved), **settings}))
    try:
        assert process.exit_code() != 0
        assert "Traceback" not in process.output
        assert "the-token" not in process.output
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

    def is_up() -> bool:
        assert process.alive, process.output
        try:
            urllib.request.urlopen(f"{reserved.url}/health", timeout=5).close()
        except OSError:
            return False
        return True

    try:
        eventually(is_up, "answer on /health", 30)
        yield process
    finally:
        process.stop()
        reserved.release()


def copy_of_the_app(folder: Path) -> Path:
    for name in (*NEEDED, "gunicorn.conf.py"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "templates", folder / "templates")
    return folder


# ---------------------------------------------------------------- importing


def run_python(code: str, cwd: Path) -> str:
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code]
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_needs_no_settings_and_reads_no_env_file(tmp_path: Path) -> None:
    copy_of_the_app(tmp_path)
    os.mkfifo(tmp_path / ".env")  # whoever reads this waits for ever
    assert run_python(f"import {', '.join(MODULES)}; print('imported')", tmp_path) == "imported"


def test_importing_changes_no_environment_variable(tmp_path: Path) -> None:
    copy_of_the_app(tmp_path)
    (tmp_path / ".env").write_text("GREETING=Servus\n", "utf-8")
    code = f"import os; before = dict(os.environ); import {', '.join(MODULES)}"
    assert run_python(f"{code}; print(before == dict(os.environ))", tmp_path) == "True"


def test_health_answers_without_any_settings(tmp_path: Path) -> None:
    copy_of_the_app(tmp_path)
    code = "import app; got = app.app.test_client().get('/health'); print(got.status, got.text)"
    status, body = run_python(code, tmp_path).split(" OK ")
    assert (status, json.loads(body)) == ("200", {"status": "healthy"})


# ---------------------------------------------------------------- starting


@pytest.mark.parametrize("workflow", ["workflow.json", "asst_xxxxx"])
def test_banner(workflow: str) -> None:
    with running(AGENT_WORKFLOW_ID=workflow) as process:
        port = process.settings["PORT"]
        line = "=" * 70
        expected = [
            line,
            "VOICE AGENT SYSTEM STARTED",
            line,
            f"Workflow ID: {workflow}",
            line,
            f"Starting server on port {port}...",
        ]
        eventually(lambda: expected[-1] in process.lines, "banner")
        start = process.lines.index(line)
        assert process.lines[start : start + len(expected)] == expected


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


def test_settings_come_from_the_env_file_and_real_variables_win(tmp_path: Path) -> None:
    copy_of_the_app(tmp_path)
    lines = [f"{name}='{value}'" for name, value in GOOD.items()]
    (tmp_path / ".env").write_text("\n".join([*lines, "PORT=1"]), "utf-8")
    env = {"PATH": os.environ["PATH"], "AGENT_WORKFLOW_ID": "asst_from_variable"}
    with running(cwd=tmp_path, env=env) as process:
        eventually(lambda: "Starting server" in process.output, "banner")
        assert "Workflow ID: asst_from_variable" in process.lines


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


def test_production_looks_at_an_idle_connection_without_letting_others_go_first(
    tmp_path: Path,
) -> None:
    # The workflow's HTTP client asks for each of them before every request, its pool locked.
    copy_of_the_app(tmp_path)
    lines = [f"{name}={value}\n" for name, value in GOOD.items()]
    (tmp_path / ".env").write_text("".join(lines), "utf-8")
    said = run_python(LOOK_AT_A_CONNECTION, tmp_path).splitlines()
    assert said[-4:] == ["idle: []", "readable: True", "another call's turn", "after a while: []"]


# ---------------------------------------------------------------- refusing to start


@pytest.mark.parametrize("command", ["threads", "gevent"])
def test_all_problems_are_told_at_once(command: str) -> None:
    output = refusal(command, **dict.fromkeys(REQUIRED, ""), FILLER_SECONDS="soon")
    for name in (*REQUIRED, "FILLER_SECONDS"):
        assert name in output
    assert "GREETING" not in output


def test_placeholders_of_the_example_count_as_missing(tmp_path: Path) -> None:
    copy_of_the_app(tmp_path)
    shutil.copy(tmp_path / ".env.example", tmp_path / ".env")
    process = Process(COMMANDS["threads"], {"PATH": os.environ["PATH"]}, tmp_path)
    assert process.exit_code() != 0
    for name in REQUIRED:
        assert name in process.output
    assert "PORT" not in process.output


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AGENT_WORKFLOW_ID", "wf_123", "Expected an ID that begins with 'asst'"),
        ("AGENT_WORKFLOW_ID", "wf_123", "FIX_AUDIO_ISSUE.md"),
        ("AGENT_WORKFLOW_ID", "pmpt_123", "Expected an ID that begins with 'asst'"),
        ("AGENT_WORKFLOW_ID", "agent_123", "Expected an ID that begins with 'asst'"),
        ("AGENT_WORKFLOW_ID", "nowhere.json", "nowhere.json"),
        ("WEBHOOK_URL", "http://voice.example.com", "https"),
        ("WEBHOOK_URL", "voice.example.com", "https"),
        ("WEBHOOK_URL", "http://127.0.0.1.evil.example", "https"),
        ("PORT", "five thousand", "PORT"),
        ("IDLE_SECONDS", "-1", "IDLE_SECONDS"),
        ("FILLER_SECONDS", "1.2.3", "FILLER_SECONDS"),
        ("WORKFLOW_TIMEOUT", "nan", "WORKFLOW_TIMEOUT"),
        ("REALTIME_SESSION", "nowhere.json", "nowhere.json"),
    ],
)
def test_a_wrong_value_is_refused_with_the_fix(name: str, value: str, words: str) -> None:
    output = refusal(**{name: value})
    assert name in output
    assert words in output


def test_a_local_webhook_url_may_be_http() -> None:
    with running(WEBHOOK_URL="http://127.0.0.1:5000"):
        pass


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"audio.input.turn_detection.create_response": True}, '"create_response": false'),
        ({"audio.input.turn_detection.create_response": ...}, '"create_response": false'),
        ({"audio.input.turn_detection.interrupt_response": True}, '"interrupt_response": false'),
        ({"audio.input.turn_detection.interrupt_response": ...}, '"interrupt_response": false'),
        ({"audio.input.turn_detection": None}, "turn_detection"),
        ({"audio.input.turn_detection": ...}, "turn_detection"),
        ({"audio.input.transcription": None}, "transcription"),
        ({"audio.input.transcription": ...}, "transcription"),
        ({"instructions": ...}, "read the text aloud"),
        ({"instructions": ""}, "read the text aloud"),
        ({"audio.input.format": {"type": "audio/pcm", "rate": 24000}}, "audio/pcmu"),
        ({"audio.output.format": ...}, "audio/pcmu"),
        ({"audio.output.format": {"type": "audio/pcma"}}, "audio/pcmu"),
        (
            {
                "audio.input.format": {"type": "audio/pcma"},
                "audio.output.format": {"type": "audio/pcma"},
            },
            "audio/pcmu",
        ),
        ({"audio": ...}, "turn_detection"),
        ({"audio": "loud"}, "turn_detection"),
    ],
    ids=str,
)
def test_a_session_the_service_cannot_work_with_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    output = refusal(REALTIME_SESSION=str(session_file(tmp_path, **changes)))
    assert "REALTIME_SESSION" in output
    assert words in output
    assert "NoneType" not in output
    assert "object" not in output


@pytest.mark.parametrize(
    "changes",
    [{"keys": None}, {"inaudible": ""}, {"cut_in": "[Cut in.]"}, {"keys": "{} or {}"}],
    ids=str,
)
def test_notes_that_cannot_be_filled_in_are_refused(
    tmp_path: Path, changes: dict[str, str | None]
) -> None:
    notes = json.loads((ROOT / "notes.json").read_text("utf-8")) | changes
    file = tmp_path / "notes.json"
    file.write_text(json.dumps({key: note for key, note in notes.items() if note is not None}))
    output = refusal(NOTES=str(file))
    assert "NOTES" in output
    assert 'Expected a .json file with "cut_in"' in output


@pytest.mark.parametrize("name", ["REALTIME_SESSION", "AGENT_WORKFLOW_ID", "NOTES"])
@pytest.mark.parametrize("content", ['{\n "model"\n}', "[]", '"text"', ""])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, name: str, content: str) -> None:
    file = tmp_path / "broken.json"
    file.write_text(content, "utf-8")
    output = refusal(**{name: str(file)})
    assert name in output
    assert "broken.json" in output
    if content.startswith("{"):
        assert "line 3" in output


@pytest.mark.parametrize(
    "changes",
    [
        {"audio.input.turn_detection": {"type": "semantic_vad", "eagerness": "high"}},
        {"audio.input.noise_reduction": None},
        {"audio.input.noise_reduction": {"type": "far_field"}},
        {"audio.input.transcription": {"model": "gpt-transcribe", "language": "de"}},
        {"audio.output.voice": "cedar", "audio.output.speed": 1.2},
    ],
    ids=str,
)
def test_the_usual_edits_of_the_session_are_accepted(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    no_automatism = {"create_response": False, "interrupt_response": False}
    if turns := changes.get("audio.input.turn_detection"):
        changes = {"audio.input.turn_detection": {**turns, **no_automatism}}
    with running(REALTIME_SESSION=str(session_file(tmp_path, **changes))):
        pass


def test_the_shipped_files_are_as_documented() -> None:
    session = json.loads((ROOT / "realtime_session.json").read_text("utf-8"))
    assert session["audio"]["input"]["format"] == session["audio"]["output"]["format"]
    assert session["audio"]["input"]["transcription"]["model"] == "gpt-transcribe"
    assert session["audio"]["input"]["noise_reduction"] == {"type": "near_field"}
    assert session["audio"]["output"]["voice"] == "marin"
    assert json.loads((ROOT / "workflow.json").read_text("utf-8"))["model"].startswith("gpt-6")
