"""What a call costs, by the usage that OpenAI sends and the prices that are shipped."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from openai.types.realtime.realtime_response_usage import RealtimeResponseUsage
from openai.types.responses.response_usage import ResponseUsage

from cost import EARS, RESPONSE, RUN, VOICE, Cost, Usage
from settings import Settings
from tests.unit.environment import REQUIRED

SHIPPED = Settings.model_validate(REQUIRED)
PRICES = SHIPPED.prices
SPOKEN: dict[str, Any] = {
    "total_tokens": 1_700_000,
    "input_tokens": 600_000,
    "output_tokens": 1_100_000,
    "input_token_details": {
        "text_tokens": 600_000,
        "audio_tokens": 0,
        "cached_tokens": 500_000,
        "cached_tokens_details": {"text_tokens": 500_000, "audio_tokens": 0},
    },
    "output_token_details": {"text_tokens": 100_000, "audio_tokens": 1_000_000},
}
THOUGHT: dict[str, Any] = {
    "input_tokens": 4_000_000,
    "input_tokens_details": {"cached_tokens": 1_000_000, "cache_write_tokens": 1_000_000},
    "output_tokens": 1_000_000,
    "output_tokens_details": {"reasoning_tokens": 500_000},
    "total_tokens": 5_000_000,
}


def usd(*usages: Usage) -> float | None:
    cost = Cost(PRICES.models)
    for usage in usages:
        cost.add(usage)
    return cost.usd


def test_the_usages_here_are_as_openai_sends_them() -> None:
    spoken = RealtimeResponseUsage.model_validate(SPOKEN)
    assert not spoken.model_extra
    thought = ResponseUsage.model_validate(THOUGHT)
    assert not thought.model_extra


def test_the_voice_costs_by_text_and_sound_in_and_out_and_less_for_what_is_cached() -> None:
    spent = usd(Usage("gpt-realtime-2.1-mini", VOICE, SPOKEN))
    assert spent == pytest.approx(0.1 * 0.6 + 0.5 * 0.06 + 0.1 * 2.4 + 1 * 20)


def test_the_workflow_costs_by_what_is_read_from_and_written_to_the_cache() -> None:
    spent = usd(Usage("gpt-6-luna", RESPONSE, THOUGHT))
    assert spent == pytest.approx(2 * 0.1 + 1 * 0.01 + 1 * 0.125 + 1 * 0.5)


def test_a_transcript_costs_by_its_length() -> None:
    heard = {"type": "duration", "seconds": 90.0}
    assert usd(Usage("gpt-transcribe", EARS, heard)) == pytest.approx(1.5 * 0.0045)


def test_a_run_costs_by_its_models_prices() -> None:
    run = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000, "total_tokens": 2_000_000}
    assert usd(Usage("gpt-6-luna", RUN, run)) == pytest.approx(0.6)


def test_a_snapshot_costs_as_its_model() -> None:
    assert usd(Usage("gpt-6-luna-2026-09-22", RESPONSE, THOUGHT)) == pytest.approx(0.835)


def test_a_snapshot_that_has_a_price_of_its_own_costs_that() -> None:
    own = {name: 2 * price for name, price in PRICES.models["gpt-6-luna"].items()}
    cost = Cost({**PRICES.models, "gpt-6-luna-2026-09-22": own})
    cost.add(Usage("gpt-6-luna-2026-09-22", RESPONSE, THOUGHT))
    assert cost.usd == pytest.approx(2 * 0.835)


def test_all_of_a_call_is_added_up() -> None:
    heard = Usage("gpt-transcribe", EARS, {"type": "duration", "seconds": 600})
    assert usd(heard, heard) == pytest.approx(0.09)


@pytest.mark.parametrize(
    "usage",
    [
        Usage("gpt-9-nova", RESPONSE, THOUGHT),
        Usage("", RESPONSE, THOUGHT),
        # This one is priced by its length
        Usage("gpt-transcribe", EARS, {"type": "tokens", "output_tokens": 20}),
    ],
    ids=["an unknown model", "no model", "an unknown price"],
)
def test_a_price_that_is_not_known_is_not_guessed(usage: Usage) -> None:
    known = Usage("gpt-6-luna", RESPONSE, THOUGHT)
    assert usd(known, usage) is None


@pytest.mark.parametrize("numbers", [None, {}, [], "many", {"input_tokens": "many"}, {"a": {}}])
def test_a_usage_that_tells_nothing_costs_nothing(numbers: Any) -> None:
    for counts in (VOICE, EARS, RESPONSE, RUN):
        assert usd(Usage("gpt-6-luna", counts, numbers)) is None


@pytest.mark.parametrize(
    ("seconds", "told"), [(60_000, "4.50 USD"), (600, "0.04 USD"), (6, "less than 0.01 USD")]
)
def test_the_price_is_told_in_cents(seconds: int, told: str) -> None:
    cost = Cost(PRICES.models)
    cost.add(Usage("gpt-transcribe", EARS, {"type": "duration", "seconds": seconds}))
    assert str(cost) == told


def test_what_costs_nothing_that_is_known_is_not_told() -> None:
    assert str(Cost(PRICES.models)) == ""


def test_the_shipped_models_have_prices_of_a_past_day() -> None:
    assert PRICES.as_of <= date.today()
    ears = SHIPPED.realtime_session["audio"]["input"]["transcription"]["model"]
    assert isinstance(SHIPPED.workflow, dict)
    assert {SHIPPED.realtime_model, ears, SHIPPED.workflow["model"]} <= set(PRICES.models)
