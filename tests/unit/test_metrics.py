"""Numbers for Prometheus: counted as calls go on, and told to nobody but who knows the token."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

import metrics
from call import Call
from cost import Cost
from speech import Kind
from story import Story

CALL = Call("CA" + "7" * 32, "MZ1", "+15552223333", "+15550001111", "conv_1", 0, "greeting")


def numbers() -> dict[str, float]:
    """Return what is reported, by name and labels."""
    families = text_string_to_metric_families(metrics.report().decode())
    return {
        " ".join([sample.name, *sorted(sample.labels.values())]): sample.value
        for family in families
        for sample in family.samples
    }


class Change:
    """What has changed since it was made: other tests count as well."""

    def __init__(self) -> None:
        self._before = numbers()

    def of(self, name: str) -> float:
        return numbers().get(f"voice_agent_{name}", 0) - self._before.get(f"voice_agent_{name}", 0)


def test_a_call_is_counted_while_it_lasts_and_by_how_it_ended() -> None:
    change = Change()
    now = 0.0
    story = Story(CALL, Cost({}), transcripts=False, clock=lambda: now)
    story.begins()
    assert change.of("calls") == 1
    now = 0.4
    story.sounds(Kind.LINE)
    story.caller_stopped(0)
    now = 1.0
    story.caller_said("When?")
    story.asks(1)
    now = 3.5
    story.reply_piece(1, "At nine.")
    now = 3.7
    story.sounds(Kind.REPLY)
    story.heard_out()
    story.stops()
    story.ended()
    assert change.of("calls") == 0
    assert change.of("calls_ended_total the caller hung up") == 1
    assert change.of("turns_total") == 1
    stages = {"greeting": 0.4, "transcript": 0.6, "workflow": 2.5, "voice": 0.2}
    sums = {stage: change.of(f"stage_seconds_sum {stage}") for stage in stages}
    assert {stage: round(took, 3) for stage, took in sums.items()} == stages
    assert change.of("stage_seconds_bucket 2.0 workflow") == 0
    assert change.of("stage_seconds_bucket 3.0 workflow") == 1


def test_failures_are_counted_by_whose_they_are() -> None:
    change = Change()
    story = Story(CALL, Cost({}), transcripts=False)
    story.realtime_lost("1006")
    story.no_reply("HTTP 500")
    story.no_reply("HTTP 500")
    assert change.of("failures_total realtime") == 1
    assert change.of("failures_total workflow") == 2
