"""Twilio's signature: whether a request has it, and if not, what the owner must change.

See https://www.twilio.com/docs/usage/security#validating-requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from twilio.request_validator import RequestValidator

PLAIN = {"https": "http", "wss": "ws", "http": "http", "ws": "ws"}


@dataclass(frozen=True)
class Signed:
    """A request, and the signature that it came with."""

    site: str  # for which it must be signed: our public scheme and host
    path: str  # with its query, as it was sent
    form: Mapping[str, str]
    signature: str
    hosts: tuple[str, ...]  # that were asked, as the request or a proxy tells

    def is_right(self, token: str) -> bool:
        """Tell whether Twilio has signed the request for our public address."""
        return self._is_for(self.site, token)

    def fault(self, token: str) -> str:
        """Say what is wrong with the signature, and what must change."""
        what = f"Twilio has not signed it for {self.site}{self.path}"
        if not self.signature:
            return f"{what}: it has no X-Twilio-Signature, which a proxy may have dropped"
        ours = urlsplit(self.site)
        plain = f"{PLAIN[ours.scheme]}://{ours.netloc}"
        if self._is_for(plain, token):
            return f"{what}, but for {plain}: in its Console the address must be {ours.scheme}://"
        for host in self.hosts:
            for scheme in (ours.scheme, PLAIN[ours.scheme]):
                if self._is_for(f"{scheme}://{host}", token):
                    return f"{what}, but for {scheme}://{host}: set WEBHOOK_URL=https://{host}"
        return (
            f"{what}, nor for the host that was asked: TWILIO_AUTH_TOKEN must be the"
            " primary token of the account that owns the number"
        )

    def _is_for(self, site: str, token: str) -> bool:
        validator = RequestValidator(token)
        try:
            return bool(validator.validate(site + self.path, self.form, self.signature))
        except ValueError:  # no URL: a stranger's request line may be anything
            return False
