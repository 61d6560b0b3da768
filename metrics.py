"""Numbers for Prometheus: calls, turns, how long each stage takes, what fails.

Under gunicorn, workers share them by files in PROMETHEUS_MULTIPROC_DIR, which `gunicorn.conf.py`
sets, so any worker answers for all. See https://prometheus.github.io/client_python/multiprocess/.
"""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)  # upper bounds of the buckets

OURS = CollectorRegistry()
CALLS = Gauge("voice_agent_calls", "Calls now.", registry=OURS, multiprocess_mode="livesum")
ENDED = Counter("voice_agent_calls_ended", "Calls that ended.", ["reason"], registry=OURS)
TURNS = Counter("voice_agent_turns", "Messages sent to the workflow.", registry=OURS)
STAGES = Histogram(
    "voice_agent_stage_seconds",
    "Seconds from the last word to its transcript, on to the reply's first text, to its first"
    " sound; and from the start of a call to the greeting.",
    ["stage"],
    registry=OURS,
    buckets=SECONDS,
)
FAILURES = Counter(
    "voice_agent_failures", "Realtime sessions lost, and replies not had.", ["of"], registry=OURS
)


def began() -> None:
    """Count a call."""
    CALLS.inc()


def ended(how: str) -> None:
    """Count the end of one."""
    CALLS.dec()
    ENDED.labels(how).inc()


def asked() -> None:
    """Count a turn."""
    TURNS.inc()


def took(stage: str, seconds: float) -> None:
    """Note how long a stage took."""
    STAGES.labels(stage).observe(seconds)


def failed(what: str) -> None:
    """Count a failure of `realtime` or of the `workflow`."""
    FAILURES.labels(what).inc()


def report() -> bytes:
    """Return all of them in Prometheus' text format: this process's, or all workers' together."""
    if SHARED not in os.environ:
        return generate_latest(OURS)
    together = CollectorRegistry()
    MultiProcessCollector(together)
    return generate_latest(together)
