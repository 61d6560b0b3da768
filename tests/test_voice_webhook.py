"""What of the webhook needs the running app: handshakes, servers, and calls of their own.

Everything that can be asked in-process is in `tests/unit/test_webhook.py`.
"""

from __future__ import annotations

import pytest
import requests
import websocket

from tests.conftest import both_kinds, undisturbed
from tests.unit.environment import REWRITTEN
from tools.harness import PUBLIC_URL, Service, hear_out, settle
from tools.simulator.waiting import PATIENCE
from tools.webhook import UNAVAILABLE, post


@undisturbed
@both_kinds
def test_the_call_is_answered_though_the_workflow_cannot_be_reached(service: Service) -> None:
    service.brain.fail_create = [500] * 10
    call = service.call()
    service.brain.fail_create = []
    assert call.stream.parameters["conversation"] == ""
    assert service.upstream() == {
        "status": "failing",
        "workflow": "it fails, or can't be reached",
    }
    call.say("Hello")
    hear_out(call, "You said: Hello.")
    assert service.upstream() == {"status": "healthy"}
    call.say("Again")
    hear_out(call, "You said: Again.")
    assert len({where for where, _ in service.brain.messages}) == 1
    service.wait_for_log(rf"\[{call.sid}[^]]*\] no conversation")


@pytest.mark.thorough("it takes six seconds")
def test_a_workflow_that_hangs_does_not_cost_the_call(service: Service) -> None:
    service.brain.create_delay = 30
    call = service.call(patience=15)
    service.brain.create_delay = 0
    (webhook,) = service.network.webhooks
    assert webhook.status == 200
    assert webhook.seconds < 15, "Twilio would have given up"
    call.say("Hello")
    hear_out(call, "You said: Hello.")


@pytest.mark.parametrize("signature", [None, "", "wrong", "https"])
def test_a_stream_without_the_right_signature_is_not_upgraded(
    service: Service, signature: str | None
) -> None:
    if signature == "https":
        signature = service.network.signature(f"{PUBLIC_URL}/media-stream", {})
    header = [] if signature is None else [f"x-twilio-signature: {signature}"]
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(
            f"ws://127.0.0.1:{service.port}/media-stream", timeout=PATIENCE, header=header
        )
    assert refused.value.status_code == 403


def test_a_call_whose_stream_is_refused_ends_with_an_apology(service: Service) -> None:
    call = service.network.call(stream_signature="wrong")
    call.wait_ended()
    *holds, last = call.said
    assert holds == ["One moment, please."], "or the caller would wait in silence"
    assert last == UNAVAILABLE
    assert call.end_reason == "<Hangup>"
    assert service.openai.sessions == []


@pytest.mark.parametrize("headers", REWRITTEN, ids=str)
def test_a_call_gets_through_a_proxy_that_rewrites(
    service: Service, headers: dict[str, str]
) -> None:
    call = service.network.call(extra_headers=headers)
    hear_out(call, "Hello!")


def test_a_call_that_comes_back_by_the_number_s_fallback_goes_on(service: Service) -> None:
    service.network.number_resource["voice_fallback_url"] = f"{PUBLIC_URL}/voice"
    call = service.call()
    settle(call)
    call.setup.webhook_failures.append(503)  # no process answers the <Redirect>
    call.stream.reset()
    call.wait_for_stream(number=2)
    hear_out(call, "Please go on.")
    first, second = (stream.parameters["conversation"] for stream in call.streams)
    assert first == second
    assert call.heard().count("Hello!") == 1


def test_what_is_not_ours_is_refused_by_the_servers_too(service: Service) -> None:
    assert requests.get(f"{service.url}/voice", timeout=PATIENCE).status_code == 405
    assert requests.post(f"{service.url}/health", timeout=PATIENCE).status_code == 405
    assert requests.get(f"{service.url}/admin", timeout=PATIENCE).status_code == 404
    assert post(service, form={"Body": "x" * 100_000}).status_code == 413
    assert "phone line" in requests.get(f"{service.url}/", timeout=PATIENCE).text
    answer = requests.get(f"{service.url}/health", timeout=PATIENCE)
    assert (answer.status_code, answer.json()) == (200, {"status": "healthy"})
