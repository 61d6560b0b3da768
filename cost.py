"""What a call costs: the usage that OpenAI tells of, times the prices that PRICES names.

Not in it: Twilio, hosted tools, and what is told only after the call has ended.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from messages import find

MILLION = 1e6
UNITS = {"minutes": 60.0}  # what a price is for: so many seconds; else a million tokens
SNAPSHOT = re.compile(r"-\d{4}-\d\d-\d\d$")  # of a model


class Count(NamedTuple):
    """A number in a usage, and which price it has."""

    price: str
    path: str
    parts: tuple[str, ...] = ()  # numbers in it that have prices of their own


# A usage as each of OpenAI's APIs tells it
CACHED = "input_token_details.cached_tokens_details"
VOICE = (  # `response.done` of Realtime
    Count("text in", "input_token_details.text_tokens", (f"{CACHED}.text_tokens",)),
    Count("text cached", f"{CACHED}.text_tokens"),
    Count("audio in", "input_token_details.audio_tokens", (f"{CACHED}.audio_tokens",)),
    Count("audio cached", f"{CACHED}.audio_tokens"),
    Count("text out", "output_token_details.text_tokens"),
    Count("audio out", "output_token_details.audio_tokens"),
)
EARS = (  # a transcript: priced by tokens, or by the length of the sound
    Count("text in", "input_token_details.text_tokens"),
    Count("audio in", "input_token_details.audio_tokens"),
    Count("text out", "output_tokens"),
    Count("minutes", "seconds"),
)
OF_INPUT = ("input_tokens_details.cached_tokens", "input_tokens_details.cache_write_tokens")
RESPONSE = (
    Count("text in", "input_tokens", OF_INPUT),
    Count("text cached", OF_INPUT[0]),
    Count("text written", OF_INPUT[1]),
    Count("text out", "output_tokens"),
)
RUN = (  # of an assistant
    Count("text in", "prompt_tokens", ("prompt_token_details.cached_tokens",)),
    Count("text cached", "prompt_token_details.cached_tokens"),
    Count("text out", "completion_tokens"),
)


class Usage(NamedTuple):
    """What one answer of a model used."""

    model: str
    counts: tuple[Count, ...]
    numbers: Any  # JSON, as OpenAI sent it


class Cost:
    """Adds up what a call has used."""

    def __init__(self, prices: Mapping[str, Mapping[Any, float]]) -> None:
        """Start empty; `prices` are by model, then by what is counted."""
        self._prices = prices
        # Tokens, or seconds of sound, by model and price
        self.used: defaultdict[tuple[str, str], float] = defaultdict(float)

    def add(self, usage: Usage) -> None:
        """Add what an answer used."""
        for count in usage.counts:
            amount = number(usage.numbers, count.path)
            amount -= sum(number(usage.numbers, part) for part in count.parts)
            if amount > 0:
                self.used[usage.model, count.price] += amount

    @property
    def usd(self) -> float | None:
        """The price in US dollars; None if nothing was used, or a price is unknown."""
        if not self.used:
            return None
        total = 0.0
        for (model, name), amount in self.used.items():
            price = self._prices_of(model).get(name)
            if price is None:
                return None
            total += amount * price / UNITS.get(name, MILLION)
        return total

    def _prices_of(self, model: str) -> Mapping[Any, float]:
        """Return a snapshot's own prices, or else its model's."""
        family = SNAPSHOT.sub("", model)
        return self._prices.get(model) or self._prices.get(family, {})

    def __str__(self) -> str:
        """Tell the price; "" if it isn't known."""
        usd = self.usd
        if usd is None:
            return ""
        return f"{usd:.2f} USD" if usd >= 0.005 else "less than 0.01 USD"


def number(usage: Any, path: str) -> float:
    """Return the number at a dotted path; 0 if there is none."""
    value = find(usage, path)
    return value if isinstance(value, int | float) else 0
