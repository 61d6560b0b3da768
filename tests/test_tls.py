"""Calls over TLS between the app and OpenAI, as all calls are that aren't tests."""

from __future__ import annotations

import pytest

from tools.harness import Service, hear_out, settle

pytestmark = pytest.mark.tls
more_than_enough = pytest.mark.thorough("unit/test_wire.py tries TLS, and other tests the calls")


def test_a_call_is_greeted_heard_and_answered(service: Service) -> None:
    call = service.call()
    call.say("What is behind the S in wss?")
    hear_out(call, "You said: What is behind the S in wss?.")
    call.say("Thank you")
    hear_out(call, "You said: Thank you.")
    assert service.messages == ["What is behind the S in wss?", "Thank you"]


@more_than_enough
def test_sound_both_ways_at_once_is_heard_whole(service: Service) -> None:
    story = " ".join(f"This is part {number} of a long story." for number in range(6))
    service.brain.reply = lambda text, history: story
    calls = [service.network.call(caller=f"+1555222333{n}") for n in range(5)]
    for call in calls:
        hear_out(call, "Hello!")
        call.say("Tell me a story")
    for call in calls:
        hear_out(call, story)
        assert call.heard() == f"Hello! {story}"
    assert service.messages == ["Tell me a story"] * 5


@more_than_enough
@pytest.mark.parametrize("how", ["abort", "close"])
def test_a_session_that_ends_is_followed_by_another(service: Service, how: str) -> None:
    call = service.call()
    if how == "abort":
        service.session.abort()
    else:
        service.session.close(1001, "going away")
    service.openai.wait_for(lambda openai: len(openai.sessions) == 2)
    settle(call)
    call.say("Are you still there?")
    hear_out(call, "You said: Are you still there?.")
