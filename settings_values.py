"""What single settings look like: types whose checks say what is wrong and what is right."""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from collections.abc import Iterable
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator

# --- what people paste ------------------------------------------------------------------------

HEX = "[0-9a-fA-F]"
# The first that fits tells what a value is; most of them are secret.
KINDS = {
    rf"AC{HEX}{{32}}": "an account SID",
    rf"SK{HEX}{{32}}": "the SID of a Twilio API key",
    rf"[A-Z]{{2}}{HEX}{{32}}": "the SID of something else at Twilio",
    rf"{HEX}{{32}}": "an auth token",
    r"sk-ant-.*": "a key of Anthropic's",
    r"sk-or-.*": "a key of OpenRouter's",
    r"sk-admin-.*": "an admin key, which can't call models",
    r"sk-.*": "an OpenAI API key",
    r"ek_.*": "a client's short-lived key",
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
    r"\+?[0-9]{7,}": "a phone number",
    r"[a-z]+://.*": "an address",
    r".*\.json": "a file",
}
PLACEHOLDER = re.compile(
    r"your[_-].*|[a-z]+://your[_-].*|.*x{8}|<.*>|.*(\.\.\.|…)|change_?me|todo|[a-z]+://<.*",
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


def nearest(name: str, known: Iterable[str], likeness: float = 0.8) -> str:
    """Return the known name that this one is most like; "" if it is like none."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)
    return found[0] if found else ""


# --- words ------------------------------------------------------------------------------------


def _word(value: str) -> str:
    if "#" in value:
        raise ValueError("Leave out the # and what follows: a comment needs a line of its own")
    if re.search("[\"'“”‘’„«»]", value):
        raise ValueError("Leave out the quotation marks")
    if not re.fullmatch("[!-~]+", value):
        raise ValueError("Expected one word of plain letters, digits and signs: copy it again")
    return value


def _expect(value: str, shape: str, wish: str) -> str:
    if re.fullmatch(shape, value):
        return value
    kind = kind_of(value)
    raise ValueError(f"Expected {wish}, not {kind}" if kind else f"Expected {wish}")


def _account_sid(value: str) -> str:
    return _expect(value, rf"AC{HEX}{{32}}", "the account's SID, AC and 32 hexadecimal digits")


def _auth_token(value: str) -> str:
    kind = kind_of(value)
    if kind not in ("", "an auth token"):
        raise ValueError(f"Expected the account's auth token, not {kind}")
    if re.fullmatch(rf"{HEX}{{8,}}", value) and not kind:
        raise ValueError(f"Expected 32 hexadecimal digits, not {len(value)}: copy it again")
    return value


def _phone_number(value: str) -> str:
    wish = "a number as +15550001111: a plus, the country code, and digits only"
    return _expect(value, r"\+[1-9][0-9]{6,14}", wish)


def _api_key(value: str) -> str:
    if value.lower().startswith("bearer"):
        raise ValueError('Leave out "Bearer": it is added')
    return _word(value)


def _openai_key(value: str) -> str:
    kind = kind_of(_api_key(value))
    if kind not in ("", "an OpenAI API key"):
        raise ValueError(f"Expected an API key of OpenAI's, not {kind}")
    return value


# --- addresses --------------------------------------------------------------------------------


def _address(value: str) -> SplitResult:
    _word(value)
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port beyond 65535, half a bracket
        usable = False
    if not usable:
        raise ValueError("Expected an address that begins with https:// and a host")
    if parts.username is not None or "?" in value:
        raise ValueError("Expected an address without user, password and ?")
    return parts


def _webhook_url(value: str) -> str:
    if re.fullmatch(r"http://127\.0\.0\.1:[0-9]+", value):
        return value  # a stand-in for Twilio on this machine
    parts = _address(value)
    if parts.scheme != "https":
        raise ValueError("Expected https://: Twilio opens its streams over TLS only")
    if parts.path not in ("", "/"):
        raise ValueError(f"Expected https:// and a host only: leave out {parts.path}")
    if not _is_public(parts.hostname or ""):
        raise ValueError("Expected https:// and a host that Twilio can reach from the internet")
    return f"https://{parts.netloc}"


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        pass  # a name
    private = re.search(r"\.(local|localhost|localdomain|internal|lan|home|test|invalid)$", host)
    return bool(re.fullmatch(r"([\w-]+\.)+[a-z][\w-]+\.?", host)) and not private


def _openai_base_url(value: str) -> str:
    parts = _address(value.rstrip("/"))
    if not parts.path.endswith("/v1"):
        raise ValueError("Expected an address that ends with /v1, as https://api.openai.com/v1")
    return parts.geturl()


def _agent_base_url(value: str) -> str:
    parts = _address(value.rstrip("/"))
    endpoint = re.search("/(responses|conversations|threads|assistants|chat/completions)$", value)
    if endpoint:
        raise ValueError(f"Expected the address without {endpoint[0]}")
    return parts.geturl()


def _twilio_api_url(value: str) -> str:
    parts = _address(value)
    if parts.path not in ("", "/"):
        raise ValueError(f"Expected https:// and a host only: leave out {parts.path}")
    return f"{parts.scheme}://{parts.netloc}"


# --- numbers ----------------------------------------------------------------------------------


def _number(value: object) -> float:
    if not re.fullmatch(r"(0|[1-9][0-9]{0,6})(\.[0-9]{1,6})?", str(value)):
        raise ValueError("Expected a plain number, such as 15 or 1.5")
    return float(str(value)) or math.inf


def _count(value: object) -> float:
    if not re.fullmatch("0|[1-9][0-9]{0,6}", str(value)):
        raise ValueError("Expected a whole number, such as 100")
    return int(str(value)) or math.inf


def _port(value: object) -> int:
    if not re.fullmatch("[1-9][0-9]{0,4}", str(value)) or int(str(value)) > 65535:
        raise ValueError("Expected a whole number from 1 to 65535")
    return int(str(value))


Word = Annotated[str, AfterValidator(_word)]
AccountSid = Annotated[Word, AfterValidator(_account_sid)]
AuthToken = Annotated[Word, AfterValidator(_auth_token)]
PhoneNumber = Annotated[str, AfterValidator(_phone_number)]
ApiKey = Annotated[str, AfterValidator(_api_key)]
OpenAiKey = Annotated[str, AfterValidator(_openai_key)]
WebhookUrl = Annotated[str, AfterValidator(_webhook_url)]
OpenAiUrl = Annotated[str, AfterValidator(_openai_base_url)]
AgentUrl = Annotated[str, AfterValidator(_agent_base_url)]
TwilioUrl = Annotated[str, AfterValidator(_twilio_api_url)]
Seconds = Annotated[float, BeforeValidator(_number)]  # 0 means for ever
Count = Annotated[float, BeforeValidator(_count)]  # 0 means without a limit
Port = Annotated[int, BeforeValidator(_port)]
