"""The log: no phone number survives in it, whatever must stay readable does, nobody forges it."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from logs import JsonLines, SafeFormatter, log, mask_numbers, open_log

Objects: TypeAlias = "Callable[[], list[dict[str, Any]]]"
CALL = "[CA0123456789abcdef0123456789abcdef]"

# ---------------------------------------------------------------- phone numbers


@pytest.mark.parametrize(
    "number",
    [
        "+15552223333",
        "15552223333",
        "5552233",
        "555-2233",
        "(555) 222-3333",
        "+1 (555) 222-3333",
        "5 5 5 - 2 2 2 - 3 3 3 3",
        "555, 222, 3333",
        "555.222.3333",
        "+49.30.2223333",
        "030/222 33 33",
        "01.22.23.33.33",
        "030.222.33.33",
        "555_222_3333",
        "555:222:3333",
        "15:55:22:23333",
        "1555-22-23-333",
        "555\u2011222\u20113333",
        "555\u2013222\u20143333",
        "555\u00a0222\u00a03333",
        "555\u202f222\u202f3333",
        "555\u200b222\u200b3333",
        "555\u2009222\t3333",
        "%2B15552223333",
        "%2B1%20555%20222%203333",
        "1+555+222+3333",
        "%28555%29%20222-3333",
        "%35%35%35%32%32%32%33%33%33%33",
        r"555\u2011222\u20113333",
        r"555\xa0222\xa03333",
        r"555\xe2\x80\x91222\xe2\x80\x913333",
        "['5', '5', '5', '2', '2', '2', '3', '3', '3', '3']",
        '["555", "222", "3333"]',
        "[555] 222 3333",
        "client:user_15552223333",
        "client:15552223333abc",
        "sip:15552223333@example.com:5060",
        "tel:15552223333",
        "conv_15552223333",
        "０１５５５２２２３３３３",
        "+١٥٥٥٢٢٢٣٣٣٣",
        "५५५ २२२ ३३३३",
        "𝟓𝟓𝟓𝟐𝟐𝟐𝟑𝟑𝟑𝟑",
        "⁵⁵⁵²²²³³³³",
        "⑤⑤⑤②②②③③③③",
        "5x5x5x2x2x2x3x3x3x3",
        "555&nbsp;222&nbsp;3333",
        "555            222            3333",
        "+45 22.22.33.33",
        "sip:+15552223333@host.example;user=phone",
        r"\u002b15552223333",
        "01.02.2033 44 55",
        "555222,33 34",
        "+919876543210",
        "+1234567",
        "155522233331555222333315552223333",
        "https://15552223333/",
        "https://15552223333.example.com/voice",
        "https://1-555-222-3333.example.com",
        "https://5x5x5x2x2x2x3x3x3x3.example.com",
        "https://555.222.3333/",
        "https://host.example.com/15552223333",
        "https://host.example.com?From=15552223333",
        "https://host.example.com#15552223333",
        "https://host.example.com:15552223333",
        "https://host.example.15552223333",
        "https://user15552223333@host.example.com/",
        "https://user15552223333.example:word@host.example.com/",
        "sip:user15552223333.example.com",
        "at user15552223333.example.com",
        "to user15552223333.example.com: no",
    ],
    ids=ascii,
)
def test_at_most_the_last_two_digits_of_a_number_survive(number: str) -> None:
    for text in (number, f"from {number} to nobody", f"[{number}]", f"From={number}&To=x"):
        masked = mask_numbers(text)
        plain = re.sub(r"%(?!3\d)\w\w|%3(?=\d)|\\u\w{4}|\\x\w\w", " ", masked)
        assert len(re.findall(r"\d", plain.replace("5060", ""))) <= 2, masked
        assert "***" in masked


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-27 10:32:07",
        "2026-11-27 10:32:07,123",
        "2026-11-27T10:32:07.123456Z",
        "2026-11-27T10:32:07+00:00",
        "2026-11-27",
        "OpenAI ended the Assistants API on 2026-08-26",
        "10:32:07 200",
        "Sat, 28 Nov 2026 10:32:07 GMT",
        "Nov 28 10:32:07 host",
        "am 28.11.2026 10:32 Uhr",
        "11/28/2026 10:32:07 and 2026/11/28",
        "fe80::1234:5678:9abc and 2001:db8:85a3:0:0:8a2e:370:7334",
        "took 1234.567 ms, then 1234,5 s",
        "$12,345.67 or 1.234.567,89 EUR or €123,456.78",
        "[2026-11-27 10:32:07 +0000] [12345] [INFO] Listening at: http://0.0.0.0:5000 (12345)",
        "[2026-11-27 10:32:07 +0000] [12345] [INFO] Listening at: http://localhost:5000 (12345)",
        "[2026-11-27 10:32:07 +0000] [12345] [INFO] Listening at: http://[::]:5000 (12345)",
        '127.0.0.1 - - [27/Nov/2026 10:32:07] "POST /voice HTTP/1.1" 200 -',
        '10.0.0.1 - - [27/Nov/2026:10:32:07 +0000] "GET / HTTP/1.1" 200 1234 "-" "Twilio/1.1"',
        "connect to 127.0.0.1:53412 failed after 127.0.0.1:53413",
        "('127.0.0.1', 53412)",
        "Handshake status 401 Unauthorized",
        "Error code: 404 - {'error': {'message': 'No such model', 'code': None}}",
        f"{CALL} call started",
        "[CA00000000000000000000000000000001] call started",
        "set WEBHOOK_URL=https://phone-123456789012.us-central1.run.app",
        "refused POST /voice at phone-123456789012.us-central1.run.app: not signed",
        "refused POST /voice at phone-123456789012.example.com:8443: not signed",
        "wss://ec2-54-123-45-67.compute-1.amazonaws.com:8443/media-stream",
        "https://1a2b-203-0-113-77.ngrok-free.app/voice",
        "https://app-5a1234567890.herokuapp.com.",
        "Listening at: http://phone-123456789012.run.app:5000 (12345)",
        "MZ12345678901234567890123456789012",
        "resp_68e51234567890abcdef1234567890abcdef1234567890ab",
        "conv_012345678f0123456789012345678901234567890",
        "6a1f0b52-1234-5678-9012-123456789012",
        "<object at 0x7f1234567890>",
        "transcript 555 ms, first text 583 ms, first audio 660 ms",
        "turn 3: heard 5 words after 0.55 s, workflow 4.0 s (filler), cut in after 3 words",
        "ended after 45 s: [hangup], 6 turns, slowest 1.4 s, read 98 % word for word, 0.06 USD",
        'File "app.py", line 1234, in voice',
        "the caller pressed 4711",
        "PORT (70000): Expected a whole number from 1 to 65535",
    ],
)
def test_what_only_looks_like_a_number_survives(text: str) -> None:
    assert mask_numbers(text) == text


def test_the_last_two_digits_tell_calls_apart() -> None:
    assert mask_numbers("from +15552223333 to (555) 000-1144") == "from ***33 to (***44"
    assert mask_numbers("%2B1%20555%20222%203344") == "%2B***44"


GAPS = st.text(
    st.sampled_from(" \u00a0\u202f\u2009\u200b-\u2010\u2011\u2013,()/+_~'\""), max_size=3
)
ESCAPES = st.sampled_from(["%20", "%2D", "%C2%A0", "%E2%80%91", r"\u2011", r"\xa0", r"\t", "", ""])
DIGITS = st.sampled_from("3456789")  # no date or time can be made of these


@given(st.lists(st.tuples(DIGITS, GAPS, ESCAPES), min_size=7, max_size=15))
def test_a_number_written_in_any_way_is_masked(pieces: list[tuple[str, str, str]]) -> None:
    masked = mask_numbers("".join(f"{digit}{gap}{escape}" for digit, gap, escape in pieces))
    last_two = f"{pieces[-2][0]}{pieces[-1][0]}"
    assert masked.startswith(f"***{last_two}")


TIMES = st.sampled_from(["2026-11-28", "2026-11-28 22:30:11", "2026-11-28T22:30:11.123+0000"])
NAME = " INFO [CA0123456789abcdef0123456789abc555"
NAMES = st.sampled_from(["", " INFO", NAME])
RESTS = st.lists(st.sampled_from([" ", "]", "-", "5", "555", "2223", "5552223", ".", ":"]))


@given(TIMES, NAMES, RESTS)
@example("2026-11-28 22:30:11", NAME, ["2223"])
def test_a_line_is_masked_alike_wherever_it_begins(time: str, name: str, rest: list[str]) -> None:
    """What it begins with, its time and the call, is not looked at if no number follows."""
    line = time + name + "".join(rest)
    assert mask_numbers(f"At {line}") == f"At {mask_numbers(line)}"


@given(st.text(st.sampled_from("0123456789 -%3\\u201x:.+_aCA/"), max_size=2000))
def test_masking_takes_any_text(text: str) -> None:
    assert len(mask_numbers(text)) <= len(text) + 10


# ---------------------------------------------------------------- lines


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Have the app's log written to a text, as `open_log` would to standard error."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(SafeFormatter(logging.Formatter("%(message)s")))
    log.addHandler(handler)
    log.setLevel("INFO")
    yield text
    log.removeHandler(handler)


def test_numbers_are_masked_in_messages_and_their_arguments(written: io.StringIO) -> None:
    log.info("%s from %s", CALL, "+15552223333")
    assert written.getvalue() == f"{CALL} from ***33\n"


@pytest.mark.parametrize(
    "ending",
    [
        "\n",
        "\r",
        "\r\n",
        "\x0b",
        "\x0c",
        "\x1c",
        "\x1d",
        "\x1e",
        "\x85",
        "\u2028",
        "\u2029",
        "\x1b[2K",
    ],
    ids=ascii,
)
def test_no_text_of_a_stranger_makes_a_line_of_its_own(written: io.StringIO, ending: str) -> None:
    log.warning("refused %s", f"/voice{ending}{CALL} call started")
    [line] = written.getvalue().splitlines()
    assert line.startswith("refused /voice\\")
    assert line.isprintable()


def test_a_direction_change_or_half_a_letter_is_shown_and_not_obeyed() -> None:
    # Not by way of the log: pytest would keep the half letter, which it can't send to its master
    words = {"msg": "refused %s", "args": ("/a\u202eb\ud800c",)}
    record = logging.makeLogRecord(words)
    assert SafeFormatter(logging.Formatter()).format(record) == "refused /a\\u202eb\\ud800c"


def test_a_number_split_by_line_breaks_is_masked(written: io.StringIO) -> None:
    log.info("refused /%s", "555\n222\r3333")
    assert written.getvalue() == "refused /***33\n"


def test_a_traceback_is_masked_and_each_line_tells_the_call(written: io.StringIO) -> None:
    try:
        raise ValueError("no +15552223333 here\n[CA00000000000000000000000000000000] forged")
    except ValueError:
        log.exception("%s a bug of ours", CALL)
    lines = written.getvalue().splitlines()
    assert len(lines) > 4
    assert lines[1] == f"{CALL} Traceback (most recent call last):"
    assert all(line.startswith(f"{CALL} ") for line in lines)
    assert f"{CALL} ValueError: no ***33 here" in lines


def test_a_traceback_of_no_call_is_set_in(written: io.StringIO) -> None:
    try:
        raise ValueError("one\ntwo\u2028three")
    except ValueError:
        log.exception("no call")
    first, *others = written.getvalue().splitlines()
    assert first == "no call"
    assert all(line.startswith("  ") for line in others)
    assert others[-1] == "  two\\u2028three"


def test_the_formatter_that_is_wrapped_decides_about_time_and_level() -> None:
    inner = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
    record = logging.makeLogRecord(
        {"msg": "from %s", "args": ("+15552223333",), "levelname": "INFO"}
    )
    line = SafeFormatter(inner).format(record)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO from \*\*\*33", line)
    assert record.args == ("+15552223333",)  # other handlers get the record as it was


def test_opening_the_log_makes_every_handlers_lines_safe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    access = logging.getLogger("a-server.access")
    theirs = logging.StreamHandler(io.StringIO())
    theirs.setFormatter(logging.Formatter("theirs: %(message)s"))
    monkeypatch.setattr(access, "handlers", [theirs])
    monkeypatch.setattr(access, "propagate", False)

    open_log()
    open_log()  # as each worker does

    logging.getLogger("some.package").warning("from %s", "+15552223333")
    log.info("to %s", "+15550001144")
    access.warning('"GET /voice?From=%%2B15552223333 HTTP/1.1" 403 %d', 12)
    lines = capsys.readouterr().err.splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", line) for line in lines] == [
        "WARNING from ***33",
        "INFO to ***44",
    ]
    assert theirs.stream.getvalue() == ('theirs: "GET /voice?From=%2B***33 HTTP/1.1" 403 12\n')


# ---------------------------------------------------------------- an object a line


@pytest.fixture
def objects() -> Iterator[Objects]:
    """Have all logs written as JSON; return a function that returns what was written."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonLines())
    logging.getLogger().addHandler(handler)
    log.setLevel("INFO")
    yield lambda: [json.loads(line) for line in text.getvalue().splitlines()]
    logging.getLogger().removeHandler(handler)


def test_a_line_about_a_call_is_an_object_with_the_call_in_fields(objects: Objects) -> None:
    extra = {"event": "turn", "turn": 3, "workflow_seconds": 0.9}
    log.info("[%s ***33] %s", CALL[1:-1], "turn 3: heard 5 words", extra=extra)
    [line] = objects()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", line.pop("time"))
    assert line == {
        "level": "INFO",
        "call_sid": CALL[1:-1],
        "caller": "***33",
        "message": "turn 3: heard 5 words",
        "event": "turn",
        "turn": 3,
        "workflow_seconds": 0.9,
    }


def test_a_line_of_no_call_and_of_a_package_is_an_object_too(objects: Objects) -> None:
    logging.getLogger("some.package").warning("from %s\nto nobody", "+15552223333")
    log.warning("%s no conversation yet", CALL)
    first, second = objects()
    assert (first["level"], first["message"]) == ("WARNING", "from ***33\nto nobody")
    assert "call_sid" not in first
    assert (second["call_sid"], second["caller"]) == (CALL[1:-1], "")


def test_numbers_are_masked_in_all_fields_of_an_object(objects: Objects) -> None:
    try:
        raise ValueError("no +15552223333 here")
    except ValueError:
        log.exception("%s a bug", CALL, extra={"text": "call (555) 222-3333", "seconds": 1234567})
    [line] = objects()
    assert line["text"] == "call (***33"
    assert line["seconds"] == 1234567
    assert line["exc_info"].endswith("ValueError: no ***33 here")


def test_every_handler_writes_objects_if_that_is_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    server = logging.getLogger("a-server.error")
    theirs = logging.StreamHandler(io.StringIO())
    monkeypatch.setattr(server, "handlers", [theirs])
    monkeypatch.setattr(server, "propagate", False)

    open_log("json")
    open_log("json")  # as each worker does

    log.info("to %s", "+15550001144")
    server.warning("theirs")
    [ours] = map(json.loads, capsys.readouterr().err.splitlines())
    assert (ours["level"], ours["message"]) == ("INFO", "to ***44")
    assert json.loads(theirs.stream.getvalue())["message"] == "theirs"


def test_werkzeugs_line_a_request_is_off_and_its_warnings_are_on() -> None:
    open_log()
    werkzeug = logging.getLogger("werkzeug")
    assert not werkzeug.isEnabledFor(logging.INFO)
    assert werkzeug.isEnabledFor(logging.WARNING)
