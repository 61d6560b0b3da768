"""How OpenAI Realtime and the workflow served the latest calls, of all of gunicorn's processes."""

import re
from collections.abc import Callable, MutableSequence
from time import monotonic
from typing import NamedTuple

from places import VOICE_FAILURE, WORKFLOW_FAILURE

FORGET_SECONDS = 900.0  # without another call, a failure is no news any more


class Cause(NamedTuple):
    """Why a service may fail.

    A reason, as OpenAI gives it, stays in the log: it may quote a key or a caller.
    """

    sign: str  # a pattern: what the reason holds
    words: str  # what everybody may be told
    remedy: str = ""  # what the owner can do, if it is the voice that fails


CAUSES = (
    Cause(
        r"(HTTP|Error code:) 401|invalid_api_key",
        "the API key is refused",
        "check OPENAI_API_KEY",
    ),
    Cause(
        r"insufficient_quota|billing_(hard_limit_reached|not_active)",
        "the quota is used up",
        "check the billing of OPENAI_API_KEY's account",
    ),
    Cause(
        r"(HTTP|Error code:) 404|model_not_found",
        "the model or the agent does not exist",
        "check REALTIME_MODEL",
    ),
    Cause(
        r"(HTTP|Error code:) 403|(account|organization)_deactivated",
        "access is refused",
        "check what OPENAI_API_KEY may be used for",
    ),
    Cause(
        r"\(\w+ session\b|beta_api_shape",
        "the voice session is refused",
        "check REALTIME_SESSION",
    ),
)
OTHER = Cause("", "it fails, or can't be reached")
TROUBLES = ("", *(cause.words for cause in (*CAUSES, OTHER)))


def cause_of(reason: str) -> Cause:
    """Find why a service failed."""
    for cause in CAUSES:
        if re.search(cause.sign, reason):
            return cause
    return OTHER


def with_remedy(reason: str) -> str:
    """Put before the reason why the voice failed what its owner can do, if that is known."""
    remedy = cause_of(reason).remedy
    return f"{remedy}: {reason}" if remedy else reason


class Upstream:
    """A service behind the line, as the latest call found it. Its methods are for any thread."""

    def __init__(
        self, failure: MutableSequence[float], clock: Callable[[], float] = monotonic
    ) -> None:
        """Expect the best; `clock` tells seconds.

        `failure` is memory that processes share: which of TROUBLES the service has, and since when.
        """
        self._failure = failure
        self._clock = clock

    def fail(self, reason: str) -> None:
        """Note that a call failed because of the service."""
        self._failure[:] = [TROUBLES.index(cause_of(reason).words), self._clock()]

    def succeed(self) -> None:
        """Note that the service did what a call needs."""
        self._failure[0] = 0

    @property
    def trouble(self) -> str:
        """Why the latest call failed; "" if it didn't, or if that is long ago."""
        number, since = self._failure
        if self._clock() > since + FORGET_SECONDS:
            return ""
        return TROUBLES[int(number)]


VOICE = Upstream(VOICE_FAILURE)
WORKFLOW = Upstream(WORKFLOW_FAILURE)


def troubles() -> dict[str, str]:
    """Return what is wrong with which service; empty if nothing is known to be."""
    known = {"voice": VOICE.trouble, "workflow": WORKFLOW.trouble}
    return {service: trouble for service, trouble in known.items() if trouble}
