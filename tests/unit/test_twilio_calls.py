"""What is asked of Twilio's REST API, over HTTP, and what comes of its answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl
from xml.etree import ElementTree

import pytest
import requests

import twilio_calls
from app import app
from call import Call
from places import Finished
from settings import Settings
from tests.unit.environment import REQUIRED
from twilio_calls import TwilioCalls

CALL = Call("CA1", "MZ1", "+15552223333", "+15550001111", "conv 1", 1, "greeting", "1000.5")


class Rest(ThreadingHTTPServer):
    """Answers with the given statuses in turn, then with 200, and keeps the forms."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.statuses: list[int] = []
        self.forms: list[dict[str, str]] = []
        self.paths: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: Rest

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.paths.append(self.path)
        self.server.forms.append(dict(parse_qsl(form, strict_parsing=True)))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def rest() -> Iterator[Rest]:
    server = Rest()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def calls(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> TwilioCalls:
    monkeypatch.setattr(twilio_calls, "REST_PAUSES", (0.0, 0.0))
    return make(rest, transfer_number="+15554445555")


def make(rest: Rest, **changes: str) -> TwilioCalls:
    settings = Settings(**REQUIRED, twilio_api_url=rest.url, **changes)  # type: ignore[arg-type]
    return TwilioCalls(settings, app.jinja_env, Finished([0] * 8))


def twiml(rest: Rest) -> ElementTree.Element:
    (form,) = rest.forms
    return ElementTree.fromstring(form["Twiml"])


def test_a_call_is_hung_up(calls: TwilioCalls, rest: Rest) -> None:
    calls.hang_up(CALL)
    assert rest.forms == [{"Status": "completed"}]
    account = REQUIRED["twilio_account_sid"]
    assert rest.paths == [f"/2010-04-01/Accounts/{account}/Calls/CA1.json"]


@pytest.mark.parametrize("statuses", [[500], [503, 500], [429, 429]])
def test_what_stumbles_is_asked_again(
    calls: TwilioCalls, rest: Rest, caplog: pytest.LogCaptureFixture, statuses: list[int]
) -> None:
    rest.statuses = [*statuses]
    calls.hang_up(CALL)
    assert len(rest.forms) == len(statuses) + 1
    told = [line.split(" Server Error")[0].split(" Client Error")[0] for line in caplog.messages]
    again = "[CA1] retrying Twilio in 0.0 s, attempt"
    assert told == [f"{again} {number}: {status}" for number, status in enumerate(statuses, 2)]


@pytest.mark.parametrize("statuses", [[200], [401], [400], [500, 500, 500]])
def test_a_call_that_was_to_be_hung_up_is_known_if_it_comes_back(
    calls: TwilioCalls, rest: Rest, statuses: list[int]
) -> None:
    rest.statuses = [*statuses]
    with pytest.raises(OSError) if statuses != [200] else nullcontext():
        calls.hang_up(CALL)
    assert len(rest.forms) == len(statuses)
    assert calls.is_finished("CA1")
    assert not calls.is_finished("CA2")


@pytest.mark.parametrize("act", ["hang_up", "transfer", "hold", "give_up"])
def test_a_twilio_that_cannot_be_reached_is_given_up_within_ten_seconds(
    rest: Rest, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """Until then the caller hears nothing."""
    waited = 0.0

    def post(*_: object, timeout: tuple[float, float], **__: object) -> None:
        nonlocal waited
        waited += timeout[0]
        raise requests.ConnectTimeout

    def sleep(seconds: float) -> None:
        nonlocal waited
        waited += seconds

    monkeypatch.setattr(requests, "post", post)
    monkeypatch.setattr(twilio_calls, "sleep", sleep)
    calls = make(rest, transfer_number="+15554445555")
    with pytest.raises(OSError):
        getattr(calls, act)(CALL)
    assert 0 < waited < 10


def test_a_call_that_cannot_be_hung_up_is_known_to_other_processes(
    calls: TwilioCalls, rest: Rest
) -> None:
    known = Finished([0] * 8)
    settings = Settings(**REQUIRED, twilio_api_url=rest.url)  # type: ignore[arg-type]
    one, other = (TwilioCalls(settings, app.jinja_env, known) for _ in range(2))
    rest.statuses = [401]
    with pytest.raises(OSError):
        one.hang_up(CALL)
    assert other.is_finished("CA1")
    assert not calls.is_finished("CA1"), "it is of another app"


def test_a_call_that_has_ended_by_itself_is_no_failure(calls: TwilioCalls, rest: Rest) -> None:
    rest.statuses = [404]
    calls.hang_up(CALL)


def test_a_transfer_dials_the_number_and_comes_back_afterwards(
    calls: TwilioCalls, rest: Rest
) -> None:
    calls.transfer(CALL)
    dial = twiml(rest)[0]
    assert (dial.tag, dial.text) == ("Dial", "+15554445555")
    assert dial.attrib["callerId"] == "+15550001111"
    where = (
        REQUIRED["webhook_url"] + "/voice?conversation=conv+1&attempt=1&since=1000.5&after=transfer"
    )
    assert dial.attrib["action"] == where


@pytest.mark.parametrize("called", ["sip:desk@example.com", "client:desk", "", "anonymous", "+1"])
def test_what_is_no_phone_number_is_no_caller_id(
    calls: TwilioCalls, rest: Rest, called: str
) -> None:
    calls.transfer(Call("CA1", "MZ1", "+15552223333", called, "c", 0, ""))
    assert twiml(rest)[0].attrib["callerId"] == REQUIRED["twilio_phone_number"]


def test_without_a_number_there_is_no_transfer(rest: Rest) -> None:
    with pytest.raises(OSError, match="TRANSFER_NUMBER"):
        make(rest).transfer(CALL)
    assert rest.forms == []


def test_on_hold_the_caller_hears_why_and_comes_back(calls: TwilioCalls, rest: Rest) -> None:
    calls.hold(CALL)
    say, redirect = twiml(rest)
    assert (say.tag, say.text) == ("Say", "One moment, please.")
    assert say.attrib == {"language": "en-US"}
    query = "conversation=conv+1&attempt=2&since=1000.5&after=hold&opening=greeting"
    assert (redirect.tag, redirect.text) == ("Redirect", f"{REQUIRED['webhook_url']}/voice?{query}")


def test_giving_up_says_so_and_ends_the_call(calls: TwilioCalls, rest: Rest) -> None:
    calls.give_up(CALL)
    assert [verb.tag for verb in twiml(rest)] == ["Say", "Hangup"]


def test_twilio_s_own_voice_speaks_the_callers_language(rest: Rest) -> None:
    calls = make(rest, say_language="de-DE", filler="Moment bitte.")
    calls.hold(CALL)
    calls.give_up(CALL)
    spoken = [ElementTree.fromstring(form["Twiml"])[0].attrib for form in rest.forms]
    assert spoken == [{"language": "de-DE"}] * 2


def test_what_settings_say_is_escaped(rest: Rest) -> None:
    make(rest, unavailable='We can\'t <now> & "later"').give_up(CALL)
    assert twiml(rest)[0].text == 'We can\'t <now> & "later"'
