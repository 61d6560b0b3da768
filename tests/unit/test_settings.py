"""The settings, tried without starting anything: what is accepted, refused, told and kept quiet."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st
from openai.types.realtime import RealtimeSessionCreateRequest
from openai.types.responses.response_create_params import ResponseCreateParamsBase
from pydantic import BaseModel

import settings as settings_module
import settings_files
from banner import tell_started
from settings import HERE, Notes, Settings, read_settings, settings
from settings_reading import SettingsError, shipped, variables
from settings_values import is_placeholder

VARIABLES = variables(Settings)

SID = "AC" + "0123456789abcdef" * 2
TOKEN = "fedcba9876543210" * 2
KEY = "sk-proj-0123456789abcdefghij"
GOOD = {
    "TWILIO_ACCOUNT_SID": SID,
    "TWILIO_AUTH_TOKEN": TOKEN,
    "TWILIO_PHONE_NUMBER": "+15550001111",
    "WEBHOOK_URL": "https://voice.example.com",
    "OPENAI_API_KEY": KEY,
    "AGENT_WORKFLOW_ID": "workflow.json",
}
EXAMPLE = {name: value or "" for name, value in dotenv_values(HERE / ".env.example").items()}
NOWHERE = Path("/nonexistent")
Json = dict[str, Any]


def read(folder: Path = NOWHERE, /, **changes: str) -> Settings:
    return read_settings(folder, {**GOOD, **changes})


def refusal(folder: Path = NOWHERE, /, **changes: str) -> str:
    """Return the report on settings that must be refused; it holds no secret."""
    with pytest.raises(SettingsError) as refused:
        read(folder, **changes)
    report = str(refused.value)
    for secret in (TOKEN, KEY, SID[2:]):
        assert secret not in report
    return report


def lines_about(name: str, report: str) -> list[str]:
    return [line for line in report.splitlines() if line.startswith(f"  {name}")]


def advice(name: str, value: str) -> str:
    """Return the one line about a wrong value, when all others are good."""
    report = refusal(**{name: value})
    problems = [line for line in report.splitlines() if line.startswith("  ")]
    assert len(problems) == 1, report
    assert problems == lines_about(name, report)
    return problems[0]


# ---------------------------------------------------------------- the list itself


def test_the_example_names_every_setting_in_order_with_its_default() -> None:
    assert list(EXAMPLE) == list(VARIABLES)
    required = [name for name in GOOD if name in EXAMPLE]
    assert list(EXAMPLE)[:6] == required
    for name, field in VARIABLES.items():
        assert field.is_required() == (name in required)
        if not is_placeholder(EXAMPLE[name]):
            assert EXAMPLE[name] == shipped(field), name


def test_an_untouched_copy_of_the_example_misses_the_first_five_and_nothing_else(
    tmp_path: Path,
) -> None:
    (tmp_path / ".env").write_bytes((HERE / ".env.example").read_bytes())
    with pytest.raises(SettingsError) as refused:
        read_settings(tmp_path, {})
    report = str(refused.value)
    to_fill_in = list(GOOD)[:5]
    for name in to_fill_in:
        [line] = lines_about(name, report)
        assert "Missing" in line
    problems = [line for line in report.splitlines() if line.startswith("  ")]
    assert len(problems) == len(to_fill_in)


def test_blank_means_the_default_and_spaces_around_a_value_are_nothing() -> None:
    blank = dict.fromkeys(set(VARIABLES) - set(GOOD), "  ")
    assert read(**blank) == read()
    assert read(GREETING=" Servus! ").greeting == "Servus!"
    assert read(GREETING=" ").greeting == "Hello! How can I help you?"


def test_values_are_typed() -> None:
    chosen = read(PORT="8080", IDLE_SECONDS="2.5", TRANSFER_NUMBER="+15550002222")
    assert chosen.port == 8080
    assert chosen.idle_seconds == 2.5
    assert chosen.realtime_session["type"] == "realtime"
    assert isinstance(chosen.notes, Notes)
    assert chosen.transfer_number == "+15550002222"


@pytest.mark.parametrize(
    "name", ["FILLER_SECONDS", "IDLE_SECONDS", "MAX_CALL_SECONDS", "WORKFLOW_TIMEOUT", "MAX_CALLS"]
)
def test_zero_means_for_ever(name: str) -> None:
    for zero in ("0", "0.0") if name != "MAX_CALLS" else ("0",):
        assert getattr(read(**{name: zero}), name.lower()) == math.inf


def test_what_follows_from_the_settings() -> None:
    chosen = read(WEBHOOK_URL="https://voice.example.com:8443/")
    assert chosen.stream_url == "wss://voice.example.com:8443/media-stream"
    assert chosen.realtime_url == ("wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1-mini")
    assert isinstance(chosen.workflow, dict)
    assert chosen.workflow["model"].startswith("gpt-6")
    assert chosen.language == "en"
    assert read(AGENT_WORKFLOW_ID="asst_123").workflow == "asst_123"
    assert chosen.realtime_host == "api.openai.com"
    local = read(OPENAI_BASE_URL="http://127.0.0.1:8000/v1/", REALTIME_MODEL="a/b&c")
    assert local.realtime_host == "127.0.0.1:8000, from OPENAI_BASE_URL"
    assert local.realtime_url == "ws://127.0.0.1:8000/v1/realtime?model=a%2Fb%26c"


def test_openais_key_does_not_go_to_another_host() -> None:
    assert read().workflow_key == KEY
    assert read().workflow_url == "https://api.openai.com/v1"
    elsewhere = read(AGENT_BASE_URL="https://agent.example.com/v1/")
    assert elsewhere.workflow_url == "https://agent.example.com/v1"
    assert elsewhere.workflow_key == ""
    both = read(AGENT_BASE_URL="https://agent.example.com/v1", AGENT_API_KEY="of-the-agent")
    assert both.workflow_key == "of-the-agent"


def test_fillers_are_cut_at_bars_and_empty_pieces_dropped() -> None:
    assert read().fillers == ("One moment, please.", "Let me see.")
    assert read(FILLER="One moment.|").fillers == ("One moment.",)
    assert read(FILLER="| Eins. | | Zwei. |").fillers == ("Eins.", "Zwei.")


def test_secrets_are_in_no_representation() -> None:
    chosen = read(AGENT_API_KEY="key-of-the-agent")
    for secret in (TOKEN, KEY, "key-of-the-agent"):
        assert secret not in repr(chosen)


def test_settings_are_read_once_and_anew_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**dict.fromkeys(VARIABLES, ""), **GOOD, "GREETING": "One"}.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    try:
        first = settings()
        monkeypatch.setenv("GREETING", "Two")
        assert settings() is first
        settings.cache_clear()
        assert settings().greeting == "Two"
    finally:
        settings.cache_clear()


def test_reading_changes_no_environment_variable(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GREETING=Servus\n", "utf-8")
    before = dict(os.environ)
    assert read(tmp_path).greeting == "Servus"
    assert dict(os.environ) == before


# ---------------------------------------------------------------- refused values

SID_OF_A_KEY = "SK" + "0" * 32
OTHER_KEYS = [
    "sk-ant-api03-abcdef0123456789",
    "sk-or-v1-0123456789abcdef",
    "gsk_0123456789abcdef",
    "AIzaSyA0123456789abcdef",
    "xai-0123456789abcdef",
    "hf_0123456789abcdef",
    "sk-admin-0123456789abcdef",
    "ek_0123456789abcdef",
    "org-0123456789abcdef",
    SID_OF_A_KEY,
    SID,
    TOKEN,
]
NO_SIDS = [TOKEN, SID_OF_A_KEY, "PN" + "0" * 32, SID[:-1], f"{SID}0", "AC123", KEY, f'"{SID}"']
NO_TOKENS = [
    SID,
    SID_OF_A_KEY,
    KEY,
    TOKEN[:-1],
    f"{TOKEN}0",
    f"{TOKEN} x",
    f'"{TOKEN}"',
    "/",
    "…",
    "+",
]
NO_NUMBERS = [
    "garage",
    "030 123456",
    "+49 30 123456",
    "+1 (555) 000-1111",
    "+1555-000-2222",
    "0049 30 1234567",
    "15550002222",
    "+0155500022",
    "+123456",
    "+1234567890123456",
    "sip:desk@example.com",
    "client:desk",
    "call me",
    '"+15550002222"',
    "tel:+15550002222",
    "+１５５５０００２２２２",
]
NO_LANGUAGES = ["German", "de", "de_DE", "de-de", "DE-DE", "de-DE-x", "Polly.Vicki", "de DE", "١"]
NO_WEBHOOKS = [
    "http://voice.example.com",
    "voice.example.com",
    "wss://voice.example.com",
    "https:/voice.example.com",
    "http://127.0.0.1.evil.example",
    "http://localhost:5000",
    "https://localhost:5000",
    "https://localhost",
    "https://127.0.0.1:5000",
    "https://192.168.1.5",
    "https://10.0.0.1",
    "https://172.20.1.1",
    "https://100.64.1.1",
    "https://169.254.1.1",
    "https://[::1]",
    "https://[fd00::1]:443",
    "https://0.0.0.0:5000",
    "https://raspberry.local",
    "https://garage",
    "https://voice.example.com/voice",
    "https://voice.example.com/x/",
    "https://voice.example.com?x=1",
    "https://voice.example.com/?x=1",
    "https://user:hunter2@voice.example.com",
    "https://user@voice.example.com",
    "https://voice.example.com#rc=3",
    "https://voice.example.com:99999",
    "https://voice.example.com:0",
    "https://voice.example.com:port",
    "https://voice example.com",
    "https://garage.müller.example",
    "https://",
]
NO_SECONDS = ["-1", "1.2.3", "nan", "inf", "soon", "15s", "15 seconds", "007", "09", "1,5", "1e3"]
NO_SECONDS += ["0x10", "٣", "+5", ".5", "5.", "12345678"]
NO_PORTS = ["0", "70000", "65536", "5000.5", "five thousand", "-1", "08080", ":5000", "5000/tcp"]
NO_PORTS += ["127.0.0.1:5000", "5 000", "٥٠٠٠"]
NO_BASE_URLS = [
    "api.openai.com",
    "api.openai.com/v1",
    "https://api.openai.com",
    "https://api.openai.com/",
    "https://api.openai.com/v1/realtime",
    "https://api.openai.com/v1/responses",
    "wss://api.openai.com/v1",
    "https://api.openai.com/v1?x=1",
    "https://me:hunter2@api.openai.com/v1",
    "//api.openai.com/v1",
]
NO_WORKFLOWS = [
    "wf_123",
    "pmpt_123",
    "agent_123",
    "gpt-6-luna",
    "my workflow",
    KEY,
    "asst",
    "asst_",
]
WRONG: list[tuple[str, str]] = [
    *(("TWILIO_ACCOUNT_SID", value) for value in NO_SIDS),
    *(("TWILIO_AUTH_TOKEN", value) for value in NO_TOKENS),
    *(("TWILIO_PHONE_NUMBER", value) for value in NO_NUMBERS),
    *(("TRANSFER_NUMBER", value) for value in NO_NUMBERS),
    *(("SAY_LANGUAGE", value) for value in NO_LANGUAGES),
    *(("WEBHOOK_URL", value) for value in NO_WEBHOOKS),
    *(("OPENAI_API_KEY", value) for value in OTHER_KEYS),
    *(("OPENAI_API_KEY", value) for value in (f"Bearer {KEY}", f"“{KEY}", f"{KEY}—", f"{KEY} x")),
    *(("AGENT_API_KEY", value) for value in (f"Bearer {KEY}", f"“{KEY}”", "a b", "schlüssel")),
    *(("AGENT_WORKFLOW_ID", value) for value in NO_WORKFLOWS),
    *(("AGENT_WORKFLOW_ID", value) for value in ("nowhere.json", "tests", "README.md")),
    *(
        (name, value)
        for name in ("FILLER_SECONDS", "IDLE_SECONDS", "MAX_CALL_SECONDS", "WORKFLOW_TIMEOUT")
        for value in NO_SECONDS
    ),
    *(("MAX_CALLS", value) for value in (*NO_SECONDS, "2.5")),
    *(("WEB_CONCURRENCY", value) for value in ("0", "-1", "1.5", "auto", "02", "101")),
    *(("LOG_FORMAT", value) for value in ("1", "JSON", "text,json")),
    *(("LOG_TRANSCRIPTS", value) for value in ("yes", "2", "true", "01")),
    *(("PRICES", value) for value in ("nowhere.json", "README.md")),
    *(("METRICS_TOKEN", value) for value in ("1", "short", "with blanks between words", "ü" * 20)),
    *(("PORT", value) for value in NO_PORTS),
    *(("OPENAI_BASE_URL", value) for value in NO_BASE_URLS),
    *(("AGENT_BASE_URL", value) for value in ("agent.example.com", "agent.example.com/v1")),
    *(("AGENT_BASE_URL", value) for value in ("https://a.example/v1/responses", "localhost:8000")),
    *(("TWILIO_API_URL", value) for value in ("api.twilio.com", "https://api.twilio.com/2010")),
    *(("REALTIME_MODEL", value) for value in ("gpt realtime", "gpt-realtime # mine", '"gpt"')),
    *(("REALTIME_SESSION", value) for value in ("nowhere.json", "tests", "README.md")),
    *(("NOTES", value) for value in ("nowhere.json", "workflow.json.bak")),
    *(("GREETING", value) for value in ("...", "🙂", "Gr\udcfc\udcdf Gott", "Hello\x07")),
    *(("FILLER", value) for value in ("|", "| |", "...|...")),
    ("TRANSFER_NUMBER", GOOD["TWILIO_PHONE_NUMBER"]),  # it would ring here again
    ("TRANSFER_NUMBER", "your_number"),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=ascii)
def test_a_wrong_value_is_refused_in_one_line_that_names_its_variable(
    name: str, value: str
) -> None:
    line = advice(name, value) if name != "NOTES" else refusal(NOTES=value)
    for secret in (TOKEN, KEY, "hunter2", *OTHER_KEYS):
        assert secret not in line


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize(
    "value", ["", " ", "\t", "\n", "your_value", "<paste it here>", "xxxxxxxx"]
)
def test_what_is_blank_or_a_placeholder_counts_as_missing(name: str, value: str) -> None:
    assert "Missing" in advice(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_API_KEY", "sk-..."),
        ("OPENAI_API_KEY", "sk-proj-…"),
        ("OPENAI_API_KEY", "sk-xxxxxxxxxxxx"),
        ("TWILIO_ACCOUNT_SID", "AC..."),
        ("TWILIO_AUTH_TOKEN", "changeme"),
        ("WEBHOOK_URL", "https://YOUR-HOST"),
        ("WEBHOOK_URL", "https://your-host.example.com"),
        ("WEBHOOK_URL", "https://<your host>"),
        ("WEBHOOK_URL", "https://xxxx.ngrok.app"),
    ],
)
def test_the_placeholders_of_others_examples_count_as_missing(name: str, value: str) -> None:
    assert "Missing" in advice(name, value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TWILIO_ACCOUNT_SID", TOKEN, "not an auth token"),
        ("TWILIO_AUTH_TOKEN", SID, "not an account SID"),
        ("TWILIO_ACCOUNT_SID", SID_OF_A_KEY, "Twilio API key"),
        ("TWILIO_AUTH_TOKEN", TOKEN[:-1], "not 31"),
        ("OPENAI_API_KEY", "sk-ant-api03-x", "Anthropic"),
        ("OPENAI_API_KEY", f"Bearer {KEY}", "Bearer"),
        ("OPENAI_API_KEY", f"“{KEY}”", "quotation marks"),
        ("WEBHOOK_URL", "http://voice.example.com", "https"),
        ("WEBHOOK_URL", "https://voice.example.com/voice", "remove /voice"),
        ("WEBHOOK_URL", "https://192.168.1.5", "internet"),
        ("OPENAI_BASE_URL", "https://api.openai.com", "/v1"),
        ("OPENAI_BASE_URL", "http://api.openai.com/v1", "Expected https://"),
        ("AGENT_BASE_URL", "http://agent.example.com/v1", "in the clear"),
        ("TWILIO_API_URL", "http://api.twilio.com", "in the clear"),
        ("AGENT_BASE_URL", "https://api.openai.com", "ends with /v1"),
        ("AGENT_BASE_URL", "https://eu.api.openai.com/", "ends with /v1"),
        ("OPENAI_BASE_URL", "https://platform.openai.com/v1", "Expected api.openai.com"),
        ("AGENT_BASE_URL", "https://openai.com/v1", "Expected api.openai.com"),
        ("WEBHOOK_URL", "https://-shop.example.com", "internet"),
        ("OPENAI_API_KEY", "sk-your-key-here", "Missing"),
        ("OPENAI_API_KEY", "sk-proj-your_key", "Missing"),
        ("AGENT_BASE_URL", "https://a.example/v1/responses", "without /responses"),
        ("AGENT_WORKFLOW_ID", "wf_123", "Set AGENT_WORKFLOW_ID=workflow.json"),
        ("AGENT_WORKFLOW_ID", "wf_123", "Expected an ID that begins with 'asst'"),
        ("AGENT_WORKFLOW_ID", "wf_123", "FIX_AUDIO_ISSUE.md"),
        (
            "AGENT_WORKFLOW_ID",
            "agent_123",
            "Set AGENT_WORKFLOW_ID=workflow.json instead of the ID of an agent, see"
            " FIX_AUDIO_ISSUE.md. (OpenAI's Agents API isn't supported)",
        ),
        ("AGENT_WORKFLOW_ID", "pmpt_123", "a reusable prompt"),
        ("AGENT_WORKFLOW_ID", "gpt-6-luna", "a model"),
        *(
            ("AGENT_WORKFLOW_ID", value, "): Did you mean the file workflow.json?")
            for value in ("workflow", "Workflow", "workflow.jsn", "workflow.", "work_flow")
        ),
        *(
            ("AGENT_WORKFLOW_ID", value, "An assistant's ID begins with asst_, in small letters")
            for value in ("asst-abc", "ast_abc", "Asst_abc", "asst abc", "assistant_abc", "asst_a,")
        ),
        ("AGENT_WORKFLOW_ID", "nowhere.json", "nowhere.json can't be read: No such file"),
        ("AGENT_WORKFLOW_ID", "workfow.json", "No such file; did you mean workflow.json?"),
        ("AGENT_WORKFLOW_ID", "work-flow.json", "No such file; did you mean workflow.json?"),
        ("PORT", "70000", "PORT (70000): Expected a whole number from 1 to 65535"),
        ("IDLE_SECONDS", "007", "IDLE_SECONDS (007): Expected a plain number"),
        ("SAY_LANGUAGE", "German", "SAY_LANGUAGE (German): Expected a language and a region as"),
        ("PORT", "5000# mine", "Expected a whole number"),
        ("LOG_FORMAT", "xml", "LOG_FORMAT (xml): Expected text or json"),
        ("LOG_TRANSCRIPTS", "yes", "Expected 1 or 0"),
        ("METRICS_TOKEN", "1", "METRICS_TOKEN: Expected a secret of 16"),
        ("TIMEZONE", "Europe/Berln", "Expected a time zone such as Europe/Berlin"),
        ("TIMEZONE", "berlin", "Expected a time zone such as Europe/Berlin"),
        ("TIMEZONE", "america/new_york", "Expected a time zone such as America/New_York"),
        ("TIMEZONE", "Europe", "Expected a time zone such as Europe/"),
        ("TIMEZONE", "../etc/passwd", "Expected a time zone such as Europe/Berlin"),
        ("TWILIO_PHONE_NUMBER", "+15550001111# mine", "such as +15550001111"),
        ("REALTIME_MODEL", "gpt-realtime-2.1# mine", "comment"),
    ],
)
def test_the_advice_names_the_mistake_and_the_fix(name: str, value: str, words: str) -> None:
    assert words in advice(name, value)


@pytest.mark.parametrize("number", ["15550001111", "0015550001111", "+0155500011"])
def test_a_number_written_in_another_way_is_not_called_no_number(number: str) -> None:
    told = advice("TWILIO_PHONE_NUMBER", number)
    assert told.endswith("Expected a number such as +15550001111: plus, country code, digits only")


def test_the_living_way_is_named_before_the_dead_one() -> None:
    line = advice("AGENT_WORKFLOW_ID", "wf_123")
    assert line.index("workflow.json") < line.index("asst")


@pytest.mark.parametrize("value", ["asst_abc ", " asst_abc", '"asst_abc "', "asst_abc\t"])
def test_blanks_around_a_value_do_not_count(tmp_path: Path, value: str) -> None:
    (tmp_path / ".env").write_text(f"AGENT_WORKFLOW_ID={value}\n", "utf-8")
    assert read(tmp_path, AGENT_WORKFLOW_ID="").agent_workflow_id == "asst_abc"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEBHOOK_URL", "http://127.0.0.1:5000"),
        ("WEBHOOK_URL", "https://voice.example.com/"),
        ("WEBHOOK_URL", "https://Voice.Example.com:8443"),
        ("WEBHOOK_URL", "https://yourgarage.com"),
        ("WEBHOOK_URL", "https://a-b_c.trycloudflare.com"),
        ("WEBHOOK_URL", "https://machine.tail1234.ts.net"),
        ("WEBHOOK_URL", "https://xn--mller-kva.example"),
        ("WEBHOOK_URL", "https://8.8.8.8"),
        ("OPENAI_API_KEY", "sk-the-key-of-openai"),
        ("AGENT_API_KEY", "any_Key.of+another/host="),
        ("OPENAI_BASE_URL", "https://eu.api.openai.com/v1"),
        ("OPENAI_BASE_URL", "https://name.openai.azure.com/openai/v1/"),
        ("OPENAI_BASE_URL", "http://realtime:8000/v1"),
        ("AGENT_BASE_URL", "http://agent:8000"),
        ("AGENT_BASE_URL", "https://eu.api.openai.com/v1/"),
        ("AGENT_BASE_URL", "https://name.services.ai.azure.com/api/projects/desk"),
        ("TWILIO_API_URL", "https://api.dublin.ie1.twilio.com/"),
        ("TWILIO_AUTH_TOKEN", TOKEN.upper()),
        ("TWILIO_AUTH_TOKEN", "the-auth-token-of-twilio"),
        ("AGENT_WORKFLOW_ID", "asst_xxxxx"),
        ("TRANSFER_NUMBER", "+493012345"),
        *(("SAY_LANGUAGE", value) for value in ("de-DE", "es-419", "cmn-Hans-CN", "fil-PH")),
        *(("SAY_LANGUAGE", value) for value in ("arb", "en-GB-WLS")),
        ("TIMEZONE", "Asia/Kolkata"),
        ("GREETING", "¿Sí? Press #1 or say “hello”."),
        ("GREETING", "नमस्ते"),
    ],
)
def test_what_may_be_right_is_accepted(name: str, value: str) -> None:
    assert getattr(read(**{name: value}), name.lower()) == value.rstrip("/")


@pytest.mark.parametrize("key", ["hello", "xai-0123456789abcdef", "0123456789abcdef" * 2])
def test_a_key_of_any_shape_is_right_for_another_host_and_wrong_at_openai(key: str) -> None:
    others = ["http://127.0.0.1:8000/v1", "https://api.x.ai/v1", "https://api.openai.com.eu/v1"]
    for url in [*others, "https://apiaopenai.com/v1"]:
        assert read(OPENAI_API_KEY=key, OPENAI_BASE_URL=url).openai_api_key == key
    ours = ["", "https://api.openai.com/v1/", "https://eu.api.openai.com/v1"]
    for url in [*ours, "HTTPS://API.OpenAI.com/v1"]:
        report = refusal(OPENAI_API_KEY=key, OPENAI_BASE_URL=url)
        (line,) = lines_about("", report)
        assert line.startswith("  OPENAI_API_KEY: Expected an API key of OpenAI's, ")
    assert "which begins with sk-" in advice("OPENAI_API_KEY", "hello")


def test_a_wrong_key_and_a_wrong_address_are_both_told() -> None:
    report = refusal(OPENAI_API_KEY="hello", OPENAI_BASE_URL="https://api.openai.com")
    assert [line.split()[0] for line in lines_about("", report)] == [
        "OPENAI_API_KEY:",
        "OPENAI_BASE_URL",
    ]


def test_all_problems_are_told_at_once_in_the_order_of_the_list() -> None:
    wrong = {
        **dict.fromkeys(GOOD, ""),
        "FILLER_SECONDS": "soon",
        "REALTIME_SESSION": "nowhere.json",
        "PORT": "0",
    }
    report = refusal(**wrong)
    positions = [report.index(f"  {name}") for name in wrong]
    assert positions == sorted(positions)
    assert "GREETING" not in report
    assert report.startswith("Fix these settings, in the environment or in .env:\n")


def test_settings_error_ends_a_program_and_can_be_caught_as_a_value_error() -> None:
    assert issubclass(SettingsError, SystemExit)
    assert issubclass(SettingsError, ValueError)


SECRETS = st.sampled_from([SID, TOKEN, KEY, *OTHER_KEYS, "https://user:hunter2@voice.example.com"])


@given(st.sampled_from([name for name in EXAMPLE if name not in ("GREETING", "FILLER")]), SECRETS)
def test_a_secret_in_the_wrong_variable_is_never_printed(name: str, secret: str) -> None:
    try:
        read(**{name: secret})
    except SettingsError as refused:
        report = str(refused)
        assert name in report
        assert secret not in report
        assert secret[2:] not in report
        assert "hunter2" not in report


@given(
    st.sampled_from(list(EXAMPLE)), st.text(max_size=30).map(lambda text: text.replace("\0", ""))
)
def test_whatever_is_given_is_taken_or_refused_in_plain_words(name: str, value: str) -> None:
    try:
        read(**{name: value})
    except SettingsError as refused:
        assert name in str(refused)


# ---------------------------------------------------------------- names nearly right


@pytest.mark.parametrize(
    ("meant", "written"),
    [
        ("OPENAI_API_KEY", "OPENAI_APIKEY"),
        ("OPENAI_API_KEY", "OPENAI_KEY"),
        ("TWILIO_AUTH_TOKEN", "TWILIO_TOKEN"),
        ("TWILIO_ACCOUNT_SID", "TWILIO_SID"),
        ("TWILIO_PHONE_NUMBER", "TWILIO_NUMBER"),
        ("AGENT_WORKFLOW_ID", "WORKFLOW_ID"),
        ("WEBHOOK_URL", "WEBHOOKURL"),
    ],
)
def test_a_required_name_nearly_right_is_named_as_what_was_meant(meant: str, written: str) -> None:
    report = refusal(**{meant: "", written: GOOD[meant]})
    [line] = lines_about(meant, report)
    assert f"{written} is set: did you mean that?" in line


@pytest.mark.parametrize(
    ("meant", "written"),
    [
        ("GREETING", "GREETNG"),
        ("GREETING", "greeting"),
        ("IDLE_PROMPT", "IDLE_PROMT"),
        ("TRANSFER_NUMBER", "TRANSFERNUMBER"),
        ("MAX_CALLS", "MAXCALLS"),
        ("REALTIME_MODEL", "REALTIME_MODELL"),
        ("OPENAI_BASE_URL", "OPENAI_BASEURL"),
    ],
)
def test_an_optional_name_nearly_right_is_refused_in_env_and_told_of_elsewhere(
    tmp_path: Path, meant: str, written: str
) -> None:
    [warning] = [text for text in read(**{written: "x"}).warnings() if written in text]
    assert meant in warning
    (tmp_path / ".env").write_text(f"{written}=x\n", "utf-8")
    report = refusal(tmp_path)
    assert lines_about(written, report) == [f"  {written}: No such setting; did you mean {meant}?"]


def test_names_of_others_and_blank_ones_are_left_alone(tmp_path: Path) -> None:
    names = ["HOME", "PATH", "TZ", "TWILIO_API_KEY", "OPENAI_ORG_ID", "FLASK_ENV", "NODE_PORT"]
    names += ["OPENAI_LOG", "LOGGING"]
    text = "".join(f"{name}=1\n" for name in names) + "GREETNG=\n"
    (tmp_path / ".env").write_text(text, "utf-8")
    assert read(tmp_path, **dict.fromkeys(names, "1")).warnings() == read().warnings()


# ---------------------------------------------------------------- .env


def env_file(folder: Path, text: str | bytes) -> Path:
    content = text.encode() if isinstance(text, str) else text
    (folder / ".env").write_bytes(content)
    return folder


def test_the_environment_wins_over_the_file_and_blank_does_not(tmp_path: Path) -> None:
    env_file(tmp_path, "GREETING=Servus\nGOODBYE='Baba!'  # so they say\nexport PORT=81\n")
    chosen = read(tmp_path, GREETING="Grüezi", GOODBYE="")
    assert (chosen.greeting, chosen.goodbye, chosen.port) == ("Grüezi", "Baba!", 81)


def test_without_a_file_it_is_told_where_one_was_looked_for(tmp_path: Path) -> None:
    report = refusal(tmp_path, PORT="0")
    assert f"There is no {tmp_path / '.env'}" in report
    assert "Copy .env.example" in report


def test_a_start_tells_which_file_was_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / ".env"
    tell_started(read(tmp_path))
    assert f"\nThere is no {file}: the environment alone was read.\n" in capsys.readouterr().out
    tell_started(read(env_file(tmp_path, "PORT=81")))
    assert f"\nRead {file}.\n" in capsys.readouterr().out


def test_with_a_file_it_is_told_which_one_was_read(tmp_path: Path) -> None:
    assert f"Read {tmp_path / '.env'}." in refusal(env_file(tmp_path, "PORT=0"))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert "can't be read: Is a directory" in refusal(tmp_path, PORT="0")


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_file_may_be_saved_as_editors_do(tmp_path: Path, codec: str, ending: str) -> None:
    text = ending.join(["# mine", "", "GREETING=Grüß Gott", "PORT=81", ""])
    chosen = read(env_file(tmp_path, text.encode(codec)))
    assert (chosen.greeting, chosen.port) == ("Grüß Gott", 81)


def test_a_file_in_latin_1_is_refused_by_line_and_the_rest_is_still_checked(tmp_path: Path) -> None:
    report = refusal(env_file(tmp_path, "IDLE_SECONDS=soon\nGREETING=Grüß Gott".encode("latin-1")))
    assert "  .env, line 2: Save the file as UTF-8" in report
    assert lines_about("IDLE_SECONDS", report)


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ('\n\nGREETING="Hello\nPORT=81', ".env, line 3 (GREETING)", "quotation mark"),
        ("GREETING='Hello", ".env, line 1 (GREETING)", "quotation mark"),
        ('GREETING="Hello" there', ".env, line 1 (GREETING)", "quotation mark"),
        ('GREETING="Hello\nFILLER=Well.\nGOODBYE=Bye"', ".env, line 1 (GREETING)", "next line"),
        ("PORT 5000", ".env, line 1", "NAME=value"),
        ("PORT: 5000", ".env, line 1 (PORT)", "NAME=value"),
        ("\nPORT", ".env, line 2", "there is no ="),
        ("AGENT_WORKFLOW_ID=workflow.json# mine", ".env, line 1 (AGENT_WORKFLOW_ID)", "#"),
        ("GREETING=Hello!# mine", ".env, line 1 (GREETING)", "#"),
        ("IDLE_SECONDS=15#s", ".env, line 1 (IDLE_SECONDS)", "#"),
        ("PORT=1\n\nPORT=2", ".env, line 3 (PORT)", "Already set in line 1"),
    ],
)
def test_a_line_that_would_be_misread_is_refused_by_its_number(
    tmp_path: Path, text: str, where: str, words: str
) -> None:
    [line, *_] = lines_about(where, refusal(env_file(tmp_path, text)))
    assert words in line


def test_an_unreadable_line_is_not_printed(tmp_path: Path) -> None:
    for text in (f'OPENAI_API_KEY="{KEY}', f"{KEY}", f"{TOKEN}==", f"'{KEY}'", f"{KEY} = x y"):
        refusal(env_file(tmp_path, text), PORT="0")


def test_a_number_sign_is_no_mistake_where_it_may_stand(tmp_path: Path) -> None:
    text = 'GREETING="Press #1, or 1# mine"\nGOODBYE=Bye # mine\nPORT=81\t# x#y'
    chosen = read(env_file(tmp_path, text))
    assert (chosen.greeting, chosen.goodbye) == ("Press #1, or 1# mine", "Bye")


def test_values_typed_into_the_example_are_told_and_not_printed(tmp_path: Path) -> None:
    example = (HERE / ".env.example").read_text("utf-8")
    example = example.replace("your_openai_api_key", KEY).replace("your_auth_token", TOKEN)
    example = example.replace("PORT=5000", "PORT=81")
    (tmp_path / ".env.example").write_text(example, "utf-8")
    told = "move TWILIO_AUTH_TOKEN, OPENAI_API_KEY, PORT to .env"
    assert told in refusal(tmp_path, OPENAI_API_KEY="")
    assert any(told in warning for warning in read(tmp_path).warnings())


def test_the_shipped_example_is_no_reason_to_warn() -> None:
    assert not [text for text in read(HERE).warnings() if ".env.example" in text]


# ---------------------------------------------------------------- warnings


def test_settings_that_leave_nothing_to_say_have_no_warnings() -> None:
    assert read(TRANSFER_NUMBER="+15550002222").warnings() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "set TRANSFER_NUMBER"),
        ({"WEBHOOK_URL": "http://127.0.0.1:5000"}, "Twilio can't reach WEBHOOK_URL: set the https"),
        ({"AGENT_WORKFLOW_ID": "asst_123"}, "2026-08-26: set AGENT_WORKFLOW_ID=workflow.json"),
        ({"AGENT_BASE_URL": "https://api.openai.com/v1"}, "set AGENT_API_KEY"),
        ({"REALTIME_MODEL": "gpt-6-luna"}, "REALTIME_MODEL (gpt-6-luna)"),
        ({"TWILIO_AUTH_TOKEN": "my-token"}, "TWILIO_AUTH_TOKEN is not 32 hexadecimal digits"),
    ],
)
def test_what_may_be_meant_and_probably_is_not_is_warned_of(
    changes: dict[str, str], words: str
) -> None:
    assert words in "\n".join(read(**changes).warnings())


def test_an_assistant_elsewhere_is_no_reason_to_warn() -> None:
    url, key = "https://agent.example.com/v1", "of-the-agent"
    chosen = read(AGENT_WORKFLOW_ID="asst_123", AGENT_BASE_URL=url, AGENT_API_KEY=key)
    assert chosen.warnings() == []


# ---------------------------------------------------------------- the workflow's file


def file_of(folder: Path, content: Json | str | bytes, name: str = "mine.json") -> str:
    path = folder / name
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def faults(folder: Path, name: str, content: Json | str | bytes) -> list[str]:
    """Return what is told about a file, one by one; its variable and its name are with each."""
    lines = lines_about(name, refusal(**{name: file_of(folder, content)}))
    return [line.split("): ", 1)[-1].removeprefix(f"  {name}: ") for line in lines]


FILES = ("AGENT_WORKFLOW_ID", "REALTIME_SESSION", "NOTES")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "a value is missing"),
        ("[]", "in braces"),
        ("{}", "in braces"),
        ('"text"', "in braces"),
        ("null", "in braces"),
        ('{\n "model"\n}', "line 3: a colon"),
        ('{\n "a": 1,\n}', "comma after the last entry"),
        ('{"a": [1, 2, ]}', "line 1: remove the comma after the last entry"),
        ('{\n "a": “b”}', "line 2: typographic quotation marks"),
        ("{“a”: 1}", "line 1: typographic quotation marks"),
        ("{\n'a': 1}", "line 2: single quotation marks"),
        ('{\n"a": "one\ntwo"}', r"line 2: a text ends here"),
        ('{\r\n"a": "one\r\ntwo"}', r"line 2: a text ends here"),
        ('{"a": "one\ttwo"}', r"line 1: a tab inside a text; write it as \t"),
        ('{\n"a": 1 // mine\n}', "a comment"),
        ('{\n# mine\n"a": 1}', "a comment"),
        ('{"a": True}', "true and false"),
        ('{"a": 1\n"b": 2}', "line 2: a comma is missing"),
        ('{"a": "b}', "line 1: a quotation mark is missing"),
        (r'{"a": "C:\new \x"}', "a backslash"),
        ('{"a": 1}\n{"b": 2}', "line 2: the object has ended before this"),
        ('{"a": ,}', "line 1"),
        ('{"model": "m", "model": "n"}', '"model" is there twice'),
        ('{"a": [{"b": {"c": 1, "d": 2, "c": 1}}]}', '"c" is there twice'),
        ("model=gpt", "a value is missing"),
        ('{\n"a": "Grüße"}'.encode("latin-1"), "line 2: save the file as UTF-8"),
    ],
    ids=ascii,
)
def test_json_that_cannot_be_read_is_explained_by_its_line(
    tmp_path: Path, name: str, content: str | bytes, words: str
) -> None:
    [fault] = faults(tmp_path, name, content)
    assert words in fault
    assert "mine.json" in fault
    for python in ("Expecting", "delimiter", "char", "Invalid"):
        assert python not in fault


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_a_json_file_may_be_saved_as_editors_do(tmp_path: Path, codec: str) -> None:
    content = '{"model": "gpt-6-luna", "instructions": "Grüß"}'.encode(codec)
    chosen = read(AGENT_WORKFLOW_ID=file_of(tmp_path, content))
    assert chosen.workflow == {"model": "gpt-6-luna", "instructions": "Grüß"}


@pytest.mark.parametrize(
    ("workflow", "words"),
    [
        ({"instructions": "Help."}, 'name a "model"'),
        ({"model": ""}, 'name a "model"'),
        ({"model": None}, 'name a "model"'),
        ({"model": ["gpt-6-luna"]}, 'name a "model"'),
        ({"modell": "gpt-6-luna"}, 'modell: did you mean "model"?'),
        ({"model": "gpt-6-luna", "instruction": "x"}, 'did you mean "instructions"?'),
        ({"model": "gpt-6-luna", "instructions": ["x"]}, "instructions: expected one text"),
        ({"model": "gpt-6-luna", "stream": True}, "stream: remove it"),
        ({"model": "gpt-6-luna", "input": "Hi"}, "input: remove it"),
        ({"model": "gpt-6-luna", "conversation": "conv_1"}, "conversation: remove it"),
        ({"model": "gpt-6-luna", "messages": []}, "messages: remove it"),
        ({"model": "m", "prompt": {"id": "pmpt_1"}}, 'copy its text into "instructions"'),
        ({"model": "gpt-6-luna", "max_tokens": 99}, 'here it is "max_output_tokens"'),
        ({"model": "gpt-6-luna", "system": "Help."}, 'here it is "instructions"'),
        ({"model": "gpt-6-luna", "reasoning_effort": "low"}, '"reasoning"'),
        ({"model": "gpt-6-luna", "text": {"format": {"type": "json_schema"}}}, "hear JSON"),
        ({"model": "gpt-realtime-2.1"}, "gpt-realtime-2.1 only speaks"),
        ({"model": "asst_123"}, "not an assistant's ID"),
        ({"model": "workflow.json"}, "not a file"),
        ({"model": "m", "tools": [{"type": "web_serach"}]}, 'did you mean "web_search"?'),
        ({"model": "gpt-6-luna", "tools": {}}, "tools: expected a list"),
        ({"model": "gpt-6-luna", "tools": ["web_search"]}, "tools, number 1: expected an object"),
        (
            {"model": "m", "tools": [{"type": "web_search"}, {"type": "function"}]},
            "number 2: a fun",
        ),
        (
            {"model": "m", "tools": [{"type": "custom", "name": "x"}]},
            "a custom tool can't run here",
        ),
        ({"model": "m", "tools": [{"type": "local_shell"}]}, "can't run here"),
        ({"model": "m", "tools": [{"type": "mcp"}]}, '"require_approval": "never"'),
        ({"model": "m", "tools": [{"type": "mcp", "require_approval": "always"}]}, "never"),
    ],
    ids=str,
)
def test_a_workflow_that_cannot_answer_is_refused(
    tmp_path: Path, workflow: Json, words: str
) -> None:
    assert words in "\n".join(faults(tmp_path, "AGENT_WORKFLOW_ID", workflow))


def test_several_faults_of_a_workflow_are_told_at_once(tmp_path: Path) -> None:
    workflow = {"modell": "gpt-6-luna", "stream": True, "tools": [{"type": "function"}, {}]}
    assert len(faults(tmp_path, "AGENT_WORKFLOW_ID", workflow)) == 5


def test_every_parameter_that_openais_library_knows_is_accepted(tmp_path: Path) -> None:
    ours = ("conversation", "input", "previous_response_id", "tools", "instructions", "model")
    gone = ("prompt",)
    names = ResponseCreateParamsBase.__annotations__.keys() - {*ours, *gone}
    workflow = {"model": "gpt-6-luna", **dict.fromkeys(names)}
    assert read(AGENT_WORKFLOW_ID=file_of(tmp_path, workflow))


def test_hosted_tools_are_accepted(tmp_path: Path) -> None:
    approved = {"type": "mcp", "server_label": "shop", "require_approval": "never"}
    by_tool = {"type": "mcp", "require_approval": {"never": {"tool_names": ["look_up"]}}}
    tools = [{"type": "web_search"}, {"type": "file_search"}, approved, by_tool]
    assert read(AGENT_WORKFLOW_ID=file_of(tmp_path, {"model": "m", "tools": tools}))


def with_tool(folder: Path, authorization: str) -> str:
    """Return the path of a workflow's file with a tool that wants a secret."""
    tool = {"type": "mcp", "require_approval": "never", "authorization": authorization}
    return file_of(folder, {"model": "m", "tools": [{"type": "web_search"}, tool]})


def test_a_secret_of_a_tool_stays_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("realtime_session.json", "notes.json", "prices.json"):
        (tmp_path / name).write_bytes((HERE / name).read_bytes())
    monkeypatch.setattr(settings_files, "HERE", tmp_path)
    (tmp_path / ".env").write_text("SHOP_TOKEN=of-the-file\nDESK_TOKEN=of-the-desk\n")
    monkeypatch.setenv("SHOP_TOKEN", "of-the-shop")
    for written, sent in [
        ("$SHOP_TOKEN", "of-the-shop"),
        ("$DESK_TOKEN", "of-the-desk"),
        ("a$SHOP_TOKEN", "a$SHOP_TOKEN"),
    ]:
        workflow = read(AGENT_WORKFLOW_ID=with_tool(tmp_path, written)).workflow
        assert isinstance(workflow, dict)
        assert [tool.get("authorization") for tool in workflow["tools"]] == [None, sent]


def test_a_secret_that_is_not_there_is_told_by_its_variable(tmp_path: Path) -> None:
    report = refusal(AGENT_WORKFLOW_ID=with_tool(tmp_path, "$NO_SUCH_TOKEN"))
    assert "tools, number 2: authorization: NO_SUCH_TOKEN is not set" in report


# ---------------------------------------------------------------- the voice session


def session(**changes: Any) -> Json:
    """Return the shipped session with values replaced by dotted path; `...` removes one."""
    content: Json = json.loads((HERE / "realtime_session.json").read_text("utf-8"))
    for path, value in changes.items():
        *parents, last = path.split(".")
        target = content
        for name in parents:
            target = target[name]
        target[last] = value
        if value is ...:
            del target[last]
    return content


BETA = {
    "modalities": ["text", "audio"],
    "voice": "alloy",
    "instructions": "Read the text aloud.",
    "input_audio_format": "g711_ulaw",
    "output_audio_format": "g711_ulaw",
    "input_audio_transcription": {"model": "whisper-1"},
    "turn_detection": {"type": "server_vad", "create_response": False},
}
PROMPT = "You are the receptionist of Riverside Auto. Book appointments and be friendly."
OFF = {"create_response": False, "interrupt_response": False}
TURNS = "audio.input.turn_detection"
TRANSCRIPTION = "audio.input.transcription"
PCM = {"type": "audio/pcm", "rate": 24000}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (session(**{f"{TURNS}.create_response": True}), '"create_response": false'),
        (session(**{f"{TURNS}.create_response": ...}), '"create_response": false'),
        (session(**{f"{TURNS}.create_response": 0}), '"create_response": false'),
        (session(**{f"{TURNS}.interrupt_response": True}), '"interrupt_response": false'),
        (session(**{f"{TURNS}.interrupt_response": ...}), '"interrupt_response": false'),
        (session(**{TURNS: {"type": "semantic_vad"}}), '"create_response": false'),
        (session(**{TURNS: None}), "turn_detection"),
        (session(**{TURNS: ...}), "turn_detection"),
        (session(**{TURNS: {"type": "vad", **OFF}}), '"server_vad" or "semantic_vad"'),
        (session(**{TURNS: OFF}), '"server_vad" or "semantic_vad"'),
        (session(**{f"{TURNS}.idle_timeout_ms": 5000}), "IDLE_SECONDS"),
        (session(**{f"{TURNS}.threshold": 5}), "threshold: expected a number from 0 to 1"),
        (session(**{f"{TURNS}.threshold": True}), "threshold: expected a number"),
        (session(**{f"{TURNS}.silence_duration_ms": "500"}), "ms: expected a number"),
        (session(**{f"{TURNS}.silence_duration_ms": -1}), "ms: expected a number"),
        (session(**{f"{TURNS}.prefix_padding_ms": [300]}), "ms: expected a number"),
        (session(**{"audio.output.speed": 3}), "speed: expected a number from 0.25 to 1.5"),
        # The words alone, standing elsewhere, are not enough.
        (session(tools='"create_response": false', **{TURNS: {}}), '"create_response": false'),
        (session(**{TRANSCRIPTION: None}), 'name a "model"'),
        (session(**{TRANSCRIPTION: ...}), 'name a "model"'),
        (session(**{f"{TRANSCRIPTION}.model": ""}), 'name a "model"'),
        (session(**{f"{TRANSCRIPTION}.model": "gpt-live-transcribe"}), "turn_detection"),
        (session(**{f"{TRANSCRIPTION}.model": "whisper-1"}), '"language": "en"'),
        (session(**{f"{TRANSCRIPTION}.language": "de"}), 'use "languages": ["de"]'),
        (session(**{f"{TRANSCRIPTION}.languages": "en"}), "a list of codes"),
        (session(**{f"{TRANSCRIPTION}.languages": ["english"]}), "a list of codes"),
        (session(**{f"{TRANSCRIPTION}.languages": ["en-US"]}), "a list of codes"),
        (session(**{f"{TRANSCRIPTION}.languages": [1]}), "a list of codes"),
        (session(**{f"{TRANSCRIPTION}.languages": []}), "a list of codes"),
        (session(**{TRANSCRIPTION: {"model": "whisper-1", "language": "German"}}), "a code such"),
        (session(instructions=...), "read the text aloud"),
        (session(instructions=""), "read the text aloud"),
        (session(instructions=" "), "read the text aloud"),
        (session(instructions=["Read."]), "read the text aloud"),
        (session(prompt={"id": "pmpt_1"}), "an agent's prompt belongs"),
        (session(**{"audio.input.format": {"type": "audio/pcma"}}), "audio.input.format"),
        (session(**{"audio.input.format": {"type": "audio/pcmu", "rate": 8000}}), "audio/pcmu"),
        (session(**{"audio.input.format": {"type": "audio/pcm"}}), '"rate": 24000'),
        (session(**{"audio.output.format": {"type": "audio/pcm", "rate": 16000}}), "rate"),
        (session(**{"audio.output.format": ...}), "audio.output.format"),
        (session(**{"audio.output.format": "g711_ulaw"}), "audio.output.format"),
        (session(output_modalities=["text"]), "output_modalities"),
        (session(output_modalities=["audio", "text"]), "output_modalities"),
        (session(type="transcription"), 'type: set it to "realtime"'),
        (session(type=...), 'type: set it to "realtime"'),
        (session(audio=...), "turn_detection"),
        (session(audio="loud"), "turn_detection"),
        (session(**{"audio.output.voise": "ash"}), 'did you mean "voice"?'),
        (session(**{f"{TURNS}.treshold": 0.5}), 'did you mean "threshold"?'),
        (BETA, "old beta shape"),
        ({"type": "session.update", "session": session()}, '"session.update"'),
        ({"session": BETA}, '"session.update"'),
    ],
    ids=lambda each: "" if isinstance(each, dict) else each,
)
def test_a_session_the_calls_cannot_work_with_is_refused(
    tmp_path: Path, content: Json, words: str
) -> None:
    told = "\n".join(faults(tmp_path, "REALTIME_SESSION", content))
    assert words in told
    assert "NoneType" not in told


def test_the_beta_shape_is_told_as_such_name_by_name(tmp_path: Path) -> None:
    told = faults(tmp_path, "REALTIME_SESSION", BETA)
    assert len(told) == len(BETA) - 1  # instructions stay where they are
    assert all("old beta shape" in fault for fault in told)
    assert any("audio.input.turn_detection" in fault for fault in told)


def test_several_faults_of_a_session_are_told_at_once(tmp_path: Path) -> None:
    wrong = session(**{TURNS: {}, TRANSCRIPTION: {}, "audio.output.format": None}, instructions="")
    assert len(faults(tmp_path, "REALTIME_SESSION", wrong)) == 6


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {TURNS: {"type": "semantic_vad", "eagerness": "high", **OFF}},
        {f"{TURNS}.idle_timeout_ms": None},
        {"audio.input.noise_reduction": None},
        {"audio.input.noise_reduction": {"type": "far_field", "strength": 2}},
        {TRANSCRIPTION: {"model": "gpt-transcribe", "languages": ["de", "tr"], "keywords": ["ZF"]}},
        {TRANSCRIPTION: {"model": "gpt-4o-transcribe", "language": "de"}},
        {TRANSCRIPTION: {"model": "gpt-transcribe"}},
        {TRANSCRIPTION: {"model": "of-our-own", "languages": ["gsw"]}},
        {"audio.output.voice": "cedar", "audio.output.speed": 1.2},
        {"audio.input.format": PCM, "audio.output.format": PCM},
        {"audio.input.format": PCM},
        {"output_modalities": ...},
        {"reasoning": ...},
        {"instructions": "Lies den Text Wort für Wort vor. Füge nichts hinzu."},
        {"instructions": "You are a calm voice: read the text aloud, word for word, slowly."},
        {"instructions": "Tu es un assistant : lis le texte à voix haute, mot pour mot."},
        {"tracing": "auto", "truncation": "auto", "max_output_tokens": 4096},
    ],
    ids=str,
)
def test_the_usual_edits_of_the_session_are_accepted(tmp_path: Path, changes: Json) -> None:
    content = session(**changes)
    assert read(REALTIME_SESSION=file_of(tmp_path, content)).realtime_session == content


def test_every_name_of_a_session_that_openais_library_knows_is_accepted(tmp_path: Path) -> None:
    names = set(RealtimeSessionCreateRequest.model_fields) - {"prompt"}
    content = {**dict.fromkeys(names), **session()}
    assert read(REALTIME_SESSION=file_of(tmp_path, content))


def names_within(kind: Any) -> Iterator[str]:
    """Yield the names of a type of OpenAI's library, and of all that it is made of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield name
            yield from names_within(field.annotation)
    for part in get_args(kind):
        yield from names_within(part)


def test_no_name_deep_in_a_session_is_taken_for_a_misspelt_one(tmp_path: Path) -> None:
    names = set(names_within(RealtimeSessionCreateRequest))
    assert {"post_instructions", "retention_ratio", "eagerness"} <= names
    content = session(truncation=dict.fromkeys(names))
    assert read(REALTIME_SESSION=file_of(tmp_path, content))


@pytest.mark.parametrize(
    ("transcription", "language"),
    [
        ({"model": "gpt-transcribe", "languages": ["de", "en"]}, "de"),
        ({"model": "whisper-1", "language": "hi"}, "hi"),
        ({"model": "gpt-transcribe"}, "en"),
    ],
)
def test_the_language_is_that_of_the_voice_session(
    tmp_path: Path, transcription: Json, language: str
) -> None:
    path = file_of(tmp_path, session(**{TRANSCRIPTION: transcription}))
    assert read(REALTIME_SESSION=path).language == language


@pytest.mark.parametrize(
    ("instructions", "goes_by"),
    [
        (PROMPT, 'say "You are", and nothing of reading aloud: it only reads aloud; an agent'),
        ("Help callers.", 'say "Help caller", and nothing of reading aloud'),
        ("Du bist am Empfang. " * 40, "have 800 letters"),
        ("Read the text aloud. Speak warmly. " * 20, "have 700 letters"),
    ],
)
def test_a_session_whose_instructions_may_be_an_agent_s_prompt_is_warned_of(
    tmp_path: Path, instructions: str, goes_by: str
) -> None:
    path = file_of(tmp_path, session(instructions=instructions))
    told = "\n".join(read(REALTIME_SESSION=path).warnings())
    assert f"The voice session's instructions {goes_by}" in told


def test_a_session_that_pins_no_language_is_warned_of(tmp_path: Path) -> None:
    path = file_of(tmp_path, session(**{f"{TRANSCRIPTION}.languages": ...}))
    assert '"languages": ["en"]' in "\n".join(read(REALTIME_SESSION=path).warnings())


@pytest.mark.parametrize(
    ("languages", "say_language", "warned"),
    [
        (["de"], "en-US", True),
        (["de"], "en-GB", True),
        (["de"], "de-AT", False),
        (["de", "en"], "en-US", False),
        (["zh"], "cmn-CN", False),
    ],
)
def test_a_line_whose_callers_speak_no_english_is_told_to_set_say_language(
    tmp_path: Path, languages: list[str], say_language: str, warned: bool
) -> None:
    path = file_of(tmp_path, session(**{f"{TRANSCRIPTION}.languages": languages}))
    told = read(REALTIME_SESSION=path, SAY_LANGUAGE=say_language).warnings()
    assert any("set SAY_LANGUAGE" in warning for warning in told) == warned


# ---------------------------------------------------------------- the notes


NOTES: Json = json.loads((HERE / "notes.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"keys": ...}, "keys"),
        ({"cut_in": ...}, "cut_in"),
        ({"cut_in": "[Cut in.]"}, "cut_in"),
        ({"keys": "{} or {}"}, "keys"),
        ({"keys": "{0}"}, "keys"),
        ({"keys": "{} {digits}"}, "keys"),
        ({"cut_in": 5}, "cut_in"),
        ({"inaudible": ""}, "inaudible"),
        ({"line_lost": None}, "line_lost"),
        ({"line_lost": "[Lost {}.]"}, "line_lost"),
        ({"inaudibel": "[?]"}, "inaudibel"),
    ],
    ids=str,
)
def test_notes_that_cannot_be_filled_in_are_refused(
    tmp_path: Path, changes: Json, where: str
) -> None:
    notes = {name: note for name, note in {**NOTES, **changes}.items() if note is not ...}
    [fault] = faults(tmp_path, "NOTES", notes)
    assert fault.startswith(f"{where}: ")


def test_notes_need_only_those_with_a_hole(tmp_path: Path) -> None:
    least = {"cut_in": "Heard: {}", "keys": "Keys: {}"}
    chosen = read(NOTES=file_of(tmp_path, least))
    assert chosen.notes.cut_in == "Heard: {}"
    assert chosen.notes.inaudible == "[inaudible]"
    assert chosen.notes.not_transferred == "[The caller could not be put through.]"


def test_the_shipped_notes_are_the_defaults() -> None:
    assert list(NOTES) == list(Notes.model_fields)
    assert Notes(cut_in=NOTES["cut_in"], keys=NOTES["keys"]).model_dump() == NOTES


def test_the_shipped_session_pins_the_language_and_thinks_little() -> None:
    shipped = session()
    assert shipped["audio"]["input"]["transcription"] == {
        "model": "gpt-transcribe",
        "languages": ["en"],
    }
    assert shipped["reasoning"] == {"effort": "minimal"}
    assert shipped["audio"]["input"]["format"] == shipped["audio"]["output"]["format"]
    assert shipped["audio"]["input"]["noise_reduction"] == {"type": "near_field"}


def test_the_paths_of_files_are_relative_to_the_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(NOTES="notes.json", AGENT_WORKFLOW_ID="./workflow.json").workflow
    assert settings_module.HERE.is_absolute()
