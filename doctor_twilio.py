"""Checks of the Twilio account, its number, and where the number's calls lead."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from json import JSONDecodeError
from urllib.parse import urldefrag

import requests
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from commands import app_command
from doctor_examination import Examination, Fault, reason, too_late


@dataclass(frozen=True)
class Route:
    """Where Twilio sends a number's calls. The names are those of its REST resource."""

    voice_url: str
    voice_method: str
    voice_fallback_url: str
    voice_fallback_method: str
    voice_application_sid: str  # if there is one, the URLs don't count
    trunk_sid: str  # likewise

    def __str__(self) -> str:
        """Describe it for the owner."""
        if self.trunk_sid:
            return f"the SIP trunk {self.trunk_sid}"
        if self.voice_application_sid:
            return f"the TwiML app {self.voice_application_sid}"
        if not self.voice_url:
            return "nothing"
        first = f"{self.voice_method} {self.voice_url}"
        if not self.voice_fallback_url:
            return first
        return f"{first}, and if that fails {self.voice_fallback_method} {self.voice_fallback_url}"

    def leads_to(self, url: str) -> bool:
        """Tell whether calls are posted to a URL; its fragment only tunes Twilio's time-outs."""
        overruled = self.trunk_sid or self.voice_application_sid
        return (
            not overruled and self.voice_method == "POST" and urldefrag(self.voice_url).url == url
        )

    def led_to(self, url: str) -> "Route":
        """Return the route that leads to a URL, and keeps a fallback that the owner chose.

        Else the fallback is the same URL: asked once more, it may be served by another process.
        """
        is_chosen = self.voice_fallback_url not in ("", self.voice_url)
        return Route(
            voice_url=self.voice_url if self.leads_to(url) else url,
            voice_method="POST",
            voice_fallback_url=self.voice_fallback_url if is_chosen else url,
            voice_fallback_method=self.voice_fallback_method if is_chosen else "POST",
            voice_application_sid="",
            trunk_sid="",
        )


def client(examination: Examination) -> Client:
    """Return a client of Twilio's REST API."""
    chosen = examination.settings
    http = TwilioHttpClient(timeout=examination.seconds)
    twilio = Client(chosen.twilio_account_sid, chosen.twilio_auth_token, http_client=http)
    twilio.api.base_url = chosen.twilio_api_url
    return twilio


@contextmanager
def twilio_answers(examination: Examination) -> Iterator[None]:
    """Tell a failure of the REST API in words that say what to do."""
    try:
        yield
    except requests.Timeout as error:
        raise Fault(f"{too_late(examination.seconds)} from TWILIO_API_URL") from error
    except requests.RequestException as error:
        raise Fault(f"TWILIO_API_URL can't be reached: {reason(error)}") from error
    except TwilioRestException as error:
        raise Fault(f"Twilio answers HTTP {error.status}: {error.msg}") from error
    except (TwilioException, JSONDecodeError) as error:
        raise Fault("TWILIO_API_URL doesn't answer as Twilio does") from error


# --- the checks -----------------------------------------------------------------------------------


def account_is_active(examination: Examination) -> str:
    """Let Twilio tell about the account: so its credentials are tried, too."""
    chosen = examination.settings
    sid = chosen.twilio_account_sid
    with twilio_answers(examination):
        try:
            account = client(examination).api.v2010.accounts(sid).fetch()
        except TwilioRestException as error:
            if error.status != requests.codes.unauthorized:
                raise
            advice = "copy TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN from console.twilio.com again"
            raise Fault(f"Twilio refuses the credentials; {advice}") from error
    if account.status != "active":
        raise Fault(f"it is {account.status}; see console.twilio.com for the reason")
    if is_another_token(account.auth_token, chosen.twilio_auth_token):
        raise Fault("TWILIO_AUTH_TOKEN is not the primary one, with which Twilio signs; set that")
    if account.type == "Trial":
        return "active; a trial: callers hear Twilio's notice first, transfers reach few numbers"
    return "active"


def is_another_token(primary: str | None, ours: str) -> bool:
    """Tell a secondary token, which REST takes, too; Twilio may also not show the primary one."""
    is_shown = re.fullmatch("[0-9a-f]{32}", primary or "")
    return bool(is_shown) and primary != ours


def number_is_ours(examination: Examination) -> str:
    """Find the number among those of the account."""
    number = examination.settings.twilio_phone_number
    with twilio_answers(examination):
        owned = client(examination).incoming_phone_numbers.list(phone_number=number, limit=20)
    found = [each for each in owned if each.phone_number == number]
    if not found:
        raise Fault("the account doesn't own it; see Active numbers at console.twilio.com")
    examination.number = found[0]
    if not examination.number.capabilities.get("voice"):
        raise Fault("it can't take calls; get a number with voice")
    return "the account's, with voice"


def calls_are_answered_here(examination: Examination) -> str:
    """See whether Twilio asks our webhook what to do with a call."""
    route, url = present_route(examination), webhook(examination)
    if not route.leads_to(url):
        setup = app_command("--setup")
        raise Fault(f"calls lead to {route}, not to POST {url}; `{setup}` changes it")
    return str(route)


# --- changing it ----------------------------------------------------------------------------------


def webhook(examination: Examination) -> str:
    """Return where Twilio is to ask."""
    return f"{examination.settings.webhook_url}/voice"


def present_route(examination: Examination) -> Route:
    """Return where the number's calls lead."""
    number = examination.number
    return Route(
        voice_url=number.voice_url or "",
        voice_method=number.voice_method or "POST",
        voice_fallback_url=number.voice_fallback_url or "",
        voice_fallback_method=number.voice_fallback_method or "POST",
        voice_application_sid=number.voice_application_sid or "",
        trunk_sid=number.trunk_sid or "",
    )


def wanted_route(examination: Examination) -> Route:
    """Return where they are to lead."""
    return present_route(examination).led_to(webhook(examination))


def answer_calls_here(examination: Examination) -> str:
    """Have the number's calls lead here, and see whether they do."""
    route = wanted_route(examination)
    with twilio_answers(examination):
        examination.number = examination.number.update(**asdict(route))
    return calls_are_answered_here(examination)
