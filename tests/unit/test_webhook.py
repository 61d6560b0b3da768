"""`POST /voice` and `GET /health`, asked in-process as Twilio and others ask."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from time import time
from typing import NamedTuple
from unittest.mock import MagicMock
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
from flask.testing import FlaskClient
from twilio.request_validator import RequestValidator
from werkzeug.test import TestResponse

import app
import workflow_client
from call import Call
from logs import mask_numbers
from opening import LOST
from places import PLACES
from settings import settings
from tests.unit.environment import REQUIRED, REWRITTEN
from tools.simulator.openai_server import OpenAISimulator
from tools.simulator.speech import ToneVoice
from tools.simulator.waiting import PATIENCE
from upstream import VOICE
from voice_handler import DRAINING

PUBLIC_URL = REQUIRED["webhook_url"]
CALLER, CALLED = "+15552223333", "+15550001111"
SID = "CA" + "7" * 32
FORM = {"CallSid": SID, "From": CALLER, "To": CALLED, "CallStatus": "ringing", "Digits": ""}


class Site(NamedTuple):
    """The app, and the OpenAI behind it."""

    client: FlaskClient
    openai: OpenAISimulator

    def post(
        self,
        path: str = "/voice",
        form: Mapping[str, str] = FORM,
        signature: str | None = "right",
        headers: Mapping[str, str] | None = None,
    ) -> TestResponse:
        """Ask as Twilio does. `signature`: "right", None for no header, or what is to be sent."""
        if signature == "right":
            signature = sign(PUBLIC_URL + path, form)
        signed = {} if signature is None else {"X-Twilio-Signature": signature}
        return self.client.post(path, data=form, headers={**(headers or {}), **signed})


def sign(url: str, form: Mapping[str, str]) -> str:
    return str(RequestValidator(REQUIRED["twilio_auth_token"]).compute_signature(url, dict(form)))


def clear_caches() -> None:
    for cached in (settings, app.workflow, app.twilio_calls):
        cached.cache_clear()


@pytest.fixture(scope="module")
def openai() -> Iterator[OpenAISimulator]:
    voice = ToneVoice()
    simulator = OpenAISimulator(ears=voice, mouth=voice, api_key=REQUIRED["openai_api_key"])
    simulator.start()
    yield simulator
    simulator.stop()


@pytest.fixture
def site(openai: OpenAISimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name, value in {**REQUIRED, "openai_base_url": openai.base_url, "max_calls": "2"}.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.setattr(app, "watch", lambda: None)  # what it starts would outlive the test
    monkeypatch.setattr(workflow_client, "START_SECONDS", PATIENCE)
    clear_caches()
    DRAINING.clear()
    openai.requests.clear()
    yield Site(app.app.test_client(), openai)
    DRAINING.clear()
    clear_caches()


def verbs(answer: TestResponse) -> list[str]:
    return [node.tag for node in ElementTree.fromstring(answer.text)]


def element(answer: TestResponse, name: str) -> ElementTree.Element:
    found = ElementTree.fromstring(answer.text).find(f".//{name}")
    assert found is not None, answer.text
    return found


def parameters(answer: TestResponse) -> dict[str, str]:
    nodes = ElementTree.fromstring(answer.text).iter("Parameter")
    return {node.attrib["name"]: node.attrib["value"] for node in nodes}


# --- a call comes in ------------------------------------------------------------------------------


def test_a_call_is_connected_to_its_stream_with_a_safety_net(site: Site) -> None:
    answer = site.post()
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/xml")
    assert verbs(answer) == ["Connect", "Redirect"]
    assert element(answer, "Stream").attrib == {"url": "wss://voice.example.com/media-stream"}
    given = parameters(answer)
    conversation, since = given["conversation"], given.pop("since")
    assert conversation in site.openai.conversations
    assert float(since) == pytest.approx(time(), abs=60)
    assert given == {
        "conversation": conversation,
        "caller": CALLER,
        "called": CALLED,
        "about": "",
        "attempt": "0",
        "opening": "greeting",
    }
    again = urlsplit(element(answer, "Redirect").text or "")
    assert again.path == "/voice"
    query = parse_qs(again.query)
    assert float(query.pop("began")[0]) == pytest.approx(time(), abs=60)
    assert query == {
        "conversation": [conversation],
        "attempt": ["1"],
        "since": [since],
        "opening": ["greeting"],
    }


def test_what_twilio_knows_of_the_caller_goes_to_the_workflow_and_with_the_stream(
    site: Site,
) -> None:
    answer = site.post(form={**FORM, "CallerName": "Ada Byron"})
    about = "Of the caller: name Ada Byron."
    assert parameters(answer)["about"] == about
    ((_, note),) = site.openai.conversations[parameters(answer)["conversation"]].texts
    assert note.endswith(f" {about}]")


def test_asking_twice_for_a_call_starts_one_conversation(site: Site) -> None:
    first, second = site.post(), site.post()
    other = site.post(form={**FORM, "CallSid": "CA" + "4" * 32})
    assert parameters(first)["conversation"] == parameters(second)["conversation"]
    assert parameters(other)["conversation"] != parameters(first)["conversation"]


def test_the_call_is_answered_though_the_workflow_refuses(site: Site) -> None:
    site.openai.brain.fail_create = [401]
    assert parameters(site.post())["conversation"] == ""


def test_a_full_process_is_busy_for_new_calls_only(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    DRAINING.set()
    answer = site.post()
    assert caplog.messages == [f"[{SID}] turned away: this process is stopping"]
    assert verbs(answer) == ["Reject"]
    assert element(answer, "Reject").attrib == {"reason": "busy"}
    assert verbs(site.post("/voice?conversation=conv_1&attempt=1")) == ["Connect", "Redirect"]


def test_a_line_that_has_all_its_calls_says_so(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as busy:
        for _ in range(2):
            busy.enter_context(PLACES.taken_by(MagicMock(open=True)))
        assert verbs(site.post()) == ["Reject"]
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
        signed = {"X-Twilio-Signature": sign("wss://voice.example.com/media-stream", {})}
        assert site.client.get("/media-stream", headers={**upgrade, **signed}).status_code == 503
    why = "all processes have MAX_CALLS calls"
    refused = f"refused GET /media-stream at localhost: {why}"
    assert caplog.messages == [f"[{SID}] turned away: {why}", refused]


# --- a call comes back ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "is_told"),
    [
        ("conversation=&attempt=1&began=1.0", True),
        ("conversation=conv_1&attempt=1&began=1.0", False),
        ("conversation=&attempt=1&after=hold&opening=greeting", False),  # nothing was said yet
    ],
)
def test_a_call_that_comes_back_without_its_conversation_tells_the_new_one(
    site: Site, query: str, is_told: bool
) -> None:
    answer = site.post(f"/voice?{query}")
    assert (LOST in parameters(answer)["about"]) is is_told
    assert not site.openai.brain.messages


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> float:
    """The time, which stands still."""
    now = 1_800_000_000.0
    monkeypatch.setattr(app, "time", lambda: now)
    return now


@pytest.mark.usefixtures("now")
def test_attempts_are_counted_and_bounded(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    path = "/voice"
    seen = []
    answer = site.post(path)
    while "Redirect" in verbs(answer):
        seen.append(parameters(answer))
        answer = site.post(element(answer, "Redirect").text or "")
    assert [each["attempt"] for each in seen] == ["0", "1", "2", "3"]
    assert {each["opening"] for each in seen} == {"greeting"}, "nobody has been greeted"
    assert len({each["since"] for each in seen}) == 1, "the call is as old as its first stream"
    assert len({each["conversation"] for each in seen}) == 1
    assert verbs(answer) == ["Say", "Hangup"]
    assert element(answer, "Say").text == settings().unavailable
    assert f"[{FORM['CallSid']}] turned away: its stream failed 4 times in a row" in caplog.text


def test_a_call_that_comes_back_is_as_old_as_it_was(site: Site) -> None:
    answer = site.post("/voice?conversation=conv_1&attempt=1&since=1000.5")
    assert parameters(answer)["since"] == "1000.5"
    again = parse_qs(urlsplit(element(answer, "Redirect").text or "").query)
    assert again["since"] == ["1000.5"]


def test_a_stream_that_lasted_begins_the_count_anew(site: Site) -> None:
    path = f"/voice?conversation=conv_1&attempt=4&began={round(time()) - 60}"
    assert parameters(site.post(path))["attempt"] == "1"
    path = f"/voice?conversation=conv_1&attempt=4&began={round(time())}"
    assert verbs(site.post(path)) == ["Say", "Hangup"]


def test_a_call_that_keeps_breaking_is_told_to_wait(site: Site) -> None:
    for attempt in (1, 2):
        answer = site.post(f"/voice?conversation=conv_1&attempt={attempt}")
        assert verbs(answer) == ["Connect", "Redirect"]
    again = site.post("/voice?conversation=conv_1&attempt=3")
    assert verbs(again) == ["Say", "Pause", "Connect", "Redirect"]


@pytest.mark.parametrize("attempt", [3, 4])
def test_a_caller_whose_stream_fails_hears_twilio_in_their_language(
    site: Site, monkeypatch: pytest.MonkeyPatch, attempt: int
) -> None:
    monkeypatch.setenv("SAY_LANGUAGE", "de-DE")
    answer = site.post(f"/voice?conversation=conv_1&attempt={attempt}")
    assert element(answer, "Say").attrib == {"language": "de-DE"}


def test_a_call_that_was_on_hold_is_not_told_twice_to_wait(site: Site) -> None:
    answer = site.post("/voice?conversation=conv_1&attempt=3&after=hold&opening=bridge")
    assert verbs(answer) == ["Connect", "Redirect"]


def test_a_caller_is_not_held_for_ever(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    answer = site.post("/voice?conversation=conv_1&attempt=4&after=hold&opening=bridge")
    assert verbs(answer) == ["Say", "Hangup"]
    assert element(answer, "Say").text == settings().unavailable
    assert caplog.messages == [f"[{SID}] turned away: it was on hold 4 times in a row"]


def test_a_caller_who_has_not_been_greeted_is_greeted_after_the_hold(site: Site) -> None:
    answer = site.post("/voice?conversation=conv_1&attempt=1&after=hold&opening=greeting")
    assert parameters(answer)["opening"] == "greeting"


@pytest.mark.parametrize("status", ["busy", "no-answer", "failed", "canceled", ""])
def test_a_transfer_that_nobody_answers_comes_back_to_the_conversation(
    site: Site, status: str
) -> None:
    path = "/voice?conversation=conv_1&attempt=1&after=transfer"
    answer = site.post(path, {**FORM, "DialCallStatus": status})
    assert verbs(answer) == ["Connect", "Redirect"]
    assert parameters(answer)["conversation"] == "conv_1"
    assert parameters(answer)["opening"] == "no_transfer"


@pytest.mark.parametrize("status", ["completed", "answered"])
def test_a_call_whose_transfer_was_answered_is_over(site: Site, status: str) -> None:
    path = "/voice?conversation=conv_1&attempt=1&after=transfer"
    assert verbs(site.post(path, {**FORM, "DialCallStatus": status})) == ["Hangup"]


def test_a_call_that_could_not_be_hung_up_is_not_begun_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWILIO_API_URL", "http://127.0.0.1:1")  # nobody listens there
    monkeypatch.setattr("twilio_calls.REST_PAUSES", ())
    clear_caches()
    sid = "CA" + "6" * 32
    with pytest.raises(OSError):
        app.twilio_calls().hang_up(Call(sid, "MZ1", CALLER, CALLED, "conv_1", 0, "greeting"))
    clear_caches()  # as another process would know of it
    back = "/voice?conversation=conv_1&attempt=1"
    assert verbs(site.post(back, {**FORM, "CallSid": sid})) == ["Hangup"]
    assert verbs(site.post(back)) == ["Connect", "Redirect"]


# --- the number's fallback ------------------------------------------------------------------------


def failed(url: str) -> dict[str, str]:
    """Return the form with which Twilio asks the number's fallback."""
    return {**FORM, "ErrorCode": "11200", "ErrorUrl": url}


def test_a_call_that_comes_back_by_the_fallback_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = MagicMock(**{"call.sid": SID})
    monkeypatch.setattr(app, "CALLS", {old})
    lost = "/voice?conversation=conv_old&attempt=1&since=1000.5&began=1001.5&opening=greeting"
    DRAINING.set()  # new calls would be turned away
    answer = site.post(form=failed(PUBLIC_URL + lost))
    assert verbs(answer) == ["Connect", "Redirect"]
    given = parameters(answer)
    told = (given["conversation"], given["attempt"], given["opening"], given["since"])
    assert told == ("conv_old", "1", "bridge", "1000.5")
    old.stream.abort.assert_called_once_with()
    assert site.openai.requests == []


@pytest.mark.parametrize(
    ("lost", "opening"),
    [("after=transfer", "no_transfer"), ("after=hold&opening=bridge", "bridge")],
)
def test_the_fallback_knows_after_what_a_call_comes_back(
    site: Site, lost: str, opening: str
) -> None:
    url = f"{PUBLIC_URL}/voice?conversation=conv_old&attempt=1&{lost}"
    given = parameters(site.post(form=failed(url)))
    assert (given["conversation"], given["opening"]) == ("conv_old", opening)


def test_the_fallback_does_not_let_a_call_come_back_for_ever(site: Site) -> None:
    url = f"{PUBLIC_URL}/voice?conversation=conv_old&attempt=4"
    assert verbs(site.post(form=failed(url))) == ["Say", "Hangup"]
    # Twilio has waited for an answer, which is no time of the stream's
    began = f"&began={time() - 16:.1f}"
    assert verbs(site.post(form=failed(url + began))) == ["Say", "Hangup"]
    assert verbs(site.post(url.removeprefix(PUBLIC_URL) + began)) == ["Connect", "Redirect"]


@pytest.mark.parametrize(
    "url",
    [
        f"{PUBLIC_URL}/voice",
        "https://elsewhere.example/voice?conversation=conv_old&attempt=1",
        f"{PUBLIC_URL}.elsewhere.example/voice?conversation=conv_old&attempt=1",
        f"{PUBLIC_URL}/other?conversation=conv_old&attempt=1",
        "",
        "[",
    ],
)
def test_a_new_call_that_comes_by_the_fallback_is_greeted(site: Site, url: str) -> None:
    given = parameters(site.post(form=failed(url)))
    assert given["conversation"] in site.openai.conversations
    assert (given["attempt"], given["opening"]) == ("0", "greeting")


# --- who may come in ------------------------------------------------------------------------------


@pytest.mark.parametrize("signature", [None, "", "wrong", "é".encode().decode("latin-1")])
@pytest.mark.parametrize("path", ["/voice", "/voice?conversation=conv_1&attempt=1"])
def test_a_webhook_without_the_right_signature_gets_403(
    site: Site, path: str, signature: str | None
) -> None:
    assert site.post(path, signature=signature).status_code == 403
    assert site.openai.requests == []


def test_a_signature_for_other_fields_or_another_url_gets_403(site: Site) -> None:
    signature = sign(f"{PUBLIC_URL}/voice", FORM)
    assert site.post(form={**FORM, "From": "+1666"}, signature=signature).status_code == 403
    assert site.post("/voice?attempt=1", signature=signature).status_code == 403
    local = sign("http://localhost/voice", FORM)
    assert site.post(signature=local).status_code == 403
    assert site.openai.requests == []


@pytest.mark.parametrize("headers", REWRITTEN, ids=str)
def test_signatures_hold_behind_proxies_that_rewrite(site: Site, headers: dict[str, str]) -> None:
    assert site.post(headers=headers).status_code == 200
    assert site.post(signature="wrong", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "query",
    [
        "attempt=x",
        "attempt=",
        "attempt=-7",
        "attempt=99999999999999999999",
        "attempt=1&attempt=2",
        "a=%C3%A9+b%2Fc&d",
        "conversation=&attempt=0",
        "conversation=%3Cconv%3E%26%22&attempt=1",
        "after=transfer",
        "after=hold",
        "after=nonsense&attempt=2",
        "x=1?",
        "%00=%FF",
    ],
)
def test_odd_queries_are_answered_with_twiml(site: Site, query: str) -> None:
    answer = site.post(f"/voice?{query}")
    assert answer.status_code == 200
    assert verbs(answer)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"CallSid": SID},
        {**FORM, "From": "Anonymous", "CallerName": "Zoë & <Söhne>"},
        {**FORM, "From": 'sip:zoë@example.com;x="1"'},
        {**FORM, "From": "+266696687", "To": "client:desk"},
    ],
    ids=str,
)
def test_odd_forms_are_answered_with_twiml(site: Site, form: dict[str, str]) -> None:
    answer = site.post(form=form)
    assert answer.status_code == 200
    assert parameters(answer)["caller"] == form.get("From", "")


def test_the_old_stream_of_a_call_that_comes_back_is_ended(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, other = (MagicMock(**{"call.sid": sid}) for sid in (SID, "CA1"))
    monkeypatch.setattr(app, "CALLS", {old, other})
    site.post("/voice?conversation=conv_1&attempt=1")
    old.stream.abort.assert_called_once_with()
    other.stream.abort.assert_not_called()


@pytest.mark.parametrize(
    ("seconds", "opening"), [(0, "greeting"), (0.9, "greeting"), (1.1, "bridge"), (10, "bridge")]
)
def test_a_caller_who_has_hardly_been_greeted_is_greeted_again(
    site: Site, now: float, seconds: float, opening: str
) -> None:
    path = f"/voice?conversation=conv_1&attempt=1&opening=greeting&began={now - seconds}"
    assert parameters(site.post(path))["opening"] == opening


def test_a_call_that_comes_back_does_not_wait_for_the_workflow(site: Site) -> None:
    assert parameters(site.post("/voice?conversation=&attempt=1"))["conversation"] == ""
    assert site.openai.requests == []


WRONG_ADDRESSES = [
    ("GET", "/voice", 405),
    ("POST", "/", 405),
    ("POST", "/Voice", 404),
    ("POST", "/voice/", 404),
    ("POST", "/media-stream", 405),
    ("POST", "/health", 405),
]


@pytest.mark.parametrize(("method", "path", "status"), WRONG_ADDRESSES)
def test_what_twilio_asks_for_in_vain_leaves_a_line(
    site: Site, caplog: pytest.LogCaptureFixture, method: str, path: str, status: int
) -> None:
    headers = {"X-Twilio-Signature": sign(PUBLIC_URL + path, {})}
    answer = site.client.open(path, method=method, headers=headers)
    assert answer.status_code == status
    asked = f"refused {method} {path} at localhost"
    assert caplog.messages == [f"{asked}: Twilio must ask POST {PUBLIC_URL}/voice"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [*WRONG_ADDRESSES, ("GET", "/favicon.ico", 404)]
)
def test_what_others_ask_for_in_vain_is_not_told_as_twilio_s_mistake(
    site: Site, caplog: pytest.LogCaptureFixture, method: str, path: str, status: int
) -> None:
    answer = site.client.open(path, method=method)
    assert answer.status_code == status
    assert answer.text == app.FOR_TWILIO, "a browser is told, too"
    what = {404: "Not Found", 405: "Method Not Allowed"}[status]
    assert caplog.messages == [f"refused {method} {path} at localhost: {what}"]


def test_what_is_too_large_is_refused(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    assert site.post(form={**FORM, "Large": "x" * 100_000}).status_code == 413
    (line,) = caplog.messages
    assert line.startswith("refused POST /voice at localhost: The data value")


def test_a_stream_whose_handshake_was_lost_on_the_way_is_refused(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    assert site.client.get("/media-stream").status_code == 400
    (line,) = caplog.messages
    assert line.endswith("a stream needs a WebSocket handshake: a proxy must pass Upgrade on")


UNSIGNED = "Twilio has not signed it for https://voice.example.com/voice"
TOKEN_IS_WRONG = (
    ", nor for the host that was asked: TWILIO_AUTH_TOKEN must be the primary token of the account"
    " that owns the number"
)
FAULTS = {
    "": ": it has no X-Twilio-Signature, which a proxy may have dropped",
    "http://voice.example.com/voice": (
        ", but for http://voice.example.com: in its Console the address must be https://"
    ),
    "https://new.tunnel.example/voice": (
        ", but for https://new.tunnel.example: set WEBHOOK_URL=https://new.tunnel.example"
    ),
    "http://new.tunnel.example/voice": (
        ", but for http://new.tunnel.example: set WEBHOOK_URL=https://new.tunnel.example"
    ),
    "https://elsewhere.example/voice": TOKEN_IS_WRONG,
}


@pytest.mark.parametrize("asked_by", ["Host", "X-Forwarded-Host"])
@pytest.mark.parametrize("signed_for", FAULTS)
def test_the_line_tells_apart_what_is_wrong_with_a_signature(
    site: Site, caplog: pytest.LogCaptureFixture, signed_for: str, asked_by: str
) -> None:
    signature = sign(signed_for, FORM) if signed_for else None
    answer = site.post(signature=signature, headers={asked_by: "new.tunnel.example"})
    assert answer.status_code == 403
    host = "new.tunnel.example" if asked_by == "Host" else "localhost"
    assert caplog.messages == [f"refused POST /voice at {host}: {UNSIGNED}{FAULTS[signed_for]}"]


def test_a_stream_that_was_signed_for_another_host_names_it(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    there = sign("wss://new.tunnel.example/media-stream", {})
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "X-Twilio-Signature": there}
    answer = site.client.get("/media-stream", headers={"Host": "new.tunnel.example", **upgrade})
    assert answer.status_code == 403
    (line,) = caplog.messages
    assert line.endswith(
        "but for wss://new.tunnel.example: set WEBHOOK_URL=https://new.tunnel.example"
    )


@pytest.mark.parametrize("path", ["/voice", "/media-stream"])
def test_the_host_that_is_to_be_copied_stays_readable(
    site: Site, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    host = "phone-123456789012.us-central1.run.app"
    scheme, form = ("https", FORM) if path == "/voice" else ("wss", {})
    headers = {"Host": host, "X-Twilio-Signature": sign(f"{scheme}://{host}{path}", form)}
    if path == "/voice":
        site.client.post(path, data=form, headers=headers)
    else:
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
        site.client.get(path, headers={**headers, **upgrade})
    (line,) = map(mask_numbers, caplog.messages)
    assert f" {path} at {host}: " in line
    assert line.endswith(f", but for {scheme}://{host}: set WEBHOOK_URL=https://{host}")


def test_a_request_line_that_is_no_url_is_refused(site: Site) -> None:
    odd = {"RAW_URI": "["}  # as gunicorn passes it on
    signed = {"X-Twilio-Signature": "wrong"}
    answer = site.client.post("/voice", headers=signed, environ_overrides=odd)
    assert answer.status_code == 403


def test_another_account_s_token_is_told(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    theirs = RequestValidator("0" * 32).compute_signature(f"{PUBLIC_URL}/voice", FORM)
    assert site.post(signature=theirs).status_code == 403
    assert caplog.messages == [f"refused POST /voice at localhost: {UNSIGNED}{TOKEN_IS_WRONG}"]


def test_health_tells_one_app_from_another_and_nothing_about_it(site: Site) -> None:
    here, again, elsewhere = (
        site.client.get("/health", base_url=f"http://127.0.0.1:{port}").headers[app.SERVED_AT]
        for port in (5000, 5000, 5001)
    )
    assert here == again != elsewhere
    assert re.fullmatch("[0-9a-f]{16}", here)


TOKEN = "s3cret-of-the-scraper"


@pytest.mark.parametrize("path", ["/metrics", "/metrics/"])
def test_metrics_are_nowhere_by_default(site: Site, path: str) -> None:
    assert site.client.get(path, headers={"Authorization": "Bearer "}).status_code in (403, 404)


def test_metrics_say_why_they_are_nowhere(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.client.get("/metrics")
    assert caplog.messages == ["refused GET /metrics at localhost: METRICS_TOKEN is not set"]


@pytest.mark.parametrize("header", [None, "", TOKEN, "Bearer ", "Bearer wrong", f"Basic {TOKEN}"])
def test_metrics_are_told_only_to_who_knows_the_token(
    site: Site, monkeypatch: pytest.MonkeyPatch, header: str | None
) -> None:
    monkeypatch.setenv("METRICS_TOKEN", TOKEN)
    clear_caches()
    headers = {} if header is None else {"Authorization": header}
    answer = site.client.get("/metrics", headers=headers)
    assert answer.status_code == 401
    assert "voice_agent" not in answer.text


def test_metrics_are_what_prometheus_reads(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_TOKEN", TOKEN)
    clear_caches()
    answer = site.client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=")
    assert "\nvoice_agent_calls " in answer.text


def test_health_is_unsigned_and_tells_of_draining(site: Site) -> None:
    answer = site.client.get("/health")
    assert (answer.status_code, answer.json) == (200, {"status": "healthy"})
    DRAINING.set()
    answer = site.client.get("/health")
    assert (answer.status_code, answer.json) == (503, {"status": "draining"})


def test_what_is_behind_the_line_has_a_health_of_its_own(site: Site) -> None:
    answer = site.client.get("/health/upstream")
    assert (answer.status_code, answer.json) == (200, {"status": "healthy"})
    VOICE.fail("failed insufficient_quota")
    answer = site.client.get("/health/upstream")
    assert answer.status_code == 503
    assert answer.json == {"status": "failing", "voice": "the quota is used up"}
    assert site.client.get("/health").status_code == 200, "it can still apologise"


def test_a_conversation_that_cannot_be_started_is_told_of(site: Site) -> None:
    site.openai.brain.fail_create = [401]
    site.post()
    answer = site.client.get("/health/upstream")
    assert answer.json == {"status": "failing", "workflow": "the API key is refused"}


# --- a browser --------------------------------------------------------------------------------


def test_a_browser_is_told_what_this_is_and_whether_it_is_well(site: Site) -> None:
    page = site.client.get("/")
    assert page.status_code == 200
    assert page.content_type.startswith("text/html")
    assert "It is taking calls." in page.text
    assert f"{PUBLIC_URL}/voice" in page.text
    assert "failed" not in page.text
    VOICE.fail("failed insufficient_quota")
    DRAINING.set()
    page = site.client.get("/")
    assert "It takes no new calls at the moment." in page.text
    assert (
        "In the latest call, the voice (OpenAI Realtime) failed: the quota is used up." in page.text
    )


def test_a_browser_is_told_no_secret(site: Site) -> None:
    page = site.client.get("/")
    for name in ("twilio_account_sid", "twilio_auth_token", "twilio_phone_number"):
        assert REQUIRED[name] not in page.text
    assert REQUIRED["openai_api_key"] not in page.text


@pytest.mark.parametrize("field", ["From", "To"])
@pytest.mark.parametrize("sign", ["\x00", "\x1b", "\ufffe", "\u2028", "\n"])
def test_whoever_calls_the_twiml_is_xml(site: Site, field: str, sign: str) -> None:
    called = parameters(site.post(form={**FORM, field: f"sip:a{sign}b@example.com"}))
    assert called["caller" if field == "From" else "called"] == "sip:ab@example.com"
    resumed = site.post("/voice?conversation=conv%00_1&attempt=1")
    assert parameters(resumed)["conversation"] == "conv_1"


def test_no_parameter_is_longer_than_twilio_carries(site: Site) -> None:
    caller = "sip:" + "a" * 2000 + "@example.com"
    assert max(map(len, parameters(site.post(form={**FORM, "From": caller})).values())) < 450


def test_requests_that_meet_a_process_started_wrongly_at_once_leave_one_line(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    app.READY.clear()
    together = Barrier(8)
    served_by = {"SERVER_SOFTWARE": "another/1.0"}

    def ask(_: int) -> int:
        together.wait()
        return app.app.test_client().get("/health", environ_overrides=served_by).status_code

    with ThreadPoolExecutor(8) as callers:
        assert set(callers.map(ask, range(8))) == {200}
    told = [record.getMessage() for record in caplog.records]
    assert len([line for line in told if line.startswith("started wrongly")]) == 1
