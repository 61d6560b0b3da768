"""What is told of the services behind the line, with a clock that the test turns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.forks import in_a_fork
from upstream import (
    CAUSES,
    FORGET_SECONDS,
    OTHER,
    VOICE,
    WORKFLOW,
    Upstream,
    cause_of,
    troubles,
    with_remedy,
)


class ServiceInTime:
    """A service behind the line, and the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.service = Upstream([0.0, 0.0], lambda: self.now)


@pytest.fixture
def behind_the_line() -> Iterator[None]:
    """Leave both services well."""
    yield
    VOICE.succeed()
    WORKFLOW.succeed()


def test_the_owner_is_told_what_to_do_and_openais_own_sentence() -> None:
    assert with_remedy("HTTP 401 Incorrect API key.") == (
        "check OPENAI_API_KEY: HTTP 401 Incorrect API key."
    )
    assert with_remedy("Unknown parameter. (unknown_parameter session.foo)").startswith(
        "check REALTIME_SESSION: "
    )
    assert with_remedy("timed out") == "timed out"
    assert all(cause.remedy for cause in CAUSES)


def test_nothing_is_wrong_before_the_first_call() -> None:
    assert ServiceInTime().service.trouble == ""


def test_a_failed_call_is_told_until_the_next_good_one() -> None:
    service = ServiceInTime().service
    service.fail("HTTP 401 Unauthorized")
    assert service.trouble == "the API key is refused"
    service.fail("Connection refused")
    assert service.trouble == OTHER.words
    service.succeed()
    assert service.trouble == ""


def test_a_failure_is_forgotten_if_nobody_calls() -> None:
    behind = ServiceInTime()
    behind.service.fail("Connection refused")
    behind.now += FORGET_SECONDS - 1
    assert behind.service.trouble
    behind.now += 2
    assert behind.service.trouble == ""


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("HTTP 401 Unauthorized {...}", "the API key is refused"),
        ("Error code: 401 - {'error': {'code': 'invalid_api_key'}}", "the API key is refused"),
        ("failed insufficient_quota", "the quota is used up"),
        ("Error code: 429 - {'error': {'code': 'insufficient_quota'}}", "the quota is used up"),
        ("Not paid. (billing_not_active)", "the quota is used up"),
        ("failed billing_hard_limit_reached", "the quota is used up"),
        ("No such model (model_not_found)", "the model or the agent does not exist"),
        ("Error code: 404 - ", "the model or the agent does not exist"),
        ("HTTP 403 Forbidden", "access is refused"),
        ("It is closed. (account_deactivated)", "access is refused"),
        (
            "Invalid value: 'marine' (invalid_value session.audio.output.voice)",
            "the voice session is refused",
        ),
        ("The old shape is gone. (beta_api_shape_disabled)", "the voice session is refused"),
        ("Error code: 500 - session lost", OTHER.words),
        ("Error code: 500 - request 401 failed, try again in 403 ms", OTHER.words),
        (
            "Error code: 424 - MCP server 'shop' failed. Http status code: 401 (Unauthorized)",
            OTHER.words,
        ),
        ("", OTHER.words),
    ],
)
def test_the_reason_is_told_in_words_of_the_line_s_own(reason: str, told: str) -> None:
    assert cause_of(reason).words == told


def test_neither_a_key_nor_a_caller_s_words_are_told() -> None:
    assert cause_of("HTTP 401 Incorrect API key: sk-a1b2c3").words == "the API key is refused"
    assert cause_of("cannot answer 'my number is +15552223333'") is OTHER


def test_a_service_that_is_well_is_not_told_of(behind_the_line: None) -> None:
    assert troubles() == {}
    WORKFLOW.fail("Error code: 404 - ")
    assert troubles() == {"workflow": "the model or the agent does not exist"}
    WORKFLOW.succeed()
    VOICE.fail("HTTP 403 Forbidden")
    assert troubles() == {"voice": "access is refused"}


def test_a_failure_is_known_in_all_processes_and_so_is_its_end(behind_the_line: None) -> None:
    in_a_fork(lambda: VOICE.fail("HTTP 403 Forbidden"))
    assert troubles() == {"voice": "access is refused"}
    in_a_fork(VOICE.succeed)
    assert troubles() == {}
