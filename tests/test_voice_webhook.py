"""POST /voice, the handshake of /media-stream and GET /health, asked as Twilio and others ask."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
import requests
import websocket

from tests.conftest import both_kinds
from tools.harness import CALLED, CALLER, PUBLIC_URL, Service, hear_out

SID = "CA" + "7" * 32
FORM = {"CallSid": SID, "From": CALLER, "To": CALLED, "CallStatus": "ringing", "Digits": ""}
UNAVAILABLE = "I'm sorry, we can't take your call right now. Please try again later."


def post(
    service: Service,
    path: str = "/voice",
    form: Mapping[str, str] | None = None,
    signature: str | None = "right",
    headers: Mapping[str, str] | None = None,
) -> requests.Response:
    """Ask as Twilio does. `signature`: "right", None for no header, or whatever is to be sent."""
    fields, headers = dict(FORM if form is None else form), dict(headers or {})
    if signature == "right":
        signature = service.network.signature(PUBLIC_URL + path, fields)
    if signature is not None:
        headers["X-Twilio-Signature"] = signature
    return requests.post(service.url + path, fields, headers=headers, timeout=20)


def element(xml: str, name: str) -> ElementTree.Element:
    found = ElementTree.fromstring(xml).find(f".//{name}")
    assert found is not None, xml
    return found


def parameters(xml: str) -> dict[str, str]:
    nodes = ElementTree.fromstring(xml).iter("Parameter")
    return {node.attrib["name"]: node.attrib["value"] for node in nodes}


@both_kinds
def test_a_call_is_connected_to_its_stream_with_a_safety_net(
    service: Service, workflow: str
) -> None:
    answer = post(service)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/xml")
    root = ElementTree.fromstring(answer.text)
    assert [(node.tag, node.attrib) for node in root.iter()] == [
        ("Response", {}),
        ("Connect", {}),
        ("Stream", {"url": "wss://voice.example.com/media-stream"}),
        *(("Parameter", {"name": n, "value": v}) for n, v in parameters(answer.text).items()),
        ("Redirect", {}),
    ]
    kind = service.openai.threads if workflow.startswith("asst_") else service.openai.conversations
    conversation = parameters(answer.text)["conversation"]
    assert conversation in kind
    assert parameters(answer.text) == {
        "conversation": conversation,
        "caller": CALLER,
        "called": CALLED,
        "attempt": "0",
    }
    again = urlsplit(element(answer.text, "Redirect").text or "")
    assert again.path == "/voice"
    assert parse_qs(again.query) == {"conversation": [conversation], "attempt": ["1"]}


@both_kinds
def test_the_workflow_is_told_who_calls_whom(service: Service, workflow: str) -> None:
    conversation = parameters(post(service, form={**FORM, "CallSid": "CA" + "6" * 32}).text)[
        "conversation"
    ]
    if workflow.startswith("asst_"):
        thread = service.openai.threads[conversation]
        texts, metadata = thread.texts, thread.metadata
    else:
        stored = service.openai.conversations[conversation]
        texts, metadata = stored.texts, stored.metadata
    assert CALLER in texts[0][1]
    assert CALLED in texts[0][1]
    assert set(metadata.values()) >= {CALLER, CALLED}


def test_attempts_are_counted_and_bounded(service: Service) -> None:
    path, seen = "/voice", []
    for _ in range(10):
        xml = post(service, path).text
        if "<Redirect" not in xml:
            break
        seen.append(parameters(xml))
        path = element(xml, "Redirect").text or ""
    assert [each["attempt"] for each in seen] == [str(n) for n in range(len(seen))]
    assert len({each["conversation"] for each in seen}) == 1
    assert 2 <= len(seen) <= 5
    root = ElementTree.fromstring(xml)
    assert [node.tag for node in root] == ["Say", "Hangup"]
    assert root[0].text == UNAVAILABLE


def test_asking_twice_for_a_call_starts_one_conversation(service: Service) -> None:
    form = {**FORM, "CallSid": "CA" + "5" * 32}
    assert post(service, form=form).text == post(service, form=form).text
    other = post(service, form={**FORM, "CallSid": "CA" + "4" * 32}).text
    assert (
        parameters(other)["conversation"]
        != parameters(post(service, form=form).text)["conversation"]
    )


@both_kinds
def test_the_call_is_answered_though_the_workflow_cannot_be_reached(service: Service) -> None:
    service.brain.fail_create = [500]
    call = service.call()
    assert call.stream.parameters["conversation"] == ""
    call.say("Hello")
    hear_out(call, "You said: Hello.")
    call.say("Again")
    hear_out(call, "You said: Again.")
    assert len({where for where, _ in service.brain.messages}) == 1
    service.wait_for_log(rf"^\[{call.sid}\] no conversation")


def test_a_workflow_that_hangs_does_not_cost_the_call(service: Service) -> None:
    service.brain.create_delay = 30
    call = service.call(patience=15)
    service.brain.create_delay = 0
    (webhook,) = service.network.webhooks
    assert webhook.status == 200
    assert webhook.seconds < 12
    call.say("Hello")
    hear_out(call, "You said: Hello.")


@pytest.mark.parametrize("signature", [None, "", "wrong", "é".encode().decode("latin-1")])
@pytest.mark.parametrize("path", ["/voice", "/voice?conversation=conv_1&attempt=1"])
def test_a_webhook_without_the_right_signature_gets_403(
    service: Service, path: str, signature: str | None
) -> None:
    assert post(service, path, signature=signature).status_code == 403
    assert service.openai.requests == []


def test_a_signature_for_other_fields_or_another_url_gets_403(service: Service) -> None:
    signature = service.network.signature(f"{PUBLIC_URL}/voice", FORM)
    assert post(service, form={**FORM, "From": "+1666"}, signature=signature).status_code == 403
    assert post(service, "/voice?attempt=1", signature=signature).status_code == 403
    local = service.network.signature(f"{service.url}/voice", FORM)
    assert post(service, signature=local).status_code == 403
    assert service.openai.requests == []


@pytest.mark.parametrize("signature", [None, "", "wrong", "https"])
def test_a_stream_without_the_right_signature_is_not_upgraded(
    service: Service, signature: str | None
) -> None:
    if signature == "https":
        signature = service.network.signature(f"{PUBLIC_URL}/media-stream", {})
    header = [] if signature is None else [f"x-twilio-signature: {signature}"]
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(
            f"ws://127.0.0.1:{service.port}/media-stream", timeout=10, header=header
        )
    assert refused.value.status_code == 403


def test_a_call_whose_stream_is_refused_ends_with_an_apology(service: Service) -> None:
    call = service.network.call(stream_signature="wrong")
    call.wait_ended(20)
    assert call.said == [UNAVAILABLE]
    assert call.end_reason == "<Hangup>"
    assert service.openai.sessions == []


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Host": "voice.example.com", "X-Forwarded-Proto": "https"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"},
        {"Host": "10.0.0.7:8080", "X-Forwarded-Port": "8080", "X-Forwarded-For": "10.1.1.1"},
        {"Forwarded": "host=evil.example;proto=http", "X-Original-URL": "/other"},
    ],
    ids=str,
)
def test_signatures_hold_behind_proxies_that_rewrite(
    service: Service, headers: dict[str, str]
) -> None:
    assert post(service, headers=headers).status_code == 200
    assert post(service, signature="wrong", headers=headers).status_code == 403
    call = service.network.call(extra_headers=headers)
    hear_out(call, "Hello!")


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
        "x=1?",
        "%00=%FF",
    ],
)
def test_odd_queries_are_answered_with_twiml(service: Service, query: str) -> None:
    answer = post(service, f"/voice?{query}")
    assert answer.status_code == 200
    ElementTree.fromstring(answer.text)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"CallSid": SID},
        {**FORM, "From": "Anonymous", "CallerName": "Zoë & <Söhne>"},
        {**FORM, "From": 'sip:zoë@example.com;x="1"'},
    ],
    ids=str,
)
def test_odd_forms_are_answered_with_twiml(service: Service, form: dict[str, str]) -> None:
    answer = post(service, form=form)
    assert answer.status_code == 200
    ElementTree.fromstring(answer.text)


def test_what_is_not_ours_is_refused(service: Service) -> None:
    assert requests.get(f"{service.url}/voice", timeout=5).status_code in (403, 405)
    assert requests.get(f"{service.url}/", timeout=5).status_code in (403, 404)
    assert requests.post(f"{service.url}/health", timeout=5).status_code == 405
    large = post(service, form={**FORM, "Large": "x" * 100_000})
    assert large.status_code == 413


def test_health_is_unsigned(service: Service) -> None:
    answer = requests.get(f"{service.url}/health", timeout=5)
    assert (answer.status_code, answer.json()) == (200, {"status": "healthy"})
