"""What all checks share: how they end, and what one finds out for the next."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import Any

from settings import Settings, settings
from settings_reading import SettingsError

SECONDS = 10.0
CALL_SID = "CA" + "0" * 32  # of no call


class Fault(Exception):
    """A check has failed; the text says what to do."""


class NotApplicable(Exception):
    """There is nothing to check; the text says why."""


class Examination(ExitStack):
    """What is examined, and for how many `seconds` an answer is waited for at most.

    A context manager: what a check has opened for those after it is closed at the end.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        """Begin, and know nothing yet."""
        super().__init__()
        self.seconds = seconds
        self.number: Any = None  # Twilio's resource of TWILIO_PHONE_NUMBER
        self.served_at = ""  # what the app's `/health` says of where it runs

    @property
    def settings(self) -> Settings:
        """The settings. Raises SettingsError."""
        return settings()

    def without_secrets(self, words: str) -> str:
        """Return a text in which nobody can read a key, though somebody may have quoted it."""
        for secret in self._secrets():
            words = words.replace(secret, "[secret]")
        return words

    def _secrets(self) -> list[str]:
        try:
            chosen = self.settings
        except SettingsError:  # its report holds none
            return []
        secrets = (chosen.twilio_auth_token, chosen.openai_api_key, chosen.agent_api_key)
        return [secret for secret in secrets if secret]


def too_late(seconds: float) -> str:
    """Return what is said of an answer that doesn't come."""
    return f"no answer within {seconds:g} s"


def reason(error: BaseException) -> str:
    """Return the heart of a network error, whose text may wrap several others."""
    words = " ".join(str(error).split())
    inner = re.findall(r"\] ([^\[\]()'\"<>]+)", words)  # "[Errno 111] Connection refused"
    return inner[-1].strip() if inner else words or type(error).__name__
