"""What single settings look like: types whose checks say what is wrong and what is right."""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from collections.abc import Collection
from typing import Annotated
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BeforeValidator, ValidationInfo

# --- what people paste ------------------------------------------------------------------------

HEX = "[0-9a-fA-F]"
E164 = r"\+[1-9][0-9]{6,14}"  # a phone number as Twilio writes it
# The first that fits tells what a value is.
KINDS = {
    rf"AC{HEX}{{32}}": "an account SID",
    rf"SK{HEX}{{32}}": "the SID of a Twilio API key",
    rf"[A-Z]{{2}}{HEX}{{32}}": "the SID of something else at Twilio",
    rf"{HEX}{{32}}": "an auth token",
    r"sk-ant-.*": "a key of Anthropic's",
    r"sk-or-.*": "a key of OpenRouter's",
    r"sk-admin-.*": "an admin key, which can't call models",
    r"sk-.*": "an OpenAI API key",
    r"ek_.*": "a short-lived client key",
    r"gsk_.*": "a key of Groq's",
    r"AIza.*": "a key of Google's",
    r"xai-.*": "a key of xAI's",
    r"hf_.*": "a key of Hugging Face's",
    r"pplx-.*": "a key of Perplexity's",
    r"org-.*": "an organization's ID",
    r"proj_.*": "a project's ID",
    r"asst_.*": "an assistant's ID",
    r"wf_.*": "the ID of an Agent Builder workflow",
    r"pmpt_.*": "the ID of a reusable prompt",
    r"agent_.*": "the ID of an agent",
    r"gpt-.*": "a model",
    r"\+?[0-9]{7,}": "a phone number",
    r"[a-z]+://.*": "a URL",
    r".*\.json": "a file",
}
PLACEHOLDER = re.compile(
    r"([a-z]+://|sk-|sk-proj-)?(your[_-].*|<.*>.*|xxx.*)|.*(x{8}|\.\.\.|…)|change_?me|todo",
    re.IGNORECASE,
)


def kind_of(value: str) -> str:
    """Say what a value seems to be, such as "an auth token"; "" if it has no shape we know."""
    for shape, name in KINDS.items():
        if re.fullmatch(shape, value):
            return name
    return ""


def is_placeholder(value: str) -> bool:
    """Tell whether a value only shows where one belongs, as those in .env.example do."""
    return bool(PLACEHOLDER.fullmatch(value))


def nearest(name: str, known: Collection[str], likeness: float) -> str:
    """Return the known name that is most like this one; "" if none is by `likeness` (0 to 1)."""
    if name in known:
        return name
    found = difflib.get_close_matches(name, known, n=1, cutoff=likeness)
    return found[0] if found else ""


# --- words and phrases ------------------------------------------------------------------------


def _phrase(value: str) -> str:
    if re.search("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff\ufffd]", value):
        raise ValueError("Contains unreadable characters; enter it again, as UTF-8")
    if not re.search(r"\w", value):
        raise ValueError("Expected something that can be spoken")
    return value


def _word(value: str) -> str:
    if "#" in value:
        raise ValueError("Remove the # and what follows; a comment needs a line of its own")
    if re.search("[\"'“”‘’„«»]", value):
        raise ValueError("Remove the quotation marks")
    if not re.fullmatch("[!-~]+", value):
        raise ValueError("Expected a single word of plain ASCII characters; copy it again")
    return value


def _expect(value: str, shape: str, wish: str) -> str:
    if re.fullmatch(shape, value):
        return value
    raise ValueError(_wished(wish, kind_of(value)))


def _wished(wish: str, kind: str) -> str:
    return f"Expected {wish}, not {kind}" if kind else f"Expected {wish}"


def _say_language(value: str) -> str:
    # A language, perhaps a script, and a region; two of Twilio's are written otherwise
    if not re.fullmatch("[a-z]{2,3}(-[A-Z][a-z]{3})?-([A-Z]{2}|[0-9]{3})|arb|en-GB-WLS", value):
        raise ValueError("Expected a language and a region as Twilio writes them, such as de-DE")
    return value


def _phone_number(value: str) -> str:
    if re.fullmatch(E164, value):
        return value
    kind = kind_of(value).replace("a phone number", "")  # another way to write one
    raise ValueError(
        _wished("a number such as +15550001111: plus, country code, digits only", kind)
    )


# --- Twilio's and OpenAI's credentials --------------------------------------------------------

OPENAI = "api.openai.com"


def _account_sid(value: str) -> str:
    return _expect(value, rf"AC{HEX}{{32}}", "the account's SID, AC and 32 hexadecimal digits")


def _auth_token(value: str) -> str:
    kind = kind_of(value)
    if kind not in ("", "an auth token"):
        raise ValueError(f"Expected the account's auth token, not {kind}")
    if not re.fullmatch(r"[\w-]+", value):
        raise ValueError("Expected the account's auth token: letters and digits only")
    if re.fullmatch(rf"{HEX}{{8,}}", value) and not kind:
        raise ValueError(f"Expected 32 hexadecimal digits, not {len(value)}; copy it again")
    return value


def _api_key(value: str) -> str:
    if value.lower().startswith("bearer"):
        raise ValueError('Remove "Bearer"; it is added')
    return _word(value)


def _openai_key(value: str, read: ValidationInfo) -> str:
    """Refuse what is no key of OpenAI's, unless OPENAI_BASE_URL leads elsewhere.

    `read.context` holds the values as they were given: the address has its turn later.
    """
    given = read.context or {}
    url = given.get("openai_base_url", f"https://{OPENAI}")
    if not _is_openai(str(url)):
        return value
    kind = kind_of(value)
    if kind not in ("", "an OpenAI API key"):
        raise ValueError(f"Expected an API key of OpenAI's, not {kind}")
    if not re.match(r"sk-\w", value):
        raise ValueError("Expected an API key of OpenAI's, which begins with sk-; copy it again")
    return value


def _is_openai(url: str) -> bool:
    """Tell whether a URL, right or wrong, is OpenAI's own or one of its regions'."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:  # its own check tells
        return False
    return f".{host}".endswith(f".{OPENAI}")


# --- addresses --------------------------------------------------------------------------------

LABEL = r"[a-z0-9]([\w-]*[a-z0-9])?"
DOMAIN = rf"({LABEL}\.)+[a-z]{LABEL}\.?"
LOCAL = r".*\.(local|localhost|localdomain|internal|lan|home|test|invalid)\.?"
ENDPOINT = "/(responses|conversations|threads|assistants|completions|realtime)$"


def _address(value: str) -> SplitResult:
    parts = _split(_word(value.rstrip("/")))
    if parts.username is not None or "?" in value:
        raise ValueError("Expected a URL without user name, password or query")
    return parts


def _split(value: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port beyond 65535, half a bracket
        is_usable = False
    if not is_usable:
        raise ValueError("Expected a URL: https:// and a host")
    return parts


def _host_only(value: str) -> str:
    parts = _address(value)
    if parts.path:
        raise ValueError(f"Expected https:// and a host only; remove {parts.path}")
    return parts.geturl()


def _webhook_url(value: str) -> str:
    if re.fullmatch(r"http://127\.0\.0\.1:[0-9]+", value):
        return value  # a stand-in for Twilio on this machine
    parts = urlsplit(_host_only(value))
    if parts.scheme != "https":
        raise ValueError("Expected https:// and a host; Twilio streams over TLS only")
    if not _is_public(parts.hostname or ""):
        raise ValueError("Expected https:// and a host that is reachable from the internet")
    return parts.geturl()


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:  # a name
        return bool(re.fullmatch(DOMAIN, host) and not re.fullmatch(LOCAL, host))


def _base_url(value: str) -> str:
    parts = _address(value)
    endpoint = re.search(ENDPOINT, parts.path)
    if endpoint:
        raise ValueError(f"Expected a URL without {endpoint[0]}; that is added")
    if _is_openai(parts.geturl()):
        return _openai_url(parts.geturl())
    host = parts.hostname or ""
    if f".{host}".endswith(".openai.com"):
        raise ValueError(f"Expected {OPENAI}, not {host}")
    return parts.geturl()


def _not_in_the_clear(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme == "http" and _is_public(parts.hostname or ""):
        raise ValueError("Expected https://; a key must not be sent in the clear")
    return value


def _openai_url(value: str) -> str:
    if not value.endswith("/v1"):
        raise ValueError("Expected a URL that ends with /v1, such as https://api.openai.com/v1")
    return value


# --- time ---------------------------------------------------------------------------------------


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # it is looked up as a file
        zones = sorted(available_timezones())
        by_place = {zone.split("/")[-1].lower(): zone for zone in zones}
        by_name = {zone.lower(): zone for zone in zones}
        near = nearest(value.lower(), by_name, 0.75) or nearest(value.lower(), by_place, 0.75)
        zone = (by_place | by_name).get(near, "Europe/Berlin")
        raise ValueError(f"Expected a time zone such as {zone}") from None
    return value


# --- numbers ----------------------------------------------------------------------------------


def _number(value: object) -> float:
    if not re.fullmatch(r"(0|[1-9][0-9]{0,6})(\.[0-9]{1,6})?", str(value)):
        raise ValueError("Expected a plain number, such as 15 or 1.5")
    return float(str(value)) or math.inf


def _count(value: object) -> float:
    if not re.fullmatch("0|[1-9][0-9]{0,6}", str(value)):
        raise ValueError("Expected a whole number, such as 100")
    return int(str(value)) or math.inf


def _workers(value: object) -> int:
    if not re.fullmatch("[1-9][0-9]?|100", str(value)):  # a reload has twice as many for a moment
        raise ValueError("Expected a whole number from 1 to 100; run one for each core")
    return int(str(value))


def _port(value: object) -> int:
    if not re.fullmatch("[1-9][0-9]{0,4}", str(value)) or int(str(value)) > 65535:
        raise ValueError("Expected a whole number from 1 to 65535")
    return int(str(value))


def _flag(value: object) -> int:
    if str(value) not in ("0", "1"):
        raise ValueError("Expected 1 or 0")
    return int(str(value))


def _log_format(value: str) -> str:
    if value not in ("text", "json"):
        raise ValueError("Expected text or json")
    return value


def _bearer_token(value: str) -> str:
    if not re.fullmatch(r"[\w.~+/-]{16,}=*", value, re.ASCII):
        raise ValueError("Expected a secret of 16 letters and digits or more, made up at random")
    return value


# --- the types --------------------------------------------------------------------------------

Phrase = Annotated[str, AfterValidator(_phrase)]
Word = Annotated[str, AfterValidator(_word)]
SayLanguage = Annotated[Word, AfterValidator(_say_language)]
PhoneNumber = Annotated[str, AfterValidator(_phone_number)]
AccountSid = Annotated[Word, AfterValidator(_account_sid)]
AuthToken = Annotated[Word, AfterValidator(_auth_token)]
ApiKey = Annotated[str, AfterValidator(_api_key)]
OpenAiKey = Annotated[ApiKey, AfterValidator(_openai_key)]
WebhookUrl = Annotated[str, AfterValidator(_webhook_url)]
HostUrl = Annotated[str, AfterValidator(_host_only), AfterValidator(_not_in_the_clear)]
BaseUrl = Annotated[str, AfterValidator(_base_url), AfterValidator(_not_in_the_clear)]
OpenAiUrl = Annotated[BaseUrl, AfterValidator(_openai_url)]
TimeZone = Annotated[Word, AfterValidator(_time_zone)]
Seconds = Annotated[float, BeforeValidator(_number)]  # 0 means for ever
Count = Annotated[float, BeforeValidator(_count)]  # 0 means without a limit
Workers = Annotated[int, BeforeValidator(_workers)]
Flag = Annotated[int, BeforeValidator(_flag)]
LogFormat = Annotated[str, AfterValidator(_log_format)]
BearerToken = Annotated[str, AfterValidator(_bearer_token)]
Port = Annotated[int, BeforeValidator(_port)]
