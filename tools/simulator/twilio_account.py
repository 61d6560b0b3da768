"""The REST resources of an account and its phone number, as far as an owner's tools use them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]

SID = "PN" + "0" * 32
# What an update may change here; the real resource has more that calls don't depend on.
FIELDS = {
    "FriendlyName": "friendly_name",
    "VoiceUrl": "voice_url",
    "VoiceMethod": "voice_method",
    "VoiceFallbackUrl": "voice_fallback_url",
    "VoiceFallbackMethod": "voice_fallback_method",
    "VoiceApplicationSid": "voice_application_sid",
    "TrunkSid": "trunk_sid",
}
METHODS = ("GET", "POST")


class Account:
    """An account with one phone number; a test may change everything that is public here."""

    def __init__(self, sid: str, auth_token: str, phone_number: str) -> None:
        self.sid = sid
        self.auth_token = auth_token
        self.secondary_token = ""
        """Another token that REST takes. Requests to the app are never signed with it."""
        self.status = "active"
        self.kind = "Full"
        self.number = number_resource(sid, phone_number)

    @property
    def credentials(self) -> list[str]:
        """The Authorization headers that are let in."""
        tokens = [token for token in (self.auth_token, self.secondary_token) if token]
        pairs = [f"{self.sid}:{token}".encode() for token in tokens]
        return [f"Basic {b64encode(pair).decode()}" for pair in pairs]

    def resource(self) -> Json:
        uri = f"/2010-04-01/Accounts/{self.sid}"
        return {
            "auth_token": self.auth_token,
            "date_created": "Mon, 02 Nov 2026 10:00:00 +0000",
            "date_updated": "Mon, 02 Nov 2026 10:00:00 +0000",
            "friendly_name": "owner@example.com",
            "owner_account_sid": self.sid,
            "sid": self.sid,
            "status": self.status,
            "subresource_uris": {"incoming_phone_numbers": f"{uri}/IncomingPhoneNumbers.json"},
            "type": self.kind,
            "uri": f"{uri}.json",
        }

    def page_of_numbers(self, query: Mapping[str, str]) -> Json:
        """Return the only page of the numbers that a query asks for."""
        uri = f"/2010-04-01/Accounts/{self.sid}/IncomingPhoneNumbers.json"
        wanted = query.get("PhoneNumber", "").strip("*")
        numbers = [self.number] if wanted in self.number["phone_number"] else []
        return {
            "incoming_phone_numbers": numbers,
            "start": 0,
            "end": max(len(numbers) - 1, 0),
            "page": 0,
            "page_size": int(query.get("PageSize", "50")),
            "first_page_uri": f"{uri}?Page=0",
            "next_page_uri": None,
            "previous_page_uri": None,
            "uri": uri,
        }

    def update_number(self, fields: Mapping[str, str]) -> None:
        """Change the number. `update_problem` tells first whether Twilio would."""
        changes = {FIELDS[name]: value for name, value in fields.items()}
        self.number.update(changes)
        # Calls go to a trunk or to an application: setting one removes the other
        if changes.get("trunk_sid"):
            self.number["voice_application_sid"] = ""
        elif changes.get("voice_application_sid"):
            self.number["trunk_sid"] = None

    def update_problem(self, fields: Mapping[str, str]) -> str | None:
        """Return why Twilio would not update the number so, its error code first."""
        unknown = sorted(fields.keys() - FIELDS.keys())
        methods = [value for name, value in fields.items() if name.endswith("Method")]
        urls = [value for name, value in fields.items() if name.endswith("Url") and value]
        has_url = fields.get("VoiceUrl", self.number["voice_url"])
        problems = {
            f"20001: Unknown parameters {unknown}": unknown,
            "21402: VoiceUrl is not valid": not all(map(is_url, urls)),
            "21403: VoiceMethod is not valid": not set(methods) <= set(METHODS),
            "21405: Cannot set VoiceFallbackUrl without setting Url": (
                fields.get("VoiceFallbackUrl") and not has_url
            ),
        }
        return next((problem for problem, present in problems.items() if present), None)


def is_url(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def number_resource(account_sid: str, phone_number: str) -> Json:
    """Return a number as it is when it has just been bought."""
    return {
        "account_sid": account_sid,
        "address_requirements": "none",
        "address_sid": None,
        "api_version": "2010-04-01",
        "beta": False,
        "capabilities": {"voice": True, "sms": True, "mms": False, "fax": False},
        "date_created": "Mon, 02 Nov 2026 10:00:00 +0000",
        "date_updated": "Mon, 02 Nov 2026 10:00:00 +0000",
        "friendly_name": phone_number,
        "origin": "twilio",
        "phone_number": phone_number,
        "sid": SID,
        "status": "in-use",
        "trunk_sid": None,
        "type": "local",
        "uri": f"/2010-04-01/Accounts/{account_sid}/IncomingPhoneNumbers/{SID}.json",
        "voice_application_sid": "",
        "voice_caller_id_lookup": False,
        "voice_fallback_method": "POST",
        "voice_fallback_url": "",
        "voice_method": "POST",
        "voice_receive_mode": "voice",
        "voice_url": "https://demo.twilio.com/welcome/voice/",
    }
